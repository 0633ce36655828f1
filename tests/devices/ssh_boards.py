"""A real sshd as a board, for tests of the ssh transport."""

from __future__ import annotations

import time
from collections.abc import Callable

from sshd.sshd_fixture import Sshd

from dfmobile.devices.transport.ssh import SshTransport
from dfmobile.devices.uri import parse_device


def opened(server: Sshd, uri: str | None = None) -> SshTransport:
    """Open it."""
    return SshTransport(parse_device(uri or server.uri), server.config_file)


def wait_for(condition: Callable[[], object], limit_s: float = 60.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def runs(server: Sshd, word: str) -> bool:
    """Whether a command with that word runs on the far side."""
    return any(word in command for command in server.processes().values())
