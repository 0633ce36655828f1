"""What all transports over ADB share: commands, files and properties by streams of a link.

Subclasses make the link. Knows no models and no measurements, and not what carries the link.
"""

from __future__ import annotations

import contextlib
import re
import secrets
import stat as stat_bits
import tempfile
import time
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dfmobile.devices.getprop import parse_getprop
from dfmobile.devices.transport.adb_command import Ending, RemoteCommand
from dfmobile.devices.transport.adb_script import FarShell, command_script, look_around, read_around
from dfmobile.devices.transport.adb_stream import AdbLink, read_to_end
from dfmobile.devices.transport.adb_sync import SyncSession, file_stat, storage_hint
from dfmobile.devices.transport.arguments import check_command, check_path
from dfmobile.devices.transport.base import (
    DEFAULT_OUTPUT_LIMIT_BYTES,
    AnotherDeviceError,
    CommandResult,
    CommandTimeoutError,
    ConnectionLostError,
    FileStat,
    OnOutput,
    OnProgress,
    Transport,
)
from dfmobile.devices.uri import DeviceURI
from dfmobile.errors import DeviceError
from dfmobile.files import storage_error

if TYPE_CHECKING:
    from dfmobile.devices.profile_schema import DeviceProfile

_CONTROL_S = 60.0
_OPEN_S = 20.0
_STAT_LINE = re.compile(r"([0-9a-f]{1,8}) ([0-9]{1,19}) (-?[0-9]{1,19})")
_NO_ROOM = "free space on the device; if its storage is read-only, reboot it"
_NO_SETSID = "the device has no setsid, and its shell is not the head of a process group"


class AdbTransport(Transport):
    """A device over ADB.

    A lost connection is never mended silently: every call raises ``ConnectionLostError`` until ``reconnect``.

    Args:
        uri: the device.

    Raises:
        DeviceError: if the device cannot be reached, with what to do about it.
    """

    def __init__(self, uri: DeviceURI) -> None:
        super().__init__(uri)
        self._link: AdbLink | None = None
        self._shell = FarShell(None, "", False)
        self.reconnect()

    @abstractmethod
    def _connect(self) -> AdbLink:
        """Make a connection to the device."""

    def reconnect(self) -> None:
        """Connect again, after a ``ConnectionLostError``; what ran on the device may or may not run still.

        Raises:
            AnotherDeviceError: if another one answers at its address, e.g. since a router gave that away.
            DeviceError: if the device cannot be reached, with what to do about it.
        """
        self._check_open()
        self._drop()
        link = self._connect()
        try:
            self._shell = self._same_device(self._look_around(link))
        except BaseException:
            link.close()
            raise
        self._link = link

    def _same_device(self, shell: FarShell) -> FarShell:
        if self._shell.identity not in ("", shell.identity):
            raise AnotherDeviceError(
                f"{self.uri} is another device than before, or has another system now",
                hint="see which address the device has now (dfmobile devices), and run the command again",
            )
        return shell

    def close(self) -> None:
        """Let go of the device."""
        self._drop()
        super().close()

    def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            link.close()

    def _connected(self) -> AdbLink:
        self._check_open()
        if self._link is None:
            raise ConnectionLostError(f"the connection to {self.uri} is lost", hint="connect again (reconnect)")
        return self._link

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[AdbLink]:
        """Yield the link; a connection that breaks meanwhile is let go of, and its error names the device."""
        link = self._connected()
        try:
            yield link
        except ConnectionLostError as error:
            self._drop()
            if str(self.uri) in str(error):
                raise
            raise ConnectionLostError(f"{self.uri}: {error}", error.hint) from error

    def _look_around(self, link: AdbLink) -> FarShell:
        token = secrets.token_hex(12)
        deadline = time.monotonic() + _OPEN_S
        stream = link.open_stream(b"shell:" + look_around(token).encode(), deadline)
        try:
            output = read_to_end(stream, 1 << 16, deadline)
        finally:
            stream.close()
        found = read_around(token, output)
        if found is None:
            told = output.decode("utf-8", "replace").strip()[:200]
            raise DeviceError(
                f"{self.uri} has no shell that answers: {told!r}", hint="boot the phone to its home screen"
            )
        return found

    @property
    def scratch_root(self) -> str:
        """``/data/local/tmp``; where that is not there, ``TMPDIR`` of the device's shell, or ``/tmp``."""
        self._check_open()
        if self._shell.scratch is None:
            raise DeviceError(
                f"{self.uri} has no folder for temporary files (/data/local/tmp)",
                hint="boot the phone to its home screen",
            )
        return self._shell.scratch

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
        """Run a command to its end; see ``Transport.run``.

        On daemons without ``shell,v2`` stderr arrives when the command has ended.
        """
        check_command(argv, environment or {}, folder)
        started = time.perf_counter()
        deadline = time.monotonic() + timeout_s
        with self._guarded() as link, contextlib.ExitStack() as cleanup:
            framed = "shell_v2" in link.features
            token = secrets.token_hex(16)
            files = None if framed else self._scratch_files(link, token, stdin)
            script = command_script(
                token,
                argv,
                self._shell,
                environment=environment or {},
                folder=folder,
                files=files,
                has_input=bool(stdin),
            ).encode("utf-8", "surrogateescape")
            if len(script) > link.command_limit_bytes:
                script = self._as_file(link, script)
            service = b"shell,v2,raw:" if framed else b"shell:"
            stream = link.open_stream(service + script, time.monotonic() + _OPEN_S)
            cleanup.callback(stream.close)
            command = RemoteCommand(stream, token, framed=framed, returns=self._shell.returns)
            try:
                ending = command.converse(stdin, deadline, on_output, output_limit_bytes)
            except BaseException:
                # Also on Ctrl-C and on an exception of on_output. The first error is the one to tell.
                with contextlib.suppress(DeviceError):
                    command.stop(self._connect, link)
                raise
            if ending != "ended":
                command.stop(self._connect, link)
        self._check_ending(command, ending, argv[0], timeout_s, output_limit_bytes, folder)
        wall_ms = (time.perf_counter() - started) * 1000
        return CommandResult(
            tuple(argv), command.marks.exit_code or 0, bytes(command.stdout), bytes(command.stderr), wall_ms
        )

    def _check_ending(
        self,
        command: RemoteCommand,
        ending: Ending,
        program: str,
        timeout_s: float,
        limit_bytes: int,
        folder: str | None,
    ) -> None:
        """Raise where a command did not run to its end."""
        if ending == "timeout":
            raise CommandTimeoutError(
                f"{program} ran longer than {timeout_s:g} s and was stopped",
                hint="give it more time, or see why it hangs",
                stdout=bytes(command.stdout),
                stderr=bytes(command.stderr),
            )
        if ending == "too-much-output":
            raise DeviceError(f"{program} wrote more than {limit_bytes} bytes and was stopped")
        marks = command.marks
        if marks.no_folder:
            raise DeviceError(f"cannot run {program} in {folder}: there is no such folder", hint="check the path")
        if marks.no_group:
            raise DeviceError(f"cannot run {program} on {self.uri}: {_NO_SETSID}", hint="this Android is too old")
        if marks.no_scratch:
            raise DeviceError(
                f"cannot run {program} on {self.uri}: {self.scratch_root} cannot be written", hint=_NO_ROOM
            )
        if marks.group is None or marks.exit_code is None:
            raise DeviceError(f"{self.uri} could not start {program}", hint="it may have no memory left: reboot it")

    def _scratch_files(self, link: AdbLink, token: str, stdin: bytes) -> tuple[str, str]:
        """Return the paths of stdin and stderr for a daemon with one stream; the script removes both."""
        place = f"{self.scratch_root}/dfmobile-{token}"
        if stdin:
            self._write_small(link, stdin, f"{place}.in")
        return (f"{place}.in" if stdin else ""), f"{place}.err"

    def _as_file(self, link: AdbLink, script: bytes) -> bytes:
        """Put a script that is too long for a command line into a file; return the line that runs it."""
        path = f"{self.scratch_root}/dfmobile-{secrets.token_hex(12)}.sh"
        self._write_small(link, f"rm -f {path}\n".encode() + script, path)
        return f". {path}".encode()

    def _write_small(self, link: AdbLink, content: bytes, path: str) -> None:
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.seek(0)
            with _sync(link) as session:
                session.send(file, path, 0o600, None)

    def stat(self, path: str) -> FileStat | None:
        """Return what is at a path, links followed; None if there is nothing."""
        with self._guarded() as link:
            if "stat_v2" in link.features:
                with _sync(link) as session:
                    return session.stat_2(path)
        return self._stat_by_shell(path)

    def _stat_by_shell(self, path: str) -> FileStat | None:
        """As ``stat``, where the daemon cannot tell missing from forbidden, nor a size above 4 GiB."""
        check_path(path)
        result = self.run(["stat", "-L", "-c", "%f %s %Y", path], timeout_s=_CONTROL_S)
        if result.exit_code == 0:
            found = _STAT_LINE.fullmatch(result.text)
            if found is None:
                raise DeviceError(f"cannot look at {path} on the device: stat says {result.text[:100]!r}")
            return file_stat(path, int(found[1], 16), int(found[2]), int(found[3]))
        reason = result.stderr.decode("utf-8", "replace").strip()
        if "No such file" in reason or "Not a directory" in reason:
            return None
        raise DeviceError(f"cannot look at {path} on the device: {reason[-200:]}", hint=storage_hint(reason))

    def list_folder(self, path: str) -> list[FileStat]:
        """Return what is in a folder, sorted by name."""
        here = self.stat(path)
        if here is None or here.kind != "folder":
            what = "there is nothing" if here is None else "it is not a folder"
            raise DeviceError(f"cannot list {path} on the device: {what}", hint="check the path")
        with self._guarded() as link:
            version_2 = "ls_v2" in link.features
            with _sync(link) as session:
                found = session.list_folder(f"{path.rstrip('/')}/", 2 if version_2 else 1)
        entries = sorted((e for e in found if e.path not in (".", "..")), key=lambda e: e.path)
        if not found:
            # The daemon lists nothing, not even ".", where it may not read.
            self.run(["ls", "-a", path], timeout_s=_CONTROL_S).check(f"listing {path}")
        if not version_2 and any(e.kind == "file" for e in entries) and self._has_huge_files(path):
            return [self._with_true_size(path, entry) for entry in entries]
        return entries

    def _with_true_size(self, folder: str, entry: FileStat) -> FileStat:
        there = self._stat_by_shell(f"{folder.rstrip('/')}/{entry.path}") if entry.kind == "file" else None
        return entry if there is None else replace(entry, size_bytes=there.size_bytes)

    def _has_huge_files(self, folder: str) -> bool:
        """Whether a folder has files of 4 GiB or more, whose sizes wrap in an old daemon's listing."""
        found = self.run(["find", folder, "-maxdepth", "1", "-type", "f", "-size", "+8388607"], timeout_s=_CONTROL_S)
        return bool(found.stdout)

    def properties(self) -> dict[str, str]:
        """Return what ``getprop`` says, numbers of the unit left out; where there is none, the kernel's names."""
        result = self.run(["getprop"], timeout_s=_CONTROL_S, output_limit_bytes=1 << 22)
        if result.exit_code == 127:
            names = self.run(["uname", "-srm"], timeout_s=_CONTROL_S).check("reading the kernel's name").text.split()
            return dict(zip(("kernel.name", "kernel.release", "kernel.machine"), names, strict=False))
        return parse_getprop(result.check("reading the properties").stdout.decode("utf-8", "replace"))

    def probe(self) -> DeviceProfile:
        """Describe the device."""
        from dfmobile.devices.android import probe_android

        self._check_open()
        return probe_android(self)

    def _send(self, source: Path, target: str, mode: int, on_progress: OnProgress | None) -> None:
        parent = self.stat(target.rpartition("/")[0] or "/")
        if parent is None or parent.kind != "folder":  # the daemon would make it
            raise DeviceError(
                f"cannot write {target} on the device: its folder is not there", hint="make the folder first"
            )
        try:
            reader = source.open("rb")
        except OSError as error:
            raise storage_error(error, source, "read") from error
        with reader, self._guarded() as link, _sync(link) as session:
            session.send(reader, target, mode, on_progress)
        # The daemon gives the group the user's rights, and so on: the mode asked for is set afterwards.
        self.run(["chmod", f"{stat_bits.S_IMODE(mode):o}", target], timeout_s=_CONTROL_S).check(f"writing {target}")

    def _receive(self, source: str, target: Path, limit_bytes: int, on_progress: OnProgress | None) -> None:
        with _opened(target) as writer, self._guarded() as link, _sync(link) as session:
            session.receive(source, writer, limit_bytes, on_progress)


@contextlib.contextmanager
def _sync(link: AdbLink) -> Iterator[SyncSession]:
    session = SyncSession(link.open_stream(b"sync:", time.monotonic() + _OPEN_S))
    try:
        yield session
    finally:
        session.close()


@contextlib.contextmanager
def _opened(target: Path) -> Iterator[BinaryIO]:
    try:
        with target.open("wb") as writer:
            yield writer
    except OSError as error:
        raise storage_error(error, target, "write") from error
