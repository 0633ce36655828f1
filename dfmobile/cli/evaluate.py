"""``dfmobile evaluate``: how good a network with weights is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dfmobile.cli.common import InputOption, JsonOption, handled, print_json, print_table
from dfmobile.cli.inference import (
    CalibrationOption,
    JobsOption,
    ModelOption,
    RunnerPrecisionOption,
    RunnerThreadsOption,
    RuntimeOption,
    WeightsOption,
    open_model,
)
from dfmobile.cli.progress import ProgressLine


def register(parent: typer.Typer) -> None:
    """Add the command."""
    parent.command("evaluate")(evaluate)


@handled
def evaluate(
    data: Annotated[
        Path,
        typer.Option("--data", metavar="TREE", help="leftImg8bit/ and gtFine/ (segmentation), or one folder a class."),
    ],
    architecture: Annotated[
        str | None, typer.Argument(metavar="ARCH", help="Zoo name, encoding text or .json file; not with --model.")
    ] = None,
    weights: WeightsOption = None,
    model: ModelOption = None,
    split: Annotated[str, typer.Option("--split", help="Of the tree.")] = "val",
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="So many images, evenly spaced.")] = None,
    upsampling: Annotated[
        str, typer.Option("--upsampling", help="To the label maps' size: of scores (bilinear) or labels (nearest).")
    ] = "scores",
    input: InputOption = None,
    runtime: RuntimeOption = None,
    precision: RunnerPrecisionOption = None,
    calibration: CalibrationOption = None,
    threads: RunnerThreadsOption = 1,
    jobs: JobsOption = None,
    json: JsonOption = False,
) -> None:
    """Measure accuracy: mIoU on a tree in Cityscapes' layout, top 1 and top 5 on folders of images by class."""
    from dfmobile.accuracy.evaluate import evaluate_classification, evaluate_segmentation, find_class_folders
    from dfmobile.data.cityscapes import CityscapesTree

    ready = open_model(
        architecture,
        weights,
        model,
        input=input,
        runtime=runtime,
        precision=precision,
        calibration=calibration,
    )
    with ProgressLine("evaluate") as progress:
        if ready.is_segmentation:
            found = evaluate_segmentation(
                ready,
                CityscapesTree(data, split),
                upsampling=upsampling,
                limit=limit,
                threads=threads,
                jobs=jobs,
                progress=progress.update,
            )
        else:
            folder = find_class_folders(data, split)
            found = evaluate_classification(
                ready, folder, limit=limit, threads=threads, jobs=jobs, progress=progress.update
            )
    if json:
        print_json(found)
        return
    width, height = ready.input_shape[3], ready.input_shape[2]
    typer.echo(f"{ready.encoding or model} at {width}x{height} on {ready.runtime}, {ready.precision}")
    typer.echo(f"images resized to the input: {found['resize']}")
    if ready.is_segmentation:
        _print_segmentation(found)
    else:
        _print_classification(found)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f} %"


def _print_segmentation(found: dict[str, Any]) -> None:
    from rich.table import Table

    typer.echo(f"predictions: {found['rule']} (--upsampling {found['upsampling']})")
    typer.echo(
        f"{found['images']} of {found['of_images']} images of {found['split']}: mIoU {_percent(found['miou'])}, "
        f"pixel accuracy {_percent(found['pixel_accuracy'])}"
    )
    shown = Table("class")
    shown.add_column("IoU", justify="right")
    for name, value in found["iou"].items():
        shown.add_row(name, _percent(value))
    print_table(shown)


def _print_classification(found: dict[str, Any]) -> None:
    from rich.table import Table

    top5 = "" if found["top5"] is None else f", top 5 {_percent(found['top5'])}"
    typer.echo(
        f"{found['images']} of {found['of_images']} images of {found['data']}: "
        f"accuracy {_percent(found['accuracy'])}{top5}"
    )
    if len(found["by_class"]) <= 100:
        shown = Table("class")
        shown.add_column("accuracy", justify="right")
        for name, value in found["by_class"].items():
            shown.add_row(name, _percent(value))
        print_table(shown)
