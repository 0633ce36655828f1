"""``dfmobile lut export | import | merge | diff``: latency tables from one place to another, and side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dfmobile.cli.common import REPLAY, InputOption, JsonOption, handled, parse_size, print_json, print_table, say
from dfmobile.cli.space import MaxDepthOption

if TYPE_CHECKING:
    from dfmobile.latency.best_networks import SpaceDiff
    from dfmobile.latency.diff import TableDiff

TableArgument = Annotated[Path, typer.Argument(metavar="TABLE")]
NewTableOption = Annotated[Path, typer.Option("--output", "-o", metavar="TABLE", help="Table to make.")]


def register(app: typer.Typer) -> None:
    """Add the commands to ``dfmobile lut``."""
    app.command("export")(export)
    app.command("import")(import_)
    app.command("merge")(merge)
    app.command("diff")(diff)


def _say_if_replay(table: Path) -> None:
    from dfmobile.latency.table import LatencyTable

    with LatencyTable.open(table) as opened:
        if opened.header.replay:
            say(REPLAY)


@handled
def export(
    table: TableArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help=".json or .json.gz: complete; .csv: a summary.")
    ],
) -> None:
    """Write a table as a JSON document (complete, with raw samples and provenance) or a CSV summary."""
    from dfmobile.latency.exchange import export_table

    count = export_table(table, output)
    _say_if_replay(table)
    typer.echo(f"{output}: {count} entries of {table}")


@handled
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Document of lut export, or a per-layer log.")],
    output: NewTableOption,
    recorded: Annotated[bool, typer.Option("--recorded", help="FILE is a per-layer log (CSV).")] = False,
    layers: Annotated[
        list[Path] | None,
        typer.Option("--layers", metavar="NET.json", help="Layers of a network of the log; may be repeated."),
    ] = None,
    network: Annotated[str | None, typer.Option("--network", help="Only this network's rows of the log.")] = None,
    input: InputOption = None,
    device: Annotated[
        str | None, typer.Option("--device", help="What the log was recorded on, e.g. 'GTX 1080 Ti'.")
    ] = None,
    runtime: Annotated[
        str | None, typer.Option("--runtime", help="What it was recorded with, e.g. 'TensorRT 3.0.4'.")
    ] = None,
    precision: Annotated[str, typer.Option("--precision", help="What the log was recorded at.")] = "fp32",
) -> None:
    """Make a table of a document of lut export, or (--recorded) of somebody's per-layer log."""
    from dfmobile.errors import InputError
    from dfmobile.latency.exchange import import_table
    from dfmobile.latency.recorded import import_recorded

    if not recorded:
        if layers or network or input or device or runtime:
            raise InputError("--layers, --network, --input, --device and --runtime are for logs", hint="add --recorded")
        content = import_table(file, output)
        _say_if_replay(output)
        typer.echo(f"{output}: {len(content.blocks)} {content.header.granularity}s, {content.pass_count} passes")
        return
    if not device or not runtime:
        raise InputError(
            "a log does not say where it comes from: give --device and --runtime",
            hint="for example --device 'GTX 1080 Ti' --runtime 'TensorRT 3.0.4'",
        )
    content = import_recorded(
        file,
        output,
        device=device,
        runtime=runtime,
        precision=precision,
        documents=layers or (),
        network=network,
        size=parse_size(input) if input else None,
    )
    names = ", ".join(f"{build.target} at {build.input_text}" for build in content.builds)
    typer.echo(f"{output}: {len(content.blocks)} distinct layers recorded of {names}; not measured by dfmobile")


@handled
def merge(
    tables: Annotated[list[Path], typer.Argument(metavar="TABLE...", help="Two tables or more, of one kind.")],
    output: NewTableOption,
    json: JsonOption = False,
) -> None:
    """Make one table of several of the same device, runtime, precision, threads and affinity."""
    from dataclasses import asdict

    from dfmobile.latency.merge import merge_tables

    report = merge_tables(tables, output)
    _say_if_replay(output)
    if report.dropped:
        say(f"note: left out, as it is not the same in all tables: {', '.join(report.dropped)}")
    if json:
        print_json({**asdict(report), "dropped": list(report.dropped), "table": str(output)})
    else:
        typer.echo(f"{output}: {report.text}")


@handled
def diff(
    a: Annotated[Path, typer.Argument(metavar="A", help="The older table.")],
    b: Annotated[Path, typer.Argument(metavar="B", help="The newer table.")],
    gate: Annotated[bool, typer.Option("--gate", help="Exit 1 where B is slower beyond the threshold.")] = False,
    threshold: Annotated[float, typer.Option("--threshold", min=0, help="Allowed slow-down, a share.")] = 0.05,
    space: Annotated[
        str | None,
        typer.Option("--space", help="Compare this space's (or FILE.yaml's) best networks; default: what was built."),
    ] = None,
    input: InputOption = None,
    max_depth: MaxDepthOption = None,
    json: JsonOption = False,
) -> None:
    """Compare two tables: which blocks changed, and whether the best networks do."""
    from dfmobile.errors import DfmobileError
    from dfmobile.latency.compare import compare_tables

    size = parse_size(input) if input else None
    result = compare_tables(a, b, threshold=threshold, space=space, size=size, max_depth=max_depth)
    if json:
        print_json(result.to_dict())
    else:
        _print_blocks(result.blocks)
        for item in result.spaces:
            _print_space(item)
        for note in result.notes:
            typer.echo(f"note: {note}")
    regressions = result.regressions
    if not json and not regressions:
        typer.echo(f"no regression beyond {100 * threshold:g} %")
    if not json and regressions and not gate:
        typer.echo(f"regression: {'; '.join(regressions)}")
    if gate and regressions:
        raise DfmobileError(
            f"regression beyond {100 * threshold:g} %: {'; '.join(regressions[:3])}"
            + (f"; and {len(regressions) - 3} more" if len(regressions) > 3 else ""),
            hint="rule out the machine: build A's version again now, and compare with that",
        )


def _print_blocks(result: TableDiff) -> None:
    from rich.table import Table

    typer.echo(f"A {result.a}")
    typer.echo(f"B {result.b}")
    for item in result.differences:
        typer.echo(f"A, B: {item}")
    low, high = result.common_interval
    what = "drift of the machine" if result.same_software else "drift of the machine, or the software"
    typer.echo(f"common to all blocks: x {result.common:.4f} ({low:.4f} to {high:.4f}): {what}; taken out below")
    for name, texts in (("A", result.only_a), ("B", result.only_b)):
        if texts:
            typer.echo(f"only in {name}: {len(texts)} blocks")
    shown = [block for block in result.blocks if block.changed or block.regressed]
    typer.echo(f"{len(shown)} of {len(result.blocks)} blocks changed significantly")
    if not shown:
        return
    table = Table("block", "shapes")
    for title in ("A ms", "B ms", "ratio", "95 %", "fastest runs", ""):
        table.add_column(title, justify="right")
    for block in shown:
        interval = f"{block.interval[0]:.3f} to {block.interval[1]:.3f}"
        row = (f"{block.a_ms:.4f}", f"{block.b_ms:.4f}", f"{block.ratio:.3f}", interval, f"{block.floor_ratio:.3f}")
        mark = "SLOWER" if block.regressed else ""
        table.add_row(block.kind, block.text.removeprefix(f"{block.kind} "), *row, mark)
    print_table(table)


def _print_space(item: SpaceDiff) -> None:
    from rich.table import Table

    if item.rank_correlation is None:
        typer.echo(f"networks built by themselves, at {item.input}:")
    else:
        verdict = "change" if item.changed else "do not change beyond measurement error"
        typer.echo(
            f"{item.space} at {item.input}: {item.networks} networks, rank correlation {item.rank_correlation:.5f}; "
            f"the best networks (most MACs within the target) {verdict}"
        )
    table = Table("target ms", "best by A")
    for title in ("A ms", "B ms", "95 % of B/A", "best by B", ""):
        table.add_column(title, justify="left" if title == "best by B" else "right")
    for best in item.best:
        target = "-" if best.target_ms is None else f"{best.target_ms:.3f}"
        other = "-" if best.choice_b is None else best.choice_b if best.moved else "the same"
        interval = f"{best.interval[0]:.3f} to {best.interval[1]:.3f}"
        mark = "SLOWER" if best.regressed else "too slow" if best.too_slow else ""
        table.add_row(target, best.encoding, f"{best.a_ms:.3f}", f"{best.b_ms:.3f}", interval, other, mark)
    print_table(table)
