"""The ONNX Runtime backend keeps the contract of all backends."""

from __future__ import annotations

from pathlib import Path

import pytest

from dfmobile.devices.device import open_device
from dfmobile.errors import InputError
from dfmobile.latency.backends.base import Backend, open_backend
from dfmobile.testing.backend_contract import BackendContract

pytest.importorskip("onnx", reason="the extra onnx is not installed")
pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")


class TestOnnxRuntimeBackend(BackendContract):
    @pytest.fixture
    def backend(self) -> Backend:
        return open_backend("onnxruntime", open_device("local"))

    def test_one_thread_is_timed_by_cpu_time(self, backend: Backend, model_path: Path) -> None:
        result = self.measure_one(backend, model_path, self.protocol)
        assert result.clock == "thread-cpu"
        # One thread means the calling one: its CPU clock sees all the work.
        assert result.cpu_wall_ratio is not None
        assert result.cpu_wall_ratio < 1.1

    def test_its_optimisations_are_recorded(self, backend: Backend) -> None:
        identity = backend.identity()
        assert identity.name == "ONNX Runtime"
        assert identity.flags["graph_optimizations"] == "all"
        assert identity.library_sha256


def test_int8_is_refused() -> None:
    with pytest.raises(InputError, match="int8"):
        open_backend("onnxruntime", open_device("local"), precision="int8")
