"""Local transport: this machine, by child processes and the file system; no shell in between."""

from __future__ import annotations

import errno
import os
import platform
import shutil
import stat as stat_bits
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from dfmobile.devices.transport.base import (
    DEFAULT_OUTPUT_LIMIT_BYTES,
    CommandResult,
    CommandTimeoutError,
    DeviceListing,
    FileStat,
    OnOutput,
    OnProgress,
    TransferError,
    Transport,
)
from dfmobile.devices.transport.process import run_process
from dfmobile.devices.uri import DeviceURI, parse_device
from dfmobile.errors import DeviceError, InputError, StorageError
from dfmobile.files import sha256_hex, storage_error

if TYPE_CHECKING:
    from dfmobile.devices.profile_schema import DeviceProfile

_CHUNK_BYTES = 1 << 20


class LocalTransport(Transport):
    """This machine. Safe to use from several threads."""

    scheme: ClassVar[str] = "local"

    def __init__(self, uri: DeviceURI | None = None) -> None:
        super().__init__(uri if uri is not None else parse_device("local"))

    @classmethod
    def open(cls, uri: DeviceURI) -> LocalTransport:
        """Return the transport; this machine is always there."""
        return cls(uri)

    @classmethod
    def enumerate(cls) -> list[DeviceListing]:
        """Return this machine."""
        return [DeviceListing(uri="local", state="ready", description=f"this machine ({platform.machine()})")]

    @property
    def scratch_root(self) -> str:
        """The folder for temporary files (``TMPDIR``)."""
        return tempfile.gettempdir()

    @property
    def scratch_name(self) -> str:
        """A name for each user: all of them write to ``/tmp``, and only the owner may use the folder."""
        return f"dfmobile-{os.getuid()}" if hasattr(os, "getuid") else "dfmobile"

    def run(
        self,
        argv: Sequence[str],
        *,
        timeout_s: float,
        stdin: bytes = b"",
        environment: Mapping[str, str] | None = None,
        folder: str | None = None,
        on_output: OnOutput | None = None,
        output_limit_bytes: int = DEFAULT_OUTPUT_LIMIT_BYTES,
    ) -> CommandResult:
        """Run a command to its end; see ``Transport.run``."""
        self._check_open()
        if not argv or any("\0" in argument for argument in argv):
            raise InputError("a command needs a program, and no argument may hold a NUL")
        if folder is not None and not os.path.isdir(folder):
            raise DeviceError(f"cannot run {argv[0]} in {folder}: there is no such folder", hint="check the path")
        started = time.perf_counter()
        try:
            outcome = run_process(
                argv,
                timeout_s=timeout_s,
                stdin=stdin,
                environment={**os.environ, **(environment or {})},
                folder=folder,
                on_output=on_output,
                output_limit_bytes=output_limit_bytes,
            )
        except OSError as error:
            return _not_started(argv, error, started)
        if outcome.ending == "timeout":
            raise CommandTimeoutError(
                f"{argv[0]} ran longer than {timeout_s:g} s and was stopped",
                hint="give it more time, or see why it hangs",
                stdout=bytes(outcome.stdout),
                stderr=bytes(outcome.stderr),
            )
        if outcome.ending == "too-much-output":
            raise DeviceError(f"{argv[0]} wrote more than {output_limit_bytes} bytes and was stopped")
        wall_ms = (time.perf_counter() - started) * 1000
        return CommandResult(tuple(argv), outcome.exit_code, bytes(outcome.stdout), bytes(outcome.stderr), wall_ms)

    def stat(self, path: str) -> FileStat | None:
        """Return what is at a path, links followed; None if there is nothing."""
        self._check_open()
        try:
            return _file_stat(path, os.stat(_absolute(path)))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise _device_error(error, path, "look at") from error

    def list_folder(self, path: str) -> list[FileStat]:
        """Return what is in a folder, sorted by name."""
        self._check_open()
        try:
            with os.scandir(_absolute(path)) as entries:
                found = [_file_stat(entry.name, entry.stat(follow_symlinks=False)) for entry in entries]
        except OSError as error:
            raise _device_error(error, path, "list") from error
        return sorted(found, key=lambda entry: entry.path)

    def properties(self) -> dict[str, str]:
        """Return the kernel's and the distribution's names."""
        self._check_open()
        names = os.uname()
        found = {
            "kernel.name": names.sysname,
            "kernel.release": names.release,
            "kernel.machine": names.machine,
            "python.version": platform.python_version(),
        }
        try:
            release = platform.freedesktop_os_release()
        except OSError:
            return found  # a system without os-release; the kernel's names remain
        found.update({f"os.{key.lower()}": release[key] for key in ("ID", "VERSION_ID") if key in release})
        return found

    def probe(self) -> DeviceProfile:
        """Describe this machine."""
        from dfmobile.devices.probe import probe_local

        self._check_open()
        profile = probe_local()
        if profile.kind != "jetson":
            return profile
        from dfmobile.devices.board_files import read_board
        from dfmobile.devices.jetson import with_board_facts

        return with_board_facts(profile, read_board(self))  # so that it is the same board as over ssh

    def sha256(self, path: str, size_bytes: int | None = None) -> str:
        """Return the SHA-256 of a file."""
        self._check_open()
        try:
            return sha256_hex(_absolute(path))
        except StorageError as error:
            raise DeviceError(str(error), error.hint) from error

    def rename(self, source: str, target: str) -> None:
        """Rename a file over an older one."""
        self._check_open()
        try:
            os.replace(_absolute(source), _absolute(target))
        except OSError as error:
            raise _device_error(error, target, "write") from error

    def remove(self, path: str) -> None:
        """Remove a file or a folder with all in it; nothing there is no error."""
        self._check_open()
        place = _absolute(path)
        try:
            if os.path.isdir(place) and not os.path.islink(place):
                shutil.rmtree(place)
            else:
                os.unlink(place)
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise _device_error(error, path, "remove") from error

    def make_folder(self, path: str) -> None:
        """Make a folder with its parents."""
        self._check_open()
        try:
            os.makedirs(_absolute(path), exist_ok=True)
        except OSError as error:
            raise _device_error(error, path, "make") from error

    def read_bytes(self, path: str, limit_bytes: int = 2**20) -> bytes:
        """Return the content of a small file."""
        self._check_open()
        try:
            with open(_absolute(path), "rb") as stream:
                data = stream.read(limit_bytes + 1)
        except OSError as error:
            raise _device_error(error, path, "read") from error
        if len(data) > limit_bytes:
            raise DeviceError(f"cannot read {path} on the device: it is larger than {limit_bytes} bytes")
        return data

    def _send(self, source: Path, target: str, mode: int, on_progress: OnProgress | None) -> None:
        self._check_open()
        try:
            reader = source.open("rb")
        except OSError as error:
            raise storage_error(error, source, "read") from error
        with reader:
            try:
                _copy(reader.fileno(), target, mode, on_progress)
            except OSError as error:
                raise _device_error(error, target, "write") from error

    def _receive(self, source: str, target: Path, limit_bytes: int, on_progress: OnProgress | None) -> None:
        self._check_open()
        try:
            reader = open(_absolute(source), "rb")  # noqa: SIM115 - two files, two kinds of error
        except OSError as error:
            raise _device_error(error, source, "read") from error
        with reader:
            target.unlink()
            _copy(reader.fileno(), str(target), 0o600, on_progress, limit_bytes)


def _copy(source: int, target: str, mode: int, on_progress: OnProgress | None, limit_bytes: int | None = None) -> None:
    total, done = os.fstat(source).st_size, 0
    descriptor = os.open(_absolute(target), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as writer:
        while chunk := os.read(source, _CHUNK_BYTES):
            done += len(chunk)
            if limit_bytes is not None and done > limit_bytes:
                raise TransferError("the file grew while it was copied", hint="copy it when nothing writes to it")
            writer.write(chunk)
            if on_progress is not None:
                on_progress(done, total)
        writer.flush()
        os.fchmod(writer.fileno(), mode)  # not left to the umask: a program must be executable
        os.fsync(writer.fileno())


def _not_started(argv: Sequence[str], error: OSError, started: float) -> CommandResult:
    """Answer as a shell does: 127 for no such program, 126 for one that cannot be run."""
    code = 127 if error.errno in (errno.ENOENT, errno.ENOTDIR) else 126
    reason = f"{argv[0]}: {error.strerror or error}\n".encode()
    return CommandResult(tuple(argv), code, b"", reason, (time.perf_counter() - started) * 1000)


def _file_stat(path: str, status: os.stat_result) -> FileStat:
    kind: Literal["file", "folder", "other"] = "other"
    if stat_bits.S_ISREG(status.st_mode):
        kind = "file"
    elif stat_bits.S_ISDIR(status.st_mode):
        kind = "folder"
    size = 0 if kind == "folder" else status.st_size
    return FileStat(path, kind, size, stat_bits.S_IMODE(status.st_mode), status.st_mtime)


def _absolute(path: str) -> str:
    if not path.startswith("/") or "\0" in path:
        raise InputError(f"{path!r} is not an absolute path of the device", hint="start it with /")
    return path


def _device_error(error: OSError, path: str, action: str) -> DeviceError:
    told = storage_error(error, path, action)
    return DeviceError(f"{told} (on the device)", told.hint)
