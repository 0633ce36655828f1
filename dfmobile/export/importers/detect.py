"""Tell what a weights file is by its content, and read it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dfmobile.architecture import Architecture, build
from dfmobile.errors import InputError
from dfmobile.export.importers.base import LIMIT_BYTES, WRONG_FILE, ImportedWeights, check_complete, some
from dfmobile.export.importers.caffe import import_caffe, is_caffemodel
from dfmobile.export.importers.ncnn import import_ncnn
from dfmobile.export.importers.ncnn_param import is_param
from dfmobile.export.importers.safetensors import is_safetensors, read_safetensors
from dfmobile.export.network_weights import network_form
from dfmobile.export.weights import load_weights_file
from dfmobile.files import read_bytes

_ROOM_BYTES = 16 * 2**20
_PARAM_LIMIT_BYTES = 16 * 2**20
_HDF5 = b"\x89HDF\r\n\x1a\n"
FORMATS = "ncnn (.param or .param.bin with .bin), Caffe (.caffemodel), .safetensors, .npz"


def import_weights(
    architecture: Architecture, size: tuple[int, int], paths: Sequence[str | os.PathLike[str]]
) -> ImportedWeights:
    """Read the weights of a network from another tool's files, or from our own.

    Args:
        architecture: whose weights they are.
        size: (width, height) to build it at where the files do not say; weights do not depend on it.
        paths: one file, or ncnn's two in any order.

    Returns:
        Complete weights, each of the right shape, all finite.

    Raises:
        StorageError: if a file cannot be read.
        FileFormatError: if one is damaged, or of no known format.
        InputError: if they are of another network, or incomplete.
    """
    if not 1 <= len(paths) <= 2:
        raise InputError(f"{len(paths)} files are given", hint=f"give one network's files: {FORMATS}")
    contents = [(Path(path), read_bytes(path, LIMIT_BYTES)) for path in paths]
    # Damaged numbers overflow on their way; what is not finite in the end is refused.
    with np.errstate(all="ignore"):
        return _import(architecture, size, contents)


def _import(architecture: Architecture, size: tuple[int, int], contents: list[tuple[Path, bytes]]) -> ImportedWeights:
    param = [item for item in contents if is_param(item[1])]
    if any(len(data) > _PARAM_LIMIT_BYTES for _, data in param):
        raise InputError(f"{param[0][0]} is larger than any param file of ncnn", hint=WRONG_FILE)
    if len(param) == 1 and len(contents) == 2:
        (binary,) = [item for item in contents if item[0] is not param[0][0]]
        names = param[0][0].name, binary[0].name
        return import_ncnn(architecture, size, param[0][1], binary[1], names)
    if len(contents) == 2:
        raise InputError(
            f"{contents[0][0]} and {contents[1][0]}: two files are ncnn's param and bin, these are not",
            hint=f"give one network's files: {FORMATS}",
        )
    path, data = contents[0]
    if param:
        raise InputError(f"{path} is ncnn's param file, which has no weights", hint="give its .bin file too")
    return _single(architecture, size, path, data)


def _single(architecture: Architecture, size: tuple[int, int], path: Path, data: bytes) -> ImportedWeights:
    network = build(architecture, *size)
    if data[:4] == b"PK\x03\x04":
        # Archives unpack to any size: no more than the network needs, in float64, and some room.
        elements = sum(parameter.size for parameter in network.graph.parameters().values())
        (weights, metadata), kind = load_weights_file(path, 8 * elements + _ROOM_BYTES), "npz"
    elif is_safetensors(data):
        (weights, metadata), kind = read_safetensors(data, path.name), "safetensors"
    elif data[:8] == _HDF5:
        raise InputError(f"{path} is an HDF5 file", hint="save it as a binary .caffemodel (protobuf) with Caffe")
    elif is_caffemodel(data):
        return import_caffe(architecture, size, data, path.name)
    else:
        raise InputError(f"{path} is of no known format", hint=f"known are: {FORMATS}")
    form, graph = network_form(network, weights)
    unknown = [name for name in weights if name not in graph.parameters()]
    if unknown:
        raise InputError(
            f"{path.name} has {len(unknown)} tensors that belong to no layer: {some(unknown)}",
            hint="names are those of dfmobile, <layer>.<role>, as in a weights file that it wrote",
        )
    check_complete(graph, weights, path.name)
    return ImportedWeights(weights, form, kind, metadata=metadata)
