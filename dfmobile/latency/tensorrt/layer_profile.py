"""Times of an engine's layers: the file of ``--exportProfile`` and the table of ``--dumpProfile``.

Both are for people to look at: a profiled engine is slower than an unprofiled one, and names are no keys. Checked
against a real file of 8.4 or later and real tables of 8.5.2 (name first) and 10.16.1 (name last); the columns of 7.1 to
8.2 (no median) and of 8.6 (name last) against NVIDIA's sources.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

from dfmobile.errors import FileFormatError, quoted
from dfmobile.latency.tensorrt.log_lines import lines_of, number

MAX_BYTES = 64 * 2**20
MAX_LAYERS = 100_000

_VALUE = r"(-?[0-9a-z.+-]{1,40})"
# The end of an entry, read from the right: a name is written as it is, with whatever quotes and backslashes it has.
_END = re.compile(
    rf'", "timeMs" : {_VALUE}, "averageMs" : {_VALUE}(?:, "medianMs" : {_VALUE})?'
    rf', "percentage" : {_VALUE} \}}\s{{0,9}}\Z'
)
_END_CHARS = 300
_START = re.compile(r'\s{0,9},?\s{0,9}\{ "name" : "')
_COUNT = re.compile(r'\s{0,9},?\s{0,9}\{ "count" : ([0-9]{1,12}) \}\s{0,9}')
_TITLE = re.compile(r"=== Profile \(([0-9]{1,12}) iterations ?\) ===")
_COLUMNS = {
    ("Layer", "Time (ms)", "Avg. Time (ms)", "Time %"): ("first", False),  # 7.1 to 8.2
    ("Layer", "Time (ms)", "Avg. Time (ms)", "Median Time (ms)", "Time %"): ("first", True),  # 8.4, 8.5
    ("Time(ms)", "Avg.(ms)", "Median(ms)", "Time(%)", "Layer"): ("last", True),  # 8.6 and later
}


@dataclass(frozen=True)
class ProfiledLayer:
    """One layer of an engine; its name is for people, never a key: fused, shortened in old versions, lost in new ones.

    Attributes:
        name: as TensorRT has it.
        time_ms_total: over all runs.
        average_ms: of a run.
        median_ms: of a run; None before 8.4.
        percentage: of the sum over all layers, 0 to 100.
    """

    name: str
    time_ms_total: float
    average_ms: float
    median_ms: float | None
    percentage: float


def parse_export_profile(data: bytes) -> tuple[list[ProfiledLayer], int]:
    """Read the file of ``--exportProfile``: one entry a line, names not escaped, so it is no JSON in general.

    Returns:
        The layers, and how many runs they were profiled over.

    Raises:
        FileFormatError: if it is none, damaged, or larger than 64 MiB.
    """
    if len(data) > MAX_BYTES:
        raise FileFormatError(f"trtexec's profile has {len(data)} bytes, more than {MAX_BYTES}")
    lines = data.decode("utf-8", errors="replace").replace("\r\n", "\n").split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    if len(lines) < 3 or lines[0].strip() != "[" or lines[-1].strip() != "]":
        raise FileFormatError(
            "trtexec's profile is cut off, or no profile", hint="give the file of --exportProfile of a run that passed"
        )
    count = _COUNT.fullmatch(lines[1])
    if count is None:
        raise FileFormatError(f"trtexec's profile begins with {quoted(lines[1])} and not with its number of runs")
    return [_entry(entry) for entry in _entries(lines[2:-1])], int(count[1])


def _entries(lines: list[str]) -> Iterator[str]:
    """Join lines to entries: a name with a newline in it goes over several."""
    parts: list[str] = []
    entries = 0
    for line in lines:
        parts.append(line)
        if _END.search(line[-_END_CHARS:]) and _START.match(parts[0]):
            entries += 1
            if entries > MAX_LAYERS:
                raise FileFormatError(f"trtexec's profile has more than {MAX_LAYERS} layers")
            yield "\n".join(parts)
            parts = []
    if parts:
        raise FileFormatError(f"trtexec's profile has no entry of a layer at {quoted(parts[0])}")


def _entry(text: str) -> ProfiledLayer:
    start = _START.match(text)
    end = _END.search(text, max(0, len(text) - _END_CHARS))
    if start is None or end is None or end.start() < start.end():
        raise FileFormatError(f"trtexec's profile has no entry of a layer at {quoted(text)}")
    return _layer(text[start.end() : end.start()], end[1], end[2], end[3], end[4])


def parse_dump_profile(text: str) -> list[ProfiledLayer]:
    """Read the table that ``--dumpProfile`` prints among other lines; its row ``Total`` is checked and left out.

    Raises:
        FileFormatError: if there is none, or several, or it is damaged.
    """
    rows: list[ProfiledLayer] | None = None
    layout: tuple[str, bool] | None = None
    titled = done = False
    for line in lines_of(text):
        if _TITLE.fullmatch(line.text.strip()):
            if titled:
                raise FileFormatError("trtexec's log has two profiles: it is not one run's")
            titled = True
        elif titled and layout is None:
            layout = _COLUMNS.get(tuple(re.split(r"\s{2,}", line.text.strip())))
            if layout is None:
                raise FileFormatError(f"trtexec's profile has columns that no known version has: {quoted(line.text)}")
            rows = []
        elif rows is not None and layout is not None and not done and line.severity in ("", "I") and line.text.strip():
            row = _row(line.text, *layout)
            done = row.name == "Total" and math.isclose(row.percentage, 100, abs_tol=0.06)
            if not done:
                rows.append(row)
            if len(rows) > MAX_LAYERS:
                raise FileFormatError(f"trtexec's profile has more than {MAX_LAYERS} layers")
    if rows is None:
        raise FileFormatError("trtexec's log has no profile of layers", hint="run it with --dumpProfile")
    if not done:
        raise FileFormatError("trtexec's profile is cut off: it has no row Total", hint="profile again")
    return rows


def _row(text: str, name_column: str, has_median: bool) -> ProfiledLayer:
    columns = 4 if has_median else 3
    if name_column == "first":
        words = text.rsplit(None, columns)
        name, numbers = words[0].strip() if len(words) == columns + 1 else "", words[-columns:]
    else:
        words = text.split(None, columns)
        name, numbers = words[columns] if len(words) == columns + 1 else "", words[:columns]
    if len(numbers) < columns:
        raise FileFormatError(f"trtexec's profile has no row of a layer at {quoted(text)}")
    return _layer(name, numbers[0], numbers[1], numbers[2] if has_median else None, numbers[-1])


def _layer(name: str, total: str, average: str, median: str | None, percentage: str) -> ProfiledLayer:
    values = [number(text) for text in (total, average, percentage, median or "0")]
    if any(value is None for value in values):
        raise FileFormatError(
            f"trtexec's profile has no times of the layer {quoted(name)}",
            hint="profile for longer: where all times are 0 its shares are no numbers",
        )
    total_ms, average_ms, share, median_ms = (value for value in values if value is not None)
    return ProfiledLayer(name, total_ms, average_ms, None if median is None else median_ms, share)
