"""``dfmobile quickstart``: the whole chain on this computer, for real, in minutes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from dfmobile.cli.common import handled, say
from dfmobile.cli.progress import ProgressLine, duration_text

WIDTH, HEIGHT = 32, 32
SPACE, EVALUATOR = "df-cifar", "tabular"
# With --train.
TRAINED_SPACE, TRAINING, DATA = "df-mini", "training", "mnist-5k"


def register(parent: typer.Typer) -> None:
    """Add the command."""
    parent.command("quickstart")(quickstart)


@handled
def quickstart(
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for everything that is made.")
    ] = Path("quickstart-run"),
    train: Annotated[
        bool, typer.Option("--train", help="Train here, on MNIST-5k, and export trained networks (extra: train).")
    ] = False,
    trainings: Annotated[
        int, typer.Option("--trainings", min=1, max=833, help="Architectures whose accuracy is looked at.")
    ] = 30,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="Default: the evaluator's.")] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    workers: Annotated[int, typer.Option("--workers", min=1, max=64, help="Evaluations at a time.")] = 2,
) -> None:
    """Profile this computer, measure and calibrate a table, search with real accuracies, re-measure, export, report.

    The accuracies are of trainings that were run once for the space df-cifar and ship with dfmobile: needs no torch,
    and the exported networks have random weights. With --train, networks of df-mini are trained here on MNIST-5k, small
    enough that the network that is trained is the one that is measured and exported. Run it again to continue after
    an interruption.
    """
    from dfmobile.architecture.spaces import open_space
    from dfmobile.cli.campaigns import DEVICE_PROFILE_NAME, conduct, print_result
    from dfmobile.devices.device import open_device
    from dfmobile.devices.profile import save_profile, summary
    from dfmobile.errors import import_extra
    from dfmobile.latency.backends.base import open_backend
    from dfmobile.latency.builder import BuildProgress, build_table
    from dfmobile.latency.calibrate import calibrate_table
    from dfmobile.latency.measurement import Protocol
    from dfmobile.latency.network_runs import RunProgress
    from dfmobile.report.html import write_report
    from dfmobile.search.settings import CampaignSettings

    started = time.monotonic()
    options: dict[str, object] = {}
    if train:
        for module in ("torch", "mlxtend"):
            import_extra(module, "train", "quickstart --train")
        options["data"] = DATA
    if epochs is not None:
        options["epochs"] = epochs
    space_name, evaluator = (TRAINED_SPACE, TRAINING) if train else (SPACE, EVALUATOR)
    told = evaluator_facts(evaluator, options)  # refuses bad options before anything is measured
    run, table, page = output / "search", output / "table.sqlite", output / "report.html"

    say(f"1/6  profile      dfmobile profile --device local -o {output / DEVICE_PROFILE_NAME}")
    with open_device("local") as device:
        save_profile(device.profile, output / DEVICE_PROFILE_NAME)
        say(f"     {summary(device.profile)}")

        say(f"2/6  table        dfmobile lut build --space {space_name} --input {WIDTH}x{HEIGHT} --passes 5 -o {table}")
        space = open_space(space_name)
        with ProgressLine("     measuring") as line:

            def progress(step: BuildProgress) -> None:
                line.update(step.done, step.total, step.block, left_s=step.seconds_left)

            backend = open_backend("litert", device)
            protocol = Protocol(passes=5)
            report = build_table(
                table, space, WIDTH, HEIGHT, device, backend, protocol, progress=progress, measure_caches=True
            )
        say(f"     {report.text}")

        say(f"3/6  calibrate    dfmobile lut calibrate {table}")
        with ProgressLine("     measuring whole networks") as line:

            def shown(step: RunProgress) -> None:
                line.update(step.done, step.total, step.network)

            calibrated = calibrate_table(table, space, WIDTH, HEIGHT, backend, progress=shown)
        say(f"     {calibrated.text}")

    text = "".join(f" --option {key}={value}" for key, value in options.items())
    command = (
        f"dfmobile search --space {space_name} --lut {table} --evaluator {evaluator}{text} --budget {trainings} "
        f"--seed {seed} --workers {workers} -o {run}"
    )
    say(f"4/6  search       {command}")
    say(f"     {told}")
    settings = CampaignSettings(budget=trainings, seed=seed, input_size=(WIDTH, HEIGHT))
    result, measured = conduct(
        run, space, table, evaluator, options, settings, device="local", workers=workers, command=command
    )
    say(f"5/6  re-measured and exported: {run / 'models'}")
    say(f"6/6  report       dfmobile report {run} -o {page}")
    write_report(run, page)
    print_result(run, result, measured, json=False)
    if not train:
        typer.echo("note: the model files have random weights: right for latency, not for accuracy (--train trains)")
    typer.echo(f"done in {duration_text(time.monotonic() - started)}; open {page} in a browser")


def evaluator_facts(evaluator: str, options: dict[str, object]) -> str:
    """Return where accuracies come from, in one line.

    Raises:
        InputError: if the evaluator does not take these options.
    """
    from dfmobile.accuracy.base import open_evaluator

    description = open_evaluator(evaluator, **options).describe()
    return "; ".join(str(description[name]) for name in ("label", "coverage") if name in description)
