"""Caffe's .caffemodel files: layers, the blobs between them, and their weights, out of protobuf's wire format.

Read here and not by a protobuf library: a fixed nesting of four messages without recursion, weights as views of the
file, a bounded number of fields. Format: caffe.proto of BVLC Caffe 1.0: ``NetParameter`` with ``layer``
(``LayerParameter``) or, before 2014, ``layers`` (``V1LayerParameter``); ``BlobProto`` with a ``BlobShape`` or four
legacy extents, ``data`` or ``double_data``.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from dfmobile.export.importers.base import FloatArray, damaged, one_line

_FIELD_LIMIT, _LAYER_LIMIT, _LINK_LIMIT, _BLOB_LIMIT, _TEXT_LIMIT = 2_000_000, 10_000, 4096, 16, 1024
_PART_LIMIT = 1024  # Caffe writes a blob's values as one part
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_NET_V1, _NET_V2 = 2, 100
# Of V1's enumeration those with weights; batch norms came after it, so that forks number them as they like.
_V1_TYPES = {4: "Convolution", 14: "InnerProduct", 39: "Deconvolution"}
_V1_LAST = 39


@dataclass
class CaffeLayer:
    """One layer.

    Attributes:
        name: of the layer.
        type: ``"Convolution"``, ``"BatchNorm"``, …; of unknown V1 types ``"V1:<number>"``.
        bottoms: blobs that it reads.
        tops: blobs that it writes; one of its bottoms where it works in place.
        weights: its blobs as float32, with the shapes that the file gives them.
        epsilon: of a batch norm; None where the file cannot say.
    """

    name: str = ""
    type: str = ""
    bottoms: list[str] = field(default_factory=list)
    tops: list[str] = field(default_factory=list)
    weights: list[FloatArray] = field(default_factory=list)
    epsilon: float | None = None


def is_caffemodel(data: bytes) -> bool:
    """Return whether a file begins with a field that a network of Caffe begins with: a name, an input or a layer."""
    return data[:1] in (b"\x0a", b"\x12", b"\x1a") or data[:2] == b"\xa2\x06"


class _Wire:
    """Fields of messages, with one budget for the whole file."""

    def __init__(self, path: str) -> None:
        self.path, self.left = path, _FIELD_LIMIT

    def varint(self, data: memoryview, position: int) -> tuple[int, int]:
        value = 0
        for index in range(10):
            if position + index >= len(data):
                break
            byte = data[position + index]
            value |= (byte & 0x7F) << (7 * index)
            if byte < 0x80:
                return value & (2**64 - 1), position + index + 1
        raise damaged(self.path, "a number in it is cut off")

    def fields(self, data: memoryview) -> Iterator[tuple[int, int, int, memoryview]]:
        """Yield (field number, wire type, number, bytes) of a message; only one of the last two means something."""
        position = 0
        nothing = data[:0]
        while position < len(data):
            self.left -= 1
            if self.left < 0:
                raise damaged(self.path, f"it has more than {_FIELD_LIMIT} fields")
            key, position = self.varint(data, position)
            number, wire = key >> 3, key & 7
            if wire == _VARINT:
                value, position = self.varint(data, position)
                yield number, wire, value, nothing
                continue
            if wire == _BYTES:
                length, position = self.varint(data, position)
            elif wire in (_FIXED32, _FIXED64):
                length = 4 if wire == _FIXED32 else 8
            else:
                raise damaged(self.path, f"it has a field of wire type {wire}")
            if number == 0 or length > len(data) - position:
                raise damaged(self.path, "it is cut off, or no .caffemodel")
            yield number, wire, 0, data[position : position + length]
            position += length

    def text(self, value: memoryview) -> str:
        if len(value) > _TEXT_LIMIT:
            raise damaged(self.path, f"a name in it has {len(value)} bytes")
        return bytes(value).decode("utf-8", "replace")


def read_caffemodel(data: bytes, path: str) -> list[CaffeLayer]:
    """Read the layers of a .caffemodel.

    Args:
        data: its content.
        path: for messages.

    Raises:
        FileFormatError: if it is damaged or has no layers; nothing larger than the file itself is made.
    """
    wire = _Wire(path)
    found: list[CaffeLayer] = []
    versions = set()
    for number, kind, _, value in wire.fields(memoryview(data)):
        if number not in (_NET_V1, _NET_V2) or kind != _BYTES:
            continue
        versions.add(number)
        if len(found) >= _LAYER_LIMIT:
            raise damaged(path, f"it has more than {_LAYER_LIMIT} layers")
        found.append(_layer(wire, value, _V1 if number == _NET_V1 else _V2))
    if not found:
        raise damaged(path, "it has no layers")
    if len(versions) > 1:
        raise damaged(path, "it has layers of two versions of Caffe")
    return found


# Field numbers of what is read: (name, type, bottoms, tops, blobs).
_V1, _V2 = (4, 5, 2, 3, 6), (1, 2, 3, 4, 7)
_V0_LAYER, _BATCH_NORM = 1, 139


def _layer(wire: _Wire, data: memoryview, numbers: tuple[int, ...]) -> CaffeLayer:
    name, type_, bottoms, tops, blobs = numbers
    layer = CaffeLayer()
    old = numbers is _V1
    if not old:
        layer.epsilon = 1e-5  # Caffe's default
    for number, kind, value, content in wire.fields(data):
        if old and number == _V0_LAYER and kind == _BYTES:
            raise damaged(
                wire.path, "it is of the first version of Caffe (V0): upgrade it with upgrade_net_proto_binary"
            )
        if number == type_ and old and kind == _VARINT:
            layer.type = _V1_TYPES.get(value, f"V1:{value}")
        elif kind != _BYTES:
            continue
        elif number == name:
            layer.name = wire.text(content)
        elif number == type_:
            layer.type = wire.text(content)
        elif number in (bottoms, tops):
            links = layer.bottoms if number == bottoms else layer.tops
            if len(links) >= _LINK_LIMIT:
                raise damaged(wire.path, f"layer {one_line(layer.name)} has more than {_LINK_LIMIT} inputs or outputs")
            links.append(wire.text(content))
        elif number == blobs:
            if len(layer.weights) >= _BLOB_LIMIT:
                raise damaged(wire.path, f"layer {one_line(layer.name)} has more than {_BLOB_LIMIT} blobs")
            layer.weights.append(_blob(wire, content, layer.name))
        elif number == _BATCH_NORM and not old:
            for inner, inner_kind, _, stored in wire.fields(content):
                if inner == 3 and inner_kind == _FIXED32:
                    layer.epsilon = float(struct.unpack("<f", stored)[0])
    if old and layer.type.startswith("V1:") and int(layer.type[3:]) > _V1_LAST:
        layer.type = _kind_by_weights(layer)
    return layer


def _kind_by_weights(layer: CaffeLayer) -> str:
    """Return what a layer of a fork's own V1 number is: only its weights tell."""
    sizes = [values.size for values in layer.weights]
    if len(sizes) == 3 and sizes[0] == sizes[1] and sizes[2] == 1:
        return "BatchNorm"
    return "Scale" if len(sizes) == 2 and sizes[0] == sizes[1] else layer.type


def _blob(wire: _Wire, data: memoryview, layer: str) -> FloatArray:
    where = f"a blob of layer {one_line(layer)}"
    legacy: dict[int, int] = {}
    shape: list[int] | None = None
    parts: dict[int, list[memoryview]] = {5: [], 8: []}  # float data, double data
    for number, kind, value, content in wire.fields(data):
        if number in (1, 2, 3, 4) and kind == _VARINT:
            legacy[number] = value
        elif number == 7 and kind == _BYTES:
            shape = _extents(wire, content)
        elif number in parts and kind in (_BYTES, _FIXED32, _FIXED64):
            if len(parts[number]) >= _PART_LIMIT:
                raise damaged(wire.path, f"{where} has its values one by one, which Caffe does not write")
            parts[number].append(content)
    if bool(parts[5]) == bool(parts[8]):
        raise damaged(wire.path, f"{where} has no float32 or float64 values, or both")
    stored, item = (parts[5], "<f4") if parts[5] else (parts[8], "<f8")
    content = stored[0] if len(stored) == 1 else memoryview(b"".join(stored))
    extents = shape if shape is not None else [legacy.get(number, 0) for number in (1, 2, 3, 4)] if legacy else []
    size = np.dtype(item).itemsize
    # Checked before anything is made: a shape may claim any size.
    if len(extents) > 8 or min(extents, default=1) < 1 or math.prod(extents) * size != len(content):
        raise damaged(wire.path, f"{where} claims the shape {extents[:8]} and has {len(content) / size:g} values")
    with np.errstate(over="ignore"):  # becomes inf, which is refused later
        return np.frombuffer(content, item).astype(np.float32, copy=False).reshape(extents)


def _extents(wire: _Wire, data: memoryview) -> list[int]:
    found: list[int] = []
    for number, kind, value, content in wire.fields(data):
        if number != 1:
            continue
        if kind == _VARINT:
            found.append(value)
            continue
        position = 0
        while position < len(content) and len(found) <= 32:
            value, position = wire.varint(content, position)
            found.append(value)
    return found
