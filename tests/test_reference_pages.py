"""The reference pages say what the code does: every figure and example on them is checked here."""

from __future__ import annotations

import abc
import inspect
import json
import re
from pathlib import Path

import numpy as np
import pytest

from dfmobile import registry
from dfmobile.architecture import Architecture, build, zoo
from dfmobile.architecture.spaces import open_space
from dfmobile.graph import ops

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
    assert list(facts) == ["df", "df-bottleneck", "df-mini", "df-seg", "shuffle", "shuffle-seg"]
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


@pytest.mark.parametrize("name", ["encoding", "zoo", "spaces", "op-graph"])
def test_links_between_pages_lead_somewhere(name: str) -> None:
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page(f"reference/{name}.md")):
        assert (DOCS / "reference" / target).resolve().is_file(), target
