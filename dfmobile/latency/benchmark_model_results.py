"""From what ``benchmark_model`` left behind to a measurement, or to the reason why it is none (deploy or refuse).

What the tool gives are aggregates of one process; they stay marked as such. A delegate that took only a part of the
graph, or a flag that the tool did not know and went on without, makes a number of something else than was asked for:
an error, unless the user allows it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from dfmobile.devices.batch import TIMED_OUT, BatchResult
from dfmobile.errors import BackendError
from dfmobile.latency.benchmark_model_log import BenchmarkLog, DelegateUse, parse_benchmark_log
from dfmobile.latency.benchmark_model_options import HALF, BenchmarkOptions
from dfmobile.latency.measurement import AGGREGATE, MAX_SAMPLE_MS, PassResult, Protocol

_SIGNALS = {132: "illegal instruction", 134: "abort", 135: "bus error", 137: "killed", 139: "segmentation fault"}
_ALLOW = "add --backend-option allow-partial=true to measure it all the same; its rows then say so"
_LEAST_MS = 1e-6


def read_log(path: Path, result: BatchResult, log: bytes, options: BenchmarkOptions) -> BenchmarkLog:
    """Return what a process told, if it is a result.

    Args:
        path: model file, for messages.
        result: how the process ended.
        log: what it wrote, without outputs that came along.
        options: of the backend.

    Raises:
        BackendError: naming the model, if there is no result, or the process did not end well.
    """
    ended = _ending(result)
    try:
        found = parse_benchmark_log(log.decode("utf-8", "replace"))
    except BackendError as error:
        raise BackendError(f"{path}: {ended + ': ' if ended else ''}{error}", error.hint) from error
    if ended and not options.allow_partial:
        raise BackendError(
            f"{path}: benchmark_model printed a result, but {ended}",
            hint=f"run the same command in a shell of the device; or {_ALLOW}",
        )
    return found


def _ending(result: BatchResult) -> str:
    code = result.exit_code
    if code == 0:
        return ""
    if code == TIMED_OUT and result.conditions_after.get("timed_out"):
        return "it ran past its time and was stopped"
    if code > 128:
        return f"it was killed by signal {code - 128}" + (f" ({_SIGNALS[code]})" if code in _SIGNALS else "")
    if code in (126, 127):
        return f"it could not be started (exit code {code})"
    return f"it ended with {code}"


def refuse_partial(path: Path, log: BenchmarkLog, options: BenchmarkOptions, precision: str) -> None:
    """Refuse a result that is not of what was asked for.

    On the CPU, XNNPACK may leave operators to the runtime's own kernels, on the same cores: that is how models run
    there, and it is recorded. On the GPU, what the delegate leaves runs on the CPU: that is another measurement.

    Raises:
        BackendError: naming the model, and what is partial.
    """
    problems = []
    if log.unconsumed_flags:
        problems.append(f"the tool does not know the flags {log.unconsumed_flags}, and went on without them")
    if options.processor == "gpu":
        problems += _gpu_problems(log)
    elif precision == HALF and _uses(log, "xnnpack") and all(use.outcome == "none" for use in _uses(log, "xnnpack")):
        problems.append("XNNPACK took nothing of the graph, so nothing was computed in float16")
    failed = [use for use in log.delegates if use.outcome == "failed"]
    problems += [use.text for use in failed if use.text not in problems]
    if problems and not options.allow_partial:
        raise BackendError(f"{path}: {'; '.join(problems)}", hint=_ALLOW)


def _gpu_problems(log: BenchmarkLog) -> list[str]:
    uses = _uses(log, "gpu")
    if not uses:
        return ["the log does not say that the GPU delegate was applied"]
    if any(use.outcome == "whole" for use in uses) and not any(use.outcome in ("partial", "none") for use in uses):
        return []
    worst = next((use for use in uses if use.outcome in ("none", "partial", "failed")), uses[0])
    text = "the log does not say that the GPU took the whole graph" if worst.outcome == "unknown" else worst.text
    if log.unsupported_ops:
        text += f"; it cannot do {', '.join(item.partition(':')[0] for item in log.unsupported_ops)}"
    return [text]


def _uses(log: BenchmarkLog, name: str) -> list[DelegateUse]:
    return [use for use in log.delegates if name in use.name.lower()]


def measurement(
    log: BenchmarkLog, result: BatchResult, protocol: Protocol, flags: list[str], cores: list[int] | None
) -> PassResult:
    """Return one process's measurement.

    Args:
        log: what it told.
        result: its conditions.
        protocol: that it followed.
        flags: that it was given, besides paths.
        cores: that it was pinned to; None for any.
    """
    fastest = log.typical_ms if log.min_ms is None else log.min_ms
    stopped = protocol.stop_above_ms is not None and fastest > protocol.stop_above_ms
    first = log.first_ms or log.warm_up_ms or log.typical_ms
    warm_up_runs, runs = log.warm_up_runs or 1, log.runs or 1
    kernel_ms = min(
        MAX_SAMPLE_MS * 1000, warm_up_runs * (log.warm_up_ms or first) + runs * log.average_ms
    )  # both by its clock, the wall's
    before, after = conditions(result.conditions_before, cores), conditions(result.conditions_after, cores)
    measured = PassResult(
        hot_ms=[] if stopped else [_positive(log.typical_ms)],
        cold_ms=[],
        clock="wall",
        warm_up_ms=[_positive(fastest if stopped else first)],
        warm_up_runs=warm_up_runs,
        steady=True,  # warmed up by time; the tool does not tell more
        init_ms=None if log.init_ms is None else min(log.init_ms, MAX_SAMPLE_MS),
        kernel_ms=kernel_ms,
        kernel_wall_ms=kernel_ms,
        cpu_wall_ratio=None,
        involuntary_switches=None,
        started_utc=_utc(before.get("time_utc")),
        conditions_before=before,
        conditions_after=after,
        peak_memory_bytes=log.peak_memory_bytes,
        stopped=stopped,
        extra=_extra(log, result, flags),
    )
    cooling = before.get("cool_down")
    if isinstance(cooling, Mapping) and cooling.get("reached") is False:
        measured.extra["remarks"].append(f"the device was still too warm after {cooling.get('waited_s')} s of cooling")
    return measured


def _extra(log: BenchmarkLog, result: BatchResult, flags: list[str]) -> dict[str, Any]:
    names = (
        "average_ms", "median_ms", "min_ms", "max_ms", "std_ms", "p5_ms", "p95_ms", "first_ms", "init_memory_bytes",
        "memory_bytes", "delegated_fraction",
    )  # fmt: skip
    return {
        "samples": AGGREGATE,
        "statistic": log.statistic,
        "count": log.runs,
        **{name: getattr(log, name) for name in names},
        "warm_up_average_ms": log.warm_up_ms,
        "delegates": [use.text for use in log.delegates],
        "unsupported_ops": list(log.unsupported_ops),
        "unconsumed_flags": log.unconsumed_flags,
        "complaints": list(log.errors),
        "exit_code": result.exit_code,
        "flags": flags,
        "remarks": remarks(log, result),
    }


def remarks(log: BenchmarkLog, result: BatchResult) -> list[str]:
    """Return what people should know of a process besides its time."""
    ended = _ending(result)
    found = [f"after its result {ended}"] if ended else []
    found += [use.text for use in log.delegates]
    if log.unsupported_ops:
        found.append(f"not supported by a delegate: {'; '.join(log.unsupported_ops)}")
    if log.unconsumed_flags:
        found.append(f"flags that the tool does not know: {log.unconsumed_flags}")
    return found


def conditions(told: Mapping[str, Any], cores: list[int] | None) -> dict[str, Any]:
    """Return a batch's conditions in the words of ``dfmobile.devices.conditions``, which the guards read.

    The clocks of other cores than the model's do not speak for or against its time, so they go under another name.
    """
    found = {name: value for name, value in told.items() if name not in ("temperature_mc", "frequency_khz")}
    zones = told.get("temperature_mc")
    if isinstance(zones, Mapping):
        found["temperature_c"] = {str(zone): value / 1000 for zone, value in zones.items() if _is_number(value)}
    clocks = told.get("frequency_khz")
    if isinstance(clocks, Mapping):
        mine = None if cores is None else {str(core) for core in cores}
        by_core = {str(core): value for core, value in clocks.items()}
        found["frequency_khz"] = {core: value for core, value in by_core.items() if mine is None or core in mine}
        others = {core: value for core, value in by_core.items() if core not in found["frequency_khz"]}
        if others:
            found["other_frequency_khz"] = others
    return found


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _positive(value_ms: float) -> float:
    return min(MAX_SAMPLE_MS, max(_LEAST_MS, value_ms))


def _utc(told: object) -> str:
    if isinstance(told, str) and 0 < len(told) < 64:
        return told
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds")
