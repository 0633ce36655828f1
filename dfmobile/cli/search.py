"""``dfmobile search``: Partial Order Pruning over a space, ``search why`` and ``search verify``."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from dfmobile.cli.campaigns import conduct, print_result
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
)
from dfmobile.cli.predict import table_input
from dfmobile.cli.space import MaxDepthOption

app = typer.Typer(
    help="Search a space with Partial Order Pruning; `search why` explains one architecture, `search verify` checks a "
    "certificate.",
    invoke_without_command=True,
)


def register(parent: typer.Typer) -> None:
    """Add the command and its sub-command."""
    parent.add_typer(app, name="search")


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
    covered_only: Annotated[
        bool,
        typer.Option("--covered-only", help="Recorded tables: leave out architectures that the table does not cover."),
    ] = False,
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
        covered_only=covered_only,
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
