"""Framing of ADB's ``shell,v2`` service: stdin, stdout, stderr and the exit code in one stream.

A packet is one byte of id, four bytes of length (little-endian), and that many bytes. Ids: 0 stdin, 1 stdout,
2 stderr, 3 exit code (one byte), 4 close stdin, 5 size of the window
(https://android.googlesource.com/platform/packages/modules/adb/+/refs/heads/main/shell_protocol.h).
Pure bytes: knows no connection.
"""

from __future__ import annotations

import struct

from dfmobile.devices.transport.base import ConnectionLostError

_HEADER = struct.Struct("<BI")
HEADER_BYTES = _HEADER.size
STDIN, STDOUT, STDERR, EXIT, CLOSE_STDIN, WINDOW_SIZE = range(6)
_MAX_PACKET_BYTES = 1 << 24  # daemons send at most one ADB packet (1 MiB)


def encode(kind: int, data: bytes | memoryview = b"") -> bytes:
    """Return a packet."""
    return _HEADER.pack(kind, len(data)) + bytes(data)


class ShellV2Decoder:
    """Take the stream apart, however it was cut.

    The content of a long packet is handed on as it comes, so memory is bounded by what one ``feed`` brings.

    Attributes:
        exit_code: None until it has come.
    """

    def __init__(self) -> None:
        self.exit_code: int | None = None
        self._header = bytearray()
        self._kind = 0
        self._missing = 0  # bytes of the present packet still to come

    @property
    def in_packet(self) -> bool:
        """Whether the stream, were it to end now, would end in the middle of a packet."""
        return bool(self._header) or self._missing > 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Return the output that these bytes bring: pairs of ``STDOUT`` or ``STDERR`` and bytes.

        Raises:
            ConnectionLostError: if this is not the protocol.
        """
        found: list[tuple[int, bytes]] = []
        view, place = memoryview(data), 0
        while place < len(view):
            if self._missing == 0:
                take = min(HEADER_BYTES - len(self._header), len(view) - place)
                self._header += view[place : place + take]
                place += take
                if len(self._header) == HEADER_BYTES:
                    self._begin()
                continue
            take = min(self._missing, len(view) - place)
            piece = bytes(view[place : place + take])
            place += take
            self._missing -= take
            if self._kind in (STDOUT, STDERR):
                found.append((self._kind, piece))
            elif self._kind == EXIT and self.exit_code is None:
                self.exit_code = piece[0]
        return found

    def _begin(self) -> None:
        self._kind, self._missing = _HEADER.unpack(self._header)
        self._header.clear()
        wrong = self._kind > WINDOW_SIZE or self._missing > _MAX_PACKET_BYTES
        if wrong or (self._kind == EXIT and self._missing != 1):
            raise ConnectionLostError(
                f"the device sent what is not the shell protocol (id {self._kind}, {self._missing} bytes)",
                hint="run again; if it happens again, check the connection (cable, port, network)",
            )
