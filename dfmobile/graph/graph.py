"""The op graph: nodes in execution order, every shape inferred and checked, a canonical text as LUT key."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from dfmobile.errors import GraphError
from dfmobile.graph import ops
from dfmobile.graph.ops import Op, Parameter, Shape

Weights = dict[str, npt.NDArray[np.float32]]
"""Weight tensors by ``<node name>.<role>``, e.g. ``stage3.block1.conv1.weight``."""


@dataclass(frozen=True)
class Node:
    """One op in a graph.

    Attributes:
        name: unique in the graph; a layer name, never part of a LUT key.
        op: what it computes.
        inputs: names of the values it reads.
        outputs: names of the values it writes: ``(name,)``, or ``name:0``, ``name:1``, … for several.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


class Graph:
    """A checked op graph.

    Args:
        inputs: ``(name, shape)`` of each graph input, float32.
        nodes: in execution order: a node reads only graph inputs and outputs of earlier nodes.
        outputs: names of the values that the graph returns.

    Raises:
        GraphError: if a name is doubled or missing, or shapes do not fit.
    """

    def __init__(self, inputs: Sequence[tuple[str, Shape]], nodes: Sequence[Node], outputs: Sequence[str]) -> None:
        self.inputs = tuple(inputs)
        self.nodes = tuple(nodes)
        self.outputs = tuple(outputs)
        self.shapes: dict[str, Shape] = {}
        for name, shape in self.inputs:
            if name in self.shapes:
                raise GraphError(f"two inputs are called {name!r}")
            if not shape or min(shape) < 1:
                raise GraphError(f"input {name!r} has shape {list(shape)}")
            self.shapes[name] = tuple(shape)
        names: set[str] = set()
        for node in self.nodes:
            if node.name in names:
                raise GraphError(f"two nodes are called {node.name!r}")
            names.add(node.name)
            self._infer(node)
        for name in self.outputs:
            if name not in self.shapes:
                raise GraphError(f"the graph returns {name!r}, which no node makes")
        if not self.outputs:
            raise GraphError("the graph returns nothing")

    def _infer(self, node: Node) -> None:
        missing = [name for name in node.inputs if name not in self.shapes]
        if missing:
            raise GraphError(f"node {node.name!r} reads {missing[0]!r}, which no earlier node makes")
        check_arity(node.op, node.inputs, node.name)
        try:
            shapes = node.op.infer(self.input_shapes(node))
        except GraphError as error:
            raise GraphError(f"node {node.name!r}: {error}", error.hint) from error
        if len(shapes) != len(node.outputs):
            raise GraphError(f"node {node.name!r} names {len(node.outputs)} outputs and makes {len(shapes)}")
        for name, shape in zip(node.outputs, shapes, strict=True):
            if name in self.shapes:
                raise GraphError(f"two values are called {name!r}")
            self.shapes[name] = shape

    def input_shapes(self, node: Node) -> tuple[Shape, ...]:
        """Return the shapes that a node reads."""
        return tuple(self.shapes[name] for name in node.inputs)

    def output_shapes(self, node: Node) -> tuple[Shape, ...]:
        """Return the shapes that a node writes."""
        return tuple(self.shapes[name] for name in node.outputs)

    def parameters(self) -> dict[str, Parameter]:
        """Return every weight tensor's specification by ``<node>.<role>``, in execution order."""
        found = {}
        for node in self.nodes:
            for role, parameter in node.op.parameters(self.input_shapes(node)).items():
                found[f"{node.name}.{role}"] = parameter
        return found

    def check_weights(self, weights: Mapping[str, npt.NDArray[np.generic]]) -> None:
        """Check that weights have exactly the names and shapes of this graph.

        Raises:
            GraphError: naming the first missing, unknown or misshapen tensor.
        """
        expected = self.parameters()
        for name, parameter in expected.items():
            if name not in weights:
                raise GraphError(f"weight {name!r} is missing")
            if tuple(weights[name].shape) != parameter.shape:
                raise GraphError(f"weight {name!r} has shape {list(weights[name].shape)}, not {list(parameter.shape)}")
        unknown = [name for name in weights if name not in expected]
        if unknown:
            raise GraphError(f"weight {unknown[0]!r} belongs to no op of the graph")

    @cached_property
    def consumers(self) -> dict[str, tuple[Node, ...]]:
        """The nodes that read each value."""
        found: dict[str, list[Node]] = {name: [] for name in self.shapes}
        for node in self.nodes:
            for name in node.inputs:
                found[name].append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    @cached_property
    def key(self) -> str:
        """Canonical text: ops, attributes, shapes, dtype; no names.

        Independent of node names, of the order in which independent nodes were added, and of the order of
        an add's operands.
        """
        made_by = {name: node for node in self.nodes for name in node.outputs}
        operands = self._canonical_operands()

        # Number the values in the order of a depth-first walk from the outputs: it depends on structure only.
        label = {name: f"%{position}" for position, (name, _) in enumerate(self.inputs)}
        lines: list[str] = []
        for output in self.outputs:
            stack = [output]
            while stack:
                name = stack[-1]
                if name in label:
                    stack.pop()
                    continue
                node = made_by[name]
                pending = [item for item in reversed(operands[node.name]) if item not in label]
                if pending:
                    stack.extend(pending)
                    continue
                number = len(self.inputs) + len(lines)
                for index, value in enumerate(node.outputs):
                    label[value] = f"%{number}" if len(node.outputs) == 1 else f"%{number}.{index}"
                lines.append(f"{node.op.text()}[{','.join(label[item] for item in operands[node.name])}]")
        shapes = ";".join("x".join(str(extent) for extent in shape) for _, shape in self.inputs)
        returns = ",".join(label[name] for name in self.outputs)
        return f"f32 {shapes} | {' '.join(lines)} -> {returns}"

    def _canonical_operands(self) -> dict[str, tuple[str, ...]]:
        """Return each node's inputs, those of an add in an order that does not depend on how it was written.

        Operands are ordered by how they are made and, where that is the same, by what reads them besides.
        """
        made: dict[str, str] = {}
        for position, (name, shape) in enumerate(self.inputs):
            made[name] = _hash(f"input {position} {shape}")
        for node in self.nodes:
            sources = [made[name] for name in node.inputs]
            text = " ".join(sorted(sources) if isinstance(node.op, ops.Add) else sources)
            for index, name in enumerate(node.outputs):
                made[name] = _hash(f"{node.op.text()} {text} {index}")
        uses: dict[str, list[str]] = {name: [] for name in self.shapes}
        for position, name in enumerate(self.outputs):
            uses[name].append(f"output {position}")
        for node in reversed(self.nodes):
            used = " ".join(made[name] + _hash(" ".join(sorted(uses[name]))) for name in node.outputs)
            for position, name in enumerate(node.inputs):
                uses[name].append(_hash(f"{'any' if isinstance(node.op, ops.Add) else position} {used}"))

        def order(name: str) -> tuple[str, list[str]]:
            return made[name], sorted(uses[name])

        return {
            node.name: tuple(sorted(node.inputs, key=order)) if isinstance(node.op, ops.Add) else node.inputs
            for node in self.nodes
        }

    @cached_property
    def digest(self) -> str:
        """First 12 hexadecimal digits of the key's SHA-256: a short name for people and file names."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:12]

    def __repr__(self) -> str:
        return f"<Graph {len(self.nodes)} nodes, {self.inputs} -> {self.outputs}>"


def check_arity(op: Op, inputs: Sequence[str], name: str) -> None:
    """Check the number of inputs that a node gives its op.

    Raises:
        GraphError: naming the node.
    """
    if (op.arity is None and len(inputs) < 2) or (op.arity is not None and len(inputs) != op.arity):
        raise GraphError(f"node {name!r} ({op.kind}) has {len(inputs)} inputs")


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def initialise(graph: Graph, seed: int = 0) -> Weights:
    """Make random weights that exercise every term: He-normal convs, biases and BN statistics away from 0 and 1.

    Args:
        graph: any op graph.
        seed: equal seeds make equal weights, whatever the platform.

    Returns:
        float32 weights for ``graph``.
    """
    generator = np.random.default_rng(seed)
    weights: Weights = {}
    for name, parameter in graph.parameters().items():
        role = name.rpartition(".")[2]
        if role == "weight":
            fan_in = max(1, parameter.size // parameter.shape[0])
            values = generator.normal(0.0, np.sqrt(2.0 / fan_in), parameter.shape)
        elif role in ("scale", "variance"):
            values = generator.uniform(0.5, 1.5, parameter.shape)
        else:  # bias, shift, mean
            values = generator.normal(0.0, 0.2, parameter.shape)
        weights[name] = values.astype(np.float32)
    return weights
