"""``dfmobile bench``: the latency of a model file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dfmobile.cli.common import (
    REPLAY,
    BackendOption,
    BackendOptionsOption,
    DeviceOption,
    JsonOption,
    PrecisionOption,
    ThreadsOption,
    handled,
    parse_backend_options,
    print_json,
    say,
)

if TYPE_CHECKING:
    from dfmobile.latency.backends.base import Backend


def register(parent: typer.Typer) -> None:
    """Add the command."""
    parent.command("bench")(bench)


@handled
def bench(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model file of the backend's format.")],
    device: DeviceOption = "local",
    backend: BackendOption = "litert",
    backend_option: BackendOptionsOption = None,
    threads: ThreadsOption = 1,
    precision: PrecisionOption = "fp32",
    passes: Annotated[
        int | None,
        typer.Option("--passes", min=1, max=1000, help="Fresh interpreters (default 5); not with the next three."),
    ] = None,
    sustained: Annotated[
        float | None,
        typer.Option("--sustained", metavar="SECONDS", help="Steady state against the first minute (or tenth)."),
    ] = None,
    cadence: Annotated[
        float | None,
        typer.Option("--cadence", metavar="HZ", help="At a camera's pace, beside back-to-back runs."),
    ] = None,
    mlperf: Annotated[
        bool, typer.Option("--mlperf", help="Single stream as MLPerf: 1,024 queries and 60 s at least, 90 % quantile.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Measure a model file end to end, on several fresh interpreters; or one interpreter over time."""
    from dfmobile.devices.device import open_device
    from dfmobile.errors import InputError
    from dfmobile.latency.backends.base import open_backend
    from dfmobile.latency.bench import BENCH_PROTOCOL, bench_model

    given = {"--sustained": sustained is not None, "--cadence": cadence is not None, "--mlperf": mlperf}
    modes = [name for name, is_given in given.items() if is_given]
    if len(modes) > 1:
        raise InputError(f"{' and '.join(modes)} exclude one another", hint="run one after the other")
    if modes and passes is not None:
        raise InputError(f"{modes[0]} keeps one interpreter running, so it takes no --passes")
    passes = passes or BENCH_PROTOCOL.passes
    with open_device(device) as opened:
        options = parse_backend_options(backend_option)
        runtime = open_backend(backend, opened, threads=threads, precision=precision, options=options)
        runtime.tell = say
        if modes:
            _bench_mode(model, runtime, sustained, cadence, json)
            return
        protocol = dataclasses.replace(BENCH_PROTOCOL, passes=passes, threads=threads)
        result = bench_model(model, opened, runtime, protocol, precision=precision)
    if json:
        print_json(result.to_dict())
        return
    statistics = result.statistics
    if result.replay:
        typer.echo(REPLAY)
    repeated = ("engine" if runtime.least_passes > 1 else "interpreter") + ("" if passes == 1 else "s")
    half = "" if result.half_width_ms is None else f" ± {result.half_width_ms:.4f}"
    typer.echo(f"{model} on {opened.uri} with {backend}, {threads} thread(s), {precision}")
    typer.echo(f"median {result.median_ms:.4f}{half} ms (95 %, {passes} {repeated}, {statistics.runs} runs)")
    clock = result.provenance["clock"]
    if statistics.p5_ms is None or statistics.p95_ms is None:
        typer.echo(f"the backend gives aggregates only, no samples: p5 and p95 are not known; clock {clock}")
    else:
        typer.echo(f"p5 {statistics.p5_ms:.4f} ms, p95 {statistics.p95_ms:.4f} ms; clock {clock}")
    if result.init_ms is not None:
        typer.echo(f"ready after {result.init_ms:.1f} ms")
    for remark in result.remarks:
        typer.echo(remark)
    if result.peak_memory_bytes is not None:
        typer.echo(f"peak memory {result.peak_memory_bytes / 1e6:.1f} MB")


def _bench_mode(model: Path, backend: Backend, sustained: float | None, cadence: float | None, json: bool) -> None:
    """Measure over time and print; MLPerf's scenario where neither time nor pace is given."""
    from dfmobile.latency.bench_modes import bench_cadence, bench_mlperf, bench_sustained

    if sustained is not None:
        result = bench_sustained(model, backend, sustained)
    elif cadence is not None:
        result = bench_cadence(model, backend, cadence)
    else:
        result = bench_mlperf(model, backend)
    if json:
        print_json(result.to_dict())
        return
    typer.echo(f"{model} on {result.device} with {result.backend}, {backend.threads} thread(s), {backend.precision}")
    for line in result.lines:
        typer.echo(line)
