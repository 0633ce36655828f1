"""How a model file behaves over time: steady state (``--sustained``), camera pace (``--cadence``), MLPerf's queries.

Each mode keeps one interpreter running, through ``Backend.run_phases``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.errors import BackendError, InputError
from dfmobile.files import sha256_hex
from dfmobile.latency.backends.base import Backend
from dfmobile.latency.bench import bench_provenance
from dfmobile.latency.phases import MAX_SECONDS, Phase, PhaseResult, PhasesResult
from dfmobile.latency.statistics import summarise

Array = npt.NDArray[np.float64]
WARM_UP = Phase("warm-up", least_s=0.1, least_runs=3)
SHOWN_SAMPLES = 100_000
# Slower than at first by more than this, in so many windows in a row, is called throttling.
THROTTLED = 1.05
THROTTLED_WINDOWS = 3
MLPERF_QUERIES, MLPERF_SECONDS = 1024, 60.0


@dataclass(frozen=True)
class ModeResult:
    """What a mode found.

    Attributes:
        mode: ``sustained``, ``cadence`` or ``mlperf``.
        model: path.
        clock: of ``samples_ms``.
        samples_ms: runs in order: all of them (sustained), the paced ones (cadence), the queries (mlperf).
        init_ms: making the interpreter ready.
        peak_memory_bytes: None where the backend cannot tell.
        backend: registered name.
        device: URI.
        details: what only this mode has, JSON values.
        provenance: runtime, device, conditions, model.
        lines: the result for people.
    """

    mode: str
    model: str
    clock: str
    samples_ms: Array
    init_ms: float
    peak_memory_bytes: int | None
    backend: str
    device: str
    details: dict[str, Any]
    provenance: dict[str, Any]
    lines: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return what ``dfmobile bench --json`` prints; ``samples_ms`` has every k-th run where there are very many."""
        numbers = dataclasses.asdict(summarise([self.samples_ms.tolist()]))
        every = max(1, -(-len(self.samples_ms) // SHOWN_SAMPLES))
        return {
            "model": self.model,
            "mode": self.mode,
            **{name: numbers[name] for name in ("median_ms", "p5_ms", "p95_ms", "mean_ms", "mad_ms", "n", "passes")},
            "half_width_ms": None,
            "samples_ms": self.samples_ms[::every].tolist(),
            "samples_every": every,
            "init_ms": self.init_ms,
            "peak_memory_bytes": self.peak_memory_bytes,
            "backend": self.backend,
            "device": self.device,
            self.mode: self.details,
            "provenance": self.provenance,
        }


def bench_sustained(model: Path | str, backend: Backend, seconds: float) -> ModeResult:
    """Run a model back to back for a time: is it as fast at the end as in the first minute (or the first tenth)?

    Args:
        model: file.
        backend: measures.
        seconds: 1 to a day.

    Raises:
        InputError: if the backend cannot, or that is no time.
        StorageError, BackendError, DeviceError: as ``bench_model``.
    """
    if not 1 <= seconds <= MAX_SECONDS:
        raise InputError(f"--sustained {seconds:g} is not between 1 and {MAX_SECONDS:.0f} seconds")
    count = int(min(60, max(10, seconds)))
    phase = Phase(
        "sustained", seconds, 10, conditions_every_s=seconds / count, keep_every_s=seconds / (2 * SHOWN_SAMPLES)
    )
    result = _run(model, backend, "--sustained", [WARM_UP, phase])
    found = result.phases[1]
    clock, samples = _clocked(found)
    start, wall = np.asarray(found.start_s), np.asarray(found.wall_ms)
    span_s = min(60.0, found.seconds / 10)
    first, last = start < span_s, start >= found.seconds - span_s
    baseline_ms, steady_ms = (_median(samples[part]) for part in (first, last))
    if baseline_ms is None or steady_ms is None:
        raise InputError(
            f"{len(samples)} runs in {found.seconds:.0f} s are too few to compare the beginning with the end",
            hint="give --sustained more seconds",
        )
    windows = _windows(found, samples, count)
    onset_s = throttling_onset_s(windows, baseline_ms)
    wall_first, wall_last = _median(wall[first]), _median(wall[last])
    details = {
        "seconds": found.seconds,
        "runs": found.runs,
        "clock": clock,
        "baseline_s": span_s,
        "baseline_ms": baseline_ms,
        "steady_ms": steady_ms,
        "ratio": steady_ms / baseline_ms,
        "wall_ratio": None if not wall_first or wall_last is None else wall_last / wall_first,
        "throttling_onset_s": onset_s,
        "windows": windows,
    }
    heat = [value for window in windows if (value := window["hottest_c"]) is not None]
    clocks = [value for window in windows if (value := window["fastest_mhz"]) is not None]
    lines = (
        f"first {span_s:.1f} s: {baseline_ms:.4f} ms; last {span_s:.1f} s: {steady_ms:.4f} ms;"
        f" ratio {steady_ms / baseline_ms:.3f} ({found.runs} runs in {found.seconds:.0f} s, clock {clock})",
        "no throttling seen" if onset_s is None else f"slower than at first by over 5 % from {onset_s:.0f} s on",
        f"hottest sensor {heat[0]:.0f} to {max(heat):.0f} °C" if heat else "temperature: not readable on this device",
        f"fastest core {max(clocks):.0f} to {min(clocks):.0f} MHz" if clocks else "clock: not readable on this device",
    )
    return _result("sustained", model, backend, result, clock, samples, details, lines)


def throttling_onset_s(windows: Sequence[Mapping[str, Any]], baseline_ms: float) -> float | None:
    """Return when throttling began: the start of the first of three slow windows in a row; None where there is none."""
    slow = 0
    for number, window in enumerate(windows):
        median_ms = window["median_ms"]
        if median_ms is None:
            continue
        slow = slow + 1 if median_ms > THROTTLED * baseline_ms else 0
        if slow == THROTTLED_WINDOWS:
            return float(windows[number - THROTTLED_WINDOWS + 1]["start_s"])
    return None


def bench_cadence(model: Path | str, backend: Backend, hz: float, *, seconds: float = 10.0) -> ModeResult:
    """Run a model at a camera's pace, sleeping in between, beside back-to-back runs of the same interpreter.

    Back to back, paced, back to back, paced: a drift of the machine reaches both. By the wall clock, since a user waits
    by it: waking up, a clock that has fallen, and caches that others have used all count.

    Args:
        model: file.
        backend: measures.
        hz: frames a second, 0.01 to 10,000.
        seconds: of paced runs at least, in two halves; thirty frames at least.

    Raises:
        InputError: if the backend cannot, or that is no pace.
        StorageError, BackendError, DeviceError: as ``bench_model``.
    """
    if not 0.01 <= hz <= 10_000:
        raise InputError(f"--cadence {hz:g} is not between 0.01 and 10000 frames a second")
    busy = Phase("back to back", least_s=min(2.0, seconds / 4), least_runs=20)
    paced = Phase("paced", least_s=seconds / 2, least_runs=15, period_s=1 / hz)
    result = _run(model, backend, "--cadence", [WARM_UP, busy, paced, busy, paced])
    halves = {name: [phase for phase in result.phases if phase.name == name] for name in ("back to back", "paced")}
    wall = {name: np.concatenate([np.asarray(phase.wall_ms) for phase in found]) for name, found in halves.items()}
    cpu = {name: np.concatenate([np.asarray(phase.cpu_ms) for phase in found]) for name, found in halves.items()}
    numbers = {name: _distribution(values) for name, values in wall.items()}
    cpu_ms = {name: _median(values) for name, values in cpu.items()}
    missed, frames = sum(phase.missed for phase in halves["paced"]), len(wall["paced"])
    ratio = numbers["paced"]["median_ms"] / numbers["back to back"]["median_ms"]
    cpu_paced, cpu_busy = cpu_ms["paced"], cpu_ms["back to back"]
    details = {
        "hz": hz,
        "frames": frames,
        "missed_frames": missed,
        "clock": "wall",
        "paced": {**numbers["paced"], "cpu_median_ms": cpu_paced},
        "back_to_back": {**numbers["back to back"], "cpu_median_ms": cpu_busy},
        "ratio": ratio,
        "p95_ratio": numbers["paced"]["p95_ms"] / numbers["back to back"]["p95_ms"],
        "cpu_ratio": None if not cpu_busy or cpu_paced is None else cpu_paced / cpu_busy,
    }
    lines = (
        *(
            f"{label:<13} median {item['median_ms']:.4f} ms, p95 {item['p95_ms']:.4f} ms, p99 {item['p99_ms']:.4f} ms"
            for label, item in ((f"at {hz:g} Hz:", numbers["paced"]), ("back to back:", numbers["back to back"]))
        ),
        f"ratio of medians {ratio:.3f}; {frames} frames, {missed} missed; clock wall",
    )
    return _result("cadence", model, backend, result, "wall", wall["paced"], details, lines)


def bench_mlperf(
    model: Path | str, backend: Backend, *, least_queries: int = MLPERF_QUERIES, least_s: float = MLPERF_SECONDS
) -> ModeResult:
    """Run queries one after the other as MLPerf Inference's single-stream scenario does, and report the 90 % quantile.

    A query is the whole of it: inputs in, run, outputs out, by the wall clock; at least 1,024 queries and 60 s. The
    quantile is the measured one; MLPerf's early-stopping estimate, accuracy run and power rules are not applied, so
    this is comparable with MLPerf's figure and no submission (MLPerf Inference rules, "Scenarios"; LoadGen).

    Args:
        model: file.
        backend: measures.
        least_queries: fewer are not MLPerf's rule.
        least_s: shorter is not MLPerf's rule.

    Raises:
        InputError: if the backend cannot.
        StorageError, BackendError, DeviceError: as ``bench_model``.
    """
    phase = Phase("queries", least_s, least_queries, whole_query=True)
    result = _run(model, backend, "--mlperf", [WARM_UP, phase])
    found = result.phases[1]
    wall = np.asarray(found.wall_ms)
    p90_ms = float(np.sort(wall)[min(len(wall) - 1, int(0.9 * len(wall)))])
    by_rule = found.runs >= MLPERF_QUERIES and found.seconds >= MLPERF_SECONDS
    details = {
        "scenario": "SingleStream",
        "queries": found.runs,
        "seconds": found.seconds,
        "p90_ms": p90_ms,
        **_distribution(wall),
        "queries_a_second": found.runs / found.seconds,
        "enough_queries_and_time": by_rule,
        "early_stopping": False,
    }
    lines = (
        f"single stream: p90 {p90_ms:.4f} ms ({found.runs} queries in {found.seconds:.1f} s, wall clock)",
        "measured as MLPerf Inference does (1,024 queries and 60 s at least); not a submission",
    )
    return _result("mlperf", model, backend, result, "wall", wall, details, lines)


def _run(model: Path | str, backend: Backend, option: str, phases: Sequence[Phase]) -> PhasesResult:
    sha256_hex(model)  # a file that cannot be read is said so before anything runs
    result = backend.run_phases(Path(model), phases, option)
    if [phase.name for phase in result.phases] != [phase.name for phase in phases]:
        raise BackendError(f"backend {backend.name} did not return the phases that it was to run")
    return result


def _clocked(found: PhaseResult) -> tuple[str, Array]:
    """Return the samples by the clock that this tool goes by: CPU time for one thread, else the wall clock."""
    return ("thread-cpu", np.asarray(found.cpu_ms)) if len(found.cpu_ms) else ("wall", np.asarray(found.wall_ms))


def _median(values: Array) -> float | None:
    return float(np.median(values)) if len(values) else None


def _distribution(values: Array) -> dict[str, float]:
    quantiles = np.quantile(values, (0.05, 0.5, 0.95, 0.99))
    names = ("p5_ms", "median_ms", "p95_ms", "p99_ms")
    found = {name: float(value) for name, value in zip(names, quantiles, strict=True)}
    return {**found, "mean_ms": float(values.mean()), "max_ms": float(values.max())}


def _windows(found: PhaseResult, samples: Array, count: int) -> list[dict[str, Any]]:
    """Cut a phase into equal windows; conditions are those that were read last before a window's end."""
    start = np.asarray(found.start_s)
    edges = np.linspace(0.0, found.seconds, count + 1)
    windows = []
    for low, high in pairwise(edges.tolist()):
        part = samples[(start >= low) & (start < high)]
        known = [conditions for when, conditions in found.conditions if when <= high + 1e-9]
        temperature = known[-1].get("temperature_c") or {}
        clocks = [value for value in (known[-1].get("frequency_khz") or {}).values() if value is not None]
        windows.append(
            {
                "start_s": low,
                "end_s": high,
                "n": len(part),
                "median_ms": _median(part),
                "p95_ms": float(np.quantile(part, 0.95)) if len(part) else None,
                "hottest_c": max(temperature.values(), default=None),
                "fastest_mhz": max(clocks) / 1000 if clocks else None,
                "temperature_c": temperature,
            }
        )
    return windows


def _result(
    mode: str,
    model: Path | str,
    backend: Backend,
    result: PhasesResult,
    clock: str,
    samples: Array,
    details: dict[str, Any],
    lines: tuple[str, ...],
) -> ModeResult:
    path = Path(model)
    conditions = [phase.conditions for phase in result.phases]
    return ModeResult(
        mode=mode,
        model=str(model),
        clock=clock,
        samples_ms=samples,
        init_ms=result.init_ms,
        peak_memory_bytes=result.peak_memory_bytes,
        backend=backend.name,
        device=str(backend.device.uri),
        details=details,
        provenance={
            **bench_provenance(backend),
            "clock": clock,
            "started_utc": result.started_utc,
            "model": str(model),
            "model_sha256": sha256_hex(path),
            "model_bytes": path.stat().st_size,
            "conditions_before": conditions[0][0][1],
            "conditions_after": conditions[-1][-1][1],
            "extra": result.extra,
        },
        lines=lines,
    )
