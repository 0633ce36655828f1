"""What is inside a written .tflite file."""

from __future__ import annotations

import collections

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from dfmobile.errors import ExportError, GraphError
from dfmobile.export.tflite import tflite_bytes
from dfmobile.export.tflite_lowering import same_padding
from dfmobile.graph import Graph, GraphBuilder, initialise, ops
from dfmobile.runtimes.litert import LiteRTRunner
from dfmobile.testing.op_graphs import EVEN, OP_CASES, op_graph, residual_block, shuffle_unit, unfusable_graph

NAMES = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}


def parse(data: bytes) -> schema.Model:
    assert schema.Model.ModelBufferHasIdentifier(data, 0)
    return schema.Model.GetRootAs(data, 0)


def operators(data: bytes) -> list[str]:
    model = parse(data)
    graph = model.Subgraphs(0)
    codes = [model.OperatorCodes(i).BuiltinCode() for i in range(model.OperatorCodesLength())]
    return [NAMES[codes[graph.Operators(i).OpcodeIndex()]] for i in range(graph.OperatorsLength())]


def written(graph: Graph) -> bytes:
    return tflite_bytes(graph, initialise(graph))


def test_header_signature_and_names() -> None:
    model = parse(written(residual_block()))
    assert model.Version() == 3
    assert model.SubgraphsLength() == model.SignatureDefsLength() == 1
    signature, graph = model.SignatureDefs(0), model.Subgraphs(0)
    assert signature.SignatureKey() == b"serving_default"
    assert signature.Inputs(0).Name() == b"x"
    assert signature.Outputs(0).Name() == residual_block().outputs[0].encode()
    assert graph.Tensors(signature.Inputs(0).TensorIndex()).Name() == b"x"
    assert list(graph.Tensors(graph.Inputs(0)).ShapeAsNumpy()) == [1, 9, 8, 6]
    assert model.Buffers(0).DataLength() == 0


@pytest.mark.parametrize("case", OP_CASES)
def test_constants_are_aligned_to_16_bytes(case: str) -> None:
    data = written(OP_CASES[case])
    model, start = parse(data), np.frombuffer(data, np.uint8).ctypes.data
    for index in range(model.BuffersLength()):
        if model.Buffers(index).DataLength():
            assert (model.Buffers(index).DataAsNumpy().ctypes.data - start) % 16 == 0


def test_metadata_is_stored() -> None:
    graph = op_graph(ops.Relu(), EVEN)
    model = parse(tflite_bytes(graph, {}, metadata={"architecture": "df/64", "note": "größer"}))
    stored = {}
    for index in range(model.MetadataLength()):
        entry = model.Metadata(index)
        stored[entry.Name().decode()] = bytes(model.Buffers(entry.Buffer()).DataAsNumpy()).decode()
    assert stored == {"architecture": "df/64", "note": "größer"}


def test_equal_graphs_make_equal_files() -> None:
    assert written(shuffle_unit()) == written(shuffle_unit())


def test_batch_norm_and_relu_vanish_into_the_ops_before_them() -> None:
    # The 9x8 map needs PAD only where stride 2 on its even width is not SAME.
    assert operators(written(residual_block())) == ["PAD", "CONV_2D", "CONV_2D", "CONV_2D", "ADD"]
    assert operators(written(residual_block(stride=1))) == ["CONV_2D"] * 3 + ["ADD"]


def test_what_is_read_twice_or_returned_is_not_fused() -> None:
    found = collections.Counter(operators(written(unfusable_graph())))
    assert found == {"CONV_2D": 3, "RELU": 1, "RELU6": 1, "ADD": 1, "DEPTHWISE_CONV_2D": 1}


def test_bilinear_upsampling_is_a_resize_between_pad_and_slice() -> None:
    assert operators(written(OP_CASES["bilinear upsample 4, even"])) == ["PAD", "RESIZE_BILINEAR", "SLICE"]


def test_shuffle_unit_has_no_op_for_each_channel() -> None:
    assert operators(written(shuffle_unit())) == [
        "SPLIT", "CONV_2D", "DEPTHWISE_CONV_2D", "CONV_2D", "CONCATENATION", "RESHAPE", "TRANSPOSE", "RESHAPE",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("conv 3x3 stride 2, even", ["PAD", "CONV_2D"]),
        ("conv 3x3 stride 2 without padding, even", ["CONV_2D"]),
        ("conv 3x3 stride 2, odd", ["CONV_2D"]),  # on odd sizes SAME is what torch pads
        ("conv 3x3, even", ["CONV_2D"]),
        ("max pool 3x3 stride 2, odd", ["MAX_POOL_2D"]),
        ("max pool 3x3 stride 2, even", ["PADV2", "MAX_POOL_2D"]),
        ("transposed conv 4x4 stride 2, even", ["TRANSPOSE_CONV"]),
        ("transposed conv 5x5 stride 2 cropped, even", ["TRANSPOSE_CONV", "SLICE"]),
    ],
)
def test_padding_is_written_only_where_it_is_needed(case: str, expected: list[str]) -> None:
    assert operators(written(OP_CASES[case])) == expected


def test_same_padding_puts_the_larger_half_last() -> None:
    assert same_padding(10, 3, 2) == (0, 1)
    assert same_padding(11, 3, 2) == (1, 1)
    assert same_padding(5, 1, 2) == (0, 0)


def test_max_pool_after_relu_pads_with_zeros() -> None:
    builder = GraphBuilder()
    x = builder.relu(builder.conv(builder.input("x", EVEN), 4, 1))
    graph = builder.build(builder.add_op(ops.MaxPool((3, 3), (2, 2), (1, 1)), x)[0])
    assert operators(written(graph)) == ["CONV_2D", "PAD", "MAX_POOL_2D"]
    with LiteRTRunner(written(graph)) as runner:
        assert runner.fully_accelerated()


NOT_ACCELERATED = {
    "argmax, even": "ARG_MAX",
    "argmax, odd": "ARG_MAX",
    "argmax of scores": "ARG_MAX",
    "max pool 3x3 stride 2, even": "PADV2",
    "transposed conv 1x1 stride 2, even": "TRANSPOSE_CONV",  # kernel smaller than stride
    "transposed conv 1x1 stride 2, odd": "TRANSPOSE_CONV",
}


@pytest.mark.parametrize("case", OP_CASES)
def test_xnnpack_takes_every_op_but_the_listed_ones(case: str) -> None:
    with LiteRTRunner(written(OP_CASES[case])) as runner:
        if case in NOT_ACCELERATED:
            assert NOT_ACCELERATED[case] in runner.unaccelerated_ops()
            assert runner.delegated_fraction() < 1.0
        else:
            assert runner.fully_accelerated(), runner.unaccelerated_ops()
            assert runner.delegated_fraction() == 1.0


def test_a_graph_that_returns_its_input_is_refused() -> None:
    builder = GraphBuilder()
    x = builder.input("x", EVEN)
    y = builder.relu(x)
    with pytest.raises(ExportError, match="returns one of its inputs"):
        tflite_bytes(builder.build(y, x), {})
    with pytest.raises(ExportError, match="a value twice"):
        tflite_bytes(builder.build(y, y), {})


def test_wrong_weights_are_refused() -> None:
    graph = residual_block()
    weights = initialise(graph)
    with pytest.raises(GraphError, match="missing"):
        tflite_bytes(graph, {name: value for name, value in weights.items() if "bn1.mean" not in name})
