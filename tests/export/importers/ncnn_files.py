"""ncnn files in other forms than our export writes, for tests: binary param, other ways to store weights."""

from __future__ import annotations

import struct

import numpy as np

from dfmobile.export.importers.ncnn_bin import CONVOLUTIONS, read_bin
from dfmobile.export.importers.ncnn_param import ARRAY_BASE, END_OF_PARAMETERS, MAGIC, TYPES, read_param
from dfmobile.runtimes.ncnn import NcnnModel


def binary_param(text: str) -> bytes:
    """Return a text param file in ncnn's binary form."""
    lines = [line.split() for line in text.splitlines()]
    words = [MAGIC, *map(int, lines[1])]
    blobs: dict[str, int] = {}
    for kind, _, bottoms, tops, *rest in lines[2:]:
        count = int(bottoms) + int(tops)
        names, fields = rest[:count], rest[count:]
        for name in names[int(bottoms) :]:
            blobs[name] = len(blobs)
        words += [TYPES.index(kind), int(bottoms), int(tops), *(blobs[name] for name in names)]
        for field in fields:
            number, _, value = field.partition("=")
            items = value.split(",")
            words.append(int(number))
            if int(number) <= ARRAY_BASE:
                words.append(int(items.pop(0)))
            words += [
                struct.unpack("<i", struct.pack("<f", float(item)))[0] if "." in item else int(item) for item in items
            ]
        words.append(END_OF_PARAMETERS)
    return struct.pack(f"<{len(words)}i", *words)


def stored(model: NcnnModel, how: str) -> NcnnModel:
    """Return a model of ours with its main weights stored as ``fp16``, ``table``, ``int8`` or ``scaled``."""
    layers = read_param(model.param.encode(), "param")
    tensors = read_bin(layers, model.binary, "bin")
    lines, parts = model.param.splitlines(), []
    for index, (layer, own) in enumerate(zip(layers, tensors, strict=True)):
        if not own:
            continue
        weight = own["weight"]
        scales = b""
        if how == "fp16":
            data = struct.pack("<I", 0x01306B47) + weight.astype("<f2").tobytes()
        elif how == "scaled":
            data = struct.pack("<I", 0x0002C056) + weight.tobytes()
        elif how == "table":
            table = np.linspace(weight.min(), weight.max(), 256, dtype=np.float32)
            nearest = np.abs(weight[:, None] - table).argmin(axis=1).astype(np.uint8)
            data = struct.pack("<I", 0x00000101) + table.tobytes() + nearest.tobytes()
        elif layer.type in (*CONVOLUTIONS[:2], "InnerProduct"):
            groups = layer.parameters.integer(7, 1) if layer.type == "ConvolutionDepthWise" else None
            rows = weight.reshape(groups or layer.parameters.integer(0), -1)
            scale = (127.0 / np.abs(rows).max(axis=1)).astype(np.float32)
            data = struct.pack("<I", 0x000D4B38) + np.rint(rows * scale[:, None]).astype(np.int8).tobytes()
            scales = scale.tobytes() + struct.pack("<f", 1.0)
            lines[2 + index] += " 8=1"
        else:
            data = struct.pack("<I", 0) + weight.tobytes()
        parts += [data + b"\0" * (-len(data) % 4), own["bias"].tobytes() if "bias" in own else b"", scales]
    return NcnnModel("\n".join(lines) + "\n", b"".join(parts))
