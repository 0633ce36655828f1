"""``dfmobile search``: Partial Order Pruning over a space, ``search why`` and ``search verify``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dfmobile.cli.common import (
    BackendOptionsOption,
    InputOption,
    JsonOption,
    handled,
    parse_backend_options,
    parse_latency_range,
    parse_options,
    parse_size,
    print_json,
    print_table,
    say,
)
from dfmobile.cli.predict import table_input
from dfmobile.cli.progress import ProgressLine
from dfmobile.cli.space import MaxDepthOption

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dfmobile.architecture.spaces import SearchSpace
    from dfmobile.latency.backends.base import Backend
    from dfmobile.latency.header import TableHeader
    from dfmobile.latency.measurement import Protocol
    from dfmobile.search.campaign import CampaignProgress, CampaignResult
    from dfmobile.search.remeasure import RemeasureResult
    from dfmobile.search.settings import CampaignSettings

app = typer.Typer(
    help="Search a space with Partial Order Pruning; `search why` explains one architecture, `search verify` checks a "
    "certificate.",
    invoke_without_command=True,
)
DEVICE_PROFILE_NAME = "device.yaml"


def register(parent: typer.Typer) -> None:
    """Add the command and its sub-command."""
    parent.add_typer(app, name="search")


def conduct(
    folder: Path,
    space: SearchSpace,
    lut: Path,
    evaluator: str,
    options: Mapping[str, Any],
    settings: CampaignSettings,
    *,
    device: str | None,
    executor: str = "local",
    workers: int = 2,
    protocol: Protocol | None = None,
    backend_options: Mapping[str, str] | None = None,
    command: str = "",
    rule: str | None = None,
) -> tuple[CampaignResult, RemeasureResult]:
    """Run or continue a campaign, then re-measure its boundary; progress goes to stderr.

    Args:
        folder: run folder.
        space: search space.
        lut: table that predicts it.
        evaluator: registered name.
        options: of the evaluator.
        settings: of the campaign, input size included.
        device: where the boundary is re-measured; None: the table's.
        executor: registered name.
        workers: processes that evaluate.
        protocol: of the re-measurement; None for the bench protocol.
        backend_options: of the table's backend, which re-measures.
        command: recorded with the run, for the report.
        rule: that predicts; None: the best that the table has.
    """
    from dfmobile import registry
    from dfmobile.devices.device import open_device
    from dfmobile.devices.profile import DeviceProfile, save_profile
    from dfmobile.devices.uri import parse_device
    from dfmobile.errors import DeviceError
    from dfmobile.latency.backends.base import open_backend
    from dfmobile.latency.bench import BENCH_PROTOCOL
    from dfmobile.latency.predictor import Predictor
    from dfmobile.latency.table import LatencyTable
    from dfmobile.search.campaign import STORE_NAME, run_campaign
    from dfmobile.search.certificate import CERTIFICATE_NAME
    from dfmobile.search.remeasure import remeasure
    from dfmobile.search.store import CampaignStore

    with LatencyTable.open(lut) as table:
        header = table.header
        predictor = Predictor(table, rule)
    # Before hours of training, not after.
    if device is not None:
        parse_device(device)
    unmeasurable = _unmeasurable(header.backend, backend_options or {}, asked=device is not None)
    described = {
        "path": str(lut.resolve()),
        "rule": predictor.rule_for(space, *(settings.input_size or space.default_input)),
        **header.model_dump(mode="json", exclude={"device_profile"}),
    }
    with (
        registry.load("dfmobile.executors", executor)(workers=workers) as pool,
        ProgressLine("evaluated", every_s=10.0) as line,
    ):

        def progress(step: CampaignProgress) -> None:
            note = f"{step.alive} of {step.total} alive"
            if step.record is not None:
                note += f"  {step.event} {step.record.encoding}"
                if step.event == "evaluated" and step.record.accuracy is not None:
                    note += f"  accuracy {step.record.accuracy:.4f} at {step.record.predicted_ms:.4f} ms"
            goal = step.evaluated + step.alive if step.budget is None else step.budget
            line.update(step.evaluated, max(goal, step.evaluated), note)

        result = run_campaign(
            folder, space, predictor, evaluator, options, pool, settings, progress, table=described, table_file=lut,
            tell=say,
        )  # fmt: skip
    if (folder / CERTIFICATE_NAME).exists():
        say(f"no candidate is left: {folder / CERTIFICATE_NAME}; check it: dfmobile search verify {folder}")
    say(
        f"searched: {len(result.evaluations)} of {result.total} evaluated, {result.pruned} ruled out, "
        f"{result.alive} left; {len(result.boundary)} on the boundary"
    )
    save_profile(DeviceProfile.model_validate(header.device_profile, strict=False), folder / DEVICE_PROFILE_NAME)
    if command:
        with CampaignStore(folder / STORE_NAME) as store:
            store.set_meta(command=command)
    uri = device or str(header.device)
    chosen = protocol or BENCH_PROTOCOL
    if unmeasurable:
        return result, remeasure(folder, None, chosen, unreachable=unmeasurable, progress=say)
    try:
        opened = open_device(uri)
    except DeviceError as error:
        return result, remeasure(folder, None, chosen, unreachable=str(error), progress=say)
    with opened:
        backend = open_backend(
            header.backend,
            opened,
            threads=header.threads,
            precision=header.precision,
            options=backend_options,
        )
        backend.tell = say
        if unlike := _unlike_the_table(header, backend):
            return result, remeasure(folder, None, chosen, unreachable=unlike, progress=say)
        return result, remeasure(folder, backend, chosen, progress=say)


def _unmeasurable(backend: str, options: Mapping[str, str], *, asked: bool) -> str:
    """Return why a table's backend cannot re-measure for want of options; empty where it can.

    Args:
        backend: of the table; one that is not registered is the re-measurement's matter.
        options: given.
        asked: the user named a device, or an option: then a want is an error.

    Raises:
        InputError: if an option is unknown, or one is missing that re-measuring needs and the user wants it.
    """
    from dfmobile import registry
    from dfmobile.errors import InputError
    from dfmobile.latency.backends.base import GROUP, check_backend_options

    if backend not in registry.names(GROUP):
        return ""
    try:
        check_backend_options(backend, options)
    except InputError as error:
        if asked or options:
            raise
        return str(error)
    return ""


def _unlike_the_table(header: TableHeader, backend: Backend) -> str:
    """Return why a backend, by its options, measures something else than its table predicts; empty: it does not.

    On another device, which the user named, it does so anyway.
    """
    from dfmobile.latency.header import TableHeader

    if not backend.options or backend.device.fingerprint != header.device_fingerprint:
        return ""
    found = header.differences(TableHeader.of(backend))
    return f"the options of backend {backend.name} are not the table's: {'; '.join(found)}" if found else ""


def print_result(folder: Path, result: CampaignResult, measured: RemeasureResult, *, json: bool) -> None:
    """Print the boundary, predicted beside measured."""
    if json:
        print_json(
            {
                "run": str(folder),
                "evaluated": len(result.evaluations),
                "candidates": result.total,
                "ruled_out": result.pruned,
                "alive": result.alive,
                "finished": result.finished,
                "boundary": measured.records,
                "bias": measured.bias,
                "notes": measured.notes,
            }
        )
        return
    from rich.table import Table

    table = Table("architecture", title="Boundary", title_justify="left")
    for title in ("accuracy", "predicted ms", "measured ms", "error", "weights"):
        table.add_column(title, justify="right")
    for item in measured.records:
        found = item["measured_ms"]
        error = "-" if found is None else f"{item['predicted_ms'] / found - 1:+.1%}"
        table.add_row(
            item["encoding"],
            f"{item['accuracy']:.4f}",
            f"{item['predicted_ms']:.4f}",
            item["status"] if found is None else f"{found:.4f}",
            error,
            item["weights"],
        )
    print_table(table)
    for note in measured.notes:
        typer.echo(f"note: {note}")
    typer.echo(f"{folder / 'boundary.json'}; model files in {folder / 'models'}")


@app.callback()
@handled
def search(
    context: typer.Context,
    space: Annotated[str | None, typer.Option("--space", help="Search space: its name, or a FILE.yaml.")] = None,
    lut: Annotated[Path | None, typer.Option("--lut", metavar="TABLE", help="Latency table.")] = None,
    evaluator: Annotated[
        str | None,
        typer.Option(
            "--evaluator",
            help="Gives accuracies: tabular, training, segmentation (of decoders), analytic (simulated).",
        ),
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", metavar="RUN/", help="Run folder.")] = None,
    input: InputOption = None,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="URI", help="To re-measure on; default: the table's."),
    ] = None,
    backend_option: BackendOptionsOption = None,
    mode: Annotated[
        str,
        typer.Option(
            "--mode",
            help="budget: best boundary within --budget. certified: until no candidate is left, with a certificate. "
            "paper: uniform draws, as published. Baselines: random, stratified, evolution, nsga2, tpe.",
        ),
    ] = "budget",
    margin: Annotated[
        float | None,
        typer.Option("--margin", min=0, help="certified: noise that is allowed for, in standard deviations [2]."),
    ] = None,
    sigma: Annotated[
        float | None,
        typer.Option("--sigma", min=0, help="certified: standard deviation of an accuracy; default: from --repeats."),
    ] = None,
    repeats: Annotated[
        int | None,
        typer.Option("--repeats", min=2, help="certified: seeds of the first 4 architectures, for sigma [3]."),
    ] = None,
    latency: Annotated[
        str | None, typer.Option("--latency", metavar="LO:HI", help="Candidates' predicted latency, ms.")
    ] = None,
    budget: Annotated[
        int | None, typer.Option("--budget", min=1, help="Evaluations at most; default: until none is left.")
    ] = None,
    max_depth: MaxDepthOption = None,
    rule: Annotated[
        str | None, typer.Option("--rule", help="How block latencies combine; default: the best that the table has.")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0)] = 0,
    executor: Annotated[str, typer.Option("--executor", help="Runs the evaluations.")] = "local",
    workers: Annotated[int, typer.Option("--workers", min=1, max=256, help="Processes that evaluate.")] = 2,
    lookahead: Annotated[
        int,
        typer.Option("--lookahead", min=1, max=256, help="Draw n sees the results of draws 1 to n - LOOKAHEAD."),
    ] = 2,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", metavar="KEY=VALUE", help="Option of the evaluator (repeatable)."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Search a space: train only what the table and the partial order have not ruled out; re-measure the boundary.

    Run the same command again to continue after an interruption.
    """
    if context.invoked_subcommand is not None:
        return
    from dfmobile.architecture.spaces import open_space
    from dfmobile.errors import InputError
    from dfmobile.latency.table import LatencyTable
    from dfmobile.search.settings import CampaignSettings

    given = {"--space": space, "--lut": lut, "--evaluator": evaluator, "--output": output}
    lacking = [name for name, value in given.items() if value is None]
    if space is None or lut is None or evaluator is None or output is None:
        typer.echo(context.get_usage(), err=True)
        typer.echo(f"Error: missing option {lacking[0]}", err=True)
        raise typer.Exit(2)
    opened = open_space(space, max_depth)
    with LatencyTable.open(lut) as table:
        size = parse_size(input) if input else table_input(table, opened.default_input)
    if not output.parent.exists():
        raise InputError(f"folder {output.parent} does not exist", hint="make it, or choose another -o")
    settings = CampaignSettings(
        mode=mode,
        latency_range=parse_latency_range(latency),
        budget=budget,
        seed=seed,
        lookahead=lookahead,
        input_size=size,
        mode_options={
            name: value
            for name, value in (("margin", margin), ("sigma", sigma), ("repeats", repeats))
            if value is not None
        },
    )
    result, measured = conduct(
        output,
        opened,
        lut,
        evaluator,
        parse_options(option or []),
        settings,
        device=device,
        backend_options=parse_backend_options(backend_option),
        executor=executor,
        workers=workers,
        command=shlex.join(["dfmobile", *sys.argv[1:]]),
        rule=rule,
    )
    print_result(output, result, measured, json=json)


@app.command("why")
@handled
def why(
    architecture: Annotated[str, typer.Argument(metavar="ARCH", help="Zoo name, encoding text or .json file.")],
    run: Annotated[Path, typer.Option("--run", metavar="RUN", help="Folder of a search.")],
    json: JsonOption = False,
) -> None:
    """Say why an architecture is alive, evaluated or ruled out."""
    from dfmobile.architecture import resolve
    from dfmobile.search.campaign import load_campaign
    from dfmobile.search.explain import explain

    campaign = load_campaign(run)
    try:
        found = explain(campaign, resolve(architecture))
    finally:
        campaign.store.close()
    if json:
        print_json(found.to_dict())
    else:
        typer.echo(f"{found.encoding}: {found.status}: {found.text}")


@app.command("verify")
@handled
def verify_certificate(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a search in mode certified.")],
    json: JsonOption = False,
) -> None:
    """Check the certificate of a search anew: from the encodings, the table's copy and the results alone."""
    from dfmobile.errors import CertificateError
    from dfmobile.search.verify import SHOWN, verify

    found = verify(run)
    if json:
        print_json({"holds": found.holds, "problems": found.problems, "notes": found.notes, **found.facts})
    if not found.holds:
        more = f"; and {len(found.problems) - SHOWN} more" if len(found.problems) > SHOWN else ""
        raise CertificateError(
            f"the certificate in {run} does not hold: {'; '.join(found.problems[:SHOWN])}{more}",
            hint="something was changed after the search; restore the folder from a copy, or search again",
        )
    if json:
        return
    facts = found.facts
    typer.echo(
        f"the certificate holds: {facts['candidates']} candidates, {facts['evaluated']} evaluated, "
        f"{facts['ruled_out_by_results']} ruled out by results and {facts['ruled_out_by_table']} by the table alone; "
        f"{facts['boundary']} on the boundary"
    )
    falls = facts["violations"]
    typer.echo(f"conditions: {'; '.join(facts['conditions'])}")
    typer.echo(f"of {falls['pairs']} evaluated pairs along the order, accuracy falls in {falls['fell']}")
    for note in found.notes:
        typer.echo(f"note: {note}")
