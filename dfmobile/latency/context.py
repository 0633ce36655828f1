"""A block as a part of a network: what runs before it, so that it is timed with the tensors that a network gives it.

A block that is an engine of its own pays what it would not pay inside a network: its inputs come in the plain layout
and precision of the engine's border, and are reformatted before its first kernel may begin. *Marginal* cost leaves
that out: the time of (prefix + block) less the time of the prefix alone.

The prefix is one 1x1 convolution with ReLU for each input of the block, from at most 32 channels to the block's. Why
this one: what comes before a block in these networks is a convolution with ReLU, so the runtime chooses for the tensor
between the two the layout and precision that it chooses in a network; few input channels make it short, so that the
difference is of large and small, not of two large numbers; and 32 is a multiple of what kernels for half precision and
for int8 want. A block that reads the image has no prefix: in a network nothing runs before it either, and what a run
costs beyond its layers (to launch it, to take the image in) is then counted once, with the block that is there once.

Both graphs end with a tensor at the engine's border, of the block's output and of its input: what that costs cancels
where the two are of one size, and else up to the difference of their sizes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

from dfmobile.graph import Graph, GraphBuilder, Node, ops
from dfmobile.latency.models import Deployable

PREFIX_CHANNELS = 32
IMAGE_CHANNELS = 4
RULE = f"1x1 conv + ReLU from {PREFIX_CHANNELS} channels"
"""The prefix in words, for the flags of a table: another prefix makes another cost."""


@dataclass(frozen=True)
class ContextGraph:
    """A graph that a model file is made of, beside a block's own.

    Attributes:
        graph: deployed form.
    """

    graph: Graph

    @cached_property
    def key(self) -> str:
        """Which model it is: its names count too, since weights go by them."""
        return f"context {self.graph.key} {' '.join(node.name for node in self.graph.nodes)}"

    @property
    def digest(self) -> str:
        """Short name of the key, 12 hexadecimal digits."""
        return hashlib.sha256(self.key.encode()).hexdigest()[:12]


def prefix_of(block: Deployable) -> ContextGraph | None:
    """Return what runs before a block; None for a block that reads the image."""
    shapes = [shape for _, shape in block.graph.inputs]
    if any(len(shape) != 4 or shape[1] <= IMAGE_CHANNELS for shape in shapes):
        return None
    builder, outputs = _prefix(block.graph)
    return ContextGraph(builder.build(*outputs.values()))


def with_prefix(block: Deployable) -> ContextGraph:
    """Return the block behind its prefix, as one graph.

    Raises:
        GraphError: if the block has no prefix.
    """
    graph = block.graph
    builder, source = _prefix(graph)
    renamed = dict(source)
    own = [
        Node(node.name, node.op, tuple(renamed.get(name, name) for name in node.inputs), node.outputs)
        for node in graph.nodes
    ]
    inputs = [(f"prefix/{name}", _narrow(shape)) for name, shape in graph.inputs]
    return ContextGraph(Graph(inputs, [*builder.nodes, *own], graph.outputs))


def _prefix(graph: Graph) -> tuple[GraphBuilder, dict[str, str]]:
    """Return the prefix's nodes, and which of its values stands for each input of the graph."""
    builder = GraphBuilder()
    values = {name: builder.input(f"prefix/{name}", _narrow(shape)) for name, shape in graph.inputs}
    found = {}
    for name, shape in graph.inputs:
        op = ops.Conv(shape[1], (1, 1), (1, 1), (0, 0), True)
        convolved = builder.add_op(op, values[name], name=f"prefix/{name}/conv")[0]
        found[name] = builder.relu(convolved, name=f"prefix/{name}/relu")
    return builder, found


def _narrow(shape: ops.Shape) -> ops.Shape:
    return (shape[0], min(shape[1], PREFIX_CHANNELS), *shape[2:])
