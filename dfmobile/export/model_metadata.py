"""What a model file that dfmobile wrote says of itself: encoding, preprocessing, names of classes."""

from __future__ import annotations

import contextlib
import json
import struct
from pathlib import Path
from typing import Any

from dfmobile.errors import BackendError, FileFormatError, InputError, import_extra
from dfmobile.files import read_json
from dfmobile.runtimes.base import model_content

_LONGEST = 1 << 20
_MOST = 1000


def model_metadata(path: Path) -> dict[str, str]:
    """Return the texts that are stored in a model file.

    Args:
        path: ``.tflite``, ``.onnx``, or ``.param`` of ncnn, whose texts are in the ``.json`` beside it.

    Raises:
        StorageError: if it cannot be read.
        FileFormatError: if it is damaged.
        BackendError: if it is empty, or ONNX Runtime cannot load it.
        InputError: if the ending is another.
        MissingExtraError: if onnxruntime, for .onnx files, is not installed.
    """
    suffix = path.suffix.lower()
    if suffix == ".tflite":
        return _tflite(model_content(path), path)
    if suffix == ".onnx":
        return _onnx(path)
    if suffix == ".param":
        return _ncnn(path.with_suffix(".json"))
    raise InputError(f"{path} is no model file that is known", hint="they end in .tflite, .onnx or .param")


def _tflite(content: bytes, path: Path) -> dict[str, str]:
    from ai_edge_litert import schema_py_generated as schema

    if content[4:8] != b"TFL3":
        raise FileFormatError(f"{path} is no .tflite file", hint="is it the right file?")
    found: dict[str, str] = {}
    try:
        model: Any = schema.Model.GetRootAs(content, 0)
        for index in range(min(model.MetadataLength(), _MOST)):
            entry = model.Metadata(index)
            buffer = model.Buffers(entry.Buffer())
            if buffer.DataLength():
                data = buffer.DataAsNumpy().tobytes()
            else:  # behind the flatbuffer
                data = content[buffer.Offset() : buffer.Offset() + buffer.Size()]
            if len(data) <= _LONGEST:
                with contextlib.suppress(UnicodeDecodeError):  # other tools keep binary things there
                    found[entry.Name().decode()] = data.decode()
    except (struct.error, IndexError, ValueError, TypeError, AttributeError, OverflowError) as error:
        raise FileFormatError(f"{path} is damaged: {error}", hint="export it again") from error
    return found


def _onnx(path: Path) -> dict[str, str]:
    runtime = import_extra("onnxruntime", "onnx", "running .onnx files")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = runtime.InferenceSession(model_content(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its exceptions share no base but Exception
        if isinstance(error, BackendError):
            raise
        raise BackendError(
            f"ONNX Runtime cannot load {path}: {' '.join(str(error).split())}", hint="is it a whole .onnx file?"
        ) from error
    return {str(key): str(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}


def _ncnn(path: Path) -> dict[str, str]:
    if not path.is_file():
        raise InputError(f"{path}, which says what the model takes, is not there", hint="export it again")
    document = read_json(path, _LONGEST)
    if not isinstance(document, dict):
        raise FileFormatError(f"{path} is no description of a model", hint="export it again")
    return {
        str(key): value if isinstance(value, str) else json.dumps(value)
        for key, value in document.items()
        if isinstance(value, (str, list, dict))
    }
