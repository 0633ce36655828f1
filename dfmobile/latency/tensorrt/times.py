"""The file that trtexec writes for ``--exportTimes``: one entry a run.

A JSON array of objects; 7.1 spells the copies "in" and "out" and swaps the stamps of copying in and enqueueing
(``startEnqMs`` holds when the copy began); up to 8.2 there is ``endToEndMs``. Up to 8.5 the runs of the warm-up are in
it, too. Numbers have six digits. Checked against a real file of 8.4 or later; the others against NVIDIA's sources.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.errors import FileFormatError, quoted

MAX_BYTES = 128 * 2**20
MAX_MS = 1e12

Times = npt.NDArray[np.float64]

_COMMON = ("startComputeMs", "endComputeMs", "computeMs", "latencyMs", "startEnqMs", "endEnqMs")
_NEW = ("startH2dMs", "endH2dMs", "startD2hMs", "endD2hMs", "h2dMs", "d2hMs")
_OLD = ("startInMs", "endInMs", "startOutMs", "endOutMs", "inMs", "outMs")


@dataclass(frozen=True)
class ExportedTimes:
    """Times of runs in order, each an array [n] of float64, ms.

    Attributes:
        compute_ms: of the GPU's kernels.
        latency_ms: copy in + kernels + copy out.
        enqueue_ms: the host's time to enqueue; a difference of two stamps of six digits.
        h2d_ms: copy to the device.
        d2h_ms: copy from the device.
        start_ms: when the kernels began, since the start of the warm-up.
        end_ms: when the copy out ended.
        end_to_end_ms: with waiting, up to 8.2; None in later versions.
    """

    compute_ms: Times
    latency_ms: Times
    enqueue_ms: Times
    h2d_ms: Times
    d2h_ms: Times
    start_ms: Times
    end_ms: Times
    end_to_end_ms: Times | None

    def __len__(self) -> int:
        return len(self.compute_ms)

    def without_warm_up(self, warm_up_ms: float) -> ExportedTimes:
        """Return the timed runs: from the first on whose kernels began at ``warm_up_ms`` or later, trtexec's own rule.

        Up to TensorRT 8.5 the file holds the runs of the warm-up, too; from 8.6 on it does not, and nothing changes.

        Raises:
            FileFormatError: if no run is left.
        """
        timed = np.flatnonzero(self.start_ms >= warm_up_ms)
        if not len(timed):
            raise FileFormatError(
                f"all {len(self)} runs of trtexec are of its warm-up of {warm_up_ms:g} ms", hint="time for longer"
            )
        parts = {item.name: getattr(self, item.name) for item in fields(self)}
        return replace(self, **{name: part[timed[0] :] for name, part in parts.items() if part is not None})


def parse_export_times(data: bytes) -> ExportedTimes:
    """Read the JSON file of ``--exportTimes`` of any version from 7.1 on.

    Raises:
        FileFormatError: if it is none, damaged, or larger than 128 MiB; or holds no run.
    """
    if len(data) > MAX_BYTES:
        raise FileFormatError(
            f"trtexec's file of times has {len(data)} bytes, more than {MAX_BYTES}", hint="time fewer iterations"
        )
    try:
        runs = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(
            f"trtexec's file of times is no JSON: {quoted(str(error))}",
            hint="it is cut off where trtexec was stopped: time again",
        ) from error
    if not isinstance(runs, list) or not runs:
        raise FileFormatError("trtexec's file of times is no array of runs", hint="give the file of --exportTimes")
    first = runs[0]
    old = isinstance(first, dict) and "startInMs" in first
    names: tuple[str, ...] = _COMMON + (_OLD if old else _NEW)
    if isinstance(first, dict) and "endToEndMs" in first:
        names = (*names, "endToEndMs")
    columns = {name: _column(runs, name) for name in names}
    end, h2d, d2h = ("endOutMs", "inMs", "outMs") if old else ("endD2hMs", "h2dMs", "d2hMs")
    enqueue = ("startInMs", "endInMs") if old else ("startEnqMs", "endEnqMs")  # swapped in 7.1
    return ExportedTimes(
        compute_ms=columns["computeMs"],
        latency_ms=columns["latencyMs"],
        enqueue_ms=columns[enqueue[1]] - columns[enqueue[0]],
        h2d_ms=columns[h2d],
        d2h_ms=columns[d2h],
        start_ms=columns["startComputeMs"],
        end_ms=columns[end],
        end_to_end_ms=columns.get("endToEndMs"),
    )


def _column(runs: list[Any], name: str) -> Times:
    values: list[Any] = [run.get(name) if isinstance(run, dict) else None for run in runs]
    # bool is an int to Python, so types are compared and not isinstance.
    if not set(map(type, values)) <= {int, float}:
        index = next(index for index, value in enumerate(values) if type(value) not in (int, float))
        raise FileFormatError(f"run {index} of trtexec's file of times has no number {name}")
    # Durations are differences of stamps and may come out a hair below zero; a stamp never lies far below it.
    for index, value in enumerate(values):
        if not -MAX_MS < value < MAX_MS:
            raise FileFormatError(f"run {index} of trtexec's file of times has the {name} {quoted(repr(value))}")
    column = np.array(values, dtype=np.float64)
    if name in ("computeMs", "latencyMs") and (column < 0).any():
        raise FileFormatError(f"trtexec's file of times has a negative {name}")
    return column
