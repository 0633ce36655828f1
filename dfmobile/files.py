"""Files that are whole or absent, and locks that name their holder.

Half-written files never replace whole ones: everything is written beside its target and renamed. Operating
system errors become one clear line. Floor 1.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from dfmobile.errors import FileFormatError, LockedError, StorageError

_REASONS = {
    errno.ENOSPC: ("no space left on the disk", "free some space and run the command again"),
    errno.EDQUOT: ("the disk quota is used up", "free some space and run the command again"),
    errno.EROFS: ("the file system is read-only", "choose another output folder"),
    errno.EACCES: ("permission denied", "choose another output folder, or change its permissions"),
    errno.EPERM: ("operation not permitted", "choose another output folder, or change its permissions"),
    errno.ENOENT: ("no such file or folder", "check the path"),
    errno.ENOTDIR: ("part of the path is a file, not a folder", "check the path"),
    errno.EEXIST: ("part of the path is a file, not a folder", "check the path"),
    errno.EISDIR: ("it is a folder, not a file", "check the path"),
    errno.ENAMETOOLONG: ("the file name is too long", "choose a shorter name"),
}


def storage_error(error: OSError, path: str | os.PathLike[str], action: str) -> StorageError:
    """Turn an operating system error into one clear line.

    Args:
        error: what the operating system said.
        path: the file or folder that the user knows about.
        action: what was being done, e.g. ``"write"``.
    """
    reason, hint = _REASONS.get(error.errno or 0, (error.strerror or str(error), ""))
    return StorageError(f"cannot {action} {os.fspath(path)}: {reason}", hint=hint)


@contextlib.contextmanager
def atomic_path(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; rename it onto the target when the block ends well.

    On an exception the temporary file is removed and the target is as it was. Missing parent folders are made.

    Raises:
        StorageError: if the folder cannot be written or the disk is full.
    """
    target = Path(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise storage_error(error, target, "write") from error
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as stream:
            os.fsync(stream.fileno())
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)  # mkstemp gives 0600; users expect their umask
        temporary.replace(target)
    except OSError as error:
        raise storage_error(error, target, "write") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def atomic_write(target: str | os.PathLike[str], content: bytes | str) -> None:
    """Write a whole file or nothing.

    Raises:
        StorageError: if it cannot be written; an older file of that name is then untouched.
    """
    data = content.encode() if isinstance(content, str) else content
    with atomic_path(target) as temporary:
        temporary.write_bytes(data)


def atomic_write_together(contents: Mapping[Path, bytes]) -> None:
    """Write several files that belong together: all whole, or none.

    Nothing is renamed before everything is on the disk. Only a crash between two renames can leave new files beside
    older ones; each is whole even then.

    Raises:
        StorageError: if one cannot be written; older files of these names are then untouched.
    """
    for target in contents:
        if target.is_dir():
            raise storage_error(IsADirectoryError(errno.EISDIR, "is a folder"), target, "write")
    with contextlib.ExitStack() as stack:
        for target, content in contents.items():
            temporary = stack.enter_context(atomic_path(target))
            with temporary.open("wb") as stream:
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())


def atomic_write_json(target: str | os.PathLike[str], document: Any) -> None:
    """Write a JSON document (indented, newline at the end), whole or not at all."""
    atomic_write(target, json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_bytes(path: str | os.PathLike[str], limit_bytes: int | None = None) -> bytes:
    """Read a file.

    Args:
        path: the file.
        limit_bytes: refuse files larger than this (untrusted input).

    Raises:
        StorageError: if it cannot be read.
        FileFormatError: if it is larger than the limit.
    """
    try:
        with Path(path).open("rb") as stream:
            if limit_bytes is None:
                data = stream.read()
            else:
                # A read takes memory for all that it is asked for: first what the file says to have.
                size = os.fstat(stream.fileno()).st_size
                data = stream.read(min(limit_bytes, size) + 1)
                if len(data) > size:  # files of /proc say 0
                    data += stream.read(limit_bytes + 1 - len(data))
    except OSError as error:
        raise storage_error(error, path, "read") from error
    if limit_bytes is not None and len(data) > limit_bytes:
        raise FileFormatError(f"{os.fspath(path)} is larger than {limit_bytes} bytes", hint="is it the right file?")
    return data


def read_json(path: str | os.PathLike[str], limit_bytes: int = 64 * 2**20) -> Any:
    """Read a JSON document of bounded size.

    Raises:
        StorageError: if it cannot be read.
        FileFormatError: if it is not JSON or larger than the limit.
    """
    data = read_bytes(path, limit_bytes)
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{os.fspath(path)} is not valid JSON: {error}", hint="is it the right file?") from error


def sha256_hex(path: str | os.PathLike[str]) -> str:
    """Return the SHA-256 of a file as 64 hexadecimal digits.

    Raises:
        StorageError: if it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with Path(path).open("rb") as stream:
            while chunk := stream.read(1 << 20):
                digest.update(chunk)
    except OSError as error:
        raise storage_error(error, path, "read") from error
    return digest.hexdigest()


class FileLock:
    """An exclusive lock beside a file, that says who holds it.

    The kernel drops the lock when its holder ends in any way, ``kill -9`` included, so a left-over ``.lock``
    file blocks nobody.

    Args:
        path: the file to protect; the lock is ``<path>.lock``.
        purpose: what the holder does, for the message, e.g. ``"building the table"``.
    """

    def __init__(self, path: str | os.PathLike[str], purpose: str) -> None:
        self._path = Path(path)
        self._lock_path = self._path.with_name(self._path.name + ".lock")
        self._purpose = purpose
        self._descriptor: int | None = None

    def __enter__(self) -> FileLock:
        """Take the lock.

        Raises:
            LockedError: if another process has it; the message names its pid.
            StorageError: if the lock file cannot be made.
        """
        try:
            self._lock_path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self._lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise storage_error(error, self._lock_path, "write") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            text = os.pread(descriptor, 64, 0).decode(errors="replace").strip()
            os.close(descriptor)
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                raise storage_error(error, self._lock_path, "lock") from error
            holder = int(text) if text.isdigit() else None
            raise LockedError(
                f"process {holder if holder is not None else '(unknown)'} is already {self._purpose} {self._path}",
                hint="wait for it to end, or stop it: nothing it has finished will be lost",
                holder_pid=holder,
            ) from error
        try:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        except OSError as error:
            os.close(descriptor)
            raise storage_error(error, self._lock_path, "write") from error
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release the lock; the empty lock file stays (removing it would race with a waiting process)."""
        if self._descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, 0)
            os.close(self._descriptor)
            self._descriptor = None
