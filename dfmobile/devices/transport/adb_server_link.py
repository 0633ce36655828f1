"""Streams to a device through the host's adb server, over adbutils' connection to it.

adbutils starts a server by itself where none runs, sleeps at each close, and asks the server for its version before
each stream: the subclasses here do none of that. Imports the library at once: see ``adb_server``.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import socket
import time
from dataclasses import dataclass

from adbutils import AdbClient, AdbConnection, AdbError

from dfmobile.devices.transport.adb_states import server_port
from dfmobile.devices.transport.adb_stream import GONE_HINT, AdbLink, AdbStream
from dfmobile.devices.transport.base import ConnectionLostError
from dfmobile.errors import DeviceError, InputError

_CONNECT_S = 5.0
_REQUEST_LIMIT_BYTES = 0xFFFF  # four hexadecimal digits
_OLD_LIMIT_BYTES = 4096  # a daemon without shell,v2 takes no longer message
_CHUNK_BYTES = 1 << 16
_LINE = re.compile(r"(\S+)\s+(no permissions|\S+)(.*)")
_FIELD = re.compile(r"(product|model|device):(\S+)")
_START_HINT = "start it with: adb start-server (packages: adb on Debian and Ubuntu, or Android SDK Platform-Tools)"


@dataclass(frozen=True)
class ServerEntry:
    """A line of ``adb devices -l``.

    Attributes:
        serial: of the device.
        state: as adb calls it: ``device``, ``unauthorized``, ``offline``, …
        description: model and product, as far as known.
    """

    serial: str
    state: str
    description: str


class _Connection(AdbConnection):  # type: ignore[misc]  # the library is untyped for us
    """A connection to the server that starts no server and closes at once."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        super().__init__(host, port)

    def _safe_connect(self) -> socket.socket:
        opened = socket.create_connection(self._address, timeout=_CONNECT_S)
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return opened

    def close(self) -> None:
        if not self.closed:
            self.conn.close()


class _Client(AdbClient):  # type: ignore[misc]
    """The server of this machine."""

    def make_connection(self, timeout: float | None = None) -> _Connection:
        try:
            made = _Connection(self.host, self.port)
        except (AdbError, OSError) as error:
            raise DeviceError(f"no adb server answers on {self.host} port {self.port}", hint=_START_HINT) from error
        made.conn.settimeout(timeout if timeout is not None else _CONNECT_S)
        return made


def _client() -> _Client:
    return _Client(os.environ.get("ANDROID_ADB_SERVER_HOST", "") or "127.0.0.1", server_port())


def _ask(client: _Client, request: str) -> str:
    """Return the server's answer to a request.

    Raises:
        DeviceError: with the server's words if it refuses, or breaks off.
    """
    connection = client.make_connection()
    try:
        connection.conn.sendall(_request(request.encode()))
        connection.check_okay()
        answer: str = connection.read_string_block()
    except (AdbError, OSError, ValueError) as error:
        raise DeviceError(f"the adb server refuses {request!r}: {_words(error)}", hint=_RESTART_HINT) from error
    finally:
        connection.close()
    return answer


def _request(service: bytes) -> bytes:
    if len(service) > _REQUEST_LIMIT_BYTES:
        raise InputError(f"a request of {len(service)} bytes is too long for the adb server")
    return b"%04x" % len(service) + service


def list_entries() -> list[ServerEntry]:
    """Return the devices that the server knows.

    Raises:
        DeviceError: if no server runs.
    """
    return parse_entries(_ask(_client(), "host:devices-l"))


def parse_entries(text: str) -> list[ServerEntry]:
    """Read what ``adb devices -l`` prints below its heading."""
    found = []
    for line in text.splitlines():
        match = _LINE.fullmatch(line.strip())
        if match is not None:
            fields = dict(_FIELD.findall(match[3]))
            words = [fields.get("model", "").replace("_", " "), fields.get("product", "")]
            found.append(ServerEntry(match[1], match[2], ", ".join(dict.fromkeys(filter(None, words)))))
    return found


class ServerLink(AdbLink):
    """A device through the server. Each stream is a connection of its own to the server.

    Args:
        serial: of the device.

    Raises:
        DeviceError: if no server runs, or it does not have the device.
    """

    def __init__(self, serial: str) -> None:
        self._serial = serial
        self._client = _client()
        self._streams: list[ServerStream] = []
        self._closed = False
        self.features = frozenset(_ask(self._client, f"host-serial:{serial}:features").split(",")) - {""}
        self.command_limit_bytes = (1 << 15 if "shell_v2" in self.features else _OLD_LIMIT_BYTES) - 64

    def open_stream(self, service: bytes, deadline: float) -> AdbStream:
        """Open a stream to a service."""
        if self._closed:
            raise ConnectionLostError(f"the connection to {self._serial} is closed", hint=GONE_HINT)
        try:
            connection = self._client.make_connection(max(deadline - time.monotonic(), 0.1))
        except DeviceError as error:
            raise ConnectionLostError(str(error), error.hint) from error
        try:
            for request in (b"host:transport:" + self._serial.encode(), service):
                connection.conn.sendall(_request(request))
                connection.check_okay()
        except (AdbError, OSError, ValueError) as error:
            connection.close()
            raise self._refused(service, error) from error
        except BaseException:
            connection.close()
            raise
        stream = ServerStream(self, connection.conn)
        self._streams.append(stream)
        return stream

    def _refused(self, service: bytes, error: Exception) -> DeviceError:
        words = _words(error)
        kind = service[:20].decode("ascii", "replace")
        if isinstance(error, OSError) or not words or any(word in words for word in _GONE_WORDS):
            return ConnectionLostError(f"adb:{self._serial} went away: {words or 'no answer'}", hint=GONE_HINT)
        return DeviceError(f"adb:{self._serial} refuses {kind!r}: {words}", hint=_RESTART_HINT)

    def forget(self, stream: ServerStream) -> None:
        """Take a stream out of the list."""
        if stream in self._streams:
            self._streams.remove(stream)

    def close(self) -> None:
        """Let go of the device."""
        self._closed = True
        for stream in list(self._streams):
            stream.close()


class ServerStream(AdbStream):
    """A connection to the server that has become a stream to the device."""

    def __init__(self, link: ServerLink, connection: socket.socket) -> None:
        self._link = link
        self._socket: socket.socket | None = connection
        connection.setblocking(False)

    @property
    def readable(self) -> bool:
        """Whether bytes are here, or the end."""
        return bool(self._poll(select.POLLIN, 0) & ~select.POLLOUT)

    @property
    def writable(self) -> bool:
        """Whether the server takes more."""
        return bool(self._poll(select.POLLOUT, 0) & select.POLLOUT)

    def wait(self, deadline: float, *, to_send: bool) -> bool:
        """Wait until something can be received, or sent where that is asked for."""
        events = select.POLLIN | (select.POLLOUT if to_send else 0)
        return self._poll(events, max(deadline - time.monotonic(), 0)) != 0

    def receive(self) -> bytes:
        """Return what has come; empty at the end."""
        try:
            return self._opened().recv(_CHUNK_BYTES)
        except OSError as error:
            raise ConnectionLostError(f"the adb server broke off: {_words(error)}", hint=GONE_HINT) from error

    def send(self, data: bytes | memoryview) -> int:
        """Send the beginning of ``data``."""
        try:
            return self._opened().send(data[:_CHUNK_BYTES])
        except BlockingIOError:
            return 0
        except OSError as error:
            # The device may have answered and closed before it read all: its answer is still to be read.
            if isinstance(error, (BrokenPipeError, ConnectionResetError)) and self.readable:
                return len(data)
            raise ConnectionLostError(f"the adb server broke off: {_words(error)}", hint=GONE_HINT) from error

    def close(self) -> None:
        """End the conversation."""
        opened, self._socket = self._socket, None
        if opened is not None:
            with contextlib.suppress(OSError):
                opened.close()
            self._link.forget(self)

    def _opened(self) -> socket.socket:
        if self._socket is None:
            raise ConnectionLostError("the stream is closed", hint=GONE_HINT)
        return self._socket

    def _poll(self, events: int, timeout_s: float) -> int:
        poll = select.poll()
        poll.register(self._opened(), events)
        return next((found for _, found in poll.poll(timeout_s * 1000)), 0)


def _words(error: Exception) -> str:
    return " ".join(str(error).split())[:200]


# What the server says of a device that it has no more, or that does not answer.
_GONE_WORDS = ("not found", "offline", "closed", "no devices", "unauthorized", "connection", "device still")
_RESTART_HINT = "adb devices shows its state; if it does not answer: adb kill-server, adb start-server"
