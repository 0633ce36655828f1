"""Starting weights of a training: the same for a seed on every machine and with every version of torch."""

from __future__ import annotations

import numpy as np

from dfmobile.graph import Graph, Node, Weights, ops

_FC_DEVIATION = 0.01


def last_scales(graph: Graph) -> list[str]:
    """Return the names of the last BN scale before the add of each residual branch.

    Of the two branches that an add joins, the residual one is the one with more than one conv since the value that
    both share; a projection has one and an identity has none.
    """
    made_by = {value: node for node in graph.nodes for value in node.outputs}

    def convs(value: str) -> int:
        """Count the convs of a chain back to a value that several nodes read."""
        count = 0
        node: Node | None = made_by.get(value)
        while node is not None and len(node.inputs) == 1:
            count += isinstance(node.op, (ops.Conv, ops.DepthwiseConv))
            if len(graph.consumers[node.inputs[0]]) > 1:
                break
            node = made_by.get(node.inputs[0])
        return count

    names = []
    for node in graph.nodes:
        if not isinstance(node.op, ops.Add):
            continue
        last = max(node.inputs, key=convs)
        norm = made_by.get(last)
        if norm is not None and isinstance(norm.op, ops.BatchNorm) and convs(last) > 1:
            names.append(f"{norm.name}.scale")
    return names


def initial_weights(graph: Graph, seed: int) -> Weights:
    """Make the weights that a training starts from.

    Convs: normal with deviation ``sqrt(2 / fan_in)`` (He et al., ICCV 2015). Fully connected: normal, 0.01. Batch
    norm: scale 1, shift 0; the last scale of each residual block 0 (Goyal et al., 2017), so that depth costs nothing
    at the start. Biases 0.

    Args:
        graph: training form.
        seed: each tensor has its own stream, named by the seed and the tensor's position.
    """
    zero = set(last_scales(graph))
    weights: Weights = {}
    for position, (name, parameter) in enumerate(graph.parameters().items()):
        role = name.rpartition(".")[2]
        shape = parameter.shape
        if role == "weight":
            generator = np.random.default_rng((seed, position))
            deviation = np.sqrt(2.0 / np.prod(shape[1:])) if len(shape) == 4 else _FC_DEVIATION
            weights[name] = (deviation * generator.standard_normal(shape)).astype(np.float32)
        else:
            one = role in ("scale", "variance") and name not in zero
            weights[name] = np.full(shape, 1.0 if one else 0.0, np.float32)
    return weights
