"""Run any op graph in plain numpy: slow, obvious, and the arbiter of every export."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.errors import GraphError
from dfmobile.graph import ops
from dfmobile.graph.graph import Graph, Node

Array = npt.NDArray[Any]
Parameters = dict[str, Array]


def bilinear_kernel(scale: int) -> npt.NDArray[np.float64]:
    """Return the fixed bilinear kernel ``[2·scale, 2·scale]`` of ``BilinearUpsample`` (Caffe's filler).

    ``f = scale; c = (2f - 1 - f mod 2) / 2f; w[x] = 1 - |x/f - c|``; 2-D is the outer product.
    """
    centre = (2 * scale - 1 - scale % 2) / (2.0 * scale)
    line = 1.0 - np.abs(np.arange(2 * scale) / scale - centre)
    return np.outer(line, line)


def resize_matrix(source: int, target: int, *, align_corners: bool) -> npt.NDArray[np.float64]:
    """Return the ``[target, source]`` matrix of a 1-D bilinear resize with clamped border."""
    index = np.arange(target, dtype=np.float64)
    if align_corners:
        position = index * ((source - 1) / (target - 1)) if target > 1 else np.zeros(1)
    else:
        position = np.clip((index + 0.5) * (source / target) - 0.5, 0.0, source - 1.0)
    low = np.minimum(np.floor(position).astype(np.int64), source - 1)
    high = np.minimum(low + 1, source - 1)
    fraction = position - low
    matrix = np.zeros((target, source))
    rows = np.arange(target)
    np.add.at(matrix, (rows, low), 1.0 - fraction)
    np.add.at(matrix, (rows, high), fraction)
    return matrix


def _pad(x: Array, padding: ops.Pair, value: float = 0.0) -> Array:
    rows, columns = padding
    if not rows and not columns:
        return x
    return np.pad(x, ((0, 0), (0, 0), (rows, rows), (columns, columns)), constant_values=value)


def _window(x: Array, row: int, column: int, stride: ops.Pair, size: ops.Pair) -> Array:
    """Return what the window element (row, column) sees at each output position."""
    return x[
        :, :, row : row + stride[0] * (size[0] - 1) + 1 : stride[0],
        column : column + stride[1] * (size[1] - 1) + 1 : stride[1],
    ]  # fmt: skip


def _conv(op: ops.Conv, x: Array, parameters: Parameters) -> Array:
    n, _, h, w = op.infer((x.shape,))[0]
    padded = _pad(x, op.padding)
    weight = parameters["weight"]
    result = np.zeros((n, op.out_channels, h * w), x.dtype)
    for row in range(op.kernel[0]):
        for column in range(op.kernel[1]):
            seen = _window(padded, row, column, op.stride, (h, w)).reshape(n, x.shape[1], h * w)
            result += weight[:, :, row, column] @ seen
    if op.bias:
        result += parameters["bias"][:, None]
    return result.reshape(n, op.out_channels, h, w)


def _depthwise_conv(op: ops.DepthwiseConv, x: Array, parameters: Parameters) -> Array:
    n, c, h, w = op.infer((x.shape,))[0]
    padded = _pad(x, op.padding)
    result = np.zeros((n, c, h, w), x.dtype)
    for row in range(op.kernel[0]):
        for column in range(op.kernel[1]):
            seen = _window(padded, row, column, op.stride, (h, w))
            result += parameters["weight"][None, :, 0, row, column, None, None] * seen
    if op.bias:
        result += parameters["bias"][:, None, None]
    return result


def _scatter(x: Array, terms: Callable[[int, int], Array], channels: int, op: ops.TransposedConv) -> Array:
    n, _, h, w = x.shape
    full = np.zeros(
        (n, channels, (h - 1) * op.stride[0] + op.kernel[0], (w - 1) * op.stride[1] + op.kernel[1]), x.dtype
    )
    for row in range(op.kernel[0]):
        for column in range(op.kernel[1]):
            _window(full, row, column, op.stride, (h, w))[...] += terms(row, column)
    rows, columns = op.padding
    return full[:, :, rows : full.shape[2] - rows, columns : full.shape[3] - columns]


def _transposed_conv(op: ops.TransposedConv, x: Array, parameters: Parameters) -> Array:
    n, c, h, w = x.shape
    weight = parameters["weight"]
    flat = x.reshape(n, c, h * w)

    def terms(row: int, column: int) -> Array:
        if op.depthwise:
            product: Array = weight[None, :, 0, row, column, None, None] * x
        else:
            product = (weight[:, :, row, column].T @ flat).reshape(n, op.out_channels, h, w)
        return product

    result = _scatter(x, terms, op.out_channels, op)
    return result + parameters["bias"][:, None, None] if op.bias else result


def _bilinear_upsample(op: ops.BilinearUpsample, x: Array, parameters: Parameters) -> Array:
    del parameters
    scale = op.scale
    kernel = bilinear_kernel(scale).astype(x.dtype)
    equal = ops.TransposedConv(
        x.shape[1], (2 * scale, 2 * scale), (scale, scale), (scale // 2, scale // 2), depthwise=True
    )
    return _scatter(x, lambda row, column: kernel[row, column] * x, x.shape[1], equal)


def _batch_norm(op: ops.BatchNorm, x: Array, parameters: Parameters) -> Array:
    factor = parameters["scale"] / np.sqrt(parameters["variance"] + op.epsilon)
    offset = parameters["shift"] - parameters["mean"] * factor
    result: Array = x * factor[:, None, None] + offset[:, None, None]
    return result


def _max_pool(op: ops.MaxPool, x: Array, parameters: Parameters) -> Array:
    del parameters
    _, _, h, w = op.infer((x.shape,))[0]
    padded = _pad(x, op.padding, -np.inf)
    views = [
        _window(padded, row, column, op.stride, (h, w)) for row in range(op.kernel[0]) for column in range(op.kernel[1])
    ]
    result: Array = np.maximum.reduce(views)
    return result


def _average_pool(op: ops.AveragePool, x: Array, parameters: Parameters) -> Array:
    del parameters
    _, _, h, w = op.infer((x.shape,))[0]
    total = np.zeros((*x.shape[:2], h, w), x.dtype)
    for row in range(op.kernel[0]):
        for column in range(op.kernel[1]):
            total += _window(x, row, column, op.stride, (h, w))
    return total / (op.kernel[0] * op.kernel[1])


def _resize_bilinear(op: ops.ResizeBilinear, x: Array, parameters: Parameters) -> Array:
    del parameters
    rows = resize_matrix(x.shape[2], op.size[0], align_corners=op.align_corners).astype(x.dtype)
    columns = resize_matrix(x.shape[3], op.size[1], align_corners=op.align_corners).astype(x.dtype)
    result: Array = rows @ x @ columns.T
    return result


def _channel_shuffle(op: ops.ChannelShuffle, x: Array, parameters: Parameters) -> Array:
    del parameters
    n, c, h, w = x.shape
    result: Array = x.reshape(n, op.groups, c // op.groups, h, w).swapaxes(1, 2).reshape(n, c, h, w)
    return result


def _fully_connected(op: ops.FullyConnected, x: Array, parameters: Parameters) -> Array:
    result: Array = x.reshape(x.shape[0], -1) @ parameters["weight"].T
    return result + parameters["bias"] if op.bias else result


def _softmax(x: Array) -> Array:
    exponents = np.exp(x - x.max(axis=1, keepdims=True))
    result: Array = exponents / exponents.sum(axis=1, keepdims=True)
    return result


def _pad_op(op: ops.Pad, x: Array, parameters: Parameters) -> Array:
    del parameters
    top, bottom, left, right = op.amounts
    return np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))


_UNARY: dict[type[ops.Op], Callable[[Any, Array, Parameters], Array]] = {
    ops.Conv: _conv,
    ops.DepthwiseConv: _depthwise_conv,
    ops.TransposedConv: _transposed_conv,
    ops.BilinearUpsample: _bilinear_upsample,
    ops.BatchNorm: _batch_norm,
    ops.Relu: lambda op, x, parameters: np.maximum(x, 0),
    ops.Relu6: lambda op, x, parameters: np.clip(x, 0, 6),
    ops.Softmax: lambda op, x, parameters: _softmax(x),
    ops.MaxPool: _max_pool,
    ops.AveragePool: _average_pool,
    ops.GlobalAveragePool: lambda op, x, parameters: x.mean(axis=(2, 3), keepdims=True),
    ops.ResizeBilinear: _resize_bilinear,
    ops.ChannelShuffle: _channel_shuffle,
    ops.Pad: _pad_op,
    ops.FullyConnected: _fully_connected,
    ops.ArgMax: lambda op, x, parameters: x.argmax(axis=1)[:, None].astype(np.int32),
}


def _run_node(node: Node, inputs: list[Array], parameters: Parameters) -> tuple[Array, ...]:
    op = node.op
    if isinstance(op, ops.Add):
        return (inputs[0] + inputs[1],)
    if isinstance(op, ops.Concat):
        return (np.concatenate(inputs, axis=1),)
    if isinstance(op, ops.Split):
        return tuple(np.split(inputs[0], np.cumsum(op.sizes)[:-1], axis=1))
    function = _UNARY.get(type(op))
    if function is None:
        raise GraphError(f"the reference executor does not know op {op.kind!r}")
    return (function(op, inputs[0], parameters),)


def run(
    graph: Graph,
    weights: Mapping[str, Array],
    inputs: Mapping[str, Array],
    *,
    dtype: npt.DTypeLike = np.float64,
    keep: bool = False,
) -> dict[str, Array]:
    """Execute a graph.

    Args:
        graph: training or deployed form.
        weights: by ``<node>.<role>``.
        inputs: one array for each graph input, of exactly its shape.
        dtype: arithmetic type; float64 makes the result the arbiter of float32 exports.
        keep: return every value instead of only the graph's outputs.

    Returns:
        Arrays by value name, in ``dtype`` (argmax: int32).

    Raises:
        GraphError: if weights or inputs do not fit.
    """
    graph.check_weights(weights)
    values: dict[str, Array] = {}
    for name, shape in graph.inputs:
        if name not in inputs or tuple(inputs[name].shape) != shape:
            given = list(inputs[name].shape) if name in inputs else "nothing"
            raise GraphError(f"input {name!r} takes shape {list(shape)}, got {given}")
        values[name] = np.asarray(inputs[name], dtype)
    remaining = {name: len(nodes) for name, nodes in graph.consumers.items()}
    for node in graph.nodes:
        roles = node.op.parameters(graph.input_shapes(node))
        parameters = {role: np.asarray(weights[f"{node.name}.{role}"], dtype) for role in roles}
        results = _run_node(node, [values[name] for name in node.inputs], parameters)
        values.update(zip(node.outputs, results, strict=True))
        if not keep:
            for name in node.inputs:
                remaining[name] -= 1
                if remaining[name] == 0 and name not in graph.outputs:
                    del values[name]
    return values if keep else {name: values[name] for name in graph.outputs}
