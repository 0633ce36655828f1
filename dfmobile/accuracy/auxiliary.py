"""A second head on an earlier stage, for training only: it teaches the backbone and is never exported.

Source: Zhao et al., Pyramid Scene Parsing Network, CVPR 2017.
"""

from __future__ import annotations

from dfmobile.architecture import Network
from dfmobile.architecture.blocks import DEFAULT_EPSILON
from dfmobile.graph import Graph, GraphBuilder, Weights

PREFIX = "auxiliary"
_REDUCTION = 4


def with_auxiliary_head(network: Network, stage: int) -> Graph:
    """Return a network's training form with a second output.

    The head's nodes come last, so that the network's own weights begin as they do without it.

    Args:
        network: a segmentation network.
        stage: whose last block feeds the head.

    Returns:
        A graph with two outputs: the network's, and scores ``[N, classes, h, w]`` at that stage's stride.
    """
    graph = network.graph
    source = [block.name for block in network.blocks if block.name.startswith(f"stage{stage}.")][-1]
    builder = GraphBuilder()
    values = {name: builder.input(name, shape) for name, shape in graph.inputs}
    for placed in network.blocks:
        values[placed.name] = placed.block.emit(builder, placed.name, *(values[name] for name in placed.sources))
    score, feature = values[network.blocks[-1].name], values[source]
    classes = network.architecture.classes
    width = max(classes, builder.shape(feature)[1] // _REDUCTION)
    value = builder.conv(feature, width, 3, padding=1, name=f"{PREFIX}.conv")
    value = builder.relu(builder.batch_norm(value, DEFAULT_EPSILON, name=f"{PREFIX}.bn"), name=f"{PREFIX}.relu")
    value = builder.conv(value, classes, 1, bias=True, name=f"{PREFIX}.score")
    return builder.build(score, value)


def without_auxiliary_head(weights: Weights) -> Weights:
    """Return the weights of the network alone."""
    return {name: values for name, values in weights.items() if not name.startswith(f"{PREFIX}.")}
