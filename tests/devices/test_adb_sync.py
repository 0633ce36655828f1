"""ADB's file service as a device may misuse it: nothing hangs, nothing grows without bound."""

from __future__ import annotations

import io
import struct

import pytest

from dfmobile.devices.transport.adb_stream import AdbStream
from dfmobile.devices.transport.adb_sync import SyncSession
from dfmobile.devices.transport.base import ConnectionLostError, TransferError


class Told(AdbStream):
    """A device that says the same again and again.

    Args:
        answer: said first.
        again: said then, without end.
    """

    def __init__(self, answer: bytes, again: bytes = b"") -> None:
        self._answer, self._again = answer, again
        self.taken = 0

    @property
    def readable(self) -> bool:
        return False

    @property
    def writable(self) -> bool:
        return True

    def wait(self, deadline: float, *, to_send: bool) -> bool:
        return True

    def receive(self) -> bytes:
        data, self._answer = self._answer, self._again
        self.taken += 1
        assert self.taken < 10_000, "it listens for ever"
        return data

    def send(self, data: bytes | memoryview) -> int:
        return len(data)

    def close(self) -> None:
        pass


def header(kind: bytes, length: int) -> bytes:
    return struct.pack("<4sI", kind, length)


def test_empty_pieces_without_end_are_refused() -> None:
    session = SyncSession(Told(header(b"DATA", 0), header(b"DATA", 0)))
    with pytest.raises(ConnectionLostError, match="not the sync protocol"):
        session.receive("/data/file", io.BytesIO(), 10, None)


def test_no_more_is_taken_than_the_file_had() -> None:
    piece = header(b"DATA", 1000) + bytes(1000)
    with pytest.raises(TransferError, match="grew"):
        SyncSession(Told(piece, piece)).receive("/data/file", io.BytesIO(), 5000, None)


def test_a_folder_without_end_is_refused() -> None:
    long_name = struct.pack("<4sIIII", b"DENT", 0o100644, 1, 1, 1 << 20)
    with pytest.raises(ConnectionLostError, match="not the sync protocol"):
        SyncSession(Told(long_name, long_name)).list_folder("/data/", 1)


@pytest.mark.parametrize("name", [b"../../etc/passwd", b"a/b", b"a\0b", b""])
def test_impossible_names_in_a_listing(name: bytes) -> None:
    entry = struct.pack("<4sIIII", b"DENT", 0o100644, 1, 1, len(name)) + name
    with pytest.raises(ConnectionLostError, match="impossible name"):
        SyncSession(Told(entry)).list_folder("/data/", 1)
