"""How long writing model files takes: a small block, and DF1 (8.5 million parameters).

Run: ``python benchmarks/export_speed.py [--repeats N]``. Prints one table; times are wall-clock, best and median.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from dfmobile.architecture import build, zoo
from dfmobile.export.exporter import model_bytes
from dfmobile.graph import Graph, GraphBuilder, initialise


def basic_block() -> Graph:
    """Return a residual block of 64 channels on a 56x56 map, in training form."""
    builder = GraphBuilder()
    x = builder.input("x", (1, 64, 56, 56))
    y = builder.relu(builder.batch_norm(builder.conv(x, 64, 3, padding=1), 1e-4))
    y = builder.batch_norm(builder.conv(y, 64, 3, padding=1), 1e-4)
    return builder.build(builder.relu(builder.add(y, x)))


def processor() -> str:
    """Return the CPU's name as the kernel gives it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown CPU"


def measure(action: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Return the best and the median wall time of an action in milliseconds, after one call that warms up."""
    action()
    times_ms = []
    for _ in range(repeats):
        start = time.perf_counter()
        action()
        times_ms.append(1000.0 * (time.perf_counter() - start))
    return min(times_ms), statistics.median(times_ms)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    entry = zoo.get("DF1")
    cases = {
        "basic block, 64 channels, 56x56": basic_block(),
        "DF1, 224x224": build(entry.architecture, entry.width, entry.height).graph,
    }
    print(f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, {processor()}, {platform.platform()}")
    print(f"{'graph':34}{'format':8}{'best ms':>9}{'median ms':>11}{'bytes':>12}")
    for name, graph in cases.items():
        weights = initialise(graph)
        for format in ("tflite", "onnx"):
            size = len(model_bytes(graph, weights, format))
            best, median = measure(lambda g=graph, w=weights, f=format: model_bytes(g, w, f), repeats)  # type: ignore[misc]
            print(f"{name:34}{format:8}{best:9.2f}{median:11.2f}{size:12}")


if __name__ == "__main__":
    main()
