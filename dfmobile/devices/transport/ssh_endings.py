"""How a command over ssh can end otherwise than by itself, each told from the others."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

from dfmobile.devices.transport.results import CommandTimeoutError, ConnectionLostError
from dfmobile.devices.transport.ssh_client import SshMaster
from dfmobile.devices.transport.ssh_command import Ending, SshCommand
from dfmobile.devices.transport.ssh_messages import last_line
from dfmobile.devices.uri import DeviceURI
from dfmobile.errors import DeviceError

_ENDS_S = 2.0  # how long the connection may take to end after a command that broke with it


@dataclass(frozen=True)
class Asked:
    """What was asked for, for the messages.

    Attributes:
        uri: the board.
        program: its name there.
        timeout_s: its time.
        limit_bytes: most that it might write.
        folder: working folder.
        scratch: where its input is kept.
    """

    uri: DeviceURI
    program: str
    timeout_s: float
    limit_bytes: int
    folder: str | None
    scratch: str | None


def check_ending(command: SshCommand, ending: Ending, asked: Asked, master: SshMaster | None) -> None:
    """Raise where a command did not run to its end.

    Raises:
        CommandTimeoutError: if it was stopped for its time.
        ConnectionLostError: if the connection broke.
        DeviceError: if it was stopped for its output, could not be started, or was killed with the shell around it.
    """
    program, marks = asked.program, command.marks
    if ending == "timeout":
        raise CommandTimeoutError(
            f"{program} ran longer than {asked.timeout_s:g} s and was stopped",
            hint="give it more time, or see why it hangs",
            stdout=bytes(command.stdout),
            stderr=bytes(command.stderr),
        )
    if ending == "too-much-output":
        raise DeviceError(f"{program} wrote more than {asked.limit_bytes} bytes and was stopped")
    if marks.no_folder:
        raise DeviceError(f"cannot run {program} in {asked.folder}: there is no such folder", hint="check the path")
    if marks.no_scratch:
        raise DeviceError(
            f"cannot run {program} on {asked.uri}: its input cannot be written to {asked.scratch}",
            hint="free space on the board (df -h), or set TMPDIR there to a folder that can be written",
        )
    if ending == "broken" or (marks.finished and marks.exit_code is None):
        _broken(command, asked, master)
    if marks.group is None:
        raise DeviceError(
            f"{asked.uri} could not start {program}",
            hint="its arguments may be too long, or the board has no memory left",
        )


def _broken(command: SshCommand, asked: Asked, master: SshMaster | None) -> NoReturn:
    """Raise for a command that ended without an exit code: the connection, or the shell around it."""
    program = asked.program
    if master is None or not master.is_alive(_ENDS_S):
        raise ConnectionLostError(f"the connection broke while {program} ran")
    if command.marks.finished:
        raise ConnectionLostError(f"the board heard nothing of us for a minute and stopped {program}")
    if re.search(r"session open refused", command.messages, re.IGNORECASE):
        raise DeviceError(
            f"{asked.uri} allows no further session in one connection",
            hint="raise MaxSessions in /etc/ssh/sshd_config on the board (10 is the default)",
        )
    if "kex_exchange_identification" in command.messages:
        # It tried to make a connection of its own, which it must not (SshMaster.start).
        raise ConnectionLostError("the control socket of the connection is gone")
    if command.marks.group is None:
        said = last_line(command.messages)
        raise DeviceError(f"{asked.uri} could not start {program}: {said}", hint="see what its login shell does")
    raise DeviceError(
        f"{asked.uri}: the shell around {program} was killed, and {program} with it",
        hint="the board may have no memory left: see dmesg there",
    )
