"""What is inside a written .onnx file."""

from __future__ import annotations

import pytest

from dfmobile.errors import ExportError, InputError
from dfmobile.export.onnx import OPSETS, onnx_bytes
from dfmobile.graph import GraphBuilder, initialise, ops
from dfmobile.testing.op_graphs import EVEN, OP_CASES, op_graph, residual_block

onnx = pytest.importorskip("onnx")


@pytest.mark.parametrize("opset", OPSETS)
@pytest.mark.parametrize("case", ["resize up, half pixel, even", "split unequal, odd", "pad, even", "softmax, odd"])
def test_every_opset_passes_the_checker(case: str, opset: int) -> None:
    graph = OP_CASES[case]
    model = onnx.load_from_string(onnx_bytes(graph, initialise(graph), opset=opset))
    onnx.checker.check_model(model, full_check=True)
    assert [(item.domain, item.version) for item in model.opset_import] == [("", opset)]


@pytest.mark.parametrize(("opset", "ir_version"), [(13, 7), (17, 8), (21, 10)])
def test_the_ir_version_is_the_oldest_that_the_opset_allows(opset: int, ir_version: int) -> None:
    assert onnx.load_from_string(onnx_bytes(op_graph(ops.Relu(), EVEN), {}, opset=opset)).ir_version == ir_version


def test_names_shapes_and_metadata() -> None:
    graph = residual_block()
    model = onnx.load_from_string(onnx_bytes(graph, initialise(graph), metadata={"architecture": "df/64"}))
    assert [item.name for item in model.graph.input] == ["x"]
    assert [item.name for item in model.graph.output] == list(graph.outputs)
    assert [item.dim_value for item in model.graph.output[0].type.tensor_type.shape.dim] == [1, 10, 5, 4]
    assert {item.key: item.value for item in model.metadata_props} == {"architecture": "df/64"}
    assert model.producer_name == "dfmobile"


def test_batch_norm_is_folded_and_outputs_keep_their_names() -> None:
    builder = GraphBuilder()
    x = builder.batch_norm(builder.conv(builder.input("x", EVEN), 3, 1, name="conv"), 1e-4, name="norm")
    graph = builder.build(x)
    model = onnx.load_from_string(onnx_bytes(graph, initialise(graph)))
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    assert [item.name for item in model.graph.output] == ["norm"]


@pytest.mark.parametrize("opset", [12, 22, 0])
def test_other_opsets_are_refused(opset: int) -> None:
    with pytest.raises(InputError, match=f"opset {opset}"):
        onnx_bytes(op_graph(ops.Relu(), EVEN), {}, opset=opset)


def test_a_graph_that_returns_its_input_is_refused() -> None:
    builder = GraphBuilder()
    x = builder.input("x", EVEN)
    with pytest.raises(ExportError, match="returns one of its inputs"):
        onnx_bytes(builder.build(builder.relu(x), x), {})
