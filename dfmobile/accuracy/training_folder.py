"""The folder of one training: checkpoint and curve while it runs, weights and result when it is done."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dfmobile.accuracy.base import Evaluation
from dfmobile.accuracy.checkpoint import Checkpoint
from dfmobile.errors import FileFormatError, InputError
from dfmobile.files import atomic_write_json, read_json

if TYPE_CHECKING:
    from dfmobile.accuracy.resumable import ResumableTrainer

CHECKPOINT, CURVE, RESULT, WEIGHTS = "checkpoint.npz", "curve.json", "evaluation.json", "weights.npz"

Progress = Callable[[dict[str, Any]], None]


def finished_evaluation(folder: Path, identity: str) -> Evaluation | None:
    """Return the result of an evaluation that has ended, None if it has not.

    Raises:
        InputError: if the folder is of another training.
        FileFormatError: if it is damaged.
    """
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


def run_to_end(
    trainer: ResumableTrainer, folder: Path, identity: str, progress: Progress | None, *, writes: bool = True
) -> None:
    """Train to the end, from the checkpoint if there is one; a new one after each epoch.

    Args:
        trainer: at its start.
        folder: of the training.
        identity: digest of everything that the result depends on.
        progress: called with each new point of the learning curve.
        writes: whether this process is the one that writes (of several that train together one is).

    Raises:
        InputError: if the folder is of another training.
        FileFormatError: if the checkpoint is damaged.
        EvaluationError: if the training diverges.
    """
    path = folder / CHECKPOINT
    if path.exists():
        checkpoint = Checkpoint.load(path)
        _check_identity(checkpoint.state.get("identity"), identity, folder)
        trainer.restore(checkpoint)
    while not trainer.finished:
        point = trainer.run_epoch()
        if not writes:
            continue
        checkpoint = trainer.checkpoint()
        Checkpoint({**checkpoint.state, "identity": identity}, checkpoint.arrays).save(path)
        atomic_write_json(folder / CURVE, trainer.curve)
        if progress is not None:
            progress(point)


def write_result(folder: Path, evaluation: Evaluation, identity: str) -> None:
    """Write the result; the checkpoint, needed no more, goes."""
    # The weights' place is relative: a run folder may be moved.
    document = {**evaluation.to_json(), "weights": WEIGHTS, "identity": identity}
    atomic_write_json(folder / RESULT, document)
    (folder / CHECKPOINT).unlink(missing_ok=True)


def _check_identity(found: object, identity: str, folder: Path) -> None:
    if found != identity:
        raise InputError(
            f"{folder} holds a training of another architecture, seed, data or options",
            hint="choose another folder, or remove this one",
        )
