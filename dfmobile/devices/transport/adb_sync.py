"""ADB's ``sync`` service: files and folders, with bounded memory.

Versions 1 and 2 of its messages
(https://android.googlesource.com/platform/packages/modules/adb/+/refs/heads/main/file_sync_protocol.h). Version 1
has sizes of 32 bits, and its ``STAT`` does not tell a missing file from one that may not be seen: both are all
zeros. Whole transfers and their checks are the business of ``Transport``.
"""

from __future__ import annotations

import errno
import os
import stat as stat_bits
import struct
import time
from collections.abc import Iterator
from typing import BinaryIO, Literal, NoReturn

from dfmobile.devices.transport.adb_stream import GONE_HINT, AdbStream, read_exactly
from dfmobile.devices.transport.base import ConnectionLostError, FileStat, OnProgress, TransferError
from dfmobile.errors import DeviceError, InputError

CHUNK_BYTES = 1 << 16  # most that one DATA message may hold
_BATCH_BYTES = 4 * CHUNK_BYTES  # sent together: a round trip for each chunk would be slow
_PATH_BYTES = 1024
_NAME_BYTES = 4096  # more than any file system's longest name
_REASON_BYTES = 1 << 16
_MOST_ENTRIES = 200_000
_IDLE_S = 60.0  # a device that writes to slow storage may be silent for long
_KERNEL_FILE_BYTES = 1 << 26  # of a file whose size says 0, more is not taken
_LENGTH = struct.Struct("<4sI")
_STAT_2 = struct.Struct("<4sIQQIIIIQqqq")  # id, error, device, inode, mode, links, user, group, size, times
_ENTRY_1 = struct.Struct("<4sIIII")  # id, mode, size, time, length of the name
_ENTRY_2 = struct.Struct("<4sIQQIIIIQqqqI")


class SyncSession:
    """A conversation with the ``sync`` service.

    Args:
        stream: an open stream to ``sync:``.
    """

    def __init__(self, stream: AdbStream) -> None:
        self._stream = stream
        self._buffer = bytearray()

    def close(self) -> None:
        """End the conversation."""
        self._stream.close()

    def stat_2(self, path: str) -> FileStat | None:
        """Return what is at a path, links followed; None if there is nothing. Only with the feature ``stat_v2``.

        Raises:
            DeviceError: if the device does not let us see.
        """
        self._request(b"STA2", path)
        fields = _STAT_2.unpack(self._read(_STAT_2.size))
        if fields[0] != b"STA2":
            raise _not_sync(fields[0])
        number = fields[1]
        if number in (errno.ENOENT, errno.ENOTDIR):
            return None
        if number:
            raise DeviceError(f"cannot look at {path} on the device: {os.strerror(number)}")
        return file_stat(path, fields[4], fields[8], fields[10])

    def stat_1(self, path: str) -> FileStat | None:
        """Return what is at a path, links not followed, its size modulo 2^32; None if missing or not to be seen."""
        self._request(b"STAT", path)
        name, mode, size, modified = struct.unpack("<4sIII", self._read(16))
        if name != b"STAT":
            raise _not_sync(name)
        return None if mode == 0 else file_stat(path, mode, size, modified)

    def list_folder(self, path: str, version: Literal[1, 2]) -> list[FileStat]:
        """Return what is in a folder, ``.`` and ``..`` included; empty where it cannot be read.

        Sizes are modulo 2^32 in version 1; version 2 needs the feature ``ls_v2``.
        """
        self._request(b"LIST" if version == 1 else b"LIS2", path)
        return list(self._entries(_ENTRY_1 if version == 1 else _ENTRY_2))

    def _entries(self, form: struct.Struct) -> Iterator[FileStat]:
        for _ in range(_MOST_ENTRIES):
            fields = form.unpack(self._read(form.size))
            if fields[0] == b"DONE":
                return
            if fields[0] not in (b"DENT", b"DNT2"):
                raise _not_sync(fields[0])
            if fields[-1] > _NAME_BYTES:
                raise _not_sync(fields[0])
            name = os.fsdecode(self._read(fields[-1]))
            if "/" in name or "\0" in name or not name:
                raise ConnectionLostError(f"the device lists an impossible name: {name[:100]!r}", hint=GONE_HINT)
            if form is _ENTRY_1:
                yield file_stat(name, fields[1], fields[2], fields[3])
            elif fields[1] == 0:
                yield file_stat(name, fields[4], fields[8], fields[10])
            else:
                yield FileStat(name, "other", 0, 0, 0.0)  # there, but not to be seen
        raise DeviceError(f"the folder has more than {_MOST_ENTRIES} entries")

    def send(self, reader: BinaryIO, path: str, mode: int, on_progress: OnProgress | None) -> None:
        """Write a file of the device. Its mode may differ: the daemon gives the group the user's rights.

        Raises:
            DeviceError: if the device refuses (no space, read-only, no such folder).
        """
        total, done = os.fstat(reader.fileno()).st_size, 0
        self._request(b"SEND", f"{path},{stat_bits.S_IFREG | mode}")
        while batch := reader.read(_BATCH_BYTES):
            chunks = [batch[start : start + CHUNK_BYTES] for start in range(0, len(batch), CHUNK_BYTES)]
            self._write(b"".join(_LENGTH.pack(b"DATA", len(chunk)) + chunk for chunk in chunks))
            done += len(batch)
            if self._buffer:
                self._read_status(path)
                raise _not_sync(b"OKAY")  # before the end
            if on_progress is not None:
                on_progress(done, max(total, done))
        self._write(_LENGTH.pack(b"DONE", int(time.time()) & 0xFFFFFFFF))
        self._read_status(path)

    def receive(self, path: str, writer: BinaryIO, total: int, on_progress: OnProgress | None) -> None:
        """Read a file of the device.

        Args:
            path: on the device.
            writer: where to.
            total: its size; 0 for files of the kernel, whose content is more.
            on_progress: called with bytes done and in all.

        Raises:
            DeviceError: if the device refuses.
            TransferError: if more comes than the file had.
        """
        self._request(b"RECV", path)
        done, most = 0, total or _KERNEL_FILE_BYTES
        while True:
            kind, length = _LENGTH.unpack(self._read(_LENGTH.size))
            if kind == b"DONE":
                return
            if kind == b"FAIL":
                self._refused(path, "read", length)
            if kind != b"DATA" or not 0 < length <= CHUNK_BYTES:  # empty ones could go on for ever
                raise _not_sync(kind)
            chunk = self._read(length)
            done += length
            if done > most:
                raise TransferError(f"{path} grew while it was copied", hint="copy it when nothing writes to it")
            writer.write(chunk)
            if on_progress is not None:
                on_progress(done, max(total, done))

    def _request(self, kind: bytes, text: str) -> None:
        encoded = os.fsencode(text)
        if not text.startswith("/") or "\0" in text:
            raise InputError(f"{text!r} is not an absolute path of the device", hint="start it with /")
        if len(encoded) > _PATH_BYTES:
            raise InputError(f"the path {text[:60]!r}… is longer than {_PATH_BYTES} bytes", hint="use a shorter one")
        self._write(_LENGTH.pack(kind, len(encoded)) + encoded)

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            if not self._stream.wait(time.monotonic() + _IDLE_S, to_send=True):
                raise ConnectionLostError(f"the device took nothing for {_IDLE_S:g} s", hint=GONE_HINT)
            if self._stream.readable:  # it answers before the end only to refuse
                self._buffer += self._early_answer()
            if self._stream.writable:
                view = view[self._stream.send(view) :]

    def _early_answer(self) -> bytes:
        data = self._stream.receive()
        if not data:
            raise ConnectionLostError("the device ended the transfer in the middle", hint=GONE_HINT)
        if len(self._buffer) + len(data) >= 4 and not (bytes(self._buffer) + data).startswith((b"FAIL", b"OKAY")):
            raise _not_sync((bytes(self._buffer) + data)[:4])
        if len(self._buffer) > _REASON_BYTES:
            raise _not_sync(b"FAIL")
        return data

    def _read(self, size: int) -> bytes:
        return read_exactly(self._stream, self._buffer, size, _IDLE_S)

    def _read_status(self, path: str) -> None:
        kind, length = _LENGTH.unpack(self._read(_LENGTH.size))
        if kind == b"OKAY":
            return
        if kind == b"FAIL":
            self._refused(path, "write", length)
        raise _not_sync(kind)

    def _refused(self, path: str, action: str, length: int) -> NoReturn:
        reason = self._read(min(length, _REASON_BYTES)).decode("utf-8", "replace").strip()[:300]
        raise DeviceError(f"cannot {action} {path} on the device: {reason}", hint=storage_hint(reason))


def storage_hint(reason: str) -> str:
    """Return what to do about a device's refusal, by the words of its C library."""
    lower = reason.lower()
    if "no space left" in lower or "quota" in lower:
        return "free space on the device, e.g. remove old files from /data/local/tmp"
    if "read-only file system" in lower:
        return "use a folder that can be written, e.g. below /data/local/tmp; a reboot may help if that cannot either"
    if "permission denied" in lower or "not permitted" in lower:
        return "use a path that the shell user may access, e.g. below /data/local/tmp"
    if "no such file" in lower or "couldn't create" in lower:
        return "check the path; its folder must be there"
    return ""


def file_stat(path: str, mode: int, size: int, modified: float) -> FileStat:
    """Return a ``FileStat`` from what ``stat`` gives."""
    kind: Literal["file", "folder", "other"] = "other"
    if stat_bits.S_ISREG(mode):
        kind = "file"
    elif stat_bits.S_ISDIR(mode):
        kind = "folder"
    return FileStat(path, kind, 0 if kind == "folder" else size, stat_bits.S_IMODE(mode), float(modified))


def _not_sync(kind: bytes) -> ConnectionLostError:
    return ConnectionLostError(f"the device sent what is not the sync protocol: {kind!r}", hint=GONE_HINT)
