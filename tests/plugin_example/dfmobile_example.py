"""A search space of thin DF backbones, and an evaluator that simulates accuracy by depth alone."""

from __future__ import annotations

from typing import Any, ClassVar

from dfmobile.accuracy.base import Evaluation, EvaluationRequest, Evaluator
from dfmobile.architecture import Architecture
from dfmobile.architecture.spaces.chains import ChainSpace


def thin_space(max_depth: int | None = None) -> ChainSpace:
    """Widths 16, 32 and 48; the DF stem; 1000 classes."""
    template = Architecture.parse("df/16/16/16")
    return ChainSpace("df-thin", template, (16, 32, 48), max_depth or 3, (224, 224))


class DepthEvaluator(Evaluator):
    """Accuracy 1 - scale / blocks: simulated, monotone, for this example only.

    Args:
        scale: how far from 1 a network of one block is.
    """

    name: ClassVar[str] = "depth"

    def __init__(self, scale: float = 0.5) -> None:
        self._scale = scale

    def describe(self) -> dict[str, Any]:
        """See base class."""
        return {"name": self.name, "label": "simulated by depth, not trained", "scale": self._scale}

    def evaluate(self, request: EvaluationRequest) -> Evaluation:
        """See base class."""
        architecture = Architecture.parse(request.encoding)
        blocks = sum(len(stage.widths) for stage in architecture.stages)
        return Evaluation(accuracy=1.0 - self._scale / blocks, seconds=0.0)
