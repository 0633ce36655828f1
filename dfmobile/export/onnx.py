"""Op graph to .onnx: NCHW, in the exported form, checked by onnx's own checker (extra ``onnx``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile import __version__
from dfmobile.errors import ExportError, InputError, import_extra
from dfmobile.graph import Graph, Node, Weights, ops
from dfmobile.graph.exported import exported_form
from dfmobile.graph.merge_depthwise import merge_depthwise, merge_depthwise_weights

OPSETS = range(13, 22)
"""Opsets that can be written: 13 is what TensorRT 8 reads, 21 the newest that the checks here know."""
DEFAULT_OPSET = 17


class _Lowering:
    """Collects ONNX nodes and initialisers of one graph."""

    def __init__(self, graph: Graph, weights: Weights, opset: int) -> None:
        self.onnx = import_extra("onnx", "onnx", "export to .onnx")
        self.helper: Any = self.onnx.helper
        self.graph = graph
        self.weights = weights
        self.opset = opset
        self.nodes: list[Any] = []
        self.initialisers: dict[str, Any] = {}

    def constant(self, name: str, values: npt.NDArray[Any]) -> str:
        """Store a constant once and return its name."""
        if name not in self.initialisers:
            numpy_helper = self.onnx.numpy_helper
            self.initialisers[name] = numpy_helper.from_array(np.ascontiguousarray(values), name)
        return name

    def int64s(self, *values: int) -> str:
        """Store a shape or an axis and return its name."""
        return self.constant("int64/" + "_".join(str(value) for value in values), np.array(values, np.int64))

    def weight(self, node: Node, role: str) -> str:
        """Store one of a node's weights and return its name."""
        return self.constant(f"{node.name}.{role}", self.weights[f"{node.name}.{role}"])

    def with_bias(self, node: Node, present: bool) -> list[str]:
        """Return a node's first input, its weight, and its bias where it has one."""
        inputs = [node.inputs[0], self.weight(node, "weight")]
        return [*inputs, self.weight(node, "bias")] if present else inputs

    def append(
        self, kind: str, inputs: list[str], outputs: list[str], name: str, **attributes: int | list[int] | str
    ) -> None:
        """Append an ONNX node."""
        self.nodes.append(self.helper.make_node(kind, inputs, outputs, name=name, **attributes))


def _window(op: Any) -> dict[str, list[int]]:
    rows, columns = op.padding
    return {
        "kernel_shape": list(op.kernel),
        "strides": list(op.stride),
        "pads": [rows, columns, rows, columns],
    }


def _conv(lowering: _Lowering, node: Node, op: ops.Conv | ops.DepthwiseConv) -> None:
    group = lowering.graph.shapes[node.inputs[0]][1] if isinstance(op, ops.DepthwiseConv) else 1
    inputs = lowering.with_bias(node, op.bias)
    lowering.append("Conv", inputs, [node.outputs[0]], node.name, group=group, **_window(op))


def _transposed_conv(lowering: _Lowering, node: Node, op: ops.TransposedConv) -> None:
    group = op.out_channels if op.depthwise else 1
    inputs = lowering.with_bias(node, op.bias)
    lowering.append("ConvTranspose", inputs, [node.outputs[0]], node.name, group=group, **_window(op))


def _bilinear_upsample(lowering: _Lowering, node: Node, op: ops.BilinearUpsample) -> None:
    """Resize and Mul: the fixed transposed conv reads zeros outside the map where a resize repeats the border.

    So the outer scale/2 rows and columns are those of the resize times what the kernel leaves of the border pixel.
    """
    n, c, h, w = lowering.graph.shapes[node.outputs[0]]
    resized = f"{node.name}/resized"
    inputs = [node.inputs[0], "", "", lowering.int64s(n, c, h, w)]
    lowering.append(
        "Resize", inputs, [resized], resized, mode="linear", coordinate_transformation_mode="half_pixel"
    )  # fmt: skip
    left = np.outer(_border_shares(h, op.scale), _border_shares(w, op.scale)).astype(np.float32)
    shares = lowering.constant(f"bilinear/{h}x{w}x{op.scale}", left[None, None])
    lowering.append("Mul", [resized, shares], [node.outputs[0]], node.name)


def _border_shares(extent: int, scale: int) -> npt.NDArray[np.float64]:
    """Return, along one axis, how much of each value of a resize the zeros outside the map leave."""
    shares = np.ones(extent)
    outside = (np.arange(scale // 2) + 0.5) / scale + 0.5
    shares[: scale // 2] = outside
    shares[extent - scale // 2 :] = outside[::-1]
    return shares


def _relu6(lowering: _Lowering, node: Node, op: ops.Relu6) -> None:
    del op
    low = lowering.constant("float/0", np.array(0, np.float32))
    high = lowering.constant("float/6", np.array(6, np.float32))
    lowering.append("Clip", [node.inputs[0], low, high], [node.outputs[0]], node.name)


def _split(lowering: _Lowering, node: Node, op: ops.Split) -> None:
    lowering.append("Split", [node.inputs[0], lowering.int64s(*op.sizes)], list(node.outputs), node.name, axis=1)


def _channel_shuffle(lowering: _Lowering, node: Node, op: ops.ChannelShuffle) -> None:
    n, c, h, w = lowering.graph.shapes[node.inputs[0]]
    grouped, swapped = f"{node.name}/groups", f"{node.name}/swapped"
    shape = lowering.int64s(n, op.groups, c // op.groups, h, w)
    lowering.append("Reshape", [node.inputs[0], shape], [grouped], grouped)
    lowering.append("Transpose", [grouped], [swapped], swapped, perm=[0, 2, 1, 3, 4])
    lowering.append("Reshape", [swapped, lowering.int64s(n, c, h, w)], [node.outputs[0]], node.name)


def _pool(kind: str) -> Callable[[_Lowering, Node, Any], None]:
    def write(lowering: _Lowering, node: Node, op: Any) -> None:
        lowering.append(kind, [node.inputs[0]], [node.outputs[0]], node.name, **_window(op))

    return write


def _resize_bilinear(lowering: _Lowering, node: Node, op: ops.ResizeBilinear) -> None:
    n, c, _, _ = lowering.graph.shapes[node.inputs[0]]
    mode = "align_corners" if op.align_corners else "half_pixel"
    inputs = [node.inputs[0], "", "", lowering.int64s(n, c, *op.size)]
    lowering.append(
        "Resize", inputs, [node.outputs[0]], node.name, mode="linear", coordinate_transformation_mode=mode
    )  # fmt: skip


def _pad(lowering: _Lowering, node: Node, op: ops.Pad) -> None:
    top, bottom, left, right = op.amounts
    pads = lowering.int64s(0, 0, top, left, 0, 0, bottom, right)
    lowering.append("Pad", [node.inputs[0], pads], [node.outputs[0]], node.name, mode="constant")


def _fully_connected(lowering: _Lowering, node: Node, op: ops.FullyConnected) -> None:
    inputs = lowering.with_bias(node, op.bias)
    if len(lowering.graph.shapes[node.inputs[0]]) == 4:
        flat = f"{node.name}/flat"
        lowering.append("Flatten", [node.inputs[0]], [flat], flat, axis=1)
        inputs[0] = flat
    lowering.append("Gemm", inputs, [node.outputs[0]], node.name, transB=1)


def _argmax(lowering: _Lowering, node: Node, op: ops.ArgMax) -> None:
    del op
    index = f"{node.name}/index"
    lowering.append("ArgMax", [node.inputs[0]], [index], index, axis=1, keepdims=1)
    int32 = int(lowering.onnx.TensorProto.INT32)
    lowering.append("Cast", [index], [node.outputs[0]], node.name, to=int32)


def _plain(kind: str, **attributes: int) -> Callable[[_Lowering, Node, Any], None]:
    def write(lowering: _Lowering, node: Node, op: ops.Op) -> None:
        del op
        lowering.append(kind, list(node.inputs), list(node.outputs), node.name, **attributes)

    return write


_WRITERS: dict[type[ops.Op], Callable[[_Lowering, Node, Any], None]] = {
    ops.Conv: _conv,
    ops.DepthwiseConv: _conv,
    ops.TransposedConv: _transposed_conv,
    ops.BilinearUpsample: _bilinear_upsample,
    ops.Relu: _plain("Relu"),
    ops.Relu6: _relu6,
    ops.Softmax: _plain("Softmax", axis=1),
    ops.Add: _plain("Add"),
    ops.Concat: _plain("Concat", axis=1),
    ops.Split: _split,
    ops.ChannelShuffle: _channel_shuffle,
    ops.MaxPool: _pool("MaxPool"),
    ops.AveragePool: _pool("AveragePool"),
    ops.GlobalAveragePool: _plain("GlobalAveragePool"),
    ops.ResizeBilinear: _resize_bilinear,
    ops.Pad: _pad,
    ops.FullyConnected: _fully_connected,
    ops.ArgMax: _argmax,
}


def onnx_bytes(
    graph: Graph, weights: Weights, *, opset: int = DEFAULT_OPSET, metadata: Mapping[str, str] | None = None
) -> bytes:
    """Return a graph as the content of an .onnx file.

    Args:
        graph: training or deployed form.
        weights: its weights, by ``<node>.<role>``.
        opset: 13 (for TensorRT 8) to 21; the IR version is the oldest that the opset allows, so that old
            readers take the file.
        metadata: texts to store in the file, by name.

    Returns:
        The file: float32, inputs and outputs ``[N, C, H, W]`` (argmax: int32).

    Raises:
        GraphError: if the weights do not fit the graph.
        InputError: if the opset cannot be written.
        ExportError: if the graph cannot be written, or onnx's checker rejects the result.
        MissingExtraError: if onnx is not installed.
    """
    if opset not in OPSETS:
        raise InputError(
            f"opset {opset} cannot be written", hint=f"choose one from {OPSETS.start} to {OPSETS.stop - 1}"
        )
    exported = exported_form(graph)
    names = dict(zip(exported.graph.outputs, graph.outputs, strict=True))
    weights = exported.weights(weights)
    # Twice as fast in ONNX Runtime, which has no fast depthwise conv of three channels; LiteRT has one.
    graph, weights = merge_depthwise(exported.graph), merge_depthwise_weights(exported.graph, weights)
    if len(names) < len(graph.outputs) or set(names) & {name for name, _ in graph.inputs}:
        raise ExportError("a graph that returns one of its inputs, or a value twice, cannot be written as ONNX")
    lowering = _Lowering(graph, weights, opset)
    for node in graph.nodes:
        writer = _WRITERS.get(type(node.op))
        if writer is None:
            raise ExportError(f"op {node.op.kind!r} (node {node.name!r}) cannot be written as ONNX")
        writer(lowering, node, node.op)
    return _model(lowering, names, metadata or {})


def _model(lowering: _Lowering, names: dict[str, str], metadata: Mapping[str, str]) -> bytes:
    """Assemble and check the file; ``names`` gives outputs the names that they had before folding."""
    onnx, helper, graph = lowering.onnx, lowering.helper, lowering.graph
    proto: Any = onnx.TensorProto
    for item in lowering.nodes:
        for names_of in (item.input, item.output):
            names_of[:] = [names.get(name, name) for name in names_of]
    integers = {node.outputs[0] for node in graph.nodes if isinstance(node.op, ops.ArgMax)}
    model = helper.make_model(
        helper.make_graph(
            lowering.nodes,
            "main",
            [helper.make_tensor_value_info(name, proto.FLOAT, list(shape)) for name, shape in graph.inputs],
            [
                helper.make_tensor_value_info(
                    names[name], proto.INT32 if name in integers else proto.FLOAT, list(graph.shapes[name])
                )
                for name in graph.outputs
            ],
            list(lowering.initialisers.values()),
        ),
        producer_name="dfmobile",
        producer_version=__version__,
        opset_imports=[helper.make_opsetid("", lowering.opset)],
    )
    model.ir_version = helper.find_min_ir_version_for(model.opset_import)
    helper.set_model_props(model, dict(metadata))
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"onnx's checker rejects the model: {' '.join(str(error).split())}") from error
    return bytes(model.SerializeToString())
