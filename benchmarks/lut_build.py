"""How long a latency table takes beyond the models themselves, and what it predicts.

Builds the table of a space, prints wall time, kernel time, their ratio and the time added to each pass, and then
measures a few networks of the space end to end beside their prediction.

Run: ``python benchmarks/lut_build.py [--space df] [--input 640x384] [--passes 3] [--networks 6] [-o TABLE.sqlite]``.
The whole df space at 640x384 takes about 4 to 6 minutes on one core of a server, ``--space df-mini --input 32x32``
takes 15 seconds. ``--half-width 0.03`` builds adaptively and says whether that took under 5 minutes. Run it on a quiet
machine: blocks are timed by CPU time, but the build by the wall clock.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np

from dfmobile.architecture import Network, build
from dfmobile.architecture.spaces import SearchSpace, open_space
from dfmobile.devices.device import Device, open_device
from dfmobile.devices.profile import summary
from dfmobile.export.tflite import tflite_bytes
from dfmobile.graph.fold import fold_batch_norm
from dfmobile.latency.adaptive import ADAPTIVE_PROTOCOL, adaptive_target
from dfmobile.latency.bench import BENCH_PROTOCOL, bench_models
from dfmobile.latency.builder import BuildProgress, BuildReport, build_table
from dfmobile.latency.measurement import Protocol
from dfmobile.latency.models import cheap_weights
from dfmobile.latency.predictor import Predictor
from dfmobile.latency.table import LatencyTable

ALLOWED_RATIO, ALLOWED_MS_A_PASS = 1.3, 50.0
ALLOWED_ADAPTIVE_S = 300.0


def show_progress(step: BuildProgress) -> None:
    """Print a line every 43 passes (a sixth of the full df table)."""
    if step.done % 43 == 0:
        print(f"  {step.done} of {step.total} passes, about {step.seconds_left:.0f} s left", flush=True)


def print_report(report: BuildReport, process_cpu_s: float) -> None:
    """Print what a build took, beside what it may take.

    Args:
        report: of the build.
        process_cpu_s: CPU time of this process in the build: over the kernels' CPU time it tells what the tool adds,
            whatever else the machine does.
    """
    if not report.passes:
        print("nothing was left to measure: remove the table to time a build")
        return
    allowed_s = ALLOWED_RATIO * report.kernel_s + ALLOWED_MS_A_PASS / 1000 * report.passes
    allowed_cpu_s = ALLOWED_RATIO * report.kernel_clock_s + ALLOWED_MS_A_PASS / 1000 * report.passes
    print(f"blocks                         {report.coverage.blocks}")
    print(f"passes                         {report.passes} ({report.unsteady_passes} not steady after warm-up)")
    print(f"estimated before it began      {report.estimated_s:.1f} s")
    print(f"wall                           {report.wall_s:.1f} s")
    print(f"kernels, wall clock            {report.kernel_s:.1f} s, ratio {report.wall_s / report.kernel_s:.3f}")
    cpu_ratio = report.wall_s / report.kernel_clock_s
    print(f"kernels, CPU time              {report.kernel_clock_s:.1f} s, ratio {cpu_ratio:.3f}")
    print(f"CPU time of the whole process  {process_cpu_s:.1f} s, ratio {process_cpu_s / report.kernel_clock_s:.3f}")
    print(f"added to each pass             {report.overhead_ms_a_pass:.1f} ms")
    for clock, limit_s in (("wall clock", allowed_s), ("CPU time", allowed_cpu_s)):
        verdict = "kept" if report.wall_s <= limit_s else "MISSED"
        print(f"1.3 x kernels + 50 ms a pass   {limit_s:.1f} s by {clock}: {verdict}")


def print_precision(report: BuildReport) -> None:
    """Print what the guards did and, where a half-width was asked for, whether it is reached in the time allowed."""
    for line in report.guards.lines:
        print(line)
    if report.guards.largest_drift is not None:
        print(f"anchors                        {report.guards.anchors}, {100 * report.guards.largest_drift:.1f} % off")
    if report.reached is not None:
        print(report.reached.text)
        verdict = "kept" if report.reached.done and report.wall_s <= ALLOWED_ADAPTIVE_S else "MISSED"
        print(f"reached within {ALLOWED_ADAPTIVE_S:.0f} s           {verdict}: {report.wall_s:.0f} s")


def networks_of(space: SearchSpace, width: int, height: int, predictor: Predictor, count: int) -> list[Network]:
    """Return members spread evenly over the latencies of the fastest half of a large uniform sample."""
    rows = np.unique(space.sample_rows(5000, np.random.default_rng(0)), axis=0)
    latency_ms = predictor.predict_rows(space, rows, width, height)
    order = np.argsort(latency_ms)
    chosen = [order[int(position)] for position in np.linspace(0, len(order) // 2, count)]
    return [build(space.architecture(rows[index]), width, height) for index in chosen]


def compare(networks: list[Network], predictor: Predictor, device: Device) -> None:
    """Measure networks end to end and print each beside its prediction."""
    print(f"\n{'predicted ms':>13}{'interval':>20}{'measured ms':>13}{'±':>8}{'error':>8}  network")
    errors = []
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for number, network in enumerate(networks):
            graph = fold_batch_norm(network.graph)
            paths.append(Path(folder) / f"{number}.tflite")
            paths[-1].write_bytes(tflite_bytes(graph, cheap_weights(graph)))
        results = bench_models(paths, device, "litert", BENCH_PROTOCOL)
    for network, result in zip(networks, results, strict=True):
        prediction = predictor.predict(network)
        errors.append(prediction.latency_ms / result.median_ms - 1)
        low, high = prediction.interval_ms or (float("nan"), float("nan"))
        half = "-" if result.half_width_ms is None else f"{result.half_width_ms:.3f}"
        print(
            f"{prediction.latency_ms:13.3f}{f'{low:.3f}..{high:.3f}':>20}{result.median_ms:13.3f}{half:>8}"
            f"{100 * errors[-1]:7.1f}%  {network.architecture.text}"
        )
    spread, bias = 100 * np.mean(np.abs(errors)), 100 * np.mean(errors)
    print(f"rule {predictor.rule}: mean abs error {spread:.1f} %, bias {bias:+.1f} %")


def main() -> None:
    """Build, print, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--space", default="df")
    parser.add_argument("--input", default="640x384", help="width x height")
    parser.add_argument("--passes", type=int, help="default: 3, or 2 before --half-width")
    parser.add_argument("--networks", type=int, default=6, help="measured end to end; 0 for none")
    parser.add_argument("--half-width", type=float, help="build adaptively to this share, e.g. 0.03")
    parser.add_argument("--half-width-of", choices=("blocks", "networks"), default="blocks")
    parser.add_argument("--time-budget", type=float, help="seconds, with --half-width")
    parser.add_argument("-o", "--output", type=Path, help="keep the table here; default: a temporary folder")
    options = parser.parse_args()
    width, height = (int(text) for text in options.input.split("x"))
    device, space = open_device("local"), open_space(options.space)
    print(f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, {summary(device.profile)}")
    print(f"{platform.platform()}, load {os.getloadavg()[0]:.2f}; space {space.name} at {width}x{height}")
    with tempfile.TemporaryDirectory() as folder:
        path = options.output or Path(folder) / "table.sqlite"
        target = adaptive_target(options.half_width, options.half_width_of, options.time_budget)
        protocol = Protocol() if target is None else ADAPTIVE_PROTOCOL
        protocol = dataclasses.replace(protocol, passes=options.passes or protocol.passes)
        cpu_before_s = time.process_time()
        report = build_table(
            path, space, width, height, device, "litert", protocol, target=target, progress=show_progress
        )
        print_report(report, time.process_time() - cpu_before_s)
        print_precision(report)
        with LatencyTable.open(path) as table:
            print(f"runtime {table.header.runtime} {table.header.runtime_version}, 1 thread, fp32")
            predictor = Predictor(table)
        if options.networks:
            compare(networks_of(space, width, height, predictor, options.networks), predictor, device)


if __name__ == "__main__":
    main()
