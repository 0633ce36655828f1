"""One stream of a connection: ordered bytes both ways, with the protocol's flow control (one packet on its way)."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

from dfmobile.testing.virtual_phone import packets
from dfmobile.testing.virtual_phone.packets import Packet, PacketError

_MAX_WAITING = 64  # packets that a client sent although it was not told to go on


class StreamClosedError(Exception):
    """The other side closed the stream, or the connection is gone."""


class Stream:
    """A stream that a client opened.

    Args:
        local_id: its number here.
        remote_id: its number at the client.
        max_data_bytes: most that one packet carries.
        send: puts a packet on the wire.
        forget: called once, when the stream is over.
    """

    def __init__(
        self,
        local_id: int,
        remote_id: int,
        max_data_bytes: int,
        send: Callable[[Packet], None],
        forget: Callable[[Stream], None],
    ) -> None:
        self.local_id = local_id
        self.remote_id = remote_id
        self._max_data_bytes = max_data_bytes
        self._send = send
        self._forget = forget
        self._changed = threading.Condition()
        self._received: deque[bytes] = deque()
        self._rest = b""
        self._may_write = True
        self._closed = False
        self._on_close: Callable[[], None] | None = None

    # Called by the connection

    def deliver(self, data: bytes) -> None:
        """Take a WRITE of the client.

        Raises:
            PacketError: if the client writes on and on without waiting.
        """
        with self._changed:
            if len(self._received) >= _MAX_WAITING:
                raise PacketError("the client does not wait until it may write")
            if not self._closed:
                self._received.append(data)
            self._changed.notify_all()

    def allow(self) -> None:
        """Take a READY of the client: the next packet may go."""
        with self._changed:
            self._may_write = True
            self._changed.notify_all()

    def end(self) -> None:
        """Take a CLOSE of the client, or the end of the connection."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
            on_close = self._on_close
        self._forget(self)
        if on_close is not None:
            on_close()

    # Called by a service

    def when_closed(self, action: Callable[[], None]) -> None:
        """Call this when the other side closes; at once if it has."""
        with self._changed:
            self._on_close = action
            closed = self._closed
        if closed:
            action()

    def write(self, data: bytes) -> None:
        """Send bytes; returns when they are on the wire.

        Raises:
            StreamClosedError: if there is nobody to send them to.
        """
        for start in range(0, len(data), self._max_data_bytes):
            with self._changed:
                while not self._may_write and not self._closed:
                    self._changed.wait()
                if self._closed:
                    raise StreamClosedError
                self._may_write = False
            piece = data[start : start + self._max_data_bytes]
            self._send(Packet(packets.WRITE, self.local_id, self.remote_id, piece))

    def read(self) -> bytes:
        """Return the next bytes; empty when the other side has closed."""
        if self._rest:
            data, self._rest = self._rest, b""
            return data
        data = b""
        while not data:
            with self._changed:
                while not self._received and not self._closed:
                    self._changed.wait()
                if not self._received:
                    return b""
                data = self._received.popleft()
                closed = self._closed
            if not closed:
                self._send(Packet(packets.READY, self.local_id, self.remote_id))
        return data

    def read_exactly(self, size: int) -> bytes:
        """Return so many bytes.

        Raises:
            StreamClosedError: if the other side closed before.
        """
        pieces = []
        while size:
            data = self.read()
            if not data:
                raise StreamClosedError
            pieces.append(data[:size])
            self._rest = data[size:]
            size -= len(pieces[-1])
        return b"".join(pieces)

    def close(self) -> None:
        """Close it from here, when what was written has been taken."""
        with self._changed:
            while not self._may_write and not self._closed:
                self._changed.wait()
            if self._closed:
                return
            self._closed = True
            self._changed.notify_all()
        self._forget(self)
        self._send(Packet(packets.CLOSE, self.local_id, self.remote_id))
