"""``lut export | import | merge | diff`` and predictions from recorded tables, through the command line."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dfmobile.cli.main import app
from dfmobile.latency.content import read_content, write_content

MINI = "df,stem=8s1,classes=10,channels=1/8/8/8"
LOG = """network,resolution_HxW,output,index,fused_layer,base_layer,fused_ops,in_shape_CHW,out_shape_CHW,kernel,stride,\
groups,macs,ms
N,32x32,y,0,stem,stem,conv+relu,1x32x32,8x32x32,3,1,1,73728,0.25
"""


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def refused(result: Result, *words: str) -> None:
    """Check that a command ended with exit 1 and one error line that holds these words."""
    assert result.exit_code == 1, result.output
    lines = result.stderr.splitlines()
    assert lines[0].startswith("error: ")
    assert len(lines) <= 2, result.stderr
    for word in words:
        assert word in result.stderr, (word, result.stderr)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A real table of one small network."""
    path = tmp_path_factory.mktemp("table") / "t.sqlite"
    result = run("lut", "build", "--network", MINI, "--input", "32x32", "--passes", "6", "-o", path)
    assert result.exit_code == 0, result.output
    return path


def test_a_table_goes_out_and_comes_back(table: Path, tmp_path: Path) -> None:
    assert run("lut", "export", table, "-o", tmp_path / "t.json.gz").exit_code == 0
    result = run("lut", "import", tmp_path / "t.json.gz", "-o", tmp_path / "again.sqlite")
    assert result.exit_code == 0, result.output
    shown = [run("lut", "show", path, "--json").stdout for path in (table, tmp_path / "again.sqlite")]
    assert shown[0] == shown[1]
    assert run("lut", "export", table, "-o", tmp_path / "t.csv").exit_code == 0
    refused(run("lut", "export", table, "-o", tmp_path / "t.csv"), "exists already")
    refused(run("lut", "import", tmp_path / "t.csv", "-o", tmp_path / "x.sqlite"), "t.csv", "not a JSON document")
    refused(run("lut", "import", tmp_path / "t.json.gz", "-o", tmp_path / "x.sqlite", "--network", "N"), "--recorded")


def test_tables_merge(table: Path, tmp_path: Path) -> None:
    result = run("lut", "merge", table, table, "-o", tmp_path / "m.sqlite", "--json")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["tables"], report["renumbered"], report["identical"]) == (2, 0, report["passes"])
    refused(run("lut", "merge", table, "-o", tmp_path / "n.sqlite"), "two tables")


def test_the_gate_closes_on_a_slower_runtime_only(table: Path, tmp_path: Path) -> None:
    assert run("lut", "diff", table, table, "--gate").exit_code == 0
    content = read_content(table)
    for block in content.blocks:
        for _, document in block.passes.values():
            document["hot_ms"] = [1.5 * value for value in document["hot_ms"]]
    header = content.header.model_copy(update={"runtime_version": "0.0.1"})
    write_content(tmp_path / "old.sqlite", replace(content, header=header))
    refused(run("lut", "diff", table, tmp_path / "old.sqlite", "--gate"), "everything is 50.0 % slower")
    free = run("lut", "diff", table, tmp_path / "old.sqlite")
    assert free.exit_code == 0
    assert "regression: everything is 50.0 % slower" in free.stdout
    assert run("lut", "diff", table, tmp_path / "old.sqlite", "--gate", "--threshold", "0.6").exit_code == 0
    result = run("lut", "diff", table, tmp_path / "old.sqlite", "--gate", "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert {"common", "blocks", "spaces", "regressions", "differences"} <= document.keys()
    assert document["common"] == pytest.approx(1.5)
    assert result.stderr.startswith("error: regression")


def test_recorded_tables_say_that_they_are(table: Path, tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(LOG)
    recorded = tmp_path / "r.sqlite"
    refused(run("lut", "import", "--recorded", tmp_path / "log.csv", "-o", recorded), "--device and --runtime")
    options = ("--device", "Board", "--runtime", "Engine 1.2")
    result = run("lut", "import", "--recorded", tmp_path / "log.csv", *options, "-o", recorded)
    assert "not measured by dfmobile" in result.stdout
    assert "recorded by others, not measured" in run("lut", "show", recorded).stdout
    refused(run("predict", MINI, "--lut", recorded), "covers 1 of 12 layers", "--allow-partial")
    partial = run("predict", MINI, "--lut", recorded, "--allow-partial")
    assert "PARTIAL, 0.2500 ms (1 of 12 layers" in partial.stdout
    assert "recorded, interval unknown" in partial.stdout
    assert partial.stdout.count("not covered: ") == 11
    document = json.loads(run("predict", MINI, "--lut", recorded, "--allow-partial", "--json").stdout)
    assert (document["latency_ms"], document["covered_ms"], document["recorded"]) == (None, 0.25, True)
    assert (document["coverage"]["layers"], document["coverage"]["of_layers"]) == (1, 12)
    refused(run("predict", MINI, "--lut", table, "--allow-partial"), "recorded tables")
    refused(run("lut", "diff", table, recorded), "never mix")
    refused(run("lut", "merge", table, recorded, "-o", tmp_path / "m.sqlite"), "granularity")
