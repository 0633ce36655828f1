"""A space from a YAML file goes all the way: shown, measured, predicted, searched by stage, explained, reported."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dfmobile.cli.main import app

SPACE = """\
schema_version: 1
name: tiny
family: df
widths: [4, 8]
max_depth: 2
default_input: {width: 16, height: 16}
stem:
  - {width: 4, stride: 1}
classes: 3
channels: 1
"""


def document(*arguments: str | Path) -> Any:
    result = CliRunner().invoke(app, [*(str(argument) for argument in arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_space_file_goes_all_the_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dfmobile.search import campaign, latencies

    # Small as it is, search it by stage.
    monkeypatch.setattr(latencies, "MAX_ENUMERATED", 10)
    monkeypatch.setattr(campaign, "MAX_ENUMERATED", 10)
    space, table, run = tmp_path / "tiny.yaml", tmp_path / "t.sqlite", tmp_path / "run"
    space.write_text(SPACE)
    shown = document("space", "show", space)
    assert shown["name"].startswith("tiny@")
    assert shown["count"] == sum((a + b + c + 1) for a in (1, 2) for b in (1, 2) for c in (1, 2))
    document("lut", "build", "--space", space, "--passes", "1", "-o", table)
    assert document("lut", "show", table)["space"] in (shown["name"], [shown["name"]])
    found = document(
        "search",
        "--space",
        space,
        "--lut",
        table,
        "--evaluator",
        "analytic",
        "--rule",
        "sum",
        "--budget",
        "2",
        "-o",
        run,
    )
    assert found["candidates"] == shown["count"]
    assert (run / "predicted_ms.npz").is_file()
    space.unlink()
    assert document("search", "why", "df,stem=4s1,classes=3,channels=1/4/4/4", "--run", run)["status"] in (
        "alive",
        "evaluated",
        "ruled out",
    )
    result = CliRunner().invoke(app, ["report", str(run), "-o", str(tmp_path / "report.html")])
    assert result.exit_code == 0, result.output


def test_a_bad_space_file_is_two_lines(tmp_path: Path) -> None:
    space = tmp_path / "bad.yaml"
    space.write_text(SPACE.replace("[4, 8]", "[8, 4]"))
    result = CliRunner().invoke(app, ["space", "show", str(space)])
    assert result.exit_code == 1
    assert "bad.yaml: " in result.stderr
    assert "do not ascend" in result.stderr
    assert "hint: " in result.stderr
