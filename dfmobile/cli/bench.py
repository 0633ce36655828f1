"""``dfmobile bench``: the latency of a model file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from dfmobile.cli.common import (
    BackendOption,
    DeviceOption,
    JsonOption,
    PrecisionOption,
    ThreadsOption,
    handled,
    print_json,
)


def register(parent: typer.Typer) -> None:
    """Add the command."""
    parent.command("bench")(bench)


@handled
def bench(
    model: Annotated[Path, typer.Argument(metavar="MODEL", help="Model file of the backend's format.")],
    device: DeviceOption = "local",
    backend: BackendOption = "litert",
    threads: ThreadsOption = 1,
    precision: PrecisionOption = "fp32",
    passes: Annotated[int, typer.Option("--passes", min=1, max=1000, help="Fresh interpreters.")] = 5,
    json: JsonOption = False,
) -> None:
    """Measure a model file end to end, on several fresh interpreters."""
    from dfmobile.devices.device import open_device
    from dfmobile.latency.backends.base import open_backend
    from dfmobile.latency.bench import BENCH_PROTOCOL, bench_model

    with open_device(device) as opened:
        runtime = open_backend(backend, opened, threads=threads, precision=precision)
        protocol = dataclasses.replace(BENCH_PROTOCOL, passes=passes, threads=threads)
        result = bench_model(model, opened, runtime, protocol, precision=precision)
    if json:
        print_json(result.to_dict())
        return
    statistics = result.statistics
    half = "" if result.half_width_ms is None else f" ± {result.half_width_ms:.4f}"
    typer.echo(f"{model} on {opened.uri} with {backend}, {threads} thread(s), {precision}")
    typer.echo(f"median {result.median_ms:.4f}{half} ms (95 %, {passes} interpreters, {statistics.n} runs)")
    typer.echo(f"p5 {statistics.p5_ms:.4f} ms, p95 {statistics.p95_ms:.4f} ms; clock {result.provenance['clock']}")
    typer.echo(f"ready after {result.init_ms:.1f} ms")
    if result.peak_memory_bytes is not None:
        typer.echo(f"peak memory {result.peak_memory_bytes / 1e6:.1f} MB")
