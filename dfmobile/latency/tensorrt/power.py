"""What tegrastats says of a timing: energy of an inference by rail, and whether the GPU's clock moved.

trtexec does not say when its timed runs began by the board's clock, so the window is found in the trace: the GPU is
busy from the warm-up on to the last run; the timed runs are the last of it, as long as trtexec says that they took.
"""

from __future__ import annotations

from typing import Any

from dfmobile.devices.power_trace import PowerTrace, energy_per_inference_mj, gpu_clock_range_khz
from dfmobile.errors import DeviceError, InputError

INTERVAL_MS = 100
_BUSY_PERCENT = 50


def timed_window(trace: PowerTrace, timed_ms: float) -> tuple[float, float] | None:
    """Return (start, end) of the timed runs since the start of the command; None where the trace does not tell."""
    busy = [item.time_ms for item in trace.samples if (item.stats.gpu_load_percent or 0) >= _BUSY_PERCENT]
    if not busy or timed_ms <= 0:
        return None
    return max(busy[0], busy[-1] - timed_ms), busy[-1]


def energy_document(trace: PowerTrace, timed_ms: float, runs: int) -> tuple[dict[str, Any] | None, str]:
    """Return the energy of an inference as a JSON document, and else why there is none.

    Args:
        trace: of the process.
        timed_ms: how long the timed runs took together.
        runs: how many.
    """
    window = timed_window(trace, timed_ms)
    if window is None or window[0] >= window[1]:
        told = f": {trace.problems[0]}" if trace.problems else ""
        return None, f"no energy: tegrastats saw no load of the GPU{told}"
    share = (window[1] - window[0]) / timed_ms
    try:
        found = energy_per_inference_mj(trace, *window, inferences=max(1, round(runs * share)))
    except (DeviceError, InputError) as error:
        return None, f"no energy: {error}"
    return {
        "rails_mj": found.rails_mj,
        "input_rails": list(found.input_rails),
        "input_mj": found.input_mj,
        "mean_power_mw": found.mean_power_mw,
        "samples": found.samples,
        "window_ms": found.window_ms,
    }, ""


def clock_mhz(trace: PowerTrace, timed_ms: float) -> tuple[float, float] | None:
    """Return the lowest and highest clock of the GPU in the timed runs, MHz; None where it is not known.

    The window may begin an interval too early, since the last sample is that much before the end: that interval is left
    out, or a governor that rises in the warm-up would look like a clock that moved.
    """
    window = timed_window(trace, timed_ms)
    if window is None or window[0] >= window[1]:
        return None
    window = (min(window[0] + trace.interval_ms, window[1] - trace.interval_ms / 2), window[1])
    found = gpu_clock_range_khz(trace, *window)
    return None if found is None else (found[0] / 1000, found[1] / 1000)
