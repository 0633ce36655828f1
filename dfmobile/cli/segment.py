"""``dfmobile segment``: label maps of images, folders and videos."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dfmobile.cli.common import EXIT_FAILED, InputOption, JsonOption, handled, print_json, report_error
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

if TYPE_CHECKING:
    from dfmobile.accuracy.segment_files import Segmented


def register(parent: typer.Typer) -> None:
    """Add the command."""
    parent.command("segment")(segment)


@handled
def segment(
    paths: Annotated[list[Path], typer.Argument(metavar="IMAGE|FOLDER|VIDEO…", help="What to label.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write to.")],
    architecture: Annotated[
        str | None, typer.Option("--arch", metavar="ARCH", help="Zoo name, encoding text or .json file.")
    ] = None,
    weights: WeightsOption = None,
    model: ModelOption = None,
    input: InputOption = None,
    runtime: RuntimeOption = None,
    precision: RunnerPrecisionOption = None,
    calibration: CalibrationOption = None,
    threads: RunnerThreadsOption = 1,
    jobs: JobsOption = None,
    every: Annotated[int, typer.Option("--every", min=1, help="Videos: each n-th frame.")] = 1,
    frames: Annotated[int | None, typer.Option("--frames", min=1, help="Videos: at most so many.")] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Leave alone what an earlier run finished with this model.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Label each pixel of pictures: a label map, a coloured overlay and the shares of the classes for each."""
    from dfmobile.accuracy.segment_files import check_outputs, segment_pictures
    from dfmobile.data.pictures import find_pictures, pictures

    files = find_pictures(paths, output)
    check_outputs(files, output)
    ready = open_model(
        architecture,
        weights,
        model,
        input=input,
        runtime=runtime,
        precision=precision,
        calibration=calibration,
    )
    # The number of a video's frames is not known before they are decoded.
    videos = sum(file.is_video for file in files)
    count, started = 0, time.monotonic()
    with ProgressLine("segment") as progress:

        def done(result: Segmented) -> None:
            nonlocal count
            count += 1
            total = max(count, len(files)) if videos else len(files)
            if result.error is not None:
                report_error(result.error)
            progress.update(count, total, result.picture)

        summary = segment_pictures(
            ready, pictures(files, every, frames), output, threads=threads, jobs=jobs, resume=resume, done=done
        )
    seconds = time.monotonic() - started
    if json:
        print_json(summary)
    else:
        _print(summary, output, seconds)
    if summary["failed"]:
        raise typer.Exit(EXIT_FAILED)


def _print(summary: dict[str, object], output: Path, seconds: float) -> None:
    what = f"{summary['encoding'] or 'the model'} on {summary['runtime']}, {summary['precision']}"
    pictures = "1 picture" if summary["pictures"] == 1 else f"{summary['pictures']} pictures"
    typer.echo(f"{output}: {pictures} labelled by {what}, {seconds:.1f} s")
    shares = summary["shares"]
    if isinstance(shares, dict):
        largest = sorted(shares.items(), key=lambda item: -item[1])[:5]
        typer.echo("mean share of pixels: " + ", ".join(f"{name} {100 * share:.1f} %" for name, share in largest))
    if summary["failed"]:
        typer.echo(f"{summary['failed']} could not be read: see above, and {output / 'segment-summary.json'}")
