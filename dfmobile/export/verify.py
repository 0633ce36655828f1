"""Run a written model file on random inputs and compare it with the numpy reference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.errors import ExportError, InputError
from dfmobile.graph import Graph, Weights, reference
from dfmobile.runtimes import ModelRunner

TOLERANCE = 1e-4
"""Largest difference allowed, in standard deviations of the reference's output."""
ARGMAX_AGREEMENT = 0.9999
"""Smallest fraction of pixels on which an argmax output must be equal."""


@dataclass(frozen=True)
class Verification:
    """How a model file compares with the reference; over several outputs, the worst of each.

    Attributes:
        max_difference: largest absolute difference of any element.
        std: standard deviation of the reference's output that differs most, in its own units.
        relative: ``max_difference / std`` of that output.
        argmax_agreement: fraction of pixels whose largest channel is the same; 1.0 where there is one channel.
    """

    max_difference: float
    std: float
    relative: float
    argmax_agreement: float


def _runner(format: str) -> Callable[[bytes | Path], ModelRunner]:
    if format == "tflite":
        from dfmobile.runtimes.litert import LiteRTRunner

        return LiteRTRunner
    if format == "onnx":
        from dfmobile.runtimes.onnxruntime import OnnxRuntimeRunner

        return OnnxRuntimeRunner
    raise InputError(f"format {format!r} cannot be verified", hint="formats: tflite, onnx")


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
        return Verification(0.0, 0.0, 0.0, float(np.mean(actual == expected)))
    difference = float(np.abs(actual - expected).max())
    if not np.isfinite(difference):
        return Verification(float("inf"), float(expected.std()), float("inf"), 0.0)
    # A constant output has no spread: then its magnitude is the unit.
    std = float(expected.std())
    unit = std or float(np.abs(expected).max()) or 1.0
    agreement = float(np.mean(actual.argmax(axis=1) == expected.argmax(axis=1)))
    return Verification(difference, std, difference / unit, agreement)


def verify(model_file: Path | bytes, format: str, graph: Graph, weights: Weights, *, seed: int = 0) -> Verification:
    """Run a model file on random inputs and compare it with the numpy reference in float64.

    Args:
        model_file: the file, or its content.
        format: ``"tflite"`` or ``"onnx"``.
        graph: what the file should compute, training or deployed form.
        weights: the weights of ``graph``.
        seed: of the standard normal inputs.

    Raises:
        ExportError: if the largest difference exceeds 1e-4 standard deviations of the reference's output, or
            an argmax output differs on more than 0.01 % of the pixels.
        BackendError: if the runtime cannot load or run the file.
    """
    generator = np.random.default_rng(seed)
    inputs = {name: generator.standard_normal(shape, np.float32) for name, shape in graph.inputs}
    with _runner(format)(model_file) as runner:
        actual = runner.run([inputs[name] for name, _ in graph.inputs])
    expected = reference.run(graph, weights, inputs)
    if len(actual) != len(expected):
        raise ExportError(f"the written model returns {len(actual)} values, not {len(expected)}")
    results = []
    for name, values in zip(graph.outputs, actual, strict=True):
        result = compare(values, expected[name])
        if not result.relative <= TOLERANCE:
            raise ExportError(
                f"output {name!r} of the written {format} model differs from the reference by "
                f"{result.max_difference:.3g}, {result.relative:.3g} of its standard deviation ({TOLERANCE:g} allowed)",
                hint="this is a defect of dfmobile or of the runtime: please report it with the architecture",
            )
        if expected[name].dtype.kind == "i" and result.argmax_agreement < ARGMAX_AGREEMENT:
            raise ExportError(
                f"output {name!r} of the written {format} model agrees with the reference on only "
                f"{100 * result.argmax_agreement:.3f} % of the pixels",
                hint="this is a defect of dfmobile or of the runtime: please report it with the architecture",
            )
        results.append(result)
    worst = max(results, key=lambda item: item.relative)
    return Verification(
        max_difference=worst.max_difference,
        std=worst.std,
        relative=worst.relative,
        argmax_agreement=min(item.argmax_agreement for item in results),
    )
