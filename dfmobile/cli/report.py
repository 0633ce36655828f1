"""``dfmobile report``: the page about a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dfmobile.cli.common import handled


def register(parent: typer.Typer) -> None:
    """Add the command."""
    parent.command("report")(report)


@handled
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a search.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE.html", help="Page to write.")],
    reference: Annotated[
        list[str] | None,
        typer.Option(
            "--reference",
            metavar="ARCH",
            help="Show the latency of another network by the same table, for example PL1A-Seg (repeatable).",
        ),
    ] = None,
) -> None:
    """Write a self-contained HTML page about a search."""
    from dfmobile.report.html import write_report

    typer.echo(f"{write_report(run, output, reference or ())}: open it in a browser")
