"""What trtexec prints, TensorRT 7.1 to 11: banner, options, device, summaries of times, complaints.

Untrusted text: it is bounded, lines are cut to a length, patterns have no nested repetition, and a number is a number
only if it is finite and not negative. Formats, and which of them were seen in real logs: see the package.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from dfmobile.errors import FileFormatError, quoted
from dfmobile.latency.tensorrt.versions import TensorRTVersion

MAX_TEXT_CHARS = 64 * 2**20
MAX_LINE_CHARS = 4000
MAX_COMPLAINTS = 200
_SHOWN_CHARS = 400
# First and last line of the replay tool: what it prints are no measurements.
REPLAY_MARKER = "dfmobile replay of trtexec"


@dataclass(frozen=True)
class TrtexecSummary:
    """Statistics of one time over all timed runs, ms.

    Attributes:
        min_ms: fastest.
        max_ms: slowest.
        mean_ms: arithmetic mean; None where the version prints none (enqueue time of 7.x).
        median_ms: median.
        percentiles: ms by percent, e.g. ``{90.0: …, 95.0: …, 99.0: …}``: 99 alone up to 8.4.
    """

    min_ms: float
    max_ms: float
    mean_ms: float | None
    median_ms: float
    percentiles: dict[float, float] = field(default_factory=dict)


@dataclass(frozen=True)
class TrtexecLog:
    """What one run of trtexec printed; None where it does not tell.

    Attributes:
        version: of TensorRT; 7.x does not tell.
        passed: its last word; None: neither PASSED nor FAILED.
        replay: the log comes from the replay tool: no time in it was measured.
        gpu_compute: time of the GPU's kernels.
        latency: copy in + kernels + copy out, "Host Latency" in 7.x.
        end_to_end: with waiting between these, up to 8.2.
        enqueue: the host's time to enqueue.
        h2d: copy to the device.
        d2h: copy from the device.
        throughput_qps: runs a second, times the batch.
        queries: timed runs.
        warm_up_queries: runs before.
        walltime_s: from the first to the last timed run.
        build_s: of building the engine.
        load_s: of loading one.
        engine_bytes: its size, rounded as printed.
        device: the GPU's name.
        compute_capability: e.g. ``"5.3"``.
        opset: of the ONNX file that it parsed.
        choices: ``cuda_graph``, ``spin_wait``, ``transfers`` as trtexec understood its options, and what it ignored.
        unstable_clock: trtexec calls the GPU's time unstable.
        gpu_variation: coefficient of variation that it says with it, a fraction.
        warnings: texts of its warnings, at most 200.
        errors: texts of errors, its own and the system's, at most 200.
        last_line: the last line that says anything.
    """

    version: TensorRTVersion | None = None
    passed: bool | None = None
    replay: bool = False
    gpu_compute: TrtexecSummary | None = None
    latency: TrtexecSummary | None = None
    end_to_end: TrtexecSummary | None = None
    enqueue: TrtexecSummary | None = None
    h2d: TrtexecSummary | None = None
    d2h: TrtexecSummary | None = None
    throughput_qps: float | None = None
    queries: int | None = None
    warm_up_queries: int | None = None
    walltime_s: float | None = None
    build_s: float | None = None
    load_s: float | None = None
    engine_bytes: int | None = None
    device: str | None = None
    compute_capability: str | None = None
    opset: int | None = None
    choices: dict[str, bool] = field(default_factory=dict)
    unstable_clock: bool = False
    gpu_variation: float | None = None
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    last_line: str = ""


def parse_trtexec_log(text: str) -> TrtexecLog:
    """Read what one run of trtexec printed, standard output and error together.

    Raises:
        FileFormatError: if it holds several runs or summaries, a summary is damaged, or it is too long.
    """
    raise NotImplementedError
