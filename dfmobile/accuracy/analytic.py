"""The simulated evaluator ``analytic``: a formula, nothing is trained. For tests, demos and search studies."""

from __future__ import annotations

import hashlib
import math
from typing import Any, ClassVar

import numpy as np

from dfmobile.accuracy.base import Evaluation, EvaluationRequest, Evaluator
from dfmobile.architecture import Architecture
from dfmobile.errors import InputError

LABEL = "analytic (simulated, not trained)"
FLOOR, CEILING = 0.30, 0.98
HALF_CAPACITY = 4.0
_FORMULA = "accuracy = 0.30 + 0.68 * c / (c + 4) + noise, c = sum over blocks of log2(1 + width / 16)"


class AnalyticEvaluator(Evaluator):
    """A formula that grows with every block and every width.

    ``accuracy = 0.30 + 0.68 · c / (c + 4) + noise``, with the capacity ``c = Σ log2(1 + width / 16)`` over all
    blocks of the stages (bottleneck: the mid width) and over a decoder's controllers. Each term is positive and
    grows with its width, so without noise ``x ≺ y``, ``x ≠ y`` implies a strictly higher accuracy for ``y``.
    The noise is normal with standard deviation ``noise``, drawn from a hash of (encoding, seed of the evaluator,
    seed of the request): a pure function, the same in every process. The sum is clipped to [0, 1].

    Args:
        noise: standard deviation, e.g. 0.005 for half a point.
        seed: another seed is another draw of all noises.

    Raises:
        InputError: if the noise is negative or not a number.
    """

    name: ClassVar[str] = "analytic"

    def __init__(self, noise: float = 0.0, seed: int = 0) -> None:
        if isinstance(noise, bool) or not isinstance(noise, (int, float)) or not 0.0 <= noise < math.inf:
            raise InputError(f"noise {noise!r} is not a standard deviation", hint="a number from 0, for example 0.005")
        if isinstance(seed, bool) or not isinstance(seed, int):
            raise InputError(f"seed {seed!r} is not a whole number")
        self._noise = float(noise)
        self._seed = seed

    def describe(self) -> dict[str, Any]:
        """See base class."""
        return {
            "name": self.name,
            "label": LABEL,
            "simulated": True,
            "formula": _FORMULA,
            "noise": self._noise,
            "seed": self._seed,
        }

    def evaluate(self, request: EvaluationRequest) -> Evaluation:
        """See base class."""
        architecture = Architecture.parse(request.encoding)
        amount = capacity(architecture)
        accuracy = FLOOR + (CEILING - FLOOR) * amount / (amount + HALF_CAPACITY)
        if self._noise:
            accuracy += self._noise * self._draw(architecture.text, request.seed)
        details = {"label": LABEL, "simulated": True, "capacity": amount}
        return Evaluation(min(max(accuracy, 0.0), 1.0), seconds=0.0, details=details)

    def _draw(self, encoding: str, seed: int) -> float:
        digest = hashlib.sha256(f"{encoding} {self._seed} {seed}".encode()).digest()
        return float(np.random.default_rng(int.from_bytes(digest[:8], "big")).standard_normal())


def capacity(architecture: Architecture) -> float:
    """Return the formula's ``c``: positive, and larger for every block added and every width increased."""
    widths = [width for stage in architecture.stages for width in stage.widths]
    if architecture.decoder is not None:
        widths += architecture.decoder.controllers
    return math.fsum(math.log2(1.0 + width / 16.0) for width in widths)
