"""TFLite operators of the ops without weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from dfmobile.errors import ExportError
from dfmobile.export import tflite_conv
from dfmobile.export.tflite_lowering import Code, Lowering, Options
from dfmobile.graph import Node, ops

_CONCAT_INPUTS = 5  # most that XNNPACK takes at once
_SPLIT_PARTS = 4  # most that XNNPACK takes at once


def _write_activation(code: int) -> Callable[[Lowering, Node, Any], None]:
    def write(lowering: Lowering, node: Node, op: ops.Op) -> None:
        del op
        if lowering.fused.get(node.inputs[0]) is not node:
            lowering.writer.operator(code, [lowering.input(node)], [lowering.output(node)])

    return write


def _write_add(lowering: Lowering, node: Node, op: ops.Add) -> None:
    del op
    options = schema.AddOptionsT()
    options.fusedActivationFunction = lowering.activation(node)
    inputs = [lowering.input(node, 0), lowering.input(node, 1)]
    lowering.writer.operator(Code.ADD, inputs, [lowering.output(node)], (Options.AddOptions, options))


def _write_concat(lowering: Lowering, node: Node, op: ops.Concat) -> None:
    del op
    axis = len(lowering.shape(node.outputs[0])) - 1
    options = schema.ConcatenationOptionsT()
    options.axis = axis
    parts = [(lowering.indices[name], lowering.shape(name)) for name in node.inputs]
    while len(parts) > _CONCAT_INPUTS:
        joined = parts[:_CONCAT_INPUTS]
        shape = (*joined[0][1][:-1], sum(item[-1] for _, item in joined))
        target = lowering.intermediate(node, f"first{len(parts)}", shape)
        inputs = [index for index, _ in joined]
        lowering.writer.operator(Code.CONCATENATION, inputs, [target], (Options.ConcatenationOptions, options))
        parts = [(target, shape), *parts[_CONCAT_INPUTS:]]
    inputs = [index for index, _ in parts]
    target = lowering.output(node)
    lowering.writer.operator(Code.CONCATENATION, inputs, [target], (Options.ConcatenationOptions, options))


def _write_split(lowering: Lowering, node: Node, op: ops.Split) -> None:
    """Write SPLIT for up to four equal parts, else one SLICE a part."""
    shape = lowering.shape(node.inputs[0])
    source = lowering.input(node)
    if len(set(op.sizes)) == 1 and len(op.sizes) <= _SPLIT_PARTS:
        options = schema.SplitOptionsT()
        options.numSplits = len(op.sizes)
        axis = lowering.writer.constant(f"{node.name}/axis", np.array(len(shape) - 1, np.int32))
        outputs = [lowering.output(node, position) for position in range(len(op.sizes))]
        lowering.writer.operator(Code.SPLIT, [axis, source], outputs, (Options.SplitOptions, options))
        return
    begin = 0
    for position, size in enumerate(op.sizes):
        first = (0,) * (len(shape) - 1) + (begin,)
        lowering.slice(source, lowering.output(node, position), first, (*shape[:-1], size))
        begin += size


def _write_channel_shuffle(lowering: Lowering, node: Node, op: ops.ChannelShuffle) -> None:
    n, h, w, c = lowering.shape(node.inputs[0])
    pixels, groups, each = n * h * w, op.groups, c // op.groups
    grouped = lowering.intermediate(node, "groups", (pixels, groups, each))
    lowering.reshape(lowering.input(node), grouped, (pixels, groups, each))
    swapped = lowering.intermediate(node, "swapped", (pixels, each, groups))
    lowering.writer.operator(
        Code.TRANSPOSE,
        [grouped, lowering.writer.int32s((0, 2, 1))],
        [swapped],
        (Options.TransposeOptions, schema.TransposeOptionsT()),
    )
    lowering.reshape(swapped, lowering.output(node), (n, h, w, c))


def _write_pool(lowering: Lowering, node: Node, op: ops.MaxPool | ops.AveragePool) -> None:
    """Write MAX_POOL_2D or AVERAGE_POOL_2D."""
    shape = lowering.shape(node.inputs[0])
    source = lowering.input(node)
    padding, amounts = lowering.window_padding(op, shape)
    if any(amounts):
        source = _pad_for_max(lowering, node, source, amounts)
    options = schema.Pool2DOptionsT()
    options.padding = padding
    options.strideH, options.strideW = op.stride
    options.filterHeight, options.filterWidth = op.kernel
    options.fusedActivationFunction = lowering.activation(node)
    code = Code.MAX_POOL_2D if isinstance(op, ops.MaxPool) else Code.AVERAGE_POOL_2D
    lowering.writer.operator(code, [source], [lowering.output(node)], (Options.Pool2DOptions, options))


def _pad_for_max(lowering: Lowering, node: Node, source: int, amounts: tuple[int, int, int, int]) -> int:
    """Pad a map so that the padding never wins a maximum."""
    n, h, w, c = lowering.shape(node.inputs[0])
    maker = next((item for item in lowering.graph.nodes if node.inputs[0] in item.outputs), None)
    if maker is not None and isinstance(maker.op, (ops.Relu, ops.Relu6)):
        return lowering.pad_map(node, source, (n, h, w, c), amounts)[0]  # nothing is below zero
    top, bottom, left, right = amounts
    target = lowering.intermediate(node, "pad", (n, h + top + bottom, w + left + right, c))
    lowest = lowering.writer.constant(f"{node.name}/lowest", np.array([np.finfo(np.float32).min], np.float32))
    lowering.writer.operator(
        Code.PADV2,
        [source, lowering.writer.int32_matrix([(0, 0), (top, bottom), (left, right), (0, 0)]), lowest],
        [target],
        (Options.PadV2Options, schema.PadV2OptionsT()),
    )
    return target


def _write_global_average_pool(lowering: Lowering, node: Node, op: ops.GlobalAveragePool) -> None:
    del op
    options = schema.ReducerOptionsT()
    options.keepDims = True
    inputs = [lowering.input(node), lowering.writer.int32s((1, 2))]
    lowering.writer.operator(Code.MEAN, inputs, [lowering.output(node)], (Options.ReducerOptions, options))


def _write_resize_bilinear(lowering: Lowering, node: Node, op: ops.ResizeBilinear) -> None:
    options = schema.ResizeBilinearOptionsT()
    options.alignCorners = op.align_corners
    options.halfPixelCenters = not op.align_corners
    lowering.writer.operator(
        Code.RESIZE_BILINEAR,
        [lowering.input(node), lowering.writer.int32s(op.size)],
        [lowering.output(node)],
        (Options.ResizeBilinearOptions, options),
        version=1 if op.align_corners else 3,
    )


def _write_pad(lowering: Lowering, node: Node, op: ops.Pad) -> None:
    top, bottom, left, right = op.amounts
    lowering.pad(lowering.input(node), lowering.output(node), [(0, 0), (top, bottom), (left, right), (0, 0)])


def _write_softmax(lowering: Lowering, node: Node, op: ops.Softmax) -> None:
    del op
    options = schema.SoftmaxOptionsT()
    options.beta = 1.0
    inputs = [lowering.input(node)]
    lowering.writer.operator(Code.SOFTMAX, inputs, [lowering.output(node)], (Options.SoftmaxOptions, options))


def _write_argmax(lowering: Lowering, node: Node, op: ops.ArgMax) -> None:
    """Write ARG_MAX, which drops the axis, and a RESHAPE that brings it back."""
    del op
    shape = lowering.shape(node.outputs[0])
    axis = lowering.writer.int32s((len(shape) - 1,))
    dropped = lowering.writer.tensor(f"{node.name}/index", shape[:-1], np.int32)
    options = schema.ArgMaxOptionsT()
    options.outputType = schema.TensorType.INT32
    inputs = [lowering.input(node), axis]
    lowering.writer.operator(Code.ARG_MAX, inputs, [dropped], (Options.ArgMaxOptions, options))
    lowering.reshape(dropped, lowering.output(node, dtype=np.int32), shape)


_WRITERS: dict[type[ops.Op], Callable[[Lowering, Node, Any], None]] = {
    ops.Conv: tflite_conv.write_conv,
    ops.DepthwiseConv: tflite_conv.write_depthwise_conv,
    ops.TransposedConv: tflite_conv.write_transposed_conv,
    ops.BilinearUpsample: tflite_conv.write_bilinear_upsample,
    ops.FullyConnected: tflite_conv.write_fully_connected,
    ops.Relu: _write_activation(Code.RELU),
    ops.Relu6: _write_activation(Code.RELU6),
    ops.Add: _write_add,
    ops.Concat: _write_concat,
    ops.Split: _write_split,
    ops.ChannelShuffle: _write_channel_shuffle,
    ops.MaxPool: _write_pool,
    ops.AveragePool: _write_pool,
    ops.GlobalAveragePool: _write_global_average_pool,
    ops.ResizeBilinear: _write_resize_bilinear,
    ops.Pad: _write_pad,
    ops.Softmax: _write_softmax,
    ops.ArgMax: _write_argmax,
}


def write_node(lowering: Lowering, node: Node) -> None:
    """Append the operators of one node.

    Raises:
        ExportError: if the op has no TFLite form.
    """
    writer = _WRITERS.get(type(node.op))
    if writer is None:
        raise ExportError(f"op {node.op.kind!r} (node {node.name!r}) cannot be written as TFLite")
    writer(lowering, node, node.op)
