"""Export a graph as a model file: written, run and compared with the reference, and only then put in place."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dfmobile.errors import InputError
from dfmobile.export.verify import Verification
from dfmobile.export.verify import verify as verify_file
from dfmobile.files import atomic_write, atomic_write_together
from dfmobile.graph import Graph, Weights

Calibration = Sequence[Sequence[npt.NDArray[np.float32]]]
CHECKED_SAMPLES = 4
"""Of the samples that there are, so many, evenly spaced, are run through the reference, which takes seconds each."""
FORMATS = ("tflite", "onnx", "ncnn")
PRECISIONS = {"tflite": ("fp32", "fp16", "int8"), "onnx": ("fp32", "fp16", "int8"), "ncnn": ("fp32", "fp16")}
"""By format. fp16 stores weights as float16 and computes in float32, but of .onnx it computes in float16, as TensorRT
11 needs it (``onnx_precision``); int8 is static (``quantize``, ``onnx_quantize``)."""
_DEVICE_FORMATS = ("tensorrt",)  # built where they run, from an .onnx file


@dataclass(frozen=True)
class ExportResult:
    """What was written.

    Attributes:
        path: the file.
        format: one of ``FORMATS``.
        opset: of an .onnx file, None of others.
        size_bytes: of the file and its companions.
        sha256: of the file, 64 hexadecimal digits.
        verification: how it compares with the reference; None where that was not asked for.
        companions: files that belong to it (ncnn: weights, and a description in JSON).
    """

    path: Path
    format: str
    opset: int | None
    size_bytes: int
    sha256: str
    verification: Verification | None
    companions: tuple[Path, ...] = ()


def check_options(format: str, opset: int | None = None, precision: str = "fp32") -> None:
    """Check what an export is asked for, before anything is computed.

    Raises:
        InputError: if this version does not have it.
    """
    if format not in FORMATS:
        on_device = "is not available here: engines are built on the device that runs them"
        state = on_device if format in _DEVICE_FORMATS else "is unknown"
        raise InputError(f"export format {format!r} {state}", hint=f"formats: {', '.join(FORMATS)}")
    if precision not in PRECISIONS[format]:
        others = any(precision in known for known in PRECISIONS.values())
        state = f"is not available for {format}" if others else "is unknown"
        raise InputError(
            f"export precision {precision!r} {state}",
            hint=f"precisions of {format}: {', '.join(PRECISIONS[format])}"
            + ("; fp16-compute is how a backend runs an fp32 file" if precision == "fp16-compute" else ""),
        )
    if format != "onnx" and opset is not None:
        raise InputError(f"format {format!r} has no opset", hint="leave the opset out, or export to onnx")


def model_bytes(
    graph: Graph,
    weights: Weights,
    format: str,
    *,
    opset: int | None = None,
    precision: str = "fp32",
    calibration: Calibration = (),
    symmetric: bool = False,
    metadata: Mapping[str, str] | None = None,
) -> bytes:
    """Return a graph as the content of a model file of the given format; arguments as of ``export``.

    Raises:
        InputError: if the format, precision or opset is not available, or calibration data are missing or do not fit.
        GraphError: if the weights do not fit the graph.
        ExportError: if the graph cannot be written in that format and precision.
        MissingExtraError: if what the format needs is not installed.
    """
    check_options(format, opset, precision)
    if format == "ncnn":
        raise InputError("a model of ncnn is two files, not one", hint="write it with `dfmobile export`")
    if format == "tflite":
        from dfmobile.export.tflite import tflite_bytes

        content = tflite_bytes(graph, weights, metadata=metadata, half=precision == "fp16")
        if precision != "int8":
            return content
        from dfmobile.export.quantize import quantize_tflite

        return quantize_tflite(content, calibration)
    from dfmobile.export.onnx import DEFAULT_OPSET, onnx_bytes

    content = onnx_bytes(graph, weights, opset=DEFAULT_OPSET if opset is None else opset, metadata=metadata)
    if precision == "int8":
        from dfmobile.export.onnx_quantize import quantize_onnx

        return quantize_onnx(content, calibration, symmetric=symmetric)
    if precision != "fp16":
        return content
    from dfmobile.export.onnx_precision import float16_bytes

    return float16_bytes(content)


def export(
    graph: Graph,
    weights: Weights,
    path: str | os.PathLike[str],
    *,
    format: str,
    opset: int | None = None,
    precision: str = "fp32",
    calibration: Calibration = (),
    symmetric: bool = False,
    verify: bool = True,
    samples: Calibration = (),
    metadata: Mapping[str, str] | None = None,
) -> ExportResult:
    """Write a model file; by default it is run and compared with the numpy reference first.

    Args:
        graph: training or deployed form.
        weights: its weights.
        path: the file; an older one is replaced only when the new one is whole and verified.
        format: ``"tflite"``, ``"onnx"`` or ``"ncnn"`` (then ``path`` ends in ``.param``, and the weights and a
            description are written beside it as ``.bin`` and ``.json``).
        opset: of an .onnx file, 13 to 21; 17 by default.
        precision: ``"fp32"``, or ``"fp16"`` (half the size; weights only and the same speed, but of .onnx files all
            but inputs and outputs: for TensorRT), or ``"int8"`` (static; .tflite: inputs and outputs too; .onnx: QDQ).
        calibration: for int8: samples, each with one array ``[N, C, H, W]`` or ``[N, C]`` an input of the graph.
        symmetric: int8 of .onnx files: zero points are 0, as TensorRT needs it.
        verify: compare with the reference before the file is put in place.
        samples: real inputs to compare on, at most ``CHECKED_SAMPLES`` of them; without any: int8 on those of the
            calibration, else random ones.
        metadata: texts to store in the file.

    Raises:
        InputError: if the format, precision or opset is not available, or calibration data are missing or do not fit.
        GraphError: if the weights do not fit the graph.
        ExportError: if the graph cannot be written, or what was written computes something else.
        StorageError: if the file cannot be written.
        MissingExtraError: if what the format needs is not installed.
    """
    check_options(format, opset, precision)
    if format == "ncnn":
        checked = _some(samples) if verify else None
        return _export_ncnn(graph, weights, Path(path), precision, checked, metadata or {})
    data = model_bytes(
        graph,
        weights,
        format,
        opset=opset,
        precision=precision,
        calibration=calibration,
        symmetric=symmetric,
        metadata=metadata,
    )
    verification = None
    if verify:
        checked = _some(samples or (calibration if precision == "int8" else ()))
        verification = verify_file(data, format, graph, weights, precision=precision, samples=checked)
    atomic_write(path, data)
    if format == "onnx" and opset is None:
        from dfmobile.export.onnx import DEFAULT_OPSET

        opset = DEFAULT_OPSET
    return ExportResult(
        path=Path(path),
        format=format,
        opset=opset,
        size_bytes=len(data),
        sha256=hashlib.sha256(data).hexdigest(),
        verification=verification,
    )


def _some(samples: Calibration) -> Calibration:
    count = min(len(samples), CHECKED_SAMPLES)
    return [samples[int(index)] for index in np.linspace(0, len(samples) - 1, count).round()] if count else ()


def _export_ncnn(
    graph: Graph,
    weights: Weights,
    path: Path,
    precision: str,
    samples: Calibration | None,
    metadata: Mapping[str, str],
) -> ExportResult:
    from dfmobile.export.ncnn import description, ncnn_model, scores_graph
    from dfmobile.runtimes.ncnn import bin_path

    if path.suffix != ".param":
        raise InputError(
            f"{path} does not end in .param",
            hint="a model of ncnn is FILE.param, with FILE.bin and FILE.json beside it: give -o FILE.param",
        )
    model = ncnn_model(graph, weights, half=precision == "fp16")
    verification = None
    if samples is not None:
        scores = scores_graph(graph)
        verification = verify_file(model, "ncnn", scores, weights, precision=precision, samples=samples)
    contents = {
        path: model.param.encode("ascii"),
        bin_path(path): model.binary,
        path.with_suffix(".json"): description(graph, model, precision, metadata),
    }
    atomic_write_together(contents)
    return ExportResult(
        path=path,
        format="ncnn",
        opset=None,
        size_bytes=sum(len(content) for content in contents.values()),
        sha256=hashlib.sha256(contents[path]).hexdigest(),
        verification=verification,
        companions=tuple(contents)[1:],
    )
