"""ncnn's layers as our ops, one function a kind. A layer that no op of ours can say is an ``UnknownError``."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from dfmobile.export.importers.base import FloatArray, is_bilinear
from dfmobile.export.importers.ncnn_param import NcnnLayer
from dfmobile.graph import Shape, ops
from dfmobile.graph.ops import Op, Pair

MAX_EXTENT = 65536


class UnknownError(Exception):
    """A layer that our ops cannot say; the message says why."""


Tensors = dict[str, FloatArray]
Converter = Callable[[NcnnLayer, list[Shape], Tensors], tuple[Op, Tensors]]


def _pair(layer: NcnnLayer, number: int, default: int) -> Pair:
    """Return (rows, columns) of a parameter whose second number is 10 above the first."""
    columns = layer.parameters.integer(number, default)
    return layer.parameters.integer(number + 10, columns), columns


def _window(layer: NcnnLayer) -> tuple[Pair, Pair, Pair]:
    parameters = layer.parameters
    kernel, dilation, stride, padding = (_pair(layer, *item) for item in ((1, 0), (2, 1), (3, 1), (4, 0)))
    others = parameters.integer(16, padding[0]), parameters.integer(15, padding[1])
    if dilation != (1, 1) or others != padding or min(padding) < 0 or parameters.real(18) != 0.0:
        raise UnknownError("only dilation 1 and symmetric zero padding are known")
    if min(*kernel, *stride) < 1 or max(*kernel, *stride, *padding) > MAX_EXTENT:
        raise UnknownError(f"kernel {kernel}, stride {stride} and padding {padding} make no window")
    return kernel, stride, padding


def _bias(weights: Tensors, outputs: int) -> FloatArray:
    # The deployed form has a bias everywhere; one that the file leaves out is zero.
    return weights.get("bias", np.zeros(max(0, min(outputs, weights["weight"].size)), np.float32))


def _convolution(layer: NcnnLayer, shapes: list[Shape], weights: Tensors) -> tuple[Op, Tensors]:
    kernel, stride, padding = _window(layer)
    outputs = layer.parameters.integer(0)
    groups = layer.parameters.integer(7, 1) if layer.type == "ConvolutionDepthWise" else 1
    if "weight" not in weights:
        raise UnknownError("its weights are another layer's output")
    tensors = {"weight": weights["weight"], "bias": _bias(weights, outputs)}
    if groups == 1:
        return ops.Conv(outputs, kernel, stride, padding, bias=True), tensors
    if groups != outputs or groups != shapes[0][1]:
        raise UnknownError(f"{groups} groups of {shapes[0][1]} channels are neither a conv nor a depthwise conv")
    return ops.DepthwiseConv(kernel, stride, padding, bias=True), tensors


def _transposed(layer: NcnnLayer, shapes: list[Shape], weights: Tensors) -> tuple[Op, Tensors]:
    kernel, stride, padding = _window(layer)
    parameters = layer.parameters
    outputs, channels = parameters.integer(0), shapes[0][1]
    # 18 and 19 add rows and columns, 20 and 21 name the output's size.
    if any(parameters.integer(number) for number in (18, 19, 20, 21)):
        raise UnknownError("a transposed conv of a given output size is not known")
    groups = parameters.integer(7, 1) if layer.type == "DeconvolutionDepthWise" else 1
    depthwise = groups != 1 or (layer.type == "DeconvolutionDepthWise" and channels == 1)
    weight, bias = weights["weight"], weights.get("bias")
    if depthwise:
        if groups != outputs or groups != channels or weight.size != channels * math.prod(kernel):
            raise UnknownError(f"{groups} groups of {channels} channels are no depthwise transposed conv")
        weight, scale = weight.reshape(channels, 1, *kernel), stride[0]
        window = (kernel, stride, padding) == ((2 * scale,) * 2, (scale,) * 2, (scale // 2,) * 2)
        if window and scale % 2 == 0 and bias is None and is_bilinear(weight, scale):
            return ops.BilinearUpsample(scale), {}
    elif weight.size == outputs * channels * math.prod(kernel) > 0:
        # ncnn keeps [out, in, kh, kw].
        weight = weight.reshape(outputs, channels, *kernel).transpose(1, 0, 2, 3)
    op = ops.TransposedConv(outputs, kernel, stride, padding, bias is not None, depthwise)
    return op, {"weight": weight, **({} if bias is None else {"bias": bias})}


def _fully_connected(layer: NcnnLayer, shapes: list[Shape], weights: Tensors) -> tuple[Op, Tensors]:
    del shapes
    outputs = layer.parameters.integer(0)
    return ops.FullyConnected(outputs), {"weight": weights["weight"], "bias": _bias(weights, outputs)}


def _pooling(layer: NcnnLayer, shapes: list[Shape], weights: Tensors) -> tuple[Op, Tensors]:
    del weights
    parameters = layer.parameters
    average = parameters.integer(0) == 1
    if parameters.integer(4):
        if not average:
            raise UnknownError("a global max pool is not known")
        return ops.GlobalAveragePool(), {}
    kernel, stride = _pair(layer, 1, 0), _pair(layer, 2, 1)
    padding = (parameters.integer(13, parameters.integer(3)), parameters.integer(3))
    ends = parameters.integer(15, padding[0]), parameters.integer(14, padding[1])
    if padding != ends or min(*kernel, *stride) < 1 or min(padding) < 0 or len(shapes[0]) != 4:
        raise UnknownError("only symmetric windows are known")
    mode = parameters.integer(5)
    sizes = zip(shapes[0][2:], kernel, stride, padding, strict=True)
    exact = all((extent + 2 * pad - window) % step == 0 for extent, window, step, pad in sizes)
    # Modes 2 and 3 choose their padding; mode 0 rounds up, which is ours where nothing is left over.
    if mode not in (0, 1) or (mode == 0 and not exact and not average and padding == (0, 0)):
        raise UnknownError(f"padding mode {mode} is not known")
    if mode == 0 and not exact:
        raise UnknownError("a window that reaches over the border is not known")
    return (ops.AveragePool if average else ops.MaxPool)(kernel, stride, padding), {}


def _interp(layer: NcnnLayer, shapes: list[Shape], weights: Tensors) -> tuple[Op, Tensors]:
    del weights
    parameters = layer.parameters
    kind = parameters.integer(0)
    if kind not in (1, 2) or len(shapes) != 1 or len(shapes[0]) != 4:
        raise UnknownError(f"resize type {kind} is not known")
    size = parameters.integer(3), parameters.integer(4)
    if size == (0, 0):
        scales = parameters.real(1, 1.0), parameters.real(2, 1.0)
        if not all(math.isfinite(scale) and 0 < scale < MAX_EXTENT for scale in scales):
            raise UnknownError(f"a resize by {scales} is not known")
        size = int(shapes[0][2] * scales[0]), int(shapes[0][3] * scales[1])
    if not 0 < min(size) <= max(size) <= MAX_EXTENT:
        raise UnknownError(f"a resize to {size} is not known")
    # A nearest resize that only repeats a row or column is what a bilinear one does, too.
    if kind == 1 and any(old not in (1, new) for old, new in zip(shapes[0][2:], size, strict=True)):
        raise UnknownError("a nearest resize is not known")
    return ops.ResizeBilinear(size, align_corners=parameters.integer(6) == 1), {}


def _relu(layer: NcnnLayer, shapes: list[Shape], weights: Tensors) -> tuple[Op, Tensors]:
    del shapes, weights
    if layer.parameters.real(0) != 0.0:
        raise UnknownError("a leaky ReLU is not known")
    return ops.Relu(), {}


def _clip(layer: NcnnLayer, shapes: list[Shape], weights: Tensors) -> tuple[Op, Tensors]:
    del shapes, weights
    if (layer.parameters.real(0, -math.inf), layer.parameters.real(1, math.inf)) != (0.0, 6.0):
        raise UnknownError("only a clip to 0 and 6 is known")
    return ops.Relu6(), {}


def _slice(layer: NcnnLayer, shapes: list[Shape], weights: Tensors) -> tuple[Op, Tensors]:
    del weights
    sizes, left, count = [], shapes[0][1], len(layer.tops)
    given = layer.parameters.integers(0)
    if layer.parameters.integer(1) != 0 or (given and len(given) != count):
        raise UnknownError("only a slice of channels is known")
    for position in range(count):
        size = given[position] if given else -233
        size = left // (count - position) if size == -233 else size
        sizes.append(size)
        left -= size
    return ops.Split(tuple(sizes)), {}


def _axis_0(op: Op) -> Converter:
    def convert(layer: NcnnLayer, shapes: list[Shape], weights: Tensors) -> tuple[Op, Tensors]:
        del shapes, weights
        if layer.parameters.integer(0) != 0:
            raise UnknownError("only the axis of the channels is known")
        return op, {}

    return convert


def _sum(layer: NcnnLayer, shapes: list[Shape], weights: Tensors) -> tuple[Op, Tensors]:
    del shapes, weights
    plain = layer.parameters.integer(0) == (1 if layer.type == "Eltwise" else 0)
    scaled = layer.parameters.integers(1) if layer.type == "Eltwise" else layer.parameters.integer(1)
    if not plain or scaled or len(layer.bottoms) != 2:
        raise UnknownError("only the sum of two maps is known")
    return ops.Add(), {}


def _shuffle(layer: NcnnLayer, shapes: list[Shape], weights: Tensors) -> tuple[Op, Tensors]:
    del weights
    groups = layer.parameters.integer(0, 1)
    if layer.parameters.integer(1) and groups > 0:
        groups = shapes[0][1] // groups  # the inverse of a shuffle is one
    return ops.ChannelShuffle(groups), {}


CONVERTERS: dict[str, Converter] = {
    "Convolution": _convolution,
    "ConvolutionDepthWise": _convolution,
    "Deconvolution": _transposed,
    "DeconvolutionDepthWise": _transposed,
    "InnerProduct": _fully_connected,
    "Pooling": _pooling,
    "Interp": _interp,
    "ReLU": _relu,
    "Clip": _clip,
    "Slice": _slice,
    "Concat": _axis_0(ops.Concat()),
    "Softmax": _axis_0(ops.Softmax()),
    "Eltwise": _sum,
    "BinaryOp": _sum,
    "ShuffleChannel": _shuffle,
}
