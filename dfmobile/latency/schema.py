"""The SQLite file behind a latency table: its schema, how it is opened, and what is refused.

A table may come from anyone: the header of the file, its schema, its integrity and the checksum of every row are
checked before a value is believed. Version 1 of the schema:

- ``documents``: named JSON documents: ``header`` (what the table belongs to), ``builds``, and what later tools keep.
- ``sessions``: one a builder process: provenance that is the same for all its passes, stored once.
- ``blocks``: one a key. ``passes``: one a pass, raw samples included. ``skipped``: blocks that alone were too slow.

The journal is SQLite's rollback journal with ``synchronous=FULL``: a committed pass survives ``kill -9`` and a power
cut, and the finished table is one file (0.9 ms a pass here; a write-ahead log would save 0.6 ms and leave two
more files behind).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dfmobile.errors import FileFormatError, StorageError
from dfmobile.files import atomic_path, storage_error

APPLICATION_ID = 0x44464C54  # "DFLT"
SCHEMA_VERSION = 1
MAX_TABLE_BYTES = 2**30
_MAX_JSON_CHARACTERS = 16 * 2**20
_MAGIC = b"SQLite format 3\x00"
_HINT_DAMAGED = "restore it from a copy, or remove it and build it again with: dfmobile lut build"

_SEALED = "json TEXT NOT NULL CHECK (typeof(json) = 'text'), checksum TEXT NOT NULL CHECK (typeof(checksum) = 'text')"
_SESSION = "session INTEGER NOT NULL REFERENCES sessions(id)"
SCHEMA = (
    f"CREATE TABLE documents (name TEXT PRIMARY KEY CHECK (typeof(name) = 'text'), {_SEALED})",
    f"CREATE TABLE sessions (id INTEGER PRIMARY KEY, {_SEALED})",
    f"CREATE TABLE blocks (id INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE CHECK (typeof(key) = 'text'), {_SEALED})",
    "CREATE TABLE passes (block INTEGER NOT NULL REFERENCES blocks(id), pass INTEGER NOT NULL"
    f" CHECK (typeof(pass) = 'integer' AND pass >= 0), {_SESSION}, {_SEALED}, PRIMARY KEY (block, pass))",
    f"CREATE TABLE skipped (block INTEGER PRIMARY KEY REFERENCES blocks(id), {_SESSION}, {_SEALED})",
)


def create_file(path: Path, documents: dict[str, Any]) -> None:
    """Create an empty table that holds some documents, whole or not at all.

    Raises:
        StorageError: if it cannot be written.
    """
    with atomic_path(path) as temporary, sqlite_errors(path, "write"):
        connection = sqlite3.connect(temporary, isolation_level=None)
        try:
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            connection.execute("BEGIN")
            for statement in SCHEMA:
                connection.execute(statement)
            for name, document in documents.items():
                connection.execute("INSERT INTO documents VALUES (?, ?, ?)", (name, *sealed(document, name)))
            connection.execute("COMMIT")
        finally:
            connection.close()


def connect(path: Path) -> sqlite3.Connection:
    """Open a table's file after checking it.

    Returns:
        A connection in autocommit mode; writable where the file and its folder are.

    Raises:
        StorageError: if there is no such file or it cannot be read.
        FileFormatError: if it is not a latency table, damaged, or of another schema version.
    """
    try:
        with path.open("rb") as stream:
            head = stream.read(100)
        size_bytes = path.stat().st_size
    except OSError as error:
        raise storage_error(error, path, "read") from error
    if len(head) < 100 or not head.startswith(_MAGIC):
        what = "is empty" if not head else "is not a latency table (no SQLite file)"
        raise FileFormatError(f"{path} {what}", hint="dfmobile lut build makes latency tables")
    if int.from_bytes(head[68:72], "big") != APPLICATION_ID:
        raise FileFormatError(f"{path} is an SQLite file, but not a latency table", hint="is it the right file?")
    version = int.from_bytes(head[60:64], "big")
    if version != SCHEMA_VERSION:
        raise FileFormatError(
            f"{path} has schema version {version}, this dfmobile reads version {SCHEMA_VERSION}",
            hint="build it again with: dfmobile lut build, or use the dfmobile that wrote it",
        )
    if size_bytes > MAX_TABLE_BYTES:
        raise FileFormatError(f"{path} is larger than {MAX_TABLE_BYTES} bytes", hint="is it the right file?")
    writable = os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)
    # Where a builder was killed in a commit, the first to open the file rolls it back, which takes write access.
    with sqlite_errors(path, "read"):
        connection = sqlite3.connect(
            f"{path.resolve().as_uri()}?mode={'rw' if writable else 'ro'}", uri=True, isolation_level=None, timeout=10.0
        )
        try:
            _check(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _check(connection: sqlite3.Connection, path: Path) -> None:
    for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "synchronous = FULL", "foreign_keys = ON"):
        connection.execute(f"PRAGMA {pragma}")
    found = {str(sql) for (sql,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL LIMIT 100")}
    if found != set(SCHEMA):
        raise FileFormatError(f"{path} does not have the schema of a latency table", hint=_HINT_DAMAGED)
    verdict = connection.execute("PRAGMA integrity_check(1)").fetchone()
    if verdict != ("ok",):
        text = " ".join(str(verdict[0] if verdict else "no answer").split())[:120]
        raise FileFormatError(f"{path} is damaged: {text}", hint=_HINT_DAMAGED)
    orphan = connection.execute("PRAGMA foreign_key_check").fetchone()
    if orphan is not None:
        raise FileFormatError(f"{path} is damaged: a row of {orphan[0]} belongs to nothing", hint=_HINT_DAMAGED)


@contextlib.contextmanager
def sqlite_errors(path: Path, action: str) -> Iterator[None]:
    """Turn SQLite's errors into dfmobile's: a full disk is a storage error, a malformed page a damaged file."""
    try:
        yield
    except sqlite3.OperationalError as error:
        text = str(error)
        hint = "free some space and run the command again" if "full" in text else "check the file and its folder"
        if "malformed" in text:
            raise FileFormatError(f"{path} is damaged: {text}", hint=_HINT_DAMAGED) from error
        raise StorageError(f"cannot {action} {path}: {text}", hint=hint) from error
    except (sqlite3.DatabaseError, UnicodeDecodeError, OverflowError) as error:
        text = " ".join(str(error).split())[:120]
        raise FileFormatError(f"{path} is damaged or no latency table: {text}", hint=_HINT_DAMAGED) from error


def sealed(document: Any, *context: object) -> tuple[str, str]:
    """Return a JSON document as text with its checksum.

    Args:
        document: JSON values.
        context: what the row belongs to (a key, a pass number), so that a row cannot be taken for another's.
    """
    text = json.dumps(document, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text, _checksum(text, context)


def unsealed(path: Path, text: object, checksum: object, *context: object) -> Any:
    """Read back what ``sealed`` made.

    Raises:
        FileFormatError: if text and checksum do not fit.
    """
    what = " ".join(str(item)[:40] for item in context)
    if not isinstance(text, str) or len(text) > _MAX_JSON_CHARACTERS or checksum != _checksum(text, context):
        raise FileFormatError(f"{path} is damaged: the checksum of {what} does not fit", hint=_HINT_DAMAGED)
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path} is damaged: {what} is not valid JSON", hint=_HINT_DAMAGED) from error


def _checksum(text: str, context: tuple[object, ...]) -> str:
    """Return 16 hexadecimal digits: against accidents, not against forgery (whoever can edit can also recompute)."""
    whole = "\x00".join((*(str(item) for item in context), text))
    return hashlib.sha256(whole.encode(errors="surrogatepass")).hexdigest()[:16]
