"""The evaluator ``training``: real trainings in PyTorch, resumable to the same bits."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, ClassVar

from dfmobile.accuracy.base import Evaluation, EvaluationRequest, Evaluator
from dfmobile.accuracy.options import TrainingOptions, option_names
from dfmobile.accuracy.scaling import trained_architecture
from dfmobile.accuracy.training_folder import (
    CHECKPOINT,
    CURVE,
    RESULT,
    WEIGHTS,
    Progress,
    finished_evaluation,
    run_to_end,
    write_result,
)
from dfmobile.architecture import Architecture, build
from dfmobile.data import TrainingData, open_data
from dfmobile.errors import InputError, import_extra
from dfmobile.export.weights import save_weights
from dfmobile.graph import cost

LABEL = "training (PyTorch, validation accuracy after the last epoch)"
__all__ = ["CHECKPOINT", "CURVE", "LABEL", "RESULT", "WEIGHTS", "TrainingEvaluator"]


class TrainingEvaluator(Evaluator):
    """Trains each architecture, scaled where the images are small, and validates it.

    Its folder holds ``checkpoint.npz`` and ``curve.json`` while it trains, ``weights.npz`` and ``evaluation.json``
    when it is done.

    Args:
        options: those of ``TrainingOptions``.

    Raises:
        InputError: if an option is unknown or out of range.
        MissingExtraError: if torch is not installed.
    """

    name: ClassVar[str] = "training"

    def __init__(self, **options: Any) -> None:
        unknown = sorted(set(options) - set(option_names()))
        if unknown:
            raise InputError(f"training has no option {unknown[0]!r}", hint=f"its options: {', '.join(option_names())}")
        self.options = TrainingOptions(**options)
        import_extra("torch", "train", "training")
        self._data: TrainingData | None = None

    def data(self) -> TrainingData:
        """Return the data; read once.

        Raises:
            InputError: if they cannot be trained on.
            FileFormatError: if a file is damaged.
        """
        if self._data is None:
            options = self.options
            self._data = open_data(
                options.data,
                image_size=options.image_size,
                channels=options.channels,
                train_fraction=options.fraction,
                split_seed=options.split_seed,
            )
        return self._data

    def describe(self) -> dict[str, Any]:
        """See base class."""
        return {
            "name": self.name,
            "label": LABEL,
            "simulated": False,
            "data": self.data().describe(),
            **self.options.describe(),
        }

    def trained(self, encoding: str) -> tuple[Architecture, str]:
        """Return the architecture that is really trained for an encoding, and how it came from it.

        Raises:
            EncodingError: if the encoding is malformed.
            InputError: if it cannot be trained on the data.
        """
        data = self.data()
        return trained_architecture(
            Architecture.parse(encoding),
            size=data.size,
            classes=len(data.train.class_names),
            channels=data.channels,
            scale=self.options.width_scale,
        )

    def evaluate(self, request: EvaluationRequest, progress: Progress | None = None) -> Evaluation:
        """Train to the end, from where an earlier call was interrupted.

        Args:
            request: what to train; its folder must be empty or of the same request and options.
            progress: called with each new point of the learning curve.

        Raises:
            EncodingError: if the encoding is malformed.
            InputError: if it cannot be trained on the data, or the folder is of another training.
            FileFormatError: if data or checkpoint are damaged.
            EvaluationError: if the training diverges; the message has the epoch.
        """
        from dfmobile.accuracy.trainer import Trainer, fixed_torch

        architecture, scaling = self.trained(request.encoding)
        data = self.data()
        identity = self._identity(request, architecture)
        finished = finished_evaluation(request.folder, identity)
        if finished is not None:
            return finished
        graph = build(architecture, *data.size).graph
        with fixed_torch(self.options.threads, request.seed):
            trainer = Trainer(graph, data, self.options, request.seed)
            run_to_end(trainer, request.folder, identity, progress)
            weights = trainer.weights()
        details = {
            "label": LABEL,
            "trained_encoding": architecture.text,
            "scaling": scaling,
            "input": f"{data.size[0]}x{data.size[1]}",
            "seed": request.seed,
            "epochs": self.options.epochs,
            "macs": cost.macs(graph),
            "params": cost.params(graph),
            **_torch_details(self.options),
        }
        _save_weights(request.folder / WEIGHTS, weights, details, data)
        evaluation = Evaluation(
            accuracy=trainer.curve[-1]["validation_accuracy"],
            seconds=sum(point["seconds"] for point in trainer.curve),
            details=details,
            curve=trainer.curve,
            weights=request.folder / WEIGHTS,
        )
        write_result(request.folder, evaluation, identity)
        return evaluation

    def _identity(self, request: EvaluationRequest, architecture: Architecture) -> str:
        """Return a digest of everything that a training's result depends on."""
        parts = [self.describe(), request.encoding, architecture.text, request.seed]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _torch_details(options: TrainingOptions) -> dict[str, Any]:
    torch = import_extra("torch", "train", "training")
    return {"torch": str(torch.__version__), "threads": options.threads}


def _save_weights(path: Path, weights: dict[str, Any], details: dict[str, Any], data: TrainingData) -> None:
    record = data.describe()
    metadata = {
        "encoding": details["trained_encoding"],
        "input": details["input"],
        "origin": LABEL,
        "data": str(record["data"]),
        "classes": json.dumps(record["classes"]),
        "normalisation": json.dumps(record["normalisation"]),
    }
    save_weights(path, weights, metadata)
