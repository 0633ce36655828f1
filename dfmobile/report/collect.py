"""Fill :class:`ReportData` from a run folder: the campaign, its latency table and its device.

Whatever is not there is left unknown and said to be missing on the page; what is there and damaged is an error.
"""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dfmobile.architecture import Architecture, build
from dfmobile.errors import MissingBlocksError
from dfmobile.latency.predictor import Predictor
from dfmobile.latency.recorded_predictor import RecordedPredictor, open_predictor
from dfmobile.latency.table import LatencyTable
from dfmobile.report import numbers
from dfmobile.report.collect_device import DEVICE_NAME, device_conditions, device_facts, device_line, read_profile
from dfmobile.report.collect_table import (
    build_commands,
    clock_text,
    find_table,
    table_blocks,
    table_conditions,
    table_provenance,
)
from dfmobile.report.data import (
    CurvePoint,
    EvaluatedArchitecture,
    Fact,
    LatencyStrip,
    ReportData,
    Winner,
)
from dfmobile.report.references import reference_points
from dfmobile.report.scales import choose_kind
from dfmobile.search.campaign import load_campaign
from dfmobile.search.engine import Campaign
from dfmobile.search.factored import MAX_BITS, FactoredPruner
from dfmobile.search.pruning import EnumeratedPruner
from dfmobile.search.store import EvaluationRecord

STRIP_BINS = 60
_NOT_MEASURED = "not re-measured"
# What a mode is called where it is not Partial Order Pruning.
_METHODS = {
    "random": "Evaluation of architectures one by one",
    "stratified": "Stratified random search",
    "evolution": "Regularized evolution",
    "nsga2": "NSGA-II",
    "tpe": "TPE",
}
_WORDS = {True: "yes", False: "no", None: "none"}


def collect(run_folder: Path, references: Sequence[str] = ()) -> ReportData:
    """Read everything that a report shows from a run folder; nothing in it is changed.

    Args:
        run_folder: what ``dfmobile search -o`` wrote.
        references: further networks (zoo names, encodings) to show the latencies of, besides those of the campaign.

    Raises:
        InputError: if the folder has no campaign, or a reference is no network.
        FileFormatError: if the campaign, the table or the device profile is damaged.
        StorageError: if a file cannot be read.
    """
    folder = Path(run_folder)
    campaign = load_campaign(folder)
    with contextlib.closing(campaign.store), contextlib.ExitStack() as stack:
        meta = campaign.store.meta()
        path = find_table(folder, meta.get("table") or {})
        table = None if path is None else stack.enter_context(LatencyTable.open(path))
        return _report(folder, campaign, meta, table, references)


def _report(
    folder: Path, campaign: Campaign, meta: Mapping[str, Any], table: LatencyTable | None, references: Sequence[str]
) -> ReportData:
    identity = meta["identity"]
    width, height = identity["input"]
    description = identity["evaluator"]["description"]
    label = str(description.get("label", identity["evaluator"]["name"]))
    trained = not description.get("simulated", False)
    draws = campaign.store.draws()
    known = [record for record in draws if record.accuracy is not None]
    optimal = {record.number for record in campaign.store.boundary()}
    remeasured = campaign.store.remeasured()
    result = campaign.result()
    rule = str((meta.get("table") or {}).get("rule", "sum"))
    winners = _winners(campaign.store.boundary(), remeasured, table, rule, width, height)
    profile = read_profile(folder, table)
    device = device_line(profile, table, meta.get("table") or {})
    pruner = campaign.state.pruner
    verb = "trained" if trained else "evaluated without training"
    space = campaign.space
    return ReportData(
        title=f"Search of {space.name} at {width}×{height} on {device.partition(',')[0]}",
        summary=(
            f"{_METHODS.get(campaign.settings.mode, 'Partial Order Pruning')} looked for the best trade-offs between "
            f"latency and accuracy among "
            f"{numbers.count(result.total)} architectures: {numbers.count(len(known))} were {verb}, "
            f"{numbers.count(result.pruned)} were ruled out without it, "
            f"{numbers.count(len(winners))} are on the boundary."
        ),
        accuracy_label=label,
        accuracy_is_trained=trained,
        space=space.name,
        space_size=space.count(),
        candidates=result.total,
        input_size=(width, height),
        device=device,
        evaluated=[_evaluated(record, record.number in optimal, width, height) for record in known],
        winners=winners,
        latency_range=campaign.settings.latency_range,
        evaluator_facts=_evaluator_facts(identity["evaluator"]),
        pruned=result.pruned,
        alive=result.alive,
        in_flight=len(draws) - len(known),
        not_measured_reason=_not_measured_reason(winners, remeasured),
        strip=_strip(campaign, draws),
        worst_ms=pruner.latency_span()[1] if isinstance(pruner, (EnumeratedPruner, FactoredPruner)) else None,
        blocks=() if table is None else table_blocks(table, space, width, height),
        device_facts=device_facts(profile),
        conditions=table_conditions(table) if table is not None else device_conditions(profile),
        provenance=(*_search_facts(meta, campaign), *(() if table is None else table_provenance(table))),
        commands=_commands(folder, meta, table, device_recorded=profile is not None),
        clock="" if table is None else clock_text(table),
        notes=_notes(meta, known, table),
        recorded=table is not None and table.header.granularity == "layer",
        references=reference_points(
            list(dict.fromkeys((*meta.get("references", ()), *references))), table, rule, width, height
        ),
    )


def _evaluated(record: EvaluationRecord, optimal: bool, width: int, height: int) -> EvaluatedArchitecture:
    cost = build(Architecture.parse(record.encoding), width, height).cost
    return EvaluatedArchitecture(
        number=record.number,
        encoding=record.encoding,
        predicted_ms=record.predicted_ms,
        accuracy=float(record.accuracy or 0.0),
        seconds=record.seconds,
        pruned=record.pruned,
        alive=record.alive,
        on_boundary=optimal,
        curve=_curve(record.curve),
        macs=cost.macs,
        params=cost.params,
    )


def _curve(points: Sequence[Mapping[str, Any]]) -> tuple[CurvePoint, ...]:
    found = []
    for number, point in enumerate(points, 1):
        accuracy = point.get("validation_accuracy", point.get("accuracy"))
        if isinstance(accuracy, (int, float)):
            found.append(CurvePoint(float(point.get("epoch", number)), float(accuracy)))
    return tuple(found)


def _winners(
    boundary: Sequence[EvaluationRecord],
    remeasured: Mapping[str, Mapping[str, Any]],
    table: LatencyTable | None,
    rule: str,
    width: int,
    height: int,
) -> list[Winner]:
    predictor = None if table is None else open_predictor(table, rule)
    found = []
    for record in boundary:
        measured = remeasured.get(record.encoding, {})
        measurement = measured.get("measurement") or {}
        files = measured.get("files") or {}
        found.append(
            Winner(
                encoding=record.encoding,
                predicted_ms=record.predicted_ms,
                accuracy=float(record.accuracy or 0.0),
                interval_ms=_interval(predictor, record, width, height),
                measured_ms=measured.get("measured_ms"),
                half_width_ms=measurement.get("half_width_ms"),
                files=tuple(str(item["path"]) for item in files.values()),
                weights=measured.get("weights"),
            )
        )
    return found


def _interval(
    predictor: Predictor | RecordedPredictor | None, record: EvaluationRecord, width: int, height: int
) -> tuple[float, float] | None:
    """Return the prediction's interval; None where today's table does not give the campaign's prediction."""
    if predictor is None:
        return None
    try:
        prediction = predictor.predict(build(Architecture.parse(record.encoding), width, height))
    except MissingBlocksError:
        return None
    # A table that has been measured on since would put another interval around another number.
    same = bool(np.isclose(prediction.latency_ms, record.predicted_ms, rtol=1e-9, atol=0.0))
    return prediction.interval_ms if same else None


def _strip(campaign: Campaign, draws: Sequence[EvaluationRecord]) -> LatencyStrip | None:
    """Count the pruned and the alive by latency; None where that would walk over too large a space."""
    pruner = campaign.state.pruner
    if not isinstance(pruner, (EnumeratedPruner, FactoredPruner)) or pruner.total > MAX_BITS:
        return None
    low, high = pruner.latency_span()
    kind = choose_kind(low, high)
    if high <= low:
        low, high = low * 0.95, high * 1.05
    edges = np.geomspace(low, high, STRIP_BINS + 1) if kind == "log" else np.linspace(low, high, STRIP_BINS + 1)
    edges[0], edges[-1] = low, high  # rounding must not push the ends out
    candidates, alive = pruner.latency_histogram(edges)
    drawn = np.histogram(np.array([record.predicted_ms for record in draws], dtype=np.float64), bins=edges)[0]
    pruned = candidates - alive - drawn
    return LatencyStrip(kind, tuple(edges.tolist()), tuple(pruned.tolist()), tuple(alive.tolist()))


def _not_measured_reason(winners: Sequence[Winner], remeasured: Mapping[str, Mapping[str, Any]]) -> str:
    missing = [item for item in winners if item.measured_ms is None]
    if not missing:
        return ""
    reasons = {str(remeasured.get(item.encoding, {}).get("status") or _NOT_MEASURED) for item in missing}
    return f"{len(missing)} of {len(winners)} winners: {'; '.join(sorted(reasons))}."


def _evaluator_facts(evaluator: Mapping[str, Any]) -> list[Fact]:
    return [("evaluator", str(evaluator["name"])), *_flat(evaluator["description"], skip=("name",))]


def _flat(document: Mapping[str, Any], prefix: str = "", skip: Sequence[str] = ()) -> list[Fact]:
    """Return nested JSON as (label, value) pairs."""
    found: list[Fact] = []
    for name, value in document.items():
        label = f"{prefix}{name.replace('_', ' ')}"
        if name in skip and not prefix:
            continue
        if isinstance(value, Mapping):
            found += _flat(value, f"{label}: ")
        elif isinstance(value, list):
            found.append((label, ", ".join(str(item) for item in value)))
        else:
            found.append((label, _WORDS[value] if isinstance(value, (bool, type(None))) else str(value)))
    return found


def _search_facts(meta: Mapping[str, Any], campaign: Campaign) -> list[Fact]:
    settings = campaign.settings
    budget = "none" if settings.budget is None else f"{numbers.count(settings.budget)} evaluations"
    return [
        ("search mode", f"{settings.mode}, seed {settings.seed}, look-ahead {settings.lookahead}"),
        ("budget", budget),
        ("search begun", str(meta.get("created_utc", numbers.UNKNOWN))),
        ("searched by", f"dfmobile {meta.get('tool_version', '?')}"),
    ]


def _commands(folder: Path, meta: Mapping[str, Any], table: LatencyTable | None, *, device_recorded: bool) -> list[str]:
    """Return the commands of the run: the search as it was recorded, the others as their files say."""
    lines = []
    device = "local" if table is None else table.header.device
    if device_recorded:
        lines.append(shlex.join(["dfmobile", "profile", "--device", device, "-o", _shown(folder / DEVICE_NAME)]))
    if table is not None:
        lines += build_commands(table, _shown(table.path))
    if meta.get("command"):
        lines.append(str(meta["command"]))
    if not lines:
        return []
    return [*lines, shlex.join(["dfmobile", "report", _shown(folder), "-o", "report.html"])]


def _shown(path: Path) -> str:
    """Return a path as a user in this folder would write it."""
    with contextlib.suppress(ValueError):
        return str(path.resolve().relative_to(Path.cwd()))
    return str(path)


def _notes(meta: Mapping[str, Any], known: Sequence[EvaluationRecord], table: LatencyTable | None) -> list[str]:
    notes = [str(note) for note in (meta.get("remeasured") or {}).get("notes", ())]
    scaled = sum(record.details.get("trained_encoding", record.encoding) != record.encoding for record in known)
    if scaled:
        notes.append(
            f"{scaled} of {len(known)} accuracies are of a scaled-down network that stands for the architecture, not "
            "of the network whose latency is given; model files of such winners have random weights."
        )
    coverage = meta["identity"]["evaluator"]["description"].get("coverage")
    if coverage:
        notes.append(
            f"Accuracies were looked up, nothing was trained in this run: {coverage}. Model files have random weights."
        )
    if table is None:
        notes.append("The latency table was not found, so its heat maps and the predictions’ intervals are left out.")
    profile = {} if table is None else table.header.device_profile
    if (profile.get("cpu") or {}).get("virtualised"):
        notes.append(
            "The device is a virtual machine: neighbours share its hardware, clocks may be hidden, and latencies "
            "drift between one hour and another by more than an interval says."
        )
    return notes
