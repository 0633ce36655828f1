"""Find a network in another graph by its structure: which node of one is which node of the other. Names say nothing."""

from __future__ import annotations

import hashlib
from collections import Counter

from dfmobile.errors import InputError
from dfmobile.export.importers.base import some
from dfmobile.graph import Graph, Node, Shape, ops


def match(network: Graph, found: Graph, what: str) -> dict[str, str]:
    """Find a network in a graph.

    Two values are taken for the same where the same ops on the same shapes make them from the image.

    Args:
        network: deployed form.
        found: deployed form of what a file holds; it may have more heads.
        what: the file, for messages.

    Returns:
        Name of the node in ``found`` by name of each node of ``network``.

    Raises:
        InputError: if the network is not in it, naming the first layer that is not, or is in it more than once.
    """
    ours, theirs = structures(network), structures(found)
    by_structure: dict[str, list[str]] = {}
    for value, structure in theirs.items():
        by_structure.setdefault(structure, []).append(value)
    for node in network.nodes:
        if any(ours[value] not in by_structure for value in node.outputs):
            raise InputError(_absence(network, found, node, what), hint="is it the file of this network?")
    our_maker = {value: node for node in network.nodes for value in node.outputs}
    their_maker = {value: node for node in found.nodes for value in node.outputs}
    pairs: dict[str, str] = {}
    pending: list[tuple[str, str]] = []
    for output in network.outputs:
        candidates = by_structure[ours[output]]
        if len(candidates) > 1:
            raise InputError(
                f"{what} holds the network {len(candidates)} times: its ends are {some(candidates)}",
                hint="give a file with one network",
            )
        pending.append((output, candidates[0]))
    while pending:
        our_value, their_value = pending.pop()
        our_node, their_node = our_maker.get(our_value), their_maker.get(their_value)
        if our_node is None or their_node is None:
            continue  # the image
        if our_node.name in pairs:
            if pairs[our_node.name] != their_node.name:
                raise InputError(
                    f"{what} computes {our_node.name} twice, as {pairs[our_node.name]} and {their_node.name}",
                    hint="it is another network: its layers do not share what those of dfmobile share",
                )
            continue
        pairs[our_node.name] = their_node.name
        pending.extend(_operands(our_node, their_node, ours, theirs, their_maker))
    return pairs


def _operands(
    our_node: Node, their_node: Node, ours: dict[str, str], theirs: dict[str, str], makers: dict[str, Node]
) -> list[tuple[str, str]]:
    """Return which operand is which; an add's may stand in any order."""
    if isinstance(our_node.op, ops.ResizeBilinear):
        (our_value,), (their_value,) = our_node.inputs, their_node.inputs
        while ours[our_value] != theirs[their_value]:  # theirs repeats and interpolates in two steps
            (their_value,) = makers[their_value].inputs
        return [(our_value, their_value)]
    if not isinstance(our_node.op, ops.Add):
        return list(zip(our_node.inputs, their_node.inputs, strict=True))
    return list(
        zip(
            sorted(our_node.inputs, key=ours.__getitem__),
            sorted(their_node.inputs, key=theirs.__getitem__),
            strict=True,
        )
    )


def structures(graph: Graph) -> dict[str, str]:
    """Return for each value a digest of the ops and shapes that make it from the graph's inputs."""
    found = {name: _digest(f"input {shape}") for name, shape in graph.inputs}
    for node in graph.nodes:
        sources = [found[name] for name in node.inputs]
        if isinstance(node.op, ops.ResizeBilinear):
            found[node.outputs[0]] = _resized(node.op, graph.shapes[node.inputs[0]], sources[0])
            continue
        text = " ".join(sorted(sources) if isinstance(node.op, ops.Add) else sources)
        for index, value in enumerate(node.outputs):
            found[value] = _digest(f"{_op_text(graph, node)} {graph.shapes[value]} {index} {text}")
    return found


def _resized(op: ops.ResizeBilinear, shape: Shape, source: str) -> str:
    """Return a resize's digest: a single row or column is repeated, as all kinds of resize do, then interpolated."""
    grown = tuple(new if old == 1 else old for old, new in zip(shape[2:], op.size, strict=True))
    if grown != shape[2:]:
        source = _digest(f"repeat {grown} {source}")
    return source if grown == op.size != shape[2:] else _digest(f"{op.text()} {source}")


def _op_text(graph: Graph, node: Node) -> str:
    op, shape = node.op, graph.shapes[node.inputs[0]]
    # A pool over the whole map is the global one, whatever it is called; its stride then says nothing.
    if isinstance(op, ops.AveragePool) and op.kernel == shape[2:]:
        return ops.GlobalAveragePool().text()
    return op.text()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _absence(network: Graph, found: Graph, node: Node, what: str) -> str:
    shapes = " and ".join("x".join(map(str, network.shapes[name][1:])) for name in node.inputs)
    message = f"{what} is not this network: nothing in it is {node.name}, {node.op.text()} of {shapes}"
    kinds = Counter(item.op.kind for item in found.nodes)
    if isinstance(node.op, ops.BilinearUpsample) and kinds["transposed_conv"]:
        message += " (it has transposed convs, but not with the fixed bilinear kernel)"
    return message
