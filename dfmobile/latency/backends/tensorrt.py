"""TensorRT on a Jetson or a desktop GPU: engines built from .onnx files where they run, and timed there.

With ``trtexec``, on any device that a transport reaches, or with the Python module of this machine. Building an engine
chooses kernels by timing them, so each pass of a block has an engine of its own, and the spread between engines is
part of its interval. What a table says of a block is by default what it adds to a network (``latency.context``), and
beside it what it takes as an engine of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar

from dfmobile.devices.batch import Batch
from dfmobile.devices.device import Device
from dfmobile.errors import BackendError, InputError
from dfmobile.files import sha256_hex
from dfmobile.latency.backends.base import Backend, FileOptions, MeasureJob, RuntimeIdentity
from dfmobile.latency.context import RULE
from dfmobile.latency.measurement import PassResult, Protocol
from dfmobile.latency.tensorrt.availability import describe_missing
from dfmobile.latency.tensorrt.board import TrtexecBoard
from dfmobile.latency.tensorrt.flags import has_flag
from dfmobile.latency.tensorrt.layer_profile import ProfiledLayer
from dfmobile.latency.tensorrt.local_python import LocalPythonRunner
from dfmobile.latency.tensorrt.options import LEAST_BUILDS, OPTIONS, parse_options
from dfmobile.latency.tensorrt.timed import EngineRequest, Role, TimedEngine, pass_of
from dfmobile.latency.tensorrt.trtexec_runner import TrtexecRunner
from dfmobile.latency.tensorrt.versions import TensorRTVersion

MAX_JOBS = 8  # of a batch: each has up to three engines
OPSETS = (13, 17)
_PROCESS_MS = 3000.0  # to start one and to load TensorRT's libraries, about; only the estimate of a build depends on it
_BUILD_MS = 20_000.0  # an engine, as long as none was built; likewise


class TensorRTBackend(Backend):
    """Times .onnx files as TensorRT engines.

    Args:
        device: any with trtexec; with ``runner=python`` this machine.
        threads: 1: the GPU does the work.
        precision: ``fp32``, ``fp16`` (TensorRT 11 and later: files with fp16 tensors) or ``int8`` (with scales from a
            calibration cache).
        options: see ``tensorrt.options.OPTIONS``.

    Raises:
        InputError: if an option cannot be, or the precision lacks what it needs.
        BackendError: if there is no TensorRT or no GPU.
        DeviceError: if the device is gone.
    """

    name = "tensorrt"
    model_format = "onnx"
    precisions = ("fp32", "fp16", "int8")
    options: ClassVar[Mapping[str, str]] = OPTIONS
    processor = "gpu"
    least_passes = LEAST_BUILDS
    # Replaced in tests; how often to look at the device.
    poll_s: ClassVar[float] = 0.5
    batch_class: ClassVar[type[Batch]] = Batch

    def __init__(
        self, device: Device, *, threads: int = 1, precision: str = "fp32", options: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(device, threads=threads, precision=precision)
        if threads != 1:
            raise InputError("backend tensorrt runs on the GPU and has no threads", hint="leave --threads out")
        self._options = parse_options(options or {}, precision)
        self.block_measure = self._options.measure
        local = device.uri.scheme == "local"
        if self._options.runner == "python" and not local:
            raise InputError(
                "runner=python runs on this machine only",
                hint="leave it out: trtexec runs on any device, or --device local",
            )
        if local and self._options.trtexec is None:
            missing = describe_missing()
            if missing is not None:
                raise BackendError(missing[0], hint=missing[1])
        self._python: LocalPythonRunner | None = None
        if self._options.runner == "python":
            self._python = LocalPythonRunner(self._options, precision)
            self._version = TensorRTVersion.parse(self._python.runner.version)
        else:
            self.board = TrtexecBoard(device, self._options.trtexec)
            self._version = self.board.facts.version
            self.trtexec = TrtexecRunner(
                device,
                self.board,
                self._options,
                precision,
                lambda text: self.tell(text),
                self.poll_s,
                self.batch_class,
            )
        if precision == "int8" and not has_flag(self._version, "--int8"):
            raise InputError(
                f"TensorRT {self._version.text} has no int8 by calibration cache: it takes types from the file alone",
                hint="--precision fp16 or fp32, or a board with TensorRT 10 or older",
            )
        self._build_ms: list[float] = []

    @property
    def version(self) -> TensorRTVersion:
        """Of TensorRT."""
        return self._version

    @property
    def replay(self) -> bool:
        """Whether recorded logs are played: then nothing is measured."""
        return self._python is None and self.board.facts.replay

    @property
    def file_precision(self) -> str:
        """See base class: from TensorRT 11 on, types are the file's."""
        return "fp16" if self.precision == "fp16" and not has_flag(self._version, "--fp16") else "fp32"

    @property
    def file_options(self) -> FileOptions:
        """See base class: the newest opset of dfmobile's that the parser takes."""
        fitting = [opset for opset in OPSETS if opset <= self._version.max_onnx_opset]
        if not fitting:
            raise BackendError(
                f"TensorRT {self._version.text} reads ONNX up to opset {self._version.max_onnx_opset}, "
                f"and dfmobile writes {OPSETS[0]} and later",
                hint="update the board: JetPack 4.6 has TensorRT 8",
            )
        return FileOptions(opset=fitting[-1])

    def identity(self) -> RuntimeIdentity:
        """See base class."""
        chosen = self._options
        flags: dict[str, Any] = {
            "runner": chosen.runner,
            "measure": chosen.measure,
            "prefix": RULE if chosen.measure == "marginal" else None,
            "builds": chosen.builds,
            "cuda_graph": chosen.cuda_graph,
            "spin_wait": chosen.spin_wait,
            "transfers": chosen.transfers,
            "tf32": chosen.tf32,
            "workspace_mib": chosen.workspace_mib,
            "warm_up_ms": chosen.warm_up_ms,
            "calibration_sha256": None if chosen.calibration_cache is None else sha256_hex(chosen.calibration_cache),
            "opset": self.file_options.opset,
            "replay": self.replay,
        }
        flags = {name: value for name, value in flags.items() if value is not None}
        if self._python is not None:
            about = self._python.runner.provenance
            flags.update({name: about.get(name) for name in ("cudart", "cuda", "driver")})
            return RuntimeIdentity("TensorRT", self._version.text, None, flags)
        facts = self.board.facts
        flags["trtexec_sha256"] = facts.trtexec_sha256
        name = "TensorRT (replay, not a measurement)" if facts.replay else "TensorRT"
        return RuntimeIdentity(name, facts.version.text, facts.library_sha256, flags)

    def affinity(self) -> str | None:
        """See base class; a GPU has none."""
        return None

    def pass_overhead_ms(self, protocol: Protocol) -> float:
        """See base class: an engine is built and loaded, warmed up and timed by time; of a block, three."""
        build_ms = sum(self._build_ms) / len(self._build_ms) if self._build_ms else _BUILD_MS
        timed_ms = self._options.warm_up_ms + max(self._options.timed_ms, protocol.hot_budget_ms)
        engines = 3 if self.block_measure == "marginal" else 1
        return engines * (build_ms + 2 * _PROCESS_MS + timed_ms)

    def evidence(self) -> dict[str, Any]:
        """See base class."""
        found: dict[str, Any] = {"outputs_checked": False, "timed_ms": self._options.timed_ms}
        if self._python is None:
            facts = self.board.facts
            found.update(
                trtexec=facts.trtexec,
                tegrastats=facts.tegrastats and self._options.power,
                build_flags=self.trtexec.flags(),
            )
        return found

    def measure(self, jobs: Iterable[MeasureJob]) -> Iterator[tuple[str, PassResult]]:
        """See base class; up to ``MAX_JOBS`` jobs are sent at once; one that fails does not take the others along."""
        stream = iter(jobs)
        while chunk := self._chunk(stream):
            yield from self._measure_chunk(chunk)

    def profile_layers(self, model: Path) -> tuple[list[ProfiledLayer], int]:
        """Profile the layers of a model's engine (its first build), in a run of its own: (layers, runs).

        Their names are the builder's, fused and cut: never a key. Their sum is not the time of the whole.

        Raises:
            InputError: with ``runner=python``.
            BackendError: if it cannot be built or profiled.
        """
        if self._python is not None:
            raise InputError("runner=python profiles no layers", hint="leave it out: trtexec does")
        return self.trtexec.profile(EngineRequest("profile", model, self.build_name(0), "", Protocol()))

    def build_engine_file(self, model: Path, target: Path) -> dict[str, Any]:
        """Build a model's engine where it is to run, and write it to a file of this machine, checked.

        Args:
            model: .onnx file.
            target: written over.

        Returns:
            What is known of it, JSON values: flags, how long it took.

        Raises:
            BackendError: if it cannot be built.
            DeviceError: if the device is gone, or it arrived damaged.
            StorageError: if the file cannot be written.
        """
        request = EngineRequest("engine", model, self.build_name(0), "", Protocol())
        if self._python is not None:
            return self._python.build_engine(request, target)
        path, found = self.trtexec.build_engine(request)
        self.device.transport.pull(path, target)
        if sha256_hex(target) != found["engine_sha256"]:
            raise BackendError(f"the engine of {model} changed on {self.device.uri} while it was fetched")
        return {"build_flags": self.trtexec.flags(), "build_ms": found["build_ms"], "builder_s": found["builder_s"]}

    def build_name(self, repetition: int) -> str:
        """Return which build of an engine a pass uses; after a restart (of the board, of the worker) it is another."""
        number = repetition if self._options.builds is None else repetition % self._options.builds
        return f"{number}@{self.board.boot if self._python is None else self._python.mark}"

    def close(self) -> None:
        """Let go of a worker process, where there is one."""
        if self._python is not None:
            self._python.close()

    def _chunk(self, jobs: Iterator[MeasureJob]) -> list[MeasureJob]:
        found: list[MeasureJob] = []
        while len(found) < MAX_JOBS and (job := next(jobs, None)) is not None:
            if job.protocol.threads != self.threads:
                raise BackendError(f"a job for {job.protocol.threads} threads on a backend of {self.threads}")
            if not Path(job.model_path).is_file():
                raise BackendError(f"there is no model file {job.model_path}")
            if _is_tflite(Path(job.model_path)):  # else it is sent to the board, and called a damaged file there
                raise InputError(
                    f"{job.model_path} is a TFLite file, and TensorRT takes ONNX",
                    hint="write one with dfmobile export --format onnx",
                )
            found.append(job)
        return found

    def _measure_chunk(self, chunk: list[MeasureJob]) -> Iterator[tuple[str, PassResult]]:
        if self._python is None:
            self.board.look_again()
        builds = [self.build_name(job.repetition) for job in chunk]
        requests: list[EngineRequest] = []
        for number, job in enumerate(chunk):
            requests += [
                EngineRequest(f"{number}-{role}", path, builds[number], salt, job.protocol)
                for role, path, salt in _engines(job)
            ]
        waiting: dict[int, dict[Role, TimedEngine]] = {number: {} for number in range(len(chunk))}
        wanted = {number: len(_engines(job)) for number, job in enumerate(chunk)}
        failures: dict[int, BackendError] = {}
        runner = self.trtexec if self._python is None else self._python
        with contextlib.closing(runner.time_engines(requests)) as results:  # type: ignore[type-var]
            for identifier, result in results:
                text, _, role = identifier.partition("-")
                number = int(text)
                if isinstance(result, BackendError):
                    failures.setdefault(number, result)
                    continue
                if result.build_ms is not None:
                    self._build_ms.append(result.build_ms)
                engines = waiting[number]
                engines[role] = result  # type: ignore[index]  # one of the roles, as it was sent
                if len(engines) == wanted[number]:
                    job = chunk[number]
                    yield job.id, pass_of(engines, job.protocol, builds[number], marginal=job.context is not None)
        if failures:
            first = next(iter(failures.values()))
            more = f" (and {len(failures) - 1} more of this batch failed)" if len(failures) > 1 else ""
            raise BackendError(f"{first}{more}", first.hint) from first


def _is_tflite(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(8)[4:] == b"TFL3"  # the file identifier of its format


def _engines(job: MeasureJob) -> list[tuple[Role, Path, str]]:
    """Return a job's engines in the order of timing: what is subtracted beside what it is subtracted from.

    A prefix is built for each block anew: shared, its error would be in all of their costs, and sums of them would
    claim to be more precise than they are.
    """
    isolated: tuple[Role, Path, str] = ("isolated", job.model_path, "")
    if job.context is None or job.context.prefix is None:
        return [isolated]
    own = sha256_hex(job.context.with_prefix)
    return [("prefix", job.context.prefix, own), ("context", job.context.with_prefix, ""), isolated]
