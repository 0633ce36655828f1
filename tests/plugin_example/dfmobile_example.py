"""A search space of thin DF backbones, an evaluator that simulates accuracy by depth, and a transport of its own."""

from __future__ import annotations

from typing import Any, ClassVar

from dfmobile.accuracy.base import Evaluation, EvaluationRequest, Evaluator
from dfmobile.architecture import Architecture
from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.devices.transport.base import DeviceListing
from dfmobile.devices.transport.local import LocalTransport


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


class RackTransport(LocalTransport):
    """Stands for boards in a rack, ``rack:ROW/SLOT``; the only one it knows is this machine."""

    scheme: ClassVar[str] = "rack"

    @classmethod
    def enumerate(cls) -> list[DeviceListing]:
        """See base class."""
        return [DeviceListing(uri="rack:1/4", state="ready", description="this machine")]
