"""After the search: the boundary's architectures measured end to end, predicted beside measured.

The boundary is chosen by predictions, and what is chosen for a low prediction is more often predicted too low than
too high (the winner's curse). So each winner is measured as a whole network on the device before it is reported,
and the report says where the measured order contradicts the predicted one.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dfmobile.errors import DeviceError, InputError
from dfmobile.files import FileLock, atomic_write_json
from dfmobile.latency.backends.base import Backend, MeasureJob
from dfmobile.latency.header import TableHeader
from dfmobile.latency.marginal import summarise_isolated
from dfmobile.latency.measurement import PassResult, Protocol
from dfmobile.search.boundary import pareto_optimal
from dfmobile.search.campaign import STORE_NAME
from dfmobile.search.deliver import deliver, file_key
from dfmobile.search.store import CampaignStore, EvaluationRecord

BOUNDARY_NAME = "boundary.json"
NOT_MEASURED = "not re-measured"


@dataclass(frozen=True)
class RemeasureResult:
    """What the re-measurement found.

    Attributes:
        records: one JSON object an architecture of the boundary, fastest prediction first, as in ``boundary.json``.
        bias: mean of measured / predicted − 1; None where nothing is measured.
        contradictions: pairs whose measured order is the reverse of the predicted one: ``faster`` and ``slower``
            (as predicted), ``beyond_noise`` (the 95 % intervals do not overlap).
        notes: lines for people.
    """

    records: list[dict[str, Any]]
    bias: float | None
    contradictions: list[dict[str, Any]]
    notes: list[str]


def remeasure(
    folder: str | Path,
    backend: Backend | None,
    protocol: Protocol | None = None,
    *,
    unreachable: str = "",
    progress: Callable[[str], None] | None = None,
) -> RemeasureResult:
    """Export the boundary's architectures, measure each end to end, and write ``RUN/boundary.json``.

    Passes of different architectures are shuffled, so that a drift of the device touches all alike. If the device
    is lost or was never there, the files are written all the same and the records say "not re-measured"; a
    measurement that an earlier call made of the same file is kept.

    Args:
        folder: the run folder of a campaign.
        backend: measures; its device is the one that the boundary is for. None: no device can be reached. One that
            plays recorded logs is not asked.
        protocol: how each file is measured; None for the default with the backend's threads.
        unreachable: why there is no backend, for the records.
        progress: told a line now and then.

    Raises:
        InputError: if the folder has no campaign, or it has no evaluation yet.
        LockedError: if another process uses the folder.
        ExportError: if a model file cannot be written or computes something else.
        BackendError: if a file cannot be run on the device.
        StorageError: if the folder cannot be written.
    """
    folder, tell = Path(folder), progress or (lambda line: None)
    replayed = ""
    if backend is not None and backend.replay:
        replayed, backend = f"{backend.device.uri} plays recorded logs (replay): nothing is measured there", None
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder", hint="give the folder of a campaign: dfmobile search … -o RUN/")
    with FileLock(folder / STORE_NAME, "searching in"), CampaignStore(folder / STORE_NAME) as store:
        boundary = store.boundary()
        if not boundary:
            raise InputError(f"the campaign in {folder} has no evaluation yet", hint="run dfmobile search … first")
        width, height = store.meta()["identity"]["input"]
        earlier = store.remeasured()
        records = []
        for number, item in enumerate(boundary, 1):
            tell(f"writing model files {number}/{len(boundary)}: {item.encoding}")
            kind = None if backend is None else (backend.model_format, backend.file_precision)
            opset = None if backend is None else backend.file_options.opset
            records.append(_record(folder, item, width, height, earlier.get(item.encoding), kind, opset))
        notes = sorted({f"{format}: {why}" for record in records for format, why in record["missing"].items()})
        if any(not record["files"] and record["status"] != NOT_MEASURED for record in records):
            notes.append("networks that are too large for a file: a lower HI of --latency LO:HI leaves them out")
        reason = replayed or unreachable or "no device can be reached"
        if backend is not None:
            try:
                written = [record for record in records if record["status"] == NOT_MEASURED or record["files"]]
                if written:
                    _measure(folder, backend, protocol or Protocol(threads=backend.threads), written, tell)
                reason = ""
            except DeviceError as error:
                reason = str(error)
        if reason:
            notes.append(f"{NOT_MEASURED}: {reason}")
            for record in records:
                if record["status"] == NOT_MEASURED:
                    record["status"] = f"{NOT_MEASURED}: {reason}"
        result = _compare(records, notes)
        for record in records:
            store.set_remeasured(record["encoding"], record)
        store.set_meta(remeasured={"bias": result.bias, "contradictions": result.contradictions, "notes": result.notes})
        atomic_write_json(folder / BOUNDARY_NAME, records)
        return result


def earlier_result(folder: str | Path) -> RemeasureResult | None:
    """Return what an earlier re-measurement found; None unless all of the boundary was measured and exported.

    Args:
        folder: the run folder of a campaign.

    Raises:
        InputError: if the folder has no campaign.
        FileFormatError: if it is damaged.
    """
    folder = Path(folder)
    with CampaignStore(folder / STORE_NAME) as store:
        known, meta = store.remeasured(), store.meta().get("remeasured")
        records = [known.get(item.encoding) for item in store.boundary()]
    found = [item for item in records if item is not None and item["measured_ms"] is not None]
    files = [folder / file["path"] for item in found for file in item["files"].values()]
    if meta is None or not found or len(found) < len(records) or not all(path.is_file() for path in files):
        return None
    return RemeasureResult(found, meta["bias"], meta["contradictions"], meta["notes"])


def _record(
    folder: Path,
    item: EvaluationRecord,
    width: int,
    height: int,
    earlier: Mapping[str, Any] | None,
    measured: tuple[str, str] | None,
    opset: int | None,
) -> dict[str, Any]:
    delivered = deliver(folder, item, width, height, measured, opset)
    record: dict[str, Any] = {
        "encoding": item.encoding,
        "predicted_ms": item.predicted_ms,
        "measured_ms": None,
        "accuracy": item.accuracy,
        "number": item.number,
        "status": f"{NOT_MEASURED}: {delivered.too_large}" if delivered.too_large else NOT_MEASURED,
        "weights": delivered.weights,
        "files": delivered.files,
        "missing": delivered.missing,
        "measurement": None,
    }
    if earlier is not None and earlier["measured_ms"] is not None:
        common = set(earlier["files"]) & set(delivered.files)
        if common and all(earlier["files"][name]["sha256"] == delivered.files[name]["sha256"] for name in common):
            record |= {key: earlier[key] for key in ("measured_ms", "measurement", "status")}
    return record


def _measure(
    folder: Path, backend: Backend, protocol: Protocol, records: list[dict[str, Any]], tell: Callable[[str], None]
) -> None:
    """Measure all records' files and fill in the results; a record is filled in when its last pass is done."""
    header = TableHeader.of(backend).model_dump(mode="json", exclude={"device_profile", "granularity"})
    key = file_key(backend.model_format, backend.file_precision)
    for record in records:
        if key not in record["files"]:
            raise InputError(
                f"backend {backend.name} measures {key} files, which were not written",
                hint=f"{record['missing'].get(key, 'choose another backend')}",
            )
    passes: list[list[PassResult]] = [[] for _ in records]
    jobs = [(number, repeat) for repeat in range(protocol.passes) for number in range(len(records))]
    order = np.random.default_rng(0).permutation(len(jobs))
    stream = (
        MeasureJob(
            f"{jobs[index][0]}/{jobs[index][1]}",
            folder / records[jobs[index][0]]["files"][key]["path"],
            protocol,
            repetition=jobs[index][1],
        )
        for index in order
    )
    for done, (job, result) in enumerate(backend.measure(stream), 1):
        number = int(job.partition("/")[0])
        passes[number].append(result)
        if done % len(records) == 0:
            tell(f"measuring end to end: {done} of {len(jobs)} passes")
        if len(passes[number]) == protocol.passes:
            _fill(records[number], passes[number], header, protocol)
    for record, found in zip(records, passes, strict=True):
        if len(found) < protocol.passes:
            raise DeviceError(f"backend {backend.name} did not return all measurements of {record['encoding']}")


def _fill(record: dict[str, Any], passes: Sequence[PassResult], header: dict[str, Any], protocol: Protocol) -> None:
    found = summarise_isolated(passes)
    record["measured_ms"] = found.median_ms
    record["status"] = "re-measured"
    record["measurement"] = {
        "p5_ms": found.p5_ms,
        "p95_ms": found.p95_ms,
        "half_width_ms": found.half_width_ms,
        "quiet_ms": found.quiet_ms,  # what rules other than "sum" predict: see latency.statistics
        "n": found.n,
        "runs": found.runs,
        "passes": [item.to_dict() for item in passes],
        "protocol": protocol.to_dict(),
        **header,
    }


def _compare(records: list[dict[str, Any]], notes: list[str]) -> RemeasureResult:
    """Compare the measured order with the predicted one; mark which records stay Pareto-optimal as measured."""
    measured = [record for record in records if record["measured_ms"] is not None]
    optimal = pareto_optimal([item["measured_ms"] for item in measured], [item["accuracy"] for item in measured])
    for record in records:
        record["on_measured_boundary"] = None
    for record, keep in zip(measured, optimal, strict=True):
        record["on_measured_boundary"] = bool(keep)
    contradictions: list[dict[str, Any]] = []
    for faster, slower in itertools.combinations(measured, 2):
        if faster["predicted_ms"] < slower["predicted_ms"] and faster["measured_ms"] > slower["measured_ms"]:
            widths = [item["measurement"]["half_width_ms"] for item in (faster, slower)]
            gap = faster["measured_ms"] - slower["measured_ms"]
            beyond = None not in widths and gap > sum(widths)
            contradictions.append({"faster": faster["encoding"], "slower": slower["encoding"], "beyond_noise": beyond})
    bias = statistics.fmean(item["measured_ms"] / item["predicted_ms"] - 1 for item in measured) if measured else None
    if bias is not None:
        notes.append(
            f"measured end to end, the boundary is on average {abs(bias):.1%} {'slower' if bias > 0 else 'faster'} "
            "than predicted"
        )
    if contradictions:
        certain = sum(item["beyond_noise"] for item in contradictions)
        notes.append(
            f"{len(contradictions)} pairs of the boundary are measured in the reverse of the predicted order, "
            f"{certain} of them beyond the noise of the measurement"
        )
    return RemeasureResult(records, bias, contradictions, notes)
