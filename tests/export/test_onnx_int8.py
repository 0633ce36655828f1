"""Static int8 of .onnx files: QDQ, small, run by ONNX Runtime, close to the reference, refused where it cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dfmobile.architecture import build, resolve
from dfmobile.errors import ExportError, InputError
from dfmobile.export.exporter import export
from dfmobile.export.verify import verify
from dfmobile.graph import Graph, initialise
from dfmobile.testing.op_graphs import residual_block

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from dfmobile.export.onnx import onnx_bytes  # noqa: E402
from dfmobile.export.onnx_quantize import quantize_onnx  # noqa: E402


def samples(graph: Graph, count: int = 2) -> list[list[np.ndarray]]:
    generator = np.random.default_rng(0)
    return [[generator.standard_normal(shape, np.float32) for _, shape in graph.inputs] for _ in range(count)]


@pytest.mark.parametrize("symmetric", [False, True])
def test_a_network_in_int8(symmetric: bool, tmp_path: Path) -> None:
    network = build(resolve("PL1A-Seg"), 128, 64)
    weights = initialise(network.graph)
    result = export(
        network.graph,
        weights,
        tmp_path / "m.onnx",
        format="onnx",
        precision="int8",
        calibration=samples(network.graph),
        symmetric=symmetric,
        metadata={"encoding": "a text"},
    )
    assert result.verification is not None
    assert result.verification.samples == 2
    assert 0.001 < result.verification.rms < 0.3
    assert result.size_bytes < 0.6 * len(onnx_bytes(network.graph, weights))
    model = onnx.load(str(tmp_path / "m.onnx"))
    kinds = {node.op_type for node in model.graph.node}
    assert {"QuantizeLinear", "DequantizeLinear"} <= kinds
    assert {item.key: item.value for item in model.metadata_props} == {"encoding": "a text", "precision": "int8"}
    assert model.producer_name == "dfmobile"
    zeros = [onnx.numpy_helper.to_array(item) for item in model.graph.initializer if item.name.endswith("zero_point")]
    assert all(not np.any(item) for item in zeros) == symmetric


def test_data_that_do_not_fit_are_refused() -> None:
    graph = residual_block()
    model = onnx_bytes(graph, initialise(graph))
    good = samples(graph)[0]
    with pytest.raises(InputError, match="there is none"):
        quantize_onnx(model, [])
    with pytest.raises(InputError, match="sample 1"):
        quantize_onnx(model, [good, [good[0][:, :-1]]])
    with pytest.raises(InputError, match="not finite"):
        quantize_onnx(model, [[np.full_like(good[0], np.nan)]])


def test_the_quantiser_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    graph = residual_block()
    quantize_onnx(onnx_bytes(graph, initialise(graph)), samples(graph))
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


def test_weights_of_another_network_are_caught() -> None:
    graph = residual_block()
    model = quantize_onnx(onnx_bytes(graph, initialise(graph, seed=1)), samples(graph))
    with pytest.raises(ExportError, match="root mean square"):
        verify(model, "onnx", graph, initialise(graph), precision="int8", samples=samples(graph))


def test_every_sample_is_compared() -> None:
    graph = residual_block()
    weights = initialise(graph)
    good = samples(graph)[0]
    calibrated = quantize_onnx(onnx_bytes(graph, weights), [good])
    assert verify(calibrated, "onnx", graph, weights, precision="int8", samples=[good]).samples == 1
    far = [100 * good[0]]  # beyond what the calibration reached
    with pytest.raises(ExportError, match="root mean square"):
        verify(calibrated, "onnx", graph, weights, precision="int8", samples=[good, far])
