"""tegrastats beside a command on a board: how to wrap the command, and how to read the log back.

A transport runs one command at a time, so tegrastats runs inside the command's own shell: ``wrap`` gives a command line
that starts it, runs the command, and ends it. The log stays on the board until it is read. No rights are asked for.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources

from dfmobile.devices.power_trace import PowerSample, PowerTrace, placed
from dfmobile.devices.tegrastats import parse_tegrastats_line
from dfmobile.devices.transport.base import Transport
from dfmobile.errors import DeviceError, FileFormatError, InputError

DEFAULT_INTERVAL_MS = 100
MIN_INTERVAL_MS = 10
MAX_INTERVAL_MS = 60_000
MAX_LINES = 40_000  # more than an hour at 10 a second
MAX_LOG_BYTES = 64 * 2**20

_MAX_PROBLEMS = 20
_HEADER = re.compile(r"dfmobile-tegrastats 1 ([0-9]{1,6})")
_START = re.compile(r"start ([0-9]{1,12}(?:\.[0-9]{1,6})?)")
_END = re.compile(r"end ([0-9]{1,12}(?:\.[0-9]{1,6})?) ([0-9]{1,3})")
_SAMPLE = re.compile(r"s ([0-9]{1,12}(?:\.[0-9]{1,6})?) ([0-9]{1,12}|-) (.*)")
_LOG_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class TegrastatsMonitor:
    """Wraps commands of one board so that tegrastats writes a log while they run.

    Args:
        transport: the board; used by ``read`` and ``remove`` only.
        interval_ms: time between two samples; tegrastats itself takes some milliseconds of a core for each.
        folder: folder on the board for the logs, e.g. of ``Transport.scratch_folder``; it must be there.
        tegrastats: the program.
        root: folder on the board that stands for ``/`` where the GPU's clock is looked for; for tests.

    Raises:
        InputError: if the interval or the folder cannot be used.
    """

    def __init__(
        self,
        transport: Transport,
        interval_ms: int,
        folder: str,
        *,
        tegrastats: str = "tegrastats",
        root: str = "",
    ) -> None:
        if not MIN_INTERVAL_MS <= interval_ms <= MAX_INTERVAL_MS:
            raise InputError(
                f"tegrastats cannot sample every {interval_ms} ms",
                hint=f"give {MIN_INTERVAL_MS} to {MAX_INTERVAL_MS}; below 100 its own load shows",
            )
        if not folder.startswith("/") or "\0" in folder:
            raise InputError(f"{folder!r} is not an absolute path of the device", hint="start it with /")
        self._transport = transport
        self._interval_ms = interval_ms
        self._folder = folder.rstrip("/")
        self._tegrastats = tegrastats
        self._root = root

    def wrap(self, argv: Sequence[str], log: str = "tegrastats.log") -> list[str]:
        """Return a command line that runs ``argv`` with tegrastats beside it; exit code and output are its own.

        Where tegrastats cannot run, the command runs all the same, and ``read`` says what it wrote.

        Args:
            argv: the command.
            log: name of the log in the folder; an older one is overwritten. Exit code 125 and nothing run: it could
                not be written.

        Raises:
            InputError: if the log's name is not a plain file name, or ``argv`` is empty.
        """
        if not argv:
            raise InputError("a command needs a program")
        limits = [str(self._interval_ms), str(MAX_LINES)]
        return ["sh", "-c", _script(), "sh", self._path(log), *limits, self._tegrastats, self._root, *argv]

    def read(self, log: str = "tegrastats.log") -> PowerTrace:
        """Bring a log from the board.

        Raises:
            DeviceError: if it is not there or not a log.
        """
        path = self._path(log)
        data = self._transport.read_bytes(path, MAX_LOG_BYTES)
        try:
            return parse_log(data.decode("utf-8", "replace"))
        except FileFormatError as error:
            raise DeviceError(f"{path} on the device: {error}", error.hint) from error

    def remove(self, log: str = "tegrastats.log") -> None:
        """Remove a log from the board; none there is no error."""
        self._transport.remove(self._path(log))

    def _path(self, log: str) -> str:
        if not _LOG_NAME.fullmatch(log):
            raise InputError(f"{log!r} is not a name for a log", hint="letters, digits, '.', '_' and '-'")
        return f"{self._folder}/{log}"


def parse_log(text: str) -> PowerTrace:
    """Read what the wrapper wrote: untrusted.

    Returns:
        The trace, time zero at the start of the command. A command that was killed has no end; what came until then
        is there. Lines that tegrastats wrote and that are no samples (its error messages) are in ``problems``.

    Raises:
        FileFormatError: if it is no such log.
    """
    lines = text[:MAX_LOG_BYTES].split("\n")
    header = _HEADER.fullmatch(lines[0].strip())
    interval_ms = int(header[1]) if header is not None else 0
    if not MIN_INTERVAL_MS <= interval_ms <= MAX_INTERVAL_MS:
        raise FileFormatError("not a log of tegrastats beside a command", hint="run the command again")
    start_s: float | None = None
    end_s: float | None = None
    exit_code: int | None = None
    samples: list[PowerSample] = []
    problems: list[str] = []
    for line in lines[1 : 2 * MAX_LINES]:
        if (found := _SAMPLE.fullmatch(line)) is not None:
            try:
                stats = parse_tegrastats_line(found[3])
            except FileFormatError:
                problems.append(found[3].strip()[:200])
                continue
            samples.append(PowerSample(float(found[1]) * 1000, stats, _khz(found[2])))
        elif (found := _START.fullmatch(line)) is not None and start_s is None:
            start_s = float(found[1])
        elif (found := _END.fullmatch(line)) is not None and start_s is not None and end_s is None:
            end_s, exit_code = float(found[1]), int(found[2])
        elif line == "full":
            problems.append(f"more than {MAX_LINES} samples; the later ones were left out")
        elif line.strip():
            problems.append(f"not understood: {line.strip()[:150]}")
    if start_s is None:
        raise FileFormatError("a log of tegrastats that ends before the command began", hint="run the command again")
    if end_s is not None and end_s < start_s:
        raise FileFormatError("a log of tegrastats whose command ended before it began", hint="run the command again")
    arrivals = [sample.time_ms - start_s * 1000 for sample in samples]
    times, timing = placed(arrivals, interval_ms)
    return PowerTrace(
        samples=tuple(
            PowerSample(time, sample.stats, sample.gpu_khz) for time, sample in zip(times, samples, strict=True)
        ),
        interval_ms=interval_ms,
        timing=timing,
        duration_ms=None if end_s is None else (end_s - start_s) * 1000,
        exit_code=exit_code,
        problems=tuple(dict.fromkeys(problems))[:_MAX_PROBLEMS],
    )


def _khz(hertz: str) -> int | None:
    value = int(hertz) // 1000 if hertz != "-" else 0
    return value if 0 < value <= 100_000_000 else None


@lru_cache(maxsize=1)
def _script() -> str:
    """Return the script without comments and indents."""
    text = resources.files("dfmobile.devices").joinpath("tegrastats_monitor.sh").read_text(encoding="utf-8")
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("#"))
