"""``dfmobile train`` and ``dfmobile evaluate``: one architecture, for real."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dfmobile.cli.common import JsonOption, handled, parse_options, print_json, say


def register(parent: typer.Typer) -> None:
    """Add the command."""
    parent.command("train")(train)


def point_text(point: Mapping[str, Any]) -> str:
    """Return one point of a learning curve as a line; what it has by class is left out."""
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in point.items()
        if not isinstance(value, Mapping)
    )


@handled
def train(
    architecture: Annotated[str, typer.Argument(metavar="ARCH", help="Zoo name, encoding text or .json file.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="RUN/", help="Folder for checkpoints and weights.")],
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            help="Classifiers: mnist-5k (default), or a folder with train/<class>/ (and test/<class>/) images. "
            "Segmentation networks: scenes or scenes:N (default: procedural street scenes), or a tree in "
            "Cityscapes' layout.",
        ),
    ] = None,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Default: the evaluator's.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="More options of the evaluator.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Train an architecture; run again to continue after an interruption.

    One with a decoder is trained by the evaluator `segmentation`, any other by `training`.
    """
    from dfmobile.accuracy.base import EvaluationRequest, open_evaluator
    from dfmobile.accuracy.segmentation import SegmentationEvaluator
    from dfmobile.accuracy.training import TrainingEvaluator
    from dfmobile.architecture import resolve
    from dfmobile.files import atomic_write_json

    resolved = resolve(architecture)
    options = parse_options(option or [])
    for name, value in (("data", data), ("epochs", epochs)):
        if value is not None:
            options[name] = value
    evaluator = open_evaluator("training" if resolved.decoder is None else "segmentation", **options)
    assert isinstance(evaluator, TrainingEvaluator | SegmentationEvaluator)  # noqa: S101  (dfmobile's own names)
    # Of the processes that torchrun starts, the first one writes and speaks.
    writes = os.environ.get("RANK", "0") == "0" or "TORCHELASTIC_RUN_ID" not in os.environ
    if not writes:
        evaluator.evaluate(EvaluationRequest(encoding=resolved.text, seed=seed, folder=output))
        return
    say(f"training {resolved.text} in {output}; stop it and run the same command to continue")
    request = EvaluationRequest(encoding=resolved.text, seed=seed, folder=output)
    found = evaluator.evaluate(request, progress=lambda point: say(point_text(point)))
    document = {
        "encoding": resolved.text,
        "accuracy": found.accuracy,
        "seconds": found.seconds,
        "weights": None if found.weights is None else str(found.weights),
        "curve": found.curve,
        "details": found.details,
        "evaluator": evaluator.describe(),
    }
    atomic_write_json(output / "result.json", document)
    if json:
        print_json(document)
        return
    trained = found.details.get("trained_encoding", resolved.text)
    measure = "accuracy" if resolved.decoder is None else "mIoU"
    typer.echo(f"{measure} {found.accuracy:.4f} of {trained} ({found.seconds:.1f} s); {output / 'result.json'}")
