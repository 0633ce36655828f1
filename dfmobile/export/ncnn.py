"""Op graph to ncnn: text param and bin, batch norm folded, ReLU in the layer before it.

Format: ncnn 1.0. A blob has one reader, so that what is read more often passes through a ``Split``. ncnn's own ArgMax
gives one index for a whole map: an argmax at the end of a graph is left out, the scores before it are the output.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile import __version__
from dfmobile.errors import ExportError
from dfmobile.graph import Graph, Node, Weights, ops
from dfmobile.graph.fold import fold_batch_norm, fold_weights
from dfmobile.graph.reference import bilinear_kernel
from dfmobile.runtimes.ncnn import NcnnModel

_MAGIC = 7767517
_FLOAT32_TAG, _FLOAT16_TAG = 0, 0x01306B47
_NAME_LIMIT = 200  # ncnn reads 255 bytes
_FUSING = (ops.Conv, ops.DepthwiseConv, ops.TransposedConv, ops.FullyConnected)
_NEAREST, _BILINEAR = 1, 2


def scores_graph(graph: Graph) -> Graph:
    """Return a graph that ends before its argmax, where it has one.

    Raises:
        ExportError: if an argmax is not at the end.
    """
    argmax = {node.outputs[0]: node for node in graph.nodes if isinstance(node.op, ops.ArgMax)}
    inner = [node.name for value, node in argmax.items() if graph.consumers[value]]
    if inner:
        raise ExportError(f"the argmax {inner[0]!r} is not at the end of the graph: ncnn's is not one for each pixel")
    outputs = [argmax[name].inputs[0] if name in argmax else name for name in graph.outputs]
    if len(set(outputs)) < len(outputs):
        raise ExportError("the graph returns an argmax and its scores, which are one output in ncnn")
    return Graph(graph.inputs, [node for node in graph.nodes if not isinstance(node.op, ops.ArgMax)], outputs)


class _Lowering:
    """Collects the layers of one graph and their weights."""

    def __init__(self, graph: Graph, weights: Weights, *, half: bool) -> None:
        self.graph, self.weights, self.half = graph, weights, half
        self.layers: list[tuple[str, str, list[str], list[str], list[str]]] = []
        self.binary: list[bytes] = []
        self.fused = _fused(graph)
        self.names: dict[str, list[str]] = {}  # blobs that are left to read of each value

    def add(self, kind: str, name: str, inputs: list[str], outputs: list[str], *parameters: str) -> None:
        """Append a layer; what it writes goes through a split where several read it."""
        bottoms = [self.names[value].pop(0) for value in inputs]
        tops, splits = [], []
        for value in outputs:
            readers = [f"{value}/{number}" for number in range(1, 1 + len(self.graph.consumers[value]))]
            if value in self.graph.outputs:
                readers.append(value)  # last, under its own name
            if len(readers) > 1:
                splits.append((f"{value}/split", [f"{value}/all"], list(readers)))
                tops.append(f"{value}/all")
            else:
                tops.append(value)
            self.names[value] = readers if len(readers) > 1 else [value]
        self.layers.append((kind, name, bottoms, tops, list(parameters)))
        self.layers.extend(("Split", split, source, readers, []) for split, source, readers in splits)

    def internal(self, kind: str, name: str, source: str, *parameters: str) -> str:
        """Append a layer whose result only the next one reads; return the result's name."""
        self.layers.append((kind, name, [self.names[source].pop(0)], [name], list(parameters)))
        self.names[name] = [name]
        return name

    def tagged(self, values: npt.NDArray[np.floating[Any]], name: str) -> None:
        """Append a main weight, float32 or float16."""
        if not self.half:
            self.binary.append(struct.pack("<I", _FLOAT32_TAG) + values.astype("<f4").tobytes())
            return
        with np.errstate(over="ignore"):
            stored = values.astype("<f2")
        if not np.isfinite(stored).all():
            raise ExportError(f"the weights of {name} are too large for float16", hint="export it with fp32")
        data = stored.tobytes()
        self.binary.append(struct.pack("<I", _FLOAT16_TAG) + data + b"\0" * (-len(data) % 4))

    def plain(self, values: npt.NDArray[np.floating[Any]]) -> None:
        """Append a bias, always float32."""
        self.binary.append(values.astype("<f4").tobytes())

    def weighted(self, node: Node, weight: npt.NDArray[np.float32]) -> None:
        """Append a node's weight in ncnn's order, and its bias where it has one."""
        self.tagged(weight, node.name)
        bias = self.weights.get(f"{node.name}.bias")
        if bias is not None:
            self.plain(bias)


def _fused(graph: Graph) -> dict[str, Node]:
    """Return the ReLU that goes into the layer before it, by that layer's name."""
    makers = {node.outputs[0]: node for node in graph.nodes}
    found = {}
    for node in graph.nodes:
        before = makers.get(node.inputs[0])
        alone = len(graph.consumers[node.inputs[0]]) == 1 and node.inputs[0] not in graph.outputs
        if isinstance(node.op, ops.Relu) and before is not None and isinstance(before.op, _FUSING) and alone:
            found[before.name] = node
    return found


def _output(lowering: _Lowering, node: Node) -> tuple[list[str], list[str]]:
    """Return what a fusing node writes, and the parameter that says so."""
    activation = lowering.fused.get(node.name)
    return (list(node.outputs), []) if activation is None else (list(activation.outputs), ["9=1"])


def _window(op: Any) -> list[str]:
    (rows, columns), (down, right), (above, left) = op.kernel, op.stride, op.padding
    return [f"1={columns}", f"11={rows}", f"3={right}", f"13={down}", f"4={left}", f"14={above}"]


def _conv(lowering: _Lowering, node: Node, op: ops.Conv | ops.DepthwiseConv) -> None:
    weight = lowering.weights[f"{node.name}.weight"]
    depthwise = isinstance(op, ops.DepthwiseConv)
    kind, group = ("ConvolutionDepthWise", [f"7={weight.shape[0]}"]) if depthwise else ("Convolution", [])
    outputs, activation = _output(lowering, node)
    size = [f"0={weight.shape[0]}", *_window(op), f"5={int(op.bias)}", f"6={weight.size}"]
    lowering.add(kind, node.name, list(node.inputs), outputs, *size, *group, *activation)
    lowering.weighted(node, weight)


def _transposed_conv(lowering: _Lowering, node: Node, op: ops.TransposedConv) -> None:
    weight = lowering.weights[f"{node.name}.weight"]
    kind, group = ("DeconvolutionDepthWise", [f"7={op.out_channels}"]) if op.depthwise else ("Deconvolution", [])
    outputs, activation = _output(lowering, node)
    size = [f"0={op.out_channels}", *_window(op), f"5={int(op.bias)}", f"6={weight.size}"]
    lowering.add(kind, node.name, list(node.inputs), outputs, *size, *group, *activation)
    # Ours is [in, out, kh, kw], ncnn's [out, in, kh, kw].
    lowering.weighted(node, weight if op.depthwise else np.ascontiguousarray(weight.transpose(1, 0, 2, 3)))


def _bilinear_upsample(lowering: _Lowering, node: Node, op: ops.BilinearUpsample) -> None:
    channels, extent = lowering.graph.shapes[node.inputs[0]][1], 2 * op.scale
    kernel = np.broadcast_to(bilinear_kernel(op.scale), (channels, 1, extent, extent))
    equal = ops.TransposedConv(channels, (extent,) * 2, (op.scale,) * 2, (op.scale // 2,) * 2, depthwise=True)
    size = [f"0={channels}", *_window(equal), "5=0", f"6={kernel.size}", f"7={channels}"]
    lowering.add("DeconvolutionDepthWise", node.name, list(node.inputs), list(node.outputs), *size)
    lowering.tagged(kernel, node.name)


def _fully_connected(lowering: _Lowering, node: Node, op: ops.FullyConnected) -> None:
    weight = lowering.weights[f"{node.name}.weight"]
    outputs, activation = _output(lowering, node)
    size = [f"0={op.out_features}", f"1={int(op.bias)}", f"2={weight.size}"]
    lowering.add("InnerProduct", node.name, list(node.inputs), outputs, *size, *activation)
    lowering.weighted(node, weight)


def _pool(lowering: _Lowering, node: Node, op: ops.MaxPool | ops.AveragePool | ops.GlobalAveragePool) -> None:
    if isinstance(op, ops.GlobalAveragePool):  # ncnn's own gives a vector, not a map of one pixel
        rows, columns = lowering.graph.shapes[node.inputs[0]][2:]
        op = ops.AveragePool((rows, columns), (rows, columns))
    (rows, columns), (down, right), (above, left) = op.kernel, op.stride, op.padding
    kind = f"0={int(isinstance(op, ops.AveragePool))}"
    window = [f"1={columns}", f"11={rows}", f"2={right}", f"12={down}"]
    padding = [f"3={left}", f"13={above}", f"14={left}", f"15={above}", "5=1"]
    lowering.add("Pooling", node.name, list(node.inputs), list(node.outputs), kind, *window, *padding)


def _resize(lowering: _Lowering, node: Node, op: ops.ResizeBilinear) -> None:
    source = node.inputs[0]
    rows, columns = lowering.graph.shapes[source][2:]
    height, width = op.size
    # ncnn's bilinear resize reads beside a map of one row or column: such a one is repeated first.
    grown = (height if rows == 1 else rows, width if columns == 1 else columns)
    last = grown == op.size
    if grown != (rows, columns):
        parameters = [f"0={_NEAREST}", f"3={grown[0]}", f"4={grown[1]}"]
        if last:
            lowering.add("Interp", node.name, [source], list(node.outputs), *parameters)
            return
        source = lowering.internal("Interp", f"{node.name}/repeated", source, *parameters)
    align = f"6={int(op.align_corners)}"
    lowering.add(
        "Interp", node.name, [source], list(node.outputs), f"0={_BILINEAR}", f"3={height}", f"4={width}", align
    )


def _split(lowering: _Lowering, node: Node, op: ops.Split) -> None:
    sizes = ",".join(str(size) for size in (len(op.sizes), *op.sizes))
    lowering.add("Slice", node.name, list(node.inputs), list(node.outputs), f"-23300={sizes}", "1=0")


def _pad(lowering: _Lowering, node: Node, op: ops.Pad) -> None:
    amounts = [f"{number}={amount}" for number, amount in enumerate(op.amounts)]
    lowering.add("Padding", node.name, list(node.inputs), list(node.outputs), *amounts, "4=0", "5=0.0")


def _shuffle(lowering: _Lowering, node: Node, op: ops.ChannelShuffle) -> None:
    lowering.add("ShuffleChannel", node.name, list(node.inputs), list(node.outputs), f"0={op.groups}")


def _plain(kind: str, *parameters: str) -> Callable[[_Lowering, Node, Any], None]:
    def write(lowering: _Lowering, node: Node, op: ops.Op) -> None:
        del op
        lowering.add(kind, node.name, list(node.inputs), list(node.outputs), *parameters)

    return write


_WRITERS: dict[type[ops.Op], Callable[[_Lowering, Node, Any], None]] = {
    ops.Conv: _conv,
    ops.DepthwiseConv: _conv,
    ops.TransposedConv: _transposed_conv,
    ops.BilinearUpsample: _bilinear_upsample,
    ops.FullyConnected: _fully_connected,
    ops.Relu: _plain("ReLU"),
    ops.Relu6: _plain("Clip", "0=0.0", "1=6.0"),
    ops.Softmax: _plain("Softmax", "0=0", "1=1"),
    ops.Add: _plain("BinaryOp", "0=0"),
    ops.Concat: _plain("Concat", "0=0"),
    ops.Split: _split,
    ops.ChannelShuffle: _shuffle,
    ops.MaxPool: _pool,
    ops.AveragePool: _pool,
    ops.GlobalAveragePool: _pool,
    ops.ResizeBilinear: _resize,
    ops.Pad: _pad,
}


def ncnn_model(graph: Graph, weights: Weights, *, half: bool = False) -> NcnnModel:
    """Return a graph as an ncnn model.

    Args:
        graph: training or deployed form; batch 1. An argmax at its end is left out.
        weights: its weights, by ``<node>.<role>``.
        half: store the weights of convs and fully connected layers as float16; biases stay float32.

    Returns:
        The model; blobs of inputs and outputs are called as in the graph.

    Raises:
        GraphError: if the weights do not fit the graph.
        ExportError: if the graph cannot be written.
    """
    graph.check_weights(weights)
    graph = scores_graph(graph)
    names = dict(zip(fold_batch_norm(graph).outputs, graph.outputs, strict=True))
    if any(isinstance(node.op, ops.BatchNorm) for node in graph.nodes):
        graph, weights = fold_batch_norm(graph), fold_weights(graph, weights)
    inputs = {name for name, _ in graph.inputs}
    if len(names) < len(graph.outputs) or set(names) & inputs:
        raise ExportError("a graph that returns one of its inputs, or a value twice, cannot be written for ncnn")
    _check_names(graph, names)
    lowering = _Lowering(graph, weights, half=half)
    for name, shape in graph.inputs:
        if shape[0] != 1:
            raise ExportError(f"input {name!r} has a batch of {shape[0]}: ncnn takes one image at once")
        sizes = [f"{number}={extent}" for number, extent in enumerate(reversed(shape[1:]))]
        lowering.add("Input", name, [], [name], *sizes)
    fused = {node.name for node in lowering.fused.values()}
    for node in graph.nodes:
        writer = _WRITERS.get(type(node.op))
        if writer is None:
            raise ExportError(f"op {node.op.kind!r} (node {node.name!r}) cannot be written for ncnn")
        if node.name not in fused:
            writer(lowering, node, node.op)
    return NcnnModel(_text(lowering, names), b"".join(lowering.binary))


def description(graph: Graph, model: NcnnModel, precision: str, metadata: Mapping[str, str]) -> bytes:
    """Return what the param format has no place for, as JSON: inputs, outputs, checksums, metadata.

    Args:
        graph: that was written.
        model: what was written.
        precision: ``"fp32"`` or ``"fp16"``.
        metadata: texts about the network; those that hold JSON are written as JSON.
    """
    shapes = scores_graph(graph).shapes
    outputs = scores_graph(graph).outputs
    document: dict[str, Any] = {
        "format": "ncnn",
        "precision": precision,
        "inputs": [{"name": name, "shape": list(shape)} for name, shape in graph.inputs],
        "outputs": [{"name": name, "shape": list(shapes[name])} for name in outputs],
        "scores": "outputs are scores; their argmax over the channels is left to the program, "
        "since ncnn's ArgMax is one index for the whole map",
        "param_sha256": hashlib.sha256(model.param.encode("ascii")).hexdigest(),
        "bin_sha256": hashlib.sha256(model.binary).hexdigest(),
        "tool": f"dfmobile {__version__}",
    }
    for name, text in metadata.items():
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        document.setdefault(name, value if isinstance(value, (dict, list)) else text)
    return (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode()


def _text(lowering: _Lowering, names: dict[str, str]) -> str:
    """Return the param file; ``names`` gives outputs the names that they had before folding."""
    layers = lowering.layers
    if len(names) > 1:  # outputs stand in the order of their blobs
        for output in lowering.graph.outputs:
            layers.append(("Noop", f"{output}/output", [f"{output}/inner"], [output], []))

    def blob(name: str, *, inner: bool) -> str:
        if inner and len(names) > 1 and name in names:
            return f"{name}/inner"
        return names.get(name, name)

    lines = []
    for kind, name, bottoms, tops, parameters in layers:
        inner = kind != "Noop"
        fields = [kind, name, str(len(bottoms)), str(len(tops))]
        fields += [blob(item, inner=inner) for item in bottoms] + [blob(item, inner=inner) for item in tops]
        lines.append(" ".join([*fields, *parameters]))
    blobs = sum(len(tops) for _, _, _, tops, _ in layers)
    return "\n".join([str(_MAGIC), f"{len(layers)} {blobs}", *lines]) + "\n"


def _check_names(graph: Graph, names: dict[str, str]) -> None:
    for name in (*graph.shapes, *(node.name for node in graph.nodes), *names.values()):
        if len(name) > _NAME_LIMIT or not name.isascii() or not name.isprintable() or not name or " " in name:
            raise ExportError(f"{name[:40]!r} cannot be a name in ncnn: letters and signs without spaces, up to 200")
