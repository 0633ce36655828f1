"""LiteRT on this machine's CPU, XNNPACK as it applies it by default: the backend that needs nothing installed."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from dfmobile.devices.conditions import read_conditions
from dfmobile.devices.cpu_list import affinity_mask
from dfmobile.devices.device import Device
from dfmobile.errors import BackendError
from dfmobile.export.tflite import tflite_bytes
from dfmobile.files import sha256_hex
from dfmobile.graph import GraphBuilder
from dfmobile.latency.backends.base import Backend, MeasureJob, RuntimeIdentity
from dfmobile.latency.inprocess import CacheEvictor, call_overhead_ms, run_pass
from dfmobile.latency.measurement import PassResult
from dfmobile.runtimes.litert import LiteRTRunner, library_path, runtime_version


@lru_cache(maxsize=1)
def _library_sha256() -> str:
    return sha256_hex(library_path())


def _input_shapes(runner: LiteRTRunner) -> list[tuple[int, ...]]:
    """Return ``[N, C, H, W]`` of each input; the file has ``[N, H, W, C]``."""
    return [(s[0], s[3], s[1], s[2]) if len(s) == 4 else s for s in runner.input_shapes]


def _inspect(runner: LiteRTRunner) -> dict[str, Any]:
    return {"unaccelerated_ops": runner.unaccelerated_ops(), "partitions": runner.partition_count()}


class LiteRTBackend(Backend):
    """Times .tflite files in this process.

    Args:
        device: this machine, ``local``.
        threads: of XNNPACK.
        precision: fp32.

    Raises:
        BackendError: if the device is another one.
    """

    name = "litert"
    model_format = "tflite"
    precisions = ("fp32",)

    def __init__(self, device: Device, *, threads: int = 1, precision: str = "fp32") -> None:
        super().__init__(device, threads=threads, precision=precision)
        if device.uri.scheme != "local":
            raise BackendError(
                f"backend litert runs on this machine only, not on {device.uri}",
                hint="take --device local, or a backend that drives that device",
            )
        self._evictor = CacheEvictor(device.profile)

    def identity(self) -> RuntimeIdentity:
        """See base class."""
        return RuntimeIdentity("LiteRT", runtime_version(), _library_sha256(), {"delegate": "XNNPACK (default)"})

    def affinity(self) -> str | None:
        """See base class; the mask that this process was started with (``taskset`` sets it)."""
        return affinity_mask(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None

    def measure(self, jobs: Iterable[MeasureJob]) -> Iterator[tuple[str, PassResult]]:
        """See base class; one job at a time, in order."""
        for job in jobs:
            if job.protocol.threads != self.threads:
                raise BackendError(f"a job for {job.protocol.threads} threads on a backend of {self.threads}")
            yield job.id, self._measure(job)

    def evidence(self) -> dict[str, Any]:
        """See base class."""
        return {
            "call_overhead_ms": self._call_overhead_ms,
            "eviction_bytes": self._evictor.buffer_bytes,
            "eviction_source": self._evictor.source,
        }

    @cached_property
    def _call_overhead_ms(self) -> float:
        builder = GraphBuilder()
        model = tflite_bytes(builder.build(builder.relu(builder.input("input0", (1, 1, 1, 1)))), {})
        return call_overhead_ms(lambda: LiteRTRunner(model), _input_shapes)

    def _measure(self, job: MeasureJob) -> PassResult:
        path = Path(job.model_path)
        try:
            return run_pass(
                lambda: LiteRTRunner(path, threads=self.threads),
                job.protocol,
                self._evictor,
                lambda: read_conditions().to_dict(),
                input_shapes=_input_shapes,
                inspect=_inspect,
            )
        except BackendError as error:
            if str(path) in str(error):
                raise
            raise BackendError(f"{path}: {error}", error.hint) from error
