"""Lines that trtexec prints, one by one: prefixes taken off, statistics read.

What a line means beside its neighbours is the matter of ``log``. Untrusted text: see there.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from dfmobile.errors import FileFormatError, quoted

MAX_TEXT_CHARS = 64 * 2**20
MAX_LINE_CHARS = 4000

# "[07/07/2026-02:10:45] [I] [TRT] text", "[E] [TRT] text", and Python's "[TRT] [W] text".
_STAMP = re.compile(r"\[[0-9]{2}/[0-9]{2}/[0-9]{4}-[0-9]{2}:[0-9]{2}:[0-9]{2}\] ?")
_SEVERITY = re.compile(r"\[([VIWEF])\](?: |$)")
_TRT = re.compile(r"\[TRT\] ?")
_NUMBER = re.compile(r"[0-9]{1,30}(?:\.[0-9]{0,30})?(?:[eE][+-]?[0-9]{1,3})?")
_PERCENTILE = re.compile(r"percentile\(([0-9.]{1,20})%\)")


@dataclass(frozen=True)
class Line:
    """A line without its prefixes.

    Attributes:
        text: what it says, at most ``MAX_LINE_CHARS``, blanks in front kept (tables need them).
        severity: V, I, W, E or F; ``""`` where no prefix tells.
    """

    text: str
    severity: str


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


def lines_of(text: str) -> Iterator[Line]:
    """Cut a text into lines without prefixes; control characters become spaces.

    Only newlines end a line: names of layers may hold what Unicode calls line ends.

    Raises:
        FileFormatError: if the text is longer than 64 Mi characters.
    """
    if len(text) > MAX_TEXT_CHARS:
        raise FileFormatError(
            f"trtexec printed {len(text)} characters, more than {MAX_TEXT_CHARS}", hint="run it without --verbose"
        )
    start = 0
    while start <= len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield _clean(text[start : min(end, start + MAX_LINE_CHARS)])
        start = end + 1


def _clean(raw: str) -> Line:
    text, severity = raw.rstrip(), ""
    if not text.isprintable():
        text = "".join(letter if letter.isprintable() else " " for letter in text).rstrip()
    if found := _STAMP.match(text):
        text = text[found.end() :]
    if found := _TRT.match(text):
        text = text[found.end() :]
    if found := _SEVERITY.match(text):
        severity, text = found[1], text[found.end() :]
        if inner := _TRT.match(text):
            text = text[inner.end() :]
    return Line(text, severity)


def number(text: str) -> float | None:
    """Return a finite number that is not negative; None for anything else."""
    if not _NUMBER.fullmatch(text):
        return None
    value = float(text)
    return value if math.isfinite(value) else None


def quantity(text: str, unit: str) -> float | None:
    """Read ``"4.07195 s"`` with its unit ``"s"``; None if it is none."""
    words = text.split()
    return number(words[0]) if len(words) >= 2 and words[1].rstrip(".,") == unit else None


def summary_of(text: str, what: str) -> TrtexecSummary:
    """Read the statistics of one line, ``min = 1 ms, max = 2 ms, …`` (TensorRT 8 and later).

    Raises:
        FileFormatError: if any of it is missing or no number.
    """
    values: dict[str, float] = {}
    percentiles: dict[float, float] = {}
    for part in text.split(", ")[:100]:
        name, _, rest = part.partition(" = ")
        value = quantity(rest, "ms")
        if value is None:
            raise FileFormatError(f"trtexec's summary of its {what} is damaged: {quoted(part)}")
        if found := _PERCENTILE.fullmatch(name):
            percent = number(found[1])
            if percent is None or percent > 100:
                raise FileFormatError(f"trtexec's summary of its {what} has no percentile {quoted(found[1])}")
            percentiles[percent] = value
        else:
            values[name.strip()] = value
    if missing := [name for name in ("min", "max", "mean", "median") if name not in values]:
        raise FileFormatError(f"trtexec's summary of its {what} lacks {', '.join(missing)}: {quoted(text)}")
    return TrtexecSummary(values["min"], values["max"], values["mean"], values["median"], percentiles)


class OldSummaries:
    """Reads the summaries of TensorRT 7.x: a heading, then ``min: 1 ms (end to end 2 ms)`` and so on, a line each."""

    _HEADINGS = ("Host Latency", "Enqueue Time", "GPU Compute")
    _VALUE = re.compile(r"(min|max|mean|median): (\S{1,40}) ms(?: \(end to end \S{1,40} ms\))?")
    _AT = re.compile(r"percentile: (\S{1,40}) ms at ([0-9.]{1,20})%(?: \(end to end \S{1,40} ms at [0-9.]{1,20}%\))?")

    def __init__(self) -> None:
        self._heading = ""
        self._values: dict[str, dict[str, float]] = {}
        self._percentiles: dict[str, dict[float, float]] = {}

    def read(self, text: str) -> bool:
        """Take a line; return whether it is one of these.

        Raises:
            FileFormatError: if a heading comes twice.
        """
        if text in self._HEADINGS:
            if text in self._values:
                raise FileFormatError(f"trtexec's log has two summaries of its {text}: it is not one run's")
            self._heading = text
            self._values[text], self._percentiles[text] = {}, {}
            return True
        if not self._heading:
            return False
        if found := self._VALUE.fullmatch(text):
            if (value := number(found[2])) is not None:
                self._values[self._heading][found[1]] = value
            return True
        if found := self._AT.fullmatch(text):
            value, percent = number(found[1]), number(found[2])
            if value is not None and percent is not None:
                self._percentiles[self._heading][percent] = value
            return True
        return False

    def summary(self, heading: str) -> TrtexecSummary | None:
        """Return the summary under a heading; None if there is no such heading.

        Raises:
            FileFormatError: if it lacks a value.
        """
        values = self._values.get(heading)
        if values is None:
            return None
        needed = ("min", "max", "median") if heading == "Enqueue Time" else ("min", "max", "mean", "median")
        if missing := [name for name in needed if name not in values]:
            raise FileFormatError(f"trtexec's summary of its {heading} lacks {', '.join(missing)}")
        return TrtexecSummary(
            values["min"], values["max"], values.get("mean"), values["median"], self._percentiles[heading]
        )
