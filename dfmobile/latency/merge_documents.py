"""What becomes of the documents that tools keep in tables when tables are merged.

Evidence is kept from every table: measured networks (their passes joined), rejected passes, anchors; the sessions that
they name get the merged table's numbers. What was derived from one table's measurements (coefficients of a rule and so
on) belongs to these measurements and stays only where it is the same in all tables.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from dfmobile.errors import FileFormatError
from dfmobile.latency import drift, networks, rejected
from dfmobile.latency.rejected import parse_rejected

_ANCHORS = re.compile(re.escape(drift.PREFIX) + r"(\d{6,18})")


def merge_documents(
    tables: Sequence[tuple[str, Mapping[str, Any], Mapping[int, int]]],
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Merge documents.

    Args:
        tables: of each: path, for messages; documents by name; new session numbers by old ones.

    Returns:
        The merged documents, and the names of those that are left out.

    Raises:
        FileFormatError: if a document is damaged.
    """
    merged: dict[str, Any] = {}
    derived: set[str] = set()
    for path, documents, sessions in tables:
        for name, document in documents.items():
            if name.startswith(rejected.PREFIX):
                item = parse_rejected(document, path)
                item = dataclasses.replace(item, session=_session(item.session, sessions, path, name))
                merged[item.document_name] = item.to_dict()
            elif name.startswith(networks.PREFIX):
                _add_network(merged, name, document, sessions, path)
            elif found := _ANCHORS.fullmatch(name):
                merged[f"{drift.PREFIX}{_session(int(found[1]), sessions, path, name):06d}"] = document
            else:
                derived.add(name)
    for name in derived:
        versions = [documents.get(name) for _, documents, _ in tables]
        if all(name in documents for _, documents, _ in tables) and all(item == versions[0] for item in versions):
            merged[name] = versions[0]
    return merged, tuple(sorted(derived - merged.keys()))


def _session(number: int, sessions: Mapping[int, int], path: str, name: str) -> int:
    if number not in sessions:
        raise FileFormatError(f"{path} is damaged: {name[:60]!r} belongs to no session")
    return sessions[number]


def _add_network(merged: dict[str, Any], name: str, document: Any, sessions: Mapping[int, int], path: str) -> None:
    item = networks.parse_network(document, path)
    item.sessions[:] = [_session(number, sessions, path, name) for number in item.sessions]
    mine = merged.get(name)
    if mine is None:
        merged[name] = item.to_dict()
        return
    joined = networks.parse_network(mine, path)
    if joined.blocks != item.blocks:
        raise FileFormatError(
            f"{path}: the measured network {item.encoding[:60]} has other blocks than in the other tables",
            hint="the tables were measured by different versions of dfmobile: build one of them again",
        )
    for result, session, factor, sha256 in zip(item.passes, item.sessions, item.drift, item.model_sha256, strict=True):
        if result not in joined.passes:
            joined.add(result, session, factor, sha256)
    merged[name] = joined.to_dict()
