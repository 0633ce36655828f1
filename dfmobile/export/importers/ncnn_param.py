"""ncnn's param files, text and binary: layers, the blobs between them, and their parameters. No weights.

Format: the reader of ncnn 1.0 (``Net::load_param``). Both begin with the magic number 7767517.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass

from dfmobile.export.importers.base import damaged, one_line

MAGIC = 7767517
END_OF_PARAMETERS = -233
ARRAY_BASE = -23300
CUSTOM_LAYER_BIT = 256
_LAYER_LIMIT, _LINK_LIMIT, _ARRAY_LIMIT = 100_000, 4096, 4096

# The index of a type in binary files: its place in ncnn's list, which only ever grows at its end.
TYPES = """
    AbsVal ArgMax BatchNorm Bias BNLL Concat Convolution Crop Deconvolution Dropout Eltwise ELU Embed Exp Flatten
    InnerProduct Input Log LRN MemoryData MVN Pooling Power PReLU Proposal Reduction ReLU Reshape ROIPooling Scale
    Sigmoid Slice Softmax Split SPP TanH Threshold Tile RNN LSTM BinaryOp UnaryOp ConvolutionDepthWise Padding
    Squeeze ExpandDims Normalize Permute PriorBox DetectionOutput Interp DeconvolutionDepthWise ShuffleChannel
    InstanceNorm Clip Reorg YoloDetectionOutput Quantize Dequantize Yolov3DetectionOutput PSROIPooling ROIAlign
    Packing Requantize Cast HardSigmoid SELU HardSwish Noop PixelShuffle DeepCopy Mish StatisticsPooling Swish
    Gemm GroupNorm LayerNorm Softplus GRU MultiHeadAttention GELU
""".split()  # noqa: SIM905  (a list of 81 quoted names is no easier to read)


class Parameters:
    """A layer's parameters by number; a value's type is the reader's business, as in ncnn.

    Args:
        values: the 4 bytes of each value, by number; arrays have any number of values.
    """

    def __init__(self, values: dict[int, tuple[bytes, ...]]) -> None:
        self._values = values

    def integer(self, number: int, default: int = 0) -> int:
        """Return an integer parameter."""
        value = self._values.get(number)
        return default if not value else int(struct.unpack("<i", value[0])[0])

    def real(self, number: int, default: float = 0.0) -> float:
        """Return a float parameter."""
        value = self._values.get(number)
        return default if not value else float(struct.unpack("<f", value[0])[0])

    def integers(self, number: int) -> tuple[int, ...]:
        """Return an array of integers; empty where there is none."""
        return tuple(int(struct.unpack("<i", value)[0]) for value in self._values.get(number, ()))


@dataclass(frozen=True)
class NcnnLayer:
    """One layer.

    Attributes:
        type: as ncnn calls it; ``custom…`` where the file was made for a program's own layer.
        name: in the file; binary files have none, then type and position.
        bottoms: blobs that it reads.
        tops: blobs that it writes.
        parameters: by number.
    """

    type: str
    name: str
    bottoms: tuple[str, ...]
    tops: tuple[str, ...]
    parameters: Parameters


def is_param(data: bytes) -> bool:
    """Return whether a file begins like a param file."""
    return data[:4] == struct.pack("<i", MAGIC) or data[:64].split(None, 1)[:1] == [str(MAGIC).encode()]


def read_param(data: bytes, path: str) -> list[NcnnLayer]:
    """Read a param file, text or binary.

    Args:
        data: its content.
        path: for messages.

    Raises:
        FileFormatError: if it is damaged; whatever it claims, nothing larger than the file itself is made.
    """
    layers = _read_binary(data, path) if data[:4] == struct.pack("<i", MAGIC) else _read_text(data, path)
    written: set[str] = set()
    for layer in layers:
        unknown = [name for name in layer.bottoms if name not in written]
        if unknown:
            raise damaged(path, f"layer {layer.name} reads blob {unknown[0]}, which no earlier layer writes")
        doubled = [name for name in layer.tops if name in written or layer.tops.count(name) > 1]
        if doubled:
            raise damaged(path, f"layer {layer.name} writes blob {doubled[0]} again")
        written.update(layer.tops)
    return layers


def _checked_counts(layers: int, path: str) -> int:
    if not 0 < layers <= _LAYER_LIMIT:
        raise damaged(path, f"it claims {layers} layers")
    return layers


def _read_binary(data: bytes, path: str) -> list[NcnnLayer]:
    # 4-byte little-endian words throughout.
    words = struct.unpack(f"<{len(data) // 4}i", data[: len(data) // 4 * 4])
    position = 1

    def take(count: int) -> tuple[int, ...]:
        nonlocal position
        if count < 0 or position + count > len(words):
            raise damaged(path, "it is cut off")
        position += count
        return words[position - count : position]

    count, _ = take(2)
    layers = []
    for index in range(_checked_counts(count, path)):
        kind, bottom_count, top_count = take(3)
        if not (0 <= bottom_count <= _LINK_LIMIT and 0 <= top_count <= _LINK_LIMIT):
            raise damaged(path, f"layer {index} claims {bottom_count} inputs and {top_count} outputs")
        bottoms, tops = take(bottom_count), take(top_count)
        values: dict[int, tuple[bytes, ...]] = {}
        while (number := take(1)[0]) != END_OF_PARAMETERS:
            if number <= ARRAY_BASE:
                number = ARRAY_BASE - number
                length = take(1)[0]
                if not 0 <= length <= _ARRAY_LIMIT:
                    raise damaged(path, f"layer {index} claims an array of {length} values")
            else:
                length = 1
            values[number] = tuple(struct.pack("<i", word) for word in take(length))
        known = 0 <= kind < len(TYPES)
        type_ = TYPES[kind] if known else f"custom{kind}" if kind & CUSTOM_LAYER_BIT else f"type{kind}"
        names = [tuple(str(blob) for blob in blobs) for blobs in (bottoms, tops)]
        layers.append(NcnnLayer(type_, f"{type_}#{index}", names[0], names[1], Parameters(values)))
    if position != len(words) or len(data) % 4:
        raise damaged(path, f"{len(data) - 4 * position} bytes follow its last layer")
    return layers


def _read_text(data: bytes, path: str) -> list[NcnnLayer]:
    try:
        lines = [line.split() for line in data.decode("ascii").splitlines() if line.strip()]
        magic, count = int(lines[0][0]), int(lines[1][0])
    except (ValueError, IndexError) as error:
        raise damaged(path, "it is no param file of ncnn") from error
    if magic != MAGIC:
        raise damaged(path, "it is no param file of ncnn")
    _checked_counts(count, path)
    if len(lines) - 2 != count:
        raise damaged(path, f"it claims {count} layers and has {len(lines) - 2}")
    return [_text_layer(fields, index, path) for index, fields in enumerate(lines[2:])]


def _text_layer(fields: list[str], index: int, path: str) -> NcnnLayer:
    try:
        kind, name, bottom_count, top_count = fields[0], fields[1], int(fields[2]), int(fields[3])
        if min(bottom_count, top_count) < 0 or 4 + bottom_count + top_count > len(fields):
            raise damaged(path, f"layer {index} is cut off")
        links = fields[4 : 4 + bottom_count + top_count]
        values = {}
        for field in fields[4 + bottom_count + top_count :]:
            number_text, _, value = field.partition("=")
            number = int(number_text)
            if number <= ARRAY_BASE:
                length, *items = value.split(",")
                if int(length) != len(items):
                    raise damaged(path, f"layer {index}: array {field[:40]!r} is cut off")
                values[ARRAY_BASE - number] = tuple(map(_packed, items))
            else:
                values[number] = (_packed(value),)
    except (ValueError, IndexError, struct.error, OverflowError) as error:
        raise damaged(path, f"layer {index} ({one_line(' '.join(fields), 60)}) is not readable") from error
    return NcnnLayer(kind, name, tuple(links[:bottom_count]), tuple(links[bottom_count:]), Parameters(values))


def _packed(text: str) -> bytes:
    if any(letter in text for letter in ".eE"):
        value = float(text)
        if not math.isfinite(value):
            raise ValueError(text)
        return struct.pack("<f", value)
    return struct.pack("<i", int(text))
