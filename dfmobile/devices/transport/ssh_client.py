"""The ssh program of this machine: how it is called, and the one connection that all commands share.

Nothing here asks: there are no passwords, no passphrases, no "are you sure". The host's key must be known, whatever
the user's configuration says; the rest of that configuration holds (keys, agents, jump hosts, names).
"""

from __future__ import annotations

import contextlib
import os
import secrets
import select
import shutil
import signal
import subprocess
import tempfile
import time
import weakref
from pathlib import Path

from dfmobile.devices.transport.ssh_messages import by_hand, connection_error, last_line
from dfmobile.devices.transport.ssh_script import FarSide, bootstrap, look_around, read_around
from dfmobile.devices.uri import SSH_PORT, DeviceURI
from dfmobile.errors import DeviceError, InputError

CONFIG_VARIABLE = "DFMOBILE_SSH_CONFIG"
_CONNECT_S = 15  # for TCP and the first words
_OPEN_S = 60.0  # for all of it: jump hosts, agents that ask their user, a board that boots
_ALIVE_S, _ALIVE_TIMES = 15, 3
_CLOSE_S = 2.0
_MESSAGE_BYTES = 1 << 16
_AROUND_BYTES = 1 << 16
_SOCKET_PATH_BYTES = 100  # the kernel's limit is 108 (104 on macOS)
_SOCKET_SUFFIX_BYTES = 18  # ssh binds it under a longer name first
_PREFIX = "dfmobile-ssh-"
_STALE_S = 3600.0

_OPTIONS = (
    "BatchMode=yes",
    "StrictHostKeyChecking=yes",
    "NoHostAuthenticationForLocalhost=no",
    "UpdateHostKeys=no",
    f"ConnectTimeout={_CONNECT_S}",
    "ConnectionAttempts=1",
    f"ServerAliveInterval={_ALIVE_S}",
    f"ServerAliveCountMax={_ALIVE_TIMES}",
    "LogLevel=INFO",
    "EscapeChar=none",
    "RequestTTY=no",
    "RemoteCommand=none",
    "PermitLocalCommand=no",
    "ClearAllForwardings=yes",
    "ForwardAgent=no",
    "ForwardX11=no",
    "ControlPersist=no",
)


def config_from_environment() -> Path | None:
    """Return the file that ``DFMOBILE_SSH_CONFIG`` names, which ssh reads instead of its own (``ssh -F``)."""
    text = os.environ.get(CONFIG_VARIABLE, "")
    return Path(text).expanduser() if text else None


def ssh_arguments(uri: DeviceURI, config_file: Path | None, *options: str) -> list[str]:
    """Return ssh's arguments up to and including the host; a command may follow.

    The port is left to the configuration where the URI has ssh's own.

    Raises:
        InputError: if the configuration file is not there.
    """
    arguments = ["ssh"]
    if config_file is not None:
        if not config_file.is_file():
            raise InputError(
                f"there is no ssh configuration {config_file}",
                hint=f"correct {CONFIG_VARIABLE}, or unset it to use ~/.ssh/config",
            )
        arguments += ["-F", str(config_file)]
    for option in (*options, *_OPTIONS):
        arguments += ["-o", option]
    if uri.port != SSH_PORT:
        arguments += ["-p", str(uri.port)]
    # Neither can begin with a dash (dfmobile.devices.uri); the two dashes say it to ssh as well.
    return [*arguments, "-T", "-l", str(uri.user), "--", str(uri.host)]


def client_environment() -> dict[str, str]:
    """Return the environment for ssh: messages in English, and no way to ask, for a jump host's ssh neither."""
    left_out = ("DISPLAY", "WAYLAND_DISPLAY", "SSH_ASKPASS")
    kept = {name: value for name, value in os.environ.items() if name not in left_out}
    return {**kept, "LC_ALL": "C", "SSH_ASKPASS_REQUIRE": "never"}


def ssh_version() -> str | None:
    """Return what ``ssh -V`` says, e.g. ``OpenSSH_9.2p1``; None where there is no ssh."""
    if shutil.which("ssh") is None:
        return None
    found = subprocess.run(["ssh", "-V"], capture_output=True, timeout=20, check=False)
    return (found.stderr or found.stdout).decode("utf-8", "replace").split(",")[0].strip()[:100]


def start_ssh(arguments: list[str], stderr: int) -> subprocess.Popen[bytes]:
    """Start ssh with pipes, in a session of its own: no terminal to ask at, no Ctrl-C that is meant for us.

    Raises:
        DeviceError: if there is no ssh.
    """
    try:
        return subprocess.Popen(
            arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr,
            env=client_environment(), start_new_session=True, bufsize=0,
        )  # fmt: skip
    except FileNotFoundError as error:
        raise DeviceError(
            "there is no program ssh on this computer", hint="install OpenSSH's client (apt install openssh-client)"
        ) from error
    except OSError as error:
        raise DeviceError(f"ssh cannot be started: {error.strerror or error}") from error


class SshMaster:
    """A connection to a board: a running ``ssh``, whose control socket carries all commands.

    It lives as long as its stdin, which only we hold: where we are killed, it ends by itself.

    Args:
        uri: the board.
        config_file: for ``ssh -F``.

    Attributes:
        far: what was found out about the far side.

    Raises:
        InputError: if ssh's configuration cannot be used.
        DeviceError: if the board cannot be reached, with what to do about it.
    """

    def __init__(self, uri: DeviceURI, config_file: Path | None) -> None:
        self._uri = uri
        self._config_file = config_file
        self._folder = _control_folder()
        self._socket = str(self._folder / "s").replace("%", "%%")  # ssh expands %-words in it
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the connection
        token = secrets.token_hex(16)
        script = look_around(token).encode()
        options = ("ControlMaster=yes", f"ControlPath={_quoted(self._socket)}")
        try:
            arguments = [*ssh_arguments(uri, config_file, *options), bootstrap(script)]
            self._child = start_ssh(arguments, self._messages.fileno())
        except BaseException:
            self._messages.close()
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self._finish = weakref.finalize(self, _shut_down, self._child, self._folder, self._messages, os.getpid())
        try:
            self.far = self._look_around(token, script)
        except BaseException:
            self.close()
            raise

    def _look_around(self, token: str, script: bytes) -> FarSide:
        deadline = time.monotonic() + _OPEN_S
        output = b""
        if self._child.stdin is None or self._child.stdout is None:
            raise RuntimeError("ssh was started without pipes")
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.write(script)
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0 or not select.select([self._child.stdout], [], [], left_s)[0]:
                raise DeviceError(
                    f"{self._uri} does not answer in {_OPEN_S:.0f} s: {last_line(self.messages)}",
                    hint=f"see where it stays: {by_hand(self._uri)} -v true",
                )
            data = os.read(self._child.stdout.fileno(), 1 << 16)
            output += data
            found = read_around(token, output)
            if found is not None:
                return found
            if not data or len(output) > _AROUND_BYTES:
                break
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(_CLOSE_S)
        if self._child.returncode == 255 and not output:
            raise connection_error(self._uri, self.messages)
        said = last_line(output[-1000:].decode("utf-8", "replace") if output else self.messages)
        raise DeviceError(
            f"{self._uri} has no shell that answers: {said}",
            hint=f"see that this prints 'ok': {by_hand(self._uri)} 'sh -c \"echo ok\"'",
        )

    @property
    def messages(self) -> str:
        """What ssh wrote until now."""
        with contextlib.suppress(OSError, ValueError):
            return os.pread(self._messages.fileno(), _MESSAGE_BYTES, 0).decode("utf-8", "replace")
        return ""

    def is_alive(self, wait_s: float = 0.0) -> bool:
        """Tell whether the connection is there; with a time, wait so long for its end."""
        try:
            self._child.wait(wait_s)
        except subprocess.TimeoutExpired:
            return True
        return False

    def start(self, script: bytes) -> subprocess.Popen[bytes]:
        """Start the ssh of one command; the script must be the first that is written to it.

        It goes through this connection or fails: were that gone, ssh would make another without a word.
        """
        options = ("ControlMaster=no", f"ControlPath={_quoted(self._socket)}", "ProxyCommand=false")
        return start_ssh([*ssh_arguments(self._uri, self._config_file, *options), bootstrap(script)], subprocess.PIPE)

    def close(self) -> None:
        """End the connection, and whatever goes through it."""
        self._finish()


def end(child: subprocess.Popen[bytes], limit_s: float) -> None:
    """End an ssh: asked first, then killed with what it started (a jump host's ssh)."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        # Not reaped before: its number is still its own.
        if child.poll() is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(limit_s)
            break
    for pipe in (child.stdin, child.stdout, child.stderr):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()


def _shut_down(child: subprocess.Popen[bytes], folder: Path, messages: object, owner: int) -> None:
    if os.getpid() != owner:
        return  # a forked child: the connection is its parent's
    end(child, _CLOSE_S)
    shutil.rmtree(folder, ignore_errors=True)
    close = getattr(messages, "close", None)
    if close is not None:
        close()


def _control_folder() -> Path:
    """Make a folder that only we may enter, with a name so short that a socket can be in it."""
    bases = [os.environ.get("XDG_RUNTIME_DIR", ""), tempfile.gettempdir(), "/tmp"]  # noqa: S108 - mode 0700
    for base in filter(None, bases):
        length = len(os.fsencode(base)) + len(_PREFIX) + 8 + len("//s") + _SOCKET_SUFFIX_BYTES
        if length <= _SOCKET_PATH_BYTES and os.access(base, os.W_OK | os.X_OK):
            _remove_stale(Path(base))
            with contextlib.suppress(OSError):
                return Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    raise DeviceError(
        "there is no folder for the control socket of ssh", hint="set XDG_RUNTIME_DIR to a short path of your own"
    )


def _remove_stale(base: Path) -> None:
    """Remove what processes that were killed left: a living one's folder has a socket in it, and so stays."""
    for path in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if time.time() - path.lstat().st_mtime > _STALE_S:
                path.rmdir()


def _quoted(value: str) -> str:
    return f'"{value}"'
