"""A graph on some rows of its input: a cheap way to know some rows of what it computes exactly.

Most blocks are local: a row of the output depends on a few rows of the input. Such a graph is cut to a strip of
rows, and the rows of the strip's output that the cut does not reach equal the whole graph's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from dfmobile.errors import GraphError
from dfmobile.graph import ops
from dfmobile.graph.graph import Graph, Node

_POINTWISE = (ops.Relu, ops.Relu6, ops.Add, ops.Concat, ops.Split, ops.ChannelShuffle, ops.BatchNorm)
_WINDOWS = (ops.Conv, ops.DepthwiseConv, ops.MaxPool)


@dataclass(frozen=True)
class Rows:
    """Which rows of a value a strip has, counted as in the whole value.

    Attributes:
        start: of the strip.
        first: first row that equals the whole graph's.
        end: behind the last such row.
    """

    start: int
    first: int
    end: int


@dataclass(frozen=True)
class Strip:
    """A graph cut to rows of its inputs.

    Attributes:
        graph: the same ops on fewer rows.
        start: first row of the inputs.
        end: behind the last row of the inputs.
        outputs: rows by name of the graph's outputs.
    """

    graph: Graph
    start: int
    end: int
    outputs: dict[str, Rows]

    @property
    def rows(self) -> int:
        """Fewest sound rows of any output."""
        return min(item.end - item.first for item in self.outputs.values())


def cut(graph: Graph, start: int, end: int) -> Strip | None:
    """Cut a graph to rows ``start`` to ``end`` of its inputs.

    Returns:
        None where that cannot be done: an op that is not local, inputs of different heights, a start that strides
        do not divide, or no sound row is left.
    """
    heights = {shape[2] for _, shape in graph.inputs if len(shape) == 4}
    if len(heights) != 1 or any(len(shape) != 4 for _, shape in graph.inputs):
        return None
    known = {name: Rows(start, start, end) for name, _ in graph.inputs}
    shapes = [(name, (n, c, end - start, w)) for name, (n, c, _, w) in graph.inputs]
    try:
        smaller = Graph(shapes, graph.nodes, graph.outputs)
    except GraphError:  # a window is larger than the strip
        return None
    for node in graph.nodes:
        found = _through(graph, smaller, node, [known[name] for name in node.inputs])
        if found is None:
            return None
        known.update((name, found) for name in node.outputs)
    return Strip(smaller, start, end, {name: known[name] for name in graph.outputs})


def _through(whole: Graph, smaller: Graph, node: Node, inputs: list[Rows]) -> Rows | None:
    """Return which rows of a node's outputs are sound, None where that is not known or none is."""
    op, rows = node.op, inputs[0]
    if isinstance(op, _POINTWISE):
        if any(item.start != rows.start for item in inputs):
            return None
        first, end = max(item.first for item in inputs), min(item.end for item in inputs)
        return Rows(rows.start, first, end) if first < end else None
    if not isinstance(op, _WINDOWS):
        return None
    kernel, stride, padding = op.kernel[0], op.stride[0], op.padding[0]
    if rows.start % stride:
        return None
    height = whole.shapes[node.inputs[0]][2]
    cut_end = rows.start + smaller.shapes[node.inputs[0]][2]
    # Padding is what the whole graph has only where the strip ends with the map itself.
    first = 0 if rows.start == rows.first == 0 else -(-(rows.first + padding) // stride)
    full = cut_end == rows.end == height
    end = whole.shapes[node.outputs[0]][2] if full else (rows.end - kernel + padding) // stride + 1
    return Rows(rows.start // stride, first, end) if first < end else None


def border_strips(graph: Graph, least_rows: int = 2, largest_share: float = 0.34) -> list[Strip]:
    """Return a strip at the top and one at the bottom: borders, corners and inner rows, at a fraction of the cost.

    Args:
        graph: any graph.
        least_rows: sound rows that each strip has at least.
        largest_share: of the inputs' rows that one strip takes at most.

    Returns:
        Two strips; an empty list where the graph cannot be cut, or strips would not be much smaller than it.
    """
    height = graph.inputs[0][1][2] if len(graph.inputs[0][1]) == 4 else 0
    found = []
    for top in (True, False):
        sizes = range(1, int(height * largest_share) + 1)
        strips = (cut(graph, 0, size) if top else cut(graph, height - size, height) for size in sizes)
        strip = next((item for item in strips if item is not None and item.rows >= least_rows), None)
        if strip is None:
            return []
        found.append(strip)
    return found


def rows_of(strips: list[Strip], output: str) -> Iterator[tuple[Strip, slice, slice]]:
    """Yield, for each strip: the strip, its sound rows in its own output, and where they are in the whole output."""
    for strip in strips:
        rows = strip.outputs[output]
        yield strip, slice(rows.first - rows.start, rows.end - rows.start), slice(rows.first, rows.end)
