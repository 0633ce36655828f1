"""What one measurement is: the protocol it follows and everything that one pass leaves behind.

A *pass* is one fresh interpreter object on one model file: load, warm up until steady, time ``hot`` runs back to
back, then ``cold`` runs with the caches evicted before each. Passes are the unit of repetition: within one
interpreter more runs barely help (memory layout is drawn once), fresh interpreters do.

This module knows no runtime, no file format and no device.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from dfmobile.errors import FileFormatError, InputError

Clock = Literal["thread-cpu", "wall", "gpu-events"]
Measure = Literal["isolated", "marginal"]  # a block alone, or what it adds to a network
MAX_SAMPLES = 100_000
MAX_SAMPLE_MS = 3_600_000.0
MAX_EVICTION_BYTES = 512 * 2**20
AGGREGATE = "aggregate"  # of ``PassResult.extra["samples"]``


@dataclass(frozen=True)
class Protocol:
    """How a model file is measured.

    Run counts adapt to the model: long runs average out more by themselves, so they need fewer.

    Attributes:
        passes: fresh interpreters for each model file.
        runs: hot runs of a pass, at most.
        min_runs: hot runs of a pass, at least.
        hot_budget_ms: between the two, as many runs as fit in this time.
        cold_runs: runs with evicted caches, at most; 0 for none.
        cold_budget_ms: as many cold runs as fit in this time, but one at least.
        evict_bytes: before a cold run, drive out what lies in this much cache; None: twice the last-level cache of the
            device profile.
        min_warm_up_runs: runs before the first that counts, at least.
        warm_up_ms: warm up for this long at least, then until steady.
        warm_up_limit_ms: give up waiting for a steady state after this long (recorded as not steady).
        steady_ratio: steady means: the last run took at most this many times the fastest so far.
        threads: of the runtime.
        stop_above_ms: stop after the warm-up where even its fastest run took longer than this; None never stops.
    """

    passes: int = 3
    runs: int = 10
    min_runs: int = 3
    hot_budget_ms: float = 500.0
    cold_runs: int = 3
    cold_budget_ms: float = 150.0
    evict_bytes: int | None = None
    min_warm_up_runs: int = 2
    warm_up_ms: float = 30.0
    warm_up_limit_ms: float = 300.0
    steady_ratio: float = 1.10
    threads: int = 1
    stop_above_ms: float | None = None

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: naming the first that cannot be.
        """
        whole = {"passes": 1, "runs": 1, "min_runs": 1, "cold_runs": 0, "min_warm_up_runs": 1, "threads": 1}
        for name, least in whole.items():
            if not least <= getattr(self, name) <= MAX_SAMPLES:
                raise InputError(f"{name} is {getattr(self, name)}, it must be {least} to {MAX_SAMPLES}")
        for name in ("hot_budget_ms", "cold_budget_ms", "warm_up_ms", "warm_up_limit_ms"):
            if not 0 <= getattr(self, name) <= MAX_SAMPLE_MS:
                raise InputError(f"{name} is {getattr(self, name)}, it must be 0 to {MAX_SAMPLE_MS:.0f} ms")
        if not 1.0 < self.steady_ratio < 100.0:
            raise InputError(f"steady_ratio is {self.steady_ratio}, it must be above 1")
        if self.evict_bytes is not None and not 1 <= self.evict_bytes <= MAX_EVICTION_BYTES:
            raise InputError(f"evict_bytes is {self.evict_bytes}, it must be 1 to {MAX_EVICTION_BYTES}")
        if self.stop_above_ms is not None and not 0 < self.stop_above_ms <= MAX_SAMPLE_MS:
            raise InputError(f"a latency limit of {self.stop_above_ms} ms is not a positive time")

    def hot_runs_for(self, run_ms: float) -> int:
        """Return how many hot runs a model gets whose run takes ``run_ms``."""
        least = min(self.min_runs, self.runs)
        return max(least, min(self.runs, math.ceil(self.hot_budget_ms / max(run_ms, 1e-6))))

    def cold_runs_for(self, run_ms: float) -> int:
        """Return how many cold runs a model gets whose run takes ``run_ms``."""
        return min(self.cold_runs, max(1, math.ceil(self.cold_budget_ms / max(run_ms, 1e-6))))

    def estimated_pass_ms(self, run_ms: float, overhead_ms: float) -> float:
        """Return about how long one pass takes for a model whose run takes ``run_ms``.

        Args:
            run_ms: one run.
            overhead_ms: of a pass beyond its runs: loading, inputs, eviction, recording.
        """
        if self.stop_above_ms is not None and run_ms > self.stop_above_ms:
            return overhead_ms + self.min_warm_up_runs * run_ms
        warm_up_ms = max(self.min_warm_up_runs * run_ms, self.warm_up_ms)
        return overhead_ms + warm_up_ms + (self.hot_runs_for(run_ms) + self.cold_runs_for(run_ms)) * run_ms

    def to_dict(self) -> dict[str, Any]:
        """Return the protocol as a JSON document."""
        return dataclasses.asdict(self)


@dataclass
class PassResult:
    """Everything that one pass leaves behind; raw samples are kept, nothing is filtered.

    Attributes:
        hot_ms: back-to-back runs, in order; empty where the pass was stopped (``Protocol.stop_above_ms``). From a
            backend that gives aggregates only (``aggregate``): one value, the median of the runs or else their mean.
        cold_ms: runs with evicted caches, in order.
        clock: ``thread-cpu`` (one thread: preemption does not count), ``wall``, or ``gpu-events`` (the GPU's own time
            from the first kernel to the last).
        warm_up_ms: the warm-up's runs: the first ones only, where it had more than 32.
        warm_up_runs: how many there were.
        steady: the warm-up ended steady, not by its time limit.
        init_ms: making the interpreter ready to run, wall clock; None where the backend cannot tell.
        kernel_ms: all runs together, warm-up and cold included, by ``clock``.
        kernel_wall_ms: the same runs by the wall clock.
        cpu_wall_ratio: CPU time over wall time of the hot runs; about 1 (threads: up to their number) undisturbed.
        involuntary_switches: times the scheduler took the CPU away in the hot runs; None where unknown.
        started_utc: ISO 8601, UTC.
        conditions_before: governor, frequency, temperature, load and so on, as the device gives them.
        conditions_after: the same after the last run.
        peak_memory_bytes: None where the backend cannot tell.
        stopped: the warm-up showed that the model is slower than ``Protocol.stop_above_ms``.
        extra: what else a backend knows, JSON values.
    """

    hot_ms: list[float]
    cold_ms: list[float]
    clock: Clock
    warm_up_ms: list[float]
    warm_up_runs: int
    steady: bool
    init_ms: float | None
    kernel_ms: float
    kernel_wall_ms: float
    cpu_wall_ratio: float | None
    involuntary_switches: int | None
    started_utc: str
    conditions_before: dict[str, Any] = field(default_factory=dict)
    conditions_after: dict[str, Any] = field(default_factory=dict)
    peak_memory_bytes: int | None = None
    stopped: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def aggregate(self) -> bool:
        """Tell whether the backend gave aggregates only: ``hot_ms`` is then one value that stands for all runs."""
        return self.extra.get("samples") == AGGREGATE

    @property
    def timed_runs(self) -> int:
        """Return how many hot runs were timed, also where their samples did not come back; at least ``len(hot_ms)``."""
        count: Any = self.extra.get("count") if self.aggregate else None
        return max(len(self.hot_ms), int(count) if is_count(count) else 0)

    @property
    def mean_ms(self) -> float | None:
        """Return the arithmetic mean of the hot runs; None where there were none."""
        told: Any = self.extra.get("average_ms") if self.aggregate else None
        if is_time(told):
            return float(told)
        return math.fsum(self.hot_ms) / len(self.hot_ms) if self.hot_ms else None

    def to_dict(self) -> dict[str, Any]:
        """Return the pass as a JSON document; ``from_dict`` gives an equal pass back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any], origin: str) -> PassResult:
        """Read a pass back from a table or from a device: untrusted input.

        Args:
            document: what ``to_dict`` made.
            origin: what to call it in messages.

        Raises:
            FileFormatError: naming the first field that is missing, unknown, or impossible.
        """
        known = {item.name: item for item in dataclasses.fields(cls)}
        unknown = sorted(set(document) - set(known))
        missing = sorted(set(known) - set(document))
        if unknown or missing:
            problem = f"unknown field {unknown[0]!r}" if unknown else f"field {missing[0]!r} is missing"
            raise FileFormatError(f"{origin}: {problem}", hint="the measurement is damaged: build the table again")
        for name, check in _CHECKS.items():
            if not check(document[name]):
                text = repr(document[name])
                raise FileFormatError(
                    f"{origin}: {name} is {text[:60]}{'…' if len(text) > 60 else ''}, which cannot be",
                    hint="the measurement is damaged: build the table again",
                )
        result = cls(**{name: document[name] for name in known})
        if bool(result.hot_ms) == result.stopped:
            raise FileFormatError(f"{origin}: a pass has hot samples, or was stopped", hint="build the table again")
        return result


def is_time(value: object) -> bool:
    """Tell whether a value is a finite duration above 0, in ms, of at most an hour."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= MAX_SAMPLE_MS


def is_count(value: object) -> bool:
    """Tell whether a value is an integer from 0 up."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**63


def _is_times(value: object) -> bool:
    return isinstance(value, list) and len(value) <= MAX_SAMPLES and all(is_time(item) for item in value)


def _is_total(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= MAX_SAMPLE_MS * 1000


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "hot_ms": _is_times,
    "cold_ms": _is_times,
    "clock": lambda value: value in get_args(Clock),
    "warm_up_ms": _is_times,
    "warm_up_runs": is_count,
    "steady": lambda value: isinstance(value, bool),
    "init_ms": lambda value: value is None or _is_total(value),
    "kernel_ms": _is_total,
    "kernel_wall_ms": _is_total,
    "cpu_wall_ratio": lambda value: value is None or _is_total(value),
    "involuntary_switches": lambda value: value is None or is_count(value),
    "started_utc": lambda value: isinstance(value, str) and 0 < len(value) < 64,
    "conditions_before": lambda value: isinstance(value, dict),
    "conditions_after": lambda value: isinstance(value, dict),
    "peak_memory_bytes": lambda value: value is None or is_count(value),
    "stopped": lambda value: isinstance(value, bool),
    "extra": lambda value: isinstance(value, dict),
}
