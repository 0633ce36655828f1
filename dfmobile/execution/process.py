"""One worker process, seen from the pool: start it, call it, tell how it died, end it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from typing import Any, BinaryIO, cast

from dfmobile.errors import ExecutionError, quoted
from dfmobile.execution import wire

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "NUMEXPR_NUM_THREADS": "1",
    "VECLIB_MAXIMUM_THREADS": "1",
}
"""One thread a worker: the pool already uses every core, and results do not depend on the machine's core count."""

# Not "-m": it would put the current folder, and whatever random.py lies in it, before the standard library. The
# worker searches where this process does, so that it finds a user's own plug-ins too.
_START = "import sys; sys.path[:] = sys.argv[1:]; from dfmobile.execution.worker import serve; serve()"

STDERR_LINES = 20
STDERR_LINE_BYTES = 2000
ANSWER_BYTES = 256 * 2**20
"""An answer longer than this is no answer of ours."""
END_SECONDS = 2.0


class WorkerDeathError(ExecutionError):
    """A worker process ended, or was ended, in the middle of a call.

    Attributes:
        reason: how, one line: ``signal 11 (SIGSEGV)``, ``exit code 1``, ``no answer within 5 s``.
        last_lines: the last lines that it wrote to standard error, oldest first.
        timed_out: whether it was ended because it took too long.
    """

    def __init__(
        self, message: str, hint: str = "", *, reason: str, last_lines: tuple[str, ...], timed_out: bool = False
    ) -> None:
        super().__init__(message, hint)
        self.reason = reason
        self.last_lines = last_lines
        self.timed_out = timed_out


class WorkerProcess:
    """A running ``dfmobile.execution.worker``.

    Args:
        start_limit_s: how long it may take to start; None: as long as it likes.

    Raises:
        ExecutionError: if it cannot be started.
    """

    def __init__(self, start_limit_s: float | None = None) -> None:
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, *(str(entry) for entry in sys.path)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env={**os.environ, **ONE_THREAD},
                # A session of its own: Ctrl-C on the terminal reaches the pool's process, which decides.
                start_new_session=True,
            )
        except OSError as error:
            raise ExecutionError(f"cannot start a worker process: {error.strerror or error}") from error
        self._calls = cast("BinaryIO", self._process.stdin)
        self._answers = cast("BinaryIO", self._process.stdout)
        self._errors: deque[str] = deque(maxlen=STDERR_LINES)
        self._error_reader = threading.Thread(
            target=self._keep_errors, args=(cast("BinaryIO", self._process.stderr),), name="worker stderr", daemon=True
        )
        self._error_reader.start()
        self._receive("its start", start_limit_s, ("ready",))

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def call(self, function: str, payload: dict[str, Any], limit_s: float | None = None) -> dict[str, Any]:
        """Run one function and wait for its result.

        Args:
            function: ``"package.module:function"``.
            payload: its JSON object.
            limit_s: a call that takes longer ends the process; None: no limit.

        Raises:
            DfmobileError: what the function raised.
            WorkerDeathError: if the process died; then ``alive`` is False.
            ExecutionError: if the function failed in another way.
        """
        self._send({"function": function, "payload": payload})
        message = self._receive(function, limit_s)
        if "error" in message:
            raise wire.error_from_json(message["error"], function)
        result: dict[str, Any] = message["result"]
        return result

    @property
    def alive(self) -> bool:
        """Whether the process can take another call."""
        return self._process.poll() is None and not self._answers.closed

    def end(self) -> None:
        """End the process, in the middle of a call too, and wait for its end."""
        with contextlib.suppress(OSError):
            self._calls.close()  # the worker ends at once when its standard input ends
        try:
            self._process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def discard(self) -> None:
        """End the process and close the pipes; only for the thread that makes the calls."""
        self.end()
        self._answers.close()
        self._error_reader.join(END_SECONDS)

    def _send(self, message: dict[str, Any]) -> None:
        line = wire.encode(message)
        # A dead worker is noticed, with its reason, where its answer is read.
        with contextlib.suppress(BrokenPipeError, ValueError):
            self._calls.write(line)
            self._calls.flush()

    def _receive(
        self, task: str, limit_s: float | None, kinds: tuple[str, ...] = ("result", "error")
    ) -> dict[str, Any]:
        late = threading.Event()
        timer = threading.Timer(limit_s, self._stop_late, (late,)) if limit_s is not None else None
        if timer is not None:
            timer.daemon = True
            timer.start()
        try:
            line = self._answers.readline(ANSWER_BYTES)
        finally:
            if timer is not None:
                timer.cancel()
        if line.endswith(b"\n"):
            message = _message(line)
            if message is not None and any(kind in message for kind in kinds):
                return message
        # A process that ended closed the pipe; one that wrote something else (a library on a stray descriptor) is
        # ended.
        garbage = line if line and not late.is_set() else b""
        if garbage:
            self._process.kill()
        self.discard()
        code = self._process.returncode
        reason = _death(code)
        if late.is_set():
            reason = f"no answer within {limit_s:g} s"
        elif garbage:
            reason = f"it answered {quoted(garbage[:200].decode(errors='replace'), 60)}, which is no answer"
        last = " | ".join(self._errors) or "(nothing)"
        killed = "signal 9 is most often the system out of memory: use fewer workers"
        raise WorkerDeathError(
            f"worker {self.pid} died in {task}: {reason}; its last lines on stderr: {last}",
            hint=killed if code == -signal.SIGKILL and not (late.is_set() or garbage) else "",
            reason=reason,
            last_lines=tuple(self._errors),
            timed_out=late.is_set(),
        )

    def _stop_late(self, late: threading.Event) -> None:
        late.set()
        self._process.kill()

    def _keep_errors(self, stream: BinaryIO) -> None:
        with stream:
            while line := stream.readline(STDERR_LINE_BYTES):
                text = line.decode(errors="replace").rstrip()
                if text:
                    self._errors.append(text)


def _message(line: bytes) -> dict[str, Any] | None:
    """Return what a worker wrote, None where it is none of ``wire``'s messages."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    if isinstance(found.get("result"), dict) or isinstance(found.get("ready"), int):
        return found
    error = found.get("error")
    fields = ("class", "message", "hint", "traceback")
    if isinstance(error, dict) and all(isinstance(error.get(name), str) for name in fields):
        kinds = error.get("types")
        return found if isinstance(kinds, list) and all(isinstance(kind, str) for kind in kinds) else None
    return None


def _death(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"
