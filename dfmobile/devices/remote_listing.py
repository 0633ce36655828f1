"""What the script ``remote_files.sh`` writes, read with suspicion: a device's output is untrusted.

The format is checked line by line, lengths and offsets included. Knows no transport.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from dfmobile.errors import DeviceError

HEADER = "dfmobile-files 1"

_MAX_NOISE_LINES = 50  # what a device's shell may say before the script begins
_MAX_ENTRIES = 100_000
_RECORD = re.compile(r"([fvxnes]) ([0-9]{1,7}) ([A-Za-z0-9 /._:,@+~%=-]*)")
_HEX = re.compile(r"([0-9]{7,10})((?: +[0-9a-f]{2}){1,16}) *")
_LENGTH = re.compile(r"([0-9]{7,10}) *")


@dataclass
class Listing:
    """Files and folders as they came.

    Attributes:
        files: path to content.
        folders: path to names in it; only those that were asked for and could be listed.
        reasons: path to why it could not be read.
        last_path: what was looked at last.
        ended: the script came to its end.
        stopped: the script ended early, because the total was used up.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    folders: dict[str, list[str]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    last_path: str | None = None
    ended: bool = False
    stopped: bool = False

    def add(self, other: Listing) -> None:
        """Take over what a further run of the script gave."""
        self.files.update(other.files)
        self.folders.update(other.folders)
        self.reasons.update(other.reasons)
        self.last_path, self.ended = other.last_path, other.ended
        self.stopped = self.stopped or other.stopped


def parse_listing(data: bytes, *, partial: bool = False) -> Listing:
    """Read the script's output.

    Args:
        data: stdout; lines may end in ``CR LF``, as old devices write them.
        partial: the script was stopped: an unfinished entry at the end is dropped, and ``last_path`` names it.

    Returns:
        What came. With ``partial``, possibly nothing at all.

    Raises:
        DeviceError: if the output is damaged, or ends too early without ``partial``.
    """
    lines = data.decode("latin-1").split("\n")
    if partial:
        lines = lines[:-1]  # half a line, or the nothing after the last line end
    elif lines[-1] == "":
        lines.pop()
    lines = [line.removesuffix("\r") for line in lines]
    start = next((number for number, line in enumerate(lines[:_MAX_NOISE_LINES]) if line == HEADER), None)
    if start is None:
        if partial:
            return Listing()
        shown = next((line for line in lines if line.strip()), "nothing")[:100]
        raise DeviceError(
            f"reading the device's files failed: its shell answered {shown!r}",
            hint="is it an Android phone or a Linux board?",
        )
    reader = _Reader()
    for number, line in enumerate(lines[start + 1 :], start + 2):
        if not reader.take(line):
            raise DeviceError(
                f"reading the device's files failed: line {number} of its answer is damaged: {line[:60]!r}",
                hint="run the command again; if it happens again, check the connection (cable, port, network)",
            )
    if not partial and not reader.listing.ended:
        raise DeviceError(
            f"reading the device's files failed: its answer broke off after {reader.listing.last_path or 'nothing'}",
            hint="run the command again; if it happens again, check the connection (cable, port, network)",
        )
    return reader.listing


class _Reader:
    """Takes line after line, and knows what may come next."""

    def __init__(self) -> None:
        self.listing = Listing()
        self._path: str | None = None  # the entry that waits for its answer, or for more names
        self._names: list[str] | None = None
        self._bytes: bytearray | None = None
        self._entries = 0

    def take(self, line: str) -> bool:
        """Take a line; False if it does not belong here."""
        if self.listing.ended:
            return False
        if self._bytes is not None:
            return self._take_hex(line, self._bytes)
        if line == "end":
            return self._finish_names() and self._end()
        found = _RECORD.fullmatch(line)
        if found is None or int(found[2]) != len(found[3]):
            return False
        kind, text = found[1], found[3]
        if kind == "f":
            return self._finish_names() and self._begin(text)
        if kind == "s":
            self.listing.stopped = True
            return text == "" and self._finish_names() and self._end()
        path = self._path
        if path is None or (self._names is not None and kind != "n"):
            return False
        if kind == "n":
            return self._take_name(text)
        self._path = None
        if kind == "v":
            self.listing.files[path] = text.encode("ascii")
        elif kind == "e":
            self.listing.reasons[path] = text.lower() or "it cannot be read"
        else:
            self._path, self._bytes = path, bytearray()
            return text == ""
        return True

    def _begin(self, path: str) -> bool:
        self._entries += 1
        if not path.startswith("/") or self._known(path) or self._entries > _MAX_ENTRIES:
            return False
        self._path = self.listing.last_path = path
        return True

    def _known(self, path: str) -> bool:
        listing = self.listing
        return path in listing.files or path in listing.folders or path in listing.reasons

    def _take_name(self, name: str) -> bool:
        if not name or "/" in name:
            return False
        if self._names is None:
            self._names = []
        self._names.append(name)
        return len(self._names) <= _MAX_ENTRIES

    def _finish_names(self) -> bool:
        """Close a folder; False where an entry got no answer."""
        if self._names is not None and self._path is not None:
            self.listing.folders[self._path] = sorted(self._names)
            self._path = self._names = None
        return self._path is None

    def _take_hex(self, line: str, so_far: bytearray) -> bool:
        length = _LENGTH.fullmatch(line)
        if length is not None:
            if int(length[1]) != len(so_far) or self._path is None:
                return False
            self.listing.files[self._path] = bytes(so_far)
            self._path = self._bytes = None
            return True
        found = _HEX.fullmatch(line)
        if found is None or int(found[1]) != len(so_far) or len(so_far) % 16:
            return False
        so_far += bytes.fromhex(found[2])
        return True

    def _end(self) -> bool:
        self.listing.ended = True
        return True
