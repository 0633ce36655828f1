"""The boundary's model files: each architecture built, given its weights, and exported as .tflite and .onnx."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dfmobile import __version__
from dfmobile.architecture import Architecture, Network, build
from dfmobile.errors import MissingExtraError
from dfmobile.export.exporter import export
from dfmobile.export.weights import load_weights_file
from dfmobile.graph import Weights, initialise
from dfmobile.search.store import EvaluationRecord

MODELS = "models"
FORMATS = ("tflite", "onnx")
MAX_WEIGHTS_BYTES = 2**30
"""Writing and checking a file takes up to eight times its weights in memory; the formats themselves end at 2 GiB."""


@dataclass(frozen=True)
class Delivered:
    """The files of one architecture.

    Attributes:
        weights: ``trained``, or ``random (…)`` with the reason; ``none`` where nothing was written.
        files: by format: ``path`` relative to the run folder, ``sha256``, ``size_bytes``, ``max_difference``
            from the numpy reference.
        missing: by format that was not written: why.
        too_large: why nothing at all was written; empty: it was.
    """

    weights: str
    files: dict[str, dict[str, Any]]
    missing: dict[str, str]
    too_large: str = ""


def weights_of(folder: Path, record: EvaluationRecord, network: Network) -> tuple[Weights, str]:
    """Return the weights that an architecture is exported with, and what they are.

    They are the trained ones only if the evaluator trained exactly this network, not a scaled one.

    Raises:
        GraphError: if the trained weights do not fit the network that they are said to be of.
        FileFormatError: if the weights file is damaged.
        StorageError: if it cannot be read.
    """
    trained = record.details.get("trained_encoding")
    if record.weights is not None and trained == record.encoding:
        weights, _ = load_weights_file(folder / record.weights)
        network.graph.check_weights(weights)
        return weights, "trained"
    if trained is not None and trained != record.encoding:
        reason = f"accuracy is of a scaled proxy: {trained}"
    else:
        label = record.details.get("label", "the evaluator gives no trained weights")
        reason = str(record.details.get("no_weights", label))
    return initialise(network.graph), f"random ({reason})"


def file_key(model_format: str, precision: str) -> str:
    """Return under which name ``Delivered.files`` has a file, e.g. ``tflite`` (fp32) or ``tflite-int8``."""
    return model_format if precision == "fp32" else f"{model_format}-{precision}"


def deliver(
    folder: Path,
    record: EvaluationRecord,
    width: int,
    height: int,
    measured: tuple[str, str] | None = None,
    opset: int | None = None,
) -> Delivered:
    """Write ``RUN/models/<digest>.tflite`` and ``.onnx``; each is run and compared with the reference first.

    A backend that measures int8 needs such a file too: ``<digest>.int8.tflite``. The campaign has no images to
    calibrate it with, so its ranges are those of noise: right for its latency, not for its accuracy; it says so.

    A format whose extra is not installed is left out, saying so, and so is all of a network with more weights than
    ``MAX_WEIGHTS_BYTES``; anything else that goes wrong is an error.

    Args:
        folder: the run folder.
        record: the architecture.
        width: of the input image, pixels.
        height: of the input image, pixels.
        measured: format and precision of the file that is going to be measured, where it is known.
        opset: of .onnx files, as what measures or runs them reads it; None: the default.

    Raises:
        InputError: if that is a format or precision that dfmobile cannot write.
        ExportError: if a file cannot be written or computes something else than the network.
        StorageError: if the folder cannot be written.
        GraphError: if trained weights do not fit.
    """
    network = build(Architecture.parse(record.encoding), width, height)
    wanted = [(format, "fp32") for format in FORMATS]
    if measured is not None and measured[1] != "fp32":
        wanted.append(measured)
    size = 4 * sum(parameter.size for parameter in network.graph.parameters().values())
    if size > MAX_WEIGHTS_BYTES:
        why = f"its weights are {size >> 20} MiB, more than the {MAX_WEIGHTS_BYTES >> 20} MiB that are written"
        return Delivered("none", {}, {file_key(*item): f"not written ({why})" for item in wanted}, why)
    weights, source = weights_of(folder, record, network)
    metadata = {
        "encoding": record.encoding,
        "input": f"{width}x{height}",
        "weights": source,
        "accuracy": f"{record.accuracy:.6f} ({record.details.get('label', 'as evaluated')})",
        "predicted_ms": f"{record.predicted_ms:.6f}",
        "evaluation": json.dumps(record.number),
        "dfmobile": __version__,
    }
    files: dict[str, dict[str, Any]] = {}
    missing: dict[str, str] = {}
    for format, precision in wanted:
        key = file_key(format, precision)
        path = Path(MODELS) / f"{record.digest}.{'' if precision == 'fp32' else f'{precision}.'}{format}"
        samples = [[np.random.default_rng(0).standard_normal(network.input_shape, np.float32)]]
        about = metadata if precision != "int8" else {**metadata, "calibration": "random: for timing only"}
        try:
            result = export(
                network.graph,
                weights,
                folder / path,
                format=format,
                opset=opset if format == "onnx" else None,
                precision=precision,
                calibration=samples if precision == "int8" else (),
                metadata=about,
            )
        except MissingExtraError:
            extra = "quantize" if precision == "int8" else format
            missing[key] = f"not written (extra {extra} is not installed)"
            continue
        files[key] = {
            "path": path.as_posix(),
            "sha256": result.sha256,
            "size_bytes": result.size_bytes,
            "max_difference": None if result.verification is None else result.verification.max_difference,
        }
    return Delivered(source, files, missing)
