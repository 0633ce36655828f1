"""The stock ``benchmark_model`` of TensorFlow Lite, on any device that a transport reaches.

The user names the tool; nothing is downloaded. Each pass is one process on the device. Jobs are taken ahead and sent
in batches that run there by themselves, so a cable may be pulled in between. The tool gives aggregates only: a pass
has one value, the median where the tool tells it (2025 on) or else the average, and the rows say so.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dfmobile.devices.batch import Batch, BatchItem, BatchResult
from dfmobile.devices.device import Device
from dfmobile.errors import BackendError, InputError
from dfmobile.files import sha256_hex
from dfmobile.latency.backends.base import Backend, MeasureJob, ModelOutputs, RuntimeIdentity
from dfmobile.latency.benchmark_model_device import ToolOnDevice
from dfmobile.latency.benchmark_model_options import (
    HALF,
    OPTIONS,
    check_precision,
    fixed_flags,
    longest_s,
    parse_options,
    protocol_flags,
)
from dfmobile.latency.benchmark_model_outputs import (
    OutputRequest,
    agreement,
    output_request,
    read_outputs,
    split_log,
)
from dfmobile.latency.benchmark_model_results import measurement, read_log, refuse_partial
from dfmobile.latency.inprocess import random_inputs
from dfmobile.latency.measurement import PassResult, Protocol

MAX_JOBS = 40
MAX_BYTES = 300 * 2**20
KEPT_OUTPUT_BYTES = 128 * 2**20
_PROCESS_MS = 150.0  # to start one and to bring its model, about; only the estimate of a build depends on it
_NOTHING_TIMED = Protocol(passes=1, runs=1, min_runs=1, hot_budget_ms=0, min_warm_up_runs=1, warm_up_ms=0)


@dataclass(frozen=True)
class _Prepared:
    """A job as the device gets it.

    Attributes:
        job: of the caller.
        item: of the batch.
        flags: of the tool, besides paths.
        unchecked: what to say where no outputs come back; empty: nothing.
        asked: SHA-256 of the model, if this job is to bring its outputs.
    """

    job: MeasureJob
    item: BatchItem
    flags: list[str]
    unchecked: str
    asked: str


class BenchmarkModelBackend(Backend):
    """Times .tflite files with the stock tool.

    Args:
        device: any.
        threads: of the tool.
        precision: ``fp32``, ``int8`` (files of static int8) or ``fp16-compute`` (fp32 files, computed in float16).
        options: see ``benchmark_model_options.OPTIONS``; ``binary`` is needed.

    Raises:
        InputError: if an option cannot be.
        BackendError: if the tool was built for another processor, or the precision does not fit the device.
        DeviceError: if the device is gone.
    """

    name = "benchmark_model"
    model_format = "tflite"
    precisions = ("fp32", "int8", HALF)
    options: ClassVar[Mapping[str, str]] = OPTIONS
    required_options: ClassVar[tuple[str, ...]] = ("binary",)
    # Replaced in tests; how often to look at the device.
    poll_s: ClassVar[float] = 0.5
    batch_class: ClassVar[type[Batch]] = Batch

    def __init__(
        self, device: Device, *, threads: int = 1, precision: str = "fp32", options: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(device, threads=threads, precision=precision)
        self._options = parse_options(options or {})
        self.processor = self._options.processor
        check_precision(self._options, precision, device.profile)
        self._cluster = self._chosen_cluster()
        self._flags = fixed_flags(self._options, precision, threads)
        self._tool = ToolOnDevice(
            device, self._options, self.affinity(), lambda text: self.tell(text), self.poll_s, self.batch_class
        )
        # Outputs by the model's SHA-256; None: asked for, and not (yet) there.
        self._outputs: OrderedDict[str, ModelOutputs | None] = OrderedDict()

    def identity(self) -> RuntimeIdentity:
        """See base class; the first call runs the tool once, without a model, to see that it starts."""
        flags = {
            "processor": self.processor,
            "flags": " ".join(self._flags),
            "allow_partial": self._options.allow_partial,
            "task_profile": self._options.task_profile,  # asked for; whether the device has it is in each pass
            "cool_down_c": self._options.cool_down_c,
            "spin_up_ms": self._options.spin_up_ms or None,  # as in tables from before it was part of this
        }
        version = self._tool.greeting or self._options.version or "unknown"
        return RuntimeIdentity(self.name, version, self._tool.sha256, flags)

    def affinity(self) -> str | None:
        """See base class; the mask of the chosen cluster."""
        return None if self._cluster is None else self._cluster.affinity_mask

    def pass_overhead_ms(self, protocol: Protocol) -> float:
        """See base class; a process is started, warmed up by time, and timed for the whole budget."""
        return _PROCESS_MS + 1000 * self._options.warm_up_secs + protocol.hot_budget_ms

    def evidence(self) -> dict[str, Any]:
        """See base class."""
        return {
            "binary": self._options.binary,
            "outputs_checked": self._tool.writes_outputs,
            "cool_down_c": self._options.cool_down_c,
            "cool_down_secs": self._options.cool_down_secs,
            "spin_up_ms": self._options.spin_up_ms,
        }

    def measure(self, jobs: Iterable[MeasureJob]) -> Iterator[tuple[str, PassResult]]:
        """See base class; up to ``MAX_JOBS`` jobs or ``MAX_BYTES`` of model files are sent at once.

        A model that fails does not take the others of its batch with it: their results come first.
        """
        stream = iter(jobs)
        while chunk := self._chunk(stream):
            yield from self._measure_chunk(chunk)

    def outputs(self, model_path: Path, inputs: Sequence[npt.NDArray[np.float32]]) -> ModelOutputs | None:
        """See base class; None where the tool cannot write them, or they are too large to come back."""
        if not self._tool.writes_outputs:
            return None
        key = sha256_hex(model_path)
        usual = all(map(np.array_equal, inputs, random_inputs([array.shape for array in inputs])))
        if usual and self._outputs.get(key) is not None:
            return self._outputs[key]
        if self._tool.busy:  # the device has one job at a time, and this would disturb it
            return None
        with tempfile.TemporaryDirectory() as folder:
            request = output_request(model_path, inputs, Path(folder))
            if isinstance(request, str):
                return None
            flags = [*self._flags, *protocol_flags(self._options, _NOTHING_TIMED)]
            item = self._item("outputs", model_path, flags, request, longest_s(_NOTHING_TIMED, self._options))
            result = self._tool.run_one(item)
        with _named(model_path):
            log, content = split_log(result.log)
            read_log(model_path, result, log, self._options)
            return read_outputs(model_path, content) if isinstance(content, bytes) else None

    def _chosen_cluster(self) -> Any:
        profile, wanted = self.device.profile, self._options.cluster
        name = profile.defaults.cluster if wanted is None else wanted
        if not name:
            return None
        try:
            return profile.cluster(name)
        except KeyError:
            known = ", ".join(cluster.name for cluster in profile.clusters) or "none"
            raise InputError(
                f"the device has no cluster {name!r}", hint=f"it has: {known}; or say cluster=none"
            ) from None

    # Batches

    def _chunk(self, jobs: Iterator[MeasureJob]) -> list[MeasureJob]:
        found: list[MeasureJob] = []
        sizes: dict[Path, int] = {}
        while len(found) < MAX_JOBS and sum(sizes.values()) < MAX_BYTES:
            job = next(jobs, None)
            if job is None:
                break
            if job.protocol.threads != self.threads:
                raise BackendError(f"a job for {job.protocol.threads} threads on a backend of {self.threads}")
            path = Path(job.model_path)
            if not path.is_file():
                raise BackendError(f"there is no model file {path}")
            sizes[path] = path.stat().st_size
            found.append(job)
        return found

    def _measure_chunk(self, chunk: list[MeasureJob]) -> Iterator[tuple[str, PassResult]]:
        failures: list[BackendError] = []
        with tempfile.TemporaryDirectory(prefix="dfmobile-inputs-") as folder:
            prepared = {
                f"j{number:03d}": self._prepare(f"j{number:03d}", job, Path(folder) / str(number))
                for number, job in enumerate(chunk)
            }
            waiting = set(prepared)
            with (
                contextlib.closing(self._tool.run([entry.item for entry in prepared.values()])) as results,
                self._asked_again(prepared, waiting),
            ):
                for result in results:
                    if result.id not in waiting:
                        raise BackendError(f"the device returned a result for an unknown item {result.id!r}")
                    waiting.remove(result.id)
                    entry = prepared[result.id]
                    try:
                        measured = self._result(entry, result)
                    except BackendError as error:
                        self._outputs.pop(sha256_hex(entry.job.model_path), None)
                        failures.append(error)
                        continue
                    yield entry.job.id, measured
        if failures:
            more = f" (and {len(failures) - 1} more of this batch failed)" if len(failures) > 1 else ""
            raise BackendError(f"{failures[0]}{more}", failures[0].hint) from failures[0]
        if waiting:
            raise BackendError(f"the device returned no result for {len(waiting)} of {len(chunk)} models")

    @contextlib.contextmanager
    def _asked_again(self, prepared: Mapping[str, _Prepared], waiting: set[str]) -> Iterator[None]:
        """Where a batch ends early, have the models without a result asked for their outputs the next time."""
        try:
            yield
        finally:
            for identifier in waiting:
                if (key := prepared[identifier].asked) and self._outputs.get(key) is None:
                    self._outputs.pop(key, None)

    def _prepare(self, identifier: str, job: MeasureJob, folder: Path) -> _Prepared:
        flags = [*self._flags, *protocol_flags(self._options, job.protocol)]
        request, unchecked, asked = None, "", ""
        if not self._tool.writes_outputs:
            unchecked = "this version of the tool cannot write them" if self._options.outputs else "not asked for"
        elif (key := sha256_hex(job.model_path)) not in self._outputs:  # once a model, not once a pass
            self._outputs[key] = None
            asked = key
            folder.mkdir()
            found = output_request(Path(job.model_path), None, folder)
            request, unchecked = (None, found) if isinstance(found, str) else (found, "the tool wrote none")
        timeout_s = longest_s(job.protocol, self._options)
        item = self._item(identifier, Path(job.model_path), flags, request, timeout_s)
        return _Prepared(job, item, flags, unchecked, asked)

    def _item(
        self, identifier: str, model_path: Path, flags: list[str], request: OutputRequest | None, timeout_s: float
    ) -> BatchItem:
        argv: tuple[str, ...] = (self._tool.program, "--graph={item}/model.tflite", *flags)
        files: tuple[tuple[Path, str], ...] = ((model_path, "model.tflite"),)
        if request is not None:
            argv, files = request.wrapped((*argv, *request.flags)), (*files, *request.files)
        return BatchItem(identifier, argv, files, timeout_s)

    def _result(self, entry: _Prepared, result: BatchResult) -> PassResult:
        path = Path(entry.job.model_path)
        with _named(path):
            own, content = split_log(result.log)
        log = read_log(path, result, own, self._options)
        refuse_partial(path, log, self._options, self.precision)
        cores = None if self._cluster is None else list(self._cluster.cores)
        measured = measurement(log, result, entry.job.protocol, entry.flags, cores)
        unchecked = content if isinstance(content, str) else entry.unchecked
        said = f"outputs not checked: {unchecked}" if unchecked else ""
        if isinstance(content, bytes):
            with _named(path):
                found = read_outputs(path, content)
            said = agreement(path, found, self.precision)
            self._keep(sha256_hex(path), found)
        if said:
            measured.extra["outputs"] = said
            measured.extra["remarks"].append(said)
        return measured

    def _keep(self, key: str, outputs: ModelOutputs) -> None:
        self._outputs[key] = outputs
        self._outputs.move_to_end(key)
        kept = [(name, item) for name, item in self._outputs.items() if item is not None]
        size = sum(values.nbytes for _, item in kept for values in item.values)
        for name, item in kept[:-1]:  # the oldest first; they were asked for, which stays noted
            if size <= KEPT_OUTPUT_BYTES:
                break
            size -= sum(values.nbytes for values in item.values)
            self._outputs[name] = None


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Make sure that an error names the model."""
    try:
        yield
    except BackendError as error:
        if str(path) in str(error):
            raise
        raise BackendError(f"{path}: {error}", error.hint) from error
