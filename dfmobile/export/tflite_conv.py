"""TFLite operators of the weighted ops: convolutions, transposed convolutions, fully connected."""

from __future__ import annotations

from typing import Any

from ai_edge_litert import schema_py_generated as schema

from dfmobile.export.tflite_lowering import NONE, SAME, VALID, Code, Lowering, Options
from dfmobile.graph import Node, ops


def write_conv(lowering: Lowering, node: Node, op: ops.Conv) -> None:
    """CONV_2D; weight OIHW to OHWI."""
    padding, amounts = lowering.window_padding(op, lowering.shape(node.inputs[0]))
    source, _ = lowering.pad_map(node, lowering.input(node), lowering.shape(node.inputs[0]), amounts)
    weight = lowering.weight(node, "weight", (0, 2, 3, 1))
    bias = lowering.bias(node, op.out_channels, op.bias)
    options = schema.Conv2DOptionsT()
    options.padding = padding
    options.strideH, options.strideW = op.stride
    options.fusedActivationFunction = lowering.activation(node)
    _append(lowering, node, Code.CONV_2D, [source, weight, bias], (Options.Conv2DOptions, options))


def write_depthwise_conv(lowering: Lowering, node: Node, op: ops.DepthwiseConv) -> None:
    """DEPTHWISE_CONV_2D; weight [C, 1, kh, kw] to [1, kh, kw, C]."""
    shape = lowering.shape(node.inputs[0])
    padding, amounts = lowering.window_padding(op, shape)
    source, _ = lowering.pad_map(node, lowering.input(node), shape, amounts)
    weight = lowering.weight(node, "weight", (1, 2, 3, 0))
    bias = lowering.bias(node, shape[3], op.bias)
    options = _depthwise_options(padding, op.stride, lowering.activation(node))
    inputs = [source, weight, bias]
    _append(lowering, node, Code.DEPTHWISE_CONV_2D, inputs, (Options.DepthwiseConv2DOptions, options))


def write_fully_connected(lowering: Lowering, node: Node, op: ops.FullyConnected) -> None:
    """FULLY_CONNECTED; it flattens ``[N, 1, 1, C]`` itself."""
    options = schema.FullyConnectedOptionsT()
    options.fusedActivationFunction = lowering.activation(node)
    bias = lowering.bias(node, op.out_features, op.bias)
    inputs = [lowering.input(node), lowering.weight(node, "weight"), bias]
    _append(lowering, node, Code.FULLY_CONNECTED, inputs, (Options.FullyConnectedOptions, options))


def write_transposed_conv(lowering: Lowering, node: Node, op: ops.TransposedConv) -> None:
    """TRANSPOSE_CONV, cropped by a SLICE where its padding is neither VALID's nor SAME's."""
    if op.depthwise:
        _write_depthwise_transposed_conv(lowering, node, op)
        return
    n, h, w, _ = lowering.shape(node.inputs[0])
    # SAME means: the result has in·stride extents at most, and the padding is symmetric by construction.
    same = all(0 < k - 2 * p <= s for k, s, p in zip(op.kernel, op.stride, op.padding, strict=True))
    whole = (n, (h - 1) * op.stride[0] + op.kernel[0], (w - 1) * op.stride[1] + op.kernel[1], op.out_channels)
    result = lowering.shape(node.outputs[0])
    cropped = not same and whole != result
    target = lowering.intermediate(node, "whole", whole) if cropped else lowering.output(node)
    # Weight IOHW to OHWI.
    weight = lowering.weight(node, "weight", (1, 2, 3, 0))
    inputs = [lowering.writer.int32s(whole if cropped else result), weight, lowering.input(node)]
    if op.bias:
        inputs.append(lowering.weight(node, "bias"))
    options = schema.TransposeConvOptionsT()
    options.padding = SAME if same else VALID
    options.strideH, options.strideW = op.stride
    lowering.writer.operator(
        Code.TRANSPOSE_CONV, inputs, [target], (Options.TransposeConvOptions, options), version=3 if op.bias else 1
    )
    if cropped:
        lowering.slice(target, lowering.output(node), (0, *op.padding, 0), result)


def _write_depthwise_transposed_conv(lowering: Lowering, node: Node, op: ops.TransposedConv) -> None:
    """Stuff zeros between the pixels, then DEPTHWISE_CONV_2D with the kernel turned by 180 degrees.

    TFLite has no depthwise transposed conv. Zero stuffing costs stride² times the multiplications, a full
    transposed conv with block-diagonal weights would cost C times as many, one op a channel costs far more.
    Stuffing is a 4-D PAD: ``[N·H, 1, W, C]`` gets ``stride - 1`` rows after each row and ``(stride - 1)·C``
    zeros after each pixel.
    """
    n, h, w, c = lowering.shape(node.inputs[0])
    rows, columns = op.stride
    stuffed = (n, h * rows, w * columns, c)
    source = lowering.input(node)
    if op.stride != (1, 1):
        folded = lowering.intermediate(node, "rows", (n * h, 1, w, c))
        lowering.reshape(source, folded, (n * h, 1, w, c))
        padded = lowering.intermediate(node, "zeros", (n * h, rows, w, columns * c))
        lowering.pad(folded, padded, [(0, 0), (0, rows - 1), (0, 0), (0, (columns - 1) * c)])
        source = lowering.intermediate(node, "stuffed", stuffed)
        lowering.reshape(padded, source, stuffed)

    amounts: list[int] = []  # before, after of each axis; negative: crop
    for kernel, stride, padding in zip(op.kernel, op.stride, op.padding, strict=True):
        amounts += [kernel - 1 - padding, kernel - stride - padding]
    top, bottom, left, right = (max(0, amount) for amount in amounts)
    source, shape = lowering.pad_map(node, source, stuffed, (top, bottom, left, right))
    if min(amounts) < 0:
        crop_top, crop_bottom, crop_left, crop_right = (max(0, -amount) for amount in amounts)
        size = (n, shape[1] - crop_top - crop_bottom, shape[2] - crop_left - crop_right, c)
        target = lowering.intermediate(node, "crop", size)
        lowering.slice(source, target, (0, crop_top, crop_left, 0), size)
        source = target
    turned = lowering.weights[f"{node.name}.weight"][:, :, ::-1, ::-1].transpose(1, 2, 3, 0)
    weight = lowering.parameter(f"{node.name}.weight", turned)
    bias = lowering.bias(node, c, op.bias)
    options = _depthwise_options(VALID, (1, 1), NONE)
    inputs = [source, weight, bias]
    _append(lowering, node, Code.DEPTHWISE_CONV_2D, inputs, (Options.DepthwiseConv2DOptions, options))


def write_bilinear_upsample(lowering: Lowering, node: Node, op: ops.BilinearUpsample) -> None:
    """PAD 1 + RESIZE_BILINEAR (half-pixel) to s·(n+2) + SLICE of the middle.

    The fixed bilinear transposed conv reads zeros outside the map; a half-pixel resize of the map with one ring
    of zeros reads the same values with the same weights everywhere but in that ring.
    """
    n, h, w, c = lowering.shape(node.inputs[0])
    scale = op.scale
    source, _ = lowering.pad_map(node, lowering.input(node), (n, h, w, c), (1, 1, 1, 1))
    size = (scale * (h + 2), scale * (w + 2))
    resized = lowering.intermediate(node, "resize", (n, *size, c))
    options = schema.ResizeBilinearOptionsT()
    options.halfPixelCenters = True
    lowering.writer.operator(
        Code.RESIZE_BILINEAR,
        [source, lowering.writer.int32s(size)],
        [resized],
        (Options.ResizeBilinearOptions, options),
        version=3,
    )
    lowering.slice(resized, lowering.output(node), (0, scale, scale, 0), (n, h * scale, w * scale, c))


def _depthwise_options(padding: int, stride: tuple[int, int], activation: int) -> Any:
    options = schema.DepthwiseConv2DOptionsT()
    options.padding = padding
    options.strideH, options.strideW = stride
    options.depthMultiplier = 1
    options.fusedActivationFunction = activation
    return options


def _append(lowering: Lowering, node: Node, code: int, inputs: list[int], options: tuple[int, Any]) -> None:
    lowering.writer.operator(code, inputs, [lowering.output(node)], options)


__all__ = [
    "write_bilinear_upsample",
    "write_conv",
    "write_depthwise_conv",
    "write_fully_connected",
    "write_transposed_conv",
]
