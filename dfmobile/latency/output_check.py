"""Does a timed kernel compute what it should? Some are fast and wrong: their time is no measurement.

Each block's outputs are compared, once, with the numpy reference on random inputs. The reference runs in float32 on
the whole block or, where that would take long and the block is local, on strips of rows at the top and the bottom:
borders, corners and inner rows of every channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.architecture import PlacedBlock
from dfmobile.errors import BackendError
from dfmobile.graph import Graph, Weights, reference
from dfmobile.graph.strip import border_strips, rows_of
from dfmobile.latency.backends.base import Backend
from dfmobile.latency.inprocess import random_inputs
from dfmobile.latency.models import cheap_weights

Array = npt.NDArray[Any]

WHOLE_BELOW_MACS = 200_000_000  # about 0.01 to 0.1 s of numpy
# Quantised: steps of the output. Over 86 blocks of the zoo at most 2.1 % of the elements were beyond 3 steps, and none
# beyond 7; a wrong kernel is off by tens of steps wherever it is wrong.
FEW_STEPS, FEW_STEPS_SHARE, MOST_STEPS = 4.0, 0.05, 16.0
# Not quantised: standard deviations of the output. fp32 differs by the order of additions alone; every other
# precision (half arithmetic, or a mix) has about three digits.
FP32_LARGEST = 1e-3
OTHER_RMS, OTHER_LARGEST = 0.03, 0.3
ARGMAX_AGREEMENT = {"fp32": 0.999}
OTHER_ARGMAX_AGREEMENT = 0.9


@dataclass(frozen=True)
class OutputDifference:
    """How an output differs from the reference.

    Attributes:
        text: for people.
        wrong: it is more than rounding.
    """

    text: str
    wrong: bool


def check_outputs(block: PlacedBlock, model_path: Path, backend: Backend) -> bool:
    """Compare a block's outputs, as the backend computes them, with the reference.

    Args:
        block: what the model file is of.
        model_path: its model file, of ``models.timing_model``.
        backend: that measures it.

    Returns:
        False where the backend cannot give outputs back, so that nothing was compared.

    Raises:
        BackendError: if they differ by more than the precision explains: the block must not be recorded.
    """
    graph = block.graph
    inputs = random_inputs([shape for _, shape in graph.inputs])
    found = backend.outputs(model_path, inputs)
    if found is None:
        return False
    given = {name: array for (name, _), array in zip(graph.inputs, inputs, strict=True)}
    identity = backend.identity()
    for name, actual, step in zip(graph.outputs, found.values, found.steps, strict=True):
        shape = graph.shapes[name]
        if tuple(actual.shape) != shape:
            difference = OutputDifference(f"its shape is {list(actual.shape)}, not {list(shape)}", wrong=True)
        else:
            ours, theirs = _comparable(graph, cheap_weights(graph), given, name, actual, block.macs)
            difference = compare_outputs(theirs, ours, step, backend.precision)
        if difference.wrong:
            raise BackendError(
                f"{block.text}: {backend.name} ({identity.name} {identity.version}, {backend.precision}, "
                f"{backend.threads} thread(s)) computes something else than the reference: {difference.text}",
                hint="its time means nothing and was not recorded; report it to the runtime's authors, try another "
                "version, precision or backend, or leave the block out with --max-depth or --network",
            )
    return True


def compare_outputs(actual: Array, expected: Array, step: float, precision: str) -> OutputDifference:
    """Compare values with the reference's.

    Args:
        actual: what the backend computed, float32 or int32.
        expected: of the same shape, in float32 or int32.
        step: distance of neighbouring values of ``actual``; 0.0 where it is not quantised.
        precision: of the backend.
    """
    if expected.dtype.kind == "i":
        share = float(np.mean(actual == expected))
        allowed = ARGMAX_AGREEMENT.get(precision, OTHER_ARGMAX_AGREEMENT)
        return OutputDifference(f"{100 * (1 - share):.1f} % of the indices differ", share < allowed)
    differences = np.abs(actual.astype(np.float32) - expected)
    largest = float(differences.max())
    if not np.isfinite(largest):
        return OutputDifference("it has values that are not finite", wrong=True)
    if step:
        share, most = float(np.mean(differences > FEW_STEPS * step)), largest / step
        text = f"{100 * share:.1f} % of the elements are off by more than {FEW_STEPS:g} steps, at most by {most:.0f}"
        return OutputDifference(text, share > FEW_STEPS_SHARE or most > MOST_STEPS)
    unit = float(expected.std()) or float(np.abs(expected).max()) or 1.0
    rms = float(np.sqrt(np.mean(np.square(differences)))) / unit
    text = f"off by {largest / unit:.3g} standard deviations at most, {rms:.3g} in the mean (RMS)"
    if precision == "fp32":
        return OutputDifference(text, largest / unit > FP32_LARGEST)
    return OutputDifference(text, rms > OTHER_RMS or largest / unit > OTHER_LARGEST)


def _comparable(
    graph: Graph, weights: Weights, inputs: dict[str, Array], name: str, actual: Array, macs: int
) -> tuple[Array, Array]:
    """Return the reference's values and the backend's of an output, on the rows that are compared."""
    strips = border_strips(graph) if macs > WHOLE_BELOW_MACS else []
    if not strips:
        return reference.run(graph, weights, inputs, dtype=np.float32)[name], actual
    ours, theirs = [], []
    for strip, own, whole in rows_of(strips, name):
        rows = {key: array[:, :, strip.start : strip.end] for key, array in inputs.items()}
        ours.append(reference.run(strip.graph, weights, rows, dtype=np.float32)[name][:, :, own])
        theirs.append(actual[:, :, whole])
    return np.concatenate(ours, axis=2), np.concatenate(theirs, axis=2)
