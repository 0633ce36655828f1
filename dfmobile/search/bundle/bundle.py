"""Write a bundle: all of it, or nothing."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

from dfmobile import __version__
from dfmobile.architecture import Network
from dfmobile.data.calibration import read_samples
from dfmobile.data.class_names import class_colours, class_names
from dfmobile.data.input_preprocessing import LEGACY_KEY, METADATA_KEY, Preprocessing
from dfmobile.data.overlay import legend
from dfmobile.devices.device import Device
from dfmobile.devices.profile import DeviceProfile, save_profile
from dfmobile.errors import InputError
from dfmobile.export.exporter import FORMATS, PRECISIONS, export
from dfmobile.export.model_texts import model_texts
from dfmobile.export.network_weights import network_weights
from dfmobile.files import atomic_write, atomic_write_json, storage_error
from dfmobile.search.bundle.latencies import BundleLatency, measured, predicted
from dfmobile.search.bundle.readme import readme

MANIFEST = "bundle.json"
RESIZE = "bilinear with half-pixel centres, antialiased where it shrinks, aspect ratio not kept"
_SUFFIXES = {"tflite": "tflite", "onnx": "onnx", "ncnn": "param"}


@dataclass(frozen=True)
class BundleRequest:
    """What goes into a bundle.

    Attributes:
        name: of the network, for people and files.
        network: at the input size.
        weights: .npz file.
        profile: of the device.
        device: open, where latencies are to be measured; else None.
        formats: of the models; of each, all its precisions.
        calibration: for int8; without it there is no int8 model.
        check: images to compare the models with the reference on; else the calibration's, else noise.
        tables: to predict latencies from.
        backend: that measures.
        backend_options: of it.
        threads: of the runtime.
    """

    name: str
    network: Network
    weights: Path
    profile: DeviceProfile
    device: Device | None = None
    formats: Sequence[str] = ("tflite",)
    calibration: Path | None = None
    check: Path | None = None
    tables: Sequence[Path] = ()
    backend: str = "litert"
    backend_options: Mapping[str, str] = field(default_factory=dict)
    threads: int = 1


def write_bundle(
    request: BundleRequest, output: Path, progress: Callable[[str], None] = lambda text: None
) -> dict[str, Any]:
    """Write the folder; a failure leaves nothing.

    Args:
        request: what goes in.
        output: the folder: new, or empty.
        progress: told what is being done.

    Returns:
        The manifest, as ``bundle.json`` has it.

    Raises:
        InputError: if the folder is not empty, or something asked for cannot be.
        ExportError: if a model cannot be written or computes something else.
        MissingBlocksError: if a table lacks blocks.
        MissingExtraError: if what a format or precision needs is not installed.
        BackendError, DeviceError: if a device that is there cannot measure.
        FileFormatError, StorageError: if a file is damaged, or cannot be read or written.
    """
    for name in request.formats:
        if name not in FORMATS:
            raise InputError(f"format {name!r} is unknown", hint=f"formats: {', '.join(FORMATS)}")
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"{output} is there and not an empty folder", hint="choose another, or remove it")
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".part", dir=output.parent))
    except OSError as error:
        raise storage_error(error, output, "write") from error
    try:
        manifest = _fill(request, folder, progress)
        umask = os.umask(0)
        os.umask(umask)
        folder.chmod(0o777 & ~umask)  # mkdtemp gives 0700
        folder.replace(output)
    except OSError as error:
        raise storage_error(error, output, "write") from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return manifest


def _fill(request: BundleRequest, folder: Path, progress: Callable[[str], None]) -> dict[str, Any]:
    network = request.network
    graph, weights, about = network_weights(network, request.weights)
    segmentation = network.architecture.decoder is not None
    names = class_names(about, network.output_shape[1], segmentation=segmentation)
    preprocessing = Preprocessing.of_weights(about)
    absent: list[str] = []
    if METADATA_KEY not in about and LEGACY_KEY not in about:
        absent.append(f"the weights' own preprocessing: {request.weights.name} names none, ImageNet's is taken")
    models = _models(request, graph, weights, about, folder, absent, progress)
    pixels = _preprocessing(network, preprocessing)
    atomic_write(folder / "labels.txt", "\n".join(names) + "\n")
    atomic_write_json(folder / "preprocessing.json", pixels)
    if segmentation:
        colours = class_colours(len(names))
        painted = {name: colour.tolist() for name, colour in zip(names, colours, strict=True)}
        atomic_write_json(folder / "palette.json", painted)
        legend(names, colours).save(folder / "palette.png")
    save_profile(request.profile, folder / "device.yaml")
    example = resources.files("dfmobile.search.bundle").joinpath("example.py").read_text(encoding="utf-8")
    atomic_write(folder / "example.py", example)
    latencies = _latencies(request, models, folder, absent, progress)
    atomic_write_json(folder / "latencies.json", [item.to_dict() for item in latencies])
    manifest = {
        "name": request.name,
        "encoding": network.architecture.text,
        "device": request.profile.name,
        "input": list(network.input_shape),
        "output": list(network.output_shape),
        "weights": request.weights.name,
        "about_weights": {key: value for key, value in about.items() if key not in ("classes", METADATA_KEY)},
        "preprocessing": pixels,
        "classes": list(names),
        "models": models,
        "latencies": [item.to_dict() for item in latencies],
        "absent": absent,
        "tool": f"dfmobile {__version__}",
    }
    atomic_write(folder / "README.md", readme(manifest, latencies, absent, segmentation=segmentation))
    atomic_write_json(folder / MANIFEST, json.loads(json.dumps(manifest)))
    return manifest


def _models(
    request: BundleRequest,
    graph: Any,
    weights: Any,
    about: Mapping[str, str],
    folder: Path,
    absent: list[str],
    progress: Callable[[str], None],
) -> list[dict[str, Any]]:
    network, preprocessing = request.network, Preprocessing.of_weights(about)
    calibration, check = (
        [] if path is None else read_samples(path, network.input_shape, preprocessing)
        for path in (request.calibration, request.check)
    )
    base = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in request.name).strip("-") or "model"
    found = []
    for format in request.formats:
        for precision in PRECISIONS[format]:
            if precision == "int8" and not calibration:
                absent.append(f"{format} in int8: it needs images to calibrate with (--calibration DIR)")
                continue
            infix = "" if precision == "fp32" else f".{precision}"
            path = f"models/{base}{infix}.{_SUFFIXES[format]}"
            if format == "ncnn" and precision != "fp32":
                path = f"models/{base}-{precision}.param"  # FILE.bin and FILE.json replace its ending
            progress(f"writing and checking {path}")
            calibrated = f"{len(calibration)} samples" if precision == "int8" else None
            result = export(
                graph,
                weights,
                folder / path,
                format=format,
                precision=precision,
                calibration=calibration if precision == "int8" else (),
                # TensorRT takes no other zero points.
                symmetric=request.profile.kind == "jetson" and (format, precision) == ("onnx", "int8"),
                samples=check or calibration,
                metadata=model_texts(network, about, given=True, precision=precision, calibrated=calibrated),
            )
            assert result.verification is not None  # noqa: S101  (asked for)
            samples = check or calibration
            where = request.check if check else request.calibration
            found.append(
                {
                    "path": path,
                    "companions": [item.relative_to(folder).as_posix() for item in result.companions],
                    "format": format,
                    "precision": precision,
                    "bytes": result.size_bytes,
                    "sha256": result.sha256,
                    "argmax_agreement": result.verification.argmax_agreement,
                    "rms_difference": result.verification.rms,
                    "checked_on": f"{result.verification.samples} of {where.name}" if samples and where else "noise",
                }
            )
    return found


def _preprocessing(network: Network, preprocessing: Preprocessing) -> dict[str, Any]:
    return {
        "width": network.width,
        "height": network.height,
        **json.loads(preprocessing.metadata()[METADATA_KEY]),
        "formula": "(pixel - mean) x scale, pixel from 0 to 255",
        "resize": RESIZE,
    }


def _latencies(
    request: BundleRequest,
    models: Sequence[Mapping[str, Any]],
    folder: Path,
    absent: list[str],
    progress: Callable[[str], None],
) -> list[BundleLatency]:
    by_path = {item["path"]: item["precision"] for item in models}
    found: list[BundleLatency] = []
    if request.device is not None:
        wanted = {"onnxruntime": "onnx"}.get(request.backend, "tflite")
        mine = {item["path"]: item["precision"] for item in models if item["format"] == wanted}
        if request.backend == "onnxruntime":  # times float32 files, and says so of others
            mine = {path: precision for path, precision in mine.items() if precision == "fp32"}
        if not mine:
            raise InputError(f"backend {request.backend!r} has no model to measure in this bundle")
        progress(f"measuring {len(mine)} models on {request.device.uri}")
        found += measured(
            folder, mine, request.device, request.backend, threads=request.threads, options=request.backend_options
        )
    if request.tables:
        progress("predicting latencies")
        wanted_tables = {path: precision for path, precision in by_path.items() if path.endswith(".tflite")}
        found += predicted(request.network, wanted_tables or by_path, request.tables, request.profile)
    known = {item.model for item in found}
    missing = [path for path in by_path if path not in known]
    if missing:
        absent.append(
            f"latencies of {', '.join(missing)}: "
            + ("not measured or predicted by what was given" if found else "no device to measure on, no table given")
        )
    return found
