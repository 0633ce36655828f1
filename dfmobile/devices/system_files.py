"""Files by which a Linux or Android kernel describes a device, wherever they come from.

The probe asks a view of files, never the file system: the same parser then reads this machine, a folder of
fixtures, and what a transport brought back from a phone in one piece.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

MAX_TEXT_BYTES = 2**20


class SystemFiles(Protocol):
    """A view of a device's ``/proc`` and ``/sys``. Paths are absolute on the device."""

    def read(self, path: str) -> str | None:
        """Return a file's text without trailing white space and NULs; None where it cannot be read."""
        ...

    def names(self, folder: str) -> list[str]:
        """Return the sorted names in a folder; empty where it cannot be listed."""
        ...

    def reason(self, path: str) -> str:
        """Say in a few words why a path could not be read."""
        ...


class FolderFiles:
    """Files of this machine, or of a folder that has a device's ``/proc`` and ``/sys`` in it.

    Args:
        root: ``/`` for this machine.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.root = root

    def _local(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def read(self, path: str) -> str | None:
        """Return a file's text; None where it cannot be read."""
        try:
            with self._local(path).open("rb") as stream:
                return clean(stream.read(MAX_TEXT_BYTES))
        except OSError:
            return None

    def names(self, folder: str) -> list[str]:
        """Return the sorted names in a folder; empty where it cannot be listed."""
        try:
            return sorted(os.listdir(self._local(folder)))
        except OSError:
            return []

    def reason(self, path: str) -> str:
        """Say in a few words why a path could not be read."""
        local = self._local(path)
        try:
            if local.is_dir():
                return "it is a folder" if os.listdir(local) else "the folder is empty"
            with local.open("rb") as stream:
                content = clean(stream.read(200))
            return f"it says {content[:60]!r}" if content else "it is empty"
        except OSError as error:
            return (error.strerror or str(error)).lower()


class RecordedFiles:
    """Files that were brought from a device: path to text.

    Args:
        files: absolute path on the device to text.
        reasons: absolute path to why it could not be read, for those known to be missing.
    """

    def __init__(self, files: Mapping[str, str], reasons: Mapping[str, str] | None = None) -> None:
        self._files = {path: clean(text.encode("utf-8", "replace")) for path, text in files.items()}
        self._reasons = dict(reasons or {})

    def read(self, path: str) -> str | None:
        """Return a file's text; None where it was not brought."""
        return self._files.get(path)

    def names(self, folder: str) -> list[str]:
        """Return the sorted names of what was brought from a folder."""
        prefix = folder.rstrip("/") + "/"
        return sorted({path[len(prefix) :].split("/")[0] for path in self._files if path.startswith(prefix)})

    def reason(self, path: str) -> str:
        """Say in a few words why a path could not be read."""
        if path in self._files:
            return f"it says {self._files[path][:60]!r}"
        return self._reasons.get(path, "not in the recording")


def clean(data: bytes) -> str:
    """Return text of a kernel file: device-tree strings end in NUL, numbers in a newline."""
    return data.decode("utf-8", "replace").replace("\x00", "\n").strip()


def read_int(files: SystemFiles, path: str) -> int | None:
    """Return the decimal number in a file; None where there is none (``<unsupported>``, empty, missing)."""
    text = files.read(path)
    if text is None:
        return None
    try:
        return int(text[:40])
    except ValueError:
        return None
