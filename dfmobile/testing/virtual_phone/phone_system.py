"""The system of a virtual phone: its files, and its processes, apart from this machine's.

Commands are this machine's own, run for real in namespaces of Linux: they see the phone's /sys, /data, /system and
parts of /proc and /dev, and processes of the phone only. Where we are root they run as user 2000, a phone's ``shell``;
else as ourselves, in a user namespace. Knows nothing of ADB.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import IO

from dfmobile.errors import DeviceError, InputError

SCRATCH = "/data/local/tmp"
SHELL_USER = 2000
_WRITABLE = (SCRATCH, "/sdcard", "/storage/emulated/0")
_OVERLAID = ("proc", "dev")
_PHONE_FOLDERS = ("data", "sys", "system", "vendor", "sdcard", "storage")
_OWN_FOLDERS = f"its own folders are /{', /'.join((*_PHONE_FOLDERS, *_OVERLAID))}"
_MAX_LINKS = 40
_CONTROL_S = 30.0


class PhoneSystem:
    """Files and processes of a phone.

    Args:
        folder: where its files are kept; made if missing. Its /data survives ``stop`` and ``start``.
        files: absolute path on the phone to content; what a phone shows of itself.
        programs: name to absolute path of a program of this machine, or to the text of a script; all that the
            phone's shell finds by name.
        tree: a folder that is laid over the phone's ``/``.
        data_bytes: size of /data, which then is lost when the phone stops; None is no limit but this machine's.
    """

    def __init__(
        self,
        folder: Path,
        files: Mapping[str, bytes],
        programs: Mapping[str, str],
        *,
        tree: Path | None = None,
        data_bytes: int | None = None,
    ) -> None:
        self._data_bytes = data_bytes
        self.folder = folder.resolve()
        self.root = self.folder / "root"
        self.overlay = self.folder / "overlay"
        self.environment = {"PATH": "/system/bin", "HOME": "/", "TMPDIR": SCRATCH, "ANDROID_DATA": "/data"}
        self._holder: subprocess.Popen[bytes] | None = None
        self._init_pid = 0
        self._lock = threading.Lock()
        for name in (*_PHONE_FOLDERS, "data/local/tmp", "system/bin"):
            (self.root / name).mkdir(parents=True, exist_ok=True)
        for name in _OVERLAID:
            (self.overlay / name).mkdir(parents=True, exist_ok=True)
        self._own(self.root / "data/local/tmp", 0o771)
        self._own(self.root / "sdcard", 0o771)
        for path, content in files.items():
            self.plant(path, content)
        if tree is not None:
            for name in sorted(os.listdir(tree)):
                if name not in (*_PHONE_FOLDERS, *_OVERLAID):
                    raise InputError(f"{tree / name} cannot be laid over a virtual phone", hint=_OWN_FOLDERS)
                base = self.overlay if name in _OVERLAID else self.root
                shutil.copytree(tree / name, base / name, symlinks=True, dirs_exist_ok=True)
        for name, program in programs.items():
            target = self.root / "system/bin" / name
            target.unlink(missing_ok=True)
            if program.startswith("/"):
                target.symlink_to(program)
            else:
                target.write_text(program)
                target.chmod(0o755)

    def plant(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """Put a file where the phone shows it; in /proc only while the phone is off, or over one that is there.

        Raises:
            InputError: if the path is not one of the phone's own: this machine's files are never written.
        """
        parts = path.split("/")
        if parts[0] or ".." in parts or parts[1] not in (*_PHONE_FOLDERS, *_OVERLAID):
            raise InputError(f"{path!r} is not a file of a virtual phone", hint=_OWN_FOLDERS)
        target = self.overlay / path[1:] if parts[1] in _OVERLAID else self.on_host(path)
        if not target.is_relative_to(self.folder):
            raise InputError(f"{path!r} leads out of the virtual phone", hint=_OWN_FOLDERS)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)  # an earlier phone's of the same folder, perhaps closed to us
        target.write_bytes(content)
        target.chmod(mode)

    def _own(self, path: Path, mode: int) -> None:
        path.chmod(mode)
        if os.getuid() == 0:
            os.chown(path, SHELL_USER, SHELL_USER)

    # Processes

    def start(self) -> None:
        """Boot.

        Raises:
            DeviceError: if this machine does not allow it.
        """
        self.plant("/proc/sys/kernel/random/boot_id", f"{uuid.uuid4()}\n".encode())
        script = resources.files("dfmobile.testing.virtual_phone").joinpath("enter_phone.sh").read_text()
        owner = str(SHELL_USER if os.getuid() == 0 else 0)
        user = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
        # Its own file for what it complains about: a pipe that nobody reads could fill.
        with tempfile.TemporaryFile() as complaints:
            holder = subprocess.Popen(
                [_tool("unshare"), *user, "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private",
                 "/bin/sh", "-c", script, "sh", str(self.root), str(self.overlay), owner,
                 str(self._data_bytes or "")],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints, start_new_session=True,
            )  # fmt: skip
            if holder.stdout is None:
                raise RuntimeError("started without pipes")
            if holder.stdout.readline() != b"ready\n":
                holder.kill()
                holder.wait()
                _close(holder.stdin, holder.stdout)
                complaints.seek(0)
                lines = complaints.read(4096).decode("utf-8", "replace").strip().splitlines()
                said = f": {lines[-1]}" if lines else ""
                raise DeviceError(f"this machine does not let a virtual phone have its own files{said}", hint=_NEEDS)
        children = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
        with self._lock:
            self._holder, self._init_pid = holder, int(children[0])

    def stop(self) -> None:
        """End all processes of the phone; its files stay. Stopping twice is allowed."""
        with self._lock:
            holder, self._holder, self._init_pid = self._holder, None, 0
        if holder is None:
            return
        _close(holder.stdin)  # process 1 ends, and with it all the others
        try:
            holder.wait(_CONTROL_S)
        except subprocess.TimeoutExpired:
            holder.kill()  # --kill-child: process 1 too
            holder.wait()
        _close(holder.stdout)

    def command(self, argv: Sequence[str], *, terminal: bool = False, root: bool = False) -> list[str]:
        """Return what to run here for a command to run on the phone.

        Args:
            argv: the command.
            terminal: its input is to be its controlling terminal.
            root: as the phone's root, for the test bench's own doings.

        Raises:
            DeviceError: if the phone is off.
        """
        with self._lock:
            if not self._init_pid:
                raise DeviceError("the virtual phone is off")
            target = str(self._init_pid)
        if os.getuid() != 0:
            who = ["--user", "--preserve-credentials"]
        else:
            who = [] if root else [f"--setuid={SHELL_USER}", f"--setgid={SHELL_USER}"]
        enter = [_tool("nsenter"), "-t", target, *who, "--mount", "--pid", "--root", "--wd", "--"]
        return [_tool("setsid"), *(["--ctty"] if terminal else []), *enter, *argv]

    def set_read_only(self, read_only: bool) -> None:
        """Make /data read-only, or writable again, for commands."""
        option = f"remount,bind,{'ro' if read_only else 'rw'}"
        argv = self.command(["/bin/mount", "-o", option, "/data"], root=True)
        result = subprocess.run(argv, capture_output=True, timeout=_CONTROL_S, check=False)
        if result.returncode:
            raise DeviceError(f"/data cannot be remounted: {result.stderr.decode('utf-8', 'replace').strip()}")

    # Files

    def on_host(self, path: str, *, follow_last: bool = True) -> Path:
        """Return where a path of the phone is on this machine; links lead where they lead on the phone.

        Raises:
            OSError: ELOOP, if the links go round in circles; ENOENT, if the path is not absolute.
        """
        if not path.startswith("/"):
            raise OSError(errno.ENOENT, os.strerror(errno.ENOENT))
        waiting = [part for part in path.split("/") if part not in ("", ".")]
        done: list[str] = []
        links = 0
        while waiting:
            part = waiting.pop(0)
            if part == "..":
                del done[-1:]
                continue
            here = self._place([*done, part])
            if here.is_symlink() and (waiting or follow_last):
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
                link = os.readlink(here)
                if link.startswith("/"):
                    done = []
                waiting = [piece for piece in link.split("/") if piece not in ("", ".")] + waiting
                continue
            done.append(part)
        return self._place(done)

    def _place(self, parts: list[str]) -> Path:
        if not parts:
            return self.root
        if parts[0] == "data" and self._data_bytes is not None and self._init_pid:
            return Path(f"/proc/{self._init_pid}/root", *parts)  # it is in the phone's namespace only
        if parts[0] in _PHONE_FOLDERS:
            return self.root.joinpath(*parts)
        if parts[0] in _OVERLAID and self.overlay.joinpath(*parts).exists():
            return self.overlay.joinpath(*parts)
        return Path("/", *parts)

    def check_readable(self, place: Path) -> None:
        """Refuse what the phone's shell user may not read.

        Raises:
            OSError: if it is not there, or not to be read.
        """
        mode = place.stat()
        allowed = mode.st_mode & 0o004 or (mode.st_uid == SHELL_USER and mode.st_mode & 0o400)
        if os.getuid() == 0 and not allowed:
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    def check_writable(self, place: Path, *, read_only: bool) -> None:
        """Refuse to write where the phone's shell user may not.

        Raises:
            OSError: EACCES; EROFS if all is read-only.
        """
        if read_only:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        if not any(place.is_relative_to(self._place(folder.split("/")[1:])) for folder in _WRITABLE):
            raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    def give_to_shell(self, place: Path) -> None:
        """Make the phone's shell user the owner of a file or link."""
        if os.getuid() == 0:
            os.chown(place, SHELL_USER, SHELL_USER, follow_symlinks=False)


_NEEDS = "it needs Linux with util-linux, and root or user namespaces for everyone"


@lru_cache
def _tool(name: str) -> str:
    """Return where a program of this machine is: commands are started with the phone's PATH, which has it not."""
    found = shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin")
    if found is None:
        raise DeviceError(f"a virtual phone needs {name}, which is not installed", hint=_NEEDS)
    return found


def _close(*pipes: IO[bytes] | None) -> None:
    for pipe in pipes:
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
