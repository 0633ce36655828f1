"""Commands that the shell of a virtual phone finds: this machine's for the usual ones, scripts for Android's own."""

from __future__ import annotations

import shutil
from collections.abc import Mapping

_PROPERTY_FOLDER = "/system/etc/properties"
_DUMP_FOLDER = "/system/etc/dumpsys"

# What toybox and Android's shell bring, as far as scripts of ours and of tests need it.
_USUAL = """
[ awk basename cat chmod cksum cmp comm cp cut date dd df dirname du echo env expand expr false find flock fold grep
gunzip gzip head hostname id kill ln ls md5sum mkdir mkfifo mktemp mv nice nl nohup nproc od paste printenv printf ps
pwd readlink realpath renice rev rm rmdir sed seq setsid sh sha1sum sha256sum sleep sort split stat stty sync tac tail
tar taskset tee test time timeout touch tr true truncate tty uname uniq unlink uptime wc which who xargs yes zcat
"""

# getprop: all of them, or one with what to say where it is not set.
_GETPROP = f"""#!/bin/sh
case $1 in
'') cat {_PROPERTY_FOLDER}.txt ;;
*/*) echo "$2" ;;
*) if [ -e "{_PROPERTY_FOLDER}/$1" ]; then cat "{_PROPERTY_FOLDER}/$1"; else echo "$2"; fi ;;
esac
"""

_DUMPSYS = f"""#!/bin/sh
case $1 in
'' | -* | */*) echo "Currently running services:"; ls {_DUMP_FOLDER} | sed 's/^/  /' ;;
*) if [ -e "{_DUMP_FOLDER}/$1" ]; then cat "{_DUMP_FOLDER}/$1"; else echo "Can't find service: $1" >&2; fi ;;
esac
"""

# Notes who asked for what, so that tests can see it; a phone would change the task's cgroup.
_SETTASKPROFILE = """#!/bin/sh
[ $# -ge 2 ] || { echo "usage: settaskprofile tid profile" >&2; exit 1; }
echo "$*" >>/data/local/tmp/.settaskprofile
"""


def default_programs() -> dict[str, str]:
    """Return names and what they run; names that this machine lacks are left out."""
    found = {name: shutil.which(name, path="/usr/bin:/bin:/usr/sbin:/sbin") for name in _USUAL.split()}
    programs = {name: path for name, path in found.items() if path is not None}
    programs.update(getprop=_GETPROP, dumpsys=_DUMPSYS, settaskprofile=_SETTASKPROFILE)
    return programs


def property_files(properties: Mapping[str, str]) -> dict[str, bytes]:
    """Return the files that ``getprop`` reads."""
    lines = "".join(f"[{name}]: [{value}]\n" for name, value in sorted(properties.items()))
    files = {f"{_PROPERTY_FOLDER}/{name}": f"{value}\n".encode() for name, value in properties.items()}
    return {f"{_PROPERTY_FOLDER}.txt": lines.encode(), **files}


def dump_files(dumps: Mapping[str, str]) -> dict[str, bytes]:
    """Return the files that ``dumpsys`` reads."""
    return {f"{_DUMP_FOLDER}/{name}": text.encode() for name, text in dumps.items()}
