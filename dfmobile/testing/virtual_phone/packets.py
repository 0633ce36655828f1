"""Packets of the ADB protocol: bytes in, packets out, and back. Knows no sockets and no services.

A packet is a header of 24 bytes, little-endian (command, two arguments, length and checksum of the data, the command
inverted), and its data. What comes is untrusted: nothing is believed before it is checked, and no more is kept than
one packet of the agreed size.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Literal

from dfmobile.errors import DeviceError

CONNECT = b"CNXN"
AUTHENTICATE = b"AUTH"
OPEN = b"OPEN"
READY = b"OKAY"
WRITE = b"WRTE"
CLOSE = b"CLSE"

VERSION_WITH_CHECKSUMS = 0x01000000
VERSION_WITHOUT_CHECKSUMS = 0x01000001

AUTH_TOKEN = 1
AUTH_SIGNATURE = 2
AUTH_PUBLIC_KEY = 3

HEADER = struct.Struct("<4s5I")

Mode = Literal["modern", "old"]


class PacketError(DeviceError):
    """What came is no packet; the connection cannot be used any more."""


@dataclass(frozen=True)
class Packet:
    """One packet.

    Attributes:
        command: four bytes, e.g. ``b"OPEN"``.
        argument0: meaning depends on the command.
        argument1: likewise.
        data: bytes.
    """

    command: bytes
    argument0: int = 0
    argument1: int = 0
    data: bytes = b""

    def encode(self, *, checksum: bool) -> bytes:
        """Return the packet's bytes; with the data's checksum, or 0 where both sides do without."""
        (number,) = struct.unpack("<I", self.command)
        total = sum(self.data) & 0xFFFFFFFF if checksum else 0
        return (
            HEADER.pack(self.command, self.argument0, self.argument1, len(self.data), total, number ^ 0xFFFFFFFF)
            + self.data
        )


class PacketDecoder:
    """Cuts a stream of bytes into packets.

    Args:
        max_data_bytes: most that one packet's data may have; can be changed when it was agreed on.
        checksums: whether the data's checksum is looked at; likewise.
    """

    def __init__(self, max_data_bytes: int, *, checksums: bool) -> None:
        self.max_data_bytes = max_data_bytes
        self.checksums = checksums
        self._buffer = bytearray()

    def feed(self, data: bytes) -> None:
        """Take bytes as they came."""
        self._buffer += data

    def next_packet(self) -> Packet | None:
        """Return the next whole packet, None if more bytes are needed.

        Raises:
            PacketError: if what came cannot be a packet.
        """
        if len(self._buffer) < HEADER.size:
            return None
        command, argument0, argument1, size, checksum, magic = HEADER.unpack_from(self._buffer)
        if int.from_bytes(command, "little") ^ 0xFFFFFFFF != magic:
            raise PacketError(f"no packet: the header {bytes(self._buffer[:24]).hex()} contradicts itself")
        if size > self.max_data_bytes:
            raise PacketError(f"a packet of {size} bytes, {self.max_data_bytes} are allowed")
        end = HEADER.size + size
        if len(self._buffer) < end:
            return None
        data = bytes(memoryview(self._buffer)[HEADER.size : end])
        del self._buffer[:end]
        if self.checksums and sum(data) & 0xFFFFFFFF != checksum:
            raise PacketError("a packet arrived damaged: its checksum differs")
        return Packet(command, argument0, argument1, data)
