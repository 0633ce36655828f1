"""What the host sends: the settings and the list of a run, and its items in parts, each a tar archive.

An argument of an item travels in single quotes in a small script of the item's own; nothing else of the user's text
reaches a shell. Pure bytes: no transport is touched here.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dfmobile.devices.batch.base import BatchItem, BatchSettings
from dfmobile.errors import InputError, StorageError
from dfmobile.files import read_bytes, sha256_hex

_WATCH_LIMIT_S = 30.0  # a killed driver's item is stopped at the latest after this time
_BLOCK_BYTES = 512  # of ulimit -f, in POSIX
PART_BYTES = 4 * 2**20
PART_ITEMS = 64
ALONE_BYTES = 2**20  # a file larger than this is sent by itself


def shell_word(text: str) -> bytes:
    """Return a text as one word of a POSIX shell, undecodable bytes as they were."""
    return b"'" + text.encode("utf-8", "surrogateescape").replace(b"'", b"'\"'\"'") + b"'"


def item_script(item: BatchItem, run_folder: str) -> bytes:
    """Return the script that becomes the item's program.

    Args:
        item: what to run.
        run_folder: of the run, on the device.
    """
    item_folder = f"{run_folder}/items/{item.id}"
    words = [shell_word(word.replace("{item}", item_folder).replace("{run}", run_folder)) for word in item.argv]
    return b"exec $launch " + b" ".join(words) + b"\n"


def settings_script(settings: BatchSettings, items: Sequence[BatchItem]) -> bytes:
    """Return the driver's variables; every value was checked when the settings were made."""
    cool = settings.cool_down
    shortest_s = min([item.timeout_s for item in items] + [_WATCH_LIMIT_S])
    values: dict[str, str | int] = {
        "mask": settings.affinity_mask or "",
        "task_profile": settings.task_profile or "",
        "zone_types": " ".join(settings.zones or ()),
        "cool_types": " ".join(cool.zones) if cool is not None else "",
        "cool_limit": cool.limit_mc if cool is not None else 0,
        "cool_longest": _centiseconds(cool.longest_wait_s) if cool is not None else 0,
        "spin_ms": settings.spin_up_ms,
        "push_first": int(settings.push_first),
        "log_blocks": settings.log_limit_bytes // _BLOCK_BYTES,
        "max_attempts": settings.max_attempts,
        "watch_cs": _centiseconds(shortest_s),
        "ready_wait_cs": _centiseconds(settings.ready_wait_s),
    }
    return b"".join(name.encode() + b"=" + shell_word(str(value)) + b"\n" for name, value in values.items())


def _centiseconds(seconds: float) -> int:
    return max(1, round(seconds * 100))


@dataclass(frozen=True)
class PlannedItem:
    """An item with what identifies it.

    Attributes:
        item: what to run.
        digest: of its arguments, timeout and files' contents; 16 hexadecimal digits.
        files: SHA-256 to (file of this machine, name in the item's folder, size in bytes); several names may have
            one content.
    """

    item: BatchItem
    digest: str
    files: tuple[tuple[str, Path, str, int], ...]


def plan_items(items: Sequence[BatchItem]) -> list[PlannedItem]:
    """Read and identify the items' files; each file is read once, however many items use it.

    Raises:
        InputError: if two items have one id.
        StorageError: if a file cannot be read.
    """
    if len({item.id for item in items}) != len(items):
        raise InputError("two items of a batch have one id", hint="give each item an id of its own")
    known: dict[Path, tuple[str, int]] = {}
    planned = []
    for item in items:
        files = []
        for path, name in item.files:
            if path not in known:
                known[path] = (sha256_hex(path), path.stat().st_size)
            files.append((known[path][0], path, name, known[path][1]))
        parts = [f"{item.timeout_s!r}".encode(), *(word.encode("utf-8", "surrogateescape") for word in item.argv)]
        parts += [f"{sha256} {name}".encode() for sha256, _, name, _ in files]
        # No part holds a NUL, so nothing else gives the same bytes.
        content = f"{len(item.argv)}\0".encode() + b"\0".join(parts)
        planned.append(PlannedItem(item, hashlib.sha256(content).hexdigest()[:16], tuple(files)))
    return planned


def control_part(
    settings: BatchSettings, planned: Sequence[PlannedItem], owner: str, plan_digest: str
) -> tuple[bytes, str]:
    """Return the archive with which a run begins, and its SHA-256.

    Args:
        settings: of the run.
        planned: all items, in their order.
        owner: one line: who runs this.
        plan_digest: as ``plan_digest`` gives it.
    """
    shared = [(sha256_hex(path), name) for path, name in settings.shared_files]
    script = ["mkdir -p ../items ../files ../results || say_error 'cannot make folders'"]
    script += [f"ln -sf ../../store/{sha256} ../{name} || say_error 'cannot make links'" for sha256, name in shared]
    script += ["mv -f settings list owner .. && mv -f plan .. || say_error 'cannot write'"]
    members = {
        "settings": settings_script(settings, [entry.item for entry in planned]),
        "list": "".join(f"{entry.item.id}\n" for entry in planned).encode(),
        "owner": owner.encode() + b"\n",
        "plan": plan_digest.encode() + b"\n",
        "part.sh": "\n".join(script).encode() + b"\n",
    }
    return _archive(members.items())


def plan_digest(settings: BatchSettings, planned: Sequence[PlannedItem]) -> str:
    """Return what tells two plans of one run apart: settings, shared files, and the list."""
    digest = hashlib.sha256(settings_script(settings, [entry.item for entry in planned]))
    for path, name in settings.shared_files:
        digest.update(f"{sha256_hex(path)} {name}\0".encode())
    for entry in planned:
        digest.update(f"{entry.item.id} {entry.digest}\n".encode())
    return digest.hexdigest()[:16]


def items_part(
    planned: Sequence[PlannedItem], run_folder: str, there: Iterable[str], last: bool
) -> tuple[bytes, str, set[str]]:
    """Return an archive of items, its SHA-256, and the contents that it brings.

    Contents move into place first, then each item's folder by one rename with links and mark in it: the driver sees
    an item whole or not at all.

    Args:
        planned: the items; files above ``ALONE_BYTES`` are on the device already.
        run_folder: of the run, on the device.
        there: SHA-256 of contents on the device.
        last: after this part nothing more comes.

    Raises:
        StorageError: if a file cannot be read, or changed since it was planned.
    """
    have = set(there)
    members: dict[str, bytes] = {}
    links: dict[str, str] = {}
    for entry in planned:
        folder = f"items/{entry.item.id}"
        members[f"{folder}/item.sh"] = item_script(entry.item, run_folder)
        members[f"{folder}/.ready"] = f"{entry.digest} {_centiseconds(entry.item.timeout_s)}\n".encode()
        for sha256, path, name, _ in entry.files:
            links[f"{folder}/{name}"] = f"../../files/{sha256}"
            if sha256 not in have:
                members[f"files/{sha256}"] = _unchanged(path, sha256)
                have.add(sha256)
    script = ["[ ! -d files ] || mv -f files/* ../files/ || say_error 'cannot write'"]
    # The archive has the links, which saves a process each; a tar that refuses some is helped.
    script += [f"[ -h {link} ] || ln -s {to} {link} || say_error 'cannot make links'" for link, to in links.items()]
    if planned:
        script.append("mv items/* ../items/ || say_error 'cannot write'")
    if last:
        script.append(": >../complete || say_error 'cannot write'")
    members["part.sh"] = "\n".join(script).encode() + b"\n"
    data, sha256 = _archive(members.items(), links)
    return data, sha256, have


def _unchanged(path: Path, sha256: str) -> bytes:
    content = read_bytes(path)
    if hashlib.sha256(content).hexdigest() != sha256:
        raise StorageError(f"{path} changed while it was sent", hint="run the command again")
    return content


def next_part(waiting: Sequence[PlannedItem], there: Mapping[str, object] | set[str], first: bool) -> int:
    """Return how many of the waiting items go into the next part; the first part is one item, so that it starts."""
    size = 0
    have = set(there)
    for count, entry in enumerate(waiting):
        if count and (first or count >= PART_ITEMS or size > PART_BYTES):
            return count
        for sha256, _, _, file_size in entry.files:
            if sha256 not in have and file_size <= ALONE_BYTES:
                have.add(sha256)
                size += file_size
    return len(waiting)


def _archive(members: Iterable[tuple[str, bytes]], links: Mapping[str, str] | None = None) -> tuple[bytes, str]:
    buffer = io.BytesIO()
    # The oldest format that every tar reads; names are short.
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        folders: set[str] = set()
        for name, content in members:
            # Folders first: not every tar makes them.
            parent = name.rpartition("/")[0]
            for depth in range(1, parent.count("/") + 2) if parent else ():
                folder = "/".join(parent.split("/")[:depth])
                if folder not in folders:
                    folders.add(folder)
                    entry = tarfile.TarInfo(folder)
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                    archive.addfile(entry)
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
        for name, target in (links or {}).items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname, entry.mode = tarfile.SYMTYPE, target, 0o777
            archive.addfile(entry)
    data = buffer.getvalue()
    return data, hashlib.sha256(data).hexdigest()
