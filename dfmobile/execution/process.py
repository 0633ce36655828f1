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

from dfmobile.errors import ExecutionError
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
END_SECONDS = 2.0


class WorkerProcess:
    """A running ``dfmobile.execution.worker``.

    Raises:
        ExecutionError: if it cannot be started.
    """

    def __init__(self) -> None:
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
        self._receive("its start")

    @property
    def pid(self) -> int:
        """Process id."""
        return self._process.pid

    def call(self, function: str, payload: dict[str, Any]) -> dict[str, Any]:
        """Run one function and wait for its result.

        Raises:
            DfmobileError: what the function raised.
            ExecutionError: if the function failed in another way, or the process died; then ``alive`` is False.
        """
        self._send({"function": function, "payload": payload})
        message = self._receive(function)
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

    def _receive(self, task: str) -> dict[str, Any]:
        line = self._answers.readline()
        if line.endswith(b"\n"):
            message: dict[str, Any] = json.loads(line)
            return message
        self.discard()
        code = self._process.returncode
        last = " | ".join(self._errors) or "(nothing)"
        killed = "signal 9 is most often the system out of memory: use fewer workers"
        raise ExecutionError(
            f"worker {self.pid} died in {task}: {_death(code)}; its last lines on stderr: {last}",
            hint=killed if code == -signal.SIGKILL else "",
        )

    def _keep_errors(self, stream: BinaryIO) -> None:
        with stream:
            while line := stream.readline(STDERR_LINE_BYTES):
                text = line.decode(errors="replace").rstrip()
                if text:
                    self._errors.append(text)


def _death(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"signal {-code} ({signal.Signals(-code).name})"
    except ValueError:
        return f"signal {-code}"
