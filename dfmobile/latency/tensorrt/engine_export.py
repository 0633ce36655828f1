"""A network as an engine: exported with the opset of the board's TensorRT, built there, brought back with its papers.

An engine fits the GPU and the TensorRT that built it, and no other. So a JSON file lies beside it that says which.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfmobile import __version__
from dfmobile.errors import InputError
from dfmobile.export.exporter import ExportResult, export
from dfmobile.files import atomic_path, atomic_write_json, sha256_hex
from dfmobile.graph import Graph, Weights
from dfmobile.latency.backends.tensorrt import TensorRTBackend
from dfmobile.latency.provenance import utc_now

FORMAT = "tensorrt"


@dataclass(frozen=True)
class EngineExport:
    """What was written.

    Attributes:
        path: the engine.
        provenance_path: its papers, ``<engine>.json``.
        provenance: what they say.
        onnx: how the network was written for the board, and checked.
    """

    path: Path
    provenance_path: Path
    provenance: dict[str, Any]
    onnx: ExportResult


def export_engine(
    graph: Graph,
    weights: Weights,
    target: Path,
    backend: TensorRTBackend,
    *,
    metadata: Mapping[str, str] | None = None,
) -> EngineExport:
    """Build a network's engine on the backend's device and bring it here, both files or none.

    Args:
        graph: training or deployed form.
        weights: its weights.
        target: the engine's file; an older one stays until the new one is whole and checked.
        backend: on the device that the engine is for.
        metadata: texts for the papers and for the ONNX file.

    Raises:
        InputError: if the target ends in .json, where the papers go.
        ExportError: if the network cannot be written as ONNX, or computes something else.
        BackendError: if the engine cannot be built.
        DeviceError: if the device is gone, or the engine arrived damaged.
        StorageError: if a file cannot be written.
        MissingExtraError: if onnx is not installed.
    """
    if target.suffix == ".json":
        raise InputError(f"{target} cannot be an engine: beside it goes a .json with its provenance")
    papers = target.with_name(f"{target.name}.json")
    with tempfile.TemporaryDirectory(prefix="dfmobile-export-") as folder:
        model = Path(folder) / "network.onnx"
        written = export(
            graph,
            weights,
            model,
            format="onnx",
            opset=backend.file_options.opset,
            precision=backend.file_precision,
            metadata=metadata,
        )
        with atomic_path(papers) as papers_part, atomic_path(target) as engine_part:
            built = backend.build_engine_file(model, engine_part)
            identity, device = backend.identity(), backend.device
            provenance: dict[str, Any] = {
                "dfmobile": __version__,
                "built_utc": utc_now(),
                "device": str(device.uri),
                "device_fingerprint": device.fingerprint,
                "device_name": device.profile.name,
                "gpu": None if device.profile.gpu is None else device.profile.gpu.name,
                "tensorrt": identity.version,
                "replay": backend.replay,
                "library_sha256": identity.library_sha256,
                "precision": backend.precision,
                "flags": identity.flags,
                "onnx_sha256": sha256_hex(model),
                "onnx_opset": written.opset,
                "engine_sha256": sha256_hex(engine_part),
                "engine_bytes": engine_part.stat().st_size,
                **built,
                **(metadata or {}),
            }
            atomic_write_json(papers_part, provenance)
    return EngineExport(target, papers, provenance, written)
