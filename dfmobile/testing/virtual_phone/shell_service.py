r"""Commands on the phone: the services ``shell:``, ``exec:`` and ``shell,v2:``.

Without the shell protocol a command has a terminal (an old phone's turns ``\n`` into ``\r\n``), its stdout and
stderr are one, and its exit code is lost. With it they come apart, in frames of one byte (whose), four bytes (how long)
and data. When the client goes away the shell gets SIGHUP, no more: what a phone does.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import signal
import struct
import subprocess
import termios
import threading
import tty
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dfmobile.errors import DeviceError
from dfmobile.testing.virtual_phone.phone_system import PhoneSystem
from dfmobile.testing.virtual_phone.stream import Stream, StreamClosedError

STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN, WINDOW_SIZE = range(6)
_FRAME = struct.Struct("<BI")
_CHUNK_BYTES = 64 * 1024
_FRAME_LIMIT_BYTES = 2**20
_SHELL = "/system/bin/sh"


@dataclass(frozen=True)
class ShellRequest:
    """What a client asks for.

    Attributes:
        command: for the phone's shell; empty for a shell to type into.
        framed: by the shell protocol.
        terminal: ``none``, ``raw`` (bytes as they are), or ``cooked``.
    """

    command: str
    framed: bool
    terminal: str


def parse_destination(destination: str, *, old: bool) -> ShellRequest | None:
    """Return what an OPEN asks of the shell; None if it is another service, or one that an old phone lacks."""
    service, colon, command = destination.partition(":")
    if not colon:
        return None
    if service == "exec":
        return ShellRequest(command, framed=False, terminal="raw")
    name, *options = service.split(",")
    if name != "shell" or (old and options):
        return None
    framed = "v2" in options
    if "pty" in options or not command:
        terminal = "cooked"
    elif "raw" in options or not old:
        terminal = "none" if framed else "raw"
    else:
        terminal = "cooked"
    return ShellRequest(command, framed, terminal)


def serve_shell(stream: Stream, system: PhoneSystem, request: ShellRequest) -> None:
    """Run a command to its end, or to the client's."""
    argv = [_SHELL, "-c", request.command] if request.command else [_SHELL, "-i"]
    with contextlib.suppress(StreamClosedError, OSError):
        try:
            if request.terminal == "none":
                _run_with_pipes(stream, system, argv)
            else:
                _run_in_terminal(stream, system, argv, request)
        except DeviceError:
            pass  # it was switched off in between
    stream.close()


def _run_with_pipes(stream: Stream, system: PhoneSystem, argv: list[str]) -> None:
    child = subprocess.Popen(
        system.command(argv),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=system.environment, bufsize=0,
    )  # fmt: skip
    stdin, stdout, stderr = child.stdin, child.stdout, child.stderr
    if stdin is None or stdout is None or stderr is None:
        raise RuntimeError("started without pipes")
    stream.when_closed(lambda: _hang_up(child))
    output_lock = threading.Lock()  # a frame is not to be cut by another

    def pump(pipe: IO[bytes], number: int) -> None:
        with pipe, contextlib.suppress(StreamClosedError, OSError):
            while data := pipe.read(_CHUNK_BYTES):
                with output_lock:
                    stream.write(_FRAME.pack(number, len(data)) + data)

    def finish() -> None:
        pumps = [
            threading.Thread(target=pump, args=(pipe, number), daemon=True)
            for pipe, number in ((stdout, STDOUT), (stderr, STDERR))
        ]
        for thread in pumps:
            thread.start()
        for thread in pumps:
            thread.join()
        code = child.wait()
        with contextlib.suppress(StreamClosedError):
            stream.write(_FRAME.pack(EXIT, 1) + bytes([(code if code >= 0 else 128 - code) & 0xFF]))
        stream.close()

    threading.Thread(target=finish, daemon=True).start()
    try:
        _feed_frames(stream, stdin)
    finally:
        with contextlib.suppress(OSError):
            stdin.close()


def _feed_frames(stream: Stream, stdin: IO[bytes] | int) -> None:
    """Pass on what the client types, until it is gone. Frames that nobody knows are passed over."""
    writable = True
    while True:
        number, size = _FRAME.unpack(stream.read_exactly(_FRAME.size))
        if size > _FRAME_LIMIT_BYTES:
            raise StreamClosedError
        data = stream.read_exactly(size)
        if number == CLOSE_STDIN and not isinstance(stdin, int):
            stdin.close()
            writable = False
        elif number == STDIN and writable:
            try:
                _write_all(stdin if isinstance(stdin, int) else stdin.fileno(), data)
            except OSError:
                writable = False  # it does not read; the rest goes nowhere


def _write_all(descriptor: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _run_in_terminal(stream: Stream, system: PhoneSystem, argv: list[str], request: ShellRequest) -> None:
    master, slave = pty.openpty()
    try:
        if request.terminal == "raw":
            tty.setraw(slave)
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("<4H", 24, 80, 0, 0))
        child = subprocess.Popen(
            system.command(argv, terminal=True),
            stdin=slave, stdout=slave, stderr=slave, env={**system.environment, "TERM": "dumb"},
        )  # fmt: skip
    except BaseException:
        os.close(master)
        raise
    finally:
        os.close(slave)
    stream.when_closed(lambda: _hang_up_session(child))
    # The input's own descriptor: each side closes what is its own, whenever it ends.
    keyboard = os.dup(master)

    def show() -> None:
        with contextlib.suppress(StreamClosedError, OSError):  # EIO: the last program let go of the terminal
            while data := os.read(master, _CHUNK_BYTES):
                stream.write(_FRAME.pack(STDOUT, len(data)) + data if request.framed else data)
        os.close(master)
        code = child.wait()
        with contextlib.suppress(StreamClosedError):
            if request.framed:
                stream.write(_FRAME.pack(EXIT, 1) + bytes([(code if code >= 0 else 128 - code) & 0xFF]))
        stream.close()

    threading.Thread(target=show, daemon=True).start()
    try:
        if request.framed:
            _feed_frames(stream, keyboard)
        else:
            while data := stream.read():
                _write_all(keyboard, data)
    finally:
        os.close(keyboard)


def _hang_up(child: subprocess.Popen[bytes]) -> None:
    """Send SIGHUP to the phone's shell: the child of ``nsenter``, which passes its end on."""
    with contextlib.suppress(OSError):
        children = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
        if child.poll() is None:
            os.kill(int(children[0]) if children else child.pid, signal.SIGHUP)


def _hang_up_session(child: subprocess.Popen[bytes]) -> None:
    """What the kernel does when a terminal goes away."""
    with contextlib.suppress(OSError):
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGHUP)
