"""What the backends share whose runtime is a Python package: they time a ``ModelRunner`` in this process."""

from __future__ import annotations

import os
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.devices.conditions import read_conditions
from dfmobile.devices.cpu_list import affinity_mask
from dfmobile.devices.device import Device
from dfmobile.errors import BackendError
from dfmobile.graph import GraphBuilder
from dfmobile.latency.backends.base import Backend, MeasureJob, ModelOutputs
from dfmobile.latency.inprocess import CacheEvictor, call_overhead_ms, random_inputs, run_pass
from dfmobile.latency.inprocess_phases import run_phases
from dfmobile.latency.measurement import PassResult
from dfmobile.latency.models import timing_model
from dfmobile.latency.phases import Phase, PhasesResult
from dfmobile.runtimes.base import Array, ModelRunner

_DAMAGED = "its weights are damaged"
_OVERFLOW = (
    "sums above 65504 overflow in float16, e.g. in a pooling over many large values: take trained weights (random ones "
    "make large activations), or --precision fp32"
)


class InProcessBackend(Backend):
    """Times model files in this process.

    One thread is timed by the CPU clock of the calling thread, in which all runtimes here work then; several by the
    wall clock, with involuntary switches and CPU over wall time of the whole process as contamination evidence.

    Args:
        device: this machine, ``local``.
        threads: of the runtime.
        precision: one of ``precisions``.

    Raises:
        BackendError: if the device is another one.
        MissingExtraError: if the runtime is not installed.
    """

    def __init__(self, device: Device, *, threads: int = 1, precision: str = "fp32") -> None:
        super().__init__(device, threads=threads, precision=precision)
        if device.uri.scheme != "local":
            raise BackendError(
                f"backend {self.name} runs on this machine only, not on {device.uri}",
                hint="models on a device are timed by: --backend benchmark_model --backend-option binary=FILE "
                "(its own benchmark_model, built for it)",
            )
        self.identity()
        self._evictor = CacheEvictor(device.profile)
        self._last: tuple[Path | None, ModelOutputs] = (None, ModelOutputs([], []))

    @abstractmethod
    def open_runner(self, model: bytes | Path, threads: int) -> ModelRunner:
        """Load a model file, or its content.

        Raises:
            BackendError: if the runtime cannot.
        """

    def input_shapes(self, runner: ModelRunner) -> Sequence[tuple[int, ...]]:
        """Return ``[N, C, H, W]`` or ``[N, C]`` of each input of a runner that ``open_runner`` made."""
        return runner.input_shapes

    def inspect(self, runner: ModelRunner) -> dict[str, Any]:
        """Return what is worth recording of a loaded model, JSON values."""
        del runner
        return {}

    def affinity(self) -> str | None:
        """See base class; the mask that this process was started with (``taskset`` sets it)."""
        return affinity_mask(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None

    def measure(self, jobs: Iterable[MeasureJob]) -> Iterator[tuple[str, PassResult]]:
        """See base class; one job at a time, in order."""
        for job in jobs:
            if job.protocol.threads != self.threads:
                raise BackendError(f"a job for {job.protocol.threads} threads on a backend of {self.threads}")
            yield job.id, self._measure(job)

    def outputs(self, model_path: Path, inputs: Sequence[npt.NDArray[np.float32]]) -> ModelOutputs:
        """See base class."""
        # What was timed last has its outputs still here: those of the very run that counts, and no run more.
        path, last = self._last
        shapes = [array.shape for array in inputs]
        if path == model_path and all(map(np.array_equal, inputs, random_inputs(shapes))):
            return last
        with _named(model_path), self.open_runner(model_path, self.threads) as runner:
            values = runner.run(inputs)
            return ModelOutputs(values, runner.output_steps())

    def run_phases(self, model_path: Path, phases: Sequence[Phase], purpose: str) -> PhasesResult:
        """See base class."""
        del purpose
        path = Path(model_path)
        with _named(path):
            return run_phases(
                lambda: self.open_runner(path, self.threads),
                phases,
                lambda: read_conditions().to_dict(),
                threads=self.threads,
                input_shapes=self.input_shapes,
                inspect=self.inspect,
            )

    def evidence(self) -> dict[str, Any]:
        """See base class."""
        return {
            "call_overhead_ms": self._call_overhead_ms,
            "default_eviction_bytes": self._evictor.default_bytes,
            "eviction_source": self._evictor.source,
        }

    @cached_property
    def _call_overhead_ms(self) -> float:
        builder = GraphBuilder()
        graph = builder.build(builder.relu(builder.input("input0", (1, 1, 1, 1))))
        model = timing_model(graph, self.model_format, self.file_precision)
        return call_overhead_ms(lambda: self.open_runner(model, 1), self.input_shapes)

    def _measure(self, job: MeasureJob) -> PassResult:
        path = Path(job.model_path)

        def keep(runner: ModelRunner, outputs: list[Array]) -> None:
            self._last = path, ModelOutputs(outputs, runner.output_steps())

        self._last = None, ModelOutputs([], [])
        with _named(path):
            return run_pass(
                lambda: self.open_runner(path, self.threads),
                job.protocol,
                self._evictor,
                lambda: read_conditions().to_dict(),
                input_shapes=self.input_shapes,
                inspect=self.inspect,
                keep_outputs=keep,
                not_finite=_OVERFLOW if self.precision == "fp16-compute" else _DAMAGED,
            )


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Make sure that an error names the file."""
    try:
        yield
    except BackendError as error:
        if str(path) in str(error):
            raise
        raise BackendError(f"{path}: {error}", error.hint) from error
