"""The latency table: measurements of blocks by key, with where each came from, in one SQLite file."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from dfmobile.architecture import PlacedBlock
from dfmobile.errors import FileFormatError, StorageError
from dfmobile.graph.cost import FLOAT32_BYTES, params
from dfmobile.latency.entries import SkippedBlock, TableEntry, check_facts, entry_of
from dfmobile.latency.header import Build, TableHeader, parse_builds, parse_header
from dfmobile.latency.measurement import PassResult, is_time
from dfmobile.latency.schema import connect, create_file, sealed, sqlite_errors, unsealed

__all__ = ["LatencyTable", "SkippedBlock", "TableEntry"]


class LatencyTable:
    """An open latency table. Every value that comes out of it has been checked.

    Use ``create`` or ``open``; as a context manager it closes itself. Whoever writes holds the lock of
    ``dfmobile.files.FileLock`` on its path (the builder does); reading needs none.
    """

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path = path
        self._connection = connection
        self.header: TableHeader = parse_header(self.document("header"), str(path))

    @classmethod
    def create(cls, path: str | os.PathLike[str], header: TableHeader) -> LatencyTable:
        """Make a new, empty table.

        Raises:
            StorageError: if there is one already, or it cannot be written.
        """
        path = Path(path)
        if path.exists():
            raise StorageError(f"{path} exists already", hint="open it, or choose another name")
        create_file(path, {"header": header.model_dump(mode="json"), "builds": []})
        return cls.open(path)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> LatencyTable:
        """Open a table.

        Raises:
            StorageError: if there is none, or it cannot be read.
            FileFormatError: if it is not a latency table, damaged, or of another schema version.
        """
        path = Path(path)
        connection = connect(path)
        try:
            with sqlite_errors(path, "read"):
                return cls(path, connection)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close the file; may be called twice."""
        self._connection.close()

    def __enter__(self) -> LatencyTable:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # Documents

    def document(self, name: str) -> Any:
        """Return a stored JSON document, None where there is none of that name."""
        rows = self._rows("SELECT json, checksum FROM documents WHERE name = ?", (name,))
        return unsealed(self.path, *rows[0], name) if rows else None

    def set_document(self, name: str, document: Any) -> None:
        """Store a JSON document (coefficients of a prediction rule, networks measured for it, and so on).

        Raises:
            StorageError: if it cannot be written.
        """
        self._write([("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", (name, *sealed(document, name)))])

    def documents(self, prefix: str) -> dict[str, Any]:
        """Return all stored JSON documents whose names begin with a prefix, by name, in the order of names."""
        sql = "SELECT name, json, checksum FROM documents WHERE substr(name, 1, ?) = ? ORDER BY name"
        rows = self._rows(sql, (len(prefix), prefix))
        return {str(name): unsealed(self.path, text, checksum, name) for name, text, checksum in rows}

    def builds(self) -> list[Build]:
        """Return what was asked to be in the table, oldest first."""
        return parse_builds(self.document("builds"), str(self.path))

    def note_build(self, build: Build) -> None:
        """Record what is about to be built; one of the same target takes the place of the older."""
        kept = [item for item in self.builds() if not item.same_target(build)]
        self.set_document("builds", [item.model_dump(mode="json") for item in (*kept, build)])

    # Writing

    def start_session(self, provenance: dict[str, Any]) -> int:
        """Record the provenance that all passes of one process share, and return its id."""
        rows = self._rows("SELECT coalesce(max(id), 0) + 1 FROM sessions")
        number = int(rows[0][0])
        self._write([("INSERT INTO sessions VALUES (?, ?, ?)", (number, *sealed(provenance, "session", number)))])
        return number

    def record_pass(
        self, block: PlacedBlock, pass_index: int, result: PassResult, *, session: int, model_sha256: str
    ) -> None:
        """Record one pass in one transaction; if it was skipped before, it is not any more.

        Raises:
            StorageError: if that pass is there already, or it cannot be written; nothing is then changed.
        """
        document = {**result.to_dict(), "model_sha256": model_sha256}
        number, statements = self._block_statements(block)
        statements.append(("DELETE FROM skipped WHERE block = ?", (number,)))
        values = (number, pass_index, session, *sealed(document, "pass", block.key, pass_index, session))
        statements.append(("INSERT INTO passes VALUES (?, ?, ?, ?, ?)", values))
        self._write(statements)

    def record_skip(
        self, block: PlacedBlock, result: PassResult, *, limit_ms: float, measured_ms: float, session: int, sha256: str
    ) -> None:
        """Record that a block alone takes longer than ``limit_ms``, with the pass that showed it."""
        evidence = {"limit_ms": limit_ms, "measured_ms": measured_ms, "pass": result.to_dict(), "model_sha256": sha256}
        number, statements = self._block_statements(block)
        values = (number, session, *sealed(evidence, "skipped", block.key, session))
        statements.append(("INSERT OR REPLACE INTO skipped VALUES (?, ?, ?, ?)", values))
        self._write(statements)

    def withdraw_pass(self, key: str, pass_index: int, name: str, document: Any) -> None:
        """Take a pass out and store a document instead, in one transaction (see ``rejected.withdraw``).

        Raises:
            StorageError: if it cannot be written; nothing is then changed.
        """
        delete = "DELETE FROM passes WHERE block = (SELECT id FROM blocks WHERE key = ?) AND pass = ?"
        stored = ("INSERT OR REPLACE INTO documents VALUES (?, ?, ?)", (name, *sealed(document, name)))
        self._write([stored, (delete, (key, pass_index))])

    def _block_statements(self, block: PlacedBlock) -> tuple[int, list[tuple[str, tuple[Any, ...]]]]:
        rows = self._rows("SELECT id FROM blocks WHERE key = ?", (block.key,))
        if rows:
            return int(rows[0][0]), []
        number = int(self._rows("SELECT coalesce(max(id), 0) + 1 FROM blocks")[0][0])
        document = {
            "kind": block.kind,
            "text": block.text,
            "input_shapes": [list(shape) for shape in block.input_shapes],
            "output_shape": list(block.output_shape),
            "macs": block.macs,
            "weight_bytes": FLOAT32_BYTES * params(block.graph),
        }
        values = (number, block.key, *sealed(document, "block", block.key))
        return number, [("INSERT INTO blocks VALUES (?, ?, ?, ?)", values)]

    def _write(self, statements: Iterable[tuple[str, Sequence[Any]]]) -> None:
        with sqlite_errors(self.path, "write"):
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                for sql, values in statements:
                    self._connection.execute(sql, values)
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    # Reading

    def recorded(self) -> set[tuple[str, int]]:
        """Return (key, pass index) of every pass that is recorded."""
        rows = self._rows("SELECT key, pass FROM passes JOIN blocks ON id = block")
        return {(str(key), int(number)) for key, number in rows}

    def passes(self) -> dict[str, list[tuple[int, PassResult]]]:
        """Return every pass by key: ``(pass index, result)``, in the order of the pass index."""
        sql = (
            "SELECT key, pass, session, passes.json, passes.checksum FROM passes"
            " JOIN blocks ON id = block ORDER BY block, pass"
        )
        found: dict[str, list[tuple[int, PassResult]]] = {}
        for key, number, session, text, checksum in self._rows(sql):
            document = unsealed(self.path, text, checksum, "pass", key, number, session)
            found.setdefault(str(key), []).append((int(number), self._pass(document, f"pass {number}")))
        return found

    def provenance(self, key: str) -> list[dict[str, Any]]:
        """Return the full record of each pass of a block: what the pass left, its model, and its session's part.

        Raises:
            FileFormatError: if a row is damaged.
        """
        sql = (
            "SELECT pass, session, passes.json, passes.checksum, sessions.json, sessions.checksum FROM passes"
            " JOIN blocks ON blocks.id = block JOIN sessions ON sessions.id = session WHERE key = ? ORDER BY pass"
        )
        found = []
        for number, session, text, checksum, common, common_checksum in self._rows(sql, (key,)):
            document = unsealed(self.path, text, checksum, "pass", key, number, session)
            shared = unsealed(self.path, common, common_checksum, "session", session)
            found.append({"pass": number, **document, "session": shared, "table": self.header.model_dump(mode="json")})
        return found

    def stored_pass(self, key: str, pass_index: int) -> tuple[str, int, dict[str, Any]]:
        """Return (text of the block, session, document with ``model_sha256``) of one pass.

        Raises:
            FileFormatError: if there is no such pass, or it is damaged.
        """
        sql = "SELECT session, passes.json, passes.checksum FROM passes JOIN blocks ON id = block"
        rows = self._rows(f"{sql} WHERE key = ? AND pass = ?", (key, pass_index))
        if not rows:
            raise FileFormatError(f"{self.path} has no pass {pass_index} of {key[:60]}")
        session, text, checksum = rows[0]
        document = unsealed(self.path, text, checksum, "pass", key, pass_index, session)
        return str(self._facts()[key]["text"]), int(session), document

    def entries(self) -> list[TableEntry]:
        """Return every block that has at least one pass, in the order in which blocks came.

        Raises:
            FileFormatError: if a row is damaged.
        """
        facts = self._facts()
        return [
            entry_of(self.path, key, facts[key], [result for _, result in results])
            for key, results in self.passes().items()
        ]

    def skipped(self) -> list[SkippedBlock]:
        """Return the blocks that were skipped for being slower alone than a build's limit."""
        sql = (
            "SELECT key, session, skipped.json, skipped.checksum FROM skipped JOIN blocks ON id = block ORDER BY block"
        )
        found, facts = [], self._facts()
        for key, session, text, checksum in self._rows(sql):
            document = unsealed(self.path, text, checksum, "skipped", key, session)
            block = facts[str(key)]
            if not isinstance(document, dict) or not all(is_time(document.get(n)) for n in ("limit_ms", "measured_ms")):
                raise FileFormatError(f"{self.path} is damaged: the skipped block {block['text']} has no limit")
            evidence = self._pass(document.get("pass"), f"skipped {block['text']}")
            limit_ms, measured_ms = document["limit_ms"], document["measured_ms"]
            found.append(SkippedBlock(str(key), block["kind"], block["text"], limit_ms, measured_ms, evidence))
        return found

    def _facts(self) -> dict[str, dict[str, Any]]:
        found = {}
        for key, text, checksum in self._rows("SELECT key, json, checksum FROM blocks"):
            document = unsealed(self.path, text, checksum, "block", key)
            found[str(key)] = check_facts(self.path, str(key), document)
        return found

    def _pass(self, document: Any, what: str) -> PassResult:
        if not isinstance(document, dict):
            raise FileFormatError(f"{self.path} is damaged: {what} is no measurement")
        fields = {name: value for name, value in document.items() if name != "model_sha256"}
        return PassResult.from_dict(fields, f"{self.path}, {what}")

    def _rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with sqlite_errors(self.path, "read"):
            return self._connection.execute(sql, values).fetchall()
