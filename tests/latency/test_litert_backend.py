"""The LiteRT backend keeps the contract of all backends, and what it adds to it."""

from __future__ import annotations

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest

from dfmobile.devices.device import Device, open_device
from dfmobile.devices.uri import parse_device
from dfmobile.errors import BackendError, PluginError
from dfmobile.export.tflite import tflite_bytes
from dfmobile.graph import GraphBuilder
from dfmobile.graph.fold import fold_batch_norm
from dfmobile.latency.backends.base import Backend, MeasureJob, as_backend, open_backend
from dfmobile.latency.backends.litert import LiteRTBackend
from dfmobile.latency.inprocess import random_inputs
from dfmobile.latency.measurement import Protocol
from dfmobile.latency.models import timing_model
from dfmobile.testing.backend_contract import BackendContract
from dfmobile.testing.op_graphs import residual_block


class TestLiteRTBackend(BackendContract):
    @pytest.fixture
    def backend(self) -> Backend:
        return LiteRTBackend(open_device("local"))

    def test_it_says_which_ops_xnnpack_did_not_take(self, backend: Backend, model_path: Path) -> None:
        result = self.measure_one(backend, model_path, self.protocol)
        assert result.extra == {"unaccelerated_ops": [], "partitions": 1}

    def test_one_thread_is_timed_by_cpu_time(self, backend: Backend, model_path: Path) -> None:
        assert self.measure_one(backend, model_path, self.protocol).clock == "thread-cpu"

    def test_the_state_of_the_machine_is_kept_from_before_and_after(self, backend: Backend, model_path: Path) -> None:
        result = self.measure_one(backend, model_path, self.protocol)
        assert result.conditions_before["time_utc"] <= result.conditions_after["time_utc"]

    def test_the_cost_of_a_call_is_known(self, backend: Backend) -> None:
        evidence = backend.evidence()
        assert 0 < evidence["call_overhead_ms"] < 10
        assert evidence["default_eviction_bytes"] > 0

    def test_a_job_for_other_threads_is_refused(self, backend: Backend, model_path: Path) -> None:
        job = MeasureJob("a", model_path, dataclasses.replace(self.protocol, threads=2))
        with pytest.raises(BackendError, match="2 threads"):
            list(backend.measure([job]))


@pytest.mark.skipif(importlib.util.find_spec("ai_edge_quantizer") is None, reason="the extra quantize is not installed")
class TestLiteRTBackendInInt8(BackendContract):
    @pytest.fixture
    def backend(self) -> Backend:
        return LiteRTBackend(open_device("local"), precision="int8")

    def test_xnnpack_takes_it_whole(self, backend: Backend, model_path: Path) -> None:
        result = self.measure_one(backend, model_path, self.protocol)
        assert result.extra == {"unaccelerated_ops": [], "partitions": 1}

    def test_a_file_of_another_precision_is_not_measured_under_its_name(self, backend: Backend, tmp_path: Path) -> None:
        graph = fold_batch_norm(residual_block())
        for precision, other in (("fp32", backend), ("int8", LiteRTBackend(backend.device))):
            path = tmp_path / f"{precision}.tflite"
            path.write_bytes(timing_model(graph, "tflite", precision))
            with pytest.raises(BackendError, match=f"{path.name} takes .* precision {other.precision} was asked for"):
                self.measure_one(other, path, self.protocol)


LOCAL = open_device("local").profile.features


def half_precision_device() -> Device:
    """Return this machine, said to have float16 arithmetic: where it has AVX2 only, XNNPACK emulates it."""
    device = open_device("local")
    features = {**device.profile.features, "fp16": True}
    device.__dict__["profile"] = device.profile.model_copy(update={"features": features})
    return device


@pytest.mark.skipif(not (LOCAL.get("fp16") or LOCAL.get("avx2")), reason="XNNPACK has no float16 kernels for this CPU")
class TestLiteRTBackendInFloat16Arithmetic(BackendContract):
    @pytest.fixture
    def backend(self) -> Backend:
        return LiteRTBackend(half_precision_device(), precision="fp16-compute")

    def test_the_flag_is_recorded_and_takes_effect(self, backend: Backend, model_path: Path) -> None:
        assert backend.identity().flags["xnnpack_flags"] == "FORCE_FP16"
        assert self.measure_one(backend, model_path, self.protocol).extra == {"fully_accelerated": True}
        inputs = random_inputs([(1, 8, 16, 16)])
        half, full = (item.outputs(model_path, inputs) for item in (backend, LiteRTBackend(backend.device)))
        assert half is not None
        assert full is not None
        difference = np.abs(half.values[0] - full.values[0]).max() / full.values[0].std()
        assert 1e-5 < difference < 0.05

    def test_sums_beyond_float16_are_told_as_such(self, backend: Backend, tmp_path: Path) -> None:
        builder = GraphBuilder()
        value = builder.conv(builder.input("input0", (1, 1, 64, 64)), 8, 1, name="conv", bias=True)
        graph = builder.build(builder.average_pool(value, 64))
        weights = {"conv.weight": np.zeros((8, 1, 1, 1), np.float32), "conv.bias": np.full(8, 1000, np.float32)}
        path = tmp_path / "large.tflite"
        path.write_bytes(tflite_bytes(graph, weights))
        if all(np.isfinite(values).all() for values in backend.outputs(path, random_inputs([(1, 1, 64, 64)])).values):
            pytest.skip("this CPU's kernel does not sum in float16")
        with pytest.raises(BackendError, match="not finite") as caught:
            self.measure_one(backend, path, self.protocol)
        assert "65504" in caught.value.hint

    def test_it_prints_nothing(self, backend: Backend, model_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.measure_one(backend, model_path, self.protocol)
        assert capfd.readouterr() == ("", "")

    def test_an_int8_file_is_refused(self, backend: Backend, tmp_path: Path) -> None:
        pytest.importorskip("ai_edge_quantizer", reason="the extra quantize is not installed")
        path = tmp_path / "int8.tflite"
        path.write_bytes(timing_model(fold_batch_norm(residual_block()), "tflite", "int8"))
        with pytest.raises(BackendError, match="int8 inputs"):
            self.measure_one(backend, path, self.protocol)


@pytest.mark.parametrize(("fp16", "message"), [(False, "this CPU lacks"), (None, "not known whether")])
def test_float16_arithmetic_is_refused_where_the_cpu_has_none(fp16: bool | None, message: str) -> None:
    device = half_precision_device()
    device.profile.features["fp16"] = fp16
    with pytest.raises(BackendError, match=message) as caught:
        LiteRTBackend(device, precision="fp16-compute")
    assert "\n" not in str(caught.value)


class TestLiteRTBackendOnTwoThreads:
    def test_it_is_timed_by_the_wall_with_evidence(self, tmp_path: Path) -> None:
        contract = TestLiteRTBackend()
        backend = LiteRTBackend(open_device("local"), threads=2)
        path = BackendContract.model_path.__wrapped__(contract, backend, tmp_path)  # type: ignore[attr-defined]
        protocol = dataclasses.replace(contract.protocol, threads=2)
        result = contract.measure_one(backend, path, protocol)
        assert result.clock == "wall"
        assert result.involuntary_switches is not None
        assert result.cpu_wall_ratio is not None


def test_the_backend_is_found_by_name() -> None:
    assert isinstance(open_backend("litert", open_device("local")), LiteRTBackend)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(PluginError, match="abacus"):
        open_backend("abacus", open_device("local"))


def test_a_device_that_is_not_this_machine_is_refused() -> None:
    device = Device(parse_device("adb:123"), open_device("local").transport)
    with pytest.raises(BackendError, match="adb:123"):
        LiteRTBackend(device)


def test_a_backend_that_was_opened_otherwise_is_refused() -> None:
    device = open_device("local")
    with pytest.raises(Exception, match="threads 1, not 4"):
        as_backend(LiteRTBackend(device), device, Protocol(threads=4), "fp32")
