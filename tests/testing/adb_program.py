"""Google's ``adb`` program with a server of its own, for tests."""

from __future__ import annotations

import os
import socket
import subprocess
from pathlib import Path

from dfmobile.testing.virtual_phone import VirtualPhone


class AdbProgram:
    """The ``adb`` program, with a server and a home folder of its own."""

    def __init__(self, home: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.server_port = probe.getsockname()[1]
        self.home = home
        self._environment = {**os.environ, "HOME": str(home), "ADB_VENDOR_KEYS": str(home)}

    def __call__(self, *arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        command = ["adb", "-P", str(self.server_port), *arguments]
        return subprocess.run(
            command, input=stdin, capture_output=True, env=self._environment, timeout=120, check=False
        )

    def connect(self, phone: VirtualPhone) -> str:
        """Connect, and return the device's name."""
        name = f"127.0.0.1:{phone.port}"
        self("connect", name)
        return name

    def states(self) -> dict[str, str]:
        """Return what ``adb devices`` says."""
        lines = self("devices").stdout.decode().splitlines()
        return dict(line.split("\t") for line in lines if "\t" in line)
