"""Progress of long work: a bar on a terminal, plain lines otherwise; always on stderr."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID


def duration_text(seconds: float) -> str:
    """Return seconds for people: ``8 s``, ``3 min 20 s``, ``2 h 5 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


class ProgressLine:
    """Shows how far a long job is.

    Args:
        title: what is being done.
        every_s: seconds between plain lines where stderr is not a terminal.
    """

    def __init__(self, title: str, every_s: float = 5.0) -> None:
        self._title = title
        self._every_s = every_s
        self._last = 0.0
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def __enter__(self) -> ProgressLine:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

            self._bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
            )
            self._bar.start()
            self._task = self._bar.add_task(self._title, total=None, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()

    def update(self, done: int, total: int, note: str = "", *, left_s: float | None = None) -> None:
        """Say how far it is.

        Args:
            done: steps finished.
            total: steps in all.
            note: what is being done now.
            left_s: estimated seconds left, None where unknown.
        """
        if left_s is not None and done < total:
            note = f"about {duration_text(left_s)} left  {note}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=done, total=total, note=note)
            return
        now = time.monotonic()
        if done >= total or now - self._last >= self._every_s:
            self._last = now
            print(f"{self._title} {done}/{total}  {note}".rstrip(), file=sys.stderr, flush=True)
