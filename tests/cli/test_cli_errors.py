"""Wrong input: each one clear line and one hint, exit 1, no traceback, nothing half-written."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dfmobile import errors
from dfmobile.cli.common import say
from dfmobile.cli.main import app
from dfmobile.cli.quickstart import HEIGHT, TRAINED_SPACE, WIDTH

MINI = "df,stem=8s1,classes=10,channels=1/8/8/8"


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(result: Result, *words: str) -> None:
    """Check that a command ended with exit 1, one error line and at most one hint line, holding these words."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if not line.startswith("note:")]
    assert 1 <= len(lines) <= 2, result.stderr
    assert lines[0].startswith("error: ")
    assert all(line.startswith("hint: ") for line in lines[1:])
    for word in words:
        assert word in result.stderr, (word, result.stderr)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real table of one small network, two passes a block."""
    path = tmp_path_factory.mktemp("table") / "t.sqlite"
    result = run("lut", "build", "--network", MINI, "--input", f"{WIDTH}x{HEIGHT}", "--passes", "2", "-o", path)
    assert result.exit_code == 0, result.output
    return path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("zoo", "show", "DF9"), ("unknown network 'DF9'", "hint:")),
        (("zoo", "show", "df/64/64"), ("malformed encoding", "3 stages")),
        (("zoo", "show", "df/64,32/64/64"), ("narrow from 64 to 32",)),
        (("zoo", "show", "df/64/64/64", "--input", "640x360"), ("640x360", "multiple of 32", "640x352")),
        (("zoo", "show", "DF1", "--input", "640"), ("not an input size", "--input 640x384")),
        (("zoo", "show", "nothing.json"), ("nothing.json", "no such file")),
        (("space", "show", "dg"), ("unknown space 'dg'", "df")),
        (("space", "show", "df", "--max-depth", "0"), ("depth 0",)),
        (("profile", "--device", "usb:1"), ("usb:1",)),
        (("profile", "--device", "adb:0123"), ("adb",)),
        (("bench", "nothing.tflite"), ("nothing.tflite", "no such file")),
        (("bench", "nothing.tflite", "--backend", "nothing"), ("nothing", "litert")),
        (("lut", "build", "-o", "t.sqlite"), ("--space or --network",)),
        (("lut", "show", "nothing.sqlite"), ("nothing.sqlite", "no such file")),
        (("predict", "DF1", "--lut", "nothing.sqlite"), ("nothing.sqlite", "no such file")),
        (("search", "why", "DF1", "--run", "nothing"), ("nothing",)),
        (("report", "nothing", "-o", "r.html"), ("nothing",)),
    ],
)
def test_wrong_input_is_one_clear_line(
    arguments: tuple[str, ...], words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(run(*arguments), *words)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments", [("export", "DF1"), ("lut", "build"), ("search",), ("nonsense",), ("zoo", "show")]
)
def test_wrong_usage_exits_with_2(arguments: tuple[str, ...]) -> None:
    assert run(*arguments).exit_code == 2


def test_a_missing_block_names_it_and_the_command_that_adds_it(table: Path) -> None:
    result = run("predict", "df,stem=8s1,classes=10,channels=1/8/8/8,16", "--lut", table)
    refused(
        result, "lacks 2 blocks", "basic 8x4x4 -> 16x4x4", f"dfmobile lut build --space {TRAINED_SPACE}", str(table)
    )


def test_a_network_of_no_space_gets_a_command_of_its_own(table: Path) -> None:
    refused(
        run("predict", "ResNet-18", "--lut", table, "--input", "64x64"),
        "--network resnet/64x2/128x2/256x2/512x2",
    )


def test_an_input_that_was_not_built_is_a_missing_block(table: Path) -> None:
    refused(run("predict", MINI, "--lut", table, "--input", "40x40"), "--input 40x40")


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--evaluator", "nothing"), "nothing"),
        (("--evaluator", "analytic", "--option", "unknown=1"), "unknown"),
        (("--evaluator", "analytic", "--mode", "annealing"), "not available"),
        (("--evaluator", "analytic", "--margin", "1"), "margin is one of --mode certified"),
        (("--evaluator", "analytic", "--device", "ssh://nowhere"), "not a device"),
        (("--evaluator", "analytic"), "lacks"),
    ],
)
def test_a_refused_search_leaves_no_folder(table: Path, tmp_path: Path, options: tuple[str, ...], word: str) -> None:
    run_folder = tmp_path / "run"
    refused(run("search", "--space", TRAINED_SPACE, "--lut", table, *options, "-o", run_folder), word)
    assert not run_folder.exists()


def damage_truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5000])


def damage_schema(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA user_version = 999")
    connection.close()


def damage_text(path: Path) -> None:
    path.write_text("this is no table")


@pytest.mark.parametrize(
    ("damage", "word"), [(damage_truncate, "damaged"), (damage_schema, "999"), (damage_text, "not a latency table")]
)
@pytest.mark.parametrize("command", ["show", "predict", "build"])
def test_damaged_tables_are_refused(
    table: Path, tmp_path: Path, damage: Callable[[Path], None], word: str, command: str
) -> None:
    copy = tmp_path / "copy.sqlite"
    copy.write_bytes(table.read_bytes())
    damage(copy)
    before = copy.read_bytes()
    arguments = {
        "show": ("lut", "show", copy),
        "predict": ("predict", MINI, "--lut", copy),
        "build": ("lut", "build", "--network", MINI, "--input", "32x32", "-o", copy),
    }[command]
    refused(run(*arguments), str(copy), word)
    assert copy.read_bytes() == before


@pytest.mark.parametrize("arguments", [("profile", "-o"), ("export", MINI, "--format", "tflite", "-o")])
def test_an_output_below_a_file_is_one_clear_line(arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    refused(run(*arguments, tmp_path / "file" / "out"), "cannot write", "file")


def test_a_missing_extra_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def missing(module: str, extra: str, purpose: str) -> None:
        raise errors.MissingExtraError(f"{purpose} needs {module}", hint=f"python -m pip install 'dfmobile[{extra}]'")

    monkeypatch.setattr(errors, "import_extra", missing)
    result = run("quickstart", "--train", "-o", tmp_path / "run")
    refused(result, "torch", "pip install 'dfmobile[train]'")
    assert not (tmp_path / "run").exists()


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    from dfmobile.architecture import Architecture, build
    from dfmobile.export.weights import save_weights
    from dfmobile.graph import initialise

    other = build(Architecture.parse(MINI.replace("/8/8/8", "/8/8/16")), 32, 32)
    save_weights(tmp_path / "w.npz", initialise(other.graph), {})
    output = tmp_path / "m.tflite"
    result = run("export", MINI, "--format", "tflite", "--weights", tmp_path / "w.npz", "-o", output)
    refused(result, "does not fit", "stage5.block1")
    assert not output.exists()


def test_json_is_one_document_on_stdout(table: Path) -> None:
    for arguments in (("predict", MINI, "--lut", table), ("lut", "show", table), ("zoo", "list"), ("profile",)):
        result = run(*arguments, "--json")
        assert result.exit_code == 0
        json.loads(result.stdout)


def test_what_is_said_has_no_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    """It may be a device's."""
    say("a\x1b[2Jb\x9b1m\tc\nd\u202f%")
    assert capsys.readouterr().err == "a [2Jb 1m\tc\nd\u202f%\n"
