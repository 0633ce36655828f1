"""An ncnn network as an op graph with weights. What our ops cannot say is left out, with the reason why."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from dfmobile.errors import GraphError
from dfmobile.export.importers.base import FloatArray, one_line
from dfmobile.export.importers.ncnn_bin import CONVOLUTIONS
from dfmobile.export.importers.ncnn_ops import CONVERTERS, MAX_EXTENT, Tensors, UnknownError
from dfmobile.export.importers.ncnn_param import NcnnLayer
from dfmobile.graph import Graph, GraphBuilder, Shape, Weights, ops
from dfmobile.graph.ops import Op

_PASSING = ("Split", "Noop", "Dropout", "DeepCopy")


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
            raise UnknownError(str(error)) from error
        for role, parameter in expected.items():
            if weights[role].size != parameter.size:
                raise UnknownError(f"its {role} has {weights[role].size} values, not {parameter.size}")
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
        except (UnknownError, GraphError) as reason:
            left_out[layer.name] = one_line(reason, 200)
    read = {name for node in work.builder.nodes for name in node.inputs}
    ends = [name for node in work.builder.nodes for name in node.outputs if name not in read]
    return NcnnGraph(work.builder.build(*ends), work.weights, left_out, work.merged)


def _append(work: _Conversion, layer: NcnnLayer, weights: dict[str, FloatArray], input_shape: Shape) -> None:
    unread = [blob for blob in layer.bottoms if blob not in work.values]
    if unread:
        raise UnknownError(f"it reads blob {one_line(unread[0], 40)}, which is not known")
    inputs = [work.values[blob] for blob in layer.bottoms]
    outputs = _convert(work, layer, inputs, weights, input_shape)
    if len(outputs) != len(layer.tops):
        raise UnknownError(f"it writes {len(layer.tops)} blobs")
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
        if max(shape) > MAX_EXTENT:
            raise UnknownError(f"its input is {list(shape)}")
        return (work.builder.input(f"input:{layer.name}", shape),)
    if not inputs:
        raise UnknownError(f"a layer {one_line(layer.type, 40)} without inputs is not known")
    if layer.type in _PASSING:
        if parameters.real(0, 1.0) != 1.0 and layer.type == "Dropout":
            raise UnknownError("a dropout that scales is not known")
        return (inputs[0],) * len(layer.tops)
    if layer.type == "Flatten":
        if work.builder.shape(inputs[0])[2:] not in ((), (1, 1)):
            raise UnknownError("a flatten of a map is not known")
        return (inputs[0],)
    if layer.type in ("BatchNorm", "Scale"):
        return _norm(work, layer, inputs, weights)
    found = CONVERTERS.get(layer.type)
    if found is None:
        raise UnknownError(f"type {one_line(layer.type, 40)} is not known")
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
    raise UnknownError(f"its activation {kind} is not known")


def _norm(work: _Conversion, layer: NcnnLayer, inputs: list[str], weights: Tensors) -> tuple[str, ...]:
    """Append a batch norm; a scale behind one (Caffe's two layers) is multiplied into it."""
    if layer.type == "BatchNorm":
        epsilon = layer.parameters.real(1)
        if not (math.isfinite(epsilon) and epsilon >= 0.0):
            raise UnknownError(f"its epsilon is {epsilon}")
        if not (weights["variance"].astype(np.float64) + epsilon > 0).all():
            raise UnknownError("its variances are not above 0")
        outputs = work.emit(layer, ops.BatchNorm(epsilon), inputs, **weights)
        work.norms[outputs[0]] = layer.name
        return outputs
    before = work.norms.get(inputs[0])
    if before is None or len(inputs) != 1 or "scale" not in weights:
        raise UnknownError("a scale is known behind a batch norm only")
    scale = weights["scale"]
    shift = weights.get("shift", np.zeros_like(scale))
    own = work.weights
    if scale.shape != own[f"{before}.scale"].shape:
        raise UnknownError(f"it scales {scale.size} channels")
    own[f"{before}.shift"] = own[f"{before}.shift"] * scale + shift
    own[f"{before}.scale"] = own[f"{before}.scale"] * scale
    work.merged[layer.name] = before
    return (inputs[0],)
