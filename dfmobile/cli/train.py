"""``dfmobile train`` and ``dfmobile evaluate``: one architecture, for real."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from dfmobile.cli.common import JsonOption, handled, parse_options, print_json, say


def register(parent: typer.Typer) -> None:
    """Add the command."""
    parent.command("train")(train)


def point_text(point: Mapping[str, Any]) -> str:
    """Return one point of a learning curve as a line."""
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in point.items()
    )


@handled
def train(
    architecture: Annotated[str, typer.Argument(metavar="ARCH", help="Zoo name, encoding text or .json file.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="RUN/", help="Folder for checkpoints and weights.")],
    data: Annotated[
        str, typer.Option("--data", help="mnist-5k, or a folder with train/<class>/ (and test/<class>/) images.")
    ] = "mnist-5k",
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Default: the evaluator's.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    option: Annotated[
        list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="More options of the evaluator.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Train an architecture with the evaluator `training`; run again to continue after an interruption."""
    from dfmobile.accuracy.base import EvaluationRequest, open_evaluator
    from dfmobile.architecture import resolve
    from dfmobile.files import atomic_write_json

    options = {"data": data, **parse_options(option or [])}
    if epochs is not None:
        options["epochs"] = epochs
    from dfmobile.accuracy.training import TrainingEvaluator

    evaluator = open_evaluator("training", **options)
    assert isinstance(evaluator, TrainingEvaluator)  # noqa: S101  (narrows the type; the name is dfmobile's own)
    resolved = resolve(architecture)
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
    typer.echo(f"accuracy {found.accuracy:.4f} of {trained} ({found.seconds:.1f} s); {output / 'result.json'}")
