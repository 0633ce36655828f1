"""Files of a device behind a transport, brought in one or two round trips and then read like local ones.

A phone has hundreds of files that describe it. One shell for each would take seconds over a cable, so a POSIX-sh
script (``remote_files.sh``: mksh with toybox, dash, busybox) walks them all on the device. Knows transports and
files; what the files mean is the probe's part.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib import resources
from typing import Literal

from dfmobile.devices.remote_listing import HEADER, Listing, parse_listing
from dfmobile.devices.system_files import clean
from dfmobile.devices.transport.base import CommandTimeoutError, Transport

_CPU = "/sys/devices/system/cpu"
_BEGIN = f"echo '{HEADER}'\n"  # of the script's output
_KIND_LETTERS = {"bytes": "r", "line": "s", "names": "l"}


@dataclass(frozen=True)
class FileGroup:
    """Files of one name each in every folder that a pattern finds.

    Attributes:
        folders: absolute path, ``*`` and ``[0-9]`` allowed; with ``/`` at its end it finds folders only.
        names: file names, or paths below the folders; ``.`` is the folder itself.
        kind: ``bytes``; ``line`` for what is probably one short line of text (read by the shell itself, without a
            process of its own; NULs in it are lost); ``names``: what is in the folder.
    """

    folders: str
    names: tuple[str, ...]
    kind: Literal["bytes", "line", "names"] = "line"

    def __post_init__(self) -> None:
        for text in (self.folders, *(self.names or ("",))):
            if not text or any(letter in text for letter in ":,\n\0"):
                raise ValueError(f"{text!r} cannot be asked for in one line")
        if not self.folders.startswith("/"):
            raise ValueError(f"{self.folders!r} is not absolute")

    def __str__(self) -> str:
        return f"{_KIND_LETTERS[self.kind]}:{self.folders}:{','.join(self.names)}"

    def holds(self, path: str) -> bool:
        """True if the path is one that this group asks for."""
        for name in self.names:
            pattern = self.folders.rstrip("/") if name == "." else f"{self.folders.rstrip('/')}/{name}"
            parts, wanted = path.split("/"), pattern.split("/")
            if len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted)):
                return True
        return False


# Everything that the probe of a phone asks for.
PHONE_FILES = (
    FileGroup("/proc", ("cpuinfo", "meminfo", "stat", "self/status", "device-tree/compatible"), "bytes"),
    FileGroup("/proc", ("loadavg", "self/cpuset", "sys/kernel/osrelease")),
    FileGroup(_CPU, ("present", "possible", "online")),
    FileGroup(
        f"{_CPU}/cpu[0-9]*",
        (
            "cpu_capacity",
            "regs/identification/midr_el1",
            "topology/thread_siblings_list",
            *(
                f"cpufreq/{name}"
                for name in (
                    "cpuinfo_max_freq",
                    "cpuinfo_min_freq",
                    "related_cpus",
                    "scaling_available_governors",
                    "scaling_governor",
                    "scaling_cur_freq",
                )
            ),
        ),
    ),
    FileGroup(f"{_CPU}/cpu[0-9]*", ("cache",), "names"),
    FileGroup(f"{_CPU}/cpu[0-9]*/cache/index*", ("level", "type", "size", "shared_cpu_list", "coherency_line_size")),
    FileGroup("/sys/class/thermal", (".",), "names"),
    FileGroup("/sys/class/thermal/thermal_zone*", ("type", "temp")),
    FileGroup("/dev/cpuset", (".",), "names"),
    FileGroup("/dev/cpuset/*/", ("cpus",)),
    FileGroup("/sys/devices/soc0", ("family", "machine", "chip_name")),
    FileGroup("/sys/class/kgsl/kgsl-3d0", ("gpu_model", "max_gpuclk")),
    FileGroup("/sys/class/misc/mali0/device", ("gpuinfo",)),
    FileGroup("/sys/class/power_supply", (".",), "names"),
    FileGroup("/sys/class/power_supply/*", ("type", "online", "capacity", "temp")),
)


@dataclass(frozen=True)
class RemoteLimits:
    """Bounds on one look at a device.

    Attributes:
        file_bytes: most of one file that is read.
        total_bytes: most of all files together in one round trip.
        timeout_s: of one round trip.
        hangs: how many files may hang (each costs ``timeout_s``) before the rest is given up.
        command_characters: most that one command line may have; old phones take 4096 with what the transport adds.
    """

    file_bytes: int = 32 * 1024
    total_bytes: int = 512 * 1024
    timeout_s: float = 20.0
    hangs: int = 2
    command_characters: int = 2900


class RemoteFiles:
    """Files of a device, as they were when this object was made. Only what was asked for is there.

    Args:
        transport: the device; used by the constructor only.
        groups: the files to bring.
        limits: bounds.
        shell_command: the device's POSIX shell.
        root: folder on the device that stands for ``/``; for tests.
        first: lines of shell that the script runs before it reads files; what they write is in its own format.

    Raises:
        DeviceError: if the device went away, has no shell, or sends what is no answer. A file that cannot be read
            is no error: ``reason`` says why.
    """

    def __init__(
        self,
        transport: Transport,
        groups: Sequence[FileGroup] = PHONE_FILES,
        limits: RemoteLimits = RemoteLimits(),
        *,
        shell_command: Sequence[str] = ("sh",),
        root: str = "",
        first: str = "",
    ) -> None:
        self._first = _without_comments(first)
        self._groups = tuple(groups)
        self._limits = limits
        self._gave_up = ""
        self._listing = Listing()
        self.round_trips = 0
        for part in self._parts(root):
            self._listing.add(self._fetch(transport, shell_command, root, part))
            self._first = ""  # once, whatever the number of command lines
        self._texts = {path: clean(data) for path, data in self._listing.files.items()}

    def read(self, path: str) -> str | None:
        """Return a file's text; None where it was not asked for or could not be read."""
        return self._texts.get(path)

    def names(self, folder: str) -> list[str]:
        """Return the sorted names in a folder that was asked for; of others, the names of what was brought."""
        listed = self._listing.folders.get(folder.rstrip("/"))
        if listed is not None:
            return list(listed)
        prefix = folder.rstrip("/") + "/"
        paths = [*self._texts, *self._listing.folders]
        return sorted({path[len(prefix) :].split("/")[0] for path in paths if path.startswith(prefix)})

    def reason(self, path: str) -> str:
        """Say in a few words why a path could not be read."""
        text = self._texts.get(path)
        if text is not None:
            return f"it says {text[:60]!r}" if text else "it is empty"
        if path in self._listing.folders:
            return "it is a folder"
        known = self._listing.reasons
        if path in known:
            return known[path]
        for parent in _parents(path):
            if parent in known:
                return f"{parent}: {known[parent]}"
        if any(group.holds(path) for group in self._groups):
            return self._gave_up or "no such file or directory"
        return "dfmobile does not ask for it"

    @property
    def closed(self) -> dict[str, str]:
        """What is there and may not be read, or did not answer: path to reason."""
        absent = ("no such file or directory", "not a directory", "the folder is empty", "no such device")
        return {path: reason for path, reason in self._listing.reasons.items() if not reason.startswith(absent)}

    @property
    def cut(self) -> list[str]:
        """Files of which only the first ``file_bytes`` were read."""
        return [path for path, data in self._listing.files.items() if len(data) >= self._limits.file_bytes]

    def _parts(self, root: str) -> Iterator[list[str]]:
        """Divide the groups among as few command lines as they fit in."""
        room = self._limits.command_characters - len(shlex.join(["sh", "-c", _script(self._first), root])) - 200
        part: list[str] = []
        for group in self._groups:
            if part and len(shlex.join([*part, str(group)])) > room:
                yield part
                part = []
            part.append(str(group))
        if part:
            yield part

    def _fetch(self, transport: Transport, shell: Sequence[str], root: str, part: list[str]) -> Listing:
        """Run the script; where a file hangs, again without it."""
        limits, found, skip = self._limits, Listing(), list[str]()
        for _ in range(limits.hangs + 1):
            sizes = [str(limits.file_bytes), str(limits.total_bytes)]
            argv = [*shell, "-c", _script(self._first), "sh", root, *sizes, ",".join(skip), *part]
            self.round_trips += 1
            try:
                # Hexadecimal with offsets takes four to five times the bytes; names and paths come on top.
                result = transport.run(argv, timeout_s=limits.timeout_s, output_limit_bytes=8 * limits.total_bytes)
            except CommandTimeoutError as error:
                found = parse_listing(error.stdout, partial=True)
                hung = found.last_path
                if hung is None or hung in skip:
                    raise  # the shell itself hangs
                skip.append(hung)
                found.reasons.update(dict.fromkeys(skip, f"no answer within {limits.timeout_s:g} s"))
                continue
            found = parse_listing(result.check("reading the device's files").stdout)
            found.reasons.update(dict.fromkeys(skip, f"no answer within {limits.timeout_s:g} s"))
            if found.stopped:
                self._gave_up = f"not read: more than {limits.total_bytes} bytes in all"
            return found
        self._gave_up = f"not read: {len(skip)} files before it did not answer within {limits.timeout_s:g} s each"
        return found


def _parents(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _script(first: str = "") -> str:
    """Return the script without comments and indents: an old phone takes a short command line only."""
    begin, header, end = _text().partition(_BEGIN)
    return f"{begin}{header}{first}\n{end}" if first else begin + header + end


@lru_cache(maxsize=1)
def _text() -> str:
    return _without_comments(
        resources.files("dfmobile.devices").joinpath("remote_files.sh").read_text(encoding="utf-8")
    )


def _without_comments(text: str) -> str:
    lines = (line.strip() for line in text.splitlines())
    return "\n".join(line for line in lines if line and not line.startswith("#"))
