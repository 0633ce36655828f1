"""The numpy reference against torch's own operators in float64, and against closed forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

from dfmobile.errors import GraphError
from dfmobile.graph import Graph, GraphBuilder, initialise, ops
from dfmobile.graph.reference import bilinear_kernel, resize_matrix, run
from dfmobile.testing.op_graphs import EVEN, OP_CASES, op_graph, residual_block, window_op_graphs

torch = pytest.importorskip("torch")
torch.set_num_threads(1)
F = torch.nn.functional
Weights = dict[str, Any]


def _conv(op: ops.Conv, w: Weights, x: Any) -> Any:
    return F.conv2d(x, w["weight"], w.get("bias"), op.stride, op.padding)


def _depthwise(op: ops.DepthwiseConv, w: Weights, x: Any) -> Any:
    return F.conv2d(x, w["weight"], w.get("bias"), op.stride, op.padding, groups=x.shape[1])


def _transposed(op: ops.TransposedConv, w: Weights, x: Any) -> Any:
    groups = x.shape[1] if op.depthwise else 1
    return F.conv_transpose2d(x, w["weight"], w.get("bias"), op.stride, op.padding, groups=groups)


def _bilinear(op: ops.BilinearUpsample, w: Weights, x: Any) -> Any:
    # Another way to the same values than the reference's: resize the map with a ring of zeros, cut the ring off.
    s = op.scale
    return F.interpolate(F.pad(x, (1, 1, 1, 1)), scale_factor=s, mode="bilinear")[:, :, s:-s, s:-s]


def _batch_norm(op: ops.BatchNorm, w: Weights, x: Any) -> Any:
    return F.batch_norm(x, w["mean"], w["variance"], w["scale"], w["shift"], eps=op.epsilon)


def _resize(op: ops.ResizeBilinear, w: Weights, x: Any) -> Any:
    return F.interpolate(x, op.size, mode="bilinear", align_corners=op.align_corners)


def _pad(op: ops.Pad, w: Weights, x: Any) -> Any:
    return F.pad(x, (op.amounts[2], op.amounts[3], op.amounts[0], op.amounts[1]))


TORCH: dict[type[ops.Op], Callable[..., Any]] = {
    ops.Conv: _conv,
    ops.DepthwiseConv: _depthwise,
    ops.TransposedConv: _transposed,
    ops.BilinearUpsample: _bilinear,
    ops.BatchNorm: _batch_norm,
    ops.Relu: lambda op, w, x: torch.relu(x),
    ops.Relu6: lambda op, w, x: F.relu6(x),
    ops.Softmax: lambda op, w, x: torch.softmax(x, 1),
    ops.Add: lambda op, w, x, y: x + y,
    ops.Concat: lambda op, w, *parts: torch.cat(parts, 1),
    ops.Split: lambda op, w, x: torch.split(x, op.sizes, 1),
    ops.ChannelShuffle: lambda op, w, x: torch.channel_shuffle(x, op.groups),
    ops.MaxPool: lambda op, w, x: F.max_pool2d(x, op.kernel, op.stride, op.padding),
    ops.AveragePool: lambda op, w, x: F.avg_pool2d(x, op.kernel, op.stride),
    ops.GlobalAveragePool: lambda op, w, x: x.mean((2, 3), keepdim=True),
    ops.ResizeBilinear: _resize,
    ops.Pad: _pad,
    ops.FullyConnected: lambda op, w, x: F.linear(x.flatten(1), w["weight"], w.get("bias")),
    ops.ArgMax: lambda op, w, x: x.argmax(1, keepdim=True),
}


def assert_equals_torch(graph: Graph) -> None:
    (node,) = graph.nodes
    weights = {name: values.astype(np.float64) for name, values in initialise(graph).items()}
    generator = np.random.default_rng(0)
    inputs = {name: generator.standard_normal(shape) for name, shape in graph.inputs}
    roles = {name.rpartition(".")[2]: torch.from_numpy(values) for name, values in weights.items()}
    expected = TORCH[type(node.op)](node.op, roles, *[torch.from_numpy(inputs[name]) for name in node.inputs])
    actual = run(graph, weights, inputs)
    for name, value in zip(graph.outputs, expected if isinstance(expected, tuple) else (expected,), strict=True):
        np.testing.assert_allclose(actual[name], value.numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("case", OP_CASES)
def test_each_op_equals_torch(case: str) -> None:
    assert_equals_torch(OP_CASES[case])


@settings(max_examples=300)
@given(graph=window_op_graphs())
def test_any_window_equals_torch(graph: Graph) -> None:
    assert_equals_torch(graph)


def test_bilinear_kernel_of_scale_2_is_the_known_one() -> None:
    line = np.array([0.25, 0.75, 0.75, 0.25])
    np.testing.assert_allclose(bilinear_kernel(2), np.outer(line, line))


@pytest.mark.parametrize("scale", [2, 4, 8])
def test_bilinear_upsampling_keeps_a_constant_inside_and_fades_at_the_border(scale: int) -> None:
    graph = op_graph(ops.BilinearUpsample(scale), (1, 1, 4, 4))
    result = run(graph, {}, {"input0": np.ones((1, 1, 4, 4))})[graph.outputs[0]]
    half = scale // 2
    np.testing.assert_allclose(result[:, :, half:-half, half:-half], 1.0)
    assert (result[:, :, 0] < 1.0).all()


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(("source", "target"), [(1, 1), (1, 5), (5, 1), (4, 9), (9, 4), (6, 6)])
def test_resizes_are_weighted_means(source: int, target: int, align_corners: bool) -> None:
    matrix = resize_matrix(source, target, align_corners=align_corners)
    np.testing.assert_allclose(matrix.sum(axis=1), 1.0)
    assert (matrix >= 0).all()
    if source == target:
        np.testing.assert_allclose(matrix, np.eye(source))


def test_align_corners_keeps_the_corners() -> None:
    matrix = resize_matrix(4, 9, align_corners=True)
    assert matrix[0, 0] == matrix[-1, -1] == 1.0


def test_shuffle_interleaves_the_groups() -> None:
    x = np.arange(6.0).reshape(1, 6, 1, 1)
    graph = op_graph(ops.ChannelShuffle(2), (1, 6, 1, 1))
    assert run(graph, {}, {"input0": x})[graph.outputs[0]].ravel().tolist() == [0, 3, 1, 4, 2, 5]


def test_float32_is_close_to_float64_and_argmax_is_int32() -> None:
    graph = residual_block()
    weights, x = initialise(graph), np.random.default_rng(0).standard_normal(graph.inputs[0][1])
    single = run(graph, weights, {"x": x}, dtype=np.float32)[graph.outputs[0]]
    double = run(graph, weights, {"x": x})[graph.outputs[0]]
    assert (single.dtype, double.dtype) == (np.float32, np.float64)
    np.testing.assert_allclose(single, double, atol=1e-4)
    argmax = op_graph(ops.ArgMax(), EVEN)
    assert run(argmax, {}, {"input0": np.zeros(EVEN)})[argmax.outputs[0]].dtype == np.int32


def test_keep_returns_every_value() -> None:
    graph = residual_block()
    values = run(graph, initialise(graph), {"x": np.zeros(graph.inputs[0][1])}, keep=True)
    assert {name: array.shape for name, array in values.items()} == graph.shapes


def test_wrong_inputs_are_refused() -> None:
    graph = op_graph(ops.Relu(), EVEN)
    with pytest.raises(GraphError, match="got nothing"):
        run(graph, {}, {})
    with pytest.raises(GraphError, match=r"takes shape \[1, 8, 10, 12\], got \[1\]"):
        run(graph, {}, {"input0": np.zeros(1)})


def test_unknown_ops_are_refused() -> None:
    class Unknown(ops.Elementwise):
        kind = "unknown"

    builder = GraphBuilder()
    graph = builder.build(*builder.add_op(Unknown(), builder.input("x", EVEN)))
    with pytest.raises(GraphError, match="does not know op 'unknown'"):
        run(graph, {}, {"x": np.zeros(EVEN)})
