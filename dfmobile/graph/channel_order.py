"""ShuffleNetV2's channel shuffles, most of them without moving data: the order of channels is carried in weights.

A shuffle only renames channels. Here a value may keep the order in which it was made, while the convs around it have
the rows and columns of their weights permuted, and a split takes runs of neighbouring channels. A unit whose input
lies in the natural order leaves its shuffle out: its output is two *halves*, passed and made. A unit whose input is
halves takes one run from the middle and passes two on; it either restores the natural order, by one shuffle of four
groups for two units, or, where no unit follows, leaves its shuffle out too: the convs that read a stage's result take
any order. Going on without restoring, units would take their channels from ever more runs, each a copy a pixel.

Nothing is computed differently: each output channel is the same sum, its terms in another order.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from dfmobile.graph import ops
from dfmobile.graph.graph import Graph, Node, Weights

Order = tuple[int, ...]
"""For each channel as it lies in memory, its number in the graph that was not rewritten."""

# Ops that treat every channel alike, whatever its place.
_ALIKE = (
    ops.Relu,
    ops.Relu6,
    ops.MaxPool,
    ops.AveragePool,
    ops.GlobalAveragePool,
    ops.ResizeBilinear,
    ops.Pad,
    ops.BilinearUpsample,
)


@dataclass(frozen=True)
class Reordered:
    """A graph with fewer channel shuffles.

    Attributes:
        graph: the same function of other weights, its outputs' channels in the orders ``outputs``.
        outputs: one order an output.
        rows: by node, the order of its weights' output channels, where that is not the natural one.
        columns: the same for input channels.
    """

    graph: Graph
    outputs: tuple[Order, ...]
    rows: dict[str, Order]
    columns: dict[str, Order]

    def weights(self, weights: Weights) -> Weights:
        """Return weights of the graph that was not rewritten as weights of this one."""
        found = dict(weights)
        for name, order in self.columns.items():
            found[f"{name}.weight"] = found[f"{name}.weight"][:, list(order)]
        for name, order in self.rows.items():
            for role in ("weight", "bias"):
                if f"{name}.{role}" in found:
                    found[f"{name}.{role}"] = found[f"{name}.{role}"][list(order)]
        return found


def natural(channels: int) -> Order:
    """Return the order of a graph that was not rewritten."""
    return tuple(range(channels))


def halves(channels: int) -> Order:
    """Return the order in which a unit's result lies whose shuffle was left out: its upper half in the middle.

    The passed half is in its natural order, the made half starts with the part that the next unit takes.
    """
    half = channels // 2
    return tuple(2 * item for item in range(half)) + tuple(2 * item + 1 for item in _taken_first(half))


def _taken_first(half: int) -> Order:
    """Return the order of a half whose upper part the next unit takes: that part first."""
    return (*range(half // 2, half), *range(half // 2))


def _evens_first(half: int) -> Order:
    return (*range(0, half, 2), *range(1, half, 2))


class _Walk:
    """The state of rewriting one graph."""

    def __init__(self, graph: Graph, from_halves: Collection[str], more: Collection[str]) -> None:
        self.graph = graph
        self.more = more
        self.made_by = {name: node for node in graph.nodes for name in node.outputs}
        self.nodes: list[Node] = []
        self.parts: dict[str, tuple[str, ...]] = {}  # the values that hold a value, one after the other
        self.orders: dict[str, Order] = {}
        self.rows: dict[str, Order] = {}
        self.columns: dict[str, Order] = {}
        self.sizes: dict[str, int] = {}  # channels of what splits make
        for name, shape in graph.inputs:
            self.parts[name] = (name,)
            self.orders[name] = halves(shape[1]) if name in from_halves else natural(shape[1])

    def node(self, node: Node) -> bool:
        """Append what a node becomes; False where it takes its input in the natural order only, and has another."""
        op = node.op
        orders = [self.orders[name] for name in node.inputs]
        if isinstance(op, ops.ChannelShuffle):
            self._shuffle(node, op, orders[0])
        elif isinstance(op, ops.Conv):
            order = self._written(node)
            self._permute(self.columns, node, orders[0])
            self._permute(self.rows, node, order)
            self._keep(node, order)
        elif isinstance(op, ops.DepthwiseConv):
            self._permute(self.rows, node, orders[0])
            self._keep(node, orders[0])
        elif isinstance(op, ops.FullyConnected):
            self._permute(self.columns, node, orders[0])
            self._keep(node, natural(op.out_features))
        elif isinstance(op, ops.Concat):
            self._concat(node, orders)
        elif isinstance(op, ops.Split):
            self._split(node, op, orders[0])
        elif isinstance(op, _ALIKE):
            self._keep(node, orders[0])
        elif all(order == natural(len(order)) for order in orders):
            for name in node.inputs:
                self.joined(name)
            self._keep(node, natural(self.graph.shapes[node.outputs[0]][1]))
        else:
            return False
        return True

    def joined(self, name: str) -> str:
        """Return the one value that holds a value of the old graph, put together here where it lies in parts."""
        parts = self.parts[name]
        if len(parts) > 1:
            joined = f"{name}/joined"
            self.nodes.append(Node(joined, ops.Concat(), parts, (joined,)))
            self.parts[name] = (joined,)
        return self.parts[name][0]

    def _keep(self, node: Node, order: Order) -> None:
        inputs = tuple(self.joined(name) for name in node.inputs)
        self.nodes.append(dataclasses.replace(node, inputs=inputs))
        self.parts[node.outputs[0]], self.orders[node.outputs[0]] = node.outputs, order

    @staticmethod
    def _permute(found: dict[str, Order], node: Node, order: Order) -> None:
        if order != natural(len(order)):
            found[node.name] = order

    def _pair(self, shuffle: Node) -> Node | None:
        """Return the concat of two equal parts that alone feeds a shuffle of two groups and nothing else."""
        concat = self.made_by.get(shuffle.inputs[0])
        if concat is None or shuffle.op != ops.ChannelShuffle(2) or not isinstance(concat.op, ops.Concat):
            return None
        channels = [self.graph.shapes[name][1] for name in concat.inputs]
        alone = len(self.graph.consumers[concat.outputs[0]]) == 1 and concat.outputs[0] not in self.graph.outputs
        fits = len(channels) == 2 and channels[0] == channels[1] and channels[0] % 2 == 0
        return concat if alone and fits else None

    def _restores(self, shuffle: Node, concat: Node) -> bool:
        """Return whether a pair's shuffle stays: a unit follows, and this one's input came as halves."""
        name = shuffle.outputs[0]
        half = self.graph.shapes[name][1] // 2
        follows = any(node.op == ops.Split((half, half)) for node in self.graph.consumers[name])
        passed = [self.sizes.get(part) for part in self.parts.get(concat.inputs[0], ())]
        return (follows or name in self.more) and passed == [half // 2, half // 2]

    def _written(self, node: Node) -> Order:
        """Return the order in which a conv writes its channels: the natural one, unless they are to be shuffled."""
        channels = self.graph.shapes[node.outputs[0]][1]
        name = node.outputs[0]
        while True:
            readers = self.graph.consumers[name]
            if len(readers) != 1 or name in self.graph.outputs:
                return natural(channels)
            if not isinstance(readers[0].op, _ALIKE):
                break
            name = readers[0].outputs[0]
        concat = readers[0]
        shuffles = self.graph.consumers[concat.outputs[0]] if isinstance(concat.op, ops.Concat) else ()
        if len(shuffles) != 1 or self._pair(shuffles[0]) is not concat or concat.inputs[1] != name:
            return natural(channels)
        return _evens_first(channels) if self._restores(shuffles[0], concat) else _taken_first(channels)

    def _concat(self, node: Node, orders: Sequence[Order]) -> None:
        """Append a concat; what lies in parts is put together here, once."""
        starts = itertools.accumulate((len(order) for order in orders), initial=0)
        order = tuple(start + item for start, each in zip(starts, orders, strict=False) for item in each)
        parts = [self.parts[name] for name in node.inputs]
        shuffles = self.graph.consumers[node.outputs[0]]
        if len(shuffles) == 1 and self._pair(shuffles[0]) is node and self._restores(shuffles[0], node):
            each = len(order) // 4
            made = node.inputs[1]
            evens, odds = f"{node.name}/made:0", f"{node.name}/made:1"
            self.nodes.append(Node(f"{node.name}/made", ops.Split((each, each)), (self.joined(made),), (evens, odds)))
            parts = [(parts[0][0], evens, parts[0][1], odds)]
            quarters = [order[start : start + each] for start in range(0, 4 * each, each)]
            order = (*quarters[0], *quarters[2], *quarters[1], *quarters[3])
        inputs = tuple(part for item in parts for part in item)
        self.nodes.append(dataclasses.replace(node, inputs=inputs))
        self.parts[node.outputs[0]], self.orders[node.outputs[0]] = node.outputs, order

    def _shuffle(self, node: Node, op: ops.ChannelShuffle, order: Order) -> None:
        """Rename the channels; move them too where the shuffle stays."""
        each = len(order) // op.groups
        renamed = tuple(item % each * op.groups + item // each for item in order)
        concat = self._pair(node)
        if concat is not None and not self._restores(node, concat):
            self.parts[node.outputs[0]], self.orders[node.outputs[0]] = self.parts[node.inputs[0]], renamed
            return
        groups = op.groups if concat is None else 4
        each = len(order) // groups
        moved = tuple(renamed[place % groups * each + place // groups] for place in range(len(order)))
        self._keep(dataclasses.replace(node, op=ops.ChannelShuffle(groups)), moved)

    def _split(self, node: Node, op: ops.Split, order: Order) -> None:
        """Append a split into runs of channels that belong to the same part."""
        ends = list(itertools.accumulate(op.sizes))
        owners = [next(part for part, end in enumerate(ends) if item < end) for item in order]
        runs = [(part, len(list(run))) for part, run in itertools.groupby(owners)]
        names = tuple(f"{node.name}:{number}" for number in range(len(runs)))
        sizes = tuple(size for _, size in runs)
        self.nodes.append(Node(node.name, ops.Split(sizes), (self.joined(node.inputs[0]),), names))
        self.sizes.update(zip(names, sizes, strict=True))
        for part, output in enumerate(node.outputs):
            start = ends[part] - op.sizes[part]
            self.parts[output] = tuple(name for name, (owner, _) in zip(names, runs, strict=True) if owner == part)
            self.orders[output] = tuple(
                item - start for item, owner in zip(order, owners, strict=True) if owner == part
            )


def reorder_channels(
    graph: Graph, *, from_halves: Collection[str] = (), more: Collection[str] = (), any_order: bool = False
) -> Reordered:
    """Leave out the channel shuffles that can be, and halve the number of the others.

    Args:
        graph: deployed form.
        from_halves: inputs whose channels lie in the order ``halves``; those of the others in the natural one.
        more: outputs that a shuffle unit outside the graph reads.
        any_order: whether outputs may come in another order, as those of a block inside a network.

    Returns:
        The graph as it is where shuffled channels reach an output (without ``any_order``) or an op that takes them in
        their natural order only.
    """
    unchanged = Reordered(graph, tuple(natural(graph.shapes[name][1]) for name in graph.outputs), {}, {})
    if not any(isinstance(node.op, ops.ChannelShuffle) for node in graph.nodes):
        return unchanged
    walk = _Walk(graph, from_halves, more)
    if not all(walk.node(node) for node in graph.nodes):
        return unchanged
    outputs = tuple(walk.joined(name) for name in graph.outputs)
    orders = tuple(walk.orders[name] for name in graph.outputs)
    if not any_order and any(order != natural(len(order)) for order in orders):
        return unchanged
    return Reordered(Graph(graph.inputs, walk.nodes, outputs), orders, walk.rows, walk.columns)
