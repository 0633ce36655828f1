"""The whole of a latency table as one value: what exchanging, merging and importing work on.

``read_content`` takes it out of a table, ``checked_content`` out of an untrusted document, ``write_content`` makes
a table of it, whole or not at all. Nothing is summarised and nothing is lost on the way: every pass keeps its raw
samples and its session's provenance.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dfmobile.errors import FileFormatError, InputError, StorageError
from dfmobile.files import atomic_path
from dfmobile.latency.entries import check_facts
from dfmobile.latency.header import MAX_KEYS, Build, TableHeader, parse_builds, parse_header
from dfmobile.latency.measurement import PassResult, is_count, is_time
from dfmobile.latency.schema import connect, create_file, sealed, sqlite_errors, unsealed

MAX_KEY_CHARACTERS = 200_000
MAX_NAME_CHARACTERS = 10_000
_RESERVED = ("header", "builds")


@dataclass(frozen=True)
class BlockContent:
    """All that a table has of one block or layer.

    Attributes:
        key: LUT key.
        facts: kind, text, shapes, MACs, bytes, as ``entries.check_facts`` wants them.
        passes: by pass index: (session, document of the pass with its ``model_sha256``).
        skipped: (session, evidence) where it was skipped, else None.
    """

    key: str
    facts: dict[str, Any]
    passes: dict[int, tuple[int, dict[str, Any]]] = field(default_factory=dict)
    skipped: tuple[int, dict[str, Any]] | None = None


@dataclass(frozen=True)
class TableContent:
    """All that is in a table.

    Attributes:
        header: what it belongs to.
        builds: what was asked to be in it.
        documents: what other tools keep in it, by name (coefficients of a rule and so on).
        sessions: provenance that the passes of one process share, by session id.
        blocks: in the order in which they came.
    """

    header: TableHeader
    builds: list[Build]
    documents: dict[str, Any]
    sessions: dict[int, dict[str, Any]]
    blocks: list[BlockContent]

    @property
    def pass_count(self) -> int:
        """Number of passes of all blocks."""
        return sum(len(block.passes) for block in self.blocks)


def read_content(path: str | os.PathLike[str]) -> TableContent:
    """Return all that is in a table, as of one moment, checked.

    Raises:
        StorageError: if it cannot be read.
        FileFormatError: if it is no table, or damaged.
    """
    path = Path(path)
    connection = connect(path)
    try:
        with sqlite_errors(path, "read"):
            connection.execute("BEGIN")  # one snapshot, also while a builder writes
            return _read(path, connection)
    finally:
        connection.close()


def _read(path: Path, connection: sqlite3.Connection) -> TableContent:
    documents = {
        str(name): unsealed(path, text, checksum, name)
        for name, text, checksum in connection.execute("SELECT name, json, checksum FROM documents ORDER BY name")
    }
    sessions = {
        int(number): unsealed(path, text, checksum, "session", number)
        for number, text, checksum in connection.execute("SELECT id, json, checksum FROM sessions ORDER BY id")
    }
    rows: dict[int, BlockContent] = {}
    for number, key, text, checksum in connection.execute("SELECT id, key, json, checksum FROM blocks ORDER BY id"):
        rows[int(number)] = BlockContent(str(key), unsealed(path, text, checksum, "block", key))
    sql = "SELECT block, pass, session, json, checksum FROM passes ORDER BY block, pass"
    for number, index, session, text, checksum in connection.execute(sql):
        block = rows[int(number)]
        document = unsealed(path, text, checksum, "pass", block.key, index, session)
        block.passes[int(index)] = (int(session), document)
    skipped: dict[str, tuple[int, dict[str, Any]]] = {}
    for number, session, text, checksum in connection.execute("SELECT block, session, json, checksum FROM skipped"):
        key = rows[int(number)].key
        skipped[key] = (int(session), unsealed(path, text, checksum, "skipped", key, session))
    return checked_content(
        header=documents.get("header"),
        builds=documents.get("builds"),
        documents={name: document for name, document in documents.items() if name not in _RESERVED},
        sessions=sessions,
        blocks=[BlockContent(item.key, item.facts, item.passes, skipped.get(item.key)) for item in rows.values()],
        origin=str(path),
    )


def checked_content(
    *,
    header: Any,
    builds: Any,
    documents: Mapping[str, Any],
    sessions: Mapping[int, Any],
    blocks: Iterable[BlockContent],
    origin: str,
) -> TableContent:
    """Return the content of a table after checking every value: untrusted input.

    Args:
        header: JSON document of a ``TableHeader``.
        builds: JSON document of a list of ``Build``.
        documents: of other tools, by name.
        sessions: by id.
        blocks: of a table.
        origin: what to call it in messages.

    Raises:
        FileFormatError: naming the first thing that cannot be.
    """
    for name in documents:
        if name in _RESERVED or not 0 < len(name) <= MAX_NAME_CHARACTERS or not name.isprintable():
            raise FileFormatError(f"{origin}: a document cannot be called {name[:40]!r}")
    for number, provenance in sessions.items():
        if not is_count(number) or not isinstance(provenance, dict):
            raise FileFormatError(f"{origin}: session {str(number)[:20]} is no provenance")
    found: list[BlockContent] = []
    keys: set[str] = set()
    for block in blocks:
        if not isinstance(block.key, str) or not 0 < len(block.key) <= MAX_KEY_CHARACTERS or block.key in keys:
            raise FileFormatError(f"{origin}: a block's key is missing, too long, or there twice")
        keys.add(block.key)
        if len(keys) > MAX_KEYS:
            raise FileFormatError(f"{origin}: more than {MAX_KEYS} blocks")
        found.append(_checked_block(block, sessions, origin))
    return TableContent(
        parse_header(header, origin), parse_builds(builds, origin), dict(documents), dict(sessions), found
    )


def _checked_block(block: BlockContent, sessions: Mapping[int, Any], origin: str) -> BlockContent:
    facts = check_facts(Path(origin), block.key, block.facts)
    what = str(facts["text"])
    if not (block.key.isprintable() and what.isprintable() and str(facts["kind"]).isprintable()):
        raise FileFormatError(f"{origin}: a block's text has control characters")
    rows: list[tuple[str, int, Any]] = [
        (f"pass {index} of {what}", session, document) for index, (session, document) in block.passes.items()
    ]
    if not all(is_count(index) for index in block.passes):
        raise FileFormatError(f"{origin}: a pass of {what} has no index")
    if block.skipped is not None:
        session, evidence = block.skipped
        if not isinstance(evidence, dict) or not all(is_time(evidence.get(n)) for n in ("limit_ms", "measured_ms")):
            raise FileFormatError(f"{origin}: the skipped block {what} has no limit")
        document = evidence.get("pass")
        rows.append((f"skipped {what}", session, document))
    for name, session, document in rows:
        if session not in sessions:
            raise FileFormatError(f"{origin}: {name} belongs to no session")
        if not isinstance(document, dict):
            raise FileFormatError(f"{origin}: {name} is no measurement")
        fields = {field: value for field, value in document.items() if field != "model_sha256"}
        result = PassResult.from_dict(fields, f"{origin}, {name}")
        if result.stopped and not name.startswith("skipped"):
            raise FileFormatError(f"{origin}: {name} has no samples")
    return block


def refuse_existing(path: Path) -> None:
    """Refuse to write over a file.

    Raises:
        StorageError: if there is one of that name.
    """
    if path.exists():
        raise StorageError(f"{path} exists already", hint="choose another -o, or remove it first")


def write_content(path: str | os.PathLike[str], content: TableContent) -> None:
    """Make a table of it: all checksums anew, whole or not at all.

    Raises:
        InputError: if it holds a value that no table can (a number that is not finite).
        StorageError: if there is a file of that name, or it cannot be written.
    """
    path = Path(path)
    refuse_existing(path)
    documents = {
        "header": content.header.model_dump(mode="json"),
        "builds": [build.model_dump(mode="json") for build in content.builds],
        **content.documents,
    }
    with atomic_path(path) as temporary:
        try:
            temporary.unlink()
            create_file(temporary, documents)
            with sqlite_errors(path, "write"):
                connection = sqlite3.connect(temporary, isolation_level=None)
                try:
                    connection.execute("BEGIN")
                    for sql, values in _statements(content):
                        connection.execute(sql, values)
                    connection.execute("COMMIT")
                finally:
                    connection.close()
        except ValueError as error:
            raise InputError(f"{path} cannot hold a value that is not finite: {error}") from error


def _statements(content: TableContent) -> Iterable[tuple[str, tuple[Any, ...]]]:
    for number, provenance in content.sessions.items():
        yield "INSERT INTO sessions VALUES (?, ?, ?)", (number, *sealed(provenance, "session", number))
    for number, block in enumerate(content.blocks, 1):
        key = block.key
        yield "INSERT INTO blocks VALUES (?, ?, ?, ?)", (number, key, *sealed(block.facts, "block", key))
        for index, (session, document) in sorted(block.passes.items()):
            values = (number, index, session, *sealed(document, "pass", key, index, session))
            yield "INSERT INTO passes VALUES (?, ?, ?, ?, ?)", values
        if block.skipped is not None:
            session, evidence = block.skipped
            yield (
                "INSERT INTO skipped VALUES (?, ?, ?, ?)",
                (number, session, *sealed(evidence, "skipped", key, session)),
            )
