"""A depthwise conv of few channels and the 1x1 conv behind it, as one conv.

Fewer channels than a vector register holds make a depthwise conv slow for what it computes, and some runtimes have no
fast kernel for it at all.
"""

from __future__ import annotations

import numpy as np

from dfmobile.graph import ops
from dfmobile.graph.graph import Graph, Node, Weights

MAX_CHANNELS = 4
"""Of an image. With 8 channels the merged conv has five times the multiplications, and is slower everywhere."""


def _pairs(graph: Graph) -> dict[str, Node]:
    """Return, for each 1x1 conv's name, the depthwise conv that it alone reads."""
    made_by = {node.outputs[0]: node for node in graph.nodes if isinstance(node.op, ops.DepthwiseConv)}
    found = {}
    for node in graph.nodes:
        op, first = node.op, made_by.get(node.inputs[0])
        if (
            first is None
            or not isinstance(op, ops.Conv)
            or (op.kernel, op.stride, op.padding) != ((1, 1),) * 2 + ((0, 0),)
        ):
            continue
        alone = len(graph.consumers[first.outputs[0]]) == 1 and first.outputs[0] not in graph.outputs
        if alone and graph.shapes[first.outputs[0]][1] <= MAX_CHANNELS:
            found[node.name] = first
    return found


def merge_depthwise(graph: Graph) -> Graph:
    """Return the graph with one conv for each depthwise conv of up to four channels and the 1x1 conv behind it.

    Exact: nothing lies between the two (no activation), and the depthwise conv's padding becomes the conv's.
    """
    pairs = _pairs(graph)
    gone = {node.name for node in pairs.values()}
    nodes = []
    for node in graph.nodes:
        first = pairs.get(node.name)
        if first is not None:
            assert isinstance(first.op, ops.DepthwiseConv)  # noqa: S101  (narrows the type)
            assert isinstance(node.op, ops.Conv)  # noqa: S101  (narrows the type)
            bias = first.op.bias or node.op.bias
            op = ops.Conv(node.op.out_channels, first.op.kernel, first.op.stride, first.op.padding, bias)
            nodes.append(Node(node.name, op, first.inputs, node.outputs))
        elif node.name not in gone:
            nodes.append(node)
    return Graph(graph.inputs, nodes, graph.outputs)


def merge_depthwise_weights(graph: Graph, weights: Weights) -> Weights:
    """Return the weights of ``merge_depthwise(graph)``, computed in float64."""
    pairs = _pairs(graph)
    gone = {node.name for node in pairs.values()}
    found = {name: values for name, values in weights.items() if name.rpartition(".")[0] not in gone}
    for name, first in pairs.items():
        mix = weights[f"{name}.weight"][:, :, 0, 0].astype(np.float64)
        window = weights[f"{first.name}.weight"][:, 0].astype(np.float64)
        found[f"{name}.weight"] = (mix[:, :, None, None] * window[None]).astype(np.float32)
        biases = [weights.get(f"{item}.bias") for item in (first.name, name)]
        if biases[0] is not None or biases[1] is not None:
            inner = 0.0 if biases[0] is None else mix @ biases[0].astype(np.float64)
            outer = 0.0 if biases[1] is None else biases[1].astype(np.float64)
            found[f"{name}.bias"] = np.asarray(inner + outer, np.float32)
    return found
