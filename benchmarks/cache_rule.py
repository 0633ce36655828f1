"""How much of the cold time networks pay, by their footprint over the effective last-level cache, from 0.05 to 20.

Builds tables of ``df-mini`` at 32x32 and ``df`` at 64x64 (small inputs, so that weights count and runs are short),
takes networks spread over the footprint, measures them whole, and compares what they take with

- ``hot``: the sum of the blocks' undisturbed hot times, nothing else;
- ``hot + cold``: with all of what evicted caches add;
- ``linear``: with the share min(1, footprint / effective cache);
- ``nominal``: the same with the last-level cache of the device profile instead of the measured one;
- ``rule``: what ``cache-aware`` does: the share off the measured curve, and cold times less those of a call;

all less the calls that a network saves. "share paid" is the f that would make the prediction right. Nothing is fitted.

Run: ``python benchmarks/cache_rule.py [-o STATE] [--networks 48]``. It takes about five minutes; with ``-o`` it
goes on where it was stopped.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import os
import platform
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dfmobile.architecture import Architecture, build
from dfmobile.architecture.spaces import SearchSpace, open_space
from dfmobile.devices.device import open_device
from dfmobile.devices.profile import summary
from dfmobile.latency.backends.base import Backend, open_backend
from dfmobile.latency.block_model import ARENA_POWER, BlockModel, Physics
from dfmobile.latency.builder import build_table
from dfmobile.latency.cache_curve import CacheCurve
from dfmobile.latency.calibration import count_matrix
from dfmobile.latency.measurement import Protocol
from dfmobile.latency.network_runs import NETWORK_PROTOCOL, measure_networks
from dfmobile.latency.table import LatencyTable
from dfmobile.latency.working_set import WorkingSet, stored_working_set

Array = npt.NDArray[np.float64]
TABLES = (("df-mini", 32, 32), ("df", 64, 64))
LOW, HIGH = 0.05, 20.0
BIN_EDGES = (0.05, 0.15, 0.5, 1.0, 2.0, 6.0, 20.0)
CANDIDATES = 20_000


@dataclass(frozen=True)
class Point:
    """One network: footprint over the effective cache, measured, and what each way predicts, ms."""

    ratio: float
    measured_ms: float
    hot_ms: float
    cold_ms: float
    linear_ms: float
    nominal_ms: float
    rule_ms: float

    @property
    def share_paid(self) -> float:
        """The share of the cold time that would make the prediction right."""
        return (self.measured_ms - self.hot_ms) / max(1e-9, self.cold_ms - self.hot_ms)


def footprints(model: BlockModel, counts: Array) -> Array:
    """Return weights and largest activations of networks, bytes, ``[R]``."""
    arena: Array = 1e6 * (counts @ model.arena_power) ** (1 / ARENA_POWER)
    return counts @ model.weights + arena


def choose(
    table: LatencyTable, space: SearchSpace, size: tuple[int, int], working_set: WorkingSet, n: int
) -> list[str]:
    """Choose networks spread over the logarithm of footprint over cache, within the range."""
    generator = np.random.default_rng(0)
    rows = np.unique(
        np.concatenate([space.sample_rows(CANDIDATES // 2, generator), space.spread_rows(CANDIDATES // 2, generator)]),
        axis=0,
    )
    entries = {entry.key: entry for entry in table.entries()}
    keys = list(space.key_index(*size))
    unit = dict(zip(keys, np.eye(len(keys)).tolist(), strict=True))
    counts = space.sums(rows, *size, unit)
    model = BlockModel([entries[key] for key in keys], Physics(None, 0.0))
    ratio = footprints(model, counts) / (working_set.effective_llc_bytes or 1.0)
    inside = np.flatnonzero((ratio >= LOW) & (ratio <= HIGH))
    wanted = np.geomspace(ratio[inside].min(), ratio[inside].max(), n) if len(inside) else np.empty(0)
    found = {int(inside[int(np.argmin(np.abs(np.log(ratio[inside] / target))))]) for target in wanted}
    return [space.architecture(rows[number]).text for number in sorted(found, key=lambda number: ratio[number])]


def points(path: Path, name: str, size: tuple[int, int], backend: Backend, networks: int) -> list[Point]:
    """Build a table, measure networks of its space, and compare."""
    space, profile = open_space(name), backend.device.profile
    build_table(path, space, *size, backend.device, backend, Protocol(passes=3), measure_caches=True)
    with LatencyTable.open(path) as table:
        working_set = stored_working_set(table)
        if working_set is None or working_set.effective_llc_bytes is None:
            raise SystemExit("the sweep shows no step from cache to memory on this machine: there is no rule to check")
        print(f"{name} at {size[0]}x{size[1]}: {working_set.text}", flush=True)
        encodings = choose(table, space, size, working_set, networks)
    measured = measure_networks(
        path,
        [build(Architecture.parse(text), *size) for text in encodings],
        backend,
        protocol=NETWORK_PROTOCOL,
        half_width=0.02,
    )
    with LatencyTable.open(path) as table:
        entries = table.entries()
    counts = count_matrix(entries, measured)
    nominal = max(cache.size_bytes or 0 for cache in profile.caches) or 32 * 2**20
    call_ms, cold_call_ms = working_set.call_overhead_ms, working_set.cold_call_ms
    plain = BlockModel(entries, Physics(None, call_ms))
    with_cold = BlockModel(entries, Physics(CacheCurve((0.0,), (1.0,)), call_ms))
    footprint = footprints(plain, counts)
    hot_ms, cold_ms = plain.predict(counts), with_cold.predict(counts)
    linear_ms, nominal_ms = (
        hot_ms + np.minimum(1.0, footprint / cache_bytes) * (cold_ms - hot_ms)
        for cache_bytes in (working_set.effective_llc_bytes, nominal)
    )
    rule_ms = BlockModel(entries, Physics(working_set.curve, call_ms, cold_call_ms)).predict(counts)
    columns = (footprint / working_set.effective_llc_bytes, hot_ms, cold_ms, linear_ms, nominal_ms, rule_ms)
    return [
        Point(float(row[0]), item.quiet_ms, *row[1:])
        for item, row in zip(measured, np.stack(columns, axis=1).tolist(), strict=True)
    ]


def error(found: list[Point], field: str) -> str:
    """Return bias and mean absolute error of one way."""
    errors = np.array([getattr(item, field) / item.measured_ms - 1 for item in found])
    return f"{100 * errors.mean():+6.1f} % / {100 * np.abs(errors).mean():4.1f} %"


def report(found: list[Point]) -> None:
    """Print a row for each range of the ratio."""
    print("\n| footprint / cache | networks | share paid | hot | hot + cold | linear | nominal | rule |")
    print("|---|---|---|---|---|---|---|---|")
    ranges = [*itertools.pairwise(BIN_EDGES), (BIN_EDGES[0], BIN_EDGES[-1])]
    for low, high in ranges:
        here = [item for item in found if low <= item.ratio <= high]
        if here:
            share = float(np.median([item.share_paid for item in here]))
            cells = [error(here, field) for field in ("hot_ms", "cold_ms", "linear_ms", "nominal_ms", "rule_ms")]
            print(f"| {low:g} to {high:g} | {len(here)} | {share:.2f} | {' | '.join(cells)} |")
    print("\nbias / mean absolute error")


def main() -> None:
    """Measure both tables, print one report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, help="folder that keeps the tables; default: a temporary one")
    parser.add_argument("--networks", type=int, default=48, help="of each space")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary, open_device("local") as device:
        print(f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, {summary(device.profile)}")
        print(f"{platform.platform()}, load {os.getloadavg()[0]:.2f}")
        backend = open_backend("litert", device)
        print(f"{backend.identity().name} {backend.identity().version}, 1 thread, fp32")
        folder = options.output or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        found = []
        for name, width, height in TABLES:
            path = folder / f"{name}-{width}x{height}.sqlite"
            found += points(path, name, (width, height), backend, options.networks)
        report(found)


if __name__ == "__main__":
    main()
