"""What every evaluator is: an architecture goes in, an accuracy and how it came about come out."""

from __future__ import annotations

import inspect
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from dfmobile import registry
from dfmobile.errors import EvaluationError, InputError


@dataclass(frozen=True)
class EvaluationRequest:
    """One architecture to evaluate.

    Attributes:
        encoding: the architecture's canonical text.
        seed: of everything random in this evaluation; 0 to 2^32 - 1.
        folder: private to this evaluation: checkpoints and weights go there. It need not exist.
    """

    encoding: str
    seed: int
    folder: Path

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed {self.seed} is outside 0 to {2**32 - 1}")


@dataclass(frozen=True)
class Evaluation:
    """The accuracy of an architecture.

    Attributes:
        accuracy: in [0, 1].
        seconds: that the evaluation took, over all its interrupted parts.
        details: JSON-able; ``trained_encoding`` (the network that was really trained) where there was a training.
        curve: one JSON object an epoch; empty where there was no training.
        weights: trained weights of ``trained_encoding`` in training form (.npz), None where there are none.

    Raises:
        EvaluationError: if the accuracy is not in [0, 1].
    """

    accuracy: float
    seconds: float
    details: dict[str, Any] = field(default_factory=dict)
    curve: list[dict[str, Any]] = field(default_factory=list)
    weights: Path | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.accuracy) and 0.0 <= self.accuracy <= 1.0):
            raise EvaluationError(f"an evaluator gave accuracy {self.accuracy}, which is not in [0, 1]")

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form; ``from_json`` reads it back."""
        return {
            "accuracy": self.accuracy,
            "seconds": self.seconds,
            "details": self.details,
            "curve": self.curve,
            "weights": None if self.weights is None else str(self.weights),
        }

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Evaluation:
        """Make an evaluation of its JSON form."""
        weights = document["weights"]
        return cls(
            accuracy=float(document["accuracy"]),
            seconds=float(document["seconds"]),
            details=document["details"],
            curve=document["curve"],
            weights=None if weights is None else Path(weights),
        )


class Evaluator(ABC):
    """Gives the accuracy of architectures.

    A constructor takes keyword options that are JSON values, so that ``(name, options)`` makes the same evaluator
    in any process.
    """

    name: ClassVar[str]
    """The name under which it is registered in ``dfmobile.evaluators``."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return what a campaign records about where its accuracies come from; JSON-able.

        Has at least ``name`` and ``label``; the label says in a few words what the accuracy is, and says so when it
        is simulated. Equal options give equal descriptions on every machine.

        Raises:
            DfmobileError: if data or files that the evaluator needs are not there.
        """

    @abstractmethod
    def evaluate(self, request: EvaluationRequest) -> Evaluation:
        """Determine the accuracy of one architecture.

        Called again with the same request after an interruption, ``kill -9`` included, it continues and gives the
        result that it would have given; called again after its end, it gives the same result again.

        Raises:
            EncodingError: if the encoding is malformed.
            EvaluationError: if the accuracy cannot be determined.
        """

    def encodings(self) -> frozenset[str] | None:
        """Return all architectures that it can evaluate, by their canonical texts; None: any that is well-formed.

        A search draws no others.
        """
        return None


def open_evaluator(name: str, **options: Any) -> Evaluator:
    """Make the evaluator that is registered under a name.

    Args:
        name: an entry point of ``dfmobile.evaluators``, e.g. ``"training"``.
        options: that evaluator's keyword options.

    Raises:
        PluginError: if the name is unknown or cannot be imported.
        InputError: if it does not take such options.
    """
    factory = registry.load("dfmobile.evaluators", name)
    try:
        inspect.signature(factory).bind(**options)
    except TypeError as error:
        known = ", ".join(inspect.signature(factory).parameters)
        raise InputError(f"evaluator {name!r}: {error}", hint=f"its options: {known}") from error
    evaluator: Evaluator = factory(**options)
    return evaluator
