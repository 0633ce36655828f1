"""Contract of a transport: what every way to reach a device offers, whatever is in between.

A transport is registered as an entry point of the group ``dfmobile.transports`` under its URI scheme, as a
subclass of ``Transport``. The suite ``dfmobile.testing.transport_contract`` says the same as tests; every
transport passes it. A transport moves bytes and runs commands: it knows no models and no measurements.

What holds for all of them:

- A command is a list of arguments, never a line for a shell: a transport whose far side has only a shell quotes
  each argument. A shell is asked for by name: ``["sh", "-c", script]``.
- The exit code is the command's own; 128 + N where signal N killed it (137 is SIGKILL, 139 SIGSEGV), 127 where
  the program does not exist, 126 where it cannot be run. A non-zero exit is a result, not an exception.
- stdout and stderr come apart and as bytes.
- When ``run`` returns or raises, nothing that the command started is left running, except what took a session
  of its own (``setsid``) to live on. This is so after a timeout and after Ctrl-C too.
- ``push`` and ``pull`` are whole or absent, and checked by size and SHA-256.
- Paths of the device are absolute POSIX paths as ``str``; paths of this machine are ``Path``.
- A transport object is used by one thread at a time unless its class says otherwise.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Literal

from dfmobile.devices.transport.results import (
    AnotherDeviceError,
    CommandFailedError,
    CommandResult,
    CommandTimeoutError,
    ConnectionLostError,
    DeviceListing,
    FileStat,
    Transfer,
    TransferError,
    UnauthorizedError,
)
from dfmobile.devices.uri import DeviceURI
from dfmobile.errors import DeviceError
from dfmobile.files import atomic_path, sha256_hex, storage_error

if TYPE_CHECKING:
    from dfmobile.devices.profile_schema import DeviceProfile

__all__ = [
    "DEFAULT_OUTPUT_LIMIT_BYTES",
    "DEFAULT_PULL_LIMIT_BYTES",
    "AnotherDeviceError",
    "CommandFailedError",
    "CommandResult",
    "CommandTimeoutError",
    "ConnectionLostError",
    "DeviceListing",
    "FileStat",
    "OnOutput",
    "OnProgress",
    "Stream",
    "Transfer",
    "TransferError",
    "Transport",
    "UnauthorizedError",
]

Stream = Literal["stdout", "stderr"]
OnOutput = Callable[[Stream, bytes], None]
OnProgress = Callable[[int, int], None]  # bytes done, bytes in all

DEFAULT_OUTPUT_LIMIT_BYTES = 64 * 2**20
DEFAULT_PULL_LIMIT_BYTES = 4 * 2**30
_KERNEL_FILE_BYTES = 64 * 2**20  # of a file whose size says 0, more is not taken
_CONTROL_TIMEOUT_S = 60.0  # for the small commands that transfers need
_HASH_BYTES_PER_S = 5e6  # of a slow device
_HASH_LIMIT_S = 3600.0  # whatever size the device claims


class Transport(ABC):
    """A connection to one device.

    Subclasses give the abstract methods, and override the rest where they can do it better.

    Args:
        uri: the device.
    """

    scheme: ClassVar[str]

    def __init__(self, uri: DeviceURI) -> None:
        self.uri = uri
        self._closed = False

    @classmethod
    @abstractmethod
    def open(cls, uri: DeviceURI) -> Transport:
        """Connect.

        Raises:
            DeviceError: if the device cannot be reached, with what to do about it.
        """

    @classmethod
    def enumerate(cls) -> list[DeviceListing]:
        """Return the devices that can be seen now; empty where a transport cannot look around (ssh)."""
        return []

    @property
    @abstractmethod
    def scratch_root(self) -> str:
        """Folder on the device where anyone may write and run programs, e.g. ``/data/local/tmp``."""

    @property
    def scratch_name(self) -> str:
        """Name of our lasting folder in ``scratch_root``; where several users share the root, another for each."""
        return "dfmobile"

    @abstractmethod
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
        """Run a command to its end.

        Args:
            argv: program and arguments.
            timeout_s: seconds after which it is stopped, with its children, on the device itself.
            stdin: what it reads; then end of file.
            environment: variables to set besides those it has on the device.
            folder: working folder on the device.
            on_output: called with each piece of output as it comes, before ``run`` returns; an exception from
                it stops the command and comes out of ``run``.
            output_limit_bytes: most that stdout and stderr together may bring.

        Raises:
            InputError: if ``argv`` is empty or has a NUL in it.
            CommandTimeoutError: if it ran past ``timeout_s``; nothing of it runs on.
            ConnectionLostError: if the device went away.
            DeviceError: if it wrote more than ``output_limit_bytes``; it is stopped.
        """

    @abstractmethod
    def stat(self, path: str) -> FileStat | None:
        """Return what is at a path, links followed; None if there is nothing.

        Raises:
            DeviceError: if the device does not let us see.
        """

    @abstractmethod
    def list_folder(self, path: str) -> list[FileStat]:
        """Return what is in a folder, sorted by name, without ``.`` and ``..``.

        Raises:
            DeviceError: if it is no folder or cannot be read.
        """

    @abstractmethod
    def properties(self) -> dict[str, str]:
        """Return what the system says of itself (Android: ``getprop``); for the log and for matching."""

    @abstractmethod
    def probe(self) -> DeviceProfile:
        """Describe the device; what cannot be read is recorded as unreadable."""

    @abstractmethod
    def _send(self, source: Path, target: str, mode: int, on_progress: OnProgress | None) -> None:
        """Copy a file of this machine to a path on the device, that is not there yet. ``push`` does the rest."""

    @abstractmethod
    def _receive(self, source: str, target: Path, limit_bytes: int, on_progress: OnProgress | None) -> None:
        """Copy a file of the device into an empty file of this machine. ``pull`` does the rest.

        Raises:
            TransferError: as soon as more than ``limit_bytes`` come, whatever the device says of the file.
        """

    def close(self) -> None:
        """Let go of the device. Closing twice is allowed; using it afterwards is a DeviceError."""
        self._closed = True

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called; a connection that was lost is not closed."""
        return self._closed

    def _check_open(self) -> None:
        """Refuse to go on after ``close``; every operation of a subclass begins with it."""
        if self._closed:
            raise DeviceError(f"the connection to {self.uri} is closed", hint="open the device again")

    def sha256(self, path: str, size_bytes: int | None = None) -> str:
        """Return the SHA-256 of a file on the device, by its ``sha256sum``.

        Args:
            path: on the device.
            size_bytes: of the file, since large ones take longer; None: it is asked for.

        Raises:
            DeviceError: if it cannot be read, or the device has no ``sha256sum``.
        """
        if size_bytes is None:
            there = self.stat(path)
            size_bytes = 0 if there is None else there.size_bytes
        timeout_s = min(_HASH_LIMIT_S, _CONTROL_TIMEOUT_S + size_bytes / _HASH_BYTES_PER_S)
        result = self.run(["sha256sum", path], timeout_s=timeout_s).check(f"checking {path}")
        digest = result.text.lstrip("\\")[:64].lower()
        if len(digest) != 64 or any(letter not in "0123456789abcdef" for letter in digest):
            raise DeviceError(f"checking {path} failed: sha256sum says {result.text[:100]!r}")
        return digest

    def rename(self, source: str, target: str) -> None:
        """Rename a file on the device, over an older one; never moves it into a folder of that name.

        Raises:
            DeviceError: if the device refuses.
        """
        here = self.stat(target)
        if here is not None and here.kind == "folder":
            raise DeviceError(f"cannot write {target} on the device: it is a folder")
        self.run(["mv", "-f", source, target], timeout_s=_CONTROL_TIMEOUT_S).check(f"renaming to {target}")

    def remove(self, path: str) -> None:
        """Remove a file or a folder with all in it; nothing there is no error.

        Raises:
            DeviceError: if the device refuses.
        """
        self.run(["rm", "-rf", path], timeout_s=_CONTROL_TIMEOUT_S).check(f"removing {path}")

    def make_folder(self, path: str) -> None:
        """Make a folder with its parents; one that is there is no error.

        Raises:
            DeviceError: if the device refuses.
        """
        self.run(["mkdir", "-p", path], timeout_s=_CONTROL_TIMEOUT_S).check(f"making {path}")

    def push(self, source: Path, target: str, *, mode: int = 0o644, on_progress: OnProgress | None = None) -> Transfer:
        """Copy a file to the device, whole or not at all: to a name beside the target, checked, then renamed.

        Args:
            source: file of this machine.
            target: path on the device; its folder must be there.
            mode: permission bits, e.g. ``0o755`` for a program.
            on_progress: called with bytes done and bytes in all.

        Raises:
            StorageError: if the source cannot be read.
            TransferError: if what arrived differs; the target is as it was.
            DeviceError: if the device refuses (no space, read-only), or goes away.
        """
        started = time.perf_counter()
        try:
            size = source.stat().st_size
        except OSError as error:
            raise storage_error(error, source, "read") from error
        digest = sha256_hex(source)
        part = f"{target}.{secrets.token_hex(6)}.part"
        try:
            self._send(source, part, mode, on_progress)
            self._check_arrival(f"{source} to {target}", part, size, digest)
            self.rename(part, target)
        except BaseException:
            # The first error is the one to tell; a device that is gone cannot be tidied.
            with contextlib.suppress(DeviceError):
                self.remove(part)
            raise
        return Transfer(size, digest, (time.perf_counter() - started) * 1000)

    def _check_arrival(self, what: str, part: str, size_bytes: int, sha256: str) -> None:
        arrived = self.stat(part)
        if arrived is None or arrived.size_bytes != size_bytes:
            found = "nothing" if arrived is None else str(arrived.size_bytes)
            raise TransferError(f"{what}: {found} of {size_bytes} bytes arrived", hint=_AGAIN)
        if self.sha256(part, size_bytes) != sha256:
            raise TransferError(f"{what}: it arrived damaged, the SHA-256 differs", hint=_AGAIN)

    def pull(
        self,
        source: str,
        target: Path,
        *,
        limit_bytes: int = DEFAULT_PULL_LIMIT_BYTES,
        on_progress: OnProgress | None = None,
    ) -> Transfer:
        """Copy a file from the device, whole or not at all; an older target is untouched until it is checked.

        Args:
            source: path on the device.
            target: file of this machine.
            limit_bytes: a larger one is refused: a device may say and send what it likes.
            on_progress: called with bytes done and bytes in all.

        Raises:
            TransferError: if what arrived differs, or more comes than the device said.
            DeviceError: if the source is not there, is too large or cannot be read, or the device goes away.
            StorageError: if the target cannot be written.
        """
        started = time.perf_counter()
        there = self.stat(source)
        if there is None or there.kind != "file":
            what = "there is nothing" if there is None else "it is not a file"
            raise DeviceError(f"cannot read {source} on the device: {what}", hint="check the path")
        if there.size_bytes > limit_bytes:
            raise DeviceError(
                f"{source} on the device has {there.size_bytes} bytes, more than the {limit_bytes} allowed"
            )
        most = there.size_bytes or min(_KERNEL_FILE_BYTES, limit_bytes)
        digest = self.sha256(source, there.size_bytes)
        with atomic_path(target) as part:
            self._receive(source, part, most, on_progress)
            size = part.stat().st_size
            # A file that changed while it was copied does not pass either.
            if sha256_hex(part) != digest:
                raise TransferError(f"{source} arrived damaged: {size} bytes, its SHA-256 differs", hint=_AGAIN)
        return Transfer(size, digest, (time.perf_counter() - started) * 1000)

    def read_bytes(self, path: str, limit_bytes: int = 2**20) -> bytes:
        """Return the content of a small file on the device, kernel files included (whose size says 0).

        Raises:
            DeviceError: if it cannot be read or is larger than the limit.
        """
        result = self.run(["cat", path], timeout_s=_CONTROL_TIMEOUT_S, output_limit_bytes=limit_bytes)
        return result.check(f"reading {path}").stdout

    @contextlib.contextmanager
    def scratch_folder(self) -> Iterator[str]:
        """Yield a new folder on the device that only we use; it is removed when the block ends."""
        path = f"{self.scratch_root.rstrip('/')}/dfmobile-{secrets.token_hex(8)}"
        self.make_folder(path)
        try:
            yield path
        except BaseException:
            with contextlib.suppress(DeviceError):  # the first error is the one to tell
                self.remove(path)
            raise
        self.remove(path)

    def __enter__(self) -> Transport:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


_AGAIN = "run the command again; if it happens again, check the connection (cable, port, network)"
