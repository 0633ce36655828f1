"""Run one command over a stream of the device's ``shell`` service, to its end and never past its time.

Knows the framing and the marks (``adb_shell_v2``, ``adb_script``); knows no device and no files.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from typing import Literal

from dfmobile.devices.transport import adb_shell_v2
from dfmobile.devices.transport.adb_script import MarkReader, ReturnRemover, kill_script
from dfmobile.devices.transport.adb_stream import GONE_HINT, AdbLink, AdbStream, read_to_end
from dfmobile.devices.transport.base import ConnectionLostError, OnOutput, Stream
from dfmobile.errors import DeviceError

_STDIN_CHUNK_BYTES = 1 << 15
_DRAIN_S = 0.5  # silence after the last mark, where a session of the command's own holds its output open
_DRAIN_MOST_S = 5.0
_START_S = 15.0  # how much longer than its time a command may take to name its process group
_STOP_S = 15.0  # for stopping it: a second of grace is part of this

Ending = Literal["ended", "timeout", "too-much-output"]


class RemoteCommand:
    """A command under way.

    Args:
        stream: to a ``shell`` service whose command is a ``command_script``.
        token: the script's.
        framed: whether the service is ``shell,v2``.
        returns: whether a line feed arrives as carriage return and line feed where it is not.

    Attributes:
        stdout: what it wrote until now.
        stderr: likewise.
        marks: what the script said.
    """

    def __init__(self, stream: AdbStream, token: str, *, framed: bool, returns: bool) -> None:
        self.stdout = bytearray()
        self.stderr = bytearray()
        self.marks = MarkReader(token, one_stream=not framed)
        self._stream = stream
        self._decoder = adb_shell_v2.ShellV2Decoder() if framed else None
        self._remover = ReturnRemover() if returns and not framed else None
        self._input: _Input | None = None
        self._at_end = False
        self._discard = False  # while it is being stopped, what it writes is of no use

    def converse(self, stdin: bytes, deadline: float, on_output: OnOutput | None, limit_bytes: int) -> Ending:
        """Feed and read it until it ended, its time is up, or it wrote too much.

        Raises:
            ConnectionLostError: if the device went away, or the script did not come to its end.
        """
        if self._decoder is not None:
            self._input = _Input(stdin)
        drain_until: float | None = None
        while not self._at_end:
            now = time.monotonic()
            if self.marks.finished:
                if self._input is not None:
                    self._input.give_up()
                # Everything has come with the exit code of the frame; it stays out where a session of the
                # command's own holds its output open.
                if self._decoder is None or self._decoder.exit_code is not None:
                    break
                drain_until = drain_until or now + _DRAIN_MOST_S
                until = min(drain_until, now + _DRAIN_S)
            else:
                until = deadline
            if now >= (drain_until or deadline) or not self._step(until, on_output):
                if self.marks.finished:
                    break
                return "timeout"
            if len(self.stdout) + len(self.stderr) > limit_bytes:
                return "too-much-output"
        if not self.marks.finished and not self.marks.no_group and not self.marks.no_scratch:
            last = (bytes(self.stderr) or self.marks.prelude).decode("utf-8", "replace").strip().splitlines()
            told = f": {last[-1].strip()[:200]}" if last else ""
            raise ConnectionLostError(f"the device ended the command without an exit code{told}", hint=GONE_HINT)
        return "ended"

    def stop(self, open_link: Callable[[], AdbLink], link: AdbLink) -> None:
        """Stop the command and its children on the device, and read on until they ended.

        Args:
            open_link: makes a second connection to the device, for where the first one has broken.
            link: the first one.

        Raises:
            ConnectionLostError: if the device cannot be told.
        """
        self._discard = True
        until = time.monotonic() + _START_S
        with contextlib.suppress(ConnectionLostError):
            while self.marks.group is None and not self._at_end and time.monotonic() < until:
                self._step(until, None)
        group = self.marks.group
        if group is None:
            if not self._at_end:
                raise ConnectionLostError("the device does not say which process to stop", hint=GONE_HINT)
            return  # the script itself has ended before it started the command
        try:
            _kill(link, group)
        except ConnectionLostError as error:
            try:
                spare = open_link()
            except DeviceError as again:
                raise ConnectionLostError(f"{error}; it cannot be reached again: {again}", again.hint) from error
            try:
                _kill(spare, group)
            finally:
                spare.close()
            return
        until = time.monotonic() + _DRAIN_MOST_S
        while not self._at_end and not self.marks.finished and time.monotonic() < until:
            self._step(until, None)

    def _step(self, deadline: float, on_output: OnOutput | None) -> bool:
        """Send or receive once; False where nothing could be done until the deadline."""
        packet = self._input.packet() if self._input is not None and not self._discard else None
        if not self._stream.wait(deadline, to_send=bool(packet)):
            return False
        if self._input is not None and packet and self._stream.writable:
            self._input.sent(self._stream.send(packet))
        if self._stream.readable:
            data = self._stream.receive()
            self._at_end = not data
            for name, piece in self._read(data):
                if self._discard:
                    continue
                (self.stdout if name == "stdout" else self.stderr).extend(piece)
                if on_output is not None:
                    on_output(name, piece)
        return True

    def _read(self, data: bytes) -> list[tuple[Stream, bytes]]:
        if self._decoder is None:
            return self.marks.feed(data if self._remover is None else self._remover.feed(data))
        found: list[tuple[Stream, bytes]] = []
        for kind, piece in self._decoder.feed(data):
            found += self.marks.feed(piece) if kind == adb_shell_v2.STDOUT else [("stderr", piece)]
        return found


class _Input:
    """What is still to be sent as stdin, in packets of ``shell,v2``; at the end, that it ends."""

    def __init__(self, data: bytes) -> None:
        self._rest = memoryview(data)
        self._packet = memoryview(b"")
        self._closed = False

    def packet(self) -> memoryview:
        """Return the rest of the present packet; empty when all is sent."""
        if not self._packet and not self._closed:
            chunk, self._rest = self._rest[:_STDIN_CHUNK_BYTES], self._rest[_STDIN_CHUNK_BYTES:]
            self._closed = not chunk
            kind = adb_shell_v2.CLOSE_STDIN if self._closed else adb_shell_v2.STDIN
            self._packet = memoryview(adb_shell_v2.encode(kind, chunk))
        return self._packet

    def sent(self, size: int) -> None:
        """Note that the beginning of the packet is sent."""
        self._packet = self._packet[size:]

    def give_up(self) -> None:
        """Leave out what no packet holds yet: the command has ended."""
        self._rest = memoryview(b"")


def _kill(link: AdbLink, group: int) -> None:
    """Stop a process group by a conversation of its own."""
    deadline = time.monotonic() + _STOP_S
    token = "stopped"  # noqa: S105 - a word to look for, no secret
    try:
        stream = link.open_stream(b"shell:" + kill_script(token, group).encode(), deadline)
    except ConnectionLostError:
        raise
    except DeviceError as error:
        raise ConnectionLostError(f"the device does not let us stop the command: {error}", error.hint) from error
    try:
        if token.encode() not in read_to_end(stream, 1 << 16, deadline):
            raise ConnectionLostError("the device did not stop the command", hint=GONE_HINT)
    finally:
        stream.close()
