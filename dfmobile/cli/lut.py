"""``dfmobile lut``: latency tables."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer

from dfmobile.cli import lut_fidelity, lut_tools
from dfmobile.cli.common import (
    REPLAY,
    BackendOption,
    BackendOptionsOption,
    DeviceOption,
    InputOption,
    JsonOption,
    PrecisionOption,
    ThreadsOption,
    handled,
    parse_backend_options,
    parse_size,
    print_json,
    print_table,
    say,
)
from dfmobile.cli.progress import ProgressLine, duration_text
from dfmobile.cli.space import MaxDepthOption

app = typer.Typer(
    no_args_is_help=True, help="Latency tables: build, show, calibrate, validate, exchange, merge, compare."
)


def register(parent: typer.Typer) -> None:
    """Add the sub-commands."""
    lut_tools.register(app)
    lut_fidelity.register(app)
    parent.add_typer(app, name="lut")


@app.command("build")
@handled
def build(
    output: Annotated[Path, typer.Option("--output", "-o", metavar="TABLE.sqlite", help="Table to make or complete.")],
    space: Annotated[
        str | None, typer.Option("--space", help="Search space whose blocks are measured, or a FILE.yaml.")
    ] = None,
    network: Annotated[
        str | None, typer.Option("--network", metavar="ARCH", help="Instead of a space: one network's blocks.")
    ] = None,
    input: InputOption = None,
    device: DeviceOption = "local",
    backend: BackendOption = "litert",
    backend_option: BackendOptionsOption = None,
    threads: ThreadsOption = 1,
    precision: PrecisionOption = "fp32",
    passes: Annotated[
        int | None,
        typer.Option(
            "--passes",
            min=1,
            max=1000,
            help="Fresh interpreters a block; default 3, or 1 to begin with where --half-width is given.",
        ),
    ] = None,
    half_width: Annotated[
        float | None,
        typer.Option(
            "--half-width",
            metavar="SHARE",
            help="Then measure on until half of each 95 % interval is below this share of the latency, e.g. 0.03.",
        ),
    ] = None,
    half_width_of: Annotated[
        str, typer.Option("--half-width-of", metavar="blocks|networks", help="Whose interval --half-width is about.")
    ] = "blocks",
    time_budget: Annotated[
        float | None,
        typer.Option(
            "--time-budget", metavar="SECONDS", help="Stop measuring on after this; without --half-width it is 0.03."
        ),
    ] = None,
    latency_max: Annotated[
        float | None,
        typer.Option("--latency-max", metavar="MS", help="Skip blocks that cost more than this (GPUs: add more)."),
    ] = None,
    max_depth: MaxDepthOption = None,
    json: JsonOption = False,
) -> None:
    """Measure the blocks of a search space into a table; run again to continue after an interruption."""
    from dfmobile.architecture import Network, resolve, zoo
    from dfmobile.architecture import build as build_network
    from dfmobile.architecture.spaces import SearchSpace, open_space
    from dfmobile.devices.device import open_device
    from dfmobile.errors import InputError
    from dfmobile.latency.adaptive import ADAPTIVE_PROTOCOL, adaptive_target
    from dfmobile.latency.backends.base import open_backend
    from dfmobile.latency.builder import BuildProgress, build_table
    from dfmobile.latency.measurement import Protocol
    from dfmobile.latency.table import LatencyTable
    from dfmobile.latency.working_set import stored_working_set

    target = adaptive_target(half_width, half_width_of, time_budget)
    protocol = Protocol() if target is None else ADAPTIVE_PROTOCOL
    protocol = dataclasses.replace(protocol, passes=passes or protocol.passes, threads=threads)
    if (space is None) == (network is None):
        raise InputError("name what to measure: either --space or --network", hint="for example --space df")
    if network is not None:
        architecture = resolve(network)
        found = zoo.find(network)
        default = (zoo.get(found).width, zoo.get(found).height) if found else zoo.default_input(architecture)
        width, height = parse_size(input) if input else default
        source: Network | SearchSpace = build_network(architecture, width, height)
    else:
        source = opened_space = open_space(space or "", max_depth)
        width, height = parse_size(input) if input else opened_space.default_input
    with open_device(device) as opened, ProgressLine("measuring") as line:
        options = parse_backend_options(backend_option)
        runtime = open_backend(backend, opened, threads=threads, precision=precision, options=options)
        runtime.tell = say
        first = True

        def progress(step: BuildProgress) -> None:
            nonlocal first
            if first and step.done < step.total:
                say(
                    f"{output}: {step.total - step.done} of {step.total} passes to measure on {opened.uri} "
                    f"with {backend}, about {duration_text(step.seconds_left)}"
                )
            first = False
            line.update(step.done, step.total, step.block, left_s=step.seconds_left)

        if runtime.replay:
            say(REPLAY)
        report = build_table(
            output,
            source,
            width,
            height,
            opened,
            runtime,
            protocol,
            precision=precision,
            latency_max_ms=latency_max,
            target=target,
            progress=progress,
            measure_caches=True,
            tell=say,
        )
    with LatencyTable.open(output) as table:
        working_set = stored_working_set(table)
        replay = table.header.replay
    if json:
        document = None if working_set is None else working_set.model_dump(mode="json")
        print_json({**report.to_dict(), "working_set": document, "replay": replay})
    else:
        if replay:
            typer.echo(REPLAY)
        typer.echo(f"{output}: {report.text}")
        if report.reached is not None:
            typer.echo(report.reached.text)
        for remark in report.guards.lines:
            typer.echo(remark)
        if working_set is not None:
            typer.echo(working_set.text)


@app.command("show")
@handled
def show(
    table: Annotated[Path, typer.Argument(metavar="TABLE")],
    json: JsonOption = False,
) -> None:
    """Show a table: what it belongs to, how much it covers, its entries."""
    from dfmobile.latency.coverage import table_document
    from dfmobile.latency.table import LatencyTable
    from dfmobile.latency.working_set import WorkingSet

    with LatencyTable.open(table) as opened:
        document = table_document(opened)
    if json:
        print_json(document)
        return
    from rich.table import Table

    verb = "measured" if document["granularity"] == "block" else "recorded by others, not measured,"
    if document["replay"]:
        verb = "PLAYED"
        typer.echo(REPLAY)
    typer.echo(f"{table}: {document['granularity']}s {verb} with {document['runtime']} ({document['backend']})")
    typer.echo(f"device {document['device']}: {document['device_summary']}")
    typer.echo(
        f"precision {document['precision']}, threads {document['threads']}, affinity {document['affinity'] or '-'}"
    )
    for item in document["builds"]:
        typer.echo(
            f"{item['target']} at {item['input']}: {item['measured']} of {item['blocks']} {document['granularity']}s"
        )
    if document["working_set"] is not None:
        typer.echo(WorkingSet.model_validate(document["working_set"]).text)
    for item in document["calibrations"]:
        error = 100 * item["coefficients"].get("left_out_error", float("nan"))
        typer.echo(
            f"calibrated: {len(item['networks'])} networks of {item['space']} at {item['input']} on "
            f"{item['measured_utc'][:10]}, left out one by one within {error:.1f} % on average"
        )
    shown = Table("block", "shapes (C x H x W) and key")
    marginal = any(entry["measure"] == "marginal" for entry in document["entries"])
    if marginal:
        typer.echo("hot ms: what a block adds to a network; alone ms: the block as an engine of its own")
    for title in ("hot ms", "± ms", "alone ms" if marginal else "cold ms", "n", "passes"):
        shown.add_column(title, justify="right")
    for entry in sorted(document["entries"], key=lambda item: (item["kind"], item["hot_ms"])):
        half = "-" if entry["half_width"] is None else f"{entry['half_width']:.4f}"
        other = entry["isolated_ms"] if marginal else entry["cold_ms"]
        cold = "-" if other is None else f"{other:.4f}"
        text = entry["text"].removeprefix(f"{entry['kind']} ")
        shown.add_row(entry["kind"], text, f"{entry['hot_ms']:.4f}", half, cold, _samples(entry), str(entry["passes"]))
    print_table(shown)
    if any(entry["samples"] == "aggregate" for entry in document["entries"]):
        typer.echo("n: aggregate means that the backend gave one value of each pass, no samples; in brackets its runs")
    for item in document["skipped"]:
        typer.echo(f"skipped: {item['text']}: {item['measured_ms']:.3f} ms, limit {item['limit_ms']:g} ms")
    guards = document["guards"]
    for count in Counter(item["guard"] for item in guards["rejected"]).items():
        typer.echo(f"rejected by the guard of {count[0]}: {count[1]} passes (reasons: --json)")
    if guards["largest_drift"] is not None:
        typer.echo(f"anchors: {guards['anchors']} measurements, at most {100 * guards['largest_drift']:.1f} % off")
    for item in guards["findings"]:
        typer.echo(
            f"against the order: {item['wide']} takes {item['wide_ms']:.4g} ms, less than the narrower"
            f" {item['narrow']} with {item['narrow_ms']:.4g} ms"
        )


def _samples(entry: dict[str, Any]) -> str:
    """Return how many samples an entry has; of an aggregate, how many runs are behind it."""
    return str(entry["n"]) if entry["samples"] == "raw" else f"aggregate ({entry['runs']})"
