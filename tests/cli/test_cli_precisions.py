"""Precisions, threads and backends through the command line: what is written, measured and refused."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from dfmobile.cli.main import app

MINI = "df,stem=8s1,classes=10,channels=1/8/8/16"
quantiser = pytest.mark.skipif(
    importlib.util.find_spec("ai_edge_quantizer") is None, reason="the extra quantize is not installed"
)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(item) for item in arguments])


def document(*arguments: object) -> dict[str, Any]:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


def error_of(result: Result) -> list[str]:
    assert result.exit_code == 1, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith(("error:", "hint:"))]
    assert len(lines) == 2, result.stderr
    return lines


def test_float16_weights_halve_the_file(tmp_path: Path) -> None:
    full, half = (
        document("export", MINI, "--format", "tflite", "--precision", precision, "-o", tmp_path / precision)
        for precision in ("fp32", "fp16")
    )
    assert half["bytes"] < 0.7 * full["bytes"]
    assert half["precision"] == "fp16"
    assert 0 < half["rms_difference"] < 0.02


@quantiser
def test_an_int8_network_from_export_to_prediction(tmp_path: Path) -> None:
    folder = tmp_path / "samples"
    folder.mkdir()
    for number in range(3):
        values = np.random.default_rng(number).standard_normal((1, 32, 32), np.float32)
        np.save(folder / f"{number}.npy", values)
    model, table = tmp_path / "m.tflite", tmp_path / "t.sqlite"
    export = ("export", MINI, "--format", "tflite", "--input", "32x32", "--precision", "int8")
    exported = document(*export, "--calibration", folder, "-o", model)
    assert exported["calibration"].startswith("3 samples of samples")
    assert 0 < exported["rms_difference"] < 0.3
    assert document("bench", model, "--precision", "int8", "--passes", "1")["provenance"]["precision"] == "int8"
    document("lut", "build", "--network", MINI, "--input", "32x32", "--precision", "int8", "--passes", "1", "-o", table)
    assert document("lut", "show", table)["precision"] == "int8"
    assert document("predict", MINI, "--lut", table)["precision"] == "int8"


@quantiser
def test_random_ranges_are_said_to_be_random(tmp_path: Path) -> None:
    result = run("export", MINI, "--format", "tflite", "--precision", "int8", "-o", tmp_path / "m")
    assert result.exit_code == 0
    assert "ranges of" in result.stderr
    assert "right for timing only" in result.stderr


def test_int8_of_given_weights_needs_calibration(tmp_path: Path) -> None:
    (tmp_path / "w.npz").write_bytes(b"")
    export = ("export", MINI, "--format", "tflite", "--precision", "int8", "-o", tmp_path / "m")
    result = run(*export, "--weights", tmp_path / "w.npz")
    assert "--calibration" in error_of(result)[1]


def test_calibration_without_int8_is_refused(tmp_path: Path) -> None:
    result = run("export", MINI, "--format", "tflite", "--calibration", tmp_path, "-o", tmp_path / "m")
    assert "takes no calibration data" in error_of(result)[0]


def test_a_file_is_not_measured_under_another_precision(tmp_path: Path) -> None:
    model = tmp_path / "m.tflite"
    document("export", MINI, "--format", "tflite", "-o", model)
    error, hint = error_of(run("bench", model, "--precision", "int8"))
    assert "takes float32 inputs" in error
    assert "--precision int8" in hint


def test_two_threads_are_another_table(tmp_path: Path) -> None:
    table = tmp_path / "t.sqlite"
    build = ("lut", "build", "--network", MINI, "--input", "32x32", "--passes", "1", "-o", table)
    document(*build, "--threads", "2")
    assert document("lut", "show", table)["threads"] == 2
    assert "threads is 2 in the table and 1 now" in error_of(run(*build))[0]


def test_a_table_of_onnxruntime(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    table = tmp_path / "t.sqlite"
    build = ("lut", "build", "--network", MINI, "--input", "32x32", "--passes", "1", "-o", table)
    built = document(*build, "--backend", "onnxruntime")
    assert built["unchecked_blocks"] == 0
    assert document("lut", "show", table)["backend"] == "onnxruntime"
    assert "backend is onnxruntime in the table" in error_of(run(*build))[0]
