"""Real adbd daemons for tests: built once (``build_adbd.sh``), started on free ports, stopped with all they ran.

Where no adbd can be built, tests that ask for one are skipped, and the reason is printed. The cache folder is
``$DFMOBILE_ADBD_CACHE``, or ``~/.cache/dfmobile/adbd``; with ``DFMOBILE_REQUIRE_ADBD=1`` a missing adbd is a failure.

An adbd without keys gives everyone on this machine a shell as the user that it runs as. So it runs as ``nobody``,
which only root can arrange; anyone else has to say that their own account may be used: ``DFMOBILE_ADBD_AS_SELF=1``.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

_BUILD_SCRIPT = Path(__file__).with_name("build_adbd.sh")
_BUILD_LIMIT_S = 1800.0
_START_LIMIT_S = 30.0
_NO_ADBD = 77  # exit code of the build script


@dataclass
class Adbd:
    """A running adbd.

    Attributes:
        port: on 127.0.0.1.
        scratch_root: folder that its commands see as ``$TMPDIR``; theirs to write.
        folder: everything of it, log included.
    """

    port: int
    folder: Path
    _command: list[str]
    _environment: dict[str, str]
    _child: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def scratch_root(self) -> Path:
        return self.folder / "tmp"

    @property
    def log(self) -> str:
        return (self.folder / "adbd.log").read_text(errors="replace")

    def start(self) -> None:
        """Start it, again after ``kill``, on the same port and with the same scratch folder."""
        if self._child is not None:
            raise RuntimeError("this adbd runs already")
        with (self.folder / "adbd.log").open("ab") as log:
            self._child = subprocess.Popen(
                self._command, cwd=self.scratch_root, env=self._environment, stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + _START_LIMIT_S
        while time.monotonic() < deadline:
            if self._child.poll() is not None:
                raise RuntimeError(f"adbd ended at once: {self.log[-500:]}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.02)
        self.kill()
        raise RuntimeError(f"adbd does not listen after {_START_LIMIT_S:.0f} s: {self.log[-500:]}")

    def kill(self) -> None:
        """Kill the daemon and all its commands, those in sessions of their own too: a phone that loses its power."""
        self.cut()
        # Whatever it started has our mark in its environment, wherever it went.
        for _ in range(50):
            left = [pid for pid in _processes() if self._is_ours(pid)]
            if not left:
                return
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        raise RuntimeError(f"processes of adbd cannot be killed: {left}")

    def cut(self) -> None:
        """Kill only the daemon: every connection breaks, and what runs in a session of its own lives on."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None

    def _is_ours(self, pid: int) -> bool:
        with contextlib.suppress(OSError):
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            # A zombie has no environment: it is dead, and its parent's to bury.
            return f"DFMOBILE_ADBD_FOLDER={self.folder}".encode() in environment
        return False


def _processes() -> list[int]:
    return [int(name) for name in os.listdir("/proc") if name.isdigit()]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _unprivileged() -> tuple[list[str], int | None]:
    """Return the command that starts a program unprivileged, and the user's id where it is another."""
    if os.getuid() != 0:
        if os.environ.get("DFMOBILE_ADBD_AS_SELF") != "1":
            _give_up(
                "without root it runs as you, for everyone on this machine to use; DFMOBILE_ADBD_AS_SELF=1 allows it"
            )
        return [], None
    setpriv = shutil.which("setpriv")
    try:
        nobody = pwd.getpwnam("nobody")
    except KeyError:
        nobody = None
    if setpriv is None or nobody is None:
        _give_up("there is no user 'nobody' or no setpriv to run it unprivileged")
    ids = [f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}"]
    return [setpriv, *ids, "--clear-groups", "--no-new-privs", "--bounding-set=-all", "--"], nobody.pw_uid


def _give_up(reason: str) -> None:
    if os.environ.get("DFMOBILE_REQUIRE_ADBD") == "1":
        pytest.fail(f"no adbd, and DFMOBILE_REQUIRE_ADBD=1: {reason}", pytrace=False)
    pytest.skip(f"skipped: no adbd: {reason}")


@pytest.fixture(scope="session")
def adbd_binary() -> Path:
    """The built binary, its library beside it."""
    cache = os.environ.get("DFMOBILE_ADBD_CACHE") or str(Path.home() / ".cache" / "dfmobile" / "adbd")
    result = subprocess.run(
        ["sh", str(_BUILD_SCRIPT), cache], capture_output=True, text=True, timeout=_BUILD_LIMIT_S, check=False
    )
    if result.returncode == _NO_ADBD:
        _give_up(result.stderr.strip().rpartition("no adbd: ")[2])
    assert result.returncode == 0, result.stderr[-2000:]
    return Path(result.stdout.strip().splitlines()[-1])


@pytest.fixture(scope="session")
def start_adbd(adbd_binary: Path) -> Iterator[Callable[..., Adbd]]:
    """Start further daemons: ``start_adbd()``, or ``start_adbd(public_keys="...")`` for one that asks for a key."""
    prefix, uid = _unprivileged()
    running: list[Adbd] = []

    def start(public_keys: str | None = None) -> Adbd:
        # Not below pytest's own folders: those are closed to other users.
        folder = Path(tempfile.mkdtemp(prefix="dfmobile-adbd-"))
        folder.chmod(0o755)
        for name in ("adbd", "libcrypto.so.0"):
            shutil.copy(adbd_binary.with_name(name), folder / name)
        (folder / "tmp").mkdir(mode=0o700)
        if uid is not None:
            os.chown(folder / "tmp", uid, -1)
        port = _free_port()
        environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "ADBD_PORT": str(port),
            "TMPDIR": str(folder / "tmp"),
            "DFMOBILE_ADBD_FOLDER": str(folder),
        }
        if public_keys is not None:
            (folder / "keys").write_text(public_keys)
            environment["ADBD_KEYS"] = str(folder / "keys")
        adbd = Adbd(port, folder, [*prefix, str(folder / "adbd")], environment)
        running.append(adbd)
        adbd.start()
        return adbd

    yield start
    for adbd in running:
        adbd.kill()
        shutil.rmtree(adbd.folder, ignore_errors=True)


@pytest.fixture(scope="session")
def adbd(start_adbd: Callable[..., Adbd]) -> Adbd:
    """A daemon that all tests share; do not kill it."""
    return start_adbd()


@pytest.fixture(scope="session")
def adbd_port(adbd: Adbd) -> int:
    """The shared daemon's port on 127.0.0.1."""
    return adbd.port
