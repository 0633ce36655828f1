"""Keep the line that TensorFlow Lite's interpreters print when they first make XNNPACK's delegate off stderr."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

_GREETING = b"Created TensorFlow Lite XNNPACK delegate for CPU."


class Greeting:
    """One runtime's greeting: printed from C++ once a process, and there is no switch for it."""

    def __init__(self) -> None:
        self._first_load = threading.Lock()
        self._seen = False

    @contextmanager
    def hidden(self) -> Iterator[None]:
        """Keep the greeting off standard error; whatever else is written meanwhile comes out afterwards."""
        with self._first_load:
            saved = None if self._seen else _duplicate_stderr()
            if saved is None:
                yield
                return
            with tempfile.TemporaryFile() as captured:
                os.dup2(captured.fileno(), 2)
                try:
                    yield
                finally:
                    sys.stderr.flush()
                    os.dup2(saved, 2)
                    os.close(saved)
                    captured.seek(0)
                    for line in captured:
                        if _GREETING in line:
                            self._seen = True
                        else:
                            os.write(2, line)


@contextmanager
def silenced() -> Iterator[None]:
    """Drop what C++ writes to standard error meanwhile: for a runtime that logs each step of its work."""
    sink = os.open(os.devnull, os.O_WRONLY)
    saved = _duplicate_stderr()
    try:
        if saved is not None:
            os.dup2(sink, 2)
        yield
    finally:
        if saved is not None:
            os.dup2(saved, 2)
            os.close(saved)
        os.close(sink)


def _duplicate_stderr() -> int | None:
    """Return a copy of file descriptor 2, None where standard error is closed: then nothing would be seen."""
    if sys.stderr is None:  # Python's way to say that it was closed when the process began
        return None
    sys.stderr.flush()
    try:
        return os.dup(2)
    except OSError:
        return None
