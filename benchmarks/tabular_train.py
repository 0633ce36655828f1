"""Train every architecture of ``df-cifar`` at depth 2 (833) and write the accuracies down: the tabular benchmark.

Run: ``python benchmarks/tabular_train.py --data cifar10_subset.tar --state FOLDER [--workers 2] [--time-budget S]
[--slice N]``. Stop it at any time (Ctrl-C, ``kill -TERM``, even ``kill -9``): what is finished is in
``FOLDER/results.csv``, and the same command goes on with the rest. The order is a seeded random permutation, so a
partial table is a uniform sample; then 2 more seeds follow for the 40 architectures nearest the front of accuracy
over MACs. ``--status`` says how far it is, ``--pack`` writes the table that the package ships, and ``--unpack`` begins
a state folder with it, so that another machine goes on where that table ends.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import os
import signal
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, wait
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from tabular_data import cache_data, fingerprint, load_cache

from dfmobile.accuracy.options import TrainingOptions
from dfmobile.accuracy.tabular import SHIPPED, parse_table
from dfmobile.architecture import Architecture, build
from dfmobile.architecture.spaces import open_space
from dfmobile.errors import DfmobileError, EvaluationError, InputError
from dfmobile.execution.local import LocalExecutor
from dfmobile.files import FileLock, atomic_write, atomic_write_json, read_json
from dfmobile.graph import cost

SPACE, DEPTH, SIZE = "df-cifar", 2, 32
EPOCHS = (1, 3, 5, 10)
# By trial: 256 images a step at rate 0.8 take as long on a busy machine and were 0.8 points less accurate (5 pairs);
# 256 at 0.4 lost 3 points. bfloat16 is hardly faster below 2 million MACs.
OPTIONS = TrainingOptions(data="cifar10_subset.tar", epochs=10, batch_size=128, learning_rate=0.4)
ORDER_SEED = 20261126
NEAR_FRONT, MORE_SEEDS = 40, (1, 2)
COLUMNS = (
    "encoding",
    "seed",
    *(f"accuracy_{epoch}" for epoch in EPOCHS),
    *(f"train_loss_{epoch}" for epoch in EPOCHS),
    *(f"validation_loss_{epoch}" for epoch in EPOCHS),
    "macs",
    "params",
    "cpu_seconds",
)
RESULTS, CACHE, PROTOCOL = "results.csv", "data.npz", "protocol.json"
SHIPPED_PROTOCOL = SHIPPED.with_name("df_cifar_k2.protocol.json")

Row = dict[str, str]


@lru_cache(maxsize=1)
def _data(cache: str) -> Any:
    return load_cache(Path(cache))


def train(payload: dict[str, Any]) -> dict[str, Any]:
    """Train one architecture; this is what runs in a worker.

    Args:
        payload: ``encoding``, ``seed``, ``cache`` (path of the decoded images).

    Returns:
        The values of ``COLUMNS``.
    """
    import torch

    from dfmobile.accuracy.trainer import Trainer, fixed_torch

    torch.set_flush_denormal(True)  # else vanishing gradients make a training slower, not better
    data = _data(payload["cache"])
    started = time.process_time()
    graph = build(Architecture.parse(payload["encoding"]), SIZE, SIZE).graph
    with fixed_torch(OPTIONS.threads, payload["seed"]):
        trainer = Trainer(graph, data, OPTIONS, payload["seed"])
        points = [trainer.run_epoch(validate=epoch in EPOCHS) for epoch in range(1, OPTIONS.epochs + 1)]
    row: dict[str, Any] = {"encoding": payload["encoding"], "seed": payload["seed"]}
    for epoch in EPOCHS:
        point = points[epoch - 1]
        row[f"accuracy_{epoch}"] = f"{point['validation_accuracy']:.4f}"
        row[f"train_loss_{epoch}"] = f"{point['train_loss']:.5f}"
        row[f"validation_loss_{epoch}"] = f"{point['validation_loss']:.5f}"
    seconds = time.process_time() - started
    return {**row, "macs": cost.macs(graph), "params": cost.params(graph), "cpu_seconds": f"{seconds:.2f}"}


def read_results(path: Path) -> list[Row]:
    """Read all whole rows; a torn last line (power cut) is left out."""
    if not path.exists():
        return []
    lines = path.read_text().split("\n")[:-1]
    rows = list(csv.DictReader(lines))
    if (lines and tuple(lines[0].split(",")) != COLUMNS) or any(None in row or None in row.values() for row in rows):
        raise InputError(f"{path} has other columns than this script writes", hint="give another state folder")
    return rows


class ResultFile:
    """Appends rows, each in one write that is on the disk before the next training is counted as done."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        content = os.pread(self._descriptor, os.fstat(self._descriptor).st_size, 0)
        os.ftruncate(self._descriptor, content.rfind(b"\n") + 1)  # drops a torn last line
        os.lseek(self._descriptor, 0, os.SEEK_END)
        if not content.rstrip(b"\n"):
            self._write(",".join(COLUMNS))

    def append(self, row: dict[str, Any]) -> None:
        """Write one row."""
        self._write(",".join(str(row[name]) for name in COLUMNS).replace(row["encoding"], f'"{row["encoding"]}"', 1))

    def _write(self, line: str) -> None:
        os.write(self._descriptor, f"{line}\n".encode())
        os.fsync(self._descriptor)


def near_front(rows: list[Row], count: int = NEAR_FRONT) -> list[str]:
    """Return the architectures with the least accuracy missing to the best of at most their MACs, by seed 0."""
    first = sorted(
        (int(row["macs"]), -float(row["accuracy_10"]), row["encoding"]) for row in rows if row["seed"] == "0"
    )
    best, missing = 0.0, []
    for macs, negative, encoding in first:
        best = max(best, -negative)
        missing.append((round(best + negative, 6), macs, encoding))
    return sorted(encoding for _, _, encoding in sorted(missing)[:count])


def pack(rows: list[Row], path: Path) -> str:
    """Write the shipped table: sorted, gzipped, the same bytes for the same rows; say what it has."""
    if not rows:
        raise InputError("no training is finished yet", hint="run it without --pack first")
    stream = io.StringIO()
    writer = csv.DictWriter(stream, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows, key=lambda row: (int(row["macs"]), row["encoding"], int(row["seed"]))))
    content = gzip.compress(stream.getvalue().encode(), 9, mtime=0)
    table = parse_table(content, path)  # nothing is shipped that the evaluator would refuse
    atomic_write(path, content)
    return f"{path}: {len(table.rows)} architectures, {len(rows)} trainings, {len(content)} bytes"


def unpack(state: Path) -> str:
    """Begin a state folder with what the package ships, so that another machine goes on; say what there is.

    The protocol comes along and is compared with what this machine would do before anything is trained.
    """
    if (state / RESULTS).exists():
        raise InputError(f"{state / RESULTS} is there already", hint="give another state folder")
    state.mkdir(parents=True, exist_ok=True)
    rows = list(csv.DictReader(io.StringIO(gzip.decompress(SHIPPED.read_bytes()).decode())))
    atomic_write_json(state / PROTOCOL, read_json(SHIPPED_PROTOCOL))
    results = ResultFile(state / RESULTS)
    for row in rows:
        results.append(row)
    return f"{state / RESULTS}: {len(rows)} trainings"


def plan(rows: list[Row]) -> list[tuple[str, int]]:
    """Return what is still to be trained, in order: (encoding, seed)."""
    space = open_space(SPACE, max_depth=DEPTH)
    done = {(row["encoding"], int(row["seed"])) for row in rows}
    order = np.random.default_rng(ORDER_SEED).permutation(space.count())
    texts = [space.architecture(row).text for row in space.rows()[order]]
    left = [(text, 0) for text in texts if (text, 0) not in done]
    if left:
        return left
    near = set(near_front(rows))
    return [(text, seed) for seed in MORE_SEEDS for text in texts if text in near and (text, seed) not in done]


def _check_protocol(state: Path, data: Any) -> None:
    import torch

    protocol = {
        "space": SPACE,
        "max_depth": DEPTH,
        "options": OPTIONS.describe(),
        "epochs": list(EPOCHS),
        "data": data.describe(),
        "pixels_sha256": fingerprint(data),
        "torch": torch.__version__,
        "order_seed": ORDER_SEED,
    }
    path = state / PROTOCOL
    if not path.exists():
        atomic_write_json(path, protocol)
    elif read_json(path) != json.loads(json.dumps(protocol)):
        raise InputError(f"{path} is of another protocol, data or version of torch", hint="give another state folder")


def collect(state: Path, workers: int, most: int | None, seconds: float | None) -> bool:
    """Train what is left, until all is done, ``most`` are, or the time is up; tell whether all is done."""
    started, failed, count = time.monotonic(), set(), 0
    rows = read_results(state / RESULTS)
    results = ResultFile(state / RESULTS)
    executor = LocalExecutor(workers)
    running: dict[Future[dict[str, Any]], tuple[str, int]] = {}
    try:
        while True:
            busy = {*running.values(), *failed}
            left = [item for item in plan(rows) if item not in busy]
            full = most is not None and count + len(running) >= most
            late = seconds is not None and time.monotonic() - started >= seconds
            # The second phase begins when the last of the first is in: it depends on all of them.
            waits = bool(left) and left[0][1] > 0 and any(seed == 0 for _, seed in running.values())
            while left and len(running) < workers and not (full or late or waits):
                encoding, seed = left.pop(0)
                payload = {"encoding": encoding, "seed": seed, "cache": str(state / CACHE)}
                running[executor.submit("tabular_train:train", payload)] = (encoding, seed)
                full = most is not None and count + len(running) >= most
            if not running:
                return not left and not failed
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                item = running.pop(future)
                try:
                    row = future.result()
                except EvaluationError as error:
                    failed.add(item)
                    print(f"FAILED {item}: {error}", flush=True)
                    continue
                results.append(row)
                rows.append({name: str(row[name]) for name in COLUMNS})
                count += 1
                print(f"{len(rows)} {item[0]} seed {item[1]}: {row['accuracy_10']} {row['cpu_seconds']} s", flush=True)
    finally:
        executor.close()


def main() -> None:
    """Parse, train or look."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--state", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--data", type=Path, metavar="TAR", help="train/CLASS/*.jpg and test/CLASS/*.jpg")
    parser.add_argument("--workers", type=int, default=2, help="processes of one thread each")
    parser.add_argument("--slice", type=int, metavar="N", help="end after N trainings")
    parser.add_argument("--time-budget", type=float, metavar="S", help="begin no training after S seconds")
    parser.add_argument("--pack", action="store_true", help="write the table that the package ships, and end")
    parser.add_argument("--unpack", action="store_true", help="begin an empty state folder with that table, and end")
    parser.add_argument("--status", action="store_true", help="say how far it is, and end")
    arguments = parser.parse_args()
    state = arguments.state
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # an ordinary end: the workers are ended too
    try:
        if arguments.status:
            rows = read_results(state / RESULTS)
            cpu = sum(float(row["cpu_seconds"]) for row in rows)
            print(f"{len(rows)} trainings done in {cpu:.0f} CPU seconds, {len(plan(rows))} left in this phase")
            return
        if arguments.pack:
            print(pack(read_results(state / RESULTS), SHIPPED))
            atomic_write_json(SHIPPED_PROTOCOL, read_json(state / PROTOCOL))
            return
        if arguments.unpack:
            print(unpack(state))
            return
        state.mkdir(parents=True, exist_ok=True)
        with FileLock(state / RESULTS, "training into"):
            if arguments.data is not None:
                cache_data(arguments.data, state / CACHE)
            _check_protocol(state, load_cache(state / CACHE))
            (state / "pid").write_text(f"{os.getpid()}\n")
            done = collect(state, arguments.workers, arguments.slice, arguments.time_budget)
            print("all done" if done else "more to do: run it again", flush=True)
    except DfmobileError as error:
        sys.exit(f"error: {error}\nhint: {error.hint}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
