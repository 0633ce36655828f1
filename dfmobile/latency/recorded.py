"""Recorded tables: per-layer logs of a runtime that somebody else ran, as layer-granular latency tables.

Two forms of CSV are known. *Fused* (TensorRT): a row has ``fused_ops``, shapes, kernel, stride and groups, so its
op graph follows from the row. *Unfused* (Caffe): a row has only its name, type and output shape; the op graph comes
from the layer document of its network. Keys are those of ``latency.layers``, so a layer has the same key in every
network. What is imported is marked as recorded: dfmobile did not measure it, knows no raw samples, and gives no
interval.
"""

from __future__ import annotations

import csv
import datetime
import hashlib
import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfmobile import __version__
from dfmobile.errors import FileFormatError, GraphError, InputError, quoted
from dfmobile.files import read_bytes
from dfmobile.graph import Graph, ops
from dfmobile.graph.cost import FLOAT32_BYTES, params
from dfmobile.graph.graph import Node
from dfmobile.latency.content import BlockContent, TableContent, checked_content, write_content
from dfmobile.latency.header import Build, TableHeader
from dfmobile.latency.layer_documents import conv_op, layer_document
from dfmobile.latency.layers import Copy, Fusion, Layer, layer_of, layers_of
from dfmobile.latency.measurement import MAX_SAMPLE_MS, PassResult

RECORDED = "recorded"
"""Backend name of recorded tables."""
MAX_LOG_BYTES = 16 * 2**20
MAX_ROWS = 100_000
_FUSED_COLUMNS = {
    "network", "resolution_HxW", "fused_layer", "base_layer", "fused_ops", "in_shape_CHW", "out_shape_CHW",
    "kernel", "stride", "groups", "macs", "ms",
}  # fmt: skip
_UNFUSED_COLUMNS = {"network", "index", "layer", "type", "out_shape_NCHW", "ms_forward"}
_TYPES = {
    "Input": "input", "Convolution": "conv", "ReLU": "relu", "Eltwise": "add", "Split": "fork", "Concat": "concat",
    "Pooling": "average_pool", "Interp": "resize_bilinear", "Deconvolution": "bilinear_upsample",
    "Softmax": "softmax", "ArgMax": "argmax",
}  # fmt: skip
# Types whose rows bear the name of the layer; a ReLU or fork is named after what it follows.
_NAMED = {"conv", "add", "concat", "average_pool", "resize_bilinear", "bilinear_upsample"}


@dataclass(frozen=True)
class RecordedRow:
    """A row of a log.

    Attributes:
        network: as the log calls it.
        width: of its input image, pixels.
        height: of its input image, pixels.
        layer: what was timed.
        time_ms: as recorded.
    """

    network: str
    width: int
    height: int
    layer: Layer
    time_ms: float


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
    origin = os.fspath(log)
    data = read_bytes(log, MAX_LOG_BYTES)
    columns, rows = _read_csv(data, origin)
    if columns >= _FUSED_COLUMNS:
        fusion: Fusion = "fused"
        found = [_fused_row(row, f"{origin}, line {number}") for number, row in enumerate(rows, 2)]
    elif columns >= _UNFUSED_COLUMNS:
        fusion = "unfused"
        wanted = [row for row in rows if network is None or row["network"] == network]
        found = _unfused_rows(wanted, dict(layer_document(path) for path in documents), origin)
    else:
        raise FileFormatError(f"{origin} is not a per-layer log that dfmobile knows", hint="see docs: recorded tables")
    chosen = [
        row
        for row in found
        if (network is None or row.network == network) and (size is None or (row.width, row.height) == size)
    ]
    if not chosen:
        known = sorted({f"{row.network} at {row.width}x{row.height}" for row in found})
        raise InputError(f"{origin} has no such rows", hint=f"it has: {', '.join(known[:12]) or 'none of that network'}")
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
        init_ms=0.0,
        kernel_ms=sum(times),
        kernel_wall_ms=sum(times),
        cpu_wall_ratio=None,
        involuntary_switches=None,
        started_utc="unknown",
        extra={"recorded": True, "layers": [f"{row.network}: {row.layer.name}" for row in rows]},
    )
    return {**result.to_dict(), "model_sha256": "unknown"}


def _read_csv(data: bytes, origin: str) -> tuple[set[str], list[dict[str, str]]]:
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        columns = set(reader.fieldnames or ())
        rows = []
        for number, row in enumerate(reader, 2):
            if None in row or any(value is None for value in row.values()):
                raise FileFormatError(f"{origin}, line {number}: not {len(columns)} columns")
            if len(rows) >= MAX_ROWS:
                raise FileFormatError(f"{origin} has more than {MAX_ROWS} rows")
            rows.append(row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileFormatError(f"{origin} is not a CSV file: {error}") from error
    return columns, rows


def _fused_row(row: dict[str, str], origin: str) -> RecordedRow:
    try:
        height, width = _shape(row["resolution_HxW"], 2)
        source, made = (1, *_shape(row["in_shape_CHW"], 3)), (1, *_shape(row["out_shape_CHW"], 3))
        layer = _fused_layer(row, source, made)
        if layer.output_shape != made or layer.macs != int(row["macs"]):
            raise ValueError(f"makes {layer.output_shape} with {layer.macs} MACs")
        return RecordedRow(_name(row["network"]), width, height, layer, _time(row["ms"]))
    except (ValueError, GraphError) as error:
        raise FileFormatError(f"{origin}: the layer {quoted(row['fused_layer'], 60)} cannot be: {error}") from error


def _fused_layer(row: dict[str, str], source: tuple[int, ...], made: tuple[int, ...]) -> Layer:
    kinds, name = row["fused_ops"].split("+"), _name(row["base_layer"])
    if kinds == ["copy"]:
        op: ops.Op = Copy()
    elif kinds == ["interp"]:  # Caffe's Interp layer: corners are aligned
        op = ops.ResizeBilinear((made[2], made[3]), align_corners=True)
    elif kinds == ["avgpool"]:
        kernel, stride = int(row["kernel"]), int(row["stride"])
        op = ops.AveragePool((kernel, kernel), (stride, stride))
    elif kinds[0] in ("conv", "deconv"):
        op = _conv(row, source, made, transposed=kinds[0] == "deconv")
    else:
        raise ValueError(f"unknown fused ops {quoted(row['fused_ops'], 40)}")
    rest = kinds[1:]
    if rest not in ([], ["relu"], ["add"], ["add", "relu"]):
        raise ValueError(f"unknown fused ops {quoted(row['fused_ops'], 40)}")

    def emit(inputs: Sequence[str]) -> list[Node]:
        nodes = [Node(name, op, (inputs[0],), (name,))]
        for kind in rest:
            read = (nodes[-1].outputs[0], inputs[1]) if kind == "add" else nodes[-1].outputs
            nodes.append(Node(f"{name}/{kind}", ops.Add() if kind == "add" else ops.Relu(), read, (f"{name}/{kind}",)))
        return nodes

    return layer_of(_name(row["fused_layer"]), [source, made] if "add" in rest else [source], emit)


def _conv(row: dict[str, str], source: tuple[int, ...], made: tuple[int, ...], *, transposed: bool) -> ops.Op:
    kernel, stride, groups = int(row["kernel"]), int(row["stride"]), int(row["groups"])
    wide, narrow = (made[2], source[2]) if transposed else (source[2], made[2])
    if min(kernel, stride, groups) < 1:
        raise ValueError("kernel, stride and groups are positive")
    padding = max(0, ((narrow - 1) * stride + kernel - wide + 1) // 2)
    # The log does not name biases; deployed networks have batch norm folded into them.
    return conv_op(
        transposed=transposed,
        kernel=kernel,
        stride=stride,
        padding=padding,
        groups=groups,
        in_channels=source[1],
        out_channels=made[1],
        bias=True,
        fixed=transposed,
    )


def _unfused_rows(rows: Sequence[dict[str, str]], graphs: dict[str, Graph], origin: str) -> list[RecordedRow]:
    by_network: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        by_network.setdefault(row["network"], []).append(row)
    missing = sorted(by_network.keys() - graphs.keys())
    if missing:
        raise InputError(
            f"{origin} says no kernels: the layers of {quoted(missing[0], 60)} must be described",
            hint="add --layers NET.json for each network of the log, or choose one with --network",
        )
    found = []
    for name, mine in by_network.items():
        graph = graphs[name]
        layers = layers_of(graph, "unfused")
        if len(layers) != len(mine):
            raise FileFormatError(f"{origin}: {quoted(name, 60)} has {len(mine)} rows, its layers are {len(layers)}")
        height, width = graph.inputs[0][1][2:]
        for row, layer in zip(mine, layers, strict=True):
            try:
                kind, base = _TYPES.get(row["type"]), _name(row["layer"])
                if kind != layer.kind or _shape(row["out_shape_NCHW"], 4) != layer.output_shape:
                    raise ValueError(f"the layers say {layer.text}")
                if kind in _NAMED and base != layer.name:
                    raise ValueError(f"the layers call it {quoted(layer.name, 60)}")
                found.append(RecordedRow(_name(name), width, height, layer, _time(row["ms_forward"])))
            except ValueError as error:
                raise FileFormatError(f"{origin}: {quoted(row['layer'], 60)} of {name[:60]!r}: {error}") from error
    return found


def _shape(text: str, length: int) -> tuple[int, ...]:
    parts = text.split("x")
    if len(parts) != length or not all(part.isascii() and part.isdigit() and 0 < len(part) < 8 for part in parts):
        raise ValueError(f"{quoted(text, 40)} is no shape")
    shape = tuple(int(part) for part in parts)
    if min(shape) < 1:
        raise ValueError(f"{quoted(text, 40)} is no shape")
    return shape


def _time(text: str) -> float:
    value = float(text)
    if not 0 < value <= MAX_SAMPLE_MS:
        raise ValueError(f"{quoted(text, 40)} is no time")
    return value


def _name(text: str) -> str:
    if not 0 < len(text) <= 200 or not text.isprintable():
        raise ValueError(f"{quoted(text, 40)} is no name")
    return text
