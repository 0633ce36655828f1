"""Training smoke: a small shuffle-seg network on procedural scenes, mIoU on held-out ones, time; and the quick preset.

Run: ``python benchmarks/scene_training.py [--scenes N] [--epochs N] [--image-size WxH]``, about 3 minutes of one core;
``--quick`` instead trains several networks with ``preset=quick``, ``--seeds`` times each, and prints mean and spread.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from dfmobile.accuracy import Evaluation, EvaluationRequest
from dfmobile.accuracy.segmentation import SegmentationEvaluator

NETWORK = "shuffle/2x24/4x48/2x96+seg:24,48,48"
QUICK_NETWORKS = (
    "shuffle/1x24/1x24/1x24+seg:24,24,24:d8",
    "shuffle/1x24/2x48/1x96+seg:24,24,48",
    NETWORK,
    "shuffle/4x48/8x96/4x192+seg:48,96,192",
)


def processor() -> str:
    """Return the CPU's name as the kernel gives it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown CPU"


def train(evaluator: SegmentationEvaluator, encoding: str, seed: int, speak: bool) -> tuple[Evaluation, float, float]:
    """Train one network in a fresh folder; return the evaluation, wall seconds and CPU seconds of this process."""

    def progress(point: dict[str, Any]) -> None:
        print(
            f"  epoch {point['epoch']:3}  loss {point['train_loss']:.3f}  mIoU {point['validation_accuracy']:.4f}",
            flush=True,
        )

    wall, cpu = time.monotonic(), time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        request = EvaluationRequest(encoding, seed, Path(folder) / "run")
        found = evaluator.evaluate(request, progress if speak else None)
    return found, time.monotonic() - wall, time.process_time() - cpu


def smoke(options: dict[str, Any], encoding: str) -> None:
    """Train one network and print its IoU by class."""
    found, wall, cpu = train(SegmentationEvaluator(**options), encoding, 0, speak=True)
    print(f"{encoding}: {found.details['params']:,} parameters, {found.details['macs'] / 1e6:.1f} M MACs")
    print(f"mIoU {found.accuracy:.4f}, pixel accuracy {found.details['pixel_accuracy']:.4f}")
    print(f"{wall:.0f} s wall, {cpu:.0f} s CPU, painting the scenes included")
    for name, value in found.details["iou"].items():
        print(f"| {name} | {value:.3f} |")


def quick(networks: tuple[str, ...], seeds: int) -> None:
    """Train networks with the quick preset, several seeds each."""
    evaluator = SegmentationEvaluator(preset="quick")
    start = time.process_time()
    evaluator.data()
    print(f"painting the scenes: {time.process_time() - start:.1f} s CPU, once a process")
    for encoding in networks:
        runs = [train(evaluator, encoding, seed, speak=False) for seed in range(seeds)]
        values = [found.accuracy for found, _, _ in runs]
        spread = f"{statistics.stdev(values):.4f}" if seeds > 1 else "-"
        cpu = statistics.mean(run[2] for run in runs)
        macs = runs[0][0].details["macs"] / 1e6
        each = ", ".join(f"{value:.4f}" for value in values)
        print(
            f"| `{encoding}` | {macs:.1f} | {statistics.mean(values):.4f} | {spread} | {each} | {cpu:.0f} |", flush=True
        )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--image-size", default="256x128")
    parser.add_argument("--network", action="append", help="encoding; with --quick repeatable")
    parser.add_argument("--quick", action="store_true", help="the quick preset on several networks")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    now = datetime.datetime.now(datetime.timezone.utc)
    print(f"{now:%Y-%m-%d %H:%M} UTC, {processor()}, {platform.platform()}, one thread")
    if arguments.quick:
        quick(tuple(arguments.network or QUICK_NETWORKS), arguments.seeds)
        return
    options = {
        "data": f"scenes:{arguments.scenes}",
        "epochs": arguments.epochs,
        "image_size": arguments.image_size,
        "learning_rate": 0.15,
    }
    print(f"options: {options}, others as by default")
    smoke(options, (arguments.network or [NETWORK])[0])


if __name__ == "__main__":
    main()
