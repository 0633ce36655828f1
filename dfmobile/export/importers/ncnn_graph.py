"""An ncnn network as an op graph with weights. What our ops cannot say is left out, with the reason why."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from dfmobile.errors import GraphError
from dfmobile.export.importers.base import FloatArray, is_bilinear, one_line
from dfmobile.export.importers.ncnn_bin import CONVOLUTIONS
from dfmobile.export.importers.ncnn_param import NcnnLayer
from dfmobile.graph import Graph, GraphBuilder, Shape, Weights, ops
from dfmobile.graph.ops import Op, Pair

_PASSING = ("Split", "Noop", "Dropout", "DeepCopy")
_MAX_EXTENT = 65536


class _UnknownError(Exception):
    """A layer that our ops cannot say."""


@dataclass
class NcnnGraph:
    """What could be read of an ncnn network.

    Attributes:
        graph: the layers that our ops can say, under their names in the file; every end of it is an output.
        weights: of ``graph``.
        left_out: why each other layer is not in it, by name.
        merged: by name of a scale, the batch norm that it was multiplied into.
    """

    graph: Graph
    weights: Weights
    left_out: dict[str, str]
    merged: dict[str, str]


@dataclass
class _Conversion:
    builder: GraphBuilder
    weights: Weights = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=dict)  # value of each blob that is known
    merged: dict[str, str] = field(default_factory=dict)
    norms: dict[str, str] = field(default_factory=dict)  # name of each batch norm that nothing read yet, by its value

    def emit(self, layer: NcnnLayer, op: Op, inputs: list[str], **weights: FloatArray) -> tuple[str, ...]:
        shapes = tuple(self.builder.shape(value) for value in inputs)
        try:
            expected = op.parameters(shapes) if op.arity in (None, len(inputs)) else {}
            op.infer(shapes)
        except (GraphError, IndexError, ValueError) as error:
            raise _UnknownError(str(error)) from error
        for role, parameter in expected.items():
            if weights[role].size != parameter.size:
                raise _UnknownError(f"its {role} has {weights[role].size} values, not {parameter.size}")
        outputs = self.builder.add_op(op, *inputs, name=layer.name)
        for value in inputs:
            self.norms.pop(value, None)
        for role, parameter in expected.items():
            self.weights[f"{layer.name}.{role}"] = weights[role].reshape(parameter.shape)
        return outputs


def ncnn_graph(layers: list[NcnnLayer], weights: list[dict[str, FloatArray]], input_shape: Shape) -> NcnnGraph:
    """Return an ncnn network as an op graph.

    Args:
        layers: of the param file.
        weights: of each layer, as ``read_bin`` gives them.
        input_shape: ``[1, C, H, W]`` of the image, where the file does not say.

    Raises:
        GraphError: if the file has no image input, or nothing of it can be said.
    """
    work = _Conversion(GraphBuilder())
    left_out: dict[str, str] = {}
    for layer, own in zip(layers, weights, strict=True):
        try:
            _append(work, layer, own, input_shape)
        except (_UnknownError, GraphError) as reason:
            left_out[layer.name] = one_line(reason, 200)
    read = {name for node in work.builder.nodes for name in node.inputs}
    ends = [name for node in work.builder.nodes for name in node.outputs if name not in read]
    return NcnnGraph(work.builder.build(*ends), work.weights, left_out, work.merged)


def _append(work: _Conversion, layer: NcnnLayer, weights: dict[str, FloatArray], input_shape: Shape) -> None:
    unread = [blob for blob in layer.bottoms if blob not in work.values]
    if unread:
        raise _UnknownError(f"it reads blob {one_line(unread[0], 40)}, which is not known")
    inputs = [work.values[blob] for blob in layer.bottoms]
    outputs = _convert(work, layer, inputs, weights, input_shape)
    if len(outputs) != len(layer.tops):
        raise _UnknownError(f"it writes {len(layer.tops)} blobs")
    work.values.update(zip(layer.tops, outputs, strict=True))


def input_size(layers: list[NcnnLayer]) -> tuple[int, int] | None:
    """Return (width, height) of the image that a file was written for; None where it does not say."""
    for layer in layers:
        if layer.type == "Input":
            width, height = layer.parameters.integer(0), layer.parameters.integer(1)
            return (width, height) if width > 0 and height > 0 else None
    return None


def _convert(
    work: _Conversion, layer: NcnnLayer, inputs: list[str], weights: dict[str, FloatArray], input_shape: Shape
) -> tuple[str, ...]:
    parameters = layer.parameters
    if layer.type == "Input":
        width, height, channels = (parameters.integer(number) for number in (0, 1, 2))
        shape = (1, channels, height, width) if min(width, height, channels) > 0 else input_shape
        if max(shape) > _MAX_EXTENT:
            raise _UnknownError(f"its input is {list(shape)}")
        return (work.builder.input(f"input:{layer.name}", shape),)
    if not inputs:
        raise _UnknownError(f"a layer {one_line(layer.type, 40)} without inputs is not known")
    if layer.type in _PASSING:
        if parameters.real(0, 1.0) != 1.0 and layer.type == "Dropout":
            raise _UnknownError("a dropout that scales is not known")
        return (inputs[0],) * len(layer.tops)
    if layer.type == "Flatten":
        if work.builder.shape(inputs[0])[2:] not in ((), (1, 1)):
            raise _UnknownError("a flatten of a map is not known")
        return (inputs[0],)
    if layer.type in ("BatchNorm", "Scale"):
        return _norm(work, layer, inputs, weights)
    found = _CONVERTERS.get(layer.type)
    if found is None:
        raise _UnknownError(f"type {one_line(layer.type, 40)} is not known")
    op, tensors = found(layer, [work.builder.shape(value) for value in inputs], weights)
    outputs = work.emit(layer, op, inputs, **tensors)
    return _activated(work, layer, outputs)


def _activated(work: _Conversion, layer: NcnnLayer, outputs: tuple[str, ...]) -> tuple[str, ...]:
    """Append the activation that newer files keep in the layer itself."""
    kind = layer.parameters.integer(9) if layer.type in (*CONVOLUTIONS, "InnerProduct") else 0
    if kind == 0:
        return outputs
    if kind == 1:
        return work.builder.add_op(ops.Relu(), outputs[0], name=f"{layer.name}/activation")
    raise _UnknownError(f"its activation {kind} is not known")


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
        raise _UnknownError("only dilation 1 and symmetric zero padding are known")
    if min(*kernel, *stride) < 1 or max(*kernel, *stride, *padding) > _MAX_EXTENT:
        raise _UnknownError(f"kernel {kernel}, stride {stride} and padding {padding} make no window")
    return kernel, stride, padding


def _bias(weights: Tensors, outputs: int) -> FloatArray:
    # The deployed form has a bias everywhere; one that the file leaves out is zero.
    return weights.get("bias", np.zeros(max(0, min(outputs, weights["weight"].size)), np.float32))


def _convolution(layer: NcnnLayer, shapes: list[Shape], weights: Tensors) -> tuple[Op, Tensors]:
    kernel, stride, padding = _window(layer)
    outputs = layer.parameters.integer(0)
    groups = layer.parameters.integer(7, 1) if layer.type == "ConvolutionDepthWise" else 1
    if "weight" not in weights:
        raise _UnknownError("its weights are another layer's output")
    tensors = {"weight": weights["weight"], "bias": _bias(weights, outputs)}
    if groups == 1:
        return ops.Conv(outputs, kernel, stride, padding, bias=True), tensors
    if groups != outputs or groups != shapes[0][1]:
        raise _UnknownError(f"{groups} groups of {shapes[0][1]} channels are neither a conv nor a depthwise conv")
    return ops.DepthwiseConv(kernel, stride, padding, bias=True), tensors


def _transposed(layer: NcnnLayer, shapes: list[Shape], weights: Tensors) -> tuple[Op, Tensors]:
    kernel, stride, padding = _window(layer)
    parameters = layer.parameters
    outputs, channels = parameters.integer(0), shapes[0][1]
    # 18 and 19 add rows and columns, 20 and 21 name the output's size.
    if any(parameters.integer(number) for number in (18, 19, 20, 21)):
        raise _UnknownError("a transposed conv of a given output size is not known")
    groups = parameters.integer(7, 1) if layer.type == "DeconvolutionDepthWise" else 1
    depthwise = groups != 1 or (layer.type == "DeconvolutionDepthWise" and channels == 1)
    weight, bias = weights["weight"], weights.get("bias")
    if depthwise:
        if groups != outputs or groups != channels or weight.size != channels * math.prod(kernel):
            raise _UnknownError(f"{groups} groups of {channels} channels are no depthwise transposed conv")
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
            raise _UnknownError("a global max pool is not known")
        return ops.GlobalAveragePool(), {}
    kernel, stride = _pair(layer, 1, 0), _pair(layer, 2, 1)
    padding = (parameters.integer(13, parameters.integer(3)), parameters.integer(3))
    ends = parameters.integer(15, padding[0]), parameters.integer(14, padding[1])
    if padding != ends or min(*kernel, *stride) < 1 or min(padding) < 0 or len(shapes[0]) != 4:
        raise _UnknownError("only symmetric windows are known")
    mode = parameters.integer(5)
    sizes = zip(shapes[0][2:], kernel, stride, padding, strict=True)
    exact = all((extent + 2 * pad - window) % step == 0 for extent, window, step, pad in sizes)
    # Modes 2 and 3 choose their padding; mode 0 rounds up, which is ours where nothing is left over.
    if mode not in (0, 1) or (mode == 0 and not exact and not average and padding == (0, 0)):
        raise _UnknownError(f"padding mode {mode} is not known")
    if mode == 0 and not exact:
        raise _UnknownError("a window that reaches over the border is not known")
    return (ops.AveragePool if average else ops.MaxPool)(kernel, stride, padding), {}


def _interp(layer: NcnnLayer, shapes: list[Shape], weights: Tensors) -> tuple[Op, Tensors]:
    del weights
    parameters = layer.parameters
    kind = parameters.integer(0)
    if kind not in (1, 2) or len(shapes) != 1 or len(shapes[0]) != 4:
        raise _UnknownError(f"resize type {kind} is not known")
    size = parameters.integer(3), parameters.integer(4)
    if size == (0, 0):
        scales = parameters.real(1, 1.0), parameters.real(2, 1.0)
        if not all(math.isfinite(scale) and 0 < scale < _MAX_EXTENT for scale in scales):
            raise _UnknownError(f"a resize by {scales} is not known")
        size = int(shapes[0][2] * scales[0]), int(shapes[0][3] * scales[1])
    if not 0 < min(size) <= max(size) <= _MAX_EXTENT:
        raise _UnknownError(f"a resize to {size} is not known")
    # A nearest resize that only repeats a row or column is what a bilinear one does, too.
    if kind == 1 and any(old not in (1, new) for old, new in zip(shapes[0][2:], size, strict=True)):
        raise _UnknownError("a nearest resize is not known")
    return ops.ResizeBilinear(size, align_corners=parameters.integer(6) == 1), {}


def _relu(layer: NcnnLayer, shapes: list[Shape], weights: Tensors) -> tuple[Op, Tensors]:
    del shapes, weights
    if layer.parameters.real(0) != 0.0:
        raise _UnknownError("a leaky ReLU is not known")
    return ops.Relu(), {}


def _clip(layer: NcnnLayer, shapes: list[Shape], weights: Tensors) -> tuple[Op, Tensors]:
    del shapes, weights
    if (layer.parameters.real(0, -math.inf), layer.parameters.real(1, math.inf)) != (0.0, 6.0):
        raise _UnknownError("only a clip to 0 and 6 is known")
    return ops.Relu6(), {}


def _slice(layer: NcnnLayer, shapes: list[Shape], weights: Tensors) -> tuple[Op, Tensors]:
    del weights
    sizes, left, count = [], shapes[0][1], len(layer.tops)
    given = layer.parameters.integers(0)
    if layer.parameters.integer(1) != 0 or (given and len(given) != count):
        raise _UnknownError("only a slice of channels is known")
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
            raise _UnknownError("only the axis of the channels is known")
        return op, {}

    return convert


def _sum(layer: NcnnLayer, shapes: list[Shape], weights: Tensors) -> tuple[Op, Tensors]:
    del shapes, weights
    plain = layer.parameters.integer(0) == (1 if layer.type == "Eltwise" else 0)
    scaled = layer.parameters.integers(1) if layer.type == "Eltwise" else layer.parameters.integer(1)
    if not plain or scaled or len(layer.bottoms) != 2:
        raise _UnknownError("only the sum of two maps is known")
    return ops.Add(), {}


def _shuffle(layer: NcnnLayer, shapes: list[Shape], weights: Tensors) -> tuple[Op, Tensors]:
    del weights
    groups = layer.parameters.integer(0, 1)
    if layer.parameters.integer(1) and groups > 0:
        groups = shapes[0][1] // groups  # the inverse of a shuffle is one
    return ops.ChannelShuffle(groups), {}


_CONVERTERS: dict[str, Converter] = {
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


def _norm(work: _Conversion, layer: NcnnLayer, inputs: list[str], weights: Tensors) -> tuple[str, ...]:
    """Append a batch norm; a scale behind one (Caffe's two layers) is multiplied into it."""
    if layer.type == "BatchNorm":
        epsilon = layer.parameters.real(1)
        if not (math.isfinite(epsilon) and epsilon >= 0.0):
            raise _UnknownError(f"its epsilon is {epsilon}")
        if not (weights["variance"].astype(np.float64) + epsilon > 0).all():
            raise _UnknownError("its variances are not above 0")
        outputs = work.emit(layer, ops.BatchNorm(epsilon), inputs, **weights)
        work.norms[outputs[0]] = layer.name
        return outputs
    before = work.norms.get(inputs[0])
    if before is None or len(inputs) != 1 or "scale" not in weights:
        raise _UnknownError("a scale is known behind a batch norm only")
    scale = weights["scale"]
    shift = weights.get("shift", np.zeros_like(scale))
    own = work.weights
    if scale.shape != own[f"{before}.scale"].shape:
        raise _UnknownError(f"it scales {scale.size} channels")
    own[f"{before}.shift"] = own[f"{before}.shift"] * scale + shift
    own[f"{before}.scale"] = own[f"{before}.scale"] * scale
    work.merged[layer.name] = before
    return (inputs[0],)
