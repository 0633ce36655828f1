"""What a far side may be asked: commands, variables and paths that cannot mean something else on the way."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from dfmobile.errors import InputError

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_command(argv: Sequence[str], environment: Mapping[str, str], folder: str | None) -> None:
    """Refuse what cannot be run as asked for.

    Raises:
        InputError: if there is no program, something holds a NUL, a name is no variable's, or the folder is relative.
    """
    if not argv or any("\0" in argument for argument in argv):
        raise InputError("a command needs a program, and no argument may hold a NUL")
    for name, value in environment.items():
        if not _VARIABLE.fullmatch(name) or "\0" in value:
            raise InputError(f"{name[:100]!r} cannot be set: it is no name of a variable, or its value holds a NUL")
    if folder is not None:
        check_path(folder)


def check_path(path: str) -> None:
    """Refuse what is no absolute path.

    Raises:
        InputError: likewise.
    """
    if not path.startswith("/") or "\0" in path:
        raise InputError(f"{path!r} is not an absolute path of the device", hint="start it with /")
