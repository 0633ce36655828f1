"""The backend with the Python module of this machine, which here is a double that builds and times nothing real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from latency.tensorrt.replays import FAST, conv_model

from dfmobile.devices.device import open_device
from dfmobile.errors import BackendError, ExportError
from dfmobile.latency.backends.base import JobContext, MeasureJob
from dfmobile.latency.backends.tensorrt import TensorRTBackend
from dfmobile.latency.measurement import Protocol
from dfmobile.latency.tensorrt.python_runner import EngineBuild, EngineTiming


class Module:
    """Says that an engine takes as many ms as its network has kilobytes."""

    version = "10.3.0"

    def __init__(self) -> None:
        self.provenance = {"runner": "python", "module": "tensorrt", "version": "10.3.0", "cuda": "12.6"}
        self.built: list[str] = []
        self.open = True

    def build(self, onnx: Path, engine: Path, precision: str, **options: Any) -> EngineBuild:
        if onnx.read_bytes()[:4] == b"this":
            raise ExportError("it is no ONNX file", hint="export it again")
        self.built.append(f"{onnx.name} {precision}")
        engine.write_bytes(onnx.read_bytes())
        return EngineBuild(0.5, engine.stat().st_size, ("WARNING: careful", "INFO: done"))

    def time(self, engine: Path, *, runs: int, **options: Any) -> EngineTiming:
        del runs
        time_ms = engine.stat().st_size / 1000
        return EngineTiming((time_ms,) * 5, (time_ms + 1,) * 5, 7, ())

    def close(self) -> None:
        self.open = False


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Module:
    found = Module()
    monkeypatch.setattr("dfmobile.latency.backends.tensorrt.describe_missing", lambda: None)
    monkeypatch.setattr("dfmobile.latency.tensorrt.local_python.PythonRunner", lambda: found)
    return found


@pytest.fixture
def backend(module: Module) -> Iterator[TensorRTBackend]:
    opened = TensorRTBackend(open_device("local"), options={**FAST, "runner": "python"})
    yield opened
    opened.close()


def test_it_times_what_a_block_adds(backend: TensorRTBackend, module: Module, tmp_path: Path) -> None:
    paths = [conv_model(backend, tmp_path / f"{size}.onnx", size) for size in (8, 16, 4)]
    jobs = [
        MeasureJob(str(n), paths[0], Protocol(runs=5), repetition=n, context=JobContext(paths[1], paths[2]))
        for n in range(3)
    ]
    results = dict(backend.measure(jobs))
    assert len(module.built) == 9
    expected = (paths[1].stat().st_size - paths[2].stat().st_size) / 1000
    for result in results.values():
        assert result.extra["marginal"]["median_ms"] == pytest.approx(expected)
        assert result.clock == "gpu-events"
        assert result.warm_up_runs == 7
        assert "replay" not in result.extra
        engine = result.extra["engines"]["isolated"]
        assert engine["host_median_ms"] == pytest.approx(engine["median_ms"] + 1)
    assert len({result.extra["build"] for result in results.values()}) == 3


def test_engines_are_kept_as_long_as_the_backend(backend: TensorRTBackend, module: Module, tmp_path: Path) -> None:
    path = conv_model(backend, tmp_path / "m.onnx")
    for _ in range(2):
        list(backend.measure([MeasureJob("only", path, Protocol(runs=5))]))
    assert len(module.built) == 1
    backend.close()
    assert not module.open


def test_builds_of_two_backends_are_not_one(backend: TensorRTBackend, module: Module) -> None:
    """Nothing of the one's engines is left for the other."""
    other = TensorRTBackend(open_device("local"), options={**FAST, "runner": "python"})
    assert backend.build_name(0) != other.build_name(0) != other.build_name(1)


def test_its_identity_says_which_runner(backend: TensorRTBackend) -> None:
    identity = backend.identity()
    assert (identity.name, identity.version) == ("TensorRT", "10.3.0")
    assert identity.flags["runner"] == "python"
    assert identity.flags["replay"] is False


def test_a_network_that_it_rejects_is_named(backend: TensorRTBackend, tmp_path: Path) -> None:
    path = tmp_path / "bad.onnx"
    path.write_text("this is no model")
    with pytest.raises(BackendError, match=r"bad\.onnx") as caught:
        list(backend.measure([MeasureJob("only", path, Protocol())]))
    assert caught.value.hint == "export it again"


def test_an_engine_is_written_here(backend: TensorRTBackend, tmp_path: Path) -> None:
    path = conv_model(backend, tmp_path / "m.onnx")
    found = backend.build_engine_file(path, tmp_path / "m.engine")
    assert found["builder_s"] == 0.5
    assert (tmp_path / "m.engine").read_bytes() == path.read_bytes()


@pytest.mark.parametrize(("version", "mode"), [("10.3.0", "fp16"), ("11.1.0", "typed")])
def test_tensorrt_11_builds_what_the_file_says(version: str, mode: str, module: Module, tmp_path: Path) -> None:
    module.version = version
    backend = TensorRTBackend(open_device("local"), precision="fp16", options={**FAST, "runner": "python"})
    path = conv_model(backend, tmp_path / "m.onnx")
    list(backend.measure([MeasureJob("only", path, Protocol(runs=5))]))
    assert module.built == [f"m.onnx {mode}"]
