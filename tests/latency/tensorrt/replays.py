"""Backends whose trtexec is the replay: flags, files and failures of each version, and nothing measured."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from dfmobile.devices.batch import Batch
from dfmobile.devices.device import Device, open_device
from dfmobile.graph import GraphBuilder
from dfmobile.latency.backends.base import MeasureJob
from dfmobile.latency.backends.tensorrt import TensorRTBackend
from dfmobile.latency.measurement import PassResult, Protocol
from dfmobile.latency.models import timing_model
from dfmobile.testing.replay_trtexec import install_replay

FAST = {"timed-ms": "0", "warm-up-ms": "5", "power": "none"}


class QuickBackend(TensorRTBackend):
    poll_s = 0.02
    batch_class = Batch


def replay_backend(
    folder: Path, version: str = "8.5.2", *, device: Device | None = None, precision: str = "fp32", **settings: Any
) -> QuickBackend:
    """Return a backend on a replay, whose engines lie under the temporary folder of the test."""
    options = settings.pop("options", {})
    program = install_replay(folder / f"trtexec-{version}", version, **settings)
    return QuickBackend(
        device or open_device("local"), precision=precision, options={**FAST, "trtexec": str(program), **options}
    )


def conv_model(backend: TensorRTBackend, path: Path, channels: int = 16) -> Path:
    builder = GraphBuilder()
    value = builder.conv(builder.input("input0", (1, 8, 16, 16)), channels, 3, padding=1, bias=True)
    graph = builder.build(builder.relu(value))
    path.write_bytes(timing_model(graph, "onnx", backend.file_precision, backend.file_options.opset))
    return path


def one_pass(backend: TensorRTBackend, path: Path, repetition: int = 0) -> PassResult:
    ((_, result),) = backend.measure([MeasureJob("only", path, Protocol(runs=4), repetition=repetition)])
    return result


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have this machine's scratch folder under the test's own."""
    import tempfile

    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return folder


def engines(scratch: Path) -> list[str]:
    """Return the names of the engines there."""
    found = [name for _, _, names in os.walk(scratch) for name in names if name.endswith(".engine")]
    return sorted(found)
