"""The shell scripts in which a command runs on a board, and how they get there. Pure text and bytes.

The user's login shell, whatever it is, gets one short fixed line (``bootstrap``) that reads the script from stdin and
has ``sh`` run it: no quoting for an unknown shell, no limit of a command line's length. The script then does for ssh
what ``adb_script`` does for ADB, with the same marks:

- The command gets a session of its own (``setsid``), so that it and its children can be stopped together. When it
  has ended, the rest of its process group is killed.
- Marks are printed on both streams: a random token, then ``p`` and the process group; at the end ``e`` and the exit
  code. So ssh's own exit code (255 for many things) and ssh's own words are never taken for the command's, and an end
  is told from a broken connection.
- After the script, ssh's stdin is a line of life: a byte every ``BEAT_S`` seconds. A watcher on the far side reads it;
  at the end of file (we ended, were killed, or the connection broke) and after ``SILENCE_S`` seconds without a byte
  (a cable that was pulled) it stops the command: asked first, killed after a second. Then ``z`` is printed.
- What the command is to read comes first and whole, into a file without a name: a command that does not read its
  input must not keep the watcher from seeing the end. For a file that is sent (``stream``) the data are the line
  of life.

Needs ``sh``, ``setsid`` (util-linux) and coreutils, as old as Ubuntu 18.04's; tried with dash and bash.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256

BEAT_S = 10.0
SILENCE_S = 60

_TOOLS = "cat chmod head id mkdir mktemp mv rm setsid sha256sum stat timeout uname wc"
# Together they tell boards of one model apart. None changes at a reboot.
_IDENTITY = "/etc/machine-id /proc/device-tree/serial-number /proc/device-tree/model"


@dataclass(frozen=True)
class FarSide:
    """What was found out about the board when the connection was made.

    Attributes:
        scratch: folder for files of ours, None if there is none that we may write to.
        user_id: of the user there; None if it is not said.
        missing: tools that are needed and not there.
        identity: stands for the board, to tell it from another; empty where it has nothing to go by. Not to be
            recorded: a serial number is in it.
    """

    scratch: str | None
    user_id: int | None
    missing: tuple[str, ...]
    identity: str


def bootstrap(script: bytes) -> str:
    """Return the line for the login shell that runs a script sent as the first bytes of stdin.

    It holds nothing that sh, csh, fish and zsh read differently. A script must be one compound command (``{ … }``):
    where the connection breaks while it comes, none of it is run.
    """
    return f"exec sh -c 'eval \"$(head -c {len(script)})\"'"


def look_around(token: str) -> str:
    """Return the script that ``read_around`` reads the output of; then it stays until its input ends."""
    return (
        f"{{ echo {token}\n"
        f'for t in {_TOOLS}; do command -v $t >/dev/null 2>&1 || echo "m$t"; done\n'
        'for d in "$TMPDIR" /tmp /var/tmp; do if [ -d "$d" ] && [ -w "$d" ]; then echo "d$d"; break; fi; done\n'
        'echo "u$(id -u)"\n'
        f'for f in {_IDENTITY}; do [ -r $f ] && echo "i$(head -c 200 $f | tr -d "\\000")"; done\n'
        f"echo {token}\n"
        "exec cat >/dev/null\n}"
    )


def read_around(token: str, output: bytes) -> FarSide | None:
    """Read what ``look_around`` printed; None if it is not all there."""
    parts = output.split(token.encode())
    if len(parts) != 3 or not parts[2].startswith(b"\n"):
        return None
    scratch, user_id, missing, known = None, None, [], []
    for line in parts[1].decode("utf-8", "surrogateescape").splitlines():
        if line.startswith("d/") and len(line) < 1000:
            scratch = line[1:]
        elif re.fullmatch(r"u[0-9]{1,10}", line):
            user_id = int(line[1:])
        elif re.fullmatch(r"m[a-z0-9]{1,20}", line):
            missing.append(line[1:])
        elif line.startswith("i"):
            known.append(line[1:].strip())
    identity = sha256("\n".join(known).encode("utf-8", "surrogateescape")).hexdigest() if any(known) else ""
    return FarSide(scratch, user_id, tuple(missing), identity)


def quoted(argv: Sequence[str]) -> str:
    """Return arguments as words of a POSIX shell, each exactly itself."""
    return " ".join(map(shlex.quote, argv))


def command_script(
    token: str,
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    folder: str | None,
    input_bytes: int,
    scratch: str | None,
    stream: bool = False,
) -> str:
    """Return the script around a command.

    Args:
        token: random letters and digits.
        argv: the command.
        environment: variables to set; their names are checked by the caller.
        folder: working folder.
        input_bytes: how many bytes of input follow the script.
        scratch: folder for the input.
        stream: the command reads ssh's stdin itself, and ends when that ends.
    """
    inner = [f'echo "{token} p$$"', f'echo "{token} p$$" >&2']
    if folder is not None:
        inner.append(f'cd {shlex.quote(folder)} 2>/dev/null || {{ echo "{token} f0"; exit 1; }}')
    inner += [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
    inner.append('exec "$@"')
    start = f"setsid sh -c {shlex.quote(chr(10).join(inner))} sh {quoted(argv)}"
    lines = ["{", "exec 3<&0 0</dev/null 4>&2 2>/dev/null 5</dev/null"]
    if stream:
        lines.append("exec 5<&3")
    elif input_bytes:
        place = shlex.quote(f"{scratch or '/tmp'}/dfmobile-input-XXXXXXXXXX")  # noqa: S108 - a name by mktemp
        lines += [
            f'i=$(mktemp {place}) && head -c {input_bytes} <&3 >"$i" || {{ rm -f "$i"; echo "{token} w0"; exit 1; }}',
            f'[ "$(wc -c <"$i")" -eq {input_bytes} ] || {{ rm -f "$i"; exit 129; }}',
            'exec 5<"$i"; rm -f "$i"',
        ]
    lines += [
        "p=",
        # A leader that has ended is a zombie until it is waited for.
        "stop() { trap '' HUP TERM; p=${p:-$!}; kill -s TERM -- -$p; n=0; while [ $n -lt 10 ]; do "
        "read -r l </proc/$p/stat || break; case $l in *') Z '*) break ;; esac; sleep 0.1; n=$((n+1)); done; "
        f'kill -s KILL -- -$p; echo "{token} z0"; echo "{token} z0" >&4; exit 129; }}',
        "trap stop HUP TERM",
        f"{start} <&5 2>&4 3<&- 4>&- 5<&- &",
        "p=$!",
    ]
    watched = not stream
    if watched:
        lines += [
            f'(while [ "$(timeout {SILENCE_S} head -c 1 <&3)" = . ]; do :; done; '
            "kill -s TERM $$ || kill -s KILL -- -$p) >/dev/null 4>&- 5<&- &",
            "w=$!",
        ]
    lines += ["exec 5<&-", "wait $p; c=$?", "trap '' HUP TERM", "kill -s KILL -- -$p"]
    if watched:
        lines.append("kill $w")
    lines += [f'echo "{token} e$c"', f'echo "{token} e$c" >&4', "exit 0", "}", ""]
    return "\n".join(lines)


def receive_file(size_bytes: int, target: str, mode: int, limit_s: int) -> list[str]:
    """Return the command that writes a file from its input, new and whole, or leaves none.

    Args:
        size_bytes: how much comes.
        target: where to; nothing may be there.
        mode: permission bits.
        limit_s: longest time, for a connection that falls silent.
    """
    script = (
        'set -C; true >"$1" || exit 1; set +C\n'
        f'timeout {limit_s} head -c {size_bytes} >"$1" || {{ rm -f "$1"; exit 1; }}\n'
        f'n=$(wc -c <"$1"); [ "$n" -eq {size_bytes} ] || '
        f'{{ rm -f "$1"; echo "only $n of {size_bytes} bytes arrived" >&2; exit 1; }}\n'
        f'chmod {mode:o} "$1" || {{ rm -f "$1"; exit 1; }}\n'
        'sync "$1" 2>/dev/null || :'
    )
    return ["sh", "-c", script, "sh", target]


def list_entries(path: str) -> list[str]:
    """Return the command that prints ``MODE SIZE TIME NAME`` of each entry, ended by NUL; 3: no folder, 4: closed."""
    script = (
        '[ -d "$1" ] || exit 3; [ -r "$1" ] && cd "$1" || exit 4; set --\n'
        "show() { [ $# -eq 0 ] || stat --printf '%f %s %Y %n\\0' -- \"$@\" 2>/dev/null || :; }\n"
        'for f in * .[!.]* ..?*; do [ -e "$f" ] || [ -L "$f" ] || continue; set -- "$@" "./$f"\n'
        '[ $# -lt 200 ] || { show "$@"; set --; }; done; show "$@"'
    )
    return ["sh", "-c", script, "sh", path]
