"""Rows of per-layer logs (CSV), each with the layer that it timed: untrusted input.

Two forms are known. *Fused* (TensorRT): a row has ``fused_ops``, shapes, kernel, stride and groups, so its op graph
follows from the row. *Unfused* (Caffe): a row has only its name, type and output shape; the op graph comes from the
layer document of its network. This module knows no tables.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dfmobile.errors import FileFormatError, GraphError, InputError, quoted
from dfmobile.graph import Graph, ops
from dfmobile.graph.graph import Node
from dfmobile.latency.layer_documents import conv_op
from dfmobile.latency.layers import Copy, Fusion, Layer, layer_of, layers_of
from dfmobile.latency.measurement import MAX_SAMPLE_MS

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


def read_log(
    data: bytes, graphs: Mapping[str, Graph], origin: str, network: str | None = None
) -> tuple[Fusion, list[RecordedRow]]:
    """Read a per-layer log.

    Args:
        data: CSV, UTF-8.
        graphs: deployed op graphs by network, for unfused logs.
        origin: what to call it in messages.
        network: take only this network's rows; None takes all.

    Returns:
        How the runtime cut networks into layers, and the rows.

    Raises:
        InputError: if the log is unfused and a network's graph is missing.
        FileFormatError: naming the first line that cannot be.
    """
    columns, rows = _read_csv(data, origin)
    if columns >= _FUSED_COLUMNS:
        found = [_fused_row(row, f"{origin}, line {number}") for number, row in enumerate(rows, 2)]
        return "fused", [row for row in found if network is None or row.network == network]
    if columns >= _UNFUSED_COLUMNS:
        wanted = [row for row in rows if network is None or row["network"] == network]
        return "unfused", _unfused_rows(wanted, graphs, origin)
    raise FileFormatError(
        f"{origin} is not a per-layer log that dfmobile knows", hint="docs/how-to/recorded-tables.md shows both forms"
    )


def _read_csv(data: bytes, origin: str) -> tuple[set[str], list[dict[str, str]]]:
    try:
        reader = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        columns = set(reader.fieldnames or ())
        rows: list[dict[str, str]] = []
        for number, row in enumerate(reader, 2):
            if None in row or None in row.values():
                raise FileFormatError(f"{origin}, line {number}: not {len(columns)} columns")
            if len(rows) >= MAX_ROWS:
                raise FileFormatError(f"{origin} has more than {MAX_ROWS} rows")
            rows.append(row)
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileFormatError(f"{origin} is not a CSV file: {error}") from error
    return columns, rows


def _fused_row(row: dict[str, str], origin: str) -> RecordedRow:
    what = quoted(row["fused_layer"], 60)
    try:
        height, width = _shape(row["resolution_HxW"], 2)
        source, made = (1, *_shape(row["in_shape_CHW"], 3)), (1, *_shape(row["out_shape_CHW"], 3))
        layer, macs = _fused_layer(row, source, made), int(row["macs"])
        found = RecordedRow(_name(row["network"]), width, height, layer, _time(row["ms"]))
    except (ValueError, GraphError) as error:
        raise FileFormatError(f"{origin}: the layer {what} cannot be: {error}") from error
    if layer.output_shape != made or layer.macs != macs:
        raise FileFormatError(f"{origin}: {what} says {row['out_shape_CHW']}, {macs} MACs, but is {layer.text}")
    return found


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


def _unfused_rows(rows: Sequence[dict[str, str]], graphs: Mapping[str, Graph], origin: str) -> list[RecordedRow]:
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
            what = f"{quoted(row['layer'], 60)} of {quoted(name, 60)}"
            try:
                kind, shape = _TYPES.get(row["type"]), _shape(row["out_shape_NCHW"], 4)
                found.append(RecordedRow(_name(name), width, height, layer, _time(row["ms_forward"])))
            except ValueError as error:
                raise FileFormatError(f"{origin}: {what}: {error}") from error
            same_name = kind not in _NAMED or row["layer"] == layer.name
            if kind != layer.kind or shape != layer.output_shape or not same_name:
                raise FileFormatError(f"{origin}: {what} is {layer.name}: {layer.text} in the layer document")
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
