"""Run one command over the ssh that was started for it, to its end and never past its time.

Knows the marks (``ssh_script``) and the line of life; knows no device and no files.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import time
from collections.abc import Callable
from typing import IO, BinaryIO, Literal

from dfmobile.devices.transport.adb_script import MarkReader
from dfmobile.devices.transport.base import ConnectionLostError, OnOutput, OnProgress, Stream
from dfmobile.devices.transport.ssh_client import end
from dfmobile.devices.transport.ssh_script import BEAT_S

_CHUNK_BYTES = 1 << 16
_FILE_CHUNK_BYTES = 1 << 18
_POLL_S = 0.5
_STOP_S = 15.0  # for stopping it: a second of grace is part of this
_SSH_FAILED = 255
_LEAVE_S = 0.5  # how long ssh may take to end after the command

Ending = Literal["ended", "timeout", "too-much-output", "broken"]


class Feed:
    """What is written to a command: the script, its input or a file, then a beat now and then.

    Args:
        script: bytes.
        data: what follows: bytes, or an open file.
        size_bytes: of the file.
        on_progress: told how much of the file is written.
    """

    def __init__(
        self, script: bytes, data: bytes | BinaryIO, size_bytes: int = 0, on_progress: OnProgress | None = None
    ) -> None:
        self._file = None if isinstance(data, bytes) else data
        self._waiting = memoryview(script + data if isinstance(data, bytes) else script)
        self._size, self._done, self._script_left = size_bytes, 0, len(script)
        self._on_progress = on_progress
        self.ends = self._file is not None  # a file's end is the input's end; otherwise that says to stop

    def pending(self) -> memoryview:
        """Return what is to be written now; empty when all is."""
        if not self._waiting and self._file is not None:
            # Not more than was said: a file that grows meanwhile is not to run over into something else.
            chunk = self._file.read(min(_FILE_CHUNK_BYTES, self._size - self._done))
            self._waiting = memoryview(chunk)
            if not chunk:
                self._file = None  # also where it became shorter: the far side counts
        return self._waiting

    def written(self, size: int) -> None:
        """Note that the beginning is written."""
        self._waiting = self._waiting[size:]
        of_script = min(size, self._script_left)
        self._script_left -= of_script
        if size > of_script and self._size:
            self._done += size - of_script
            if self._on_progress is not None:
                self._on_progress(self._done, self._size)

    def give_up(self) -> None:
        """Leave out what is not written."""
        self._waiting, self._file = self._waiting[:0], None


class SshCommand:
    """A command under way.

    Args:
        child: its ssh, with pipes.
        token: of the script.
        feed: what it is given.

    Attributes:
        stdout: what it wrote until now.
        stderr: likewise.
        marks: what the script said on stdout.
        error_marks: likewise on stderr; what came before the first is ssh's, not the command's.
    """

    def __init__(self, child: subprocess.Popen[bytes], token: str, feed: Feed) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.marks = MarkReader(token, one_stream=False)
        self.error_marks = MarkReader(token, one_stream=False)
        if child.stdin is None or child.stdout is None or child.stderr is None:
            raise RuntimeError("ssh was started without pipes")
        self._child = child
        self._stdin: IO[bytes] = child.stdin
        self._readers: dict[IO[bytes], tuple[Stream, MarkReader, bytearray]] = {
            child.stdout: ("stdout", self.marks, self.stdout),
            child.stderr: ("stderr", self.error_marks, self.stderr),
        }
        self._feed = feed
        self._discard = False
        self._selector = selectors.DefaultSelector()
        for pipe in self._readers:
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ)
        os.set_blocking(self._stdin.fileno(), False)
        self._beat_at = time.monotonic() + BEAT_S
        self._moved_at = time.monotonic()

    @property
    def messages(self) -> str:
        """What ssh itself said, as far as that can be told."""
        return (self.error_marks.prelude or bytes(self.stderr[-2000:])).decode("utf-8", "replace")

    def converse(
        self,
        deadline: float,
        on_output: OnOutput | None,
        limit_bytes: int,
        *,
        idle_s: float | None = None,
        keep: bool = True,
    ) -> Ending:
        """Feed and read it until it ended, its time is up, it wrote too much, or the connection broke.

        Args:
            deadline: by the monotonic clock.
            on_output: given each piece.
            limit_bytes: most that it may write.
            idle_s: also a time-out, where nothing moves for so long.
            keep: whether to keep what it writes; without, there is no limit either.
        """
        while not self._is_done():
            now = time.monotonic()
            if now >= deadline or (idle_s is not None and now - self._moved_at > idle_s):
                return "timeout"
            if not self._readers_left():
                return "broken"
            self._step(deadline, on_output if keep else _only(on_output, self))
            if keep and len(self.stdout) + len(self.stderr) > limit_bytes:
                return "too-much-output"
        return "ended"

    def stop(self) -> None:
        """Stop the command and its children: the end of its input is the sign; read on until that is done.

        Raises:
            ConnectionLostError: if the far side does not say that it is done. Where it is cut off, it stops the
                command on its own.
        """
        self._discard = True
        self._feed.give_up()
        self._close_input()
        until = time.monotonic() + _STOP_S
        while not self.marks.finished and self._readers_left() and time.monotonic() < until:
            self._step(until, None)
        if not self.marks.finished and not self._never_started():
            raise ConnectionLostError("the board does not say whether the command was stopped")

    def _never_started(self) -> bool:
        """Whether the far side ended before it started the command: its script or its input did not come whole."""
        if self.marks.group is not None or self._readers_left():
            return False
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._child.wait(_LEAVE_S) != _SSH_FAILED
        return False

    def close(self) -> None:
        """Let go of ssh. What took a session of its own may hold the output open: that is not waited for."""
        self._close_input()
        self._selector.close()
        if self.marks.finished:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(_LEAVE_S)
        end(self._child, _LEAVE_S)

    def _is_done(self) -> bool:
        """Whether both streams have come to their marks, or the second to its end."""
        open_pipes = {key.fileobj for key in self._selector.get_map().values()}
        return self.marks.finished and (self.error_marks.finished or self._child.stderr not in open_pipes)

    def _readers_left(self) -> bool:
        return any(key.fileobj is not self._stdin for key in self._selector.get_map().values())

    def _close_input(self) -> None:
        if not self._stdin.closed:
            with contextlib.suppress(KeyError):
                self._selector.unregister(self._stdin)
            with contextlib.suppress(OSError):
                self._stdin.close()

    def _step(self, deadline: float, on_output: OnOutput | None) -> None:
        now = time.monotonic()
        wants = not self._stdin.closed and bool(self._feed.pending())
        known = not self._stdin.closed and self._stdin in {key.fileobj for key in self._selector.get_map().values()}
        if wants and not known:
            self._selector.register(self._stdin, selectors.EVENT_WRITE)
        elif known and not wants:
            self._selector.unregister(self._stdin)
        if not wants and self._feed.ends:
            self._close_input()
        elif not wants and now >= self._beat_at:
            self._write(b".")  # a sign of our life: whether the far side does anything is another matter
        for key, _ in self._selector.select(max(0.0, min(_POLL_S, deadline - now))):
            if key.fileobj is self._stdin:
                size = self._write(self._feed.pending()[:_CHUNK_BYTES])
                self._feed.written(size)
                if size:
                    self._moved_at = time.monotonic()
                continue
            for pipe, (name, marks, buffer) in self._readers.items():
                if key.fileobj is pipe:
                    self._read(pipe, name, marks, buffer, on_output)

    def _write(self, data: bytes | memoryview) -> int:
        if self._stdin.closed:
            return 0
        self._beat_at = time.monotonic() + BEAT_S
        try:
            size = os.write(self._stdin.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError:
            self._feed.give_up()  # ssh has ended, or reads no more: what it says comes by the other pipes
            self._close_input()
            return 0
        return size

    def _read(
        self, pipe: IO[bytes], name: Stream, marks: MarkReader, buffer: bytearray, on_output: OnOutput | None
    ) -> None:
        try:
            data = os.read(pipe.fileno(), _CHUNK_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._selector.unregister(pipe)
            return
        self._moved_at = time.monotonic()
        for _, piece in marks.feed(data):
            if self._discard:
                continue
            buffer += piece
            if on_output is not None:
                on_output(name, piece)


def _only(on_output: OnOutput | None, command: SshCommand) -> Callable[[Stream, bytes], None]:
    """Hand stdout on without keeping it; of stderr, keep the end."""

    def hand_on(name: Stream, piece: bytes) -> None:
        command.stdout.clear()
        del command.stderr[:-2000]
        if on_output is not None:
            on_output(name, piece)

    return hand_on
