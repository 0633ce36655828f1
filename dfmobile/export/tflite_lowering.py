"""What all TFLite op writers share: values in NHWC, fused activations, padding and cropping."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from dfmobile.errors import ExportError
from dfmobile.export.tflite_writer import TFLiteWriter
from dfmobile.graph import Graph, Node, ops
from dfmobile.graph.ops import Pair, Shape

Code = schema.BuiltinOperator
Options = schema.BuiltinOptions
SAME, VALID = schema.Padding.SAME, schema.Padding.VALID
NONE = schema.ActivationFunctionType.NONE

ACTIVATIONS: dict[type[ops.Op], int] = {
    ops.Relu: schema.ActivationFunctionType.RELU,
    ops.Relu6: schema.ActivationFunctionType.RELU6,
}
# Ops whose TFLite operators carry a fused activation that XNNPACK takes.
FUSES_ACTIVATION = (
    ops.Conv,
    ops.DepthwiseConv,
    ops.FullyConnected,
    ops.Add,
    ops.MaxPool,
    ops.AveragePool,
)


def nhwc(shape: Shape) -> Shape:
    """Return the NHWC form of ``[N, C, H, W]``; ``[N, C]`` stays.

    Raises:
        ExportError: if the shape has another rank.
    """
    if len(shape) == 2:
        return shape
    if len(shape) == 4:
        return (shape[0], shape[2], shape[3], shape[1])
    raise ExportError(f"TFLite export takes tensors [N, C, H, W] and [N, C], got {list(shape)}")


def same_padding(extent: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return TFLite's SAME padding ``(before, after)`` of one axis: the larger half comes after."""
    total = max((-(-extent // stride) - 1) * stride + kernel - extent, 0)
    return total // 2, total - total // 2


def fused_activations(graph: Graph) -> dict[str, Node]:
    """Return, for each value whose maker takes over an activation, the activation node."""
    makers = {node.outputs[0]: node for node in graph.nodes if isinstance(node.op, FUSES_ACTIVATION)}
    found = {}
    for node in graph.nodes:
        source = node.inputs[0]
        alone = source not in graph.outputs and len(graph.consumers[source]) == 1
        if type(node.op) in ACTIVATIONS and source in makers and alone:
            found[source] = node
    return found


class Lowering:
    """The state of writing one graph.

    Args:
        graph: deployed form.
        weights: its weights.
        half: store weights as float16, each with a DEQUANTIZE that runtimes fold away when they load the file.
    """

    def __init__(self, graph: Graph, weights: Mapping[str, npt.NDArray[np.float32]], *, half: bool = False) -> None:
        self.graph = graph
        self.weights = weights
        self.half = half
        self.writer = TFLiteWriter()
        self.fused = fused_activations(graph)
        self.indices: dict[str, int] = {}
        for name, shape in graph.inputs:
            self.indices[name] = self.writer.tensor(name, nhwc(shape))

    def input(self, node: Node, position: int = 0) -> int:
        """Return the tensor index of a node's input."""
        return self.indices[node.inputs[position]]

    def shape(self, value: str) -> Shape:
        """Return a value's NHWC shape."""
        return nhwc(self.graph.shapes[value])

    def output(self, node: Node, position: int = 0, dtype: npt.DTypeLike = np.float32) -> int:
        """Make the tensor of a node's output, under the name of the activation that the node took over."""
        value = node.outputs[position]
        activation = self.fused.get(value)
        name = value if activation is None else activation.outputs[0]
        index = self.writer.tensor(name, self.shape(value), dtype)
        self.indices[value] = index
        self.indices[name] = index
        return index

    def activation(self, node: Node) -> int:
        """Return the ``schema.ActivationFunctionType`` that a node applies to its output."""
        activation = self.fused.get(node.outputs[0])
        return int(NONE) if activation is None else ACTIVATIONS[type(activation.op)]

    def weight(self, node: Node, role: str, layout: tuple[int, ...] | None = None) -> int:
        """Return the constant tensor of a node's weight, its axes permuted to ``layout``."""
        values = self.weights[f"{node.name}.{role}"]
        return self.parameter(f"{node.name}.{role}", values if layout is None else values.transpose(layout))

    def parameter(self, name: str, values: npt.NDArray[np.float32]) -> int:
        """Return the float32 tensor of weights, stored as float16 where that was asked for.

        Raises:
            ExportError: if one is too large for float16.
        """
        if not self.half:
            return self.writer.constant(name, values)
        with np.errstate(over="ignore"):
            stored = values.astype(np.float16)
        if not np.isfinite(stored).all():
            raise ExportError(f"{name} holds {np.abs(values).max():.3g}, more than float16 can", hint="export as fp32")
        target = self.writer.tensor(name, values.shape)
        source = self.writer.constant(f"{name}/float16", stored)
        options = (Options.DequantizeOptions, schema.DequantizeOptionsT())
        self.writer.operator(Code.DEQUANTIZE, [source], [target], options, version=3)
        return target

    def bias(self, node: Node, channels: int, present: bool) -> int:
        """Return the constant bias; zeros where the op has none (TFLite's convs always take one)."""
        if present:
            return self.weight(node, "bias")
        return self.parameter(f"{node.name}.bias", np.zeros(channels, np.float32))

    def intermediate(self, node: Node, what: str, shape: Sequence[int]) -> int:
        """Make a tensor between two operators of one node."""
        return self.writer.tensor(f"{node.name}/{what}", shape)

    def reshape(self, source: int, target: int, shape: Sequence[int]) -> None:
        """Append a RESHAPE."""
        options = schema.ReshapeOptionsT()
        options.newShape = [int(extent) for extent in shape]
        inputs = [source, self.writer.int32s(shape)]
        self.writer.operator(Code.RESHAPE, inputs, [target], (Options.ReshapeOptions, options))

    def pad(self, source: int, target: int, amounts: Sequence[Pair]) -> None:
        """Append a PAD with zeros; ``amounts`` are ``(before, after)`` of each axis."""
        inputs = [source, self.writer.int32_matrix(list(amounts))]
        self.writer.operator(Code.PAD, inputs, [target], (Options.PadOptions, schema.PadOptionsT()))

    def slice(self, source: int, target: int, begin: Sequence[int], size: Sequence[int]) -> None:
        """Append a SLICE."""
        inputs = [source, self.writer.int32s(begin), self.writer.int32s(size)]
        self.writer.operator(Code.SLICE, inputs, [target], (Options.SliceOptions, schema.SliceOptionsT()))

    def pad_map(self, node: Node, source: int, shape: Shape, amounts: tuple[int, int, int, int]) -> tuple[int, Shape]:
        """Pad an NHWC map by ``top, bottom, left, right`` and return the new tensor and its shape."""
        if not any(amounts):
            return source, shape
        top, bottom, left, right = amounts
        padded = (shape[0], shape[1] + top + bottom, shape[2] + left + right, shape[3])
        target = self.intermediate(node, "pad", padded)
        self.pad(source, target, [(0, 0), (top, bottom), (left, right), (0, 0)])
        return target, padded

    def window_padding(self, op: Any, shape: Shape) -> tuple[int, tuple[int, int, int, int]]:
        """Return how to write an op's symmetric padding: the TFLite mode, and a PAD to write before it.

        TFLite's SAME puts the larger half at the end, so a padding of 1 at stride 2 on an even extent is not
        SAME: it becomes PAD + VALID. SAME or VALID is used alone wherever it is exactly equal.

        Args:
            op: has ``kernel``, ``stride`` and ``padding``.
            shape: NHWC shape of the op's input.
        """
        valid, same, amounts = True, True, []
        for extent, kernel, stride, padding in zip(shape[1:3], op.kernel, op.stride, op.padding, strict=True):
            count = (extent + 2 * padding - kernel) // stride + 1
            valid &= padding == 0
            same &= count == -(-extent // stride) and same_padding(extent, kernel, stride)[0] == padding
            # What the last window does not reach needs no padding.
            amounts += [padding, max(0, (count - 1) * stride + kernel - extent - padding)]
        if valid or same:
            return (VALID if valid else SAME), (0, 0, 0, 0)
        return VALID, (amounts[0], amounts[1], amounts[2], amounts[3])
