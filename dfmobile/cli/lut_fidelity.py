"""``dfmobile lut calibrate`` and ``lut validate``: whole networks, to correct predictions and to check them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dfmobile.cli.common import (
    BackendOptionsOption,
    InputOption,
    JsonOption,
    handled,
    parse_backend_options,
    parse_size,
    print_json,
    print_table,
    say,
)
from dfmobile.cli.progress import ProgressLine
from dfmobile.cli.space import MaxDepthOption

if TYPE_CHECKING:
    from dfmobile.architecture.spaces import SearchSpace
    from dfmobile.latency.header import TableHeader
    from dfmobile.latency.network_runs import RunProgress
    from dfmobile.latency.table import LatencyTable
    from dfmobile.latency.validation import Validation

TableArgument = Annotated[Path, typer.Argument(metavar="TABLE")]
SpaceOption = Annotated[
    str | None, typer.Option("--space", help="Search space or its FILE.yaml; needed where the table has several.")
]
DeviceOption = Annotated[
    str | None, typer.Option("--device", metavar="URI", help="Where to measure; default: the table's device.")
]
LatencyMaxOption = Annotated[
    float | None, typer.Option("--max-latency", metavar="MS", help="Only networks predicted to be faster.")
]


def register(app: typer.Typer) -> None:
    """Add the commands to ``dfmobile lut``."""
    app.command("calibrate")(calibrate)
    app.command("validate")(validate)


def _target(
    table: LatencyTable, space: str | None, size: str | None, max_depth: int | None
) -> tuple[SearchSpace, int, int]:
    """Return space and input size: those asked for, or the only ones that the table was built for."""
    from dfmobile.architecture.spaces import open_space
    from dfmobile.errors import InputError

    wanted = parse_size(size) if size else None
    opened = None if space is None else open_space(space, max_depth)
    found = list(
        dict.fromkeys(
            (build.space, build.width, build.height)
            for build in table.builds()
            if build.space
            and (opened is None or opened.name == build.space)
            and wanted in (None, (build.width, build.height))
        )
    )
    if len(found) != 1:
        known = ", ".join(f"{build.target} at {build.input_text}" for build in table.builds()) or "nothing"
        problem = "several builds fit" if found else "no build of a space fits"
        raise InputError(f"{table.path}: {problem}; it holds {known}", hint="name one: --space SPACE --input WxH")
    name, width, height = found[0]
    return opened or open_space(name, max_depth), width, height


def _header(table: Path, space: str | None, size: str | None, max_depth: int | None) -> tuple[Any, ...]:
    from dfmobile.latency.predictor import refuse_replay
    from dfmobile.latency.table import LatencyTable

    with LatencyTable.open(table) as opened:
        refuse_replay(opened)
        return opened.header, *_target(opened, space, size, max_depth)


def _backend_of(header: TableHeader, device: str | None) -> Any:
    """Return a context manager of the table's device, to be opened, and how its backend is opened on it."""
    from dfmobile.devices.device import open_device

    return open_device(device or header.device)


def _shower(line: ProgressLine) -> Any:
    def show(step: RunProgress) -> None:
        drift = "" if step.drift is None else f"anchor {step.drift:.2f}  "
        line.update(step.done, step.total, f"{drift}{step.network}")

    return show


@handled
def calibrate(
    table: TableArgument,
    networks: Annotated[int, typer.Option("--networks", min=8, max=1000, help="Measured whole.")] = 20,
    space: SpaceOption = None,
    input: InputOption = None,
    max_latency: LatencyMaxOption = None,
    passes: Annotated[int, typer.Option("--passes", min=1, max=100, help="Fresh interpreters a network.")] = 8,
    seed: Annotated[int, typer.Option("--seed", help="Of the choice of networks.")] = 0,
    device: DeviceOption = None,
    backend_option: BackendOptionsOption = None,
    max_depth: MaxDepthOption = None,
    json: JsonOption = False,
) -> None:
    """Measure some whole networks that span the space; predictions from the table are corrected by them."""
    from dfmobile.latency.backends.base import open_backend
    from dfmobile.latency.calibrate import calibrate_table

    header, opened_space, width, height = _header(table, space, input, max_depth)
    with _backend_of(header, device) as opened, ProgressLine("calibrating") as line:
        backend = open_backend(
            header.backend,
            opened,
            threads=header.threads,
            precision=header.precision,
            options=parse_backend_options(backend_option),
        )
        backend.tell = say
        report = calibrate_table(
            table,
            opened_space,
            width,
            height,
            backend,
            networks=networks,
            latency_max_ms=max_latency,
            passes=passes,
            seed=seed,
            progress=_shower(line),
            tell=say,
        )
    if json:
        print_json(report.to_dict())
        return
    if report.working_set is not None:
        typer.echo(report.working_set.text)
    typer.echo(f"{table}: {report.text}")
    if report.drift is not None:
        low, middle, high = report.drift
        typer.echo(f"anchor blocks ran at {middle:.2f} of their entries ({low:.2f} to {high:.2f})")
    typer.echo(f"disturbance: the median run of a network took {report.disturbance:.2f} of its fastest")


@handled
def validate(
    table: TableArgument,
    networks: Annotated[int, typer.Option("--networks", min=2, max=10_000, help="Fresh ones, measured whole.")] = 200,
    space: SpaceOption = None,
    input: InputOption = None,
    max_latency: LatencyMaxOption = None,
    half_width: Annotated[
        float, typer.Option("--half-width", help="Measure each until its latency is known to within this share (95 %).")
    ] = 0.02,
    rule: Annotated[str | None, typer.Option("--rule", help="Default: the best that the table has.")] = None,
    run: Annotated[
        Path | None, typer.Option("--run", metavar="RUN", help="Instead of fresh ones: the boundary of a search.")
    ] = None,
    csv: Annotated[Path | None, typer.Option("--csv", metavar="FILE", help="Write one row a network.")] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE.svg", help="Draw predicted over measured.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", help="Of the choice of networks.")] = 1,
    device: DeviceOption = None,
    backend_option: BackendOptionsOption = None,
    max_depth: MaxDepthOption = None,
    json: JsonOption = False,
) -> None:
    """Measure fresh networks whole and say how far the table's predictions are off."""
    from dfmobile.files import atomic_write
    from dfmobile.latency.backends.base import open_backend
    from dfmobile.latency.validation import validate_table, write_csv
    from dfmobile.report.validation_plot import validation_plot

    header, opened_space, width, height = _header(table, space, input, max_depth)
    encodings = None if run is None else _boundary(run)
    with _backend_of(header, device) as opened, ProgressLine("validating") as line:
        backend = open_backend(
            header.backend,
            opened,
            threads=header.threads,
            precision=header.precision,
            options=parse_backend_options(backend_option),
        )
        backend.tell = say
        found = validate_table(
            table,
            opened_space,
            width,
            height,
            backend,
            networks=networks,
            encodings=encodings,
            latency_max_ms=max_latency,
            half_width=half_width,
            rule=rule,
            seed=seed,
            progress=_shower(line),
        )
    if csv is not None:
        write_csv(csv, found)
    if plot is not None:
        atomic_write(plot, validation_plot(found))
    if json:
        print_json(found.to_dict())
    else:
        _print_validation(found)


def _boundary(run: Path) -> list[str]:
    """Return the encodings of a campaign's boundary."""
    from dfmobile.errors import FileFormatError
    from dfmobile.files import read_json

    document = read_json(run / "boundary.json")
    try:
        found = [str(item["encoding"]) for item in document]
    except (TypeError, KeyError) as error:
        raise FileFormatError(f"{run / 'boundary.json'} is not the boundary of a search") from error
    if not found:
        raise FileFormatError(f"{run / 'boundary.json'} is empty")
    return list(dict.fromkeys(found))


def _print_validation(found: Validation) -> None:
    from rich.table import Table

    whole = found.agreement
    typer.echo(f"{whole.n} networks of {found.space} at {found.width}x{found.height}, rule {found.rule}: {found.basis}")
    typer.echo(f"mean absolute error  {100 * whole.mape:.2f} %, bias {100 * whole.bias:+.2f} %")
    typer.echo(f"largest error        {100 * whole.max_error:.1f} %")
    typer.echo(f"within 5 %           {whole.within_5.text}")
    typer.echo(f"within 10 %          {whole.within_10.text}")
    typer.echo(f"Kendall tau          {whole.kendall_tau:.4f}")
    if found.coverage is not None:
        typer.echo(f"in their interval    {found.coverage.text} (95 % intended)")
    if found.noise_floor is not None:
        typer.echo(f"noise floor          {100 * found.noise_floor:.2f} % (same networks, two halves of the run)")
    typer.echo(f"measured to within {100 * found.half_width:g} % (95 %): {found.precise.text}")
    if found.drift is not None:
        low, middle, high = found.drift
        typer.echo(f"anchor blocks ran at {middle:.2f} of their entries ({low:.2f} to {high:.2f})")
    if found.rejected:
        typer.echo(f"{found.rejected} passes lay beside a disturbed anchor and were measured again")
    for name, other in found.by_rule.items():
        typer.echo(
            f"  rule {name:<12} mean absolute error {100 * other.mape:.2f} %, bias {100 * other.bias:+.2f} %, "
            f"within 5 % {100 * other.within_5.value:.1f} %, within 10 % {100 * other.within_10.value:.1f} %"
        )
    shown = Table("worst")
    for title in ("predicted ms", "interval", "measured ms", "error", "±", "anchor"):
        shown.add_column(title, justify="right")
    for item in found.worst:
        interval = "-" if item.interval_ms is None else f"{item.interval_ms[0]:.3f} to {item.interval_ms[1]:.3f}"
        shown.add_row(
            item.encoding,
            f"{item.predicted_ms:.3f}",
            interval,
            f"{item.measured_ms:.3f}",
            f"{100 * item.error:+.1f} %",
            f"{100 * item.half_width:.1f} %",
            "-" if item.drift is None else f"{item.drift:.2f}",
        )
    print_table(shown)
