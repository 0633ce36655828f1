"""The commands' documents hold what the contract promises, and their numbers are right."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from dfmobile.cli.main import app

MINI = "df,stem=8s1,classes=10,channels=1/8/8/8"


def document(*arguments: str | Path) -> Any:
    result = CliRunner().invoke(app, [*(str(argument) for argument in arguments), "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("DF1", 8_533_128, 746_729_472),
        ("DF2", 17_987_208, 1_774_333_952),
        ("DF2A", 19_151_240, 1_916_141_568),
        ("DF1-Seg", 13_107_243, 41_717_956_608),
        ("DF2-Seg2", 24_115_147, 95_428_378_624),
    ],
)
def test_zoo_show_counts_params_and_macs(name: str, params: int, macs: int) -> None:
    found = document("zoo", "show", name)
    assert (found["params"], found["macs"]) == (params, macs)
    assert sum(block["macs"] for block in found["blocks"]) == macs
    assert {"name", "encoding", "input", "output", "params_deployed", "published"} <= found.keys()


def test_zoo_show_reads_what_it_wrote(tmp_path: Path) -> None:
    first = document("zoo", "show", "PL1A-Seg")
    (tmp_path / "net.json").write_text(json.dumps(first))
    again = document("zoo", "show", tmp_path / "net.json")
    assert again["encoding"] == first["encoding"]
    assert (first["params_deployed"], first["macs"]) == (362_417, 265_837_056)


def test_space_show_counts_exactly() -> None:
    found = document("space", "show", "df", "--max-depth", "2")
    assert (found["count"], found["keys"], found["max_depth"]) == (833, 86, 2)
    assert found["widths"] == [64, 128, 256, 512, 1024]


def test_space_show_says_what_decoders_choose_from() -> None:
    found = document("space", "show", "shuffle-seg")
    assert found["count"] == 2_293_760
    assert found["options"]["controller4"] == [24, 48, 96, 192]
    assert found["options"]["output_stride"] == [4, 8]


def test_a_table_predicts_benches_and_shows(tmp_path: Path) -> None:
    table = tmp_path / "t.sqlite"
    built = document("lut", "build", "--network", MINI, "--input", "32x32", "--passes", "2", "-o", table)
    assert built["coverage"]["fraction"] == 1.0
    shown = document("lut", "show", table)
    assert {"device", "backend", "precision", "threads", "space", "input", "coverage", "entries"} <= shown.keys()
    assert all({"key", "kind", "hot_ms", "cold_ms", "half_width", "n"} <= entry.keys() for entry in shown["entries"])
    predicted = document("predict", MINI, "--lut", table)
    low, high = predicted["interval_ms"]
    assert low <= predicted["latency_ms"] <= high
    assert predicted["latency_ms"] == pytest.approx(sum(block["latency_ms"] for block in predicted["blocks"]))

    model = tmp_path / "m.tflite"
    exported = document("export", MINI, "--format", "tflite", "-o", model)
    assert exported["bytes"] == model.stat().st_size
    assert exported["relative_difference"] <= 1e-4
    benched = document("bench", model, "--passes", "2")
    assert {"median_ms", "p5_ms", "p95_ms", "n", "samples_ms", "init_ms", "peak_memory_bytes"} <= benched.keys()
    assert {"backend", "device", "provenance"} <= benched.keys()
    assert len(benched["samples_ms"]) == benched["n"]
    assert benched["p5_ms"] <= benched["median_ms"] <= benched["p95_ms"]


def test_search_continues_explains_and_reports(tmp_path: Path) -> None:
    table, run = tmp_path / "t.sqlite", tmp_path / "run"
    document("lut", "build", "--space", "df-mini", "--max-depth", "1", "--passes", "1", "-o", table)
    search = (
        "search", "--space", "df-mini", "--max-depth", "1", "--lut", table, "--evaluator", "analytic",
        "--option", "noise=0.0", "-o", run,
    )  # fmt: skip
    first = document(*search, "--budget", "4")
    assert first["evaluated"] == 4
    whole = document(*search)
    assert whole["finished"] == "exhausted"
    assert whole["evaluated"] + whole["ruled_out"] == whole["candidates"] == 35
    boundary = json.loads((run / "boundary.json").read_text())
    assert [item["encoding"] for item in boundary] == [item["encoding"] for item in whole["boundary"]]
    for item in boundary:
        assert item["measured_ms"] > 0
        assert (run / item["files"]["tflite"]["path"]).is_file()
        assert "random (analytic" in item["weights"]
    states = {document("search", "why", encoding, "--run", run)["status"] for encoding in members()}
    assert states == {"evaluated", "ruled out"}
    page = tmp_path / "report.html"
    result = CliRunner().invoke(app, ["report", str(run), "-o", str(page)])
    assert result.exit_code == 0, result.output
    assert "simulated, not trained" in page.read_text()


@pytest.mark.slow
def test_a_certificate_is_written_checked_and_rejected_when_changed(tmp_path: Path) -> None:
    table, run = tmp_path / "t.sqlite", tmp_path / "run"
    document("lut", "build", "--space", "df-mini", "--max-depth", "1", "--passes", "2", "-o", table)
    search = (
        "search", "--space", "df-mini", "--max-depth", "1", "--lut", table, "--evaluator", "analytic",
        "--mode", "certified", "-o", run,
    )  # fmt: skip
    assert document(*search)["finished"] == "exhausted"
    found = document("search", "verify", run)
    assert found["holds"]
    assert (
        found["candidates"]
        == 35
        == sum(found[key] for key in ("evaluated", "ruled_out_by_results", "ruled_out_by_table"))
    )
    stated = json.loads((run / "certificate.json").read_text())
    assert stated["latency"]["comparison"] == "interval"  # two passes a block tell how sure a latency is
    result = CliRunner().invoke(app, ["search", "verify", str(run)])
    assert "the certificate holds" in result.stdout
    for line in stated["conditions"]:
        assert line in result.stdout
    assert document("search", "why", members()[7], "--run", run)["status"] in ("evaluated", "ruled out")
    page = CliRunner().invoke(app, ["report", str(run), "-o", str(tmp_path / "report.html")])
    assert page.exit_code == 0, page.output
    copy = run / "table.sqlite"
    copy.write_bytes(copy.read_bytes() + b"\0")
    result = CliRunner().invoke(app, ["search", "verify", str(run)])
    assert result.exit_code == 1
    assert "is not the table that the search was made with" in result.stderr


def members() -> list[str]:
    from dfmobile.architecture.spaces import open_space

    space = open_space("df-mini", 1)
    return [space.architecture(row).text for row in space.rows()]


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['dfmobile', '--help']\n"
        "from dfmobile.cli.main import main\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0\n"
        "heavy = {'numpy', 'torch', 'onnx', 'pydantic', 'ai_edge_litert', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


@pytest.mark.parametrize("command", ["zoo", "space", "lut", "search", "export", "bench", "predict", "train", "profile"])
def test_every_command_has_help(command: str) -> None:
    result = CliRunner().invoke(app, [command, "--help"])
    assert result.exit_code == 0
    assert "Usage" in result.stdout


def test_doctor_finds_the_core_working() -> None:
    checks = document("doctor")
    assert {check["name"]: check["state"] for check in checks}["runtime"] == "ok"
    assert not [check for check in checks if check["state"] == "failed"]
