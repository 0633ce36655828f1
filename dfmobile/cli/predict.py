"""``dfmobile predict``: a network's latency from a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dfmobile.cli.common import REPLAY, InputOption, JsonOption, handled, parse_size, print_json, print_table

if TYPE_CHECKING:
    from dfmobile.latency.table import LatencyTable

LutOption = Annotated[Path, typer.Option("--lut", metavar="TABLE", help="Latency table.")]


def register(parent: typer.Typer) -> None:
    """Add the command."""
    parent.command("predict")(predict)


def table_input(table: LatencyTable, fallback: tuple[int, int]) -> tuple[int, int]:
    """Return the input size that a table was built for, where it is one; else the fallback (width, height)."""
    sizes = {(build.width, build.height) for build in table.builds()}
    return sizes.pop() if len(sizes) == 1 else fallback


@handled
def predict(
    architecture: Annotated[str, typer.Argument(metavar="ARCH", help="Zoo name, encoding text or .json file.")],
    lut: LutOption,
    input: InputOption = None,
    rule: Annotated[
        str | None,
        typer.Option(
            "--rule", help="sum, cache-aware, calibrated or sum-isolated; default: the best that the table has."
        ),
    ] = None,
    allow_partial: Annotated[
        bool, typer.Option("--allow-partial", help="Recorded tables: add up the layers that the table covers.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Predict a network's latency from a table. A missing block is an error, never skipped."""
    from dfmobile.architecture import build, resolve, zoo
    from dfmobile.cli.predict_layers import predict_layers
    from dfmobile.errors import InputError
    from dfmobile.latency.predictor import Predictor
    from dfmobile.latency.table import LatencyTable

    resolved = resolve(architecture)
    found = zoo.find(architecture)
    default = (zoo.get(found).width, zoo.get(found).height) if found else zoo.default_input(resolved)
    with LatencyTable.open(lut) as table:
        width, height = parse_size(input) if input else table_input(table, default)
        if table.header.granularity == "layer":
            predict_layers(table, build(resolved, width, height), allow_partial=allow_partial, json=json)
            return
        if allow_partial:
            raise InputError("--allow-partial is for recorded tables: measured ones can be completed")
        prediction = Predictor(table, rule, allow_replay=True).predict(build(resolved, width, height))
        header = table.header
    if json:
        print_json(
            {
                "encoding": resolved.text,
                "input": [width, height],
                **prediction.to_dict(),
                "device": str(header.device),
                "backend": header.backend,
                "precision": header.precision,
                "threads": header.threads,
                "replay": header.replay,
            }
        )
        return
    if header.replay:
        typer.echo(REPLAY)
    from rich.table import Table

    interval = "interval unknown: a block has a single pass"
    if prediction.interval_ms is not None:
        low, high = prediction.interval_ms
        interval = f"{low:.4f} to {high:.4f} ms (95 %)"
    typer.echo(f"{resolved.text} at {width}x{height}: {prediction.latency_ms:.4f} ms, {interval}")
    typer.echo(f"rule {prediction.rule}: {prediction.basis}")
    typer.echo(
        f"{header.runtime} {header.runtime_version}, {header.precision}, "
        f"{header.threads} thread(s), {header.device_summary}"
    )
    shown = Table("block", "kind")
    shown.add_column("ms", justify="right")
    for block in prediction.blocks:
        shown.add_row(block.name, block.kind, f"{block.latency_ms:.4f}")
    print_table(shown)
