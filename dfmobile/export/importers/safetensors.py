"""safetensors files: a JSON header with names, types, shapes and places, then the tensors. Read here, bounded.

Format: 8 bytes little-endian header length, the header, the data; the header may have ``__metadata__`` texts.
"""

from __future__ import annotations

import json
import math
import struct
from typing import Any

import numpy as np

from dfmobile.export.importers.base import FloatArray, damaged, one_line

_HEADER_LIMIT_BYTES = 4 * 2**20
_TENSOR_LIMIT = 100_000
_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def is_safetensors(data: bytes) -> bool:
    """Return whether a file begins like a safetensors file."""
    return len(data) > 9 and struct.unpack("<Q", data[:8])[0] <= len(data) - 8 and data[8:9] == b"{"


def read_safetensors(data: bytes, path: str) -> tuple[dict[str, FloatArray], dict[str, str]]:
    """Return the tensors as float32 by name, and the file's metadata.

    Raises:
        FileFormatError: if it is damaged, or holds anything but floating point tensors.
    """
    if not is_safetensors(data):
        raise damaged(path, "its header is cut off")
    (length,) = struct.unpack("<Q", data[:8])
    if length > _HEADER_LIMIT_BYTES:
        raise damaged(path, f"its header claims {length} bytes")
    try:
        header = json.loads(data[8 : 8 + length])
    except (ValueError, RecursionError) as error:
        raise damaged(path, "its header is not JSON") from error
    if not isinstance(header, dict) or len(header) > _TENSOR_LIMIT:
        raise damaged(path, "its header does not list tensors")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise damaged(path, "its metadata are not texts by name")
    content = memoryview(data)[8 + length :]
    places = {name: _place(name, entry, len(content), path) for name, entry in header.items()}
    # Each byte belongs to one tensor, so that a file cannot name more memory than it has bytes.
    if sum(end - start for _, _, start, end in places.values()) != len(content):
        raise damaged(path, "its tensors do not fill it exactly")
    tensors = {
        name: _values(kind, content[start:end]).reshape(shape) for name, (kind, shape, start, end) in places.items()
    }
    return tensors, metadata


def _place(name: str, entry: Any, length: int, path: str) -> tuple[str, tuple[int, ...], int, int]:
    """Return type, shape, start and end of a tensor, checked against each other and the file."""
    where = f"tensor {one_line(name)!r}"
    try:
        kind, shape, (start, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        integers = all(type(value) is int and value >= 0 for value in (*shape, start, end))
    except (KeyError, TypeError, ValueError) as error:
        raise damaged(path, f"{where} has no type, shape and place") from error
    if not isinstance(kind, str) or kind not in _TYPES:
        raise damaged(path, f"{where} is {one_line(kind, 20)}, not floating point")
    if not integers or len(shape) > 8 or not start <= end <= length:
        raise damaged(path, f"{where} has a shape or place that cannot be")
    if math.prod(shape) * np.dtype(_TYPES[kind]).itemsize != end - start:
        raise damaged(path, f"{where} does not fill its place")
    return kind, shape, start, end


def _values(kind: str, content: memoryview) -> FloatArray:
    stored = np.frombuffer(content, _TYPES[kind])
    if kind == "BF16":  # the upper half of a float32
        stored = (stored.astype(np.uint32) << 16).view(np.float32)
    with np.errstate(over="ignore"):  # becomes inf, which is refused later
        values: FloatArray = stored.astype(np.float32)
    return values
