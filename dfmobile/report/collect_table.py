"""The latency table's part of a report: its blocks by stage, and where its numbers come from."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dfmobile.architecture import PlacedBlock
from dfmobile.architecture.spaces import SearchSpace
from dfmobile.latency.measurement import PassResult
from dfmobile.latency.table import LatencyTable
from dfmobile.report import numbers
from dfmobile.report.collect_device import condition_facts
from dfmobile.report.data import Fact, TableBlock

TABLE_NAME = "table.sqlite"
_CLOCKS = {
    "thread-cpu": "CPU time of the measuring thread, so time in which other programs had the core does not count; "
    "what they do to shared caches and memory does.",
    "wall": "wall-clock time, which other programs on the device lengthen.",
}


def find_table(folder: Path, recorded: Mapping[str, Any]) -> Path | None:
    """Return the run's latency table: the recorded path, seen from here or from the run folder; None if it is gone."""
    candidates = []
    if recorded.get("path"):
        path = Path(str(recorded["path"]))
        candidates = [path] if path.is_absolute() else [folder / path, path]
        candidates.append(folder / path.name)
    candidates.append(folder / TABLE_NAME)
    return next((path for path in candidates if path.is_file()), None)


def table_blocks(table: LatencyTable, space: SearchSpace, width: int, height: int) -> list[TableBlock]:
    """Return the space's blocks with what the table says of each; those that it lacks are left out.

    Args:
        table: open.
        space: whose blocks are wanted, in its order.
        width: of the image, pixels.
        height: of the image, pixels.
    """
    entries = {entry.key: entry for entry in table.entries()}
    skipped = {item.key: item for item in table.skipped()}
    found = []
    for block in space.blocks(width, height):
        stage, first = _stage(block)
        shape, after = block.input_shapes[0], block.output_shape
        entry, skip = entries.get(block.key), skipped.get(block.key)
        if entry is None and skip is None:
            continue
        note = "" if skip is None else f"skipped: alone slower than {numbers.ms(skip.limit_ms)}"
        found.append(
            TableBlock(
                kind=block.kind,
                text=block.text.replace(" -> ", " → "),
                stage=stage,
                first=first,
                width_before=shape[1],
                width=after[1],
                map_before=(shape[3], shape[2]) if len(shape) == 4 else (1, 1),
                map_after=(after[3], after[2]) if len(after) == 4 else (1, 1),
                hot_ms=None if entry is None else entry.hot_ms,
                cold_ms=None if entry is None else entry.cold_ms,
                half_width_ms=None if entry is None else entry.half_width_ms,
                n=0 if entry is None else entry.n,
                macs=block.macs,
                note=note,
            )
        )
    return found


def _stage(block: PlacedBlock) -> tuple[int | None, bool]:
    """Return the stage's number, None for a block outside of stages, and whether the block halves the map."""
    stage, _, position = block.name.partition(".")
    if not position.startswith("block") or not stage.removeprefix("stage").isdigit():
        return None, False
    return int(stage.removeprefix("stage")), block.input_shapes[0][2] != block.output_shape[2]


def table_provenance(table: LatencyTable) -> list[Fact]:
    """Return where a table's numbers come from."""
    header = table.header
    passes = list(_passes(table))
    started = sorted(result.started_utc for result in passes)
    facts = [
        ("latency table", table.path.name),
        ("backend", header.backend),
        ("runtime", f"{header.runtime} {header.runtime_version}"),
        ("runtime library SHA-256", header.library_sha256 or "not a file"),
        ("precision", header.precision),
        ("threads", str(header.threads)),
        ("core mask", header.affinity or "none"),
        ("device", f"{header.device}, fingerprint {header.device_fingerprint}"),
        ("flags", ", ".join(f"{name}={value}" for name, value in sorted(header.flags.items())) or "none"),
        ("table measured by", f"dfmobile {header.created_by}"),
    ]
    if started:
        facts.append(("measured from, to (UTC)", f"{started[0][:19]} to {started[-1][:19]}"))
        runs = sum(result.timed_runs for result in passes)
        facts.append(("passes", f"{numbers.count(len(passes))}, with {numbers.count(runs)} hot runs"))
        if any(result.aggregate for result in passes):
            facts.append(("samples", "none: the backend gave aggregates of each pass only"))
        facts.append(("protocol", _protocol(table)))
        unsteady = sum(not result.steady for result in passes)
        switches = sum(result.involuntary_switches or 0 for result in passes)
        text = f"{numbers.count(switches)} involuntary context switches; {unsteady} passes not steady after warm-up"
        facts.append(("disturbances", text))
    return facts


def _protocol(table: LatencyTable) -> str:
    key = next(iter(table.passes()))
    protocol = table.provenance(key)[0]["session"].get("protocol") or {}
    return ", ".join(_setting(name, value) for name, value in protocol.items() if value is not None)


def _setting(name: str, value: object) -> str:
    shown = f"{value:g}" if isinstance(value, float) else str(value)
    unit = " ms" if name.endswith("_ms") else ""
    return f"{name.removesuffix('_ms').replace('_', ' ')} {shown}{unit}"


def build_commands(table: LatencyTable, shown: str) -> list[str]:
    """Return the commands that measure such a table, as its header and its list of builds say.

    Args:
        table: open.
        shown: its path, as the commands are to name it.
    """
    header = table.header
    lines = []
    for item in table.builds():
        target = ["--space", item.space] if item.space is not None else ["--network", str(item.network)]
        words = ["dfmobile", "lut", "build", *target, "--input", item.input_text, "--device", header.device]
        words += ["--backend", header.backend, "--threads", str(header.threads), "--precision", header.precision]
        words += ["--passes", str(item.passes)]
        if item.latency_max_ms is not None:
            words += ["--latency-max", f"{item.latency_max_ms:g}"]
        lines.append(shlex.join([*words, "-o", shown]))
    return lines


def table_conditions(table: LatencyTable) -> list[Fact]:
    """Return the range of the device's conditions over all passes."""
    return condition_facts(
        [
            snapshot
            for result in _passes(table)
            for snapshot in (result.conditions_before, result.conditions_after)
            if snapshot
        ]
    )


def clock_text(table: LatencyTable) -> str:
    """Return which clock timed the table, in words."""
    clocks = Counter(result.clock for result in _passes(table))
    return " ".join(f"{_CLOCKS.get(clock, clock)}" for clock, _ in clocks.most_common())


def _passes(table: LatencyTable) -> Iterator[PassResult]:
    for results in table.passes().values():
        for _, result in results:
            yield result
