"""Fold batch normalisation into the op before it: the form in which networks are deployed and measured."""

from __future__ import annotations

import dataclasses

import numpy as np

from dfmobile.graph import ops
from dfmobile.graph.graph import Graph, Node, Weights

_FOLDABLE = (ops.Conv, ops.DepthwiseConv, ops.TransposedConv)


def _folds(graph: Graph) -> dict[str, Node]:
    """Return, for each foldable op's node name, the batch norm that folds into it."""
    made_by = {node.outputs[0]: node for node in graph.nodes if isinstance(node.op, _FOLDABLE)}
    found = {}
    for node in graph.nodes:
        if isinstance(node.op, ops.BatchNorm):
            source = node.inputs[0]
            if source in made_by and len(graph.consumers[source]) == 1 and source not in graph.outputs:
                found[made_by[source].name] = node
    return found


def fold_batch_norm(graph: Graph) -> Graph:
    """Return the deployed form of a graph: no batch norm left.

    A batch norm that alone reads a conv, depthwise conv or transposed conv becomes that op's bias; any other
    becomes a depthwise 1x1 conv with bias. Layer names stay.
    """
    folds = _folds(graph)
    folded = {norm.name for norm in folds.values()}
    renamed: dict[str, str] = {}
    nodes = []
    for node in graph.nodes:
        inputs = tuple(renamed.get(name, name) for name in node.inputs)
        if node.name in folded:
            renamed[node.outputs[0]] = inputs[0]
        elif node.name in folds:
            assert isinstance(node.op, _FOLDABLE)  # noqa: S101  (narrows the type)
            nodes.append(Node(node.name, dataclasses.replace(node.op, bias=True), inputs, node.outputs))
        elif isinstance(node.op, ops.BatchNorm):
            nodes.append(Node(node.name, ops.DepthwiseConv((1, 1), bias=True), inputs, node.outputs))
        else:
            nodes.append(Node(node.name, node.op, inputs, node.outputs))
    return Graph(graph.inputs, nodes, [renamed.get(name, name) for name in graph.outputs])


def fold_weights(graph: Graph, weights: Weights) -> Weights:
    """Return the weights of ``fold_batch_norm(graph)``, computed in float64.

    Args:
        graph: the training form that ``weights`` belong to.
        weights: float32 tensors of the training form.

    Raises:
        GraphError: if the weights do not fit the graph.
    """
    graph.check_weights(weights)
    folds = _folds(graph)
    folded = {norm.name for norm in folds.values()}
    result: Weights = {}

    def affine(norm: Node) -> tuple[np.ndarray, np.ndarray]:
        assert isinstance(norm.op, ops.BatchNorm)  # noqa: S101  (narrows the type)
        part = {role: weights[f"{norm.name}.{role}"].astype(np.float64) for role in ("scale", "shift", "mean")}
        deviation = np.sqrt(weights[f"{norm.name}.variance"].astype(np.float64) + norm.op.epsilon)
        factor = part["scale"] / deviation
        return factor, part["shift"] - part["mean"] * factor

    for node in graph.nodes:
        if node.name in folded:
            continue
        if node.name in folds:
            factor, offset = affine(folds[node.name])
            weight = weights[f"{node.name}.weight"].astype(np.float64)
            # Output channels are axis 0, but axis 1 of a full transposed conv's weight [in, out, kh, kw].
            axis = 1 if isinstance(node.op, ops.TransposedConv) and not node.op.depthwise else 0
            shape = [1] * weight.ndim
            shape[axis] = -1
            bias = weights.get(f"{node.name}.bias", np.zeros(factor.shape, np.float32)).astype(np.float64)
            result[f"{node.name}.weight"] = (weight * factor.reshape(shape)).astype(np.float32)
            result[f"{node.name}.bias"] = (bias * factor + offset).astype(np.float32)
        elif isinstance(node.op, ops.BatchNorm):
            factor, offset = affine(node)
            result[f"{node.name}.weight"] = factor.reshape(-1, 1, 1, 1).astype(np.float32)
            result[f"{node.name}.bias"] = offset.astype(np.float32)
        else:
            for role in node.op.parameters(graph.input_shapes(node)):
                result[f"{node.name}.{role}"] = weights[f"{node.name}.{role}"]
    return result
