"""What a user writes for an architecture: a zoo name, an encoding text, or a .json file."""

from __future__ import annotations

import difflib
from pathlib import Path

from dfmobile.architecture import zoo
from dfmobile.architecture.encoding import FAMILIES, Architecture
from dfmobile.errors import EncodingError, InputError, quoted
from dfmobile.files import read_json


def resolve(text: str) -> Architecture:
    """Return the architecture that a user means.

    Args:
        text: a zoo name (any case), an encoding text, or the path of a ``.json`` file written by dfmobile.

    Raises:
        InputError: if it is none of the three.
        EncodingError: if it is a malformed encoding.
        FileFormatError: if the file is not JSON.
        StorageError: if the file cannot be read.
    """
    if text.lower().endswith(".json"):
        try:
            return Architecture.from_json(read_json(Path(text), limit_bytes=2**20))
        except EncodingError as error:
            raise EncodingError(f"{text}: {error}", error.hint) from error
    name = zoo.find(text)
    if name is not None:
        return zoo.get(name).architecture
    if "/" in text or text.split(",")[0] in FAMILIES:
        return Architecture.parse(text)
    close = difflib.get_close_matches(text[:40], zoo.names(), n=1, cutoff=0.4)
    raise InputError(
        f"unknown network {quoted(text)}",
        hint=(f"did you mean {close[0]}? " if close else "") + f"known: {', '.join(zoo.names())}; or an encoding text",
    )
