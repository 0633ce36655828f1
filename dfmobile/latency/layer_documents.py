"""Op graphs of layer documents: JSON descriptions of networks, layer by layer, that stand beside recorded logs.

A document has ``name``, ``input_shape`` ``[N, C, H, W]`` and ``layers`` in execution order, each with ``name``,
``op`` (conv, deconv, add, concat, avgpool, interp, fc, softmax, argmax), ``inputs`` (``data`` is the image) and the
op's attributes. Untrusted input: what is missing or does not fit is refused.
"""

from __future__ import annotations

import os
from typing import Any

from dfmobile.errors import FileFormatError, GraphError
from dfmobile.files import read_json
from dfmobile.graph import Graph, GraphBuilder, ops

MAX_LAYERS = 10_000
_MAX_EXTENT = 1_000_000


def layer_document(path: str | os.PathLike[str]) -> tuple[str, Graph]:
    """Read a layer document.

    Returns:
        The network's name and its op graph in the deployed form (batch norm folded into biases), up to what was
        timed (``timed_outputs``, where the document names them). A conv's or an add's ReLU is a node of its own,
        ``<name>/relu``.

    Raises:
        StorageError: if it cannot be read.
        FileFormatError: if it is no layer document, or something does not fit.
    """
    origin = os.fspath(path)
    document = read_json(path, 16 * 2**20)
    try:
        name, layers = document["name"], document["layers"]
        timed = document.get("timed_outputs") or []
        shape = tuple(_count(extent) for extent in document["input_shape"])
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise FileFormatError(f"{origin} is not a layer document: {error}", hint=_HINT) from error
    named = isinstance(name, str) and 0 < len(name) <= 200 and name.isprintable()
    if not named or len(shape) != 4 or not isinstance(layers, list) or not 0 < len(layers) <= MAX_LAYERS:
        raise FileFormatError(f"{origin} is not a layer document: name, input shape or layers", hint=_HINT)
    builder = GraphBuilder()
    values = {"data": builder.input("data", shape)}
    last = "data"
    for number, layer in enumerate(layers):
        try:
            last = _emit(builder, layer, values)
            values[layer["name"]] = last
            expected = [_count(extent) for extent in layer["out_shape"]]
        except (TypeError, KeyError, ValueError, AttributeError, GraphError) as error:
            raise FileFormatError(f"{origin}: layer {number} cannot be: {error}", hint=_HINT) from error
        if list(builder.shape(last)[1:]) != expected:
            raise FileFormatError(f"{origin}: layer {number} makes {list(builder.shape(last)[1:])}, not {expected}")
        if layer["name"] in timed:
            break
    return name, builder.build(last)


_HINT = "give the JSON that describes the network layer by layer"


def _count(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value <= _MAX_EXTENT:
        raise ValueError(f"{str(value)[:20]} is no extent")
    return value


def _emit(builder: GraphBuilder, layer: dict[str, Any], values: dict[str, str]) -> str:
    """Append a layer and return the value that later layers read."""
    name, inputs = str(layer["name"]), [values[item] for item in layer["inputs"]]
    made = builder.add_op(_op(layer, builder, inputs), *inputs, name=name)[0]
    return builder.relu(made, f"{name}/relu") if layer.get("relu") else made


def _op(layer: dict[str, Any], builder: GraphBuilder, inputs: list[str]) -> ops.Op:
    kind = layer["op"]
    if kind == "add":
        return ops.Add()
    if kind == "concat":
        return ops.Concat()
    if kind == "softmax":
        return ops.Softmax()
    if kind == "argmax":
        return ops.ArgMax()
    if kind == "fc":
        return ops.FullyConnected(_count(layer["out_features"]), bias=True)
    if kind == "interp":
        height, width = layer["size"]
        return ops.ResizeBilinear((_count(height), _count(width)), align_corners=bool(layer["align_corners"]))
    kernel = _count(layer["kernel"])
    if kind == "avgpool" and not layer["pad"]:
        stride = _count(layer["stride"])
        return ops.AveragePool((kernel, kernel), (stride, stride))
    if kind in ("conv", "deconv"):
        channels = builder.shape(inputs[0])[1]
        return conv_op(
            transposed=kind == "deconv",
            kernel=kernel,
            stride=_count(layer["stride"]),
            padding=int(layer["pad"]),
            groups=_count(layer["groups"]),
            in_channels=channels,
            out_channels=_count(layer["out_channels"]),
            bias=bool(layer["bias"]) or layer.get("bn") is not None,
            fixed=bool(layer.get("fixed")),
        )
    raise ValueError(f"unknown op {str(kind)[:40]!r}")


def conv_op(
    *,
    transposed: bool,
    kernel: int,
    stride: int,
    padding: int,
    groups: int,
    in_channels: int,
    out_channels: int,
    bias: bool,
    fixed: bool,
) -> ops.Op:
    """Return the op of a conv or deconv layer.

    Args:
        transposed: a deconv.
        kernel: pixels, square.
        stride: pixels.
        padding: pixels on each side.
        groups: 1, or one a channel.
        in_channels: of the input.
        out_channels: of the output.
        bias: of the deployed form.
        fixed: the weights are a fixed bilinear kernel.

    Raises:
        ValueError: if no op is like that.
    """
    pairs = ((kernel, kernel), (stride, stride), (padding, padding))
    depthwise = groups == in_channels == out_channels and groups > 1
    if groups != 1 and not depthwise:
        raise ValueError(f"{groups} groups for {in_channels} to {out_channels} channels")
    if not transposed:
        return ops.DepthwiseConv(*pairs, bias) if depthwise else ops.Conv(out_channels, *pairs, bias)
    if fixed:
        if not depthwise or kernel != 2 * stride or 2 * padding != stride:
            raise ValueError(f"no bilinear kernel is {kernel} wide at stride {stride}")
        return ops.BilinearUpsample(stride)
    return ops.TransposedConv(out_channels, *pairs, bias, depthwise)
