"""How many trainings each search mode and each baseline needs: docs/benchmarks/search-efficiency.md.

Run: ``python benchmarks/search_efficiency.py RESULTS.jsonl [--seeds 20] [--processes 2] [--plots DIR]``. Every finished
run is a line of RESULTS; the same command again goes on where it was interrupted, and prints the tables.
``--certified`` adds the runs to empty, ``--tabular`` those on the shipped table of real trainings.

The world: space ``df`` at depth 3 (6,651 architectures) at 224x224. Latency of a block, ms:
``0.1 · (1 + (MACs / 10^6)^0.75) · exp(0.15 · e)``, e standard normal, seeded by the SHA-256 of the block's key, so that
latencies have staircases as kernels do. For each seed an oracle of its own. With n_w the number of blocks of a stage
at least as wide as w (five widths), gains g_w exponential with mean 1 (2 for the narrowest, which counts depth) and
decays r_w uniform in [0.4, 0.8], a stage is worth ``c = Σ_w g_w · (1 − r_w^n_w)``. Then

- ``additive``:   ``v = c_3 + c_4 + c_5``
- ``bottleneck``: ``v = −log(mean_s exp(−6 · c_s / max c_s)) / 6 + 0.1 · mean_s c_s / max c_s``

and accuracy is 50 % + 25 % · (v − min v) / (max v − min v) plus normal noise of 0.5 point, seeded by the run. Both are
monotone along the order. A mode sees one accuracy an architecture, with its noise. What counts is the area that the
true accuracies of the evaluated architectures dominate in log latency x accuracy, over that of the whole space, from
the corner of the highest latency and the lowest accuracy of the space.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # runs are side by side; small matrices gain nothing from threads

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.spaces import SearchSpace, open_space
from dfmobile.files import atomic_write
from dfmobile.report.axes import horizontal_axis, vertical_axis
from dfmobile.report.scales import Scale
from dfmobile.report.standalone import standalone_svg
from dfmobile.report.svg import Element, canvas, node, path
from dfmobile.search.base import Candidate, Evaluated, Mode, SearchState
from dfmobile.search.boundary import hypervolume, pareto_optimal
from dfmobile.search.latencies import Latencies
from dfmobile.search.margin_pruning import MarginPruner
from dfmobile.search.modes import open_mode

Array = npt.NDArray[np.float64]

NOISE, BUDGET, GOAL = 0.005, 150, 0.95
MODES = ("budget", "paper", "random", "stratified", "evolution", "nsga2", "tpe")
COLOURS = {
    "budget": "#c2410c", "paper": "#0b3d91", "random": "#8a8f98", "stratified": "#57606a", "evolution": "#1a8a6e",
    "nsga2": "#8250df", "tpe": "#2b8ac4",
}  # fmt: skip


class Job(NamedTuple):
    """One run. ``kind``: ``budgeted`` or ``certified``; ``margin`` and ``noise`` of the latter."""

    kind: str
    oracle: str
    mode: str
    seed: int
    depth: int = 3
    margin: float = 0.0
    noise: float = NOISE


def latencies(space: SearchSpace, rows: npt.NDArray[np.int32]) -> Array:
    """Return the latency of each architecture, ms; see the module."""
    width, height = space.default_input
    features = {}
    for block in space.blocks(width, height):
        seed = int.from_bytes(hashlib.sha256(block.key.encode()).digest()[:8], "big")
        step = math.exp(0.15 * np.random.default_rng(seed).standard_normal())
        features[block.key] = [0.1 * (1 + (block.macs * 1e-6) ** 0.75) * step]
    return np.asarray(space.sums(rows, width, height, features)[:, 0])


def oracle(name: str, space: Any, rows: npt.NDArray[np.int32], seed: int) -> Array:
    """Return the true accuracy of each architecture, in [0, 1]; see the module."""
    generator = np.random.default_rng([7 if name == "additive" else 8, seed])
    counts = np.array([[sum(width >= least for width in widths) for least in space.widths] for widths in space.lists])
    stages = []
    for column in range(3):
        gains = generator.exponential(size=5) * np.array([2, 1, 1, 1, 1])
        decays = generator.uniform(0.4, 0.8, size=5)
        worth = ((1 - decays**counts) * gains).sum(axis=1)
        stages.append((worth if name == "additive" else worth / worth.max())[rows[:, column]])
    worths = np.stack(stages, axis=1)
    if name == "additive":
        value = worths.sum(axis=1)
    else:
        value = -np.log(np.exp(-6 * worths).mean(axis=1)) / 6 + 0.1 * worths.mean(axis=1)
    return np.asarray(0.5 + 0.25 * (value - value.min()) / (value.max() - value.min()))


class World:
    """A space with latencies and accuracies, in which modes are run without a store."""

    def __init__(self, space: SearchSpace, latency_ms: Array, accuracy: Array, rows: npt.NDArray[np.int32]) -> None:
        self.space, self.latency_ms, self.accuracy, self.rows = space, latency_ms, accuracy, rows
        self.index = {tuple(row): number for number, row in enumerate(rows.tolist())}
        self.finite = np.isfinite(latency_ms)
        log = np.log(np.where(self.finite, latency_ms, 1.0))
        self.log_ms = np.where(self.finite, log, np.inf)
        self.worst = (float(log[self.finite].max()), float(accuracy[self.finite].min()))
        self.area = self.dominated(np.flatnonzero(self.finite))

    def dominated(self, indices: Any) -> float:
        """Return the area that some architectures dominate by their true accuracies."""
        return hypervolume(self.log_ms[indices].tolist(), self.accuracy[indices].tolist(), *self.worst)

    def front(self) -> set[int]:
        """Return the true boundary."""
        inside = np.flatnonzero(self.finite)
        optimal = pareto_optimal(self.latency_ms[inside].tolist(), self.accuracy[inside].tolist())
        return set(inside[optimal].tolist())

    def run(self, mode: Mode, seed: int, budget: int | None, noise: float) -> tuple[list[int], Any]:
        """Run a mode, one evaluation at a time; return what it evaluated, and its pruner."""
        pruner = mode.pruner(self.space, Latencies(rows_ms=self.latency_ms), (None, None))
        state, chosen = SearchState(pruner), []
        while pruner.alive_count and (budget is None or len(chosen) < budget):
            number = len(chosen) + 1
            candidate: Candidate = mode.choose(state, np.random.default_rng([seed, number]))
            pruner.take(candidate)
            index = self.index[candidate.row]
            error = noise * np.random.default_rng([seed, index, 1]).standard_normal() if noise else 0.0
            result = Evaluated(number, candidate, float(self.accuracy[index] + error))
            pruner.apply(result)
            state.evaluated.append(result)
            chosen.append(index)
        return chosen, pruner


def simulated_world(name: str, depth: int, seed: int) -> World:
    """Return the world of a formula."""
    space = open_space("df", depth)
    rows = space.rows()
    return World(space, latencies(space, rows), oracle(name, space, rows, seed), rows)


def tabular_world() -> World | str:
    """Return the world of the shipped table of trainings (first seed, most epochs), or why there is none."""
    try:
        from dfmobile.accuracy import tabular
    except ImportError:
        return "this version has no evaluator `tabular`"
    table = tabular.read_table(tabular.SHIPPED)
    space = open_space(tabular.SHIPPED_SPACE, tabular.SHIPPED_DEPTH)
    rows = space.rows()
    column = f"accuracy_{table.epochs[-1]}"
    known = [table.rows.get(space.architecture(row).text) for row in rows]
    if None in known:
        return f"the shipped table is not complete: {sum(item is not None for item in known)} of {len(rows)}"
    accuracy = np.array([item[min(item)][column] for item in known if item is not None])
    return World(space, latencies(space, rows), accuracy, rows)


def run_job(job: Job) -> dict[str, Any]:
    """Run one job; what it returns is a line of the results."""
    world = tabular_world() if job.oracle == "tabular" else simulated_world(job.oracle, job.depth, job.seed)
    if isinstance(world, str):
        raise SystemExit(world)
    start = time.process_time()
    if job.kind == "budgeted":
        noise = 0.0 if job.oracle == "tabular" else job.noise
        chosen, _ = world.run(open_mode(job.mode), job.seed, BUDGET, noise)
        areas = [world.dominated(chosen[: count + 1]) / world.area for count in range(len(chosen))]
        found: dict[str, Any] = {"areas": [round(area, 5) for area in areas]}
    else:
        mode = open_mode("certified", {"margin": job.margin, "sigma": job.noise})
        chosen, pruner = world.run(mode, job.seed, None, job.noise)
        front = world.front()
        found = {
            "trained": len(chosen) / pruner.total,
            "front": len(front),
            "front_found": len(front & set(chosen)) / len(front),
            "by_table": pruner.covered_count if isinstance(pruner, MarginPruner) else 0,
            "area": world.dominated(chosen) / world.area,
        }
    return {"job": list(job), **found, "cpu_s": round(time.process_time() - start, 2)}


def jobs_of(options: argparse.Namespace) -> Iterator[Job]:
    """Yield the jobs that are asked for."""
    for mode in MODES:
        for seed in range(options.seeds):
            for name in ("additive", "bottleneck", *(["tabular"] if options.tabular else [])):
                yield Job("budgeted", name, mode, seed)
    if options.certified:
        for name in ("additive", "bottleneck"):
            for seed in range(min(options.seeds, 2)):
                yield Job("certified", name, "certified", seed, 3, 0.0, 0.0)
            for seed in range(min(options.seeds, 5)):
                for margin in (0.0, 2.0):
                    yield Job("certified", name, "certified", seed, 2, margin, NOISE)


def reached(areas: Iterable[float]) -> float:
    """Return after how many evaluations the goal was reached; infinite if it never was."""
    return next((float(count) for count, area in enumerate(areas, 1) if area >= GOAL), math.inf)


def interval(values: Any, statistic: Any, draws: int = 10_000) -> tuple[float, float]:
    """Return the 95 % bootstrap interval of a statistic over seeds (rows of ``values``)."""
    values, generator = np.asarray(values, float), np.random.default_rng(0)
    found = statistic(values[generator.integers(len(values), size=(draws, len(values)))])
    return float(np.quantile(found, 0.025, method="lower")), float(np.quantile(found, 0.975, method="higher"))


def middle(values: Any) -> Any:
    """Return the lower median along axis 1: defined where some are infinite."""
    ordered = np.sort(values, axis=1)
    return ordered[:, (ordered.shape[1] - 1) // 2]


def text(value: float) -> str:
    """Return a number of evaluations; beyond the budget: >."""
    return f"> {BUDGET}" if math.isinf(value) else f"{value:.0f}"


def summarise(results: list[dict[str, Any]]) -> None:
    """Print the tables as Markdown."""
    for name in ("additive", "bottleneck", "tabular"):
        by_mode = {mode: areas_of(results, name, mode) for mode in MODES}
        if not by_mode["budget"]:
            continue
        print(f"\n{name}, {len(by_mode['budget'])} seeds\n")
        print(
            "| mode | evaluations to 95 %, median (95 %) | area after 20 | after 50 | after 100 | budget ahead at 50 |"
        )
        print("|---|---|---|---|---|---|")
        ours = by_mode["budget"]
        for mode, runs in by_mode.items():
            seeds = sorted(set(runs) & set(ours))
            if not seeds:
                continue
            counts = np.array([reached(runs[seed]) for seed in seeds])
            low, high = interval(counts, middle)
            after = [
                np.mean([runs[seed][min(count, len(runs[seed])) - 1] for seed in seeds]) for count in (20, 50, 100)
            ]
            ahead = [ours[seed][49] - runs[seed][49] for seed in seeds]
            ends = interval(ahead, lambda values: values.mean(axis=1))
            gain = "" if mode == "budget" else f"{np.mean(ahead):+.3f} ({ends[0]:+.3f} to {ends[1]:+.3f})"
            shown = f"{text(float(middle(counts[None])[0]))} ({text(low)} to {text(high)})"
            print(f"| `{mode}` | {shown} | " + " | ".join(f"{value:.3f}" for value in after) + f" | {gain} |")
    print("\nrun to empty\n")
    print(
        "| oracle | depth | noise | margin | seeds | trained | true boundary found | area |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for item in results:
        job = Job(*item["job"])
        if job.kind == "certified":
            groups.setdefault((job.oracle, job.depth, job.noise, job.margin), []).append(item)
    for (name, depth, noise, margin), items in sorted(groups.items()):
        trained, found, area = ([item[key] for item in items] for key in ("trained", "front_found", "area"))
        print(
            f"| {name} | {depth} | {100 * noise:g} point | {margin:g} σ | {len(items)} | {np.mean(trained):.1%} "
            f"(at most {max(trained):.1%}) | {np.mean(found):.1%} (at least {min(found):.1%}) | {np.mean(area):.4f} |"
        )


def areas_of(results: list[dict[str, Any]], name: str, mode: str) -> dict[int, list[float]]:
    """Return the areas over evaluations by seed."""
    jobs = [(Job(*item["job"]), item) for item in results]
    return {
        job.seed: item["areas"] for job, item in jobs if (job.kind, job.oracle, job.mode) == ("budgeted", name, mode)
    }


def plot(results: list[dict[str, Any]], name: str) -> Element | None:
    """Draw the mean area over evaluations of each mode."""
    width, height, left, bottom, right = 720.0, 400.0, 62.0, 46.0, 96.0
    curves = {}
    for mode in MODES:
        runs = list(areas_of(results, name, mode).values())
        if runs:
            curves[mode] = np.mean([[*run, *([run[-1]] * (BUDGET - len(run)))] for run in runs], axis=0)
    if not curves:
        return None
    root = canvas(width, height, f"Area of the boundary over evaluations, oracle {name}, mean over seeds")
    x = Scale("linear", 0, BUDGET, left, width - right)
    y = Scale("linear", 0.5, 1.0, height - bottom, 14)
    horizontal_axis(root, x, height - bottom, 14, "evaluations")
    vertical_axis(root, y, left, width - right, "share of the true area")
    taken: list[float] = []
    for mode, curve in sorted(curves.items(), key=lambda item: -item[1][-1]):
        points = [(x(count), y(value)) for count, value in enumerate(curve, 1) if value >= 0.5]
        node(root, "path", class_="line", stroke=COLOURS[mode], d=path(points))
        level = max(y(curve[-1]) + 4, *(other + 14 for other in taken), 18) if taken else y(curve[-1]) + 4
        taken.append(level)
        node(
            root,
            "path",
            class_="line",
            stroke=COLOURS[mode],
            d=path([(x.end_px + 4, level - 4), (x.end_px + 16, level - 4)]),
        )
        node(root, "text", mode, class_="tick", x=x.end_px + 20, y=level, text_anchor="start")
    return root


def main() -> None:
    """Run what is missing, then print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, help="a line a finished run; made if absent")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--certified", action="store_true", help="also run to empty (minutes a run)")
    parser.add_argument("--tabular", action="store_true", help="also on the shipped table of trainings")
    parser.add_argument("--plots", type=Path, help="folder for the plots")
    options = parser.parse_args()
    if options.tabular and isinstance(why := tabular_world(), str):
        print(f"tabular: {why}")
        options.tabular = False
    results = (
        [json.loads(line) for line in options.results.read_text().splitlines()] if options.results.exists() else []
    )
    done = {Job(*item["job"]) for item in results}
    missing = [job for job in jobs_of(options) if job not in done]
    with ProcessPoolExecutor(options.processes) as pool, options.results.open("a") as stream:
        for result in pool.map(run_job, missing):
            results.append(result)
            stream.write(json.dumps(result) + "\n")
            stream.flush()
    summarise(results)
    for name in ("additive", "bottleneck", "tabular"):
        root = plot(results, name) if options.plots else None
        if root is not None:
            atomic_write(options.plots / f"search-efficiency-{name}.svg", standalone_svg(root))


if __name__ == "__main__":
    main()
