"""Run a child process to its end: output as it comes, a hard time limit, and nothing left running.

Used by the local transport, and by those that drive a program of this machine (ssh).
"""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Literal

_CHUNK_BYTES = 1 << 16
_GRACE_S = 1.0  # between SIGTERM and SIGKILL
_POLL_S = 0.05  # how often to look whether a command ended while something it left holds its output open
_DRAIN_S = 0.2  # how long to read on then

Ending = Literal["ended", "timeout", "too-much-output"]


@dataclass
class ProcessOutcome:
    """How a child process ended.

    Attributes:
        ending: by itself, or why it was stopped.
        exit_code: its own, or 128 + N where signal N killed it.
        stdout: bytes.
        stderr: bytes.
    """

    ending: Ending = "ended"
    exit_code: int = 0
    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)


def run_process(
    argv: Sequence[str],
    *,
    timeout_s: float,
    stdin: bytes,
    environment: Mapping[str, str],
    folder: str | None,
    on_output: Callable[[Literal["stdout", "stderr"], bytes], None] | None,
    output_limit_bytes: int,
) -> ProcessOutcome:
    """Run a program in a session of its own, and leave nothing of that session behind.

    Raises:
        OSError: if the program cannot be started.
        ValueError: if an argument has a NUL in it.
    """
    deadline = time.monotonic() + timeout_s
    child = subprocess.Popen(
        list(argv),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environment),
        cwd=folder,
        start_new_session=True,
        bufsize=0,
    )
    outcome = ProcessOutcome()
    try:
        outcome.ending = _converse(child, deadline, stdin, outcome, on_output, output_limit_bytes)
    finally:
        # Also on Ctrl-C and on an exception of on_output.
        _stop(child, gently=outcome.ending != "ended")
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()
    code = child.returncode
    outcome.exit_code = code if code >= 0 else 128 - code
    return outcome


def _converse(
    child: subprocess.Popen[bytes],
    deadline: float,
    stdin: bytes,
    outcome: ProcessOutcome,
    on_output: Callable[[Literal["stdout", "stderr"], bytes], None] | None,
    limit: int,
) -> Ending:
    """Feed and read the child until it ended and its output is read, its time is up, or it wrote too much."""
    if child.stdin is None or child.stdout is None or child.stderr is None:
        raise RuntimeError("the child was started without pipes")
    buffers: dict[IO[bytes], tuple[Literal["stdout", "stderr"], bytearray]] = {
        child.stdout: ("stdout", outcome.stdout),
        child.stderr: ("stderr", outcome.stderr),
    }
    waiting = memoryview(stdin)
    drain_until: float | None = None
    with selectors.DefaultSelector() as selector:
        for pipe in buffers:
            os.set_blocking(pipe.fileno(), False)
            selector.register(pipe, selectors.EVENT_READ)
        if waiting:
            os.set_blocking(child.stdin.fileno(), False)
            selector.register(child.stdin, selectors.EVENT_WRITE)
        else:
            child.stdin.close()
        while any(key.fileobj in buffers for key in selector.get_map().values()):
            now = time.monotonic()
            if drain_until is None and _has_ended(child):
                drain_until = now + _DRAIN_S
            if drain_until is not None and now >= drain_until:
                return "ended"  # a process it left in the background holds the pipes open
            if now >= deadline:
                return "timeout"
            for key, _ in selector.select(min(_POLL_S, deadline - now)):
                if key.fileobj is child.stdin:
                    waiting = _feed(child.stdin, waiting, selector)
                    continue
                for pipe, (name, buffer) in buffers.items():
                    if key.fileobj is pipe:
                        chunk = os.read(pipe.fileno(), _CHUNK_BYTES)
                        if not chunk:
                            selector.unregister(pipe)
                            break
                        buffer += chunk
                        if on_output is not None:
                            on_output(name, chunk)
                        if len(outcome.stdout) + len(outcome.stderr) > limit:
                            return "too-much-output"
    # Its output is closed: normally it is ending at this moment, but it may run on.
    return "ended" if _await_end(child, deadline) else "timeout"


def _feed(pipe: IO[bytes], waiting: memoryview, selector: selectors.BaseSelector) -> memoryview:
    try:
        waiting = waiting[os.write(pipe.fileno(), waiting[:_CHUNK_BYTES]) :]
    except BrokenPipeError:
        waiting = waiting[:0]  # a command need not read its input
    if not waiting:
        selector.unregister(pipe)
        pipe.close()
    return waiting


def _stop(child: subprocess.Popen[bytes], gently: bool) -> None:
    """End the whole process group: what is left of it, asked first where the command itself still runs."""
    if gently and not _has_ended(child):
        _signal_group(child.pid, signal.SIGTERM)
        _await_end(child, time.monotonic() + _GRACE_S)
    # The child is not reaped before this, so its number is still its own and cannot be another process's.
    _signal_group(child.pid, signal.SIGKILL)
    child.wait()


def _has_ended(child: subprocess.Popen[bytes]) -> bool:
    """Look whether the child ended, without reaping it."""
    return os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _await_end(child: subprocess.Popen[bytes], deadline: float) -> bool:
    """Wait until the child ended, without reaping it; False where the deadline came first."""
    pause = 0.0002
    while not _has_ended(child):
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause)
        pause = min(2 * pause, _POLL_S)
    return True


def _signal_group(group: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)
