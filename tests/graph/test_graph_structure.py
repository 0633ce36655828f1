"""Graphs and their builder: names, order, weights, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given

from dfmobile.errors import GraphError
from dfmobile.graph import Graph, GraphBuilder, Node, initialise, ops
from dfmobile.testing.op_graphs import EVEN, residual_block, small_networks


def node(name: str, op: ops.Op, *inputs: str) -> Node:
    return Node(name, op, inputs, (name,))


def test_builder_names_values_and_infers_shapes() -> None:
    builder = GraphBuilder()
    x = builder.input("x", EVEN)
    halves = builder.split(x, (4, 4), name="halves")
    assert halves == ("halves:0", "halves:1")
    assert builder.relu(halves[0]) == "relu1"
    assert builder.relu(halves[1]) == "relu2"
    assert builder.shape("relu2") == (1, 4, 10, 12)
    assert builder.node_count == 3


def test_a_builder_refuses_at_the_step_that_is_wrong() -> None:
    builder = GraphBuilder()
    x = builder.input("x", EVEN)
    builder.relu(x, name="a")
    with pytest.raises(GraphError, match="two nodes are called 'a'"):
        builder.relu(x, name="a")
    with pytest.raises(GraphError, match="two nodes are called 'x'"):
        builder.relu(x, name="x")
    with pytest.raises(GraphError, match="reads 'b', which no earlier node makes"):
        builder.relu("b")
    with pytest.raises(GraphError, match="node 'c': conv: a window of 20 does not fit"):
        builder.conv(x, 3, 20, name="c")
    with pytest.raises(GraphError, match=r"node 'd' \(add\) has 1 inputs"):
        builder.add_op(ops.Add(), x, name="d")
    with pytest.raises(GraphError, match=r"node 'e' \(relu\) has 0 inputs"):
        builder.add_op(ops.Relu(), name="e")


@pytest.mark.parametrize(
    ("inputs", "nodes", "outputs", "reason"),
    [
        ([("x", EVEN), ("x", EVEN)], [], ["x"], "two inputs"),
        ([("x", (1, 0, 4, 4))], [], ["x"], "has shape"),
        ([("x", EVEN)], [node("a", ops.Relu(), "y")], ["a"], "no earlier node makes"),
        ([("x", EVEN)], [node("b", ops.Relu(), "a"), node("a", ops.Relu(), "x")], ["b"], "no earlier node makes"),
        ([("x", EVEN)], [node("a", ops.Relu(), "x"), node("a", ops.Relu(), "x")], ["a"], "two nodes"),
        ([("x", EVEN)], [node("x", ops.Relu(), "x")], ["x"], "two values"),
        ([("x", EVEN)], [node("a", ops.Add(), "x")], ["a"], "has 1 inputs"),
        ([("x", EVEN)], [node("a", ops.Concat(), "x")], ["a"], "has 1 inputs"),
        ([("x", EVEN)], [node("a", ops.Split((4, 4)), "x")], ["a"], "names 1 outputs and makes 2"),
        ([("x", EVEN)], [node("a", ops.Relu(), "x")], ["b"], "returns 'b'"),
        ([("x", EVEN)], [node("a", ops.Relu(), "x")], [], "returns nothing"),
    ],
)
def test_inconsistent_graphs_are_refused(
    inputs: list[tuple[str, tuple[int, ...]]], nodes: list[Node], outputs: list[str], reason: str
) -> None:
    with pytest.raises(GraphError, match=reason):
        Graph(inputs, nodes, outputs)


def test_weights_must_fit_exactly() -> None:
    graph = residual_block()
    weights = initialise(graph)
    graph.check_weights(weights)
    with pytest.raises(GraphError, match=r"weight 'block\.conv1\.weight' is missing"):
        graph.check_weights({})
    with pytest.raises(GraphError, match=r"has shape \[1\], not \[10\]"):
        graph.check_weights({**weights, "block.bn1.scale": np.zeros(1, np.float32)})
    with pytest.raises(GraphError, match="belongs to no op"):
        graph.check_weights({**weights, "other": np.zeros(1, np.float32)})


@given(graph=small_networks())
def test_initial_weights_fit_and_depend_on_the_seed_only(graph: Graph) -> None:
    first, second, other = initialise(graph, 1), initialise(graph, 1), initialise(graph, 2)
    graph.check_weights(first)
    for name, values in first.items():
        assert values.dtype == np.float32
        np.testing.assert_array_equal(values, second[name])
        assert np.any(values != other[name])


@given(graph=small_networks())
def test_consumers_are_the_nodes_that_read_a_value(graph: Graph) -> None:
    for name, nodes in graph.consumers.items():
        assert len(nodes) == sum(item.inputs.count(name) for item in graph.nodes)
