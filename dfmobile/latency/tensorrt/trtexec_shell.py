"""The shell commands around trtexec on a board: to build an engine once, and to get files back in the log, marked."""

from __future__ import annotations

from collections.abc import Sequence

TIMES, TRACE, PROFILE, ENGINE = b"dfmobile-times", b"dfmobile-trace", b"dfmobile-profile", b"dfmobile-engine"
"""Names of marks; what stands between a name's two marks is read by ``trtexec_results.split_marked``."""

# $1: the engine, $2: a name beside it; then the command that writes $2. What is there is not built again.
_BUILD = """
engine=$1 part=$2; shift 2
if [ -s "$engine" ]; then touch "$engine"; else
  rm -f "$part"; "$@"; code=$?
  if [ "$code" -eq 0 ] && [ -s "$part" ]; then mv -f "$part" "$engine" || exit 1; else rm -f "$part"; exit "$code"; fi
fi
printf '\\ndfmobile-engine-begin\\n'; sha256sum <"$engine"; wc -c <"$engine"; printf 'dfmobile-engine-end\\n'
"""
# $1, $2, $3: files that come back (times or profile, trace) and the first one's name; then the command.
_RUN = """
file=$1 trace=$2 name=$3; shift 3
rm -f "$file" "$trace"; "$@"; code=$?
if [ -f "$file" ]; then
  printf '\\ndfmobile-%s-begin\\n' "$name"; cat "$file"; printf '\\ndfmobile-%s-end\\n' "$name"
fi
if [ -f "$trace" ]; then printf '\\ndfmobile-trace-begin\\n'; cat "$trace"; printf '\\ndfmobile-trace-end\\n'; fi
rm -f "$file" "$trace"
exit "$code"
"""


def build_command(engine: str, part: str, command: Sequence[str]) -> tuple[str, ...]:
    """Return the command line that has an engine built, whole or not at all, where it is not there.

    Args:
        engine: path on the device.
        part: what ``command`` writes; renamed when it is done.
        command: trtexec with its flags.
    """
    return ("sh", "-c", _BUILD, "sh", engine, part, *command)


def run_command(file: str, trace: str, name: str, command: Sequence[str]) -> tuple[str, ...]:
    """Return the command line that runs a command and then prints the files that it wrote.

    Args:
        file: that it writes; printed between the marks of ``name``.
        trace: of tegrastats, where there is one.
        name: ``times`` or ``profile``.
        command: trtexec with its flags.
    """
    return ("sh", "-c", _RUN, "sh", file, trace, name, *command)
