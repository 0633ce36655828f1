"""The shell scripts in which a command runs on the device, and reading what they print. Pure text and bytes.

A daemon of ADB runs one line by the device's ``sh`` and no more: what the contract of transports promises beyond
that is done by a small script around the command:

- The command gets a session of its own (``setsid``), so that it and its children can be stopped together. When it
  has ended, the rest of its process group is killed; likewise when the connection breaks (SIGHUP). Where a device
  has no ``setsid``, the shell's own process group is used and swept through ``/proc``.
- Marks are printed around its output: a random token, then ``p`` and the process group; at the end ``e`` and
  the exit code. So the group is known to whoever must stop it, and an end is told from a broken connection.
- On daemons without ``shell,v2`` (up to Android 6) there is only one stream and it is a terminal: a line feed arrives
  as carriage return and line feed, which is undone exactly; stderr goes to a scratch file and is printed after the
  mark ``e``, then the mark ``z``; stdin comes from a scratch file.

Written for mksh, dash and bash, with toybox. ``kill -s NAME -- -GROUP`` is the one form that all three take.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

from dfmobile.devices.transport.base import ConnectionLostError, Stream

_MARK_BYTES = 64  # longest line of a mark
# Together they tell devices of one model apart, and one device from itself with another system.
_IDENTITY = "ro.serialno ro.product.model ro.product.device ro.build.fingerprint"
_PRELUDE_BYTES = 1 << 16  # what a shell may print before the first mark: warnings of the linker

# Kill the other members of this shell's process group; three passes for those that are born meanwhile. The part
# of /proc/PID/stat after the name in brackets is: state, parent, group.
_SWEEP = (
    "for n in 1 2 3; do for f in /proc/[0-9]*/stat; do read -r l < $f || continue; set -- ${l##*) }; "
    '[ "$3" = $$ ] || continue; f=${f%/stat}; f=${f#/proc/}; [ $f = $$ ] || kill -s KILL $f; done; done'
)


@dataclass(frozen=True)
class FarShell:
    """What was found out about the device's shell when the connection was made.

    Attributes:
        scratch: folder for files of ours, None if there is none; whether it can be written is seen when it is.
        setsid: command that begins a session, e.g. ``toybox setsid``; empty if there is none.
        returns: whether a line feed arrives as carriage return and line feed from the plain ``shell`` service.
        identity: stands for the device, to tell it from another; empty where it has no properties. Not to be recorded:
            a serial number is in it.
    """

    scratch: str | None
    setsid: str
    returns: bool
    identity: str = ""


def look_around(token: str) -> str:
    """Return the script that ``read_around`` reads the output of."""
    return (
        f'echo {token}; for d in /data/local/tmp "$TMPDIR" /tmp; do if [ -d "$d" ]; then '
        'echo "d$d"; break; fi; done; for s in setsid "toybox setsid" "busybox setsid"; do '
        f'if $s sh -c : >/dev/null 2>&1; then echo "s$s"; break; fi; done; '
        f'for n in {_IDENTITY}; do echo "i$(getprop $n 2>/dev/null)"; done; echo {token}'
    )


def read_around(token: str, output: bytes) -> FarShell | None:
    """Read what ``look_around`` printed; None if it did not run to its end."""
    parts = output.split(token.encode())
    if len(parts) != 3:
        return None
    scratch, setsid, known = None, "", []
    for line in parts[1].decode("utf-8", "replace").splitlines():
        if line.startswith("d/") and len(line) < 1000:
            scratch = line[1:]
        elif line in ("ssetsid", "stoybox setsid", "sbusybox setsid"):
            setsid = line[1:]
        elif line.startswith("i"):
            known.append(line[1:].strip())
    identity = sha256("\n".join(known).encode()).hexdigest() if any(known) else ""
    return FarShell(scratch, setsid, parts[1].startswith(b"\r\n"), identity)


def command_script(
    token: str,
    argv: Sequence[str],
    shell: FarShell,
    *,
    environment: Mapping[str, str],
    folder: str | None,
    files: tuple[str, str] | None,
    has_input: bool,
) -> str:
    """Return the script around a command.

    Args:
        token: random letters and digits.
        argv: the command.
        shell: the device's.
        environment: variables to set; their names are checked by the caller.
        folder: working folder.
        files: paths on the device of stdin (empty for none) and stderr where the daemon has only one stream;
            None with ``shell,v2``.
        has_input: whether anything is sent to it as stdin. What the command leaves of it is read away: a daemon that
            cannot write it drops the output that is still under way.
    """
    inner = [f'echo "{token} p$$"'] if shell.setsid else []
    if folder is not None:
        inner.append(f'cd {shlex.quote(folder)} 2>/dev/null || {{ echo "{token} f0"; exit 1; }}')
    inner += [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    inner.append('exec "$@"')
    start = " ".join(["sh", "-c", shlex.quote("\n".join(inner)), "sh", *map(shlex.quote, argv)])
    if shell.setsid:
        begin, kill_all, sweep = "", "kill -s KILL -- -$p", "kill -s KILL -- -$p"
        start = f"{shell.setsid} {start}"
    else:
        # Only where the shell leads its own group: another's must not be killed.
        begin = (
            f'read -r l < /proc/$$/stat; set -- ${{l##*) }}; [ "$3" = $$ ] || {{ echo "{token} n0"; exit 1; }}\n'
            f'echo "{token} p$$"\n'
        )
        kill_all, sweep = "kill -s KILL -- -$$", _SWEEP
    if files is None:
        prepare = "exec 3<&0 0</dev/null 4>&2 2>/dev/null\n"
        redirect, tidy, finish = "<&3 2>&4 3<&- 4>&-", "", f'echo "{token} e$c"\n'
        finish += "cat <&3 >/dev/null\n" if has_input else ""
    else:
        stdin, stderr = files
        prepare = (
            "exec 0</dev/null 2>/dev/null 3</dev/null\n"
            f'true >{shlex.quote(stderr)} || {{ echo "{token} w0"; exit 1; }}\n'
        )
        remove = f"rm -f {shlex.quote(stderr)}" + (f" {shlex.quote(stdin)}" if stdin else "")
        redirect = f"<{shlex.quote(stdin) if stdin else '/dev/null'} 2>{shlex.quote(stderr)} 3<&-"
        tidy = f"{remove}; "
        finish = f'echo "{token} e$c"\ncat {shlex.quote(stderr)}\n{remove}\necho "{token} z0"\n'
    return (
        f"{prepare}{begin}trap {shlex.quote(f'{tidy}{kill_all}; exit 129')} HUP\n"
        f"{start} {redirect} &\np=$!\nwait $p; c=$?\n{sweep}\n{finish}exit $c\n"
    )


def kill_script(token: str, group: int) -> str:
    """Return the script that stops a process group: asked first, killed after about a second."""
    return (
        f"kill -s TERM -- -{group} 2>/dev/null; n=0; "
        f"while [ $n -lt 10 ] && [ -d /proc/{group} ]; do sleep 0.1; n=$((n+1)); done; "
        f"kill -s KILL -- -{group} 2>/dev/null; echo {token}"
    )


class ReturnRemover:
    """Undo exactly what a terminal does to line feeds: a carriage return of the command's own stays."""

    def __init__(self) -> None:
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """Return what is sure by now; a carriage return at the end waits for what follows it."""
        data = self._held + data
        self._held = b"\r" if data.endswith(b"\r") else b""
        return data[: len(data) - len(self._held)].replace(b"\r\n", b"\n")


class MarkReader:
    """Take the marks out of the output.

    Attributes:
        group: process group of the command; None until its mark has come.
        exit_code: of the command; None until it ended.
        no_folder: whether the working folder is not there.
        no_scratch: whether the scratch file for stderr cannot be written.
        no_group: whether the device offers no way to stop a command with its children.
        finished: whether the last mark has come.
    """

    def __init__(self, token: str, *, one_stream: bool) -> None:
        self.group: int | None = None
        self.exit_code: int | None = None
        self.no_folder = False
        self.no_group = False
        self.no_scratch = False
        self.finished = False
        self.prelude = b""
        self._one_stream = one_stream
        self._token = token.encode()
        self._mark = re.compile(re.escape(self._token) + rb" ([pefnwz])([0-9]{1,10})\n")
        self._buffer = b""

    def feed(self, data: bytes) -> list[tuple[Stream, bytes]]:
        """Return the command's own output in these bytes.

        Raises:
            ConnectionLostError: if a mark is damaged.
        """
        found: list[tuple[Stream, bytes]] = []
        self._buffer += data
        while True:
            place = self._buffer.find(self._token)
            if place < 0:
                self._hand_on(found, len(self._buffer) - self._held_back())
                return found
            self._hand_on(found, place)
            mark = self._mark.match(self._buffer)
            if mark is None:
                if len(self._buffer) < _MARK_BYTES + len(self._token) and b"\n" not in self._buffer:
                    return found  # the rest of the line is under way
                raise ConnectionLostError(
                    "the device's answer is damaged", hint="run again; check the connection (cable, network)"
                )
            self._buffer = self._buffer[mark.end() :]
            self._note(mark[1], int(mark[2]))

    def _held_back(self) -> int:
        """How many bytes at the end may be the beginning of a mark."""
        longest = min(len(self._token) - 1, len(self._buffer))
        return next((n for n in range(longest, 0, -1) if self._buffer.endswith(self._token[:n])), 0)

    def _hand_on(self, found: list[tuple[Stream, bytes]], size: int) -> None:
        piece, self._buffer = self._buffer[:size], self._buffer[size:]
        if not piece or self.finished:
            return
        if self.group is None:
            self.prelude = (self.prelude + piece)[-_PRELUDE_BYTES:]
        else:
            found.append(("stderr" if self.exit_code is not None else "stdout", piece))

    def _note(self, kind: bytes, number: int) -> None:
        if kind == b"p" and self.group is None and number > 1:
            self.group = number
        elif kind == b"f":
            self.no_folder = True
        elif kind == b"n":
            self.no_group = True
        elif kind == b"w":
            self.no_scratch = True
        elif kind == b"e" and self.exit_code is None:
            self.exit_code = number & 0xFF
            self.finished = not self._one_stream
        elif kind == b"z":
            self.finished = True
