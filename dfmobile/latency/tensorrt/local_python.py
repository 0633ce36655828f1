"""Engines built and timed by TensorRT's Python module on this machine, as ``trtexec_runner`` does on any device."""

from __future__ import annotations

import hashlib
import secrets
import shutil
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dfmobile.devices.conditions import read_conditions
from dfmobile.errors import BackendError, ExportError, FileFormatError, InputError
from dfmobile.files import atomic_write, read_bytes, sha256_hex
from dfmobile.latency.tensorrt.flags import has_flag
from dfmobile.latency.tensorrt.options import TensorRTOptions
from dfmobile.latency.tensorrt.python_runner import PythonRunner
from dfmobile.latency.tensorrt.timed import EngineRequest, TimedEngine
from dfmobile.latency.tensorrt.versions import TensorRTVersion


class LocalPythonRunner:
    """Builds and times engines in a worker process.

    Engines live as long as this object: the module says nothing by which an older one could be known to fit.

    Args:
        options: of the backend.
        precision: fp32 or fp16.
        runner: that does the work.

    Attributes:
        mark: names the engines of this object: another's of the same network are other builds.
    """

    def __init__(self, options: TensorRTOptions, precision: str, runner: PythonRunner | None = None) -> None:
        self._options, self._precision = options, precision
        self.runner = PythonRunner() if runner is None else runner
        self.mark = secrets.token_hex(4)
        self._folder: Path | None = None
        self._built: dict[str, dict[str, Any]] = {}

    def time_engines(self, requests: Sequence[EngineRequest]) -> Iterator[tuple[str, TimedEngine | BackendError]]:
        """Build the engines that are not there, time all of them in the order given, and yield ``(id, result)``."""
        failed: dict[str, BackendError] = {}
        digests = [self._digest(request) for request in requests]
        for request, digest in zip(requests, digests, strict=True):
            if digest not in self._built and digest not in failed:
                try:
                    self._built[digest] = self._build(request, digest)
                except (BackendError, ExportError, FileFormatError, InputError) as error:
                    failed[digest] = _named(request.model, error)
        for request, digest in zip(requests, digests, strict=True):
            if digest in failed:
                yield request.id, failed[digest]
                continue
            try:
                timed = self._timed(request, digest)
            except BackendError as error:
                yield request.id, _named(request.model, error)
            else:
                yield request.id, timed

    def build_engine(self, request: EngineRequest, target: Path) -> dict[str, Any]:
        """Build an engine into a file; see ``TensorRTBackend.build_engine_file``.

        Raises:
            BackendError: if it cannot be built.
            StorageError: if the file cannot be written.
        """
        digest = self._digest(request)
        try:
            found = self._build(request, digest)
        except (ExportError, FileFormatError, InputError) as error:
            raise _named(request.model, error) from error
        atomic_write(target, read_bytes(self._engine(digest)))
        return {"build_ms": 1000 * found["builder_s"], "builder_s": found["builder_s"]}

    def close(self) -> None:
        """End the worker and remove the engines; may be called twice."""
        self.runner.close()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = None
            self._built.clear()

    def _digest(self, request: EngineRequest) -> str:
        parts = (sha256_hex(request.model), request.build, request.salt, self._precision)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]

    def _engine(self, digest: str) -> Path:
        if self._folder is None:
            self._folder = Path(tempfile.mkdtemp(prefix="dfmobile-engines-"))
            weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)  # where nobody closes
        return self._folder / f"{digest}.engine"

    def _build(self, request: EngineRequest, digest: str) -> dict[str, Any]:
        engine, workspace = self._engine(digest), self._options.workspace_mib
        typed = not has_flag(TensorRTVersion.parse(self.runner.version), "--fp16")  # types are the file's
        found = self.runner.build(
            request.model,
            engine,
            "typed" if typed else self._precision,
            workspace_bytes=None if workspace is None else workspace * 2**20,
            tf32=self._options.tf32,
            limit_s=self._options.build_secs,
        )
        return {
            "engine_sha256": sha256_hex(engine),
            "engine_bytes": found.engine_bytes,
            "builder_s": found.seconds,
            "build_warnings": sum(text.startswith("WARNING") for text in found.messages),
        }

    def _timed(self, request: EngineRequest, digest: str) -> TimedEngine:
        protocol = request.protocol
        before = read_conditions().to_dict()
        found = self.runner.time(
            self._engine(digest),
            warm_up_ms=max(self._options.warm_up_ms, protocol.warm_up_ms),
            runs=max(protocol.runs, 10_000 if self._options.timed_ms else protocol.runs),
            budget_ms=max(self._options.timed_ms, protocol.hot_budget_ms),
            cuda_graph=self._options.cuda_graph,
        )
        built = self._built[digest]
        return TimedEngine(
            compute_ms=list(found.samples_ms),
            warm_up_runs=found.warm_up_runs,
            load_ms=None,
            build_ms=1000 * built["builder_s"],
            conditions_before=_of_gpu(before),
            conditions_after=_of_gpu(read_conditions().to_dict()),
            evidence={**built, "host_median_ms": float(np.median(found.host_ms))},
        )


def _named(model: Path, error: BackendError | ExportError | FileFormatError | InputError) -> BackendError:
    text = str(error)
    return BackendError(text if str(model) in text else f"{model}: {text}", error.hint)


def _of_gpu(conditions: dict[str, Any]) -> dict[str, Any]:
    """Return conditions without the cores' clocks, which say nothing for or against a time of the GPU."""
    found = {name: value for name, value in conditions.items() if name != "frequency_khz"}
    return {**found, "other_frequency_khz": conditions.get("frequency_khz")}
