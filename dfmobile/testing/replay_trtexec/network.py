"""What the replay needs of an ONNX file: opset, nodes, and how much its convolutions have to do.

A reader of the protobuf wire format in a few lines, because the far side has no ``onnx`` package.
"""

import hashlib
from typing import Any, Dict, Iterator, List, NamedTuple, Set, Tuple


class BadOnnxError(Exception):
    """The file is no ONNX model."""


class Node(NamedTuple):
    """A node: its operator, name, first output, and roughly its multiply-accumulates."""

    op: str
    name: str
    output: str
    macs: float


class Network(NamedTuple):
    """An ONNX model as far as the replay cares; ``dtype`` is fp32, fp16 or int8 by its tensors."""

    sha256: str
    opset: int
    producer: str
    nodes: List[Node]
    inputs: List[Tuple[str, List[int]]]
    outputs: List[Tuple[str, List[int]]]
    dtype: str


def _varint(data: bytes, at: int) -> Tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise BadOnnxError("a number is cut off")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, at
        shift += 7


def _fields(data: bytes) -> Iterator[Tuple[int, Any]]:
    """Yield field numbers with an int (varint) or bytes (everything else)."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield key >> 3, value
            continue
        if kind == 2:
            length, at = _varint(data, at)
        elif kind in (1, 5):
            length = 8 if kind == 1 else 4
        else:
            raise BadOnnxError("a field has wire type {}".format(kind))
        if at + length > len(data):
            raise BadOnnxError("a field is cut off")
        yield key >> 3, data[at : at + length]
        at += length


def _message(data: Any) -> Dict[int, List[Any]]:
    if not isinstance(data, bytes):
        raise BadOnnxError("a message is no message")
    found: Dict[int, List[Any]] = {}
    for number, value in _fields(data):
        found.setdefault(number, []).append(value)
    return found


def _text(message: Dict[int, List[Any]], number: int) -> str:
    value = message.get(number, [b""])[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else ""


def _integers(values: List[Any]) -> List[int]:
    """Read a repeated integer field, packed or not."""
    numbers: List[int] = []
    for value in values:
        if isinstance(value, int):
            numbers.append(value)
            continue
        at = 0
        while at < len(value):
            number, at = _varint(value, at)
            numbers.append(number)
    return numbers


def _shape(value_info: bytes) -> Tuple[str, List[int]]:
    message = _message(value_info)
    sizes: List[int] = []
    for type_ in message.get(2, []):
        for tensor in _message(type_).get(1, []):
            for shape in _message(tensor).get(2, []):
                sizes.extend(int(_message(dim).get(1, [1])[0]) for dim in _message(shape).get(1, []))
    return _text(message, 1), sizes


def _product(sizes: List[int]) -> float:
    result = 1.0
    for size in sizes:
        result *= max(1, min(size, 1 << 20))
    return result


def read_network(data: bytes) -> Network:
    """Read an ONNX file.

    Raises:
        BadOnnxError: if it is none.
    """
    try:
        return _read(data)
    except (ValueError, TypeError) as error:
        raise BadOnnxError(str(error)) from error


def _read(data: bytes) -> Network:
    model = _message(data)
    if not model.get(7) or not model.get(8):
        raise BadOnnxError("it has no graph or no opset")
    opset = 0
    for item in model[8]:
        entry = _message(item)
        if _text(entry, 1) in ("", "ai.onnx"):
            opset = int(entry.get(2, [0])[0])
    graph = _message(model[7][0])
    weights: Dict[str, List[int]] = {}
    types: Set[int] = set()
    for item in graph.get(5, []):
        tensor = _message(item)
        weights[_text(tensor, 8)] = _integers(tensor.get(1, []))
        if len(weights[_text(tensor, 8)]) >= 2:
            types.add(int(tensor.get(2, [1])[0]))
    inputs = [item for item in map(_shape, graph.get(11, [])) if item[0] not in weights]
    outputs = [_shape(item) for item in graph.get(12, [])]
    areas = {name: _product(sizes[2:]) for name, sizes in inputs}
    areas.update({name: _product(sizes[2:]) for name, sizes in map(_shape, graph.get(13, [])) if len(sizes) == 4})
    nodes = [_node(_message(item), weights, areas) for item in graph.get(1, [])]
    quantized = any(node.op in ("QuantizeLinear", "DequantizeLinear") for node in nodes)
    dtype = "int8" if quantized else "fp16" if 10 in types else "fp32"
    return Network(hashlib.sha256(data).hexdigest(), opset, _text(model, 2), nodes, inputs, outputs, dtype)


def _node(message: Dict[int, List[Any]], weights: Dict[str, List[int]], areas: Dict[str, float]) -> Node:
    names = [name.decode("utf-8", "replace") for name in message.get(1, []) if isinstance(name, bytes)]
    results = [name.decode("utf-8", "replace") for name in message.get(2, []) if isinstance(name, bytes)]
    op = _text(message, 4)
    area = max([areas.get(name, 1.0) for name in names if name not in weights] or [1.0])
    stride = 1.0
    for item in message.get(5, []):
        attribute = _message(item)
        if _text(attribute, 1) == "strides":
            stride = _product(_integers(attribute.get(8, [])))
    after = area * stride if op == "ConvTranspose" else max(1.0, area / stride)
    if op.startswith("Global"):
        after = 1.0
    for name in results:
        areas.setdefault(name, after)
    sizes = [weights[name] for name in names if len(weights.get(name, [])) >= 2]
    macs = _product(sizes[0]) * (area if op == "ConvTranspose" else after) if sizes else 8 * after
    return Node(op, _text(message, 3), results[0] if results else "", macs)
