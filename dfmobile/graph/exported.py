"""The exported form of a graph: what model files are written from, and what LUT keys are the text of.

Batch norm is folded and shuffles are moved into weights. Training, weights files, MACs and parameters know nothing of
it: those are of the graph as its author wrote it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from dfmobile.graph import ops
from dfmobile.graph.channel_order import Reordered, reorder_channels
from dfmobile.graph.fold import fold_batch_norm, fold_weights
from dfmobile.graph.graph import Graph, Weights

EXPORT_VERSION = 2
"""Raised whenever the same architecture is written as other ops: a latency table holds the times of one version.

1: batch norm folded. 2: shuffles moved into weights; in .onnx files a depthwise conv of an image and the 1x1 conv
behind it are one conv, and fixed bilinear transposed convs are resizes.
"""


@dataclass(frozen=True)
class Exported:
    """A graph in its exported form.

    Attributes:
        source: the graph as it was given, training or deployed form.
        deployed: batch norm folded.
        reordered: shuffles moved into weights.
    """

    source: Graph
    deployed: Graph
    reordered: Reordered

    @property
    def graph(self) -> Graph:
        """The graph to write; its outputs are those of ``source``, by position."""
        return self.reordered.graph

    def weights(self, weights: Weights) -> Weights:
        """Return the weights of ``graph``.

        Args:
            weights: of ``source``.

        Raises:
            GraphError: if they do not fit ``source``.
        """
        if self.deployed is self.source:
            self.source.check_weights(weights)
            return self.reordered.weights(weights)
        return self.reordered.weights(fold_weights(self.source, weights))


def exported_form(
    graph: Graph, *, from_halves: Collection[str] = (), more: Collection[str] = (), any_order: bool = False
) -> Exported:
    """Return a graph in its exported form; what is in that form already stays.

    Args:
        graph: training or deployed form.
        from_halves: see ``channel_order.reorder_channels``, for a block that is cut out of a network.
        more: likewise.
        any_order: likewise.
    """
    folded = any(isinstance(node.op, ops.BatchNorm) for node in graph.nodes)
    deployed = fold_batch_norm(graph) if folded else graph
    reordered = reorder_channels(deployed, from_halves=from_halves, more=more, any_order=any_order)
    return Exported(graph, deployed, reordered)
