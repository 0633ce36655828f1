"""A real sshd for tests: on loopback, as the user who runs them, with throwaway keys, behind a line that can be cut.

    with running_sshd(folder) as server:
        transport = SshTransport(parse_device(server.uri), config_file=server.config_file)

or, for whatever opens a device by its name, with ``DFMOBILE_SSH_CONFIG`` set to ``server.config_file``. Only the key
that the fixture made opens it, and nothing outside ``folder`` is read or written (root: the folder ``/run/sshd`` is
made where it is missing, since sshd asks for it). Where there is no sshd, tests that ask for one are skipped, and the
reason is printed; with ``DFMOBILE_REQUIRE_SSHD=1`` they fail.
"""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from sshd.line import Line, free_port

_START_LIMIT_S = 30.0
_PRIVILEGE_SEPARATION = Path("/run/sshd")
_MARK = "DFMOBILE_SSHD_FOLDER"  # in the environment of all that runs on the far side


class Sshd:
    """A running sshd.

    Attributes:
        folder: everything of it, log included.
        uri: the device, as a user names it; the port is the line's, through which ``drop_connections`` cuts.
        config_file: configuration of the client, for ``ssh -F``: key, known host, nothing of the user's own.
        known_hosts: what the client takes for this server's key.
        scratch_root: folder that commands see as ``$TMPDIR``, unless another was given.
        port: sshd's own port, past the line.
        line: what is between; can also fall silent (``line.silence``).
    """

    def __init__(self, folder: Path, environment: Mapping[str, str], settings: str) -> None:
        self.folder = folder
        self.port = free_port()
        self.line = Line(self.port)
        self.config_file = folder / "ssh_config"
        self.known_hosts = folder / "known_hosts"
        self.scratch_root = folder / "tmp"
        self.scratch_root.mkdir(mode=0o700)
        self._settings = settings
        self._environment = {_MARK: str(folder), "TMPDIR": str(self.scratch_root), **environment}
        self._child: subprocess.Popen[bytes] | None = None
        for name in ("host_key", "user_key"):
            self._make_key(name)
        shutil.copy(folder / "user_key.pub", folder / "authorized_keys")
        self.trust()
        self._write_configurations()

    @property
    def user(self) -> str:
        return getpass.getuser()

    @property
    def uri(self) -> str:
        return f"ssh:{self.user}@127.0.0.1:{self.line.port}"

    @property
    def log(self) -> str:
        return (self.folder / "sshd.log").read_text(errors="replace")

    def _make_key(self, name: str) -> None:
        for path in (self.folder / name, self.folder / f"{name}.pub"):
            path.unlink(missing_ok=True)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(self.folder / name)]
        subprocess.run(command, check=True, timeout=60)

    def _write_configurations(self) -> None:
        set_environment = " ".join(f'"{name}={value}"' for name, value in self._environment.items())
        (self.folder / "sshd_config").write_text(
            f"{self._settings}\n"
            f"Port {self.port}\nListenAddress 127.0.0.1\nListenAddress ::1\n"
            f'HostKey "{self.folder}/host_key"\nAuthorizedKeysFile "{self.folder}/authorized_keys"\n'
            "PidFile none\nStrictModes no\nUsePAM no\nUseDNS no\nPrintMotd no\nLogLevel VERBOSE\n"
            "PasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n"
            f"MaxStartups 100\nSubsystem sftp internal-sftp\nSetEnv {set_environment}\n"
        )
        self.config_file.write_text(
            f'Host *\n  IdentityFile "{self.folder}/user_key"\n  IdentitiesOnly yes\n  IdentityAgent none\n'
            f'  UserKnownHostsFile "{self.known_hosts}"\n  GlobalKnownHostsFile /dev/null\n'
        )

    def trust(self) -> None:
        """Let the client know the server's present key, and no other."""
        key = (self.folder / "host_key.pub").read_text()
        names = [f"[{host}]:{port}" for host in ("127.0.0.1", "::1") for port in (self.port, self.line.port)]
        self.known_hosts.write_text(f"{','.join(names)} {key}")

    def start(self) -> None:
        """Start it, again after ``stop``, on the same port."""
        if self._child is not None:
            raise RuntimeError("this sshd runs already")
        with (self.folder / "sshd.log").open("ab") as log:
            self._child = subprocess.Popen(
                [_sshd(), "-D", "-e", "-f", str(self.folder / "sshd_config")],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        deadline = time.monotonic() + _START_LIMIT_S
        while time.monotonic() < deadline:
            if self._child.poll() is not None:
                raise RuntimeError(f"sshd ended at once: {self.log[-500:]}")
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
                return
            time.sleep(0.02)
        self.stop()
        raise RuntimeError(f"sshd does not listen after {_START_LIMIT_S:.0f} s: {self.log[-500:]}")

    def stop(self) -> None:
        """Stop the daemon: connections end, new ones are refused; what runs in a session of its own lives on."""
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            self._child = None
        self.drop_connections()

    def drop_connections(self) -> None:
        """Cut all connections at this moment; new ones are taken."""
        self.line.cut()

    def change_host_key(self) -> None:
        """Start again with another host key, which the client does not know."""
        self.stop()
        self._make_key("host_key")
        self.start()

    def processes(self) -> dict[int, str]:
        """Return the commands that run on the far side, by process id; sshd itself is not among them."""
        found = {}
        for name in os.listdir("/proc"):
            with contextlib.suppress(OSError):
                # A zombie has no environment: it is dead, and its parent's to bury.
                if name.isdigit() and f"{_MARK}={self.folder}".encode() in Path(
                    f"/proc/{name}/environ"
                ).read_bytes().split(b"\0"):
                    found[int(name)] = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode("latin-1")
        return found

    def wait_until_quiet(self, limit_s: float = 30.0) -> dict[int, str]:
        """Wait until nothing runs on the far side; return what still does after the limit."""
        deadline = time.monotonic() + limit_s
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        return left

    def kill(self) -> None:
        """Stop it with all that it ran, sessions of their own included: a board that loses its power."""
        self.stop()
        for _ in range(100):
            left = self.processes()
            if not left:
                return
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.05)
        raise RuntimeError(f"processes of sshd cannot be killed: {left}")


@contextlib.contextmanager
def running_sshd(folder: Path, *, environment: Mapping[str, str] | None = None, settings: str = "") -> Iterator[Sshd]:
    """Start an sshd; at the end it is killed with all that it ran.

    Args:
        folder: where its keys, configuration and log go; a folder ``sshd`` is made in it.
        environment: what commands see besides sshd's defaults, e.g. another ``PATH``.
        settings: lines to put before the others in ``sshd_config``; sshd takes the first value of each.
    """
    _check_there()
    place = folder / "sshd"
    place.mkdir(mode=0o700)
    server = Sshd(place, environment or {}, settings)
    try:
        server.start()
        yield server
    finally:
        server.kill()
        server.line.close()


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    """A server of the test's own, that it may cut, stop and give other keys."""
    with running_sshd(tmp_path) as server:
        yield server


@pytest.fixture(scope="session")
def shared_sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sshd]:
    """A server that tests share; do not cut or stop it."""
    with running_sshd(tmp_path_factory.mktemp("shared")) as server:
        yield server


def _sshd() -> str:
    """Return the path of sshd: it insists on an absolute one. Empty if there is none."""
    return shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:/sbin") or ""


def _check_there() -> None:
    missing = [name for name in ("ssh", "ssh-keygen") if shutil.which(name) is None]
    missing += [] if _sshd() else ["sshd"]
    if missing:
        _give_up(f"there is no {' and no '.join(missing)} (Debian: openssh-server)")
    if not Path("/proc/self/environ").exists():
        _give_up("there is no /proc to see what runs on the far side")
    if os.getuid() == 0:
        _PRIVILEGE_SEPARATION.mkdir(mode=0o755, exist_ok=True)


def _give_up(reason: str) -> None:
    if os.environ.get("DFMOBILE_REQUIRE_SSHD") == "1":
        pytest.fail(f"no sshd, and DFMOBILE_REQUIRE_SSHD=1: {reason}", pytrace=False)
    pytest.skip(f"skipped: no sshd: {reason}")
