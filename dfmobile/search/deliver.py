"""The boundary's model files: each architecture built, given its weights, and exported as .tflite and .onnx."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfmobile import __version__
from dfmobile.architecture import Architecture, Network, build
from dfmobile.errors import MissingExtraError
from dfmobile.export.exporter import export
from dfmobile.export.weights import load_weights_file
from dfmobile.graph import Weights, initialise
from dfmobile.search.store import EvaluationRecord

MODELS = "models"
FORMATS = ("tflite", "onnx")


@dataclass(frozen=True)
class Delivered:
    """The files of one architecture.

    Attributes:
        weights: ``trained``, or ``random (…)`` with the reason.
        files: by format: ``path`` relative to the run folder, ``sha256``, ``size_bytes``, ``max_difference``
            from the numpy reference.
        missing: by format that was not written: why.
    """

    weights: str
    files: dict[str, dict[str, Any]]
    missing: dict[str, str]


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
        reason = str(record.details.get("label", "the evaluator gives no trained weights"))
    return initialise(network.graph), f"random ({reason})"


def deliver(folder: Path, record: EvaluationRecord, width: int, height: int) -> Delivered:
    """Write ``RUN/models/<digest>.tflite`` and ``.onnx``; each is run and compared with the reference first.

    A format whose extra is not installed is left out, saying so; anything else that goes wrong is an error.

    Args:
        folder: the run folder.
        record: the architecture.
        width: of the input image, pixels.
        height: of the input image, pixels.

    Raises:
        ExportError: if a file cannot be written or computes something else than the network.
        StorageError: if the folder cannot be written.
        GraphError: if trained weights do not fit.
    """
    network = build(Architecture.parse(record.encoding), width, height)
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
    for format in FORMATS:
        path = Path(MODELS) / f"{record.digest}.{format}"
        try:
            result = export(network.graph, weights, folder / path, format=format, metadata=metadata)
        except MissingExtraError:
            missing[format] = f"not written (extra {format} is not installed)"
            continue
        files[format] = {
            "path": path.as_posix(),
            "sha256": result.sha256,
            "size_bytes": result.size_bytes,
            "max_difference": None if result.verification is None else result.verification.max_difference,
        }
    return Delivered(source, files, missing)
