"""``dfmobile export --format tensorrt`` and the commands that must not take a replay for a measurement."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from latency.latency_helpers import MINI
from latency.tensorrt.replays import replay_backend, scratch
from latency.test_marginal import context_table
from typer.testing import CliRunner, Result

from dfmobile.architecture import build, resolve
from dfmobile.cli.main import app
from dfmobile.errors import BackendError
from dfmobile.graph import initialise
from dfmobile.latency.tensorrt.engine_export import export_engine
from dfmobile.testing.replay_trtexec import configure_replay, install_replay

__all__ = ["scratch"]


def mini() -> tuple[Any, Any]:
    network = build(resolve(MINI), 32, 32)
    return network.graph, initialise(network.graph, 0)


@pytest.mark.parametrize(("version", "opset"), [("8.2.1", 13), ("10.3.0", 17)])
def test_an_engine_comes_back_with_its_papers(version: str, opset: int, tmp_path: Path, scratch: Path) -> None:
    backend = replay_backend(tmp_path, version)
    found = export_engine(*mini(), tmp_path / "net.engine", backend, metadata={"encoding": MINI})
    papers = json.loads((tmp_path / "net.engine.json").read_text())
    assert papers == found.provenance
    content = (tmp_path / "net.engine").read_bytes()
    assert papers["engine_sha256"] == hashlib.sha256(content).hexdigest()
    assert papers["engine_bytes"] == len(content)
    assert (papers["tensorrt"], papers["onnx_opset"], papers["encoding"]) == (version, opset, MINI)
    assert papers["replay"] is True
    assert any(flag.startswith("--onnx=") for flag in papers["build_flags"])
    assert found.onnx.verification is not None


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_tensorrt_11_takes_types_from_the_file(precision: str, tmp_path: Path, scratch: Path) -> None:
    backend = replay_backend(tmp_path, "11.0.0", precision=precision)
    assert backend.file_precision == precision
    papers = export_engine(*mini(), tmp_path / "net.engine", backend).provenance
    assert papers["precision"] == precision
    assert not {"--fp16", "--int8"} & set(papers["build_flags"])


def test_where_the_build_fails_neither_file_is_there(tmp_path: Path, scratch: Path) -> None:
    backend = replay_backend(tmp_path)
    configure_replay(tmp_path / "trtexec-8.5.2", failure="workspace", failure_phase="build")
    with pytest.raises(BackendError, match="workspace"):
        export_engine(*mini(), tmp_path / "net.engine", backend)
    assert not list(tmp_path.glob("*net.engine*"))


def dfmobile(*words: object) -> Result:
    return CliRunner().invoke(app, [str(word) for word in words])


def test_the_command_exports_an_engine(tmp_path: Path, scratch: Path) -> None:
    program = install_replay(tmp_path / "tool", "8.2.1")
    words = ("export", MINI, "--format", "tensorrt", "--input", "32x32", "-o", tmp_path / "n.engine")
    result = dfmobile(*words, "--device", "local", "--backend-option", f"trtexec={program}")
    assert result.exit_code == 0, result.output
    assert "REPLAY, NOT A MEASUREMENT" in result.output
    assert "engine of TensorRT 8.2.1" in result.output
    assert (tmp_path / "n.engine.json").exists()
    refused = dfmobile(*words)
    assert refused.exit_code == 1
    assert "needs --device" in refused.output


LOUD = "REPLAY, NOT A MEASUREMENT"
SPACE = ("--space", "df-mini", "--input", "32x32")


def test_no_command_takes_a_replayed_table_for_a_measured_one(tmp_path: Path) -> None:
    table = context_table(tmp_path / "t.sqlite", replay=True)
    assert LOUD in dfmobile("lut", "show", table).output
    assert json.loads(dfmobile("lut", "show", table, "--json").stdout)["replay"] is True
    assert LOUD in dfmobile("predict", MINI, "--lut", table, "--input", "32x32").output
    predicted = dfmobile("predict", MINI, "--lut", table, "--input", "32x32", "--json")
    assert json.loads(predicted.stdout)["replay"] is True
    document, again = tmp_path / "t.json", tmp_path / "again.sqlite"
    assert LOUD in dfmobile("lut", "export", table, "-o", document).stderr
    assert LOUD in dfmobile("lut", "import", document, "-o", again).stderr
    for words in (
        ("search", *SPACE, "--lut", table, "--evaluator", "analytic", "-o", tmp_path / "run"),
        ("lut", "diff", table, table),
    ):
        refused(*words)


def refused(*words: object) -> None:
    result = dfmobile(*words)
    assert result.exit_code == 1, (words, result.output)
    assert "replay, not a measurement" in result.output, (words, result.output)


@pytest.mark.slow
def test_measuring_commands_say_or_refuse_a_replay(tmp_path: Path, scratch: Path) -> None:
    program, table = install_replay(tmp_path / "tool", "8.2.1"), tmp_path / "t.sqlite"
    options = ["--device", "local"]
    for option in (f"trtexec={program}", "timed-ms=0", "warm-up-ms=5", "power=none"):
        options += ["--backend-option", option]
    made = dfmobile(
        "lut", "build", "--network", MINI, "--input", "32x32", "--backend", "tensorrt", *options, "-o", table
    )
    assert made.exit_code == 0, made.output
    assert LOUD in made.output
    refused("lut", "validate", table, *SPACE, *options)
    refused("lut", "calibrate", table, *SPACE, *options)
