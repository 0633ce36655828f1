"""How fast predictions are: one network through the API, and many rows of a space at once.

Builds a table of ``df-mini`` (or takes ``--lut``), calibrates it with 20 networks, and times, by the CPU time of one
thread: predicting a network that was never predicted before, the same again, building a network from its encoding,
and ``predict_rows``. For a given table the space is the one it was built for.

Run: ``python benchmarks/prediction_speed.py [--lut TABLE.sqlite]``. It takes half a minute, or seconds with a table.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from dfmobile.architecture import Architecture, Network, build
from dfmobile.architecture.spaces import open_space
from dfmobile.devices.device import open_device
from dfmobile.devices.profile import summary
from dfmobile.latency.backends.base import open_backend
from dfmobile.latency.builder import build_table
from dfmobile.latency.calibrate import calibrate_table
from dfmobile.latency.measurement import Protocol
from dfmobile.latency.predictor import Predictor
from dfmobile.latency.table import LatencyTable

ALLOWED_ONE_US = 50.0
ALLOWED_ROWS_A_SECOND = 1e6
NETWORKS = 2000
ROWS = 1_000_000
ROUNDS = 5

T = TypeVar("T")


def make_table(path: Path) -> None:
    """Build and calibrate a table of the small space."""
    space = open_space("df-mini")
    with open_device("local") as device:
        backend = open_backend("litert", device)
        build_table(path, space, 32, 32, device, backend, Protocol(passes=2), measure_caches=True)
        calibrate_table(path, space, 32, 32, backend, passes=2)


def microseconds(function: Callable[[T], object], items: Sequence[T]) -> str:
    """Return quantiles of what a call takes, by the CPU time of this thread."""
    spent = []
    for item in items:
        start = time.thread_time_ns()
        function(item)
        spent.append((time.thread_time_ns() - start) / 1000)
    low, middle, high = np.quantile(spent, (0.1, 0.5, 0.9))
    return f"median {middle:6.1f} µs, 10 % {low:6.1f} µs, 90 % {high:6.1f} µs, mean {np.mean(spent):6.1f} µs"


def measure(path: Path) -> None:
    """Print all figures for one table."""
    with LatencyTable.open(path) as table:
        predictor = Predictor(table)
        known = table.builds()[-1]
    space, size = open_space(known.space or "df-mini"), (known.width, known.height)
    generator = np.random.default_rng(0)
    rows = np.unique(
        np.concatenate([space.sample_rows(ROWS // 2, generator), space.spread_rows(ROWS // 2, generator)]), axis=0
    )
    rows = rows[generator.permutation(len(rows))]
    usable = rows[np.isfinite(predictor.predict_rows(space, rows, *size, skipped="infinite"))]
    texts = [space.architecture(row).text for row in usable[:NETWORKS]]
    blocks = [len(build(Architecture.parse(text), *size).blocks) for text in texts]
    print(f"{space.name} at {size[0]}x{size[1]}, rule {predictor.rule}: {len(texts)} networks of {np.mean(blocks):.1f}")
    print(f"blocks on average ({min(blocks)} to {max(blocks)}); {len(rows)} rows")

    def fresh() -> list[Network]:
        return [build(Architecture.parse(text), *size) for text in texts]

    networks = fresh()
    print(f"predict, a network never seen  {microseconds(predictor.predict, networks)}")
    print(f"predict, the same again        {microseconds(predictor.predict, networks)}")
    print(f"build from the encoding        {microseconds(lambda text: build(Architecture.parse(text), *size), texts)}")
    spent = []
    for network in fresh():
        start = time.thread_time_ns()
        predictor.predict(network)
        spent.append((time.thread_time_ns() - start) / 1000)
    one_us = float(np.median(spent))
    rates = []
    for _ in range(ROUNDS):
        start = time.thread_time_ns()
        predictor.predict_rows(space, rows, *size, skipped="infinite")
        rates.append(len(rows) / ((time.thread_time_ns() - start) / 1e9))
    rate = float(np.median(rates))
    print(f"predict_rows                   {rate / 1e6:.1f} M a second (median of {ROUNDS})")
    verdict = "kept" if one_us < ALLOWED_ONE_US else "MISSED"
    print(f"one under {ALLOWED_ONE_US:.0f} µs                {verdict}: {one_us:.1f} µs")
    verdict = "kept" if rate >= ALLOWED_ROWS_A_SECOND else "MISSED"
    print(f"at least 1 M rows a second     {verdict}")


def main() -> None:
    """Make a table where none is given, then measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lut", type=Path, help="a table that is there; its newest build's space is predicted")
    options = parser.parse_args()
    with open_device("local") as device:
        print(f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, {summary(device.profile)}")
    print(platform.platform())
    with tempfile.TemporaryDirectory() as folder:
        path = options.lut or Path(folder) / "table.sqlite"
        if options.lut is None:
            make_table(path)
        measure(path)


if __name__ == "__main__":
    main()
