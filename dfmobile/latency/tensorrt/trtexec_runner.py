"""Engines built and timed by trtexec, in batches that a board runs by itself.

Two processes an engine: one builds it and runs nothing, the other loads it, times it and writes the time of each run.
What a process leaves in files comes back in its log, behind marks: a batch brings nothing else. The engines of a batch
are built first and timed then, so that no build heats the board between timings that belong together.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from dfmobile.devices.batch import Batch, BatchItem, BatchResult, BatchSettings
from dfmobile.devices.device import Device
from dfmobile.devices.tegrastats_monitor import TegrastatsMonitor
from dfmobile.errors import BackendError, FileFormatError
from dfmobile.files import sha256_hex
from dfmobile.latency.benchmark_model_results import conditions
from dfmobile.latency.device_batches import DeviceBatches
from dfmobile.latency.tensorrt import power
from dfmobile.latency.tensorrt.board import TrtexecBoard
from dfmobile.latency.tensorrt.board_watch import BoardWatch
from dfmobile.latency.tensorrt.failures import failure
from dfmobile.latency.tensorrt.flags import (
    BuildRequest,
    Precision,
    TimingRequest,
    build_flags,
    has_flag,
    profile_flags,
    timing_choices,
    timing_flags,
)
from dfmobile.latency.tensorrt.layer_profile import ProfiledLayer, parse_export_profile
from dfmobile.latency.tensorrt.options import TensorRTOptions
from dfmobile.latency.tensorrt.timed import EngineRequest, TimedEngine
from dfmobile.latency.tensorrt.times import parse_export_times
from dfmobile.latency.tensorrt.trtexec_results import (
    check_agreement,
    elapsed_ms,
    exit_code,
    read_log,
    read_trace,
    split_marked,
)
from dfmobile.latency.tensorrt.trtexec_shell import ENGINE, PROFILE, TIMES, TRACE, build_command, run_command

RUN_PREFIX = "trt"
_MAX_FILE_BYTES = 2**30


@dataclass(frozen=True)
class _Engine:
    """An engine of a batch.

    Attributes:
        digest: its name on the device.
        request: the first that wants it.
    """

    digest: str
    request: EngineRequest


class TrtexecRunner:
    """Builds and times engines with trtexec.

    Args:
        device: any.
        board: its trtexec.
        options: of the backend.
        precision: fp32, fp16 or int8.
        tell: told what people should know.
        poll_s: how often to look at the device.
        batch_class: ``Batch``, or a double in tests.
    """

    def __init__(
        self,
        device: Device,
        board: TrtexecBoard,
        options: TensorRTOptions,
        precision: str,
        tell: Callable[[str], None],
        poll_s: float = 0.5,
        batch_class: type[Batch] = Batch,
    ) -> None:
        self._device, self._board, self._options, self._precision = device, board, options, precision
        self._poll_s = poll_s
        self._batches = DeviceBatches(device, RUN_PREFIX, self._settings, tell, batch_class)
        self._watch = BoardWatch(device, tell)
        self._built: dict[str, dict[str, Any]] = {}  # engines that this process saw built

    @property
    def typed(self) -> bool:
        """Whether tensor types are those of the ONNX file: TensorRT 11 knows nothing else."""
        return not has_flag(self._board.facts.version, "--fp16")

    def digest(self, request: EngineRequest) -> str:
        """Return the name of an engine on the device: equal names, equal engines."""
        flags = build_flags(self._board.facts.version, self._build_request("onnx", "engine", "cache"))
        parts = (sha256_hex(request.model), request.build, request.salt, self._precision, *flags, self._calibration)
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]

    def time_engines(self, requests: Sequence[EngineRequest]) -> Iterator[tuple[str, TimedEngine | BackendError]]:
        """Build the engines that are not there, time all of them in the order given, and yield ``(id, result)``.

        An engine that cannot be built or timed has an error as its result, and the others go on.

        Raises:
            DeviceError: if the device is gone.
        """
        self._board.make_room(self._options.cache_mib * 2**20)
        engines: dict[str, _Engine] = {}
        names: dict[str, tuple[EngineRequest, str]] = {}
        for number, request in enumerate(requests):
            digest = self.digest(request)
            engines.setdefault(digest, _Engine(digest, request))
            names[f"t{number:03d}"] = (request, digest)
        items = [self._build_item(f"b{number:03d}", engine) for number, engine in enumerate(engines.values())]
        by_item = {item.id: engine for item, engine in zip(items, engines.values(), strict=True)}
        items += [self._timing_item(name, request, digest) for name, (request, digest) in names.items()]
        failed: dict[str, BackendError] = {}
        state = self._watch.before()
        for result in self._batches.run(items):
            if result.id in by_item:
                engine = by_item[result.id]
                try:
                    self._built[engine.digest] = self._built_engine(engine, result)
                except BackendError as error:
                    failed[engine.digest] = error
                continue
            request, digest = names[result.id]
            if digest in failed:
                yield request.id, failed[digest]
                continue
            try:
                timed = self._timed(request, digest, result, state)
            except BackendError as error:
                yield request.id, error
            else:
                yield request.id, timed
        self._watch.after()

    def profile(self, request: EngineRequest) -> tuple[list[ProfiledLayer], int]:
        """Profile an engine's layers, in a run of its own; see ``layer_profile.parse_export_profile``.

        Raises:
            BackendError: if it cannot be built or profiled.
            DeviceError: if the device is gone.
        """
        self._board.make_room(self._options.cache_mib * 2**20)
        facts, digest = self._board.facts, self.digest(request)
        engine, file = self._engine(digest), "{item}/profile.json"
        command = [facts.trtexec, *profile_flags(facts.version, engine, file)]
        argv = run_command(file, "{item}/trace", "profile", command)
        items = [self._build_item("build", _Engine(digest, request)), BatchItem("profile", argv, (), 600.0)]
        text = ""
        for result in self._batches.run(items):
            what = f"profiling {request.model}"
            if result.id == "build":
                self._built_engine(_Engine(digest, request), result)
                continue
            parts = split_marked(result.log, (PROFILE, TRACE))
            text = parts[b""].decode("utf-8", "replace")
            log = read_log(text, what)
            if result.exit_code != 0 or PROFILE not in parts:
                raise failure(exit_code(result), log, text, what=what, version=facts.version)
            try:
                return parse_export_profile(parts[PROFILE])
            except FileFormatError as error:
                raise BackendError(f"{what}: {error}", error.hint) from error
        raise BackendError(f"{self._device.uri} returned no profile of {request.model}")

    def build_engine(self, request: EngineRequest) -> tuple[str, dict[str, Any]]:
        """Build an engine; return its path on the device and what is known of it.

        Raises:
            BackendError: if it cannot be built.
            DeviceError: if the device is gone.
        """
        self._board.make_room(self._options.cache_mib * 2**20)
        engine = _Engine(self.digest(request), request)
        result = self._batches.run_one(self._build_item("build", engine))
        return self._engine(engine.digest), self._built_engine(engine, result)

    def flags(self) -> list[str]:
        """Return the flags of builds, for provenance; paths stand for themselves."""
        return build_flags(self._board.facts.version, self._build_request("MODEL.onnx", "MODEL.engine", "CACHE"))

    # Items

    @property
    def _traced(self) -> bool:
        """Whether tegrastats runs beside timings."""
        return self._board.facts.tegrastats and self._options.power

    @property
    def _calibration(self) -> str:
        cache = self._options.calibration_cache
        return "" if cache is None else sha256_hex(cache)

    def _engine(self, digest: str) -> str:
        return f"{self._board.folder}/{digest}.engine"

    def _build_request(self, onnx: str, engine: str, cache: str) -> BuildRequest:
        version = self._board.facts.version
        return BuildRequest(
            onnx=onnx,
            engine=engine,
            precision=cast(Precision, self._precision),
            timing_cache=cache if has_flag(version, "--timingCacheFile") else None,
            workspace_mib=self._options.workspace_mib,
            calibration_cache=None if self._options.calibration_cache is None else "{item}/calibration.cache",
            strongly_typed=self.typed,
            tf32=self._options.tf32,
        )

    def _build_item(self, name: str, engine: _Engine) -> BatchItem:
        facts, path = self._board.facts, self._engine(engine.digest)
        part = f"{self._board.folder}/{engine.digest}.part"
        # Of this engine alone: where it was removed to make room, the same kernels are chosen again; another build of
        # the same network, or another block, never sees it.
        cache = f"{self._board.folder}/{engine.digest}.timing"
        flags = build_flags(facts.version, self._build_request("{item}/model.onnx", part, cache))
        files: tuple[tuple[Path, str], ...] = ((engine.request.model, "model.onnx"),)
        if self._options.calibration_cache is not None:
            files = (*files, (self._options.calibration_cache, "calibration.cache"))
        argv = build_command(path, part, [facts.trtexec, *flags])
        return BatchItem(name, argv, files, self._options.build_secs)

    def _timing_item(self, name: str, request: EngineRequest, digest: str) -> BatchItem:
        facts, timing = self._board.facts, self._timing(request, digest)
        command = [facts.trtexec, *timing_flags(facts.version, timing)]
        log = f"{digest}.trace"
        if self._traced:
            command = TegrastatsMonitor(self._device.transport, power.INTERVAL_MS, self._board.folder).wrap(
                command, log
            )
        argv = run_command(timing.times, f"{self._board.folder}/{log}", "times", command)
        longest_s = 2 * (timing.warm_up_ms / 1000 + timing.duration_s) + 600.0
        return BatchItem(name, argv, (), longest_s)

    def _timing(self, request: EngineRequest, digest: str) -> TimingRequest:
        protocol = request.protocol
        return TimingRequest(
            engine=self._engine(digest),
            times="{item}/times.json",
            warm_up_ms=round(max(self._options.warm_up_ms, protocol.warm_up_ms)),
            iterations=protocol.runs,
            duration_s=max(self._options.timed_ms, 0.0) / 1000,
            cuda_graph=self._options.cuda_graph,
            spin_wait=self._options.spin_wait,
            transfers=self._options.transfers,
        )

    def _settings(self) -> BatchSettings:
        return BatchSettings(
            poll_s=self._poll_s,
            reconnect_s=self._options.reconnect_secs,
            # It bounds every file that an item writes, engines too.
            log_limit_bytes=_MAX_FILE_BYTES,
        )

    # Results

    def _built_engine(self, engine: _Engine, result: BatchResult) -> dict[str, Any]:
        what = f"building an engine of {engine.request.model}"
        parts = split_marked(result.log, (ENGINE,))
        text = parts[b""].decode("utf-8", "replace")
        log = read_log(text, what)
        words = parts.get(ENGINE, b"").decode("ascii", "replace").split()
        fresh = log.version is not None or log.passed is not None
        whole = len(words) >= 2 and len(words[0]) == 64 and words[-1].isdecimal()
        if result.exit_code != 0 or not whole or (fresh and log.passed is not True):
            raise failure(exit_code(result), log, text, what=what, version=self._board.facts.version)
        found = {
            "engine_sha256": words[0],
            "engine_bytes": int(words[-1]),
            "build_ms": elapsed_ms(result) if fresh else None,
            "builder_s": log.build_s,
            "build_warnings": len(log.warnings),
        }
        earlier = self._built.get(engine.digest)
        return found if fresh or earlier is None else {**found, "build_ms": earlier["build_ms"]}

    def _timed(
        self, request: EngineRequest, digest: str, result: BatchResult, board: dict[str, Any] | None
    ) -> TimedEngine:
        facts, what = self._board.facts, f"timing {request.model}"
        parts = split_marked(result.log, (TIMES, TRACE))
        text = parts[b""].decode("utf-8", "replace")
        log = read_log(text, what)
        if result.exit_code != 0 or log.passed is not True or TIMES not in parts or log.gpu_compute is None:
            raise failure(exit_code(result), log, text, what=what, version=facts.version)
        if log.version is not None and log.version != facts.version:
            raise BackendError(
                f"{what}: trtexec is of TensorRT {log.version.text} now, it was {facts.version.text}",
                hint="TensorRT was updated meanwhile: build another table",
            )
        if log.replay and not facts.replay:
            raise BackendError(
                f"{what}: the log is a replay, and {facts.trtexec} was not one",
                hint="the program was exchanged meanwhile: build another table",
            )
        timing = self._timing(request, digest)
        try:
            times = parse_export_times(parts[TIMES]).without_warm_up(timing.warm_up_ms)
        except FileFormatError as error:
            raise BackendError(f"{what}: {error}", error.hint) from error
        check_agreement(what, log, times, timing)
        trace, lost = read_trace(parts.get(TRACE))
        timed_ms = float(times.end_ms[-1] - times.start_ms[0])
        energy, remarks = None, [] if not log.unstable_clock else ["trtexec calls the GPU's time unstable"]
        if trace is not None:
            energy, why = power.energy_document(trace, timed_ms, len(times))
            remarks += [why] if why else []
        elif self._traced:
            remarks.append(f"no energy, and the GPU's clock was not watched: {lost}")
        built = self._built.get(digest, {})
        return TimedEngine(
            compute_ms=[float(value) for value in times.compute_ms],
            warm_up_runs=log.warm_up_queries or 1,
            load_ms=None if log.load_s is None else 1000 * log.load_s,
            build_ms=built.get("build_ms"),
            conditions_before=conditions(result.conditions_before, []),
            conditions_after=conditions(result.conditions_after, []),
            evidence={
                "choices": timing_choices(timing),
                "gpu_variation": log.gpu_variation,
                "device": log.device,
                "latency_median_ms": float(np.median(times.latency_ms)),
                "enqueue_median_ms": float(np.median(times.enqueue_ms)),
                **{name: value for name, value in built.items() if name != "build_ms"},
                **({} if board is None else {"board": board}),
                **({} if trace is None else {"temperature_c": trace.temperatures_c(trace.duration_ms or 0.0)}),
            },
            gpu_clock_mhz=None if trace is None else power.clock_mhz(trace, timed_ms),
            energy=energy,
            replay=facts.replay,
            remarks=tuple(remarks),
        )
