"""Biases of channels that training switched off do not fit into int8 files' 32 bits; they must survive all the same."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfmobile.export.quantize import quantize_tflite
from dfmobile.export.quantize_bias import widen_scales
from dfmobile.export.tflite import tflite_bytes
from dfmobile.graph import Graph, GraphBuilder, Weights, initialise, reference
from dfmobile.graph.ops import FullyConnected, TransposedConv
from dfmobile.runtimes.litert import LiteRTRunner

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("ai_edge_quantizer") is None, reason="the extra quantize is not installed"
)


def layer(kind: str) -> Graph:
    builder = GraphBuilder()
    x = builder.input("x", (1, 4, 6, 6))
    if kind == "conv":
        return builder.build(builder.conv(x, 4, 3, padding=1, bias=True, name="layer"))
    if kind == "depthwise conv":
        return builder.build(builder.depthwise_conv(x, 3, padding=1, bias=True, name="layer"))
    if kind == "transposed conv":
        op = TransposedConv(4, (2, 2), (2, 2), (0, 0), depthwise=False, bias=True)
        return builder.build(builder.add_op(op, x, name="layer")[0])
    pooled = builder.average_pool(x, 6)
    return builder.build(builder.add_op(FullyConnected(4), pooled, name="layer")[0])


def check(graph: Graph, weights: Weights) -> None:
    generator = np.random.default_rng(3)
    values = [generator.standard_normal(shape, np.float32) for _, shape in graph.inputs]
    expected = reference.run(graph, weights, {"x": values[0]})[graph.outputs[0]]
    model = tflite_bytes(graph, weights)
    quantised = quantize_tflite(model, [values])
    with LiteRTRunner(quantised) as runner:
        actual, step = runner.run(values)[0], runner.output_steps()[0]
    assert np.abs(actual - expected).max() <= 4 * step
    assert widen_scales(quantised, model) == quantised  # what fits is left alone


@pytest.mark.parametrize("kind", ["conv", "depthwise conv", "transposed conv", "fully connected"])
@pytest.mark.parametrize("size", [1e-6, 1e-9, 1e-12, 0.0])
def test_a_channel_that_is_all_bias(kind: str, size: float) -> None:
    graph = layer(kind)
    weights = initialise(graph)
    axis = 1 if kind == "transposed conv" else 0
    np.moveaxis(weights["layer.weight"], axis, 0)[2] *= size
    weights["layer.bias"][:] = (0.1, -0.3, 0.7, 0.0)
    check(graph, weights)
    weights["layer.bias"][2] = -0.7
    check(graph, weights)


@settings(max_examples=15)
@given(scales=st.lists(st.integers(-12, 0), min_size=4, max_size=4), bias=st.floats(-3, 3, width=32))
def test_channels_of_any_size(scales: list[int], bias: float) -> None:
    graph = layer("depthwise conv")
    weights = initialise(graph)
    weights["layer.weight"] *= np.array([10.0**scale for scale in scales], np.float32)[:, None, None, None]
    weights["layer.bias"][:] = bias
    check(graph, weights)
