"""Static int8: activations and weights of a .tflite file become 8-bit integers (extra ``quantize``).

ai-edge-quantizer does the work, without TensorFlow: weights symmetric with one scale a channel, activations
asymmetric with one scale a tensor, ranges from running the float file on calibration data. Inputs and outputs become
int8 too: inside a network nothing converts between float and integer at a block's border, so only blocks with integer
borders add up to a network; a network's own image is one cheap conversion that applications do with the camera's bytes.
"""

from __future__ import annotations

import dataclasses
import io
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.errors import BackendError, ExportError, InputError, import_extra
from dfmobile.export.quantize_bias import widen_scales
from dfmobile.export.tflite_writer import SIGNATURE
from dfmobile.runtimes.base import check_inputs
from dfmobile.runtimes.interpreter import nchw
from dfmobile.runtimes.litert import LiteRTRunner

Array = npt.NDArray[np.float32]
_ROUNDING = "ai_edge_quantizer.algorithms.uniform_quantize.uniform_quantize_tensor"
_LARGE_BYTES = 32 * 2**20


def quantize_tflite(model: bytes, calibration: Iterable[Sequence[Array]]) -> bytes:
    """Return a float32 .tflite file as static int8, its inputs and outputs int8 as well.

    Operators that have no int8 form (standing alone: RELU6) stay float32 between conversions; argmax returns int32.

    Args:
        model: a file of ``tflite_bytes``, float32.
        calibration: samples, each with one array ``[N, C, H, W]`` or ``[N, C]`` an input of the model; what lies
            beyond the range that they reach is clipped when the file runs.

    Raises:
        InputError: if there is no sample, or one does not fit the model or is not finite.
        ExportError: if the model cannot be quantised.
        MissingExtraError: if ai-edge-quantizer is not installed.
    """
    quantizer = import_extra("ai_edge_quantizer.quantizer", "quantize", "precision int8")
    recipe = import_extra("ai_edge_quantizer.recipe", "quantize", "precision int8").static_wi8_ai8()
    with LiteRTRunner(model) as runner:
        shapes, names = [nchw(shape) for shape in runner.input_shapes], runner.input_names()
    samples = [_feed(sample, shapes, names, number) for number, sample in enumerate(calibration)]
    if not samples:
        raise InputError("static int8 needs calibration data, and there is none", hint="give at least one sample")
    try:
        with _quiet(), _large_weights():
            work = quantizer.Quantizer(model, recipe)
            ranges: dict[str, Any] = {}
            for sample in samples:
                _extend(ranges, work.calibrate({SIGNATURE: [sample]}, num_threads=1))
            result = work.quantize(ranges, enable_progress_bar=False, enable_progress_report=False)
            quantised = bytes(result.quantized_model)
    except (ValueError, RuntimeError, KeyError, IndexError, TypeError) as error:
        raise ExportError(
            f"ai-edge-quantizer cannot quantise the model: {type(error).__name__}: {' '.join(str(error).split())}",
            hint="export it as fp32, or report it with the architecture",
        ) from error
    return widen_scales(quantised, model)


def _extend(ranges: dict[str, Any], more: dict[str, Any]) -> None:
    """Extend ranges by those of another sample.

    The quantiser's own way with several samples is a moving average in which the first counts for 95 %: what only the
    others reach would be clipped, and the order would matter.
    """
    for name, values in more.items():
        known = ranges.get(name)
        if not known or not values:
            ranges[name] = known or values
            continue
        low, high = np.minimum(known["min"], values["min"]), np.maximum(known["max"], values["max"])
        ranges[name] = {**known, "min": low, "max": high}


def _feed(sample: Sequence[Array], shapes: list[tuple[int, ...]], names: list[str], number: int) -> dict[str, Array]:
    """Return a sample as the file takes it: ``[N, H, W, C]``, by the names of the signature."""
    try:
        check_inputs(sample, shapes)
    except BackendError as error:
        raise InputError(f"calibration sample {number}: {error}") from error
    if not all(np.isfinite(array).all() for array in sample):
        raise InputError(f"calibration sample {number} has values that are not finite")
    return {
        name: np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if array.ndim == 4 else array
        for name, array in zip(names, sample, strict=True)
    }


@contextmanager
def _large_weights() -> Iterator[None]:
    """Let the quantiser take conv weights above 32 MiB, on which ai-edge-quantizer 0.10.0 fails.

    It flattens such tensors to two axes and leaves the scales at four; here they come to it in smaller parts.
    """
    module: Any = import_extra(_ROUNDING, "quantize", "precision int8")
    original = module.uniform_quantize

    def in_parts(tensor: Array, params: Any, is_blockwise_quant: bool = False) -> Any:
        if tensor.ndim <= 2 or tensor.nbytes <= _LARGE_BYTES or is_blockwise_quant:
            return original(tensor, params, is_blockwise_quant)
        rows = max(1, _LARGE_BYTES * len(tensor) // tensor.nbytes)
        by_row = params.quantized_dimension == 0
        parts = []
        for start in range(0, len(tensor), rows):
            part = slice(start, start + rows)
            scales = {"scale": params.scale[part], "zero_point": params.zero_point[part]} if by_row else {}
            parts.append(original(tensor[part], dataclasses.replace(params, **scales)))
        return np.concatenate(parts)

    module.uniform_quantize = in_parts
    try:
        yield
    finally:
        module.uniform_quantize = original


@contextmanager
def _quiet() -> Iterator[Any]:
    """Keep the quantiser's warnings and progress bars and the runtime's greeting off the terminal."""
    # The order matters: the greeting goes to file descriptor 2, progress bars to what Python has for it.
    with LiteRTRunner.greeting.hidden(), redirect_stderr(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
