"""What one more item in a batch costs beyond the process that it runs, beside one ``run`` per item.

An item is a small file and a program that ends at once (``true``), so nearly all of its time is the driver's and the
transport's; the program's own time (started by the same shell on the device) is measured there and taken off.
The other column is what tools do that use one ``adb shell`` a model: push the file, run, remove the file.

Run: ``python benchmarks/batch_overhead.py --device adb+tcp:127.0.0.1:PORT``.
The difference of a long and a short batch is divided by the difference of their lengths: start and end of a run cancel.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import tempfile
import time
from pathlib import Path

from dfmobile.devices.batch import Batch, BatchItem, BatchSettings
from dfmobile.devices.device import open_device
from dfmobile.devices.transport.base import Transport

LIMIT_S = 600.0
SHORT = 20


def processor() -> str:
    """Return the CPU's name as the kernel gives it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown CPU"


def models(folder: Path, count: int, size_bytes: int) -> list[Path]:
    """Write files of different contents."""
    paths = [folder / f"model{number:05}" for number in range(count)]
    for path in paths:
        path.write_bytes(os.urandom(size_bytes))
    return paths


def batch_s(transport: Transport, paths: list[Path], push_first: bool) -> float:
    """Return how long a batch takes, in seconds."""
    items = [BatchItem(path.name, ("true",), ((path, "model"),)) for path in paths]
    settings = BatchSettings(poll_s=0.2, affinity_mask=None, push_first=push_first)
    start = time.perf_counter()
    results = list(Batch(transport, settings).run(items))
    seconds = time.perf_counter() - start
    if any(result.exit_code for result in results) or len(results) != len(items):
        raise SystemExit(f"an item failed: {results[0]}")
    return seconds


def one_by_one_s(transport: Transport, paths: list[Path]) -> float:
    """Return how long the same takes with a push, a run and a removal for each, in seconds."""
    with transport.scratch_folder() as folder:
        start = time.perf_counter()
        for path in paths:
            transport.push(path, f"{folder}/model")
            transport.run(["true"], timeout_s=LIMIT_S).check("running")
            transport.remove(f"{folder}/model")
        return time.perf_counter() - start


def process_ms(transport: Transport, count: int = 500) -> float:
    """Return what starting and ending the program alone costs on the device, in milliseconds."""
    script = "n=$1; while [ $n -gt 0 ]; do /usr/bin/env true; n=$((n - 1)); done"
    times = []
    for runs in (0, count):
        start = time.perf_counter()
        transport.run(["sh", "-c", script, "sh", str(runs)], timeout_s=LIMIT_S).check("running")
        times.append(time.perf_counter() - start)
    return 1000 * (times[1] - times[0]) / count


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="local")
    parser.add_argument("--items", type=int, default=200)
    parser.add_argument("--bytes", type=int, default=50_000)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    if arguments.items <= SHORT:
        parser.error(f"--items must be above {SHORT}")
    overhead: dict[str, list[float]] = {"batch": [], "batch, all sent first": [], "one run per item": []}
    with tempfile.TemporaryDirectory() as folder, open_device(arguments.device) as device:
        transport = device.transport
        program_ms = process_ms(transport)
        batch_s(transport, models(Path(folder), 2, 10), False)  # brings the driver
        for _ in range(arguments.repeats):
            paths = models(Path(folder), arguments.items, arguments.bytes)
            for name, push_first in (("batch", False), ("batch, all sent first", True)):
                short_s = batch_s(transport, paths[:SHORT], push_first)
                long_s = batch_s(transport, paths, push_first)
                overhead[name].append(1000 * (long_s - short_s) / (arguments.items - SHORT) - program_ms)
            seconds = one_by_one_s(transport, paths)
            overhead["one run per item"].append(1000 * seconds / arguments.items - program_ms)
    print(f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, {processor()}, {platform.platform()}")
    print(
        f"{arguments.device}: {arguments.items} items of {arguments.bytes} bytes, "
        f"the program itself {program_ms:.2f} ms; beyond it, per item:"
    )
    print(f"{'':26}{'best ms':>9}{'median ms':>11}")
    for name, values in overhead.items():
        print(f"{name:26}{min(values):9.2f}{statistics.median(values):11.2f}")


if __name__ == "__main__":
    main()
