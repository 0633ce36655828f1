"""Far sides for tests of batch runs: this machine with the shell and the tools of others."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from dfmobile.devices.batch import BatchItem, BatchSettings
from dfmobile.devices.transport.base import CommandResult
from dfmobile.devices.transport.local import LocalTransport

_LISTING: dict[str, list[str]] = {"busybox": ["--list"], "toybox": []}
SHELLS = ("sh", "busybox", "toybox")
_TOOLS = (
    "cat chmod cksum cp date dd df dirname false head id ln ls mkdir mv rm rmdir seq setsid sha256sum sleep sort stat"
    " tail tar taskset touch true uname"
)


def tool_folder(kind: str, folder: Path) -> Path | None:
    """Make a folder with the programs of one kind of system; None for this machine's own. Skips where not installed."""
    if kind == "sh":
        return None
    needed = ["toybox", "mksh"] if kind == "toybox" else [kind]
    found = {name: shutil.which(name) for name in needed}
    if not all(found.values()):
        pytest.skip(f"skipped: no {' and '.join(name for name, path in found.items() if not path)} on this machine")
    folder.mkdir()
    listing = (
        subprocess.run([str(found[kind]), *_LISTING[kind]], capture_output=True, check=True).stdout.decode().split()
    )
    for tool in _TOOLS.split():
        # Debian's busybox is built without cksum.
        (folder / tool).symlink_to(str(found[kind] if tool in listing else shutil.which(tool)))
    # Android's shell is mksh, its tools are toybox.
    (folder / "sh").symlink_to(str(found["mksh" if kind == "toybox" else "busybox"]))
    return folder


class FarSide(LocalTransport):
    """This machine with another system's programs; can fail on demand.

    Args:
        tools: folder of its programs; None: as they are.
    """

    def __init__(self, tools: Path | None = None) -> None:
        super().__init__()
        self._tools = tools
        self.commands: list[list[str]] = []
        self.before: Callable[[list[str]], None] = lambda argv: None
        self.after: Callable[[list[str], CommandResult], CommandResult] = lambda argv, result: result

    def run(
        self, argv: Sequence[str], *, environment: Mapping[str, str] | None = None, **options: Any
    ) -> CommandResult:
        """Run it, with the tools first and only."""
        self.commands.append(list(argv))
        self.before(list(argv))
        if self._tools is not None:
            environment = {"PATH": str(self._tools), **(environment or {})}
        return self.after(list(argv), super().run(argv, environment=environment, **options))

    def requests(self) -> list[str]:
        """What the driver was asked."""
        return [argv[2] for argv in self.commands if len(argv) > 2 and argv[0] == "sh" and "/store/" in argv[1]]


def settings_for(place: Path, **values: Any) -> BatchSettings:
    """Return settings for tests: a folder of its own, short waits."""
    return BatchSettings(**{"folder": f"{place}/far", "poll_s": 0.05, "reconnect_s": 5.0, **values})


def script(name: str, text: str, **values: Any) -> BatchItem:
    """Return an item that runs a shell script."""
    return BatchItem(name, ("sh", "-c", text, "sh"), **values)


def driver_pid(folder: Path, run_id: str) -> int:
    """Return the number of the driver's process, once it is there."""
    path = folder / "far" / "runs" / run_id / "pid"
    wait_for(path.exists)
    return int(path.read_text().split()[0])


def wait_for(condition: Callable[[], object], limit_s: float = 60.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def kill_driver(folder: Path, run_id: str) -> None:
    """Kill the driver as the kernel would, its item with it."""
    pid = driver_pid(folder, run_id)
    current = (folder / "far" / "runs" / run_id / "current").read_text().split()
    os.kill(pid, signal.SIGKILL)
    if len(current) == 4:
        os.killpg(int(current[1]), signal.SIGKILL)


def processes_below(folder: Path) -> list[str]:
    """Return the command lines of processes that work for a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
                place = os.readlink(entry / "cwd")
            except OSError:
                continue
            if str(folder) in line or place.startswith(str(folder)):
                found.append(line)
    return found


def shellcheck() -> str:
    """Return the path of shellcheck; skips where there is none."""
    found = shutil.which("shellcheck")
    if found is None:
        pytest.skip("skipped: no shellcheck on this machine")
    return found


def check_script(path: str, text: bytes) -> str:
    """Return what shellcheck has to say."""
    return subprocess.run([path, "-s", "sh", "-"], input=text, capture_output=True, check=False).stdout.decode()
