"""What timing one engine leaves behind, and how several of them make a pass."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

import numpy as np

from dfmobile.latency.marginal import FIELD, MarginalSamples
from dfmobile.latency.measurement import MAX_SAMPLE_MS, MAX_SAMPLES, PassResult, Protocol

Role = Literal["isolated", "context", "prefix"]
_LEAST_MS = 1e-6


@dataclass(frozen=True)
class EngineRequest:
    """An engine to have and to time.

    Attributes:
        id: letters, digits and dashes; returned with the result.
        model: the ONNX file.
        build: which build of it: another name is another engine.
        salt: engines of one model and build that must not be one, since their errors would be one error.
        protocol: how to time.
    """

    id: str
    model: Path
    build: str
    salt: str
    protocol: Protocol


@dataclass(frozen=True)
class TimedEngine:
    """How one engine was built and timed.

    Attributes:
        compute_ms: the GPU's time of each run, in order.
        warm_up_runs: before.
        load_ms: to load the engine; None where the runner does not tell.
        build_ms: to build it, with the process around it; None where it was there.
        conditions_before: of the device.
        conditions_after: likewise.
        evidence: what else is known, JSON values.
        gpu_clock_mhz: lowest and highest clock of the GPU while it was timed; None where unknown.
        energy: see ``power.energy_document``; None where unknown.
        replay: no time here was measured.
        remarks: for people.
    """

    compute_ms: list[float]
    warm_up_runs: int
    load_ms: float | None
    build_ms: float | None
    conditions_before: dict[str, Any] = field(default_factory=dict)
    conditions_after: dict[str, Any] = field(default_factory=dict)
    evidence: dict[str, Any] = field(default_factory=dict)
    gpu_clock_mhz: tuple[float, float] | None = None
    energy: dict[str, Any] | None = None
    replay: bool = False
    remarks: tuple[str, ...] = ()

    @property
    def median_ms(self) -> float:
        """Median of the runs."""
        return float(np.median(self.compute_ms))


def samples(compute_ms: Sequence[float]) -> list[float]:
    """Return times as samples of a table: above 0, at most an hour, and not more of them than a table takes."""
    return [min(MAX_SAMPLE_MS, max(_LEAST_MS, float(value))) for value in compute_ms[:MAX_SAMPLES]]


def pass_of(engines: Mapping[Role, TimedEngine], protocol: Protocol, build: str, *, marginal: bool) -> PassResult:
    """Return the pass that engines make, which were timed one after the other.

    Args:
        engines: by what they are; ``isolated`` is always there, ``context`` and ``prefix`` where the block has a
            prefix.
        protocol: of the pass.
        build: which build of the engines.
        marginal: keep what the block adds to a network, too. Then that is also what ``Protocol.stop_above_ms`` is
            held against: the borders of an engine of its own must not make a block look too slow for a network.
    """
    alone = engines["isolated"]
    least_ms = _least_ms(engines, marginal=marginal)
    stopped = protocol.stop_above_ms is not None and least_ms > protocol.stop_above_ms
    extra: dict[str, Any] = {
        "build": build,
        "measure": "marginal" if marginal else "isolated",
        "engines": {role: _document(engine) for role, engine in engines.items()},
        "remarks": list(dict.fromkeys(text for engine in engines.values() for text in engine.remarks)),
    }
    if marginal and not stopped:
        context, prefix = engines.get("context", alone), engines.get("prefix")
        found = MarginalSamples(samples(context.compute_ms), [] if prefix is None else samples(prefix.compute_ms))
        extra[FIELD] = found.to_dict()
        energy = _difference(context.energy, None if prefix is None else prefix.energy, with_prefix=prefix is not None)
        if energy is not None:
            extra["marginal_energy_mj"] = energy
    clocks = [engine.gpu_clock_mhz for engine in engines.values() if engine.gpu_clock_mhz is not None]
    if clocks:
        extra["gpu_clock_mhz"] = {"min": min(low for low, _ in clocks), "max": max(high for _, high in clocks)}
    if any(engine.replay for engine in engines.values()):
        extra["replay"] = True
        extra["remarks"].insert(0, "replay, not a measurement: recorded logs were played")
    ordered = list(engines.values())
    kernel_ms = sum(
        math.fsum(engine.compute_ms) + engine.warm_up_runs * engine.median_ms for engine in engines.values()
    )
    return PassResult(
        hot_ms=[] if stopped else samples(alone.compute_ms),
        cold_ms=[],
        clock="gpu-events",
        warm_up_ms=samples([least_ms if stopped else alone.compute_ms[0]]),
        warm_up_runs=max(1, alone.warm_up_runs),
        steady=True,  # warmed up by time; the runners tell no more
        init_ms=None if alone.load_ms is None else min(alone.load_ms, MAX_SAMPLE_MS),
        kernel_ms=min(MAX_SAMPLE_MS * 1000, kernel_ms),
        kernel_wall_ms=min(MAX_SAMPLE_MS * 1000, kernel_ms),
        cpu_wall_ratio=None,
        involuntary_switches=None,
        started_utc=_utc(ordered[0].conditions_before.get("time_utc")),
        conditions_before=ordered[0].conditions_before,
        conditions_after=ordered[-1].conditions_after,
        stopped=stopped,
        extra=extra,
    )


def _least_ms(engines: Mapping[Role, TimedEngine], *, marginal: bool) -> float:
    """Return the lowest cost that the runs of a pass show."""
    context, prefix = engines.get("context"), engines.get("prefix")
    if not marginal or context is None or prefix is None:
        return min(engines["isolated"].compute_ms)
    return min(context.compute_ms) - prefix.median_ms


def _document(engine: TimedEngine) -> dict[str, Any]:
    found: dict[str, Any] = {
        "median_ms": engine.median_ms,
        "runs": len(engine.compute_ms),
        "warm_up_runs": engine.warm_up_runs,
        "build_ms": engine.build_ms,
        **engine.evidence,
    }
    if engine.energy is not None:
        found["energy"] = engine.energy
    return found


def _difference(
    context: Mapping[str, Any] | None, prefix: Mapping[str, Any] | None, *, with_prefix: bool
) -> dict[str, float] | None:
    """Return what a block adds to the energy of an inference, by rail that both tell; None where one is unknown."""
    if context is None or (with_prefix and prefix is None):
        return None
    whole: Mapping[str, float] = context["rails_mj"]
    if prefix is None:
        return dict(whole)
    less: Mapping[str, float] = prefix["rails_mj"]
    return {rail: value - less[rail] for rail, value in whole.items() if rail in less}


def _utc(told: object) -> str:
    if isinstance(told, str) and 0 < len(told) < 64:
        return told
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
