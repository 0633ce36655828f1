"""What a process of trtexec left behind, taken apart and checked. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np

from dfmobile.devices.batch import TIMED_OUT, BatchResult
from dfmobile.devices.power_trace import PowerTrace
from dfmobile.devices.tegrastats_monitor import parse_log
from dfmobile.errors import BackendError, FileFormatError
from dfmobile.latency.tensorrt.flags import TimingRequest
from dfmobile.latency.tensorrt.log import TrtexecLog, parse_trtexec_log
from dfmobile.latency.tensorrt.times import ExportedTimes

# Text of six digits against numbers of six digits.
_AGREEMENT = 2e-3


def check_agreement(what: str, log: TrtexecLog, times: ExportedTimes, timing: TimingRequest) -> None:
    """Compare what trtexec printed with the file that it wrote, and what it did with what it was told.

    Raises:
        BackendError: if they differ.
    """
    summary = log.gpu_compute
    if summary is None:
        return
    pairs = [
        ("median", summary.median_ms, float(np.median(times.compute_ms))),
        ("shortest time", summary.min_ms, float(times.compute_ms.min())),
        ("longest time", summary.max_ms, float(times.compute_ms.max())),
    ]
    if summary.mean_ms is not None:
        pairs.append(("mean", summary.mean_ms, float(times.compute_ms.mean())))
    for name, printed, written in pairs:
        if abs(printed - written) > _AGREEMENT * max(printed, written) + 1e-5:
            raise BackendError(
                f"{what}: trtexec printed a {name} of {printed:g} ms and wrote times of {written:g} ms",
                hint="one of the two is of another run: measure again; if it happens again, report it",
            )
    wanted = {"cuda_graph": timing.cuda_graph, "spin_wait": timing.spin_wait, "transfers": timing.transfers}
    for name, value in wanted.items():
        if log.choices.get(name, value) != value:
            raise BackendError(
                f"{what}: trtexec did not do as it was told: {name.replace('_', ' ')} is {not value}",
                hint=f"add --backend-option {name.replace('_', '-')}={str(not value).lower()}",
            )


def split_marked(log: bytes, names: Sequence[bytes]) -> dict[bytes, bytes]:
    """Return what came back between marks, by name, and under ``b""`` the rest: what the process itself wrote."""
    found: dict[bytes, bytes] = {}
    rest = log
    for name in reversed(names):
        text, begin, after = rest.rpartition(b"\n" + name + b"-begin\n")
        if not begin:
            continue
        content, end, _ = after.partition(name + b"-end\n")
        if end:
            found[name] = content
        rest = text
    found[b""] = rest
    return found


def read_log(text: str, what: str) -> TrtexecLog:
    """Read a log.

    Raises:
        BackendError: naming ``what``, if it is none.
    """
    try:
        return parse_trtexec_log(text)
    except FileFormatError as error:
        raise BackendError(f"{what}: {error}", error.hint) from error


def exit_code(result: BatchResult) -> int:
    """Return an exit code as ``failure`` knows it: the batch's own timeout is one."""
    return 124 if result.exit_code == TIMED_OUT else result.exit_code


def read_trace(content: bytes | None) -> tuple[PowerTrace | None, str]:
    """Return what tegrastats wrote; where there is nothing, or nothing of it, None and why."""
    if content is None:
        return None, "tegrastats left no log"
    try:
        return parse_log(content.decode("utf-8", "replace")), ""
    except FileFormatError as error:
        return None, str(error)


def elapsed_ms(result: BatchResult) -> float | None:
    """Return how long an item took by the device's clock; None where that has no date."""
    times = [told.get("time_utc") for told in (result.conditions_before, result.conditions_after)]
    try:
        start, end = (datetime.fromisoformat(str(text)) for text in times)
        return max(0.0, 1000 * (end - start).total_seconds())
    except (ValueError, TypeError):  # no date; or one with a time zone and one without
        return None
