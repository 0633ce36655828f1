"""How much of what was asked for is in a table, and the document that ``lut show --json`` prints."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

from dfmobile.latency.calibration import stored_calibrations
from dfmobile.latency.guards import guard_document
from dfmobile.latency.header import Build
from dfmobile.latency.table import LatencyTable
from dfmobile.latency.working_set import stored_working_set


@dataclass(frozen=True)
class Coverage:
    """How much of a build is in a table.

    Attributes:
        target: space or encoding.
        input: input size, width x height.
        blocks: distinct blocks asked for.
        measured: of them, with every pass asked for.
        partial: with some passes.
        skipped: slower alone than the build's limit, and recorded as such.
        missing: none of these.
        fraction: ``measured / blocks``.
    """

    target: str
    input: str
    blocks: int
    measured: int
    partial: int
    skipped: int
    missing: int
    fraction: float

    def to_dict(self) -> dict[str, Any]:
        """Return the coverage as a JSON document."""
        return asdict(self)

    @property
    def text(self) -> str:
        """One line for people."""
        rest = [f"{getattr(self, name)} {name}" for name in ("partial", "skipped", "missing") if getattr(self, name)]
        return f"{self.target} at {self.input}: {self.measured} of {self.blocks} blocks" + "".join(
            f", {item}" for item in rest
        )


def coverage(table: LatencyTable, build: Build) -> Coverage:
    """Return how much of a build is in its table."""
    passes = Counter(key for key, _ in table.recorded())
    skipped = {item.key for item in table.skipped()}
    measured = sum(passes[key] >= build.passes for key in build.keys)
    partial = sum(0 < passes[key] < build.passes for key in build.keys)
    left_out = sum(key in skipped and not passes[key] for key in build.keys)
    return Coverage(
        target=build.target,
        input=build.input_text,
        blocks=len(build.keys),
        measured=measured,
        partial=partial,
        skipped=left_out,
        missing=len(build.keys) - measured - partial - left_out,
        fraction=measured / len(build.keys) if build.keys else 1.0,
    )


def table_document(table: LatencyTable) -> dict[str, Any]:
    """Return what ``dfmobile lut show --json`` prints.

    ``space`` and ``input`` are texts, or lists where the table holds several builds; ``coverage`` is the fraction
    of all blocks asked for that have all their passes; ``builds`` has the details.
    """
    header, builds = table.header, table.builds()
    working_set = stored_working_set(table)
    covered = [coverage(table, build) for build in builds]
    blocks = sum(item.blocks for item in covered)
    targets = [item.target for item in covered]
    inputs = [item.input for item in covered]
    return {
        "device": header.device,
        "device_fingerprint": header.device_fingerprint,
        "device_summary": header.device_summary,
        "backend": header.backend,
        "runtime": f"{header.runtime} {header.runtime_version}",
        "library_sha256": header.library_sha256,
        "flags": header.flags,
        "precision": header.precision,
        "threads": header.threads,
        "affinity": header.affinity,
        "granularity": header.granularity,
        "replay": header.replay,
        "space": targets[0] if len(targets) == 1 else targets,
        "input": inputs[0] if len(inputs) == 1 else inputs,
        "coverage": sum(item.measured for item in covered) / blocks if blocks else 0.0,
        "builds": [item.to_dict() for item in covered],
        "working_set": None if working_set is None else working_set.model_dump(mode="json"),
        "calibrations": [
            {
                "space": item.space,
                "input": f"{item.width}x{item.height}",
                "networks": list(item.networks),
                "coefficients": item.coefficients,
                "measured_utc": item.measured_utc,
            }
            for item in stored_calibrations(table)
        ],
        "entries": [
            {
                "key": entry.key,
                "kind": entry.kind,
                "text": entry.text,
                "hot_ms": entry.hot_ms,
                "cold_ms": entry.cold_ms,
                "half_width": entry.half_width_ms,
                "n": entry.n,
                "runs": entry.runs,
                "samples": "aggregate" if entry.aggregate else "raw",
                "measure": entry.measure,
                "isolated_ms": None if entry.isolated is None else entry.isolated.median_ms,
                "isolated_half_width": None if entry.isolated is None else entry.isolated.half_width_ms,
                "builds": entry.hot.passes if entry.between_builds_ms is not None else None,
                "between_builds_ms": entry.between_builds_ms,
                "passes": entry.passes,
                "macs": entry.macs,
                "weight_bytes": entry.weight_bytes,
                "input_shapes": [list(shape) for shape in entry.input_shapes],
                "output_shape": list(entry.output_shape),
            }
            for entry in table.entries()
        ],
        "guards": guard_document(table),
        "skipped": [
            {
                "key": item.key,
                "kind": item.kind,
                "text": item.text,
                "limit_ms": item.limit_ms,
                "measured_ms": item.measured_ms,
            }
            for item in table.skipped()
        ],
    }
