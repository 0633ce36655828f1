"""Recorded tables: per-layer logs of a runtime that somebody else ran, as layer-granular latency tables.

``latency.recorded_log`` reads the log. Keys are those of ``latency.layers``, so a layer has the same key in every
network. What is imported is marked as recorded: dfmobile did not measure it, knows no raw samples, and gives no
interval.
"""

from __future__ import annotations

import datetime
import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dfmobile import __version__
from dfmobile.errors import InputError
from dfmobile.files import read_bytes
from dfmobile.graph.cost import FLOAT32_BYTES, params
from dfmobile.latency.content import BlockContent, TableContent, checked_content, refuse_existing, write_content
from dfmobile.latency.header import Build, TableHeader
from dfmobile.latency.layer_documents import layer_document
from dfmobile.latency.measurement import PassResult
from dfmobile.latency.recorded_log import MAX_LOG_BYTES, RecordedRow, read_log

RECORDED = "recorded"
"""Backend name of recorded tables."""


def import_recorded(
    log: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    device: str,
    runtime: str,
    precision: str = "fp32",
    documents: Sequence[str | os.PathLike[str]] = (),
    network: str | None = None,
    size: tuple[int, int] | None = None,
) -> TableContent:
    """Make a layer-granular table of a per-layer log: untrusted input.

    Args:
        log: CSV, fused or unfused.
        output: table to make.
        device: that the log was recorded on, for people, e.g. ``GTX 1080 Ti``.
        runtime: that it was recorded with, name and version, e.g. ``TensorRT 3.0.4``.
        precision: that it was recorded at.
        documents: layer documents, needed for unfused logs.
        network: take only this network's rows; None takes all.
        size: take only rows at this (width, height); None takes all.

    Raises:
        InputError: if nothing is left, or a layer document is missing.
        StorageError: if there is a file of that name, something cannot be read or written.
        FileFormatError: if the log or a document cannot be.
    """
    refuse_existing(Path(output))
    origin = os.fspath(log)
    data = read_bytes(log, MAX_LOG_BYTES)
    graphs = dict(layer_document(path) for path in documents)
    fusion, found = read_log(data, graphs, origin, network)
    chosen = [row for row in found if size is None or (row.width, row.height) == size]
    if not chosen:
        known = sorted({f"{row.network} at {row.width}x{row.height}" for row in found})
        raise InputError(
            f"{origin} has no such rows", hint=f"it has: {', '.join(known[:12]) or 'none of that network'}"
        )
    name, _, version = runtime.strip().rpartition(" ")
    header = TableHeader(
        granularity="layer",
        device=f"{RECORDED}:{device}",
        device_fingerprint=f"{RECORDED}:{device}",
        device_summary=f"{device} (recorded, not measured by dfmobile)",
        device_profile={},
        backend=RECORDED,
        runtime=name or version,
        runtime_version=version if name else "unknown",
        library_sha256=None,
        flags={"fusion": fusion},
        precision=precision,
        threads=1,
        affinity=None,
        created_by=__version__,
    )
    content = _content(chosen, header, Path(origin).name, hashlib.sha256(data).hexdigest())
    write_content(output, content)
    return content


def _content(rows: Sequence[RecordedRow], header: TableHeader, log: str, sha256: str) -> TableContent:
    by_key: dict[str, list[RecordedRow]] = {}
    by_target: dict[tuple[str, int, int], dict[str, None]] = {}
    for row in rows:
        by_key.setdefault(row.layer.key, []).append(row)
        by_target.setdefault((row.network, row.width, row.height), {})[row.layer.key] = None
    provenance = {
        "recorded": True,
        "log": log,
        "log_sha256": sha256,
        "imported_utc": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "dfmobile": __version__,
        "device": header.device,
        "runtime": f"{header.runtime} {header.runtime_version}",
    }
    blocks = []
    for key, same in by_key.items():
        layer = same[0].layer
        facts = {
            "kind": layer.kind,
            "text": layer.text,
            "input_shapes": [list(shape) for shape in layer.input_shapes],
            "output_shape": list(layer.output_shape),
            "macs": layer.macs,
            "weight_bytes": FLOAT32_BYTES * params(layer.graph),
        }
        blocks.append(BlockContent(key, facts, {0: (1, _recorded_pass(same))}))
    builds = [
        Build(space=None, network=name, width=width, height=height, passes=1, latency_max_ms=None, keys=list(keys))
        for (name, width, height), keys in by_target.items()
    ]
    return checked_content(
        header=header.model_dump(mode="json"),
        builds=[build.model_dump(mode="json") for build in builds],
        documents={},
        sessions={1: provenance},
        blocks=blocks,
        origin=log,
    )


def _recorded_pass(rows: Sequence[RecordedRow]) -> dict[str, Any]:
    """Return one pass that holds what was recorded of one layer: a value for each time it occurs in the log."""
    times = [row.time_ms for row in rows]
    result = PassResult(
        hot_ms=times,
        cold_ms=[],
        clock="wall",
        warm_up_ms=[],
        warm_up_runs=0,
        steady=False,
        init_ms=None,
        kernel_ms=sum(times),
        kernel_wall_ms=sum(times),
        cpu_wall_ratio=None,
        involuntary_switches=None,
        started_utc="unknown",
        extra={"recorded": True, "layers": [f"{row.network}: {row.layer.name}" for row in rows]},
    )
    return {**result.to_dict(), "model_sha256": "unknown"}
