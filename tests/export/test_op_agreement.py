"""Every op, written in every form, computes what the numpy reference computes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings

from dfmobile.export.onnx import onnx_bytes
from dfmobile.export.tflite import tflite_bytes
from dfmobile.export.torch_module import torch_module
from dfmobile.graph import Graph, Weights, initialise, reference
from dfmobile.runtimes.litert import LiteRTRunner
from dfmobile.runtimes.onnxruntime import OnnxRuntimeRunner
from dfmobile.testing.op_graphs import NETWORK_CASES, OP_CASES, small_networks, window_op_graphs

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

Inputs = list[np.ndarray]


def by_litert(graph: Graph, weights: Weights, inputs: Inputs) -> Inputs:
    with LiteRTRunner(tflite_bytes(graph, weights)) as runner:
        return runner.run(inputs)


def by_onnx_runtime(opset: int) -> Callable[[Graph, Weights, Inputs], Inputs]:
    def run(graph: Graph, weights: Weights, inputs: Inputs) -> Inputs:
        with OnnxRuntimeRunner(onnx_bytes(graph, weights, opset=opset)) as runner:
            return runner.run(inputs)

    return run


def by_torch(graph: Graph, weights: Weights, inputs: Inputs) -> Inputs:
    module = torch_module(graph, weights).eval()
    with torch.no_grad():
        result = module(*[torch.from_numpy(array) for array in inputs])
    return [item.numpy() for item in (result if isinstance(result, tuple) else (result,))]


EXECUTORS = {
    "LiteRT": by_litert,
    "ONNX Runtime, opset 13": by_onnx_runtime(13),
    "ONNX Runtime, opset 17": by_onnx_runtime(17),
    "ONNX Runtime, opset 21": by_onnx_runtime(21),
    "torch": by_torch,
}


def assert_agrees(graph: Graph, execute: Callable[[Graph, Weights, Inputs], Inputs], seed: int = 0) -> None:
    weights = initialise(graph, seed)
    generator = np.random.default_rng(seed)
    inputs = {name: generator.standard_normal(shape, np.float32) for name, shape in graph.inputs}
    expected = reference.run(graph, weights, inputs)
    actual = execute(graph, weights, list(inputs.values()))
    assert len(actual) == len(graph.outputs)
    for name, values in zip(graph.outputs, actual, strict=True):
        assert values.shape == graph.shapes[name]
        assert values.dtype == (np.int32 if expected[name].dtype == np.int32 else np.float32)
        scale = max(1.0, float(np.abs(expected[name]).max()))
        np.testing.assert_allclose(values, expected[name], rtol=0, atol=2e-5 * scale)


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("case", OP_CASES)
def test_each_op_alone(case: str, executor: str) -> None:
    assert_agrees(OP_CASES[case], EXECUTORS[executor])


@pytest.mark.parametrize("executor", EXECUTORS)
@pytest.mark.parametrize("case", NETWORK_CASES)
def test_small_networks(case: str, executor: str) -> None:
    assert_agrees(NETWORK_CASES[case](), EXECUTORS[executor])


@pytest.mark.parametrize("executor", ["LiteRT", "ONNX Runtime, opset 17", "torch"])
def test_any_window(executor: str) -> None:
    @settings(deadline=None, max_examples=150)
    @given(graph=window_op_graphs())
    def check(graph: Graph) -> None:
        assert_agrees(graph, EXECUTORS[executor])

    check()


@pytest.mark.parametrize("executor", ["LiteRT", "ONNX Runtime, opset 17", "torch"])
def test_any_small_network(executor: str) -> None:
    @settings(deadline=None, max_examples=60)
    @given(graph=small_networks())
    def check(graph: Graph) -> None:
        assert_agrees(graph, EXECUTORS[executor])

    check()
