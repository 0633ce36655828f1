"""The ADB protocol itself, spoken to a device over a pipe (TCP or USB): messages, keys, many streams at once.

Messages, constants and the interface of a pipe (``BaseTransport``) are the library adb-shell's. Its ``AdbDevice``
is not used, although our pipes work under it: it throws away the device's banner, whose features say what the
daemon can do; it sees a refused service only as a timeout; it cannot write to a running command nor close a stream
early; and a timeout in the middle of a message loses its first half.

This module imports the library at once: import it inside functions, after ``errors.import_extra``.
"""

from __future__ import annotations

import struct
import time
from collections import deque
from collections.abc import Callable

from adb_shell import constants, exceptions
from adb_shell.adb_message import AdbMessage, checksum
from adb_shell.transport.base_transport import BaseTransport

from dfmobile.devices.transport.adb_keys import AdbKey
from dfmobile.devices.transport.adb_states import state_hint
from dfmobile.devices.transport.adb_stream import GONE_HINT, AdbLink, AdbStream
from dfmobile.devices.transport.base import ConnectionLostError, UnauthorizedError
from dfmobile.errors import DeviceError

FEATURES = ("shell_v2", "cmd", "stat_v2", "ls_v2", "fixed_push_mkdir")
_HEADER = struct.Struct("<6I")
_COMMANDS = {struct.unpack("<I", name)[0]: name for name in (b"CNXN", b"AUTH", b"OPEN", b"OKAY", b"WRTE", b"CLSE")}
_STARTTLS = struct.unpack("<I", b"STLS")[0]
_MOST_BYTES = constants.MAX_ADB_DATA  # that we take in one message
_LEAST_BYTES = 256  # that a device must take
_SEND_S = 30.0
_SLICE_BYTES = 1 << 18  # to read at once
_TOKEN_BYTES = 20
_MOST_CHALLENGES = 20

_Message = tuple[bytes, int, int, bytes]  # command, first and second argument, data


class WireLink(AdbLink):
    """A connection that speaks ADB.

    Args:
        pipe: to the device, not connected yet.
        find_key: gives the key to offer; called only where the device asks for one.
        name: of the device, for messages.
        connect_s: for the pipe and the first answer.
        accept_s: how long to wait for the user to accept our key on the phone.

    Raises:
        DeviceError: if the device does not answer, does not accept the key, or is not ready.
    """

    def __init__(
        self,
        pipe: BaseTransport,
        find_key: Callable[[], AdbKey],
        name: str,
        connect_s: float = 10.0,
        accept_s: float = 10.0,
    ) -> None:
        self._pipe = pipe
        self._name = name
        self._buffer = bytearray()
        self._streams: dict[int, WireStream] = {}
        self._last_id = 0
        self._broken = ""
        self.max_bytes = constants.MAX_LEGACY_ADB_DATA
        try:
            pipe.connect(connect_s)
            banner = self._handshake(find_key, time.monotonic() + connect_s, accept_s)
            self.features = _read_banner(name, banner)
        except BaseException:
            pipe.close()
            raise
        self.command_limit_bytes = min(self.max_bytes, 1 << 16) - 64

    # The beginning

    def _handshake(self, find_key: Callable[[], AdbKey], deadline: float, accept_s: float) -> bytes:
        """Introduce ourselves and prove who we are; return the device's banner."""
        banner = b"host::features=" + ",".join(FEATURES).encode()
        self._send(constants.CNXN, constants.VERSION, _MOST_BYTES, banner)
        key: AdbKey | None = None
        asked = False
        for _ in range(_MOST_CHALLENGES):
            try:
                message = self._read(deadline)
            except ConnectionLostError as error:
                raise self._not_accepted() if asked else error from error
            if message is None:
                if asked:
                    raise self._not_accepted()
                raise DeviceError(
                    f"{self._name} does not answer",
                    hint="it may be offline: check the cable and that USB debugging is on, then run again",
                )
            command, first, second, data = message
            if command == constants.CNXN:
                if not second >= _LEAST_BYTES:
                    raise DeviceError(f"{self._name} takes only {second} bytes at once: that is no ADB daemon")
                self.max_bytes = min(second, _MOST_BYTES)
                return data
            if command != constants.AUTH or first != constants.AUTH_TOKEN:
                continue  # what was under way from a conversation before ours
            if len(data) != _TOKEN_BYTES:
                raise DeviceError(f"{self._name} asks for a signature of {len(data)} bytes: that is no ADB daemon")
            if key is None:
                key = find_key()
                self._send(constants.AUTH, constants.AUTH_SIGNATURE, 0, key.sign(data))
            elif not asked:
                self._send(constants.AUTH, constants.AUTH_RSAPUBLICKEY, 0, key.public_text() + b"\0")
                asked = True
                deadline = time.monotonic() + accept_s
            else:
                raise self._not_accepted()
        raise DeviceError(f"{self._name} answers, but does not let us in", hint="switch USB debugging off and on again")

    def _not_accepted(self) -> UnauthorizedError:
        return UnauthorizedError(
            f"{self._name}: the phone has not accepted this computer's key", hint=state_hint("unauthorized", self._name)
        )

    # Streams

    def open_stream(self, service: bytes, deadline: float) -> AdbStream:
        """Open a stream to a service."""
        self._last_id = self._last_id % 0xFFFFFFFF + 1
        stream = WireStream(self, self._last_id)
        self._streams[self._last_id] = stream
        try:
            self._send(constants.OPEN, stream.local_id, 0, service + b"\0")
            self._await_opened(stream, service, deadline)
        except BaseException:
            stream.close()
            raise
        return stream

    def _await_opened(self, stream: WireStream, service: bytes, deadline: float) -> None:
        while not stream.opened:
            if stream.ended:
                raise DeviceError(f"{self._name} refuses the service {service[:40].decode('ascii', 'replace')!r}")
            if not self.pump(deadline):
                raise ConnectionLostError(f"{self._name} does not answer", hint=GONE_HINT)

    def pump(self, deadline: float) -> bool:
        """Take one message and give it to its stream; False if none came by the deadline."""
        message = self._read(deadline)
        if message is None:
            return False
        command, first, second, data = message
        if command in (constants.CNXN, constants.AUTH):
            raise self._lost(f"{self._name} began a new connection by itself (its daemon restarted)")
        stream = self._streams.get(second)
        if stream is not None and command in (constants.OKAY, constants.WRTE, constants.CLSE):
            stream.take(command, first, data)
        return True  # what is for a stream that we closed is of no interest

    def forget(self, local_id: int) -> None:
        """Take a stream out of the table."""
        self._streams.pop(local_id, None)

    def send(self, command: bytes, first: int, second: int, data: bytes = b"") -> None:
        """Send a message of a stream."""
        self._send(command, first, second, data)

    def close(self) -> None:
        """Let go of the device."""
        self._broken = self._broken or f"the connection to {self._name} is closed"
        self._streams.clear()
        self._pipe.close()

    # Messages

    def _lost(self, why: str) -> ConnectionLostError:
        self._broken = self._broken or why
        return ConnectionLostError(self._broken, hint=GONE_HINT)

    def _send(self, command: bytes, first: int, second: int, data: bytes = b"") -> None:
        if self._broken:
            raise self._lost(self._broken)
        message = AdbMessage(command, first, second, data)
        try:
            # Two writes, as USB wants it.
            self._pipe.bulk_write(message.pack(), _SEND_S)
            if data:
                self._pipe.bulk_write(data, _SEND_S)
        except (OSError, exceptions.AdbTimeoutError, exceptions.AdbConnectionError) as error:
            raise self._lost(f"{self._name} went away: {_reason(error)}") from error
        except BaseException:
            self._broken = f"a message to {self._name} was cut short"  # Ctrl-C: half of it may be out
            raise

    def _read(self, deadline: float) -> _Message | None:
        """Return the next message; None if it is not here by the deadline. Half of one stays for the next call."""
        if self._broken:
            raise self._lost(self._broken)
        while True:
            wanted = self._bytes_missing()
            if wanted == 0:
                return self._take_message()
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            try:
                data = self._pipe.bulk_read(min(wanted, _SLICE_BYTES), left)
            except exceptions.AdbTimeoutError:
                continue
            except (OSError, exceptions.AdbConnectionError) as error:
                raise self._lost(f"{self._name} went away: {_reason(error)}") from error
            self._buffer += data

    def _bytes_missing(self) -> int:
        """Return how many bytes of the present message are still to come, as far as can be known."""
        if len(self._buffer) < _HEADER.size:
            return _HEADER.size - len(self._buffer)
        command, _, _, length, _, magic = _HEADER.unpack_from(self._buffer)
        if command == _STARTTLS:
            raise DeviceError(
                f"{self._name} wants an encrypted connection (wireless debugging of Android 11 and newer)",
                hint="pair it with: adb pair HOST:PORT, adb connect HOST:PORT; then use adb:HOST:PORT",
            )
        if command not in _COMMANDS or magic != command ^ 0xFFFFFFFF or length > _MOST_BYTES:
            raise self._lost(f"{self._name} sent what is not the ADB protocol")
        return int(_HEADER.size + length - len(self._buffer))

    def _take_message(self) -> _Message:
        command, first, second, length, total, _ = _HEADER.unpack_from(self._buffer)
        data = bytes(self._buffer[_HEADER.size :])
        self._buffer.clear()
        # Daemons of version 0x01000001 leave the sum out, but only to hosts of that version; we are not one.
        if length and checksum(data) != total:
            raise self._lost(f"a message of {self._name} arrived damaged")
        return _COMMANDS[command], first, second, data


class WireStream(AdbStream):
    """A stream of a ``WireLink``: one message under way in each direction, as the protocol wants it."""

    def __init__(self, link: WireLink, local_id: int) -> None:
        self.local_id = local_id
        self.ended = False  # by the far side
        self._link = link
        self._remote_id = 0
        self._inbox: deque[bytes] = deque()
        self._unanswered = False
        self._closed = False

    @property
    def opened(self) -> bool:
        """Whether the device has accepted it."""
        return self._remote_id != 0

    @property
    def readable(self) -> bool:
        """Whether bytes are here, or the end."""
        return bool(self._inbox) or self.ended

    @property
    def writable(self) -> bool:
        """Whether the device has taken what was sent before."""
        return self.opened and not self._unanswered and not self.ended

    def take(self, command: bytes, remote_id: int, data: bytes) -> None:
        """Note a message of the device's for this stream."""
        if command == constants.OKAY:
            self._remote_id = self._remote_id or remote_id
            self._unanswered = False
        elif command == constants.CLSE:
            self.ended = True
        elif self._inbox:  # it must wait until we have taken the one before
            raise ConnectionLostError("the device sends more than was asked for", hint=GONE_HINT)
        elif data:
            self._inbox.append(data)
        else:
            self._link.send(constants.OKAY, self.local_id, self._remote_id)

    def wait(self, deadline: float, *, to_send: bool) -> bool:
        """Wait until something can be received, or sent where that is asked for."""
        while not self.readable and not (to_send and self.writable):
            if not self._link.pump(deadline):
                return False
        return True

    def receive(self) -> bytes:
        """Return what has come; empty at the end."""
        if not self._inbox:
            return b""
        data = self._inbox.popleft()
        if not self.ended:
            self._link.send(constants.OKAY, self.local_id, self._remote_id)
        return data

    def send(self, data: bytes | memoryview) -> int:
        """Send the beginning of ``data``."""
        piece = bytes(data[: self._link.max_bytes])
        self._unanswered = True
        self._link.send(constants.WRTE, self.local_id, self._remote_id, piece)
        return len(piece)

    def close(self) -> None:
        """End the conversation."""
        if self._closed:
            return
        self._closed = True
        self._link.forget(self.local_id)
        try:
            if self.opened:
                self._link.send(constants.CLSE, self.local_id, self._remote_id)
        except ConnectionLostError:
            return


def _read_banner(name: str, banner: bytes) -> frozenset[str]:
    """Return the features that a device names, or raise if it is in a state that has no shell."""
    kind, _, rest = banner.rstrip(b"\0").decode("utf-8", "replace").partition("::")
    if kind != "device":
        raise DeviceError(f"{name} is not ready: {kind[:40]!r}", hint=state_hint(kind, name))
    fields = dict(field.partition("=")[::2] for field in rest.split(";"))
    return frozenset(fields.get("features", "").split(",")) - {""}


def _reason(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
