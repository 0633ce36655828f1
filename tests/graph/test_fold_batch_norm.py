"""Folding batch norm changes the form of a graph, not what it computes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from dfmobile.graph import Graph, GraphBuilder, initialise, ops, reference
from dfmobile.graph.cost import params
from dfmobile.graph.fold import fold_batch_norm, fold_weights
from dfmobile.testing.op_graphs import EVEN, NETWORK_CASES, small_networks


def assert_folds(graph: Graph) -> None:
    weights = initialise(graph)
    deployed, folded = fold_batch_norm(graph), fold_weights(graph, weights)
    deployed.check_weights(folded)
    assert not any(isinstance(node.op, ops.BatchNorm) for node in deployed.nodes)
    generator = np.random.default_rng(0)
    inputs = {name: generator.standard_normal(shape) for name, shape in graph.inputs}
    before, after = reference.run(graph, weights, inputs), reference.run(deployed, folded, inputs)
    for name, renamed in zip(graph.outputs, deployed.outputs, strict=True):
        scale = max(1.0, float(np.abs(before[name]).max()))
        np.testing.assert_allclose(after[renamed], before[name], rtol=0, atol=1e-6 * scale)  # float32 weights


@pytest.mark.parametrize("case", NETWORK_CASES)
def test_small_networks_compute_the_same(case: str) -> None:
    assert_folds(NETWORK_CASES[case]())


@given(graph=small_networks())
def test_any_network_computes_the_same(graph: Graph) -> None:
    assert_folds(graph)


@pytest.mark.parametrize(
    "op",
    [
        ops.Conv(5, (3, 3), bias=True),
        ops.DepthwiseConv((3, 3)),
        ops.TransposedConv(5, (4, 4), (2, 2), (1, 1), bias=True),
        ops.TransposedConv(8, (4, 4), (2, 2), (1, 1), depthwise=True),
    ],
    ids=lambda op: op.text(),
)
def test_a_batch_norm_becomes_the_bias_of_the_op_before_it(op: ops.Op) -> None:
    builder = GraphBuilder()
    graph = builder.build(builder.batch_norm(builder.add_op(op, builder.input("x", EVEN), name="op")[0], 1e-4))
    assert_folds(graph)
    (node,) = fold_batch_norm(graph).nodes
    assert (node.name, node.op.kind) == ("op", op.kind)
    # The norm's scale and shift are gone, a bias has come where there was none.
    channels = graph.shapes[graph.outputs[0]][1]
    assert params(fold_batch_norm(graph)) == params(graph) - 2 * channels + (0 if op.bias else channels)  # type: ignore[attr-defined]


def test_a_conv_that_is_read_elsewhere_keeps_its_values() -> None:
    builder = GraphBuilder()
    conv = builder.conv(builder.input("x", EVEN), 4, 1, name="conv")
    norm = builder.batch_norm(conv, 1e-4, name="norm")
    for outputs in ((norm, conv), (builder.add(norm, conv),)):
        graph = builder.build(*outputs)
        assert_folds(graph)
        kinds = [node.op.kind for node in fold_batch_norm(graph).nodes]
        assert kinds[:2] == ["conv", "depthwise_conv"]


@given(graph=small_networks())
def test_folding_twice_changes_nothing_more(graph: Graph) -> None:
    weights = initialise(graph)
    once, folded = fold_batch_norm(graph), fold_weights(graph, weights)
    assert fold_batch_norm(once).key == once.key
    again = fold_weights(once, folded)
    assert all(np.array_equal(again[name], folded[name]) for name in folded)
