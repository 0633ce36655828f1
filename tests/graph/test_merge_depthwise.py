"""A depthwise conv of few channels and the 1x1 conv behind it are one conv of the same results."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfmobile.graph import Graph, GraphBuilder, initialise, ops, reference
from dfmobile.graph.merge_depthwise import MAX_CHANNELS, merge_depthwise, merge_depthwise_weights


def pair(
    channels: int = 3,
    *,
    stride: int = 2,
    kernel: int = 3,
    biases: tuple[bool, bool] = (True, True),
    between: bool = False,
) -> Graph:
    builder = GraphBuilder()
    value = builder.input("x", (2, channels, 9, 8))
    value = builder.depthwise_conv(value, kernel, stride=stride, padding=kernel // 2, bias=biases[0])
    value = builder.relu(value) if between else value
    return builder.build(builder.relu(builder.conv(value, 5, 1, bias=biases[1])))


def kinds(graph: Graph) -> list[str]:
    return [node.op.kind for node in graph.nodes]


@settings(deadline=None)
@given(
    st.integers(1, MAX_CHANNELS),
    st.integers(1, 3),
    st.sampled_from([1, 3, 5]),
    st.tuples(st.booleans(), st.booleans()),
)
def test_computes_the_same(channels: int, stride: int, kernel: int, biases: tuple[bool, bool]) -> None:
    graph = pair(channels, stride=stride, kernel=kernel, biases=biases)
    weights = initialise(graph)
    merged, moved = merge_depthwise(graph), merge_depthwise_weights(graph, weights)
    assert kinds(merged) == ["conv", "relu"]
    merged.check_weights(moved)
    inputs = {"x": np.random.default_rng(0).standard_normal((2, channels, 9, 8))}
    before, after = (reference.run(*item, inputs)[graph.outputs[0]] for item in ((graph, weights), (merged, moved)))
    np.testing.assert_allclose(after, before, rtol=0, atol=1e-6 * max(1.0, np.abs(before).max()))  # float32 weights


@pytest.mark.parametrize("graph", [pair(MAX_CHANNELS + 1), pair(between=True)])
def test_more_channels_or_an_activation_between_stay(graph: Graph) -> None:
    assert kinds(merge_depthwise(graph)) == kinds(graph)


def test_a_map_that_is_read_twice_or_returned_stays() -> None:
    builder = GraphBuilder()
    value = builder.depthwise_conv(builder.input("x", (1, 3, 8, 8)), 3, padding=1)
    mixed = builder.conv(value, 4, 1)
    for outputs in ((mixed, value), (mixed, builder.add_op(ops.Relu(), value)[0])):
        graph = builder.build(*outputs)
        assert kinds(merge_depthwise(graph)) == kinds(graph)
