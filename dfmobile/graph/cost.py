"""What a graph costs: multiply-accumulates, parameters, weight bytes, peak live activation bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from dfmobile.graph.fold import fold_batch_norm
from dfmobile.graph.graph import Graph, Node

FLOAT32_BYTES = 4


@dataclass(frozen=True)
class Cost:
    """Cost of a graph in its training form (batch norm unfolded).

    Attributes:
        macs: multiply-accumulates of conv, transposed conv and fully connected ops.
        params: weights, biases, BN scale and shift; fixed bilinear kernels excluded.
        params_deployed: the same after folding batch norm.
        weight_bytes: of the deployed form, float32.
        peak_activation_bytes: most bytes of simultaneously live float32 tensors, inputs and outputs included,
            in the deployed form when each tensor lives from its op to its last reader and ReLU is in place.
    """

    macs: int
    params: int
    params_deployed: int
    weight_bytes: int
    peak_activation_bytes: int


def macs(graph: Graph) -> int:
    """Return a graph's multiply-accumulates."""
    return sum(node_macs(graph, node) for node in graph.nodes)


def node_macs(graph: Graph, node: Node) -> int:
    """Return one node's multiply-accumulates."""
    return node.op.macs(graph.input_shapes(node), graph.output_shapes(node))


def params(graph: Graph) -> int:
    """Return a graph's number of trainable parameters."""
    return sum(parameter.size for parameter in graph.parameters().values() if parameter.trainable)


def peak_activation_bytes(graph: Graph) -> int:
    """Return the most bytes of tensors that live at once, by a walk in execution order.

    ReLU counts as in place: runtimes fuse it into its producer.
    """
    alias: dict[str, str] = {}
    for node in graph.nodes:
        alone = node.inputs and len(graph.consumers[node.inputs[0]]) == 1 and node.inputs[0] not in graph.outputs
        if node.op.kind in ("relu", "relu6") and alone:
            alias[node.outputs[0]] = alias.get(node.inputs[0], node.inputs[0])
    last_use: dict[str, int] = {}
    for position, node in enumerate(graph.nodes):
        for name in (*node.inputs, *node.outputs):
            last_use[alias.get(name, name)] = position
    for name in graph.outputs:
        last_use[alias.get(name, name)] = len(graph.nodes)

    def size(name: str) -> int:
        return FLOAT32_BYTES * math.prod(graph.shapes[name])

    live = {name for name, _ in graph.inputs}
    current = sum(size(name) for name in live)
    peak = current
    for position, node in enumerate(graph.nodes):
        for name in node.outputs:
            if name not in alias:
                live.add(name)
                current += size(name)
        peak = max(peak, current)
        for name in {alias.get(item, item) for item in (*node.inputs, *node.outputs)}:
            if name in live and last_use.get(name, -1) <= position:
                live.remove(name)
                current -= size(name)
    return peak


def cost(graph: Graph) -> Cost:
    """Return the full cost of a graph given in its training form."""
    deployed = fold_batch_norm(graph)
    deployed_params = params(deployed)
    return Cost(
        macs=macs(graph),
        params=params(graph),
        params_deployed=deployed_params,
        weight_bytes=FLOAT32_BYTES * deployed_params,
        peak_activation_bytes=peak_activation_bytes(deployed),
    )
