"""The evaluator ``training``: real trainings in PyTorch, resumable to the same bits."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from dfmobile.accuracy.base import Evaluation, EvaluationRequest, Evaluator
from dfmobile.accuracy.checkpoint import Checkpoint
from dfmobile.accuracy.options import TrainingOptions, option_names
from dfmobile.accuracy.scaling import trained_architecture
from dfmobile.architecture import Architecture, build
from dfmobile.data import TrainingData, open_data
from dfmobile.errors import FileFormatError, InputError, import_extra
from dfmobile.export.weights import save_weights
from dfmobile.files import atomic_write_json, read_json
from dfmobile.graph import cost

if TYPE_CHECKING:
    from dfmobile.accuracy.trainer import Trainer

LABEL = "training (PyTorch, validation accuracy after the last epoch)"
CHECKPOINT, CURVE, RESULT, WEIGHTS = "checkpoint.npz", "curve.json", "evaluation.json", "weights.npz"

Progress = Callable[[dict[str, Any]], None]


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
        finished = _finished(request.folder, identity)
        if finished is not None:
            return finished
        graph = build(architecture, *data.size).graph
        with fixed_torch(self.options.threads, request.seed):
            trainer = Trainer(graph, data, self.options, request.seed)
            _resume(trainer, request.folder / CHECKPOINT, identity)
            while not trainer.finished:
                point = trainer.run_epoch()
                checkpoint = trainer.checkpoint()
                Checkpoint({**checkpoint.state, "identity": identity}, checkpoint.arrays).save(
                    request.folder / CHECKPOINT
                )
                atomic_write_json(request.folder / CURVE, trainer.curve)
                if progress is not None:
                    progress(point)
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
        # The weights' place is relative: a run folder may be moved.
        document = {**evaluation.to_json(), "weights": WEIGHTS, "identity": identity}
        atomic_write_json(request.folder / RESULT, document)
        (request.folder / CHECKPOINT).unlink(missing_ok=True)
        return evaluation

    def _identity(self, request: EvaluationRequest, architecture: Architecture) -> str:
        """Return a digest of everything that a training's result depends on."""
        parts = [self.describe(), request.encoding, architecture.text, request.seed]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _check_identity(found: object, identity: str, folder: Path) -> None:
    if found != identity:
        raise InputError(
            f"{folder} holds a training of another architecture, seed, data or options",
            hint="choose another folder, or remove this one",
        )


def _finished(folder: Path, identity: str) -> Evaluation | None:
    """Return the result of an evaluation that has ended, None if it has not."""
    if not (folder / RESULT).exists():
        return None
    document = read_json(folder / RESULT)
    try:
        _check_identity(document["identity"], identity, folder)
        if not (folder / document["weights"]).is_file():
            raise FileFormatError(f"{folder} has lost its {WEIGHTS}", hint="remove the folder to train again")
        return Evaluation.from_json({**document, "weights": str(folder / document["weights"])})
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(
            f"{folder / RESULT} is not an evaluation: {error!r}", hint="remove the folder to train again"
        ) from error


def _resume(trainer: Trainer, path: Path, identity: str) -> None:
    if path.exists():
        checkpoint = Checkpoint.load(path)
        _check_identity(checkpoint.state.get("identity"), identity, path.parent)
        trainer.restore(checkpoint)


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
