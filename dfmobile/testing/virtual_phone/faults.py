"""What can go wrong with a phone and its cable, to be switched on by tests."""

from __future__ import annotations

import threading
from dataclasses import dataclass


@dataclass
class Faults:
    """Faults of a virtual phone. May be replaced or changed while it runs; counts start when it is given to a phone.

    Attributes:
        drop_after_bytes: after so many bytes of data (both directions together, all connections) every connection
            breaks, in the middle of whatever it carries.
        drops: how often that happens, each after another ``drop_after_bytes``.
        stall_after_bytes: after so many bytes of data the phone sends nothing for ``stall_s``; once.
        stall_s: seconds; 0 is no stall.
        chunk_bytes: most that is written to or read from a socket at once.
        corrupt_after_bytes: one bit of the next file is flipped at this offset, pushed or pulled; no checksum of
            the protocol notices it. Once.
        garble_after_bytes: one bit of what the phone sends is flipped at this offset, headers included. Once.
        disk_full_after_bytes: each push fails with "No space left on device" after so many bytes.
        read_only: /data cannot be written, by pushes and by commands.
    """

    drop_after_bytes: int | None = None
    drops: int = 1
    stall_after_bytes: int = 0
    stall_s: float = 0.0
    chunk_bytes: int | None = None
    corrupt_after_bytes: int | None = None
    garble_after_bytes: int | None = None
    disk_full_after_bytes: int | None = None
    read_only: bool = False


class FaultCounter:
    """Counts what went over the wire, and says when a fault is due. Safe to use from several threads."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self._lock = threading.Lock()
        self._data_bytes = 0
        self._sent_bytes = 0
        self._dropped = 0
        self._stalled = False
        self._garbled = False
        self._corrupted = False

    def drop_due(self, size: int) -> bool:
        """Count bytes of data; True if the connections have to break now."""
        with self._lock:
            self._data_bytes += size
            every = self.faults.drop_after_bytes
            if every is None or self._dropped >= self.faults.drops:
                return False
            if self._data_bytes < every * (self._dropped + 1):
                return False
            self._dropped += 1
            return True

    def stall_due(self) -> float:
        """Return how many seconds to wait now."""
        with self._lock:
            if self._stalled or not self.faults.stall_s or self._data_bytes < self.faults.stall_after_bytes:
                return 0.0
            self._stalled = True
            return self.faults.stall_s

    def garble(self, data: bytes) -> bytes:
        """Count bytes that the phone sends; return them, one bit flipped where that is due."""
        with self._lock:
            offset = self.faults.garble_after_bytes
            start, self._sent_bytes = self._sent_bytes, self._sent_bytes + len(data)
            if offset is None or self._garbled or not start <= offset < self._sent_bytes:
                return data
            self._garbled = True
            return _flip(data, offset - start)

    def corrupt(self, data: bytes, offset_in_file: int) -> bytes:
        """Return a piece of a file, one bit flipped where that is due."""
        with self._lock:
            offset = self.faults.corrupt_after_bytes
            if offset is None or self._corrupted or not offset_in_file <= offset < offset_in_file + len(data):
                return data
            self._corrupted = True
            return _flip(data, offset - offset_in_file)


def _flip(data: bytes, position: int) -> bytes:
    changed = bytearray(data)
    changed[position] ^= 1
    return bytes(changed)
