"""Run a written model file and compare it with the numpy reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.errors import ExportError, InputError
from dfmobile.graph import Graph, Weights, reference
from dfmobile.runtimes import ModelRunner
from dfmobile.runtimes.ncnn import NcnnModel


@dataclass(frozen=True)
class Tolerance:
    """How far a file may be from the reference before it is taken for wrong.

    Attributes:
        largest: difference of any element, in standard deviations of the reference's output; None: any.
        rms: root mean square of the differences, likewise.
        argmax: smallest fraction of pixels on which an argmax output must be equal.
    """

    largest: float | None
    rms: float
    argmax: float


# Measured over the zoo with random weights: float16 weights 0.0004 to 0.0035 rms and up to 0.02 on single elements,
# typed float16 .onnx files in ONNX Runtime 0.0004 to 0.004 rms, int8 0.02 (DF1, DF2A, DF1-Seg) to 0.15 (PL1A-Seg).
# An operator gone wrong is near 1 or above.
TOLERANCES = {
    "fp32": Tolerance(1e-4, 1e-4, 0.9999),
    "fp16": Tolerance(0.2, 0.02, 0.95),
    "int8": Tolerance(None, 0.3, 0.5),
}


@dataclass(frozen=True)
class Verification:
    """How a model file compares with the reference; over several outputs or inputs, the worst of each.

    Attributes:
        max_difference: largest absolute difference of any element.
        std: standard deviation of the reference's output that differs most, in its own units.
        relative: ``max_difference / std`` of that output.
        argmax_agreement: fraction of pixels whose largest channel is the same; 1.0 where there is one channel.
        rms: root mean square of the differences over ``std`` of that output.
        samples: on how many inputs they were compared.
    """

    max_difference: float
    std: float
    relative: float
    argmax_agreement: float
    rms: float
    samples: int = 1


_HINTS = (
    "this is a defect of dfmobile or of the runtime: please report it with the architecture",
    "do the calibration data look like what the network was trained on? else please report it with the architecture",
)


def _runner(format: str) -> Callable[[Any], ModelRunner]:
    if format == "tflite":
        from dfmobile.runtimes.litert import LiteRTRunner

        return LiteRTRunner
    if format == "onnx":
        from dfmobile.runtimes.onnxruntime import OnnxRuntimeRunner

        return OnnxRuntimeRunner
    if format == "ncnn":
        from dfmobile.runtimes.ncnn import NcnnRunner

        return NcnnRunner
    raise InputError(f"format {format!r} cannot be verified", hint="formats: tflite, onnx, ncnn")


def compare(actual: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Verification:
    """Compare one output with the reference's.

    Args:
        actual: ``[N, C, H, W]`` or ``[N, C]``, float32, or int32 (an argmax).
        expected: the reference's, of the same shape; for an argmax int32.

    Raises:
        ExportError: if the shapes differ.
    """
    if actual.shape != expected.shape:
        raise ExportError(f"the written model returns {list(actual.shape)}, not {list(expected.shape)}")
    if expected.dtype.kind == "i":
        return Verification(0.0, 0.0, 0.0, float(np.mean(actual == expected)), 0.0)
    differences = np.abs(actual - expected)
    difference = float(differences.max())
    if not np.isfinite(difference):
        return Verification(float("inf"), float(expected.std()), float("inf"), 0.0, float("inf"))
    # A constant output has no spread: then its magnitude is the unit.
    std = float(expected.std())
    unit = std or float(np.abs(expected).max()) or 1.0
    agreement = float(np.mean(actual.argmax(axis=1) == expected.argmax(axis=1)))
    rms = float(np.sqrt(np.mean(np.square(differences, dtype=np.float64)))) / unit
    return Verification(difference, std, difference / unit, agreement, rms)


def verify(
    model_file: Path | bytes | NcnnModel,
    format: str,
    graph: Graph,
    weights: Weights,
    *,
    seed: int = 0,
    precision: str = "fp32",
    inputs: Sequence[npt.NDArray[np.float32]] | None = None,
    samples: Sequence[Sequence[npt.NDArray[np.float32]]] = (),
) -> Verification:
    """Run a model file and compare it with the numpy reference in float64.

    Args:
        model_file: the file, or its content.
        format: ``"tflite"``, ``"onnx"`` or ``"ncnn"``.
        graph: what the file should compute, training or deployed form.
        weights: the weights of ``graph``.
        seed: of the standard normal inputs.
        precision: of the file: ``"fp32"``, ``"fp16"`` or ``"int8"``; says what is allowed (``TOLERANCES``).
        inputs: instead of random ones: one array an input of the graph, e.g. a sample of the calibration data.
        samples: instead of either: several such; each has to be within what is allowed.

    Raises:
        ExportError: if the differences exceed what the precision allows.
        BackendError: if the runtime cannot load or run the file.
    """
    generator = np.random.default_rng(seed)
    if not samples:
        samples = [inputs or [generator.standard_normal(shape, np.float32) for _, shape in graph.inputs]]
    results = []
    with _runner(format)(model_file) as runner:
        for values in samples:
            actual = runner.run(values)
            given = {name: array for (name, _), array in zip(graph.inputs, values, strict=True)}
            expected = reference.run(graph, weights, given)
            if len(actual) != len(expected):
                raise ExportError(f"the written model returns {len(actual)} values, not {len(expected)}")
            for name, found in zip(graph.outputs, actual, strict=True):
                what = f"output {name!r} of the written {precision} {format} model"
                results.append(_checked(found, expected[name], what, precision))
    worst = max(results, key=lambda item: item.relative)
    return Verification(
        max_difference=worst.max_difference,
        std=worst.std,
        relative=worst.relative,
        argmax_agreement=min(item.argmax_agreement for item in results),
        rms=max(item.rms for item in results),
        samples=len(samples),
    )


def _checked(actual: npt.NDArray[Any], expected: npt.NDArray[Any], what: str, precision: str) -> Verification:
    """Compare one output and refuse it where it is further off than the precision allows."""
    tolerance = TOLERANCES[precision]
    result = compare(actual, expected)
    for measure, value, allowed in (
        ("", result.relative, tolerance.largest),
        (" (root mean square)", result.rms, tolerance.rms),
    ):
        if allowed is not None and not value <= allowed:
            raise ExportError(
                f"{what} differs from the reference by {value * result.std:.3g}{measure}, "
                f"{value:.3g} of its standard deviation ({allowed:g} allowed)",
                hint=_HINTS[precision == "int8"],
            )
    if expected.dtype.kind == "i" and result.argmax_agreement < tolerance.argmax:
        raise ExportError(
            f"{what} agrees with the reference on only {100 * result.argmax_agreement:.3f} % of the pixels",
            hint=_HINTS[precision == "int8"],
        )
    return result
