"""How far the search engine scales: set-up, prune, exact counts, peak memory, and an optimum beyond enumeration.

Latencies are synthetic and additive: block i of a space (in the order of ``space.blocks``) takes

    macs_i / 10^9 * (0.7 + 0.6 u_i) + 0.02 ms,    u = numpy.random.default_rng(SEED).random(blocks)

at the space's default input. Accuracies are 1 - 1 / (1 + log(1 + latency)) + a normal deviate of 0.01 from
``default_rng(SEED + 1)``; draws use ``default_rng(SEED + 2)``. Each measurement runs in a process of its own, so that
its peak memory is its own; times are wall times.

Run: ``python benchmarks/search_scale.py [--engine numba|numpy]`` (default: both). It takes about a minute.
"""

from __future__ import annotations

import argparse
import datetime
import json
import platform
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np

from dfmobile.architecture import Architecture
from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.architecture.spaces.df import DF_WIDTHS
from dfmobile.architecture.spaces.stage_tables import StageTables
from dfmobile.search.base import Evaluated

SEED = 0
RESULTS = 200
SIX_WIDTHS = (*DF_WIDTHS, 2048)
# More than 10^12 members; lists of a stage cannot be enumerated.
MANY_WIDTHS = (16, 24, 32, 48, 64, 96, 128, 192, 256, 384)
COUNTS = {(5, 2): 833, (5, 3): 6_651, (5, 4): 32_072, (5, 6): 334_683, (5, 8): 1_913_408, (5, 10): 7_689_725,
          (6, 10): 39_710_450}  # fmt: skip


def make_space(widths: tuple[int, ...], depth: int) -> ChainSpace:
    """Return a space of DF's kind."""
    template = Architecture.parse(f"df/{widths[0]}/{widths[0]}/{widths[0]}")
    return ChainSpace(f"df, {len(widths)} widths", template, widths, depth, (224, 224))


def features(space: ChainSpace) -> dict[str, list[float]]:
    """Return by block the latency (ms) of the formula above, and a score: log(1 + millions of MACs)."""
    blocks = space.blocks(*space.default_input)
    noise = np.random.default_rng(SEED).random(len(blocks))
    return {
        block.key: [block.macs / 1e9 * (0.7 + 0.6 * float(item)) + 0.02, float(np.log1p(block.macs / 1e6))]
        for block, item in zip(blocks, noise, strict=True)
    }


def tables_of(space: ChainSpace) -> StageTables:
    """Return its latencies by stage."""
    latency_ms: StageTables = space.stage_tables(*space.default_input, features(space))[0]
    return latency_ms


def pruning(widths: int, depth: int, engine: str, stored: str) -> dict[str, Any]:
    """Apply ``RESULTS`` results; return what each part took."""
    import dfmobile.search.factored as factored

    started = time.perf_counter()
    space = make_space(DF_WIDTHS if widths == len(DF_WIDTHS) else SIX_WIDTHS, depth)
    kernels = factored.open_kernels(engine)
    pruner = factored.FactoredPruner(space, tables_of(space), stored=stored, kernels=kernels)  # type: ignore[arg-type]
    set_up = time.perf_counter() - started
    noise, generator = np.random.default_rng(SEED + 1), np.random.default_rng(SEED + 2)
    spent = []
    for number in range(1, RESULTS + 1):
        if not pruner.alive_count:
            break
        candidate = pruner.draw(generator)
        pruner.take(candidate)
        accuracy = 1 - 1 / (1 + np.log1p(candidate.predicted_ms)) + noise.normal(0, 0.01)
        start = time.perf_counter()
        pruner.apply(Evaluated(number, candidate, float(accuracy)))
        spent.append(1e3 * (time.perf_counter() - start))
    found: dict[str, Any] = {
        "architectures": pruner.total, "set_up_s": set_up, "results": len(spent), "alive": pruner.alive_count,
        "prune_mean_ms": float(np.mean(spent)), "prune_worst_ms": float(np.max(spent)),
    }  # fmt: skip
    if stored == "constraints":
        start = time.perf_counter()
        counted = int(pruner.recount())
        found["count_s"] = time.perf_counter() - start
        found["count_agrees"] = counted == pruner.alive_count
    start = time.perf_counter()
    pruner.sample(1, generator)
    found["draw_ms"] = 1e3 * (time.perf_counter() - start)
    return found


def optimum() -> dict[str, Any]:
    """Find the exact best by a separable score in a space that cannot be enumerated, for several latency limits."""
    from dfmobile.search.separable import best_separable

    space = make_space(MANY_WIDTHS, 24)
    latency, score = space.block_tables(*space.default_input, features(space))
    spent = []
    for high in (0.5, 1.0, 2.0, 5.0):
        start = time.perf_counter()
        found = best_separable(space, latency, score, (None, high))
        spent.append({"limit_ms": high, "s": time.perf_counter() - start, "labels": found.labels, "score": found.score,
                      "latency_ms": found.latency_ms, "encoding": found.architecture.text})  # fmt: skip
    return {"architectures": space.count(), "optima": spent}


def sampling() -> dict[str, Any]:
    """Draw 100,000 members of the 7.7 million uniformly, by dynamic programming."""
    space = make_space(DF_WIDTHS, 10)
    spent = []
    for number in range(6):
        start = time.perf_counter()
        space.sample_rows(100_000, np.random.default_rng(number))
        spent.append(1e3 * (time.perf_counter() - start))
    return {"first_ms": spent[0], "median_ms": float(np.median(spent[1:]))}


def alone(*arguments: str) -> dict[str, Any]:
    """Run one part in a process of its own; return what it found, and its peak memory."""
    command = [sys.executable, __file__, "--part", *arguments]
    answer = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=("numba", "numpy"), help="default: both")
    parser.add_argument("--part", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        name, *rest = options.part
        found = pruning(int(rest[0]), int(rest[1]), rest[2], rest[3]) if name == "pruning" else globals()[name]()
        found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(found))
        return
    print(f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, {platform.platform()}")
    for (widths, depth), count in COUNTS.items():
        space = make_space(SIX_WIDTHS if widths == 6 else DF_WIDTHS, depth)
        walked = tables_of(space).count  # by the suffixes of the stage lists, not by the formula
        verdict = "agrees" if space.count() == walked == count else "DIFFERS"
        print(f"count, m = {widths}, k = {depth}: {space.count():,} {verdict}")
    for engine in (options.engine,) if options.engine else ("numba", "numpy"):
        for widths, stored in ((5, "bits"), (5, "constraints"), (6, "bits"), (6, "constraints")):
            found = alone("pruning", str(widths), "10", engine, stored)
            count = ""
            if "count_s" in found:
                same = "as kept" if found["count_agrees"] else "NOT as kept"
                count = f", count anew {found['count_s']:.2f} s ({same})"
            print(
                f"{engine}, m = {widths}, k = 10, {stored}: {found['architectures']:,}; "
                f"set-up {found['set_up_s']:.2f} s, "
                f"prune {found['prune_mean_ms']:.1f} ms mean, {found['prune_worst_ms']:.0f} ms worst of "
                f"{found['results']}, {found['alive']:,} left{count}, draw {found['draw_ms']:.1f} ms, "
                f"peak {found['peak_mb']:.0f} MB"
            )
    drawn = alone("sampling")
    print(f"100,000 uniform draws of 7,689,725: first {drawn['first_ms']:.0f} ms, then {drawn['median_ms']:.0f} ms")
    best = alone("optimum")
    print(f"exact optimum of a separable score among {best['architectures']:,}; peak {best['peak_mb']:.0f} MB")
    for item in best["optima"]:
        print(
            f"  up to {item['limit_ms']} ms: {item['s']:.2f} s, {item['labels']} labels, score {item['score']:.3f} "
            f"at {item['latency_ms']:.4f} ms: {item['encoding']}"
        )


if __name__ == "__main__":
    main()
