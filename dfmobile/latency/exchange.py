"""Latency tables as JSON documents (complete, both ways) and as CSV (a summary, one way).

The JSON document holds every pass with its raw samples and provenance, and the SHA-256 of its own content, so a
changed document is refused by name. It guards against accidents and careless edits, not against forgery: whoever
can edit can also recompute.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import zlib
from pathlib import Path
from typing import Any

from dfmobile.errors import FileFormatError, InputError
from dfmobile.files import atomic_write, read_bytes
from dfmobile.latency.content import (
    BlockContent,
    TableContent,
    checked_content,
    read_content,
    refuse_existing,
    write_content,
)
from dfmobile.latency.coverage import table_document
from dfmobile.latency.table import LatencyTable

FORMAT = "dfmobile-latency-table"
VERSION = 1
MAX_DOCUMENT_BYTES = 2**30
_FIELDS = {"format", "version", "sha256", "header", "builds", "documents", "sessions", "blocks"}
_BLOCK_FIELDS = {"key", "facts", "passes", "skipped"}
_HINT = "export it again with: dfmobile lut export TABLE -o FILE.json"
CSV_FIELDS = (
    "device", "backend", "runtime", "precision", "threads", "granularity", "kind", "text", "key", "measure",
    "hot_ms", "half_width_ms", "isolated_ms", "cold_ms", "n", "runs", "samples", "passes", "builds", "macs",
    "weight_bytes", "input_shapes", "output_shape",
)  # fmt: skip


def export_table(table: str | os.PathLike[str], output: str | os.PathLike[str]) -> int:
    """Write a table as JSON (``.json``, ``.json.gz``) or its summary as CSV (``.csv``, ``.csv.gz``), by the name.

    Returns:
        Number of blocks or layers written.

    Raises:
        InputError: if the name ends otherwise.
        StorageError: if there is a file of that name, something cannot be read or written.
        FileFormatError: if the table is damaged.
    """
    output = Path(output)
    packed = output.suffix == ".gz"
    suffix = Path(output.stem).suffix if packed else output.suffix
    if suffix not in (".json", ".csv"):
        raise InputError(f"{output} is neither .json nor .csv", hint="name FILE.json, FILE.json.gz or FILE.csv")
    refuse_existing(output)
    if suffix == ".json":
        content = read_content(table)
        text = json.dumps(to_document(content), indent=1, ensure_ascii=True, allow_nan=False) + "\n"
        count = len(content.blocks)
    else:
        with LatencyTable.open(table) as opened:
            text, count = _summary(opened)
    # No time stamp in the gzip header: equal tables make equal files.
    atomic_write(output, gzip.compress(text.encode(), mtime=0) if packed else text)
    return count


def import_table(document: str | os.PathLike[str], output: str | os.PathLike[str]) -> TableContent:
    """Make a table of a JSON document: untrusted input.

    Returns:
        What was imported.

    Raises:
        StorageError: if there is a file of that name, something cannot be read or written.
        FileFormatError: if the document is foreign, of another version, changed, too large, or cannot be.
    """
    refuse_existing(Path(output))
    content = from_document(_load(Path(document)), str(document))
    write_content(output, content)
    return content


def to_document(content: TableContent) -> dict[str, Any]:
    """Return a table's content as a JSON document with its own SHA-256."""
    document = {
        "format": FORMAT,
        "version": VERSION,
        "header": content.header.model_dump(mode="json"),
        "builds": [build.model_dump(mode="json") for build in content.builds],
        "documents": content.documents,
        "sessions": [{"session": number, "provenance": item} for number, item in content.sessions.items()],
        "blocks": [
            {
                "key": block.key,
                "facts": block.facts,
                "passes": [
                    {"pass": index, "session": session, "result": result}
                    for index, (session, result) in sorted(block.passes.items())
                ],
                "skipped": None
                if block.skipped is None
                else {"session": block.skipped[0], "evidence": block.skipped[1]},
            }
            for block in content.blocks
        ],
    }
    return {"format": FORMAT, "version": VERSION, "sha256": _digest(document), **document}


def from_document(document: Any, origin: str) -> TableContent:
    """Read back what ``to_document`` made.

    Raises:
        FileFormatError: if it is foreign, of another version, changed, or cannot be.
    """
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise FileFormatError(f"{origin} is not a latency table's document", hint=_HINT)
    if document.get("version") != VERSION:
        version = str(document.get("version"))[:20]
        raise FileFormatError(f"{origin} has version {version}, this dfmobile reads version {VERSION}", hint=_HINT)
    if set(document) != _FIELDS:
        odd = sorted(set(document) ^ _FIELDS)[0]
        raise FileFormatError(f"{origin}: field {odd[:40]!r} is missing or unknown", hint=_HINT)
    if document["sha256"] != _digest({name: value for name, value in document.items() if name != "sha256"}):
        raise FileFormatError(f"{origin} was changed after it was written: its sha256 does not fit", hint=_HINT)
    try:
        sessions = {item["session"]: item["provenance"] for item in document["sessions"]}
        blocks = [_block(item) for item in document["blocks"]]
        documents = dict(document["documents"])
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise FileFormatError(f"{origin} does not have the form of a latency table", hint=_HINT) from error
    if len(sessions) != len(document["sessions"]):
        raise FileFormatError(f"{origin}: a session is there twice", hint=_HINT)
    return checked_content(
        header=document["header"],
        builds=document["builds"],
        documents=documents,
        sessions=sessions,
        blocks=blocks,
        origin=origin,
    )


def _block(item: dict[str, Any]) -> BlockContent:
    if set(item) != _BLOCK_FIELDS:
        raise KeyError("block")
    passes = {row["pass"]: (row["session"], row["result"]) for row in item["passes"]}
    if len(passes) != len(item["passes"]):
        raise ValueError("a pass is there twice")
    skipped = item["skipped"]
    evidence = None if skipped is None else (skipped["session"], skipped["evidence"])
    return BlockContent(item["key"], item["facts"], passes, evidence)


def _load(path: Path) -> Any:
    data = read_bytes(path, MAX_DOCUMENT_BYTES)
    try:
        if data[:2] == b"\x1f\x8b":
            with gzip.GzipFile(fileobj=io.BytesIO(data)) as stream:
                data = stream.read(MAX_DOCUMENT_BYTES + 1)
            if len(data) > MAX_DOCUMENT_BYTES:
                raise FileFormatError(f"{path} unpacks to more than {MAX_DOCUMENT_BYTES} bytes", hint=_HINT)
        return json.loads(data, parse_constant=_refuse_constant)
    except (OSError, EOFError, zlib.error, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:80]
        raise FileFormatError(f"{path} is not a JSON document: {reason}", hint=_HINT) from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number")


def _digest(document: Any) -> str:
    """Return the SHA-256 of a document's canonical text (keys sorted, no spaces)."""
    try:
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    except ValueError:  # 1e999 is valid JSON and not a finite number: nothing that dfmobile writes
        return ""
    return hashlib.sha256(text.encode()).hexdigest()


def _summary(table: LatencyTable) -> tuple[str, int]:
    document = table_document(table)
    stream = io.StringIO()
    writer = csv.DictWriter(stream, CSV_FIELDS, lineterminator="\n")
    writer.writeheader()
    common = {name: document[name] for name in ("backend", "runtime", "precision", "threads", "granularity")}
    for entry in document["entries"]:
        shapes = " + ".join("x".join(map(str, shape)) for shape in entry["input_shapes"])
        row = {name: entry[name] for name in CSV_FIELDS if name in entry}
        row.update(common, device=document["device_summary"], half_width_ms=entry["half_width"])
        writer.writerow({**row, "input_shapes": shapes, "output_shape": "x".join(map(str, entry["output_shape"]))})
    return stream.getvalue(), len(document["entries"])
