"""Static int8 of .onnx files as QDQ (extra ``onnx``): each value passes QuantizeLinear and DequantizeLinear.

onnxruntime's own quantiser does the work: weights symmetric with one scale a channel, activations with one scale a
tensor, ranges from running the float file on calibration data. Inputs and outputs stay float32.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.errors import BackendError, ExportError, InputError, import_extra
from dfmobile.export.onnx_precision import PRECISION_KEY
from dfmobile.files import storage_error
from dfmobile.runtimes.base import check_inputs
from dfmobile.runtimes.onnxruntime import OnnxRuntimeRunner

Array = npt.NDArray[np.float32]


class _Samples:
    """Gives the quantiser one sample after the other, and begins again when asked to."""

    def __init__(self, samples: list[dict[str, Array]]) -> None:
        self._samples = samples
        self._left: Iterator[dict[str, Array]] = iter(samples)

    def get_next(self) -> dict[str, Array] | None:
        return next(self._left, None)

    def rewind(self) -> None:
        self._left = iter(self._samples)

    def __iter__(self) -> Iterator[dict[str, Array]]:
        return iter(self._samples)


def quantize_onnx(model: bytes, calibration: Iterable[Sequence[Array]], *, symmetric: bool = False) -> bytes:
    """Return a float32 .onnx file as static int8 in QDQ form, its inputs and outputs float32.

    Args:
        model: a file of ``onnx_bytes``, float32.
        calibration: samples, each with one array ``[N, C, H, W]`` or ``[N, C]`` an input of the model; what lies
            beyond the range that they reach is clipped when the file runs.
        symmetric: zero points of activations are 0, as TensorRT needs it; costs accuracy behind ReLUs.

    Raises:
        InputError: if there is no sample, or one does not fit the model or is not finite.
        ExportError: if the model cannot be quantised.
        MissingExtraError: if onnx or onnxruntime is not installed.
        StorageError: if there is no room for temporary files.
    """
    onnx = import_extra("onnx", "onnx", "precision int8 of .onnx files")
    quantization = import_extra("onnxruntime.quantization", "onnx", "precision int8 of .onnx files")
    with OnnxRuntimeRunner(model) as runner:
        shapes = list(runner.input_shapes)
    source = onnx.load_from_string(model)
    names = [value.name for value in source.graph.input]
    samples = [_feed(sample, shapes, names, number) for number, sample in enumerate(calibration)]
    if not samples:
        raise InputError("static int8 needs calibration data, and there is none", hint="give at least one sample")
    try:
        with tempfile.TemporaryDirectory(prefix="dfmobile-int8-") as folder, _quiet():
            target = Path(folder) / "int8.onnx"
            quantization.quantize_static(
                source,
                target,
                _Samples(samples),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QInt8,
                weight_type=quantization.QuantType.QInt8,
                extra_options={"ActivationSymmetric": symmetric, "WeightSymmetric": True},
            )
            result = onnx.load(str(target))
    except OSError as error:
        raise storage_error(error, error.filename or tempfile.gettempdir(), "write") from error
    except Exception as error:  # whatever it has against a model: its exceptions share no base but Exception
        raise ExportError(
            f"onnxruntime cannot quantise the model: {type(error).__name__}: {' '.join(str(error).split())}",
            hint="export it as fp32, or report it with the architecture",
        ) from error
    texts = {item.key: item.value for item in source.metadata_props} | {PRECISION_KEY: "int8"}
    del result.metadata_props[:]
    onnx.helper.set_model_props(result, texts)
    result.producer_name, result.producer_version = source.producer_name, source.producer_version
    try:
        onnx.checker.check_model(result, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"onnx's checker rejects the int8 model: {' '.join(str(error).split())}") from error
    return bytes(result.SerializeToString())


def _feed(sample: Sequence[Array], shapes: list[tuple[int, ...]], names: list[str], number: int) -> dict[str, Array]:
    try:
        check_inputs(sample, shapes)
    except BackendError as error:
        raise InputError(f"calibration sample {number}: {error}") from error
    if not all(np.isfinite(array).all() for array in sample):
        raise InputError(f"calibration sample {number} has values that are not finite")
    return {name: np.ascontiguousarray(array) for name, array in zip(names, sample, strict=True)}


@contextmanager
def _quiet() -> Iterator[Any]:
    """Keep the quantiser's advice (shapes are inferred already) and progress off the terminal."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with redirect_stderr(StringIO()), redirect_stdout(StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
