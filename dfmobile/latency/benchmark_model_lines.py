"""Lines that TensorFlow Lite's benchmark tools print, one by one: prefixes, statistics, timings, delegates.

Formats from 2018 (TensorFlow 1.12) to 2025 (LiteRT). What a line means beside its neighbours is the matter of
``benchmark_model_log``. Everything here is untrusted text: lines are cut to a length, patterns have no nested
repetition, and a number is a number only if it is finite and not negative.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

MAX_LINE_CHARS = 2000
MB = 2**20  # every one of these tools divides kilobytes by 1024 and calls the result MB

_NUMBER = r"([0-9][0-9.]{0,30}(?:[eE][+-]?[0-9]{1,3})?)"
# Logcat: "05-31 10:38:42.583 22206 22206 I tflite  : text", "I tflite  : text", "I/tflite(22206): text".
_LOGCAT = re.compile(
    r"(?:[0-9]{2}-[0-9]{2} [0-9:.]{8,20}\s{1,8}[0-9]{1,9}\s{1,8}[0-9]{1,9} )?([VDIWEF])[ /]([\w.-]{1,40})\s{0,40}"
    r"(?:\(\s{0,8}[0-9]{1,9}\)\s?)?: ?"
)
_SEVERITY = re.compile(r"(VERBOSE|DEBUG|INFO|WARNING|WARN|ERROR|FATAL): ?")
_ABSEIL = re.compile(r"([IWEF])[0-9]{4}\s[0-9:. ]{1,40}[\w./-]{1,200}:[0-9]{1,6}\] ?")
_SOURCE = re.compile(r"\[[\w./-]{1,200}:[0-9]{1,6}\] ?")
_COUNT = re.compile(r"count=([0-9]{1,12})(?:\s|$)")
_FIELD = re.compile(r"(first|curr|min|max|avg|std|p5|median|p95)=" + _NUMBER + r"(?:\(all same\))?(?:\s|$)")
_PAIR = re.compile(r"\s{0,4}([A-Za-z][A-Za-z ()]{0,40}): " + _NUMBER + r"$")
_LITERT = re.compile(
    r"(Model initialization|First inference|Warmup \(first\)|"
    r"(?:Warmup|Inference) \((?:avg|min|max|std|median|p5|p95)\)):\s{1,40}"
    + _NUMBER
    + r"(?: ms)?(?: \(([0-9]{1,12}) runs\))?\s{0,8}$"
)
_LITERT_MEMORY = re.compile(r"(Init footprint|Overall footprint|Peak memory):\s{1,40}" + _NUMBER + r" MB\s{0,8}$")
_MEMORY = re.compile(
    r"(Memory footprint delta from the start of the tool|Peak memory footprint) \(MB\): init="
    + _NUMBER
    + " overall="
    + _NUMBER
)
_PEAK = re.compile(r"Overall peak memory footprint \(MB\) via periodic monitoring: " + _NUMBER)
_TIMINGS = ("Inference timings in us: ", "Average inference timings in us: ")
# Words of severity and letters of logcat and abseil, to one letter.
_LETTERS = {"WARNING": "W", "WARN": "W", "ERROR": "E", "FATAL": "F", "INFO": "I", "VERBOSE": "V", "DEBUG": "D"}


@dataclass(frozen=True)
class Line:
    """A line without its prefixes.

    Attributes:
        text: what it says, at most ``MAX_LINE_CHARS``.
        severity: one letter as in logcat (V, D, I, W, E, F); ``""`` where no prefix tells.
    """

    text: str
    severity: str


@dataclass(frozen=True)
class CountLine:
    """A line ``count=…`` of statistics: of a warm-up, or of the timed runs. Times in ms.

    Attributes:
        count: runs; 0 for none.
        first_ms: of the first run.
        min_ms: fastest.
        max_ms: slowest.
        average_ms: arithmetic mean; None only for no runs.
        std_ms: standard deviation.
        p5_ms: 5 % quantile.
        median_ms: median.
        p95_ms: 95 % quantile.
    """

    count: int
    first_ms: float | None = None
    min_ms: float | None = None
    max_ms: float | None = None
    average_ms: float | None = None
    std_ms: float | None = None
    p5_ms: float | None = None
    median_ms: float | None = None
    p95_ms: float | None = None


@dataclass(frozen=True)
class MemoryLine:
    """A line about memory, in bytes.

    Attributes:
        init_bytes: grown by loading the model.
        overall_bytes: grown from start to end.
        peak_bytes: the largest there was.
    """

    init_bytes: int | None = None
    overall_bytes: int | None = None
    peak_bytes: int | None = None


def clean(raw: str) -> Line:
    """Cut a line to length and take its prefixes off: logcat's, a severity, a place in the source.

    What is left goes to terminals and reports, so control characters become spaces.
    """
    text, severity = raw[:MAX_LINE_CHARS].strip(), ""
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else " " for letter in text).strip()
    for pattern in (_LOGCAT, _ABSEIL, _SEVERITY, _SOURCE):
        found = pattern.match(text)
        if found is None:
            continue
        if pattern is not _SOURCE:
            severity = _LETTERS.get(found[1], found[1])
        text = text[found.end() :].strip()
    return Line(text, severity)


def number(text: str) -> float | None:
    """Return a finite number that is not negative; None for anything else."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def count_line(text: str) -> CountLine | None:
    """Read ``count=…``; None if the line is none.

    Where all runs took the same time, tools print ``count=50 curr=1000(all same)``, and ``count=1 curr=1000`` for a
    single run: every statistic is that number then, and the standard deviation 0.
    """
    found = _COUNT.match(text)
    if found is None:
        return None
    count = int(found[1])
    values = {name: value for name, digits in _FIELD.findall(text) if (value := number(digits)) is not None}
    ms = {name: value / 1000 for name, value in values.items()}
    if count and "avg" not in ms and "curr" in ms:
        same = dict.fromkeys(("first", "min", "max", "avg", "median", "p5", "p95"), ms["curr"])
        ms = {**same, "std": 0.0}
    return CountLine(
        count=count,
        first_ms=ms.get("first"),
        min_ms=ms.get("min"),
        max_ms=ms.get("max"),
        average_ms=ms.get("avg"),
        std_ms=ms.get("std"),
        p5_ms=ms.get("p5"),
        median_ms=ms.get("median"),
        p95_ms=ms.get("p95"),
    )


def timings_line(text: str) -> dict[str, float] | None:
    """Read the closing line of ``benchmark_model``, old or new; None if the line is none.

    Returns:
        ms by name: ``average``, and ``init``, ``first``, ``warm_up`` as far as it tells.
    """
    for prefix in _TIMINGS:
        if text.startswith(prefix):
            break
    else:
        return None
    names = {
        "Init": "init",
        "First inference": "first",
        "Warmup (avg)": "warm_up",
        "Warmup": "warm_up",
        "Inference (avg)": "average",
        "no stats": "average",
    }
    found: dict[str, float] = {}
    for part in text[len(prefix) :].split(",")[:20]:
        pair = _PAIR.match(part.rstrip())
        value = None if pair is None else number(pair[2])
        if pair is not None and value is not None and pair[1] in names:
            found.setdefault(names[pair[1]], value / 1000)
    return found


def litert_line(text: str) -> tuple[str, float, int | None] | None:
    """Read a line of results of ``benchmark_litert_model``; None if the line is none.

    Returns:
        What it is about (``Inference (avg)``), ms, and how many runs, where it tells.
    """
    found = _LITERT.match(text)
    value = None if found is None else number(found[2])
    if found is None or value is None:
        return None
    return found[1], value, None if found[3] is None else int(found[3])


def memory_line(text: str) -> MemoryLine | None:
    """Read a line about memory of any of the tools; None if the line is none.

    ``Peak memory footprint (MB): init=… overall=…`` (2020) is the kernel's maximum resident set size;
    ``Memory footprint delta …`` is what the process has grown by, no peak.
    """
    if found := _MEMORY.match(text):
        init, overall = _bytes(found[2]), _bytes(found[3])
        if found[1].startswith("Peak"):
            return MemoryLine(peak_bytes=overall)
        return MemoryLine(init_bytes=init, overall_bytes=overall)
    if found := _PEAK.match(text):
        return MemoryLine(peak_bytes=_bytes(found[1]))
    if found := _LITERT_MEMORY.match(text):
        size = _bytes(found[2])
        kind: Literal["init_bytes", "overall_bytes", "peak_bytes"]
        kind = {"I": "init_bytes", "O": "overall_bytes", "P": "peak_bytes"}[found[1][0]]  # type: ignore[assignment]
        return MemoryLine(**{kind: size})
    return None


def _bytes(megabytes: str) -> int | None:
    value = number(megabytes)
    return None if value is None or value > 2**30 else round(value * MB)
