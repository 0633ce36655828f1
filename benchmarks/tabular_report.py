"""What the tabular benchmark says: how often the partial order holds, seed noise, the true front, early epochs.

Run: ``python benchmarks/tabular_report.py [--table FILE.csv] [--page docs/benchmarks/tabular-benchmark.md]``; default:
the shipped table, printed. Works on a partial table, and says its share. Run ``tabular_train.py --pack`` before.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dfmobile.accuracy.tabular import SHIPPED, AccuracyTable, read_table
from dfmobile.architecture import Architecture
from dfmobile.architecture.spaces import open_space
from dfmobile.devices.device import open_device
from dfmobile.devices.profile import summary
from dfmobile.files import atomic_write
from dfmobile.search.boundary import pareto_optimal

SPACE, DEPTH = "df-cifar", 2
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Trainings:
    """The architectures of a table in one order.

    Attributes:
        architectures: of the space, N.
        first: accuracy with seed 0 after the last epoch: every architecture has it, so noise is equal.
        mean: over all seeds.
        macs: of each.
    """

    table: AccuracyTable
    architectures: list[Architecture]
    first: Floats
    mean: Floats
    macs: Floats

    @classmethod
    def of(cls, table: AccuracyTable) -> Trainings:
        """Take what has a training with seed 0."""
        found = {text: seeds for text, seeds in table.rows.items() if 0 in seeds}
        last = f"accuracy_{table.epochs[-1]}"
        return cls(
            table,
            [Architecture.parse(text) for text in found],
            np.array([seeds[0][last] for seeds in found.values()]),
            np.array([np.mean([row[last] for row in seeds.values()]) for seeds in found.values()]),
            np.array([seeds[0]["macs"] for seeds in found.values()]),
        )

    def column(self, name: str) -> Floats:
        """Return a column of seed 0."""
        return np.array([self.table.rows[item.text][0][name] for item in self.architectures])


def lists(architecture: Architecture) -> list[tuple[int, ...]]:
    """Return the widths of each stage."""
    return [stage.widths for stage in architecture.stages]


def inner_projections(architecture: Architecture) -> int:
    """Count the projections that widths cause: a stage's first block has one in any case, by its stride."""
    return sum(a != b for stage in lists(architecture) for a, b in itertools.pairwise(stage))


def kind_of(x: Architecture, y: Architecture) -> str:
    """Say how y, which is above x, differs: ``width`` (one block's), ``depth`` (one more block) or ``several``."""
    different = [(a, b) for a, b in zip(lists(x), lists(y), strict=True) if a != b]
    if len(different) != 1:
        return "several"
    a, b = different[0]
    if len(a) == len(b):
        return "width" if sum(p != q for p, q in zip(a, b, strict=True)) == 1 else "several"
    return "depth" if len(b) == len(a) + 1 and b[: len(a)] == a else "several"


def violations(found: Trainings, noise_sd: float | None) -> list[str]:
    """Return the table's rows of how often a smaller architecture was more accurate than a larger one."""
    space = open_space(SPACE, max_depth=DEPTH)
    rows = np.array([space.row(item) for item in found.architectures])
    above = np.ones((len(rows), len(rows)), bool)
    for stage in range(rows.shape[1]):
        above &= space.stage_order(stage)[rows[:, stage][:, None], rows[:, stage][None, :]]
    np.fill_diagonal(above, val=False)
    pairs = np.argwhere(above)
    drop = found.first[pairs[:, 0]] - found.first[pairs[:, 1]]
    members = found.architectures
    kinds = np.array([kind_of(members[i], members[j]) for i, j in pairs])
    projections = np.array([inner_projections(item) for item in members])
    change = projections[pairs[:, 1]] - projections[pairs[:, 0]] if len(pairs) else np.zeros(0, int)
    groups = [
        ("one block wider", kinds == "width"),
        ("… and a projection more", (kinds == "width") & (change > 0)),
        ("… as many projections", (kinds == "width") & (change == 0)),
        ("… and a projection less", (kinds == "width") & (change < 0)),
        ("one block deeper, as wide as the last", (kinds == "depth") & (change == 0)),
        ("one block deeper, wider than the last (a projection more)", (kinds == "depth") & (change > 0)),
        ("any, fewer projections", change < 0),
        ("any, as many or more projections", change >= 0),
        ("any", np.ones(len(pairs), bool)),
    ]
    lines = []
    for name, chosen in groups:
        part = drop[chosen]
        if not len(part):
            lines.append(f"| {name} | 0 | - | - | - | - |")
            continue
        beyond = "-" if noise_sd is None else f"{np.mean(part > 2 * np.sqrt(2) * noise_sd):.1%}"
        worst = max(0.0, float(part.max()))
        lines.append(
            f"| {name} | {len(part):,} | {np.mean(part > 0):.1%} | {beyond} | {-part.mean() * 100:+.2f} | "
            f"{worst * 100:.2f} |"
        )
    return lines


def ranks(values: Floats) -> Floats:
    """Return the ranks of values; equal ones share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]


def spearman(a: Floats, b: Floats) -> str:
    """Return the rank correlation as text; `-` where there is none."""
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return "-"
    return f"{np.corrcoef(ranks(a), ranks(b))[0, 1]:.3f}"


def correlations(found: Trainings) -> list[str]:
    """Return the table's rows of how well early results rank architectures."""
    last = found.table.epochs[-1]
    best = found.first >= np.quantile(found.first, 0.75)
    proxies = [(f"accuracy after epoch {n}", found.column(f"accuracy_{n}")) for n in found.table.epochs[:-1]]
    proxies += [(f"training loss in epoch {n}, negative", -found.column(f"train_loss_{n}")) for n in (1, 3, last)]
    proxies += [("MACs", found.macs), ("parameters", found.column("params"))]
    return [
        f"| {name} | {spearman(values, found.first)} | {spearman(values[best], found.first[best])} |"
        for name, values in proxies
    ]


def front(found: Trainings) -> list[str]:
    """Return the table's rows of the architectures that no other beats in MACs and mean accuracy."""
    optimal = np.flatnonzero(pareto_optimal(found.macs.tolist(), found.mean.tolist()))
    lines = []
    for index in sorted(optimal, key=lambda i: found.macs[i]):
        text = found.architectures[index].text
        seeds = found.table.rows[text]
        each = ", ".join(f"{seeds[seed][f'accuracy_{found.table.epochs[-1]}']:.2%}" for seed in sorted(seeds))
        stages = text.partition("/")[2]
        macs, params = found.macs[index] / 1e6, seeds[0]["params"]
        lines.append(f"| `{stages}` | {macs:.3f} | {params:,.0f} | {found.mean[index]:.2%} | {each} |")
    return lines


def page(table: AccuracyTable) -> str:
    """Return the whole page."""
    found = Trainings.of(table)
    total = open_space(SPACE, max_depth=DEPTH).count()
    noise_sd = table.noise_sd(table.epochs[-1])
    repeated = sum(len(seeds) > 1 for seeds in table.rows.values())
    cpu = [row["cpu_seconds"] for seeds in table.rows.values() for row in seeds.values()]
    now = datetime.datetime.now(datetime.timezone.utc)
    low, middle, high = np.quantile(found.first, [0, 0.5, 1])
    with open_device("local") as device:
        machine = summary(device.profile)
    noise = (
        "No architecture has further seeds yet, so the noise is not known."
        if noise_sd is None
        else f"Standard deviation between seeds: {noise_sd * 100:.2f} points ({repeated} architectures with further "
        "seeds; seed 0, which chose them, is left out)."
    )
    share = "complete" if len(found.first) == total else "partial: a uniform sample, since the order is random"
    return f"""# Tabular benchmark: what the trainings say

`python benchmarks/tabular_report.py --page docs/benchmarks/tabular-benchmark.md`, printed on
{now:%d %B %Y, %H:%M} UTC on {machine}. How the trainings were done and what they
are good for: [the table's page](../reference/tabular-benchmark.md).

**{len(found.first)} of {total} architectures** of `{SPACE}` at depth {DEPTH} ({share}); {len(cpu)} trainings,
{np.sum(cpu) / 3600:.1f} CPU hours, {np.mean(cpu):.1f} CPU seconds on average ({np.min(cpu):.1f} to {np.max(cpu):.1f}).
Accuracy after {table.epochs[-1]} epochs, seed 0: {low:.1%} to {high:.1%}, median {middle:.1%}. {noise}

## Does accuracy grow along the partial order?

Pairs x ≺ y, x ≠ y, both with seed 0. *Violated*: Acc(x) > Acc(y). *Beyond noise*: by more than twice the standard
deviation of a difference, 2·√2·σ. A pair that is truly equal is violated half of the time. Gain and drop in points.

| y differs from x by | pairs | violated | beyond noise | mean gain | worst drop |
|---|---|---|---|---|---|
{chr(10).join(violations(found, noise_sd))}

## How well do early results rank?

Spearman's rank correlation with the accuracy after {table.epochs[-1]} epochs (seed 0), over all and over the most
accurate quarter.

| | all | best quarter |
|---|---|---|
{chr(10).join(correlations(found))}

## The front of accuracy over MACs

Mean over the seeds that each has. Those with a single seed are here by luck in part.

| stages | MMACs | parameters | accuracy | seeds |
|---|---|---|---|---|
{chr(10).join(front(found))}
"""


def main() -> None:
    """Parse, print or write."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--table", type=Path, default=SHIPPED, metavar="FILE")
    parser.add_argument("--page", type=Path, metavar="FILE.md", help="write the page there instead of printing it")
    arguments = parser.parse_args()
    text = page(read_table(arguments.table))
    if arguments.page is None:
        print(text, end="")
    else:
        atomic_write(arguments.page, text)


if __name__ == "__main__":
    main()
