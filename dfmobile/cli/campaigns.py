"""What commands that search share: run a campaign, re-measure its boundary, print what was found."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from dfmobile.cli.common import print_json, print_table, say
from dfmobile.cli.progress import ProgressLine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dfmobile.architecture.spaces import SearchSpace
    from dfmobile.latency.backends.base import Backend
    from dfmobile.latency.header import TableHeader
    from dfmobile.latency.measurement import Protocol
    from dfmobile.search.campaign import CampaignProgress, CampaignResult
    from dfmobile.search.remeasure import RemeasureResult
    from dfmobile.search.settings import CampaignSettings

DEVICE_PROFILE_NAME = "device.yaml"


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
    covered_only: bool = False,
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
        covered_only: of a recorded table: leave out what it does not cover.
    """
    from dfmobile.devices.uri import parse_device
    from dfmobile.latency.table import LatencyTable

    with LatencyTable.open(lut) as table:
        header = table.header
    # Before hours of training, not after.
    if device is not None:
        parse_device(device)
    unmeasurable = unmeasurable_because(header.backend, backend_options or {}, asked=device is not None)
    result = run_search(
        folder, space, lut, evaluator, options, settings,
        executor=executor, workers=workers, command=command, rule=rule, covered_only=covered_only,
    )  # fmt: skip
    return result, measure_boundary(
        folder, header, device=device, protocol=protocol, backend_options=backend_options, unmeasurable=unmeasurable
    )


def run_search(
    folder: Path,
    space: SearchSpace,
    lut: Path,
    evaluator: str,
    options: Mapping[str, Any],
    settings: CampaignSettings,
    *,
    executor: str = "local",
    workers: int = 2,
    command: str = "",
    rule: str | None = None,
    covered_only: bool = False,
) -> CampaignResult:
    """Run or continue a campaign; progress goes to stderr. Arguments are those of ``conduct``."""
    from dfmobile import registry
    from dfmobile.devices.profile import DeviceProfile, save_profile
    from dfmobile.latency.recorded_predictor import open_predictor
    from dfmobile.latency.table import LatencyTable
    from dfmobile.search.campaign import STORE_NAME, run_campaign
    from dfmobile.search.certificate import CERTIFICATE_NAME
    from dfmobile.search.store import CampaignStore

    with LatencyTable.open(lut) as table:
        header = table.header
        predictor = open_predictor(table, rule, covered_only=covered_only)
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
    if header.device_profile:  # a recorded table does not know its device
        save_profile(DeviceProfile.model_validate(header.device_profile, strict=False), folder / DEVICE_PROFILE_NAME)
    if command:
        with CampaignStore(folder / STORE_NAME) as store:
            store.set_meta(command=command)
    return result


def measure_boundary(
    folder: Path,
    header: TableHeader,
    *,
    device: str | None,
    protocol: Protocol | None = None,
    backend_options: Mapping[str, str] | None = None,
    unmeasurable: str = "",
) -> RemeasureResult:
    """Export a campaign's boundary and measure it end to end; what no device is there for is said.

    Args:
        folder: run folder.
        header: of the table that predicted it.
        device: where to measure; None: the table's.
        protocol: None for the bench protocol.
        backend_options: of the table's backend.
        unmeasurable: why it cannot be measured, where that is known already.
    """
    from dfmobile.devices.device import open_device
    from dfmobile.errors import DeviceError
    from dfmobile.latency.backends.base import open_backend
    from dfmobile.latency.bench import BENCH_PROTOCOL
    from dfmobile.search.remeasure import remeasure

    uri = device or str(header.device)
    chosen = protocol or BENCH_PROTOCOL
    if header.granularity == "layer":
        unmeasurable = f"the latencies were recorded by somebody else ({header.device_summary})"
    if unmeasurable:
        return remeasure(folder, None, chosen, unreachable=unmeasurable, progress=say)
    try:
        opened = open_device(uri)
    except DeviceError as error:
        return remeasure(folder, None, chosen, unreachable=str(error), progress=say)
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
            return remeasure(folder, None, chosen, unreachable=unlike, progress=say)
        return remeasure(folder, backend, chosen, progress=say)


def unmeasurable_because(backend: str, options: Mapping[str, str], *, asked: bool) -> str:
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
