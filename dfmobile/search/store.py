"""campaign.sqlite: the state of one campaign, one transaction an event.

What was committed survives ``kill -9`` and a power cut (SQLite's rollback journal, synchronous FULL). Reading
while a campaign runs is fine. The store knows nothing of how draws are chosen or results applied.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType
from typing import Any

from dfmobile.errors import FileFormatError, InputError, StorageError
from dfmobile.search.boundary import pareto_optimal

SCHEMA_VERSION = 1
_APPLICATION_ID = 0x6466_6D63  # "dfmc": a campaign of dfmobile
_HINT = "restore it from a copy, or search into a new folder"
_TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE evaluations (
        number INTEGER PRIMARY KEY, encoding TEXT NOT NULL UNIQUE, stage_row TEXT NOT NULL,
        predicted_ms REAL NOT NULL, drawn_utc TEXT NOT NULL,
        accuracy REAL, seconds REAL, details TEXT, curve TEXT, weights TEXT, received_utc TEXT,
        pruned INTEGER, alive INTEGER)""",
    """CREATE TABLE failures (
        id INTEGER PRIMARY KEY, number INTEGER NOT NULL, error TEXT NOT NULL, hint TEXT NOT NULL,
        failed_utc TEXT NOT NULL)""",
    "CREATE TABLE remeasured (encoding TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID",
)


@dataclass(frozen=True)
class EvaluationRecord:
    """One drawn architecture and, once known, its result.

    Attributes:
        number: its draw, from 1.
        encoding: canonical text.
        row: list id of each stage.
        predicted_ms: latency by the table.
        drawn_utc: when it was drawn (ISO 8601).
        accuracy: in [0, 1]; None while it is in flight.
        seconds: what the evaluation took, as the evaluator says; None while in flight.
        details: what else the evaluator reported.
        curve: its learning curve, one object per point.
        weights: trained weights, relative to the run folder where they are inside it; None if there are none.
        received_utc: when the result came.
        pruned: architectures that this result ruled out; None until it is applied.
        alive: architectures left alive when it had been applied; None until then.
    """

    number: int
    encoding: str
    row: tuple[int, ...]
    predicted_ms: float
    drawn_utc: str
    accuracy: float | None
    seconds: float | None
    details: dict[str, Any]
    curve: list[dict[str, Any]]
    weights: str | None
    received_utc: str | None
    pruned: int | None
    alive: int | None

    @property
    def digest(self) -> str:
        """12 hexadecimal digits: a short name for files of this architecture."""
        return encoding_digest(self.encoding)


class CampaignStore:
    """Opens or makes ``campaign.sqlite``.

    Args:
        path: the file.
        create: make it if it is not there.

    Raises:
        InputError: if it is not there and ``create`` is False.
        FileFormatError: if it is damaged, not a campaign, or of another schema version.
        StorageError: if it cannot be read or written.
    """

    def __init__(self, path: str | Path, *, create: bool = False) -> None:
        self.path = Path(path)
        if not self.path.exists() and not create:
            raise InputError(
                f"{self.path} does not exist", hint="give the folder of a campaign: dfmobile search … -o RUN/"
            )
        with self._guard():
            self._connection = sqlite3.connect(self.path, timeout=30.0, isolation_level=None)
            self._connection.row_factory = sqlite3.Row
        try:
            with self._guard():
                self._prepare(create)
        except BaseException:
            self._connection.close()
            raise

    def _prepare(self, create: bool) -> None:
        for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "synchronous = FULL"):
            self._connection.execute(f"PRAGMA {pragma}")
        empty = self._connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0] == 0
        if empty and create:
            with self._transaction():
                for statement in _TABLES:
                    self._connection.execute(statement)
                self._connection.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
                self._connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            return
        if self._connection.execute("PRAGMA application_id").fetchone()[0] != _APPLICATION_ID:
            raise FileFormatError(f"{self.path} is not a campaign of dfmobile", hint="is it the right folder?")
        version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            raise FileFormatError(
                f"{self.path} has campaign schema version {version}; this dfmobile reads version {SCHEMA_VERSION}",
                hint="use the dfmobile that wrote it, or search into a new folder",
            )

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def __enter__(self) -> CampaignStore:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def meta(self) -> dict[str, Any]:
        """Return what the campaign is: ``identity`` (compared on resume), ``budget``, ``tool_version``, …."""
        with self._guard():
            rows = self._connection.execute("SELECT key, value FROM meta").fetchall()
        return {row["key"]: json.loads(row["value"]) for row in rows}

    def set_meta(self, **values: Any) -> None:
        """Store JSON values, all in one transaction; those of other keys stay."""
        with self._guard(), self._transaction():
            self._connection.executemany(
                "INSERT INTO meta VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                [(key, _dump(value)) for key, value in values.items()],
            )

    def set_budget(self, budget: int | None, lookahead: int) -> None:
        """Change the budget of a campaign that has begun.

        Results that were applied while the old budget held draws back are marked as not applied: they will be
        applied after those draws, as if the budget had been the new one from the start.
        """
        with self._guard(), self._transaction():
            drawn = self._connection.execute("SELECT count(*) FROM evaluations").fetchone()[0]
            self._connection.execute(
                "UPDATE evaluations SET pruned = NULL, alive = NULL WHERE number > ?", (drawn + 1 - lookahead,)
            )
            self._connection.execute("UPDATE meta SET value = ? WHERE key = 'budget'", (_dump(budget),))

    def draws(self) -> list[EvaluationRecord]:
        """Return every drawn architecture in draw order, results or not."""
        with self._guard():
            rows = self._connection.execute("SELECT * FROM evaluations ORDER BY number").fetchall()
            return [_record(row) for row in rows]

    def evaluations(self) -> list[EvaluationRecord]:
        """Return the architectures whose accuracy is known, in draw order."""
        return [record for record in self.draws() if record.accuracy is not None]

    def in_flight(self) -> list[EvaluationRecord]:
        """Return the architectures that were drawn and have no result yet, in draw order."""
        return [record for record in self.draws() if record.accuracy is None]

    def boundary(self) -> list[EvaluationRecord]:
        """Return the Pareto-optimal evaluations, fastest first."""
        known = self.evaluations()
        optimal = pareto_optimal([item.predicted_ms for item in known], [item.accuracy or 0.0 for item in known])
        kept = [item for item, keep in zip(known, optimal, strict=True) if keep]
        return sorted(kept, key=lambda item: (item.predicted_ms, item.number))

    def add_draw(self, number: int, encoding: str, row: tuple[int, ...], predicted_ms: float) -> None:
        """Record that an architecture was drawn and is in flight."""
        with self._guard(), self._transaction():
            self._connection.execute(
                "INSERT INTO evaluations (number, encoding, stage_row, predicted_ms, drawn_utc) VALUES (?, ?, ?, ?, ?)",
                (number, encoding, _dump(list(row)), predicted_ms, utc_now()),
            )

    def add_result(
        self,
        number: int,
        accuracy: float,
        seconds: float,
        details: Mapping[str, Any],
        curve: list[dict[str, Any]],
        weights: str | None,
    ) -> None:
        """Record the result of a drawn architecture, as soon as it comes."""
        with self._guard(), self._transaction():
            self._connection.execute(
                "UPDATE evaluations SET accuracy = ?, seconds = ?, details = ?, curve = ?, weights = ?, "
                "received_utc = ? WHERE number = ?",
                (accuracy, seconds, _dump(dict(details)), _dump(curve), weights, utc_now(), number),
            )

    def add_applied(self, number: int, pruned: int, alive: int) -> None:
        """Record what a result ruled out, when it is applied in its turn."""
        with self._guard(), self._transaction():
            self._connection.execute(
                "UPDATE evaluations SET pruned = ?, alive = ? WHERE number = ?", (pruned, alive, number)
            )

    def add_failure(self, number: int, error: str, hint: str) -> int:
        """Record that an evaluation failed; return how often that one has failed by now."""
        with self._guard(), self._transaction():
            self._connection.execute(
                "INSERT INTO failures (number, error, hint, failed_utc) VALUES (?, ?, ?, ?)",
                (number, error, hint, utc_now()),
            )
            row = self._connection.execute("SELECT count(*) FROM failures WHERE number = ?", (number,)).fetchone()
        return int(row[0])

    def failures(self) -> list[dict[str, Any]]:
        """Return every failed attempt: ``number``, ``encoding``, ``error``, ``hint``, ``failed_utc``."""
        with self._guard():
            rows = self._connection.execute(
                "SELECT number, encoding, error, hint, failed_utc FROM failures JOIN evaluations USING (number) "
                "ORDER BY failures.id"
            ).fetchall()
        return [dict(row) for row in rows]

    def set_remeasured(self, encoding: str, record: Mapping[str, Any]) -> None:
        """Store the re-measurement of one architecture of the boundary (JSON-able)."""
        with self._guard(), self._transaction():
            self._connection.execute(
                "INSERT INTO remeasured VALUES (?, ?) ON CONFLICT (encoding) DO UPDATE SET record = excluded.record",
                (encoding, _dump(dict(record))),
            )

    def remeasured(self) -> dict[str, dict[str, Any]]:
        """Return the re-measurements by encoding."""
        with self._guard():
            rows = self._connection.execute("SELECT encoding, record FROM remeasured").fetchall()
        return {row["encoding"]: json.loads(row["record"]) for row in rows}

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._connection.execute("COMMIT")
        except BaseException:
            if self._connection.in_transaction:  # SQLite ends it itself where the disk is full
                self._connection.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _guard(self) -> Iterator[None]:
        """Turn SQLite's errors into one clear line."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "malformed" in str(error) or "no such" in str(error):
                raise FileFormatError(f"{self.path} is damaged: {error}", hint=_HINT) from error
            full = "full" in str(error)
            hint = "free some space and run the command again" if full else "check the folder's permissions"
            raise StorageError(f"cannot use {self.path}: {error}", hint=hint) from error
        except (sqlite3.DatabaseError, json.JSONDecodeError) as error:
            raise FileFormatError(f"{self.path} is damaged or not a campaign: {error}", hint=_HINT) from error


def encoding_digest(encoding: str) -> str:
    """Return the first 12 hexadecimal digits of the SHA-256 of an encoding."""
    return hashlib.sha256(encoding.encode()).hexdigest()[:12]


def utc_now() -> str:
    """Return the time as ISO 8601 in UTC, to the second."""
    return datetime.now(timezone.utc).isoformat(timespec="seconds")


def _dump(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False, sort_keys=True)


def _record(row: sqlite3.Row) -> EvaluationRecord:
    return EvaluationRecord(
        number=row["number"],
        encoding=row["encoding"],
        row=tuple(json.loads(row["stage_row"])),
        predicted_ms=row["predicted_ms"],
        drawn_utc=row["drawn_utc"],
        accuracy=row["accuracy"],
        seconds=row["seconds"],
        details=json.loads(row["details"] or "{}"),
        curve=json.loads(row["curve"] or "[]"),
        weights=row["weights"],
        received_utc=row["received_utc"],
        pruned=row["pruned"],
        alive=row["alive"],
    )
