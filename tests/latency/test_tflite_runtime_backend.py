"""The tflite-runtime backend keeps the contract of all backends, in an environment that has numpy 1.

``python3.11 -m venv V; V/bin/pip install -e '.[tflite-runtime]' pytest pytest-timeout hypothesis``, then
``V/bin/pytest tests/latency/test_tflite_runtime_backend.py``.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from dfmobile.architecture import build, resolve
from dfmobile.devices.device import open_device
from dfmobile.errors import MissingExtraError
from dfmobile.export.tflite import tflite_bytes
from dfmobile.graph import Graph, initialise, reference
from dfmobile.latency.backends.base import Backend, open_backend
from dfmobile.latency.models import timing_model
from dfmobile.latency.output_check import check_outputs
from dfmobile.runtimes import tflite_runtime
from dfmobile.testing.backend_contract import BackendContract
from dfmobile.testing.op_graphs import NETWORK_CASES, OP_CASES

try:
    tflite_runtime.runtime_version()
except MissingExtraError as error:
    REASON = str(error)
else:
    REASON = ""
present = pytest.mark.skipif(bool(REASON), reason=f"tflite-runtime cannot run here: {REASON}")


@present
class TestTFLiteRuntimeBackend(BackendContract):
    @pytest.fixture
    def backend(self) -> Backend:
        return open_backend("tflite-runtime", open_device("local"))

    def test_it_has_a_name_and_version_of_its_own(self, backend: Backend) -> None:
        identity = backend.identity()
        assert identity.name == "tflite-runtime"
        assert identity.version.startswith("2.")
        assert identity.library_sha256

    def test_xnnpack_takes_the_whole_model(self, backend: Backend, model_path: Path) -> None:
        result = self.measure_one(backend, model_path, self.protocol)
        assert result.extra == {"unaccelerated_ops": [], "partitions": 1}

    def test_one_thread_is_timed_by_cpu_time(self, backend: Backend, model_path: Path) -> None:
        assert self.measure_one(backend, model_path, self.protocol).clock == "thread-cpu"


@present
@pytest.mark.skipif(importlib.util.find_spec("ai_edge_quantizer") is None, reason="the extra quantize is not installed")
class TestTFLiteRuntimeBackendInInt8(BackendContract):
    @pytest.fixture
    def backend(self) -> Backend:
        return open_backend("tflite-runtime", open_device("local"), precision="int8")

    def test_every_kind_of_block_passes_its_output_check(self, backend: Backend, tmp_path: Path) -> None:
        for name in ("DF2A", "PL1A-Seg"):
            for block in {block.kind: block for block in build(resolve(name), 256, 128).blocks}.values():
                path = tmp_path / f"{block.digest}.tflite"
                path.write_bytes(timing_model(block.graph, "tflite", "int8"))
                assert check_outputs(block, path, backend), block.text


GRAPHS: dict[str, Graph] = {**OP_CASES, **{name: make() for name, make in NETWORK_CASES.items()}}


@present
@pytest.mark.parametrize("name", GRAPHS)
def test_it_runs_the_files_that_litert_runs(name: str) -> None:
    graph = GRAPHS[name]
    weights = initialise(graph)
    generator = np.random.default_rng(0)
    inputs = {key: generator.standard_normal(shape, np.float32) for key, shape in graph.inputs}
    with tflite_runtime.TFLiteRuntimeRunner(tflite_bytes(graph, weights)) as runner:
        found = runner.run([inputs[key] for key, _ in graph.inputs])
    expected = reference.run(graph, weights, inputs)
    for value, key in zip(found, graph.outputs, strict=True):
        np.testing.assert_allclose(value, expected[key], atol=2e-4, rtol=1e-4)


@pytest.mark.skipif(not REASON, reason="tflite-runtime is here")
def test_without_it_one_line_says_what_is_missing() -> None:
    with pytest.raises(MissingExtraError, match=r"tflite.runtime") as caught:
        open_backend("tflite-runtime", open_device("local"))
    assert "tflite-runtime" in caught.value.hint
