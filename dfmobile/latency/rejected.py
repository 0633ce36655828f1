"""Passes that were measured and do not count: kept in the table with the reason, never deleted.

Each lies in a document of its own whose name is made of its content, so that tables can be merged.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from dfmobile.latency.header import Text, damaged
from dfmobile.latency.measurement import PassResult
from dfmobile.latency.table import LatencyTable

PREFIX = "rejected "
Guard = Literal["contamination", "drift", "order"]


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    key: Annotated[str, StringConstraints(min_length=1, max_length=200_000)]
    text: Text
    pass_index: Annotated[int, Field(ge=0, lt=2**31)]
    attempt: Annotated[int, Field(ge=0, lt=2**31)]
    session: Annotated[int, Field(ge=0)]
    guard: Guard
    reason: Text
    model_sha256: Text
    result: dict[str, Any]


@dataclass(frozen=True)
class RejectedPass:
    """A pass that does not count.

    Attributes:
        key: LUT key of its block.
        text: kind, shapes and short key of the block, for people.
        pass_index: which pass it was; another one of this index may have taken its place.
        attempt: how many passes of this block and index were rejected before.
        session: of the table.
        guard: what rejected it.
        reason: why, for people.
        model_sha256: of the model file.
        result: what was measured.
    """

    key: str
    text: str
    pass_index: int
    attempt: int
    session: int
    guard: Guard
    reason: str
    model_sha256: str
    result: PassResult

    def to_dict(self) -> dict[str, Any]:
        """Return it as a JSON document."""
        return {
            "key": self.key,
            "text": self.text,
            "pass_index": self.pass_index,
            "attempt": self.attempt,
            "session": self.session,
            "guard": self.guard,
            "reason": self.reason,
            "model_sha256": self.model_sha256,
            "result": self.result.to_dict(),
        }

    @property
    def document_name(self) -> str:
        """Under which name a table keeps it."""
        text = json.dumps(self.to_dict(), sort_keys=True)
        return f"{PREFIX}{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def store_rejected(table: LatencyTable, rejected: RejectedPass) -> None:
    """Keep a pass that was never recorded.

    Raises:
        StorageError: if it cannot be written.
    """
    table.set_document(rejected.document_name, rejected.to_dict())


def withdraw(table: LatencyTable, key: str, pass_index: int, attempt: int, guard: Guard, reason: str) -> RejectedPass:
    """Take a recorded pass back, in one transaction: it does not count any more, and is kept as rejected.

    Raises:
        FileFormatError: if there is no such pass, or it is damaged.
        StorageError: if it cannot be written; nothing is then changed.
    """
    text, session, document = table.stored_pass(key, pass_index)
    fields = {name: value for name, value in document.items() if name != "model_sha256"}
    result = PassResult.from_dict(fields, f"{table.path}, pass {pass_index}")
    sha256 = str(document.get("model_sha256") or "unknown")
    rejected = RejectedPass(key, text, pass_index, attempt, session, guard, reason, sha256, result)
    table.withdraw_pass(key, pass_index, rejected.document_name, rejected.to_dict())
    return rejected


def parse_rejected(document: Any, origin: str) -> RejectedPass:
    """Read a rejected pass back.

    Raises:
        FileFormatError: naming the first field that cannot be.
    """
    try:
        parsed = _Document.model_validate(document)
    except ValidationError as error:
        raise damaged(origin, "rejected pass", error) from error
    result = PassResult.from_dict(parsed.result, f"{origin}, rejected pass of {parsed.text[:60]}")
    return RejectedPass(**{**parsed.model_dump(exclude={"result"}), "result": result})


def rejected_passes(table: LatencyTable) -> list[RejectedPass]:
    """Return every pass of a table that does not count, by block and pass index.

    Raises:
        FileFormatError: if one is damaged.
    """
    found = [parse_rejected(document, str(table.path)) for document in table.documents(PREFIX).values()]
    return sorted(found, key=lambda item: (item.text, item.pass_index, item.result.started_utc))
