"""Read what Android's ``getprop`` prints. Pure text."""

from __future__ import annotations

import re

_MOST = 5000
_NAME_LETTERS = 256
_VALUE_LETTERS = 1 << 16  # since Android 8 a constant property (ro.*) may be long
_LINE = re.compile(r"\[([^\]\n]+)\]: \[(.*)", re.DOTALL)


def parse_properties(output: bytes) -> dict[str, str]:
    """Return the properties by name.

    Args:
        output: lines ``[name]: [value]``; a value may hold line breaks. Lines that are neither, e.g. a linker's
            warnings before the first, are left out; of what is too long or too much, the rest.
    """
    found: dict[str, str] = {}
    name, lines = "", [""]
    for line in output.decode("utf-8", "replace").replace("\r\n", "\n").split("\n"):
        if not name:
            start = _LINE.fullmatch(line)
            if start is None or len(found) >= _MOST:
                continue
            name, lines = start[1], [start[2]]
        else:
            lines.append(line)
        if lines[-1].endswith("]"):
            found[name[:_NAME_LETTERS]] = "\n".join(lines)[:-1][:_VALUE_LETTERS]
            name = ""
    return found
