"""float16 weights and static int8: small, run by LiteRT, close to the reference, refused where they cannot be."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from dfmobile.architecture import build, resolve
from dfmobile.errors import ExportError, InputError
from dfmobile.export.exporter import export
from dfmobile.export.quantize import quantize_tflite
from dfmobile.export.tflite import tflite_bytes
from dfmobile.export.verify import compare, verify
from dfmobile.graph import Graph, GraphBuilder, initialise, reference
from dfmobile.runtimes.litert import LiteRTRunner
from dfmobile.testing.op_graphs import NETWORK_CASES, OP_CASES, residual_block

GRAPHS: dict[str, Graph] = {**OP_CASES, **{name: make() for name, make in NETWORK_CASES.items()}}
# The quantiser fails on PADV2's constant; in networks max pools follow a ReLU and need none.
NOT_INT8 = {"max pool 3x3 stride 2, even"}
quantiser = pytest.mark.skipif(
    importlib.util.find_spec("ai_edge_quantizer") is None, reason="the extra quantize is not installed"
)


def sample(graph: Graph, seed: int = 0) -> list[np.ndarray]:
    generator = np.random.default_rng(seed)
    return [generator.standard_normal(shape, np.float32) for _, shape in graph.inputs]


def expected_of(graph: Graph, weights: dict[str, np.ndarray], values: list[np.ndarray]) -> list[np.ndarray]:
    found = reference.run(graph, weights, {name: array for (name, _), array in zip(graph.inputs, values, strict=True)})
    return [found[name] for name in graph.outputs]


@pytest.mark.parametrize("name", GRAPHS)
def test_float16_weights_change_results_a_little(name: str) -> None:
    graph = GRAPHS[name]
    weights, values = initialise(graph), sample(graph)
    with LiteRTRunner(tflite_bytes(graph, weights, half=True)) as runner:
        for actual, expected in zip(runner.run(values), expected_of(graph, weights, values), strict=True):
            assert compare(actual, expected).relative < 0.01


def test_float16_weights_halve_a_file_and_stay_accelerated(tmp_path: Path) -> None:
    network = build(resolve("DF1"), 64, 64)
    weights = initialise(network.graph)
    full = export(network.graph, weights, tmp_path / "full.tflite", format="tflite")
    half = export(network.graph, weights, tmp_path / "half.tflite", format="tflite", precision="fp16")
    assert half.size_bytes == pytest.approx(full.size_bytes / 2, rel=0.02)
    assert half.verification is not None
    assert 1e-5 < half.verification.rms < 0.02
    with LiteRTRunner(tmp_path / "half.tflite") as runner:
        assert runner.fully_accelerated()


def test_a_weight_beyond_float16_is_refused() -> None:
    graph = OP_CASES["conv 1x1, even"]
    weights = {name: np.full_like(values, 1e5) for name, values in initialise(graph).items()}
    with pytest.raises(ExportError, match="1e\\+05, more than float16 can"):
        tflite_bytes(graph, weights, half=True)


@quantiser
@pytest.mark.parametrize("name", sorted(set(GRAPHS) - NOT_INT8))
def test_int8_is_within_a_few_steps_of_the_reference(name: str) -> None:
    graph = GRAPHS[name]
    weights, values = initialise(graph), sample(graph)
    with LiteRTRunner(quantize_tflite(tflite_bytes(graph, weights), [values])) as runner:
        assert runner.quantised_border()
        found = runner.run(values)
        for actual, step, expected in zip(
            found, runner.output_steps(), expected_of(graph, weights, values), strict=True
        ):
            if expected.dtype.kind == "i":
                assert np.mean(actual == expected) > 0.9
            elif step:
                assert np.abs(actual - expected).max() <= 8 * step
            else:  # an output that is also read within the graph stays float32 where the quantiser leaves it
                assert compare(actual, expected).rms < 0.05


@quantiser
def test_int8_export_of_a_network(tmp_path: Path) -> None:
    network = build(resolve("PL1A-Seg"), 128, 64)
    weights = initialise(network.graph)
    result = export(
        network.graph,
        weights,
        tmp_path / "m.tflite",
        format="tflite",
        precision="int8",
        calibration=[sample(network.graph, seed) for seed in (1, 2)],
    )
    assert result.verification is not None
    assert 0.001 < result.verification.rms < 0.3
    assert result.size_bytes < 0.45 * len(tflite_bytes(network.graph, weights))


@quantiser
def test_int8_takes_weights_above_32_mib() -> None:
    builder = GraphBuilder()
    graph = builder.build(builder.conv(builder.input("x", (1, 1000, 3, 3)), 1000, 3, padding=1))
    weights = {name: np.zeros(item.shape, np.float32) for name, item in graph.parameters().items()}
    values = sample(graph)
    for weight in weights.values():  # a scale of its own for each channel
        weight[:, :, 1, 1] = np.diag(np.linspace(0.5, 1.5, 1000))
    with LiteRTRunner(quantize_tflite(tflite_bytes(graph, weights), [values])) as runner:
        actual, step = runner.run(values)[0], runner.output_steps()[0]
    assert np.abs(actual - expected_of(graph, weights, values)[0]).max() < 2 * step


@quantiser
def test_int8_ranges_reach_what_any_sample_reaches_in_whatever_order() -> None:
    graph = residual_block()
    model = tflite_bytes(graph, initialise(graph))
    samples = [[np.float32(size) * sample(graph, seed)[0]] for seed, size in enumerate((1, 3, 0.5))]
    assert quantize_tflite(model, samples) == quantize_tflite(model, samples[::-1])
    with LiteRTRunner(quantize_tflite(model, samples)) as runner:
        for values in samples:
            expected = expected_of(graph, initialise(graph), values)[0]
            assert np.abs(runner.run(values)[0] - expected).max() <= 8 * runner.output_steps()[0]


@quantiser
def test_int8_data_that_do_not_fit_are_refused() -> None:
    graph = residual_block()
    model = tflite_bytes(graph, initialise(graph))
    with pytest.raises(InputError, match="there is none"):
        quantize_tflite(model, [])
    with pytest.raises(InputError, match=r"sample 1: input 0 of the model takes"):
        quantize_tflite(model, [sample(graph), [sample(graph)[0][:, :-1]]])
    with pytest.raises(InputError, match="not finite"):
        quantize_tflite(model, [[np.full_like(sample(graph)[0], np.nan)]])


@quantiser
def test_what_the_quantiser_cannot_do_is_one_line() -> None:
    graph = OP_CASES["max pool 3x3 stride 2, even"]
    with pytest.raises(ExportError, match="cannot quantise") as caught:
        quantize_tflite(tflite_bytes(graph, {}), [sample(graph)])
    assert "\n" not in str(caught.value)


@quantiser
def test_the_quantiser_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    network = build(resolve("PL1A-Seg"), 64, 64)
    model = tflite_bytes(network.graph, initialise(network.graph))
    quantize_tflite(model, [sample(network.graph)])
    captured = capfd.readouterr()
    assert captured.out == ""
    assert captured.err == ""


@quantiser
def test_int8_weights_of_another_network_are_caught() -> None:
    graph = residual_block()
    weights = initialise(graph)
    model = quantize_tflite(tflite_bytes(graph, initialise(graph, seed=1)), [sample(graph)])
    with pytest.raises(ExportError, match="root mean square"):
        verify(model, "tflite", graph, weights, precision="int8", inputs=sample(graph))
