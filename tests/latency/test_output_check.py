"""Fast and wrong is no measurement: a kernel that returns wrong numbers is refused and leaves no row."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from latency_helpers import KnownBackend, build_mini, mini_network

from dfmobile.architecture import PlacedBlock, build, resolve
from dfmobile.devices.device import open_device
from dfmobile.errors import BackendError
from dfmobile.latency.backends.base import Backend, ModelOutputs, open_backend
from dfmobile.latency.backends.litert import LiteRTBackend
from dfmobile.latency.measurement import Protocol
from dfmobile.latency.models import timing_model
from dfmobile.latency.output_check import check_outputs, compare_outputs
from dfmobile.latency.table import LatencyTable

Change = Callable[[np.ndarray], np.ndarray]
ONCE = Protocol(passes=1, runs=2, min_runs=1, cold_runs=0, warm_up_ms=0.0, warm_up_limit_ms=5.0)


class WrongBackend(LiteRTBackend):
    """LiteRT, but what it returns for one block is changed: a kernel that is fast and wrong."""

    change: Change = staticmethod(lambda values: values)
    only = ""

    def outputs(self, model_path: Path, inputs: Sequence[np.ndarray]) -> ModelOutputs:
        found = super().outputs(model_path, inputs)
        if self.only in model_path.name:
            found = ModelOutputs([type(self).change(value) for value in found.values], found.steps)
        return found


def wrong_backend(change: Change, precision: str = "fp32", only: str = "") -> Backend:
    kind = type("WrongBackend", (WrongBackend,), {"change": staticmethod(change), "only": only})
    backend: Backend = kind(open_device("local"), precision=precision)
    return backend


def first_row_zero(values: np.ndarray) -> np.ndarray:
    changed = values.copy()
    changed[:, :, :1] = 0
    return changed


def last_channel_wrong(values: np.ndarray) -> np.ndarray:
    changed = values.copy()
    changed[:, -1:] += 2 * values.std()
    return changed


def mixed_up(values: np.ndarray) -> np.ndarray:
    """As in a real case: an int8 kernel whose layout was wrong; 99 % of the elements differed."""
    return np.random.default_rng(0).permutation(values.ravel()).reshape(values.shape)


WRONG: dict[str, Change] = {
    "mixed up": mixed_up,
    "all zero": np.zeros_like,
    "first row zero": first_row_zero,
    "last channel wrong": last_channel_wrong,
    "not finite": lambda values: values * np.float32("nan"),
    "too many rows": lambda values: np.concatenate([values, values], axis=2) if values.ndim == 4 else values[:, 1:],
}
precisions = pytest.mark.parametrize(
    "precision",
    [
        "fp32",
        pytest.param(
            "int8",
            marks=pytest.mark.skipif(
                importlib.util.find_spec("ai_edge_quantizer") is None, reason="the extra quantize is not installed"
            ),
        ),
    ],
)


@precisions
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_kernel_is_refused_and_nothing_of_its_block_is_recorded(
    tmp_path: Path, name: str, precision: str
) -> None:
    network = build(resolve("df,stem=8s1,classes=10,channels=1/8/8/16"), 32, 32)
    bad = network.blocks[1]
    backend = wrong_backend(WRONG[name], precision, only=bad.digest)
    with pytest.raises(BackendError, match=re.escape(bad.text)) as caught:
        build_mini(tmp_path / "t.sqlite", backend, network=network, protocol=ONCE, precision=precision)
    version = backend.identity().version
    assert f"litert (LiteRT {version}, {precision}, 1 thread(s)) computes something else" in str(caught.value)
    assert "was not recorded" in caught.value.hint
    with LatencyTable.open(tmp_path / "t.sqlite") as table:
        assert bad.key not in {key for key, _ in table.recorded()}


@precisions
def test_a_sound_kernel_is_recorded(tmp_path: Path, precision: str) -> None:
    backend = LiteRTBackend(open_device("local"), precision=precision)
    report = build_mini(tmp_path / "t.sqlite", backend, protocol=ONCE, precision=precision)
    assert report.coverage.measured == report.coverage.blocks
    assert report.unchecked_blocks == 0
    with LatencyTable.open(tmp_path / "t.sqlite") as table:
        assert table.header.precision == precision


def test_a_backend_that_gives_no_outputs_says_so(tmp_path: Path) -> None:
    report = build_mini(tmp_path / "t.sqlite", KnownBackend(open_device("local")))
    assert report.unchecked_blocks == report.coverage.blocks > 0
    assert "not checked" in report.text


def test_a_large_block_is_compared_in_strips(tmp_path: Path) -> None:
    block = max(build(resolve("df/64,64/128/128"), 256, 256).blocks, key=lambda item: item.macs)
    path = written(block, "fp32", tmp_path)
    assert check_outputs(block, path, LiteRTBackend(open_device("local")))
    for name in ("first row zero", "last channel wrong", "mixed up"):
        with pytest.raises(BackendError, match="something else"):
            check_outputs(block, path, wrong_backend(WRONG[name]))


@precisions
def test_every_kind_of_block_passes(tmp_path: Path, precision: str) -> None:
    backend = LiteRTBackend(open_device("local"), precision=precision)
    found: dict[str, PlacedBlock] = {}
    for name in ("DF2A", "PL1A-Seg", "DF1-Seg", "ResNet-50"):
        network = build(resolve(name), 256, 128)
        found.update((block.kind, block) for block in network.blocks)
    for block in found.values():
        assert check_outputs(block, written(block, precision, tmp_path), backend), block.text


def test_onnxruntime_is_checked_too(tmp_path: Path) -> None:
    pytest.importorskip("onnx", reason="the extra onnx is not installed")
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    backend = open_backend("onnxruntime", open_device("local"))
    for block in mini_network().blocks:
        path = tmp_path / f"{block.digest}.onnx"
        path.write_bytes(timing_model(block.graph, "onnx"))
        assert check_outputs(block, path, backend)


def written(block: PlacedBlock, precision: str, folder: Path) -> Path:
    path = folder / f"{block.digest}.tflite"
    path.write_bytes(timing_model(block.graph, "tflite", precision))
    return path


def test_rounding_is_no_difference() -> None:
    expected = np.random.default_rng(0).standard_normal((1, 8, 16, 16), np.float32)
    assert not compare_outputs(expected * np.float32(1 + 1e-6), expected, 0.0, "fp32").wrong
    assert compare_outputs(expected * np.float32(1.01), expected, 0.0, "fp32").wrong
    assert not compare_outputs(expected.astype(np.float16), expected, 0.0, "fp16-compute").wrong
    step = 0.05
    assert not compare_outputs(np.round(expected / step) * step, expected, step, "int8").wrong
    assert compare_outputs(expected + 20 * step, expected, step, "int8").wrong
    indices = np.arange(100).reshape(1, 1, 10, 10)
    assert not compare_outputs(indices, indices, 0.0, "fp32").wrong
    assert compare_outputs(indices[..., ::-1], indices, 0.0, "int8").wrong
