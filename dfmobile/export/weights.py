"""Weights files: .npz without pickle, bounded when read, whole or absent when written."""

from __future__ import annotations

import io
import json
import math
import os
import struct
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from dfmobile.errors import FileFormatError, InputError
from dfmobile.files import atomic_path, read_bytes
from dfmobile.graph import Weights

METADATA_MEMBER = "dfmobile.json"
LIMIT_BYTES = 4 * 2**30
_MEMBER_LIMIT = 100_000
_METADATA_LIMIT_BYTES = 2**20
_HEADER_LIMIT_BYTES = 4096
# What zipfile lets through when a directory entry points nowhere or a member is compressed badly.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    OSError,
    OverflowError,
    RuntimeError,  # encrypted members, unknown compression
    ValueError,
)
_DATE = (1980, 1, 1, 0, 0, 0)  # equal weights make equal files


def save_weights(path: str | os.PathLike[str], weights: Weights, metadata: Mapping[str, str]) -> None:
    """Write weights as .npz, readable by ``numpy.load(path, allow_pickle=False)``.

    Args:
        path: the file; an older one is replaced only by a whole new one.
        weights: float32 tensors by ``<node>.<role>``.
        metadata: texts about them (architecture, input size, how they were made), kept as a JSON member.

    Raises:
        InputError: if a tensor is not float32.
        StorageError: if it cannot be written.
    """
    for name, values in weights.items():
        if values.dtype != np.float32:
            raise InputError(f"weight {name!r} is {values.dtype}, not float32")
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr(zipfile.ZipInfo(METADATA_MEMBER, _DATE), json.dumps(dict(metadata), ensure_ascii=False))
        for name, values in weights.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _DATE), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.ascontiguousarray(values), allow_pickle=False)


def load_weights_file(path: str | os.PathLike[str], limit_bytes: int = LIMIT_BYTES) -> tuple[Weights, dict[str, str]]:
    """Read a weights file.

    Args:
        path: a file that ``save_weights`` wrote, or any .npz of float32 (or float64, float16) arrays.
        limit_bytes: refuse files whose unpacked content is larger.

    Returns:
        The weights by ``<node>.<role>``, and the metadata (empty where the file has none).

    Raises:
        StorageError: if it cannot be read.
        FileFormatError: if it is damaged, too large, or no weights file.
    """
    content = io.BytesIO(read_bytes(path, limit_bytes))
    try:
        with zipfile.ZipFile(content) as archive:
            members = archive.infolist()
            total = sum(member.file_size for member in members)
            if total > limit_bytes or len(members) > _MEMBER_LIMIT:
                raise FileFormatError(
                    f"{os.fspath(path)} unpacks to {len(members)} arrays of {total} bytes, more than is read",
                    hint="is it the right file?",
                )
            return _read(archive, members, path)
    except _DAMAGE as error:
        raise _damaged(path, " ".join(str(error).split()) or type(error).__name__) from error


def _read(
    archive: zipfile.ZipFile, members: list[zipfile.ZipInfo], path: str | os.PathLike[str]
) -> tuple[Weights, dict[str, str]]:
    weights: Weights = {}
    metadata: dict[str, str] = {}
    for member in members:
        if member.filename == METADATA_MEMBER:
            metadata = _metadata(archive, member, path)
        elif member.filename.endswith(".npy"):
            name = member.filename.removesuffix(".npy")
            if name in weights:
                raise _damaged(path, f"array {name!r} is there twice")
            weights[name] = _array(archive.read(member), name, path)
        else:
            raise _damaged(path, f"member {member.filename!r} is not an array")
    return weights, metadata


def _metadata(archive: zipfile.ZipFile, member: zipfile.ZipInfo, path: str | os.PathLike[str]) -> dict[str, str]:
    if member.file_size > _METADATA_LIMIT_BYTES:
        raise _damaged(path, "its metadata are too large")
    try:
        document = json.loads(archive.read(member))
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"its metadata are not JSON ({error})") from error
    if not isinstance(document, dict) or not all(isinstance(value, str) for value in document.values()):
        raise _damaged(path, "its metadata are not texts by name")
    return document


def _array(data: bytes, name: str, path: str | os.PathLike[str]) -> npt.NDArray[np.float32]:
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        readers = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        shape, fortran, dtype = readers[version](stream, max_header_size=_HEADER_LIMIT_BYTES)
    except (ValueError, KeyError, SyntaxError, TypeError) as error:
        raise _damaged(path, f"array {name!r} has no readable header ({error})") from error
    if dtype.kind != "f":
        raise _damaged(path, f"array {name!r} is {dtype}, not floating point")
    # Checked before memory is taken: a header may claim any size.
    if math.prod(shape) * dtype.itemsize != len(data) - stream.tell():
        raise _damaged(path, f"array {name!r} is cut off")
    values = np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape, order="F" if fortran else "C")
    return np.array(values, np.float32, order="C")


def _damaged(path: str | os.PathLike[str], reason: str) -> FileFormatError:
    return FileFormatError(f"{os.fspath(path)} is not a readable weights file: {reason}", hint="is it the right file?")
