"""Transport over ssh: a board with Linux, by the OpenSSH programs of this machine.

Whatever ``~/.ssh/config`` says holds (keys, agent, jump hosts, names, ports), except that nothing is ever asked and
the host's key must be known. All commands share one connection (``ssh_client``); each runs inside a small script that
reports its end and stops it when nobody is left to hear (``ssh_script``).

Files go through ``cat`` and ``head`` of the board, over the same connection: ssh is binary clean, the board's own words
say why a file could not be written (SFTP, version 3, has no code for a full disk), and a board without an SFTP
server will do.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import stat as stat_bits
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, ClassVar

from dfmobile.devices.transport.adb_sync import file_stat
from dfmobile.devices.transport.arguments import check_command, check_path
from dfmobile.devices.transport.base import (
    DEFAULT_OUTPUT_LIMIT_BYTES,
    AnotherDeviceError,
    CommandResult,
    ConnectionLostError,
    FileStat,
    OnOutput,
    OnProgress,
    Stream,
    TransferError,
    Transport,
)
from dfmobile.devices.transport.ssh_client import SshMaster, config_from_environment
from dfmobile.devices.transport.ssh_command import Feed, SshCommand
from dfmobile.devices.transport.ssh_endings import Asked, check_ending
from dfmobile.devices.transport.ssh_messages import last_line, lost_error, storage_hint
from dfmobile.devices.transport.ssh_script import FarSide, command_script, list_entries, receive_file
from dfmobile.devices.uri import DeviceURI
from dfmobile.errors import DeviceError
from dfmobile.files import storage_error

if TYPE_CHECKING:
    from dfmobile.devices.profile_schema import DeviceProfile

_CONTROL_S = 60.0
_IDLE_S = 90.0  # of a transfer: longer than ssh takes to see that the connection is dead
_SLOWEST_BYTES_PER_S = 20_000
_STAT_LINE = re.compile(r"([0-9a-f]{1,8}) ([0-9]{1,19}) (-?[0-9]{1,19})")
_LISTING_BYTES = 1 << 26
_ENGLISH = {"LC_ALL": "C"}
_PROPERTIES = """
echo "kernel.name=$(uname -s)"; echo "kernel.release=$(uname -r)"; echo "kernel.machine=$(uname -m)"
if [ -r /etc/os-release ]; then (. /etc/os-release; echo "os.id=$ID"; echo "os.version_id=$VERSION_ID"); fi
for f in model compatible; do
  [ -r /proc/device-tree/$f ] && echo "board.$f=$(head -c 400 /proc/device-tree/$f | tr '\\000' ' ')"
done
[ -r /etc/nv_tegra_release ] && echo "l4t.release=$(head -n 1 /etc/nv_tegra_release)"
exit 0
"""


class SshTransport(Transport):
    """A board over ssh.

    A lost connection is never mended silently: every call raises ``ConnectionLostError`` until ``reconnect``.

    Args:
        uri: the board.
        config_file: for ``ssh -F``; None for the user's own configuration.

    Raises:
        InputError: if ssh's configuration cannot be used.
        DeviceError: if the board cannot be reached, with what to do about it.
    """

    scheme: ClassVar[str] = "ssh"

    def __init__(self, uri: DeviceURI, config_file: Path | None = None) -> None:
        super().__init__(uri)
        self._config_file = config_file
        self._master: SshMaster | None = None
        self._scratch: str | None = None
        self._user_id: int | None = None
        self._identity = ""
        self.reconnect()

    @classmethod
    def open(cls, uri: DeviceURI) -> SshTransport:
        """Connect, with the configuration that ``DFMOBILE_SSH_CONFIG`` names, or the user's own."""
        return cls(uri, config_from_environment())

    def reconnect(self) -> None:
        """Connect again, after a ``ConnectionLostError``; what ran on the board stops by itself within a minute.

        Raises:
            AnotherDeviceError: if another board answers, or one with another host key.
            DeviceError: if the board cannot be reached, with what to do about it.
        """
        self._check_open()
        self._drop()
        master = SshMaster(self.uri, self._config_file)
        far = master.far
        try:
            self._check_far(far)
        except BaseException:
            master.close()
            raise
        self._scratch, self._user_id, self._identity = far.scratch, far.user_id, far.identity
        self._master = master

    def _check_far(self, far: FarSide) -> None:
        if far.missing:
            raise DeviceError(
                f"{self.uri} lacks programs that are needed there: {', '.join(far.missing)}",
                hint="install coreutils and util-linux on the board",
            )
        if self._identity not in ("", far.identity):
            raise AnotherDeviceError(
                f"{self.uri} is another board than before, or has another system now",
                hint="see which address the board has now, and run the command again",
            )

    def close(self) -> None:
        """Let go of the board."""
        self._drop()
        super().close()

    def _drop(self) -> None:
        master, self._master = self._master, None
        if master is not None:
            master.close()

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[SshMaster]:
        """Yield the connection; one that breaks meanwhile is let go of, and its error names the board."""
        self._check_open()
        master = self._master
        if master is None:
            raise ConnectionLostError(f"the connection to {self.uri} is lost", hint="connect again (reconnect)")
        try:
            if not master.is_alive():
                raise lost_error(self.uri, master.messages)
            yield master
        except ConnectionLostError as error:
            if str(self.uri) in str(error):
                self._drop()
                raise
            lost = lost_error(self.uri, master.messages, str(error))
            self._drop()
            raise lost from error

    @property
    def scratch_root(self) -> str:
        """``TMPDIR`` of the far side, ``/tmp`` or ``/var/tmp``: the first that can be written."""
        self._check_open()
        if self._scratch is None:
            raise DeviceError(
                f"{self.uri} has no folder for temporary files that {self.uri.user} may write (TMPDIR, /tmp, /var/tmp)",
                hint="see its rights on the board: ls -ld /tmp (1777 is usual); a full or read-only disk shows in df",
            )
        return self._scratch

    @property
    def scratch_name(self) -> str:
        """A name for each user of the board: all of them write to ``/tmp``."""
        return "dfmobile" if self._user_id is None else f"dfmobile-{self._user_id}"

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
        check_command(argv, environment or {}, folder)
        started = time.perf_counter()
        deadline = time.monotonic() + timeout_s
        token = secrets.token_hex(16)
        script = command_script(
            token,
            argv,
            environment=environment or {},
            folder=folder,
            input_bytes=len(stdin),
            scratch=self._scratch,
        )
        with self._command(token, script, stdin) as command:
            ending = command.converse(deadline, on_output, output_limit_bytes)
            if ending in ("timeout", "too-much-output"):
                command.stop()
            asked = Asked(self.uri, argv[0], timeout_s, output_limit_bytes, folder, self._scratch)
            check_ending(command, ending, asked, self._master)
        wall_ms = (time.perf_counter() - started) * 1000
        return CommandResult(
            tuple(argv), command.marks.exit_code or 0, bytes(command.stdout), bytes(command.stderr), wall_ms
        )

    @contextlib.contextmanager
    def _command(
        self,
        token: str,
        script: str,
        data: bytes | BinaryIO,
        size_bytes: int = 0,
        on_progress: OnProgress | None = None,
    ) -> Iterator[SshCommand]:
        """Yield a command that is starting; whatever happens, it does not run on."""
        lines = script.encode("utf-8", "surrogateescape")
        with self._guarded() as master:
            command = SshCommand(master.start(lines), token, Feed(lines, data, size_bytes, on_progress))
            try:
                yield command
            except ConnectionLostError:
                raise
            except BaseException:
                # Also on Ctrl-C and on an exception of on_output. The first error is the one to tell.
                if not command.marks.finished:
                    with contextlib.suppress(DeviceError):
                        command.stop()
                raise
            finally:
                command.close()

    def stat(self, path: str) -> FileStat | None:
        """Return what is at a path, links followed; None if there is nothing."""
        check_path(path)
        result = self.run(["stat", "-L", "-c", "%f %s %Y", "--", path], timeout_s=_CONTROL_S, environment=_ENGLISH)
        if result.exit_code == 0:
            found = _STAT_LINE.fullmatch(result.text)
            if found is None:
                raise DeviceError(f"cannot look at {path} on the device: stat says {result.text[:100]!r}")
            return file_stat(path, int(found[1], 16), int(found[2]), int(found[3]))
        reason = last_line(result.stderr.decode("utf-8", "replace"))
        if "No such file" in reason or "Not a directory" in reason:
            return None
        raise DeviceError(f"cannot look at {path} on the device: {reason}", hint=storage_hint(reason))

    def list_folder(self, path: str) -> list[FileStat]:
        """Return what is in a folder, sorted by name."""
        check_path(path)
        result = self.run(
            list_entries(path), timeout_s=_CONTROL_S, environment=_ENGLISH, output_limit_bytes=_LISTING_BYTES
        )
        if result.exit_code == 3:
            raise DeviceError(f"cannot list {path} on the device: it is no folder", hint="check the path")
        if result.exit_code == 4:
            raise DeviceError(
                f"cannot list {path} on the device: it may not be read", hint=storage_hint("permission denied")
            )
        found = []
        for entry in result.check(f"listing {path}").stdout.decode("utf-8", "surrogateescape").split("\0")[:-1]:
            line, _, name = entry.partition(" ./")
            match = _STAT_LINE.fullmatch(line)
            if match is None or name in ("", ".", "..") or "/" in name:
                raise DeviceError(f"cannot list {path} on the device: stat says {entry[:100]!r}")
            found.append(file_stat(name, int(match[1], 16), int(match[2]), int(match[3])))
        return sorted(found, key=lambda entry: entry.path)

    def properties(self) -> dict[str, str]:
        """Return the names of kernel and distribution, the board's model and its L4T release where it has them."""
        result = self.run(["sh", "-c", _PROPERTIES], timeout_s=_CONTROL_S, output_limit_bytes=1 << 16)
        lines = result.check("reading the properties").stdout.decode("utf-8", "replace").splitlines()
        found = {name: value.strip() for name, _, value in (line.partition("=") for line in lines)}
        return {name: value for name, value in found.items() if re.fullmatch(r"[a-z0-9_.]+", name) and value}

    def probe(self) -> DeviceProfile:
        """Describe the board."""
        from dfmobile.devices.jetson import probe_linux_board

        self._check_open()
        return probe_linux_board(self)

    def _send(self, source: Path, target: str, mode: int, on_progress: OnProgress | None) -> None:
        check_path(target)
        try:
            reader = source.open("rb")
        except OSError as error:
            raise storage_error(error, source, "read") from error
        with reader:
            size = reader.seek(0, 2)
            reader.seek(0)
            limit_s = int(_CONTROL_S + size / _SLOWEST_BYTES_PER_S)
            argv = receive_file(size, target, stat_bits.S_IMODE(mode), limit_s)
            command = self._transfer(argv, target, "writing", None, (reader, size, on_progress))
        if command.marks.exit_code:
            reason = last_line(command.stderr.decode("utf-8", "replace")).removeprefix("head: ")
            if "bytes arrived" in reason:
                raise TransferError(f"{source} to {target}: {reason}", hint="run the command again")
            raise DeviceError(f"cannot write {target} on the device: {reason}", hint=storage_hint(reason))

    def _receive(self, source: str, target: Path, limit_bytes: int, on_progress: OnProgress | None) -> None:
        check_path(source)
        done = 0
        try:
            with target.open("wb") as writer:

                def take(stream: Stream, data: bytes) -> None:
                    nonlocal done
                    if stream == "stderr":
                        return
                    done += len(data)
                    if done > limit_bytes:
                        raise TransferError(
                            f"{source} grew while it was copied", hint="copy it when nothing writes to it"
                        )
                    writer.write(data)
                    if on_progress is not None:
                        on_progress(done, limit_bytes)

                command = self._transfer(["cat", "--", source], source, "reading", take, None)
        except OSError as error:
            raise storage_error(error, target, "write") from error
        if command.marks.exit_code:
            reason = last_line(command.stderr.decode("utf-8", "replace")).removeprefix("cat: ")
            raise DeviceError(f"cannot read {source} on the device: {reason}", hint=storage_hint(reason))

    def _transfer(
        self,
        argv: Sequence[str],
        path: str,
        action: str,
        on_output: OnOutput | None,
        sent: tuple[BinaryIO, int, OnProgress | None] | None,
    ) -> SshCommand:
        """Run a command that a file goes through, for as long as something moves."""
        token = secrets.token_hex(16)
        script = command_script(
            token, argv, environment=_ENGLISH, folder=None, input_bytes=0, scratch=None, stream=sent is not None
        )
        data, size, on_progress = sent if sent is not None else (b"", 0, None)
        with self._command(token, script, data, size, on_progress) as command:
            ending = command.converse(float("inf"), on_output, 0, idle_s=_IDLE_S, keep=False)
            if ending == "timeout":
                raise ConnectionLostError(f"{action} {path}: nothing has moved for {_IDLE_S:.0f} s")
            check_ending(command, ending, Asked(self.uri, argv[0], _IDLE_S, 0, None, None), self._master)
        return command
