"""The ``dfmobile`` command: puts the sub-commands together."""

from __future__ import annotations

from typing import Annotated

import typer

from dfmobile import __version__
from dfmobile.cli import (
    bench,
    bundle,
    devices,
    doctor,
    evaluate,
    export,
    lut,
    predict,
    quickstart,
    report,
    search,
    segment,
    space,
    train,
    variants,
    weights,
    zoo,
)
from dfmobile.cli.common import end_in_order_when_terminated, set_debug

app = typer.Typer(
    name="dfmobile",
    help="Know how fast a neural network will be on your device before you train it, then find the best one.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"dfmobile {__version__}")
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Know how fast a neural network will be on your device before you train it, then find the best one."""
    del version
    set_debug(debug)


for module in (
    *(quickstart, doctor, zoo, space, weights, export, devices, bench, lut, predict, search, train, segment, evaluate),
    *(bundle, variants, report),
):
    module.register(app)


def main() -> None:
    """Run the command line; a terminated one ends as after Ctrl-C, so that what runs on a device is stopped."""
    end_in_order_when_terminated()
    app()
