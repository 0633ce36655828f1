"""The phone's file service (``sync:``): stat, list, send, receive; version 1, and version 2 where it was announced."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from dfmobile.testing.virtual_phone.faults import FaultCounter
from dfmobile.testing.virtual_phone.phone_system import PhoneSystem
from dfmobile.testing.virtual_phone.stream import Stream, StreamClosedError

_REQUEST = struct.Struct("<4sI")
_STAT = struct.Struct("<4s3I")
_STAT_2 = struct.Struct("<4sI2Q4IQ3q")
_ENTRY = struct.Struct("<4s4I")
_ENTRY_2 = struct.Struct("<4sI2Q4IQ3qI")
_DATA_BYTES = 64 * 1024
_PATH_BYTES = 1024


class _RefusedError(Exception):
    """The phone says FAIL, with this text, and the session is over."""


class SyncService:
    """One session.

    Args:
        stream: to the client.
        system: the phone's files.
        counter: faults.
        versions: what it may be asked: 1, and 2.
    """

    def __init__(self, stream: Stream, system: PhoneSystem, counter: FaultCounter, versions: tuple[int, ...]) -> None:
        self._stream = stream
        self._system = system
        self._counter = counter
        self._versions = versions

    def run(self) -> None:
        """Serve until the client quits or goes away."""
        requests = {b"STAT": self._stat, b"LIST": self._list, b"SEND": self._receive_file, b"RECV": self._send_file}
        if 2 in self._versions:
            requests.update({b"STA2": self._stat_2, b"LST2": self._link_stat_2, b"LIS2": self._list_2})
        with contextlib.suppress(StreamClosedError):
            try:
                while True:
                    name, size = _REQUEST.unpack(self._stream.read_exactly(_REQUEST.size))
                    path = self._path(size)
                    if name == b"QUIT":
                        break
                    requests.get(name, self._unknown)(path)
            except _RefusedError as refusal:
                self._fail(str(refusal))
        self._stream.close()

    def _path(self, size: int) -> str:
        if size > _PATH_BYTES:
            raise _RefusedError("path too long")
        return os.fsdecode(self._stream.read_exactly(size)).partition("\0")[0]

    def _unknown(self, path: str) -> None:
        raise _RefusedError("unknown command")

    def _fail(self, text: str) -> None:
        message = text.encode("utf-8", "surrogateescape")
        self._stream.write(_REQUEST.pack(b"FAIL", len(message)) + message)

    # What is there

    def _stat(self, path: str) -> None:
        try:
            found = os.lstat(self._system.on_host(path, follow_last=False))
        except OSError:
            self._stream.write(_STAT.pack(b"STAT", 0, 0, 0))
            return
        # Sizes of 4 GiB and more wrap: so they do on a phone.
        self._stream.write(
            _STAT.pack(b"STAT", found.st_mode, found.st_size & 0xFFFFFFFF, int(found.st_mtime) & 0xFFFFFFFF)
        )

    def _stat_2(self, path: str) -> None:
        self._write_stat_2(b"STA2", path, follow=True)

    def _link_stat_2(self, path: str) -> None:
        self._write_stat_2(b"LST2", path, follow=False)

    def _write_stat_2(self, name: bytes, path: str, *, follow: bool) -> None:
        try:
            found = os.lstat(self._system.on_host(path, follow_last=follow))
        except OSError as error:
            self._stream.write(_STAT_2.pack(name, error.errno or errno.EIO, *([0] * 10)))
            return
        self._stream.write(_STAT_2.pack(name, 0, *_stat_fields(found)))

    def _list(self, path: str) -> None:
        for name, found in self._entries(path):
            mtime = int(found.st_mtime) & 0xFFFFFFFF
            self._stream.write(_ENTRY.pack(b"DENT", found.st_mode, found.st_size & 0xFFFFFFFF, mtime, len(name)) + name)
        self._stream.write(_ENTRY.pack(b"DONE", 0, 0, 0, 0))

    def _list_2(self, path: str) -> None:
        for name, found in self._entries(path):
            self._stream.write(_ENTRY_2.pack(b"DNT2", 0, *_stat_fields(found), len(name)) + name)
        self._stream.write(_ENTRY_2.pack(b"DONE", *([0] * 12)))

    def _entries(self, path: str) -> list[tuple[bytes, os.stat_result]]:
        """Return what is in a folder; nothing where there is none, as a phone does."""
        entries = []
        with contextlib.suppress(OSError):
            place = self._system.on_host(path)
            self._system.check_readable(place)
            for name in (".", "..", *os.listdir(place)):
                with contextlib.suppress(OSError):
                    entries.append((os.fsencode(name), os.lstat(place / name)))
        return entries

    # Transfers

    def _send_file(self, path: str) -> None:
        sent = 0
        try:
            place = self._system.on_host(path)
            self._system.check_readable(place)
            with place.open("rb") as file:
                while data := file.read(_DATA_BYTES - 8):
                    data = self._counter.corrupt(data, sent)
                    self._stream.write(_REQUEST.pack(b"DATA", len(data)) + data)
                    sent += len(data)
        except OSError as error:
            what = "read failed" if sent or error.errno == errno.EISDIR else "open failed"
            raise _RefusedError(f"{what}: {error.strerror}") from error
        self._stream.write(_REQUEST.pack(b"DONE", 0))

    def _receive_file(self, specification: str) -> None:
        path, comma, mode_text = specification.rpartition(",")
        if not comma:
            raise _RefusedError("missing , in ID_SEND")
        try:
            mode = int(mode_text, 0 if mode_text.startswith("0x") else 8 if mode_text.startswith("0") else 10)
        except ValueError:
            raise _RefusedError("bad mode") from None
        mode &= 0xFFFFFFFF
        place = self._new_place(path)
        if stat.S_ISLNK(mode):
            self._receive_link(place)
            return
        mode &= 0o777
        mode |= mode >> 3 & 0o070
        mode |= mode >> 3 & 0o007
        try:
            with place.open("wb") as file:
                self._system.give_to_shell(place)
                place.chmod(mode)
                modified = self._receive_data(file.write)
        except (OSError, _RefusedError) as error:
            with contextlib.suppress(OSError):
                place.unlink()
            if isinstance(error, OSError):
                self._refuse_push(f"write failed: {error.strerror}")
            raise
        except StreamClosedError:
            with contextlib.suppress(OSError):
                place.unlink()  # half a file does not stay on a phone
            raise
        with contextlib.suppress(OSError):  # somebody was quicker and removed it
            os.utime(place, (modified, modified))
        self._stream.write(_REQUEST.pack(b"OKAY", 0))

    def _new_place(self, path: str) -> Path:
        """Return where a new file goes: its folder made, what was there before removed."""
        try:
            place = self._system.on_host(path, follow_last=False)
            self._system.check_writable(place, read_only=self._counter.faults.read_only)
            missing = [parent for parent in place.parents if not parent.exists()]
            for parent in reversed(missing):
                parent.mkdir(mode=0o775)
                self._system.give_to_shell(parent)
            if not place.is_dir():
                place.unlink(missing_ok=True)
        except OSError as error:
            self._refuse_push(f"couldn't create file: {error.strerror}")
        return place

    def _refuse_push(self, text: str) -> NoReturn:
        """Say no, then read on to the end of the data: older clients look for an answer only then."""
        self._fail(text)
        while True:
            name, size = _REQUEST.unpack(self._stream.read_exactly(_REQUEST.size))
            if name != b"DATA" or size > _DATA_BYTES:
                raise StreamClosedError
            self._stream.read_exactly(size)

    def _receive_data(self, write: Callable[[bytes], object]) -> int:
        """Take the data of a push; return the time that the client gives the file."""
        received = 0
        while True:
            name, size = _REQUEST.unpack(self._stream.read_exactly(_REQUEST.size))
            if name == b"DONE":
                return int(size)
            if name != b"DATA":
                raise _RefusedError("invalid data message")
            if size > _DATA_BYTES:
                raise _RefusedError("oversize data message")
            data = self._counter.corrupt(self._stream.read_exactly(size), received)
            received += size
            full = self._counter.faults.disk_full_after_bytes
            if full is not None and received > full:
                self._refuse_push(f"write failed: {os.strerror(errno.ENOSPC)}")
            write(data)

    def _receive_link(self, place: Path) -> None:
        pieces: list[bytes] = []
        self._receive_data(pieces.append)
        target = os.fsdecode(b"".join(pieces)).partition("\0")[0]
        try:
            place.symlink_to(target)
        except (OSError, ValueError) as error:
            raise _RefusedError(f"symlink failed: {error}") from error
        self._stream.write(_REQUEST.pack(b"OKAY", 0))


def _stat_fields(found: os.stat_result) -> tuple[int, ...]:
    return (
        found.st_dev, found.st_ino, found.st_mode, found.st_nlink, found.st_uid, found.st_gid, found.st_size,
        int(found.st_atime), int(found.st_mtime), int(found.st_ctime),
    )  # fmt: skip
