"""numpy reference, torch, ONNX Runtime and LiteRT agree on every zoo network with random weights and statistics."""

from __future__ import annotations

import numpy as np
import pytest

from dfmobile.architecture import build, zoo
from dfmobile.export.onnx import onnx_bytes
from dfmobile.export.tflite import tflite_bytes
from dfmobile.export.torch_module import torch_module
from dfmobile.export.verify import TOLERANCES, Verification, compare
from dfmobile.graph import Graph, Weights, initialise, reference
from dfmobile.runtimes.litert import LiteRTRunner
from dfmobile.runtimes.onnxruntime import OnnxRuntimeRunner

torch = pytest.importorskip("torch")
torch.set_num_threads(1)

SMALL = [(name, 64, 64) for name in zoo.names()]
FULL = [("DF1", 224, 224), ("PL1A-Seg", 640, 384)]


def executors_agree(graph: Graph, weights: Weights, seed: int) -> dict[str, Verification]:
    (name, shape), (output,) = graph.inputs[0], graph.outputs
    image = np.random.default_rng(seed).standard_normal(shape, np.float32)
    expected = reference.run(graph, weights, {name: image})[output]
    results = {}
    with LiteRTRunner(tflite_bytes(graph, weights)) as runner:
        assert runner.fully_accelerated(), f"not taken by XNNPACK: {runner.unaccelerated_ops()}"
        results["LiteRT"] = runner.run([image])[0]
    with OnnxRuntimeRunner(onnx_bytes(graph, weights)) as session:
        results["ONNX Runtime"] = session.run([image])[0]
    with torch.no_grad():
        results["torch"] = torch_module(graph, weights).eval()(torch.from_numpy(image)).numpy()
    return {executor: compare(values, expected) for executor, values in results.items()}


@pytest.mark.parametrize(("name", "width", "height"), SMALL + FULL)
def test_all_executors_agree(name: str, width: int, height: int) -> None:
    graph = build(zoo.get(name).architecture, width, height).graph
    for executor, result in executors_agree(graph, initialise(graph, seed=1), seed=2).items():
        assert result.relative <= TOLERANCES["fp32"].rms, (executor, result)
        assert result.argmax_agreement >= TOLERANCES["fp32"].argmax, (executor, result)


def test_the_tflite_of_pl1a_expands_no_op_over_the_channels() -> None:
    graph = build(zoo.get("PL1A-Seg").architecture, 640, 384).graph
    with LiteRTRunner(tflite_bytes(graph, initialise(graph))) as runner:
        # At most three operators for a node (a channel shuffle, a bilinear upsampling), fewer where ops fuse.
        assert runner.operator_count() <= len(graph.nodes)
