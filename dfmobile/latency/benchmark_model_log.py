"""Read a log of TensorFlow Lite's ``benchmark_model`` or LiteRT's ``benchmark_litert_model``: one run, 2018 to 2025.

The tools print text only, and aggregates only: no run's own time can be got back. A log counts as a result only with
its closing line of timings; anything less is an error that shows the last lines. Logs are untrusted: bounded, read in
linear time, and whatever is in them, nothing but ``BackendError`` comes out.
"""

from __future__ import annotations

import itertools
from collections import deque
from dataclasses import dataclass
from typing import Literal

from dfmobile.errors import BackendError
from dfmobile.latency.benchmark_model_delegates import DelegateReader, DelegateUse
from dfmobile.latency.benchmark_model_failures import Complaints
from dfmobile.latency.benchmark_model_lines import (
    CountLine,
    clean,
    count_line,
    litert_line,
    memory_line,
    timings_line,
)
from dfmobile.latency.measurement import MAX_SAMPLE_MS

__all__ = ["BenchmarkLog", "DelegateUse", "parse_benchmark_log"]

MAX_LOG_CHARS = 16 * 2**20
STAND_IN_GREETING = "dfmobile host stand-in for benchmark_model"
_SHOWN_CHARS = 200
_UNCONSUMED = "Unconsumed cmdline flags:"
# Tools print six significant digits (1.49712e+06), benchmark_litert_model two decimals of a millisecond.
_AGREE_SHARE, _AGREE_MS = 1e-4, 0.0051
_TICK_MS = 0.001  # of the tools' clock


@dataclass(frozen=True)
class BenchmarkLog:
    """What one run of the tool told. Times in ms; None where the log does not tell.

    Attributes:
        average_ms: mean of the timed runs.
        runs: how many there were.
        min_ms: fastest.
        max_ms: slowest.
        std_ms: standard deviation.
        median_ms: median.
        p5_ms: 5 % quantile.
        p95_ms: 95 % quantile.
        first_ms: first inference of the process, a run of the warm-up.
        warm_up_ms: mean of the warm-up's runs.
        warm_up_runs: how many there were.
        init_ms: loading the model and making it ready.
        init_memory_bytes: what the process grew by then.
        memory_bytes: what it grew by in all, the footprint.
        peak_memory_bytes: the largest it was.
        delegates: in the order of the log.
        unsupported_ops: what a delegate said it cannot do.
        unconsumed_flags: flags that the tool does not know and went on without; ``""`` for none.
        errors: lines that complain, at most 20.
        version: what the log's first line says of the tool; the stock tools say nothing.
    """

    average_ms: float
    runs: int | None = None
    min_ms: float | None = None
    max_ms: float | None = None
    std_ms: float | None = None
    median_ms: float | None = None
    p5_ms: float | None = None
    p95_ms: float | None = None
    first_ms: float | None = None
    warm_up_ms: float | None = None
    warm_up_runs: int | None = None
    init_ms: float | None = None
    init_memory_bytes: int | None = None
    memory_bytes: int | None = None
    peak_memory_bytes: int | None = None
    delegates: tuple[DelegateUse, ...] = ()
    unsupported_ops: tuple[str, ...] = ()
    unconsumed_flags: str = ""
    errors: tuple[str, ...] = ()
    version: str | None = None

    @property
    def statistic(self) -> Literal["median", "average"]:
        """Which of them stands for the runs: the median where the log has it, else the average.

        Medians come in whole microseconds. Where a tick is more than 1 % of a run, the average of thousands of runs
        tells it better, as long as no disturbance has drawn it more than a tick away.
        """
        if self.median_ms is None:
            return "average"
        coarse = self.median_ms < 100 * _TICK_MS
        return "average" if coarse and abs(self.average_ms - self.median_ms) <= _TICK_MS else "median"

    @property
    def typical_ms(self) -> float:
        """The one value that stands for the runs; see ``statistic``."""
        if self.median_ms is not None and self.statistic == "median":
            return self.median_ms
        return self.average_ms

    @property
    def delegated_fraction(self) -> float | None:
        """Share of the nodes that delegates took, of the delegate that took most; None where the log does not tell."""
        known = [use.fraction for use in self.delegates if use.fraction is not None]
        return max(known, default=None)


def parse_benchmark_log(text: str) -> BenchmarkLog:
    """Read the log of one run.

    Args:
        text: stdout and stderr, or logcat's lines of it; what other programs wrote in between does not matter.

    Raises:
        BackendError: if there is no result in it (why, as far as the log tells, and its last lines), several, or one
            that contradicts itself.
    """
    if len(text) > MAX_LOG_CHARS:
        raise BackendError(f"the log of benchmark_model has {len(text)} characters, more than {MAX_LOG_CHARS}")
    reader = _Reader()
    for raw in text.splitlines():
        reader.read(raw)
    return reader.result()


class _Reader:
    """Takes the lines of a log and keeps what they told."""

    def __init__(self) -> None:
        self._delegates = DelegateReader()
        self._counts: deque[CountLine] = deque(maxlen=2)
        self._results: list[dict[str, float]] = []
        self._litert: dict[str, tuple[float, int | None]] = {}
        self._memory: dict[str, int] = {}
        self._unconsumed, self._version = "", ""
        self._complaints = Complaints()
        self._phases = 0
        self._repeated = False

    def read(self, raw: str) -> None:
        """Take one line."""
        line = clean(raw)
        text = line.text
        if not text:
            return
        self._complaints.read(text, line.severity)
        if self._delegates.read(text):
            return
        if (counts := count_line(text)) is not None:
            if not self._results:
                self._counts.append(counts)
        elif (timings := timings_line(text)) is not None:
            if "average" in timings:
                self._results.append(timings)
        elif (found := litert_line(text)) is not None:
            self._repeated |= found[0] in self._litert
            self._litert.setdefault(found[0], found[1:])
        elif (memory := memory_line(text)) is not None:
            for name, size in vars(memory).items():
                if size is not None:
                    self._memory[name] = size
        elif text.startswith("Running benchmark for"):
            self._phases += 1
        elif text.startswith(_UNCONSUMED):
            self._unconsumed = text[len(_UNCONSUMED) :].strip()[:_SHOWN_CHARS]
        elif text.startswith(STAND_IN_GREETING) and not self._version:
            self._version = text[:_SHOWN_CHARS]

    def result(self) -> BenchmarkLog:
        """Put together what was told.

        Raises:
            BackendError: see ``parse_benchmark_log``.
        """
        litert = {name: value for name, (value, _) in self._litert.items()}
        if "Inference (avg)" in litert:
            self._results.append(
                {
                    "average": litert["Inference (avg)"],
                    **{
                        ours: litert[theirs]
                        for ours, theirs in (
                            ("init", "Model initialization"),
                            ("first", "Warmup (first)"),
                            ("first", "First inference"),
                            ("warm_up", "Warmup (avg)"),
                        )
                        if theirs in litert
                    },
                }
            )
        if len(self._results) > 1 or self._repeated:
            raise BackendError(
                "the log holds the results of several runs of benchmark_model", hint="give one run's log at a time"
            )
        if not self._results or self._complaints.gave_up:
            raise self._complaints.no_result(self._delegates, self._phases, self._unconsumed)
        timings = self._results[0]
        warm_up, main = self._assigned(timings)
        return self._checked(
            BenchmarkLog(
                average_ms=_first(main.average_ms, timings["average"]),
                runs=main.count or self._litert.get("Inference (avg)", (0.0, None))[1],
                min_ms=_either(main.min_ms, litert.get("Inference (min)")),
                max_ms=_either(main.max_ms, litert.get("Inference (max)")),
                std_ms=_either(main.std_ms, litert.get("Inference (std)")),
                median_ms=_either(main.median_ms, litert.get("Inference (median)")),
                p5_ms=_either(main.p5_ms, litert.get("Inference (p5)")),
                p95_ms=_either(main.p95_ms, litert.get("Inference (p95)")),
                first_ms=_either(timings.get("first"), warm_up.first_ms),
                warm_up_ms=_either(warm_up.average_ms, timings.get("warm_up")),
                warm_up_runs=warm_up.count or self._litert.get("Warmup (avg)", (0.0, None))[1],
                init_ms=timings.get("init"),
                init_memory_bytes=self._memory.get("init_bytes"),
                memory_bytes=self._memory.get("overall_bytes"),
                peak_memory_bytes=self._memory.get("peak_bytes"),
                delegates=tuple(self._delegates.uses),
                unsupported_ops=tuple(self._delegates.unsupported),
                unconsumed_flags=self._unconsumed,
                errors=tuple(self._complaints.errors),
                version=self._version or None,
            )
        )

    def _assigned(self, timings: dict[str, float]) -> tuple[CountLine, CountLine]:
        """Tell the warm-up's line of statistics from that of the timed runs; a cut log may lack either."""
        nothing = CountLine(0)
        counts = [item for item in self._counts if item.count]
        if not counts:
            return nothing, nothing
        if _agree(counts[-1].average_ms, timings["average"]):
            return counts[-2] if len(counts) > 1 else nothing, counts[-1]
        if len(counts) == 1 and _agree(counts[0].average_ms, timings.get("warm_up")):
            return counts[0], nothing
        raise BackendError(
            f"the log of benchmark_model contradicts itself: an average of {timings['average']:g} ms, and of "
            f"{_first(counts[-1].average_ms, 0.0):g} ms in its statistics",
            hint="is it one run's log, and whole?",
        )

    def _checked(self, log: BenchmarkLog) -> BenchmarkLog:
        """Return a log whose numbers can be.

        Raises:
            BackendError: if they cannot.
        """
        if not 0 < log.average_ms <= MAX_SAMPLE_MS:
            why = "shorter than its clock can tell" if log.average_ms == 0 else "longer than an hour"
            raise BackendError(f"benchmark_model says that a run takes {log.average_ms:g} ms: {why}")
        order = [
            ("min", log.min_ms), ("p5", log.p5_ms), ("median", log.median_ms), ("p95", log.p95_ms), ("max", log.max_ms)
        ]  # fmt: skip
        known = [(name, value) for name, value in order if value is not None]
        pairs = list(itertools.pairwise(known))
        pairs += [((name, value), ("average", log.average_ms)) for name, value in known if name == "min"]
        pairs += [(("average", log.average_ms), (name, value)) for name, value in known if name == "max"]
        for (low, less), (high, more) in pairs:
            if less > more * (1 + _AGREE_SHARE) + _AGREE_MS:
                raise BackendError(
                    f"the log of benchmark_model contradicts itself: {low} {less:g} ms, {high} {more:g} ms"
                )
        if log.median_ms == 0:
            raise BackendError("benchmark_model says that the median run takes 0 ms: shorter than its clock can tell")
        return log


def _agree(mine: float | None, theirs: float | None) -> bool:
    if mine is None or theirs is None:
        return False
    return abs(mine - theirs) <= max(_AGREE_MS, _AGREE_SHARE * max(mine, theirs))


def _either(mine: float | None, theirs: float | None) -> float | None:
    return theirs if mine is None else mine


def _first(mine: float | None, theirs: float) -> float:
    return theirs if mine is None else mine
