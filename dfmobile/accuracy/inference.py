"""A network with weights, ready to run on images: which runtime, which precision, what goes in and what comes out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from dfmobile.architecture import Network
from dfmobile.data.calibration import read_samples
from dfmobile.data.class_names import class_names
from dfmobile.data.dataset import UInt8Array
from dfmobile.data.input_preprocessing import LEGACY_KEY, METADATA_KEY, Preprocessing
from dfmobile.data.preprocessing import MAX_PIXELS, to_array
from dfmobile.errors import InputError
from dfmobile.export.exporter import check_options, model_bytes
from dfmobile.export.model_metadata import model_metadata
from dfmobile.export.network_weights import network_weights
from dfmobile.runtimes.base import ModelRunner, model_content

FORMATS = {"litert": "tflite", "onnxruntime": "onnx", "ncnn": "ncnn", "torch": None}
"""Format of the files of each runtime that runs images; torch runs the op graph."""
RESIZE_RULE = "bilinear with half-pixel centres, antialiased where it shrinks; aspect ratio not kept"


@dataclass(frozen=True)
class InferenceModel:
    """What runs on images.

    Attributes:
        encoding: of the architecture; empty where a model file does not say.
        input_shape: ``[1, C, H, W]``.
        output_shape: ``[1, classes, h, w]`` (segmentation) or ``[1, classes]``.
        preprocessing: of the pixels.
        preprocessing_is_known: whether the file names it.
        classes: their names.
        runtime: one of ``FORMATS``.
        precision: of the model.
        identity: changes with anything that its results depend on.
        open: loads it with a number of threads; several runners may be open at once.
    """

    encoding: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    preprocessing: Preprocessing
    preprocessing_is_known: bool
    classes: tuple[str, ...]
    runtime: str
    precision: str
    identity: str
    open: Callable[[int], ModelRunner]

    @property
    def is_segmentation(self) -> bool:
        """Whether it labels pixels, not images."""
        return len(self.output_shape) == 4 and self.output_shape[2:] != (1, 1)

    def pixels(self, image: Image.Image) -> UInt8Array:
        """Return an image as the network sees it before preprocessing, uint8 ``[1, C, H, W]``; see ``RESIZE_RULE``."""
        _, channels, height, width = self.input_shape
        return to_array(image, channels, (width, height))[None]

    def describe(self) -> dict[str, object]:
        """Return what a reader of results needs to know; JSON-able."""
        return {
            "encoding": self.encoding,
            "input": list(self.input_shape),
            "output": list(self.output_shape),
            "runtime": self.runtime,
            "precision": self.precision,
            "preprocessing": json.loads(self.preprocessing.metadata()["preprocessing"]),
            "resize": RESIZE_RULE,
            "classes": list(self.classes),
        }


def check_runtime(runtime: str, precision: str = "fp32") -> None:
    """Check what is asked for, before anything is read.

    Raises:
        InputError: if there is no such runtime, or it does not have the precision.
    """
    if runtime not in FORMATS:
        raise InputError(f"runtime {runtime!r} is unknown", hint=f"runtimes: {', '.join(FORMATS)}")
    format = FORMATS[runtime]
    if format is not None:
        check_options(format, None, precision)
    elif precision != "fp32":
        raise InputError(f"precision {precision!r} is not available in torch", hint="torch runs fp32")


def model_of_weights(
    network: Network, weights: Path, runtime: str, precision: str = "fp32", calibration: Path | None = None
) -> InferenceModel:
    """Return a network with the weights of a file.

    Args:
        network: batch 1.
        weights: .npz file.
        runtime: one of ``FORMATS``.
        precision: as of ``export``.
        calibration: for int8: a folder of typical images.

    Raises:
        InputError: if the runtime or precision is not there, the weights are another network's, or int8 has no
            calibration data.
        FileFormatError, StorageError: if a file is damaged or cannot be read.
        ExportError, MissingExtraError: if the model cannot be made.
    """
    check_runtime(runtime, precision)
    check_calibration(precision, calibration)
    graph, values, metadata = network_weights(network, weights)
    preprocessing = Preprocessing.of_weights(metadata)
    names = class_names(metadata, network.output_shape[1], segmentation=network.architecture.decoder is not None)
    samples = [] if calibration is None else read_samples(calibration, network.input_shape, preprocessing)
    open_: Callable[[int], ModelRunner]
    digest = hashlib.sha256(f"{runtime} {precision} {network.input_shape} {network.architecture.text}".encode())
    digest.update(repr((preprocessing.channels, preprocessing.mean, preprocessing.scale, names)).encode())
    for name in sorted(values):
        digest.update(name.encode() + values[name].tobytes())
    if runtime == "torch":
        from dfmobile.accuracy.torch_runner import TorchRunner

        open_ = lambda threads: TorchRunner(graph, values, threads)  # noqa: E731
    elif runtime == "ncnn":
        from dfmobile.export.ncnn import ncnn_model
        from dfmobile.runtimes.ncnn import NcnnRunner

        model = ncnn_model(graph, values, half=precision == "fp16")
        open_ = lambda threads: NcnnRunner(model, threads)  # noqa: E731
    else:
        content = model_bytes(graph, values, str(FORMATS[runtime]), precision=precision, calibration=samples)
        digest.update(hashlib.sha256(content).digest())
        open_ = _opener(runtime, content)
    return InferenceModel(
        encoding=network.architecture.text,
        input_shape=tuple(network.input_shape),
        output_shape=tuple(network.output_shape),
        preprocessing=preprocessing,
        preprocessing_is_known=_is_known(metadata),
        classes=names,
        runtime=runtime,
        precision=precision,
        identity=digest.hexdigest(),
        open=open_,
    )


def check_calibration(precision: str, calibration: Path | None) -> None:
    """Check that int8, and only int8, has calibration data.

    Raises:
        InputError: if not.
    """
    if precision == "int8" and calibration is None:
        raise InputError(
            "int8 of given weights needs data to calibrate its ranges with",
            hint="give --calibration DIR: a folder with about 100 typical images",
        )
    if precision != "int8" and calibration is not None:
        raise InputError(f"precision {precision} takes no calibration data", hint="they are for --precision int8")


def model_of_file(path: Path) -> InferenceModel:
    """Return a model file that ``dfmobile export`` wrote: it says itself what it takes.

    Args:
        path: ``.tflite``, ``.onnx``, or ``.param`` of ncnn.

    Raises:
        InputError: if the ending is another, or the file has more than one input or output.
        FileFormatError: if what the file says of itself is damaged.
        BackendError: if the runtime cannot load it.
        StorageError: if it cannot be read.
    """
    endings = {f".{format}": runtime for runtime, format in FORMATS.items() if format} | {".param": "ncnn"}
    runtime = endings.get(path.suffix.lower())
    if runtime is None or path.suffix == ".ncnn":
        raise InputError(f"{path} is no model file that is known", hint="they end in .tflite, .onnx or .param")
    metadata = model_metadata(path)
    open_: Callable[[int], ModelRunner]
    if runtime == "ncnn":
        from dfmobile.runtimes.ncnn import NcnnRunner, bin_path

        open_ = lambda threads: NcnnRunner(path, threads)  # noqa: E731
        content = model_content(path) + model_content(bin_path(path))
    else:
        content = model_content(path)
        open_ = _opener(runtime, content)
    input_shape, output_shape = _probe(open_, path)
    count = output_shape[1]
    encoding = metadata.get("encoding", "")
    return InferenceModel(
        encoding=encoding,
        input_shape=input_shape,
        output_shape=output_shape,
        preprocessing=Preprocessing.of_weights(metadata),
        preprocessing_is_known=_is_known(metadata),
        classes=class_names(metadata, count, segmentation=len(output_shape) == 4),
        runtime=runtime,
        precision=metadata.get("precision", "as in the file"),
        identity=hashlib.sha256(content + json.dumps(dict(metadata), sort_keys=True).encode()).hexdigest(),
        open=open_,
    )


def _is_known(metadata: Mapping[str, str]) -> bool:
    return METADATA_KEY in metadata or LEGACY_KEY in metadata


def _opener(runtime: str, content: bytes) -> Callable[[int], ModelRunner]:
    if runtime == "litert":
        from dfmobile.runtimes.litert import LiteRTRunner

        return lambda threads: LiteRTRunner(content, threads)
    from dfmobile.runtimes.onnxruntime import OnnxRuntimeRunner

    return lambda threads: OnnxRuntimeRunner(content, threads)


def _probe(open_: Callable[[int], ModelRunner], path: Path) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Run a file once on zeros to see its shapes; ``[1, C, H, W]`` whatever its layout is."""
    with open_(1) as runner:
        shapes = [tuple(shape) for shape in runner.input_shapes]
        if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][0] != 1:
            raise InputError(f"{path} takes {shapes}, not one image", hint="models of one image, batch 1, can be run")
        shape = shapes[0]
        if path.suffix.lower() == ".tflite":
            shape = (shape[0], shape[3], shape[1], shape[2])
        if not 1 <= shape[2] * shape[3] <= MAX_PIXELS or shape[1] not in (1, 3):
            raise InputError(f"{path} takes {list(shape)}, which is no image (N, C, H, W)")
        outputs = runner.run([np.zeros(shape, np.float32)])
    if len(outputs) != 1 or outputs[0].ndim not in (2, 4) or outputs[0].dtype != np.float32:
        raise InputError(f"{path} does not return one array of scores")
    return shape, tuple(outputs[0].shape)
