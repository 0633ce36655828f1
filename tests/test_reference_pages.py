"""The reference pages say what the code does: every figure and example on them is checked here."""

from __future__ import annotations

import abc
import dataclasses
import inspect
import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command

from dfmobile import registry
from dfmobile.architecture import Architecture, build, zoo
from dfmobile.architecture.spaces import open_space
from dfmobile.cli.main import app
from dfmobile.devices.conditions import Conditions
from dfmobile.devices.transport import adb_states
from dfmobile.graph import ops
from dfmobile.latency.benchmark_model_options import OPTIONS, parse_options

DOCS = Path(__file__).resolve().parents[1] / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def rows_of(text: str, columns: int) -> list[list[str]]:
    """Return the cells of all table rows with that many columns."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:1] == "|"]
    return [row for row in rows if len(row) == columns]


def test_zoo_page_lists_every_network() -> None:
    found = [row for row in rows_of(page("reference/zoo.md"), 6) if row[-1].startswith("`")]
    expected = []
    for name in zoo.names():
        entry = zoo.get(name)
        cost = build(entry.architecture, entry.width, entry.height).cost
        numbers = [f"{number:,}" for number in (cost.params, cost.params_deployed, cost.macs)]
        expected.append([name, f"{entry.width}x{entry.height}", *numbers, f"`{entry.architecture.text}`"])
    assert found == expected


def test_zoo_page_lists_every_published_number_with_its_setting() -> None:
    found = [row for row in rows_of(page("reference/zoo.md"), 6) if row[-1] in ("1", "50")]
    expected = [
        [
            name,
            item.metric,
            f"{item.value} {'(unit not stated)' if item.unit == 'not stated' else item.unit}",
            item.platform or "-",
            item.input,
            str(item.batch),
        ]
        for name in zoo.names()
        for item in zoo.get(name).published
    ]
    assert found == expected


def test_encoding_page_examples_are_canonical() -> None:
    text = page("reference/encoding.md")
    examples = [row[3] for row in rows_of(text, 4) if "`" in row[3] and "/" in row[3]]
    assert len(examples) == 5
    for example in examples:
        encoding = example.split("`")[1]
        architecture = Architecture.parse(encoding)
        assert architecture.text == encoding
        if named := re.search(r"\(([\w-]+)\)", example):
            assert architecture == zoo.get(named[1]).architecture
    document = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    assert document is not None
    assert json.loads(document[1]) == zoo.get("PL1A-Seg").architecture.to_json()


def test_spaces_page_counts() -> None:
    text = page("reference/spaces.md")
    counts = {int(row[0]): row[1:] for row in rows_of(text, 3) if row[0].isdigit()}
    assert len(counts) == 8
    for depth, (count, lists) in counts.items():
        space = open_space("df", depth)
        assert [f"{space.count():,}", f"{len(space.stage_order(0)):,}"] == [count, lists]
    facts = {row[0].strip("`"): row[2:] for row in rows_of(text, 7) if row[0].startswith("`")}
    decoders = {row[0].strip("`"): row[1:] for row in rows_of(text, 3) if row[0].startswith("`")}
    assert list(facts) == ["df", "df-bottleneck", "df-cifar", "df-mini", "df-seg", "shuffle", "shuffle-seg"]
    for name, found in facts.items():
        space = open_space(name)
        assert found == [
            ", ".join(str(width) for width in space.widths),
            f"1 to {space.max_depth}",
            "x".join(str(extent) for extent in space.default_input),
            f"{space.count():,}",
            str(len(space.blocks(*space.default_input))),
        ]
        chosen = [space.options[column] for column in ("controller3", "output_stride") if space.options]
        assert decoders.get(name, []) == [", ".join(str(value) for value in values) for values in chosen]


def test_spaces_page_example_is_the_file_and_a_space() -> None:
    text, path = page("reference/spaces.md"), DOCS / "reference" / "my-space.yaml"
    example = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert example is not None
    assert path.read_text().partition("\n")[2] == example[1]
    space = open_space(str(path))
    assert space.name.startswith("my-phone-seg@")
    assert space.count() > 0
    assert space.blocks(*space.default_input)


def test_spaces_page_program() -> None:
    program = re.search(r"```python\n(.*?)```", page("reference/spaces.md"), re.DOTALL)
    assert program is not None
    names: dict[str, object] = {}
    exec(program[1], names)  # noqa: S102  (our own page)
    space = open_space("df", 2)
    rows = names["rows"]
    assert isinstance(rows, np.ndarray)
    assert space.architecture(rows[0]).text == "df/64/64/64"


def test_op_graph_page_lists_every_op_and_a_real_key() -> None:
    text = page("reference/op-graph.md")
    table = " ".join(row[0] for row in rows_of(text, 4))
    kinds = {
        op.kind
        for op in vars(ops).values()
        if isinstance(op, abc.ABCMeta) and issubclass(op, ops.Op) and hasattr(op, "kind") and not inspect.isabstract(op)
    }
    assert kinds == set(re.findall(r"`(\w+)`", table))
    block = build(zoo.get("DF1").architecture, 224, 224).blocks[1]
    assert f"```\n{block.key}\n```" in text


def test_plugins_page_names_every_plug_point() -> None:
    text = page("how-to/plugins.md")
    for group in registry.GROUPS:
        assert f"`{group}`" in text, group
    for module in re.findall(r"`(dfmobile\.testing\.\w+)`", text):
        assert (DOCS.parent / f"{module.replace('.', '/')}.py").is_file(), module


def commands(command: Any = None, name: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Yield every command of the command line that does something, with its name."""
    command = command or get_command(app)
    children = getattr(command, "commands", {})
    if name and (not children or command.invoke_without_command):
        yield name, command
    for child, entry in children.items():
        yield from commands(entry, (*name, child))


def named_in(words: list[str]) -> tuple[Any, list[str]]:
    """Return the command that a line of words calls, and its arguments."""
    known = dict(commands())
    for length in (2, 1):
        if tuple(words[:length]) in known:
            return known[tuple(words[:length])], words[length:]
    raise AssertionError(f"no command: {words}")


def command_lines(text: str) -> list[list[str]]:
    """Return the words after ``dfmobile`` of every call in a page's shell blocks."""
    blocks = "\n".join(re.findall(r"^ *```\w*\n(.*?)^ *```", text, re.DOTALL | re.MULTILINE)).replace("\\\n", " ")
    return [shlex.split(line, comments=True)[1:] for line in blocks.splitlines() if line.startswith("dfmobile ")]


@pytest.mark.parametrize(
    "name", ["tutorial", "how-to/phone", "how-to/compare-tables", "how-to/recorded-tables", "how-to/plugins"]
)
def test_command_lines_on_pages_are_understood(name: str) -> None:
    lines = command_lines(page(f"{name}.md"))
    assert lines
    for words in lines:
        command, arguments = named_in(words)
        parameters = command.make_context("dfmobile", arguments).params
        pairs = dict(pair.split("=", 1) for pair in parameters.get("backend_option") or ())
        if pairs:
            parse_options(pairs)


def test_cli_page_has_every_command_and_no_option_that_is_not_there() -> None:
    rows = [row[0] for row in rows_of(page("reference/cli.md").replace("\\|", "/"), 2) if row[0].startswith("`")]
    calls = [call.removeprefix("dfmobile ") for row in rows for call in re.findall(r"`([^`]+)`", row)]
    for name, _ in commands():
        assert any(re.match(rf"{' '.join(name)}( |$)", call) for call in calls), name
    for call in calls:
        command, _ = named_in(call.split())
        known = {option for parameter in command.params for option in parameter.opts}
        assert set(re.findall(r"--[a-z-]+|(?<= )-[a-z](?= )", call)) <= known, call


def test_phone_pages_have_every_state_and_option() -> None:
    states = {"ready", "busy", "error", *adb_states._HINTS}
    for name in ("how-to/phone.md", "reference/devices.md"):
        found = {state for row in rows_of(page(name), 2) for state in re.findall(r"`([a-z ]+)`", row[0])}
        assert states <= found, (name, states - found)
    options = {row[0].strip("`").partition("=")[0] for row in rows_of(page("how-to/phone.md").replace("\\|", "/"), 2)}
    assert set(OPTIONS) <= options


def test_profiles_page_has_every_condition() -> None:
    names = {
        name for row in rows_of(page("reference/device-profiles.md"), 3) for name in re.findall(r"`(\w+)`", row[0])
    }
    assert {field.name for field in dataclasses.fields(Conditions)} <= names


@pytest.mark.parametrize("path", sorted(DOCS.rglob("*.md")), ids=lambda path: str(path.relative_to(DOCS)))
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]*))?\)", text):
        linked = (path.parent / target).resolve() if target else path
        assert linked.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", linked.read_text(encoding="utf-8"), re.MULTILINE)
            ids = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
            assert anchor in ids, f"{target}#{anchor}"
