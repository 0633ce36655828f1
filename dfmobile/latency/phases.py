"""One model kept running for a while, in phases: what steady state, camera pace and query streams are measured with.

A pass (``measurement``) is short and on a fresh interpreter; a phase is long, on one interpreter, and keeps when each
run began. This module knows no runtime and no device.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import Any

from dfmobile.errors import InputError

MAX_SECONDS = 86_400.0


@dataclass(frozen=True)
class Phase:
    """A stretch of runs; it ends when both ``least_s`` and ``least_runs`` are reached.

    Attributes:
        name: for the result.
        least_s: seconds.
        least_runs: runs.
        period_s: a run begins at most this often, at multiples of it since the phase began, and the phase sleeps in
            between; multiples that pass while a run is under way are missed. None: back to back.
        conditions_every_s: read the device's conditions so often, between runs; None: at both ends only.
        keep_every_s: of runs that follow one another faster than this, keep one; 0.0 keeps all.
        whole_query: time setting the inputs and reading the outputs too, not the run alone.
    """

    name: str
    least_s: float
    least_runs: int = 1
    period_s: float | None = None
    conditions_every_s: float | None = None
    keep_every_s: float = 0.0
    whole_query: bool = False

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            InputError: naming what cannot be.
        """
        if not 0 <= self.least_s <= MAX_SECONDS:
            raise InputError(f"{self.least_s} seconds are not between 0 and {MAX_SECONDS:.0f}")
        if not 1 <= self.least_runs <= 10_000_000:
            raise InputError(f"{self.least_runs} runs are too few or too many")
        if self.period_s is not None and not 1e-5 <= self.period_s <= 3600:
            raise InputError(f"one run every {self.period_s} s is too often or too seldom")


@dataclass
class PhaseResult:
    """What a phase leaves behind.

    Attributes:
        name: of the phase.
        start_s: when each kept run began, since the phase began.
        wall_ms: how long it took, by the wall clock.
        cpu_ms: by the CPU clock of the thread that runs it; empty where the runtime has several threads.
        runs: all, not only those that were kept.
        missed: multiples of the period that passed while a run was under way.
        seconds: how long the phase took.
        conditions: (seconds since the phase began, conditions of the device).
    """

    name: str
    start_s: array[float] = field(default_factory=lambda: array("d"))
    wall_ms: array[float] = field(default_factory=lambda: array("d"))
    cpu_ms: array[float] = field(default_factory=lambda: array("d"))
    runs: int = 0
    missed: int = 0
    seconds: float = 0.0
    conditions: list[tuple[float, dict[str, Any]]] = field(default_factory=list)


@dataclass(frozen=True)
class PhasesResult:
    """All phases of one model, on one interpreter.

    Attributes:
        phases: in order.
        init_ms: making the interpreter ready to run, wall clock.
        started_utc: ISO 8601, UTC.
        peak_memory_bytes: None where the backend cannot tell.
        extra: what else the backend knows, JSON values.
    """

    phases: list[PhaseResult]
    init_ms: float
    started_utc: str
    peak_memory_bytes: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)
