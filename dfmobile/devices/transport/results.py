"""What transports return and raise: plain data, no behaviour. ``base`` has the contract and gives these names too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dfmobile.errors import DeviceError


class CommandTimeoutError(DeviceError):
    """A command ran past its time and was stopped, its children too.

    Attributes:
        stdout: what it had written until then.
        stderr: likewise.
    """

    def __init__(self, message: str, hint: str = "", stdout: bytes = b"", stderr: bytes = b"") -> None:
        super().__init__(message, hint)
        self.stdout = stdout
        self.stderr = stderr


class CommandFailedError(DeviceError):
    """A command that had to succeed did not.

    Attributes:
        result: what it gave.
    """

    def __init__(self, message: str, result: CommandResult, hint: str = "") -> None:
        super().__init__(message, hint)
        self.result = result


class ConnectionLostError(DeviceError):
    """The device went away: a cable, a network, a reboot. What ran there may or may not have ended."""


class AnotherDeviceError(DeviceError):
    """What answers at the device's address now is not the device that did before."""


class UnauthorizedError(DeviceError):
    """The device does not let this computer in until someone accepts its key there."""


class TransferError(DeviceError):
    """A file did not arrive whole; nothing is left at its target."""


@dataclass(frozen=True)
class CommandResult:
    """What a command gave.

    Attributes:
        argv: the command.
        exit_code: its own; 128 + N where signal N killed it.
        stdout: bytes.
        stderr: bytes.
        wall_ms: from start to end as seen from here, transport included: no measurement of a model.
    """

    argv: tuple[str, ...]
    exit_code: int
    stdout: bytes
    stderr: bytes
    wall_ms: float

    @property
    def text(self) -> str:
        """Return stdout as text, undecodable bytes replaced, without trailing white space."""
        return self.stdout.decode("utf-8", "replace").rstrip()

    def check(self, purpose: str, hint: str = "") -> CommandResult:
        """Return itself if the command succeeded.

        Args:
            purpose: what failed, for the message, e.g. ``"reading the properties"``.
            hint: what the user can do.

        Raises:
            CommandFailedError: if the exit code is not 0; with the last line that the command wrote.
        """
        if self.exit_code == 0:
            return self
        lines = (self.stderr or self.stdout).decode("utf-8", "replace").strip().splitlines()
        last = f": {lines[-1].strip()[:300]}" if lines else ""
        command = self.argv[0] if self.argv else "the command"
        raise CommandFailedError(f"{purpose} failed: {command} ended with {self.exit_code}{last}", self, hint)


@dataclass(frozen=True)
class FileStat:
    """A file or folder on the device.

    Attributes:
        path: as asked for, or the bare name in a listing.
        kind: symbolic links are followed by ``stat``; in a listing they are ``other``.
        size_bytes: 0 for folders.
        mode: permission bits.
        modified_s: seconds since 1970 by the device's clock.
    """

    path: str
    kind: Literal["file", "folder", "other"]
    size_bytes: int
    mode: int
    modified_s: float


@dataclass(frozen=True)
class Transfer:
    """A transfer that arrived.

    Attributes:
        size_bytes: of the file.
        sha256: of the file, equal on both sides.
        wall_ms: how long it took, the check included.
    """

    size_bytes: int
    sha256: str
    wall_ms: float


@dataclass(frozen=True)
class DeviceListing:
    """A device that a transport can see without opening it.

    Attributes:
        uri: canonical text, to give as ``--device``.
        state: ``ready``, or what is in the way: ``unauthorized``, ``offline``, ``recovery``, …
        description: model or product, as far as known.
        hint: what to do where it is not ready.
    """

    uri: str
    state: str
    description: str
    hint: str = ""
