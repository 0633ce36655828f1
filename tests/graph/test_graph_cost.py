"""Costs of graphs: against counting by hand, against torch, and the laws of liveness."""

from __future__ import annotations

import math

import pytest
from hypothesis import given

from dfmobile.graph import Graph, GraphBuilder, ops
from dfmobile.graph.cost import cost, macs, params, peak_activation_bytes
from dfmobile.testing.op_graphs import NETWORK_CASES, OP_CASES, residual_block, small_networks


def test_costs_of_a_residual_block() -> None:
    # 9x8 map, stride 2: 5x4 map. conv1 6->10 3x3, conv2 10->10 3x3, projection 6->10 1x1, three norms of 10.
    found = cost(residual_block())
    weights = 10 * 6 * 9 + 10 * 10 * 9 + 10 * 6
    assert found.macs == 20 * weights
    assert found.params == weights + 3 * 20
    assert found.params_deployed == weights + 3 * 10
    assert found.weight_bytes == 4 * found.params_deployed


@pytest.mark.parametrize("case", [*OP_CASES, *NETWORK_CASES])
def test_params_are_what_torch_counts(case: str) -> None:
    pytest.importorskip("torch")
    from dfmobile.export.torch_module import torch_module

    graph = OP_CASES[case] if case in OP_CASES else NETWORK_CASES[case]()
    assert params(graph) == sum(parameter.numel() for parameter in torch_module(graph).parameters())


def test_peak_of_a_chain_is_its_largest_neighbours() -> None:
    builder = GraphBuilder()
    x = builder.input("x", (1, 2, 8, 8))
    wide = builder.relu(builder.conv(x, 16, 3, padding=1))  # the ReLU is in place
    graph = builder.build(builder.conv(wide, 4, 3, padding=1))
    assert peak_activation_bytes(graph) == 4 * 64 * (16 + 4)


def test_peak_holds_a_shortcut_until_it_is_added() -> None:
    builder = GraphBuilder()
    x = builder.input("x", (1, 4, 8, 8))
    y = builder.conv(builder.conv(x, 4, 3, padding=1), 4, 3, padding=1)
    assert peak_activation_bytes(builder.build(builder.add(y, x))) == 4 * 64 * 4 * 3


def test_a_relu_whose_input_is_still_needed_is_not_in_place() -> None:
    builder = GraphBuilder()
    x = builder.input("x", (1, 4, 8, 8))
    y = builder.relu(x)
    assert peak_activation_bytes(builder.build(y)) == 4 * 64 * 4
    assert peak_activation_bytes(builder.build(y, x)) == 2 * 4 * 64 * 4


@given(graph=small_networks())
def test_peak_lies_between_the_largest_node_and_the_sum_of_all_tensors(graph: Graph) -> None:
    def size(name: str) -> int:
        return 4 * math.prod(graph.shapes[name])

    def held(node_inputs: tuple[str, ...], node_outputs: tuple[str, ...]) -> int:
        return sum(size(name) for name in {*node_inputs, *node_outputs})

    peak = peak_activation_bytes(graph)
    assert peak <= sum(size(name) for name in graph.shapes)
    for node in graph.nodes:
        if node.op.kind not in ("relu", "relu6"):
            assert peak >= held(node.inputs, node.outputs)
    assert peak >= sum(size(name) for name in graph.outputs)


@given(graph=small_networks())
def test_macs_are_those_of_the_nodes_and_batch_scales_them(graph: Graph) -> None:
    batched = Graph([(name, (3, *shape[1:])) for name, shape in graph.inputs], graph.nodes, graph.outputs)
    assert macs(batched) == 3 * macs(graph)
    assert params(batched) == params(graph)
    assert peak_activation_bytes(batched) == 3 * peak_activation_bytes(graph)


def test_relu_at_the_start_of_a_graph_is_counted_once() -> None:
    builder = GraphBuilder()
    x = builder.input("x", (1, 4, 8, 8))
    y = builder.add_op(ops.Relu6(), builder.relu(x))[0]
    assert peak_activation_bytes(builder.build(y)) == 4 * 64 * 4
