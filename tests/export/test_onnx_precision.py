"""Typed float16 .onnx files: what ONNX Runtime computes from them, what they look like, what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dfmobile.architecture import build, zoo
from dfmobile.errors import BackendError, ExportError, FileFormatError
from dfmobile.export.exporter import export
from dfmobile.export.onnx import OPSETS, onnx_bytes
from dfmobile.export.onnx_precision import float16_bytes, to_float16
from dfmobile.export.verify import compare
from dfmobile.graph import Graph, GraphBuilder, Weights, initialise, ops
from dfmobile.latency.backends.onnxruntime import OnnxRuntimeBackend
from dfmobile.runtimes.onnxruntime import OnnxRuntimeRunner
from dfmobile.testing.op_graphs import EVEN, NETWORK_CASES, OP_CASES, op_graph, residual_block

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

GRAPHS: dict[str, Graph] = {**OP_CASES, **{name: make() for name, make in NETWORK_CASES.items()}}
FEW = ("DF1", "DFlite-Seg", "PL1A-Seg", "ResNet-18")
ZOO = [pytest.param(name, marks=() if name in FEW else pytest.mark.slow) for name in zoo.names()]


def differ(graph: Graph, weights: Weights) -> list[tuple[float, float]]:
    """Return how far float16 is from float32 in ONNX Runtime, by output: root mean square, argmax agreement."""
    content = onnx_bytes(graph, weights)
    inputs = [np.random.default_rng(2).standard_normal(shape, np.float32) for _, shape in graph.inputs]
    with OnnxRuntimeRunner(content) as full, OnnxRuntimeRunner(float16_bytes(content)) as half:
        pairs = list(zip(half.run(inputs), full.run(inputs), strict=True))
    for actual, expected in pairs:
        assert actual.dtype == expected.dtype
    found = [compare(actual, expected) for actual, expected in pairs]
    return [(result.rms, result.argmax_agreement) for result in found]


@pytest.mark.parametrize("name", GRAPHS)
def test_every_op_is_close_to_float32(name: str) -> None:
    for rms, _ in differ(GRAPHS[name], initialise(GRAPHS[name])):
        assert rms < 1e-3


@pytest.mark.parametrize("name", ZOO)
def test_every_network_is_close_to_float32(name: str) -> None:
    graph = build(zoo.get(name).architecture, 64, 64).graph
    for rms, agreement in differ(graph, initialise(graph, seed=1)):
        assert rms < 0.01  # 0.004 was seen
        assert agreement > 0.98


@pytest.mark.parametrize("opset", OPSETS)
def test_every_opset_passes_the_checker(opset: int) -> None:
    graph = build(zoo.get("PL1A-Seg").architecture, 64, 64).graph
    content = onnx_bytes(graph, initialise(graph), opset=opset, metadata={"encoding": "x"})
    before = onnx.load_from_string(content)
    model = to_float16(before)
    assert before.SerializeToString() == content  # not changed
    onnx.checker.check_model(model, full_check=True)
    assert {item.key: item.value for item in model.metadata_props} == {"encoding": "x", "precision": "fp16"}


def test_only_inputs_and_outputs_are_float32() -> None:
    graph = residual_block()
    model = onnx.shape_inference.infer_shapes(to_float16(onnx.load_from_string(onnx_bytes(graph, initialise(graph)))))
    half, full = onnx.TensorProto.FLOAT16, onnx.TensorProto.FLOAT
    assert [item.type.tensor_type.elem_type for item in model.graph.input] == [full]
    assert {item.type.tensor_type.elem_type for item in model.graph.output} == {full}
    assert {item.data_type for item in model.graph.initializer} <= {half, onnx.TensorProto.INT64}
    outputs = {item.name for item in model.graph.output}
    inside = [item for item in model.graph.value_info if item.name not in outputs]
    assert {item.type.tensor_type.elem_type for item in inside} == {half}


def test_a_value_that_is_returned_and_used_has_both_types() -> None:
    builder = GraphBuilder()
    x = builder.relu(builder.input("x", EVEN))
    graph = builder.build(x, builder.add_op(ops.Softmax(), x)[0])
    assert all(rms < 1e-3 for rms, _ in differ(graph, {}))


def test_argmax_stays_an_integer() -> None:
    graph = GRAPHS["argmax, even"]
    model = to_float16(onnx.load_from_string(onnx_bytes(graph, {})))
    assert [item.type.tensor_type.elem_type for item in model.graph.output] == [onnx.TensorProto.INT32]


def test_a_weight_beyond_float16_is_refused() -> None:
    graph = OP_CASES["conv 1x1, even"]
    for value in (1e5, np.inf, np.nan):
        weights = {name: np.full_like(values, value) for name, values in initialise(graph).items()}
        with pytest.raises(ExportError, match="more than float16 can hold"):
            float16_bytes(onnx_bytes(graph, weights))


def test_other_files_are_refused() -> None:
    with pytest.raises(FileFormatError, match="no ONNX file"):
        float16_bytes(b"\xff\xff")
    content = onnx_bytes(op_graph(ops.Relu(), EVEN), {})
    with pytest.raises(ExportError, match="typed already"):
        float16_bytes(float16_bytes(content))
    model = onnx.load_from_string(content)
    model.graph.node[0].op_type = "Sigmoid"
    with pytest.raises(ExportError, match=r"\(op Sigmoid\) has no float16 form"):
        to_float16(model)


def test_export_writes_and_checks_it_and_no_backend_times_it_as_float32(tmp_path: Path) -> None:
    from dfmobile.devices.device import open_device

    graph = build(zoo.get("DFlite").architecture, 64, 64).graph
    weights = initialise(graph)
    full = export(graph, weights, tmp_path / "full.onnx", format="onnx")
    half = export(graph, weights, tmp_path / "half.onnx", format="onnx", precision="fp16")
    assert half.size_bytes == pytest.approx(full.size_bytes / 2, rel=0.02)
    assert half.opset == 17
    assert half.verification is not None
    assert 1e-5 < half.verification.rms < 0.01
    with open_device("local") as device:
        backend = OnnxRuntimeBackend(device)
        backend.open_runner(full.path, 1).close()
        with pytest.raises(BackendError, match="is a typed fp16 file, and precision fp32 was asked for"):
            backend.open_runner(half.path, 1)
