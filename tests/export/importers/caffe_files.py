"""A writer of .caffemodel files, for tests: protobuf's wire format by hand, V1 and V2, batch norms merged or not."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dfmobile.export.importers.caffe import caffe_name
from dfmobile.graph import Graph, Weights, ops
from dfmobile.graph.reference import bilinear_kernel

V1_TYPES = {"Convolution": 4, "InnerProduct": 14, "Deconvolution": 39, "ReLU": 18, "BatchNorm": 101, "Scale": 102}
EPSILON = 1e-4


@dataclass
class TrainedLayer:
    """A layer with weights as a training leaves it.

    Attributes:
        name: Caffe's.
        type: ``Convolution``, ``InnerProduct`` or ``Deconvolution``.
        weight: as our ops have it.
        bias: None where a batch norm follows.
        norm: scale, shift, mean and variance of that batch norm.
    """

    name: str
    type: str
    weight: np.ndarray
    bias: np.ndarray | None = None
    norm: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray] | None = None


def varint(value: int) -> bytes:
    found = b""
    while value > 0x7F:
        found += bytes([value & 0x7F | 0x80])
        value >>= 7
    return found + bytes([value])


def integer(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def nested(number: int, content: bytes | str) -> bytes:
    data = content.encode() if isinstance(content, str) else content
    return varint(number << 3 | 2) + varint(len(data)) + data


def blob(values: np.ndarray, *, legacy: bool = False, double: bool = False) -> bytes:
    if legacy:
        extents = (1,) * (4 - values.ndim) + values.shape
        shape = b"".join(integer(number, extent) for number, extent in enumerate(extents, 1))
    else:
        shape = nested(7, nested(1, b"".join(varint(extent) for extent in values.shape)))
    if double:
        return shape + nested(8, values.astype("<f8").tobytes())
    return nested(5, values.astype("<f4").tobytes()) + shape


def layer(
    version: int,
    name: str,
    type: str,
    bottoms: Sequence[str],
    tops: Sequence[str],
    blobs: Sequence[bytes] = (),
    epsilon: float | None = None,
) -> bytes:
    if version == 1:
        parts = [nested(2, item) for item in bottoms] + [nested(3, item) for item in tops]
        parts += [nested(4, name), integer(5, V1_TYPES[type])] + [nested(6, item) for item in blobs]
        return nested(2, b"".join(parts))
    parts = [nested(1, name), nested(2, type)] + [nested(3, item) for item in bottoms]
    parts += [nested(4, item) for item in tops] + [nested(7, item) for item in blobs]
    if epsilon is not None:
        parts.append(nested(139, varint(3 << 3 | 5) + struct.pack("<f", epsilon)))
    return nested(100, b"".join(parts))


def caffemodel(
    layers: Sequence[TrainedLayer],
    *,
    version: int = 2,
    merged: bool = False,
    double: bool = False,
    epsilon: float = EPSILON,
    factor: float = 999.98,
) -> bytes:
    """Return a network's file.

    Args:
        layers: with weights; the rest of the network is left out but for ReLUs, which end a group.
        version: of the layers; 1 has legacy 4-D shapes.
        merged: batch norms multiplied into the layers before them.
        double: float64 values.
        epsilon: of the batch norms.
        factor: by which their stored statistics are to be divided.
    """
    options = {"legacy": version == 1, "double": double}
    found = [nested(1, "net")]
    for item in layers:
        weight, bias = item.weight, item.bias
        if item.norm is not None and merged:
            gamma, beta, mean, variance = (values.astype(np.float64) for values in item.norm)
            scale = gamma / np.sqrt(variance + epsilon)
            weight = weight * scale[:, None, None, None]
            bias = beta - mean * scale
        blobs = [blob(weight, **options)] + ([] if bias is None else [blob(bias, **options)])
        found.append(layer(version, item.name, item.type, [f"{item.name}/in"], [item.name], blobs))
        if item.norm is not None and not merged:
            gamma, beta, mean, variance = item.norm
            statistics = [mean * factor, variance * factor, np.array([factor])]
            stored = [blob(values, **options) for values in statistics]
            # In place, as Caffe's networks mostly have it; the scale is not.
            found.append(layer(version, f"bn_{item.name}", "BatchNorm", [item.name], [item.name], stored, epsilon))
            scale_blobs = [blob(values, **options) for values in (gamma, beta)]
            found.append(layer(version, f"sc_{item.name}", "Scale", [item.name], [f"{item.name}/y"], scale_blobs))
        found.append(layer(version, f"{item.name}/relu", "ReLU", [item.name], [item.name]))
    return b"".join(found)


def trained_layers(graph: Graph, weights: Weights) -> list[TrainedLayer]:
    """Return the layers of one of our graphs in training form."""
    norms = {node.inputs[0]: node for node in graph.nodes if isinstance(node.op, ops.BatchNorm)}
    found = []
    for node in graph.nodes:
        if isinstance(node.op, ops.BilinearUpsample):
            channels = graph.shapes[node.inputs[0]][1]
            kernel = np.broadcast_to(bilinear_kernel(node.op.scale), (channels, 1, *[2 * node.op.scale] * 2))
            found.append(TrainedLayer(caffe_name(node.name), "Deconvolution", kernel))
        if not isinstance(node.op, (ops.Conv, ops.FullyConnected)):
            continue
        kind = "Convolution" if isinstance(node.op, ops.Conv) else "InnerProduct"
        item = TrainedLayer(caffe_name(node.name), kind, weights[f"{node.name}.weight"])
        item.bias = weights.get(f"{node.name}.bias")
        if node.name in norms:
            norm = norms[node.name].name
            roles = ("scale", "shift", "mean", "variance")
            scale, shift, mean, variance = (weights[f"{norm}.{role}"] for role in roles)
            item.norm = (scale, shift, mean, variance)
        found.append(item)
    return found
