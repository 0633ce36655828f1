"""A strip's sound rows are the whole graph's, for every op that can be cut and every place to cut."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.graph import Graph, GraphBuilder, initialise, ops, reference
from dfmobile.graph.strip import border_strips, cut, rows_of
from dfmobile.testing.op_graphs import op_graph, residual_block, shuffle_unit, small_networks


def check_strips(graph: Graph, strips: list) -> int:  # type: ignore[type-arg]
    """Compare all sound rows of strips with the whole graph and return how many there were."""
    weights = initialise(graph)
    generator = np.random.default_rng(0)
    inputs = {name: generator.standard_normal(shape) for name, shape in graph.inputs}
    whole = reference.run(graph, weights, inputs)
    seen = 0
    for name in graph.outputs:
        for strip, own, rows in rows_of(strips, name):
            given = {key: array[:, :, strip.start : strip.end] for key, array in inputs.items()}
            found = reference.run(strip.graph, weights, given)[name]
            np.testing.assert_allclose(found[:, :, own], whole[name][:, :, rows], atol=1e-12)
            seen += rows.stop - rows.start
    return seen


@given(graph=small_networks(), cuts=st.tuples(st.integers(0, 6), st.integers(0, 6)))
def test_networks_of_one_size(graph: Graph, cuts: tuple[int, int]) -> None:
    height = graph.inputs[0][1][2]
    start, end = min(cuts), max(cuts)
    if start < end <= height:
        strip = cut(graph, start, end)
        assert strip is None or check_strips(graph, [strip]) > 0
    if height > 0:
        whole = cut(graph, 0, height)
        assert whole is not None
        assert whole.rows == height


@given(
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    padding=st.integers(0, 2),
    height=st.integers(5, 20),
    cuts=st.tuples(st.integers(0, 20), st.integers(0, 20)),
    pool=st.booleans(),
)
def test_windows(kernel: int, stride: int, padding: int, height: int, cuts: tuple[int, int], pool: bool) -> None:
    padding = min(padding, kernel // 2)
    sizes = (kernel, kernel), (stride, stride), (padding, padding)
    graph = op_graph(ops.MaxPool(*sizes) if pool else ops.Conv(2, *sizes), (1, 3, height, 6))
    start, end = min(cuts), min(max(cuts), height)
    if start < end:
        strip = cut(graph, start, end)
        assert strip is None or check_strips(graph, [strip]) > 0


@pytest.mark.parametrize(
    "graph", [residual_block((1, 4, 64, 10)), residual_block((1, 4, 63, 10)), shuffle_unit((1, 8, 64, 10))]
)
def test_border_strips_are_small_and_have_both_borders(graph: Graph) -> None:
    strips = border_strips(graph)
    assert len(strips) == 2
    rows = [strip.outputs[graph.outputs[0]] for strip in strips]
    assert rows[0].first == 0
    assert rows[1].end == graph.shapes[graph.outputs[0]][2]
    assert sum(strip.end - strip.start for strip in strips) < 32
    assert check_strips(graph, strips) >= 4


def test_what_is_not_local_is_not_cut() -> None:
    builder = GraphBuilder()
    pooled = builder.build(builder.add_op(ops.GlobalAveragePool(), builder.input("x", (1, 4, 64, 64)))[0])
    assert border_strips(pooled) == []
    assert border_strips(op_graph(ops.FullyConnected(5), (1, 8))) == []
    assert border_strips(residual_block((1, 4, 8, 10))) == []  # the strips would be most of it
