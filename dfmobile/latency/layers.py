"""Layers: the parts in which runtimes' per-layer logs time a network, keyed like blocks by their op graph and shapes.

Recorded logs do not know blocks. They time what the runtime ran as one kernel, so a deployed op graph is cut the
same way here, and a layer has the same key in whatever network it occurs. Two ways of cutting are known:

- ``fused``, as TensorRT 3 logs it: a conv with the add and the ReLU that follow it is one layer (of an add's
  operands the conv that runs last takes it); a concat is free, but what a kernel cannot write into its part of the
  concat (resized and upsampled maps) is copied there, and the copy is a layer.
- ``unfused``, as Caffe logs it: each op is a layer, the input too, and a map that several ops read is forked.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Literal

from dfmobile.errors import InputError, quoted
from dfmobile.graph import Graph, cost, ops
from dfmobile.graph.graph import Node
from dfmobile.graph.ops import Shape

Fusion = Literal["fused", "unfused"]
_NOT_IN_PLACE = (ops.ResizeBilinear, ops.BilinearUpsample, ops.TransposedConv)


@dataclass(frozen=True)
class Copy(ops.Elementwise):
    """A map copied into its part of a concat; occurs in layers only, never in networks."""

    kind: ClassVar[str] = "copy"


@dataclass(frozen=True)
class Fork(ops.Elementwise):
    """A map handed to several readers (Caffe's Split); occurs in layers only, never in networks."""

    readers: int
    kind: ClassVar[str] = "fork"


@dataclass(frozen=True)
class Layer:
    """What a runtime times as one.

    Attributes:
        name: node names in the network, for people and for matching logs; no part of the key.
        graph: alone, with its inputs.
    """

    name: str
    graph: Graph

    @property
    def key(self) -> str:
        """LUT key: canonical text of the graph."""
        return self.graph.key

    @cached_property
    def kind(self) -> str:
        """Ops joined by plus, e.g. ``conv+relu``; ``input`` for a network's input."""
        return "+".join(node.op.kind for node in self.graph.nodes) or "input"

    @property
    def input_shapes(self) -> tuple[Shape, ...]:
        """``[N, C, H, W]`` of each input."""
        return tuple(shape for _, shape in self.graph.inputs)

    @property
    def output_shape(self) -> Shape:
        """Shape that the layer makes."""
        return self.graph.shapes[self.graph.outputs[0]]

    @cached_property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return cost.macs(self.graph)

    @property
    def text(self) -> str:
        """A line for people: kind, shapes, short key."""
        inputs = " + ".join("x".join(map(str, shape[1:])) for shape in self.input_shapes)
        return f"{self.kind} {inputs} -> {'x'.join(map(str, self.output_shape[1:]))} ({self.graph.digest})"


def fusion_of(name: object) -> Fusion:
    """Return a way of cutting by its name.

    Raises:
        InputError: if there is none.
    """
    if name == "fused":
        return "fused"
    if name == "unfused":
        return "unfused"
    raise InputError(f"unknown way of cutting a network into layers: {quoted(str(name))}", hint="fused or unfused")


def layers_of(graph: Graph, fusion: Fusion) -> tuple[Layer, ...]:
    """Cut a network into layers.

    Args:
        graph: in its deployed form (batch norm folded).
        fusion: how.

    Returns:
        Layers, in execution order.
    """
    return _fused(graph) if fusion == "fused" else _unfused(graph)


def layer_of(name: str, inputs: Sequence[Shape], emit: Callable[[Sequence[str]], Sequence[Node]]) -> Layer:
    """Return a layer written by hand.

    Args:
        name: for people.
        inputs: shapes.
        emit: gets the inputs' names, returns the nodes; the last one's first output is the layer's.
    """
    names = [f"input{number}" for number in range(len(inputs))]
    nodes = emit(names)
    outputs = [nodes[-1].outputs[0] if nodes else names[0]]
    return Layer(name, Graph(list(zip(names, inputs, strict=True)), nodes, outputs))


def _cut(graph: Graph, nodes: Sequence[Node]) -> Layer:
    """Return some nodes of a graph, each reading the one before it, as a layer of their own.

    Every read from outside is an input of its own, the same map twice too: logs do not tell.
    """
    made = {name for node in nodes for name in node.outputs}
    inputs: list[tuple[str, Shape]] = []
    renamed = []
    for node in nodes:
        read = list(node.inputs)
        for place, name in enumerate(read):
            if name not in made:
                read[place] = f"input{len(inputs)}"
                inputs.append((read[place], graph.shapes[name]))
        renamed.append(Node(node.name, node.op, tuple(read), node.outputs))
    return Layer(" + ".join(node.name for node in nodes), Graph(inputs, renamed, nodes[-1].outputs[:1]))


def _single(name: str, shape: Shape, op: ops.Op) -> Layer:
    return layer_of(name, [shape], lambda inputs: [Node(name, op, (inputs[0],), (name,))])


def _fused(graph: Graph) -> tuple[Layer, ...]:
    made_by = {name: node for node in graph.nodes for name in node.outputs}
    position = {node.name: number for number, node in enumerate(graph.nodes)}

    def only_reader(node: Node) -> Node | None:
        readers = graph.consumers[node.outputs[0]]
        return readers[0] if len(readers) == 1 and node.outputs[0] not in graph.outputs else None

    taken: set[str] = set()
    groups: dict[str, list[Node]] = {}  # by the conv's name
    for node in graph.nodes:
        if isinstance(node.op, ops.Add):
            operands = [made_by[name] for name in node.inputs if name in made_by]
            convs = [item for item in operands if isinstance(item.op, ops.Conv) and only_reader(item) is node]
            if convs:
                groups[max(convs, key=lambda item: position[item.name]).name] = [node]
                taken.add(node.name)
    for node in graph.nodes:
        if isinstance(node.op, (ops.Conv, ops.DepthwiseConv, ops.Add)) and node.name not in taken:
            group = [node, *groups.get(node.name, [])]
            last = only_reader(group[-1])
            if last is not None and isinstance(last.op, (ops.Relu, ops.Relu6)):
                group.append(last)
                taken.add(last.name)
            groups[node.name] = group
    found = []
    for node in graph.nodes:
        if node.name in taken:
            continue
        if isinstance(node.op, ops.Concat):
            for name in node.inputs:
                if name in made_by and isinstance(made_by[name].op, _NOT_IN_PLACE):
                    found.append(_single(f"{name} copy", graph.shapes[name], Copy()))  # noqa: PERF401  (one of two kinds)
        else:
            found.append(_cut(graph, groups.get(node.name, [node])))
    return tuple(found)


def _unfused(graph: Graph) -> tuple[Layer, ...]:
    found = []

    def add_fork(name: str) -> None:
        readers = len(graph.consumers[name])
        if readers > 1:
            found.append(_single(f"{name} fork", graph.shapes[name], Fork(readers)))

    for name, shape in graph.inputs:
        found.append(layer_of(name, [shape], lambda _: []))
        add_fork(name)
    for node in graph.nodes:
        found.append(_cut(graph, [node]))
        for name in node.outputs:
            add_fork(name)
    return tuple(found)
