"""Bytes to an ADB daemon over TCP, as adb-shell wants a pipe (``BaseTransport``).

Unlike the library's own ``TcpTransport``: everything is sent, not only what the first ``send`` took; small messages
are not held back (``TCP_NODELAY``); a peer that closed is an error at once, not an empty read to try again; dead
peers are found out by keep-alive; IPv6 works. Imports the library at once: see ``adb_wire``.
"""

from __future__ import annotations

import contextlib
import socket

from adb_shell.exceptions import AdbTimeoutError
from adb_shell.transport.base_transport import BaseTransport

from dfmobile.errors import DeviceError

_KEEP_ALIVE = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))  # seconds, seconds, times
_DEFAULT_S = 10.0


class TcpPipe(BaseTransport):  # type: ignore[misc]  # the library is untyped
    """A TCP connection.

    Args:
        host: name or address.
        port: number.
    """

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._socket: socket.socket | None = None

    def connect(self, transport_timeout_s: float | None) -> None:
        """Connect.

        Raises:
            DeviceError: if nobody answers there.
        """
        host, port = self._address
        try:
            opened = socket.create_connection(self._address, timeout=transport_timeout_s or _DEFAULT_S)
        except OSError as error:
            raise DeviceError(
                f"cannot connect to {host} port {port}: {_words(error)}",
                hint="check the address, that the phone is on and in this network, and that it listens: adb tcpip 5555",
            ) from error
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _KEEP_ALIVE:
            if hasattr(socket, name):  # not everywhere the same
                opened.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        self._socket = opened

    def close(self) -> None:
        """Close the connection; nothing open is no error."""
        opened, self._socket = self._socket, None
        if opened is not None:
            with contextlib.suppress(OSError):
                opened.close()

    def bulk_read(self, numbytes: int, transport_timeout_s: float | None) -> bytes:
        """Return some bytes, at least one.

        Raises:
            AdbTimeoutError: if none came in time.
            OSError: if the peer is gone.
        """
        opened = self._opened(transport_timeout_s)
        try:
            data = opened.recv(numbytes)
        except TimeoutError as error:
            raise AdbTimeoutError(f"nothing came within {transport_timeout_s} s") from error
        if not data:
            raise ConnectionResetError("the other side closed the connection")
        return data

    def bulk_write(self, data: bytes, transport_timeout_s: float | None) -> int:
        """Send all bytes; return how many.

        Raises:
            AdbTimeoutError: if they were not taken in time; some of them are out then.
            OSError: if the peer is gone.
        """
        try:
            self._opened(transport_timeout_s).sendall(data)  # the time is for all of them together
        except TimeoutError as error:
            raise AdbTimeoutError(f"it did not take {len(data)} bytes within {transport_timeout_s} s") from error
        return len(data)

    def _opened(self, timeout_s: float | None) -> socket.socket:
        if self._socket is None:
            raise ConnectionResetError("the connection is closed")
        self._socket.settimeout(max(timeout_s if timeout_s is not None else _DEFAULT_S, 0.001))
        return self._socket


def _words(error: OSError) -> str:
    if isinstance(error, (TimeoutError, socket.timeout)):
        return "no answer"
    return error.strerror or str(error)
