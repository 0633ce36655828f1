"""Shuffles moved into weights: fewer ops move channels, and every output is the same sum as before."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfmobile.architecture import Architecture, build
from dfmobile.graph import Graph, GraphBuilder, Weights, initialise, ops, reference
from dfmobile.graph.channel_order import Reordered, halves, natural, reorder_channels
from dfmobile.graph.exported import exported_form
from dfmobile.graph.fold import fold_batch_norm
from dfmobile.testing.op_graphs import shuffle_unit, small_networks


def branch(builder: GraphBuilder, value: str, width: int, stride: int = 1) -> str:
    value = builder.relu(builder.conv(value, width, 1, bias=True))
    value = builder.depthwise_conv(value, 3, stride=stride, padding=1, bias=True)
    return builder.relu(builder.conv(value, width, 1, bias=True))


def unit(builder: GraphBuilder, value: str, half: int) -> str:
    passed, taken = builder.split(value, (half, half))
    joined = builder.concat(passed, branch(builder, taken, half))
    return builder.add_op(ops.ChannelShuffle(2), joined)[0]


def stage(half: int, units: int, *, down: bool = True, end: str = "conv") -> Graph:
    """Return a shuffle stage, and what reads its result."""
    builder = GraphBuilder()
    value = builder.input("x", (1, 2 * half, 6, 4))
    if down:
        left = builder.depthwise_conv(value, 3, stride=2, padding=1, bias=True)
        left = builder.relu(builder.conv(left, half, 1, bias=True))
        joined = builder.concat(left, branch(builder, value, half, stride=2))
        value = builder.add_op(ops.ChannelShuffle(2), joined)[0]
    for _ in range(units):
        value = unit(builder, value, half)
    if end == "conv":
        value = builder.conv(value, 3, 3, padding=1)
    elif end == "classifier":
        value = builder.add_op(ops.FullyConnected(5), builder.add_op(ops.GlobalAveragePool(), value)[0])[0]
    return builder.build(value)


def same(graph: Graph, found: Reordered) -> None:
    """Check that both compute the same, in float64, the rewritten one's channels put back into their order."""
    weights = initialise(graph)
    inputs = {name: np.random.default_rng(1).standard_normal(shape) for name, shape in graph.inputs}
    before = reference.run(graph, weights, inputs)
    after = reference.run(found.graph, found.weights(weights), inputs)
    for name, renamed, order in zip(graph.outputs, found.graph.outputs, found.outputs, strict=True):
        expected = before[name][:, list(order)]
        np.testing.assert_allclose(after[renamed], expected, rtol=0, atol=1e-12 * max(1.0, np.abs(expected).max()))


def shuffles(graph: Graph) -> list[int]:
    return [node.op.groups for node in graph.nodes if isinstance(node.op, ops.ChannelShuffle)]


@settings(deadline=None)
@given(st.integers(1, 9), st.integers(0, 7), st.booleans(), st.sampled_from(["conv", "classifier"]))
def test_any_stage_computes_the_same(half: int, units: int, down: bool, end: str) -> None:
    graph = stage(half, units, down=down, end=end)
    same(graph, reorder_channels(graph))


@given(graph=small_networks())
def test_any_network_computes_the_same(graph: Graph) -> None:
    deployed = fold_batch_norm(graph)
    same(deployed, reorder_channels(deployed))


@pytest.mark.parametrize(("units", "kept"), [(0, 0), (1, 0), (2, 1), (3, 1), (4, 2), (7, 3)])
def test_one_shuffle_is_left_for_two_units_and_none_at_the_end(units: int, kept: int) -> None:
    assert shuffles(reorder_channels(stage(8, units)).graph) == [4] * kept


def test_halves_of_odd_width_keep_their_shuffles() -> None:
    assert shuffles(reorder_channels(stage(7, 3)).graph) == [2] * 4


@pytest.mark.parametrize("end", ["conv", "none"])
def test_a_graph_that_returns_shuffled_channels_stays_as_it_is(end: str) -> None:
    graph = stage(8, 3, end=end)
    found = reorder_channels(graph)
    assert (found.graph is graph) == (end == "none")
    free = reorder_channels(graph, any_order=True)
    assert len(shuffles(free.graph)) == 1
    same(graph, free)
    assert (free.outputs[0] == natural(16)) is False or end == "conv"


def test_an_op_that_takes_channels_in_their_order_only_keeps_the_shuffles() -> None:
    builder = GraphBuilder()
    left, right = (unit(builder, builder.input(name, (1, 8, 4, 4)), 4) for name in ("x", "y"))
    graph = builder.build(builder.conv(builder.add(left, right), 3, 1))
    assert reorder_channels(graph).graph is graph


def test_what_is_in_the_exported_form_stays() -> None:
    for graph in (stage(8, 5), stage(6, 2, end="classifier"), shuffle_unit()):
        once = exported_form(graph)
        again = exported_form(once.graph)
        assert again.graph.key == once.graph.key
        weights: Weights = initialise(once.graph)
        for name, values in again.weights(weights).items():
            np.testing.assert_array_equal(values, weights[name])


def test_halves_put_what_the_next_unit_takes_in_the_middle() -> None:
    assert halves(8) == (0, 2, 4, 6, 5, 7, 1, 3)
    assert sorted(halves(8)[2:6]) == [4, 5, 6, 7]


@pytest.mark.parametrize(
    "text",
    [
        "shuffle/4x8/8x16/4x24+seg:4,6,8",
        "shuffle/1x8/2x12/3x16",
        "shuffle/2x6/5x10/3x16",
        "shuffle/1x4/1x8/1x8+seg:3,5,7:d8",
    ],
)
def test_a_network_consists_of_exactly_its_blocks_ops(text: str) -> None:
    """What is measured alone is what runs in the network: each block's ops are the network's, none more, none less."""
    network = build(Architecture.parse(text), 64, 64)
    whole = Counter(node.op.text() for node in exported_form(network.graph).graph.nodes)
    assert whole == Counter(node.op.text() for block in network.blocks for node in block.graph.nodes)
