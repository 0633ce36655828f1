"""Export: verified before it is put in place, whole or absent, clear refusals."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from dfmobile.errors import BackendError, ExportError, InputError, StorageError
from dfmobile.export.exporter import export, model_bytes
from dfmobile.export.tflite import tflite_bytes
from dfmobile.export.verify import compare, verify
from dfmobile.graph import initialise
from dfmobile.testing.op_graphs import OP_CASES, residual_block, unfusable_graph

FORMATS = ["tflite", pytest.param("onnx", id="onnx")]


@pytest.fixture(autouse=True)
def _onnx_is_there(request: pytest.FixtureRequest) -> None:
    if "onnx" in request.node.name:
        pytest.importorskip("onnx")
        pytest.importorskip("onnxruntime")


@pytest.mark.parametrize("format", FORMATS)
def test_export_writes_a_verified_file(tmp_path: Path, format: str) -> None:
    graph = residual_block()
    result = export(graph, initialise(graph), tmp_path / "m", format=format, metadata={"a": "b"})
    data = (tmp_path / "m").read_bytes()
    assert (result.size_bytes, result.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    assert result.opset == (17 if format == "onnx" else None)
    assert result.verification is not None
    assert result.verification.relative < 1e-5
    assert result.verification.argmax_agreement == 1.0


def test_verification_can_be_left_out(tmp_path: Path) -> None:
    graph = residual_block()
    assert export(graph, initialise(graph), tmp_path / "m", format="tflite", verify=False).verification is None


@pytest.mark.parametrize("format", FORMATS)
def test_a_file_that_computes_something_else_is_not_put_in_place(
    tmp_path: Path, format: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph = residual_block()
    weights = initialise(graph)
    wrong = {name: values + np.float32(1e-3) for name, values in weights.items()}
    monkeypatch.setattr(
        "dfmobile.export.exporter.model_bytes", lambda graph, weights, *a, **k: model_bytes(graph, wrong, *a, **k)
    )
    (tmp_path / "m").write_bytes(b"older")
    with pytest.raises(ExportError, match="differs from the reference"):
        export(graph, weights, tmp_path / "m", format=format)
    assert (tmp_path / "m").read_bytes() == b"older"
    assert [item.name for item in tmp_path.iterdir()] == ["m"]


def test_an_unwritable_folder_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    graph = residual_block()
    with pytest.raises(StorageError, match="part of the path is a file"):
        export(graph, initialise(graph), tmp_path / "file" / "m.tflite", format="tflite")


def test_engines_are_not_built_here(tmp_path: Path) -> None:
    graph = residual_block()
    with pytest.raises(InputError, match="not available here"):
        export(graph, initialise(graph), tmp_path / "m", format="tensorrt")


@pytest.mark.parametrize(
    ("format", "precision", "message"),
    [
        ("ncnn", "int8", "not available for ncnn"),
        ("tflite", "fp7", "unknown"),
    ],
)
def test_precisions_that_are_not_there_are_refused(tmp_path: Path, format: str, precision: str, message: str) -> None:
    graph = residual_block()
    with pytest.raises(InputError, match=message):
        export(graph, initialise(graph), tmp_path / "m", format=format, precision=precision)


def test_half_precision_of_arithmetic_is_not_a_kind_of_file(tmp_path: Path) -> None:
    graph = residual_block()
    with pytest.raises(InputError, match="unknown") as caught:
        export(graph, initialise(graph), tmp_path / "m", format="tflite", precision="fp16-compute")
    assert "how a backend runs an fp32 file" in caught.value.hint


def test_unknown_options_are_refused(tmp_path: Path) -> None:
    graph = residual_block()
    with pytest.raises(InputError, match="is unknown"):
        export(graph, initialise(graph), tmp_path / "m", format="caffe")
    with pytest.raises(InputError, match="has no opset"):
        export(graph, initialise(graph), tmp_path / "m", format="tflite", opset=13)
    with pytest.raises(InputError, match="opset 5"):
        export(graph, initialise(graph), tmp_path / "m", format="onnx", opset=5)


def test_verify_reads_files_and_several_outputs(tmp_path: Path) -> None:
    graph = unfusable_graph()
    weights = initialise(graph)
    path = tmp_path / "m.tflite"
    path.write_bytes(tflite_bytes(graph, weights))
    result = verify(path, "tflite", graph, weights, seed=5)
    assert 0 < result.max_difference < 1e-4 * result.std
    assert result.relative == pytest.approx(result.max_difference / result.std)


def test_verify_refuses_a_wrong_argmax() -> None:
    weights = initialise(OP_CASES["conv 1x1, even"])
    graph = OP_CASES["argmax, even"]
    assert verify(tflite_bytes(graph, {}), "tflite", graph, {}).argmax_agreement == 1.0
    with pytest.raises(ExportError, match="returns"):
        verify(tflite_bytes(OP_CASES["conv 1x1, even"], weights), "tflite", graph, {})
    with pytest.raises(ExportError, match="returns 2 values, not 1"):
        verify(tflite_bytes(OP_CASES["split equal, even"], {}), "tflite", graph, {})


def test_verify_refuses_a_truncated_file() -> None:
    graph = residual_block()
    weights = initialise(graph)
    with pytest.raises(BackendError, match="cannot load"):
        verify(tflite_bytes(graph, weights)[:-100], "tflite", graph, weights)


def test_compare_takes_a_constant_output_by_its_magnitude() -> None:
    ones = np.ones((1, 1, 2, 2))
    assert compare(ones, ones).relative == 0.0
    assert compare(ones + 0.5, ones).relative == pytest.approx(0.5)
    assert compare(ones * np.nan, ones).relative == np.inf
