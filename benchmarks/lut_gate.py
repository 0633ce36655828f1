"""Does the gate of ``dfmobile lut diff`` raise false alarms, and does it catch an older runtime?

Builds one table again and again with the installed runtime, compares each with the one before (and the first with
the last), and counts alarms. Then builds the same table with other interpreters, which have other versions of the
runtime installed, and compares those with the last table, as an upgrade the wrong way round would.

Run: ``python benchmarks/lut_gate.py [--network PL1A-Seg | --space df-mini] [--input 640x384] [--passes 10]
[--repeats 20] [--all-pairs] [--older PYTHON[:BACKEND] …] [-o FOLDER]``. An interpreter needs dfmobile installed
(``pip install --no-deps`` beside its runtime). Tables that are there already are taken: an interrupted run goes on.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from dfmobile.latency.compare import Comparison, compare_tables
from dfmobile.latency.diff import TablePair, diff_tables
from dfmobile.latency.table import LatencyTable

_RUN = "from dfmobile.cli.main import app; app()"


def build(python: str, backend: str, arguments: argparse.Namespace, path: Path) -> Path:
    """Build the table with an interpreter's runtime, if it is not there."""
    if not path.exists():
        what = ["--space", arguments.space] if arguments.space else ["--network", arguments.network]
        command = [python, "-c", _RUN, "lut", "build", *what, "--input", arguments.input, "--backend", backend]
        command += ["--passes", str(arguments.passes), "-o", str(path), "--json"]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"{python}: {done.stderr.strip()[-500:]}")
    return path


def describe(name: str, found: Comparison) -> None:
    """Print one comparison."""
    low, high = found.blocks.common_interval
    worst = found.blocks.blocks[0]
    print(
        f"{name:28} common x {found.blocks.common:.3f} ({low:.3f} to {high:.3f}), changed {len(found.blocks.changed):2}"
        f" of {len(found.blocks.blocks)}, worst x {worst.ratio:.3f} (fastest runs x {worst.floor_ratio:.3f}), "
        f"regressions {len(found.regressions)}",
        flush=True,
    )


def alarm(a: Path, b: Path, threshold: float) -> bool:
    """Tell whether blocks or the common factor raise an alarm."""
    with LatencyTable.open(a) as first, LatencyTable.open(b) as second:
        found = diff_tables(TablePair(first, second), first, second, threshold)
    return bool(found.regressed) or found.common_regressed


def main() -> None:
    """Build, compare, count."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--network", default="PL1A-Seg")
    parser.add_argument("--space")
    parser.add_argument("--input", default="640x384")
    parser.add_argument("--passes", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--threshold", type=float, default=0.05)
    parser.add_argument("--older", nargs="*", default=[], metavar="PYTHON[:BACKEND]")
    parser.add_argument("--all-pairs", action="store_true", help="also every repeat against every other, both ways")
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    folder = arguments.output or Path(tempfile.mkdtemp(prefix="lut-gate-"))
    folder.mkdir(parents=True, exist_ok=True)
    tables = []
    pairs = []
    for number in range(arguments.repeats + 1):
        tables.append(build(sys.executable, "litert", arguments, folder / f"repeat-{number}.sqlite"))
        if number:
            pairs.append(compare_tables(tables[-2], tables[-1], threshold=arguments.threshold))
            describe(f"repeat {number} after {number - 1}", pairs[-1])
    with LatencyTable.open(tables[-1]) as table:
        header = table.header
    older = []
    for number, text in enumerate(arguments.older):
        python, _, backend = text.partition(":")
        path = build(python, backend or "litert", arguments, folder / f"older-{number}.sqlite")
        with LatencyTable.open(path) as table:
            name = f"{table.header.runtime} {table.header.runtime_version}"
        caught = sum(alarm(repeat, path, arguments.threshold) for repeat in tables)
        older.append((name, caught, compare_tables(tables[-1], path, threshold=arguments.threshold)))
        describe(name, older[-1][2])
    print(f"\n{datetime.date.today().isoformat()}, {header.device_summary}, Python {platform.python_version()}")
    print(f"{arguments.space or arguments.network} at {arguments.input}, {arguments.passes} passes a block, one thread")
    if pairs:
        commons = [pair.blocks.common for pair in pairs]
        alarms = sum(bool(pair.regressions) for pair in pairs)
        changes = sum(len(pair.blocks.changed) for pair in pairs)
        drifts = sum(pair.blocks.common_interval[0] > 1 + arguments.threshold for pair in pairs)
        print(f"{header.runtime} {header.runtime_version} against itself: {alarms} alarms in {len(pairs)} repeats;")
        print(f"  {changes} of {sum(len(pair.blocks.blocks) for pair in pairs)} blocks listed as changed;")
        print(f"  common factor {min(commons):.3f} to {max(commons):.3f}, beyond the threshold {drifts} times")
    if arguments.all_pairs:
        every = list(itertools.permutations(tables, 2))
        print(f"  all pairs: {sum(alarm(*pair, arguments.threshold) for pair in every)} alarms in {len(every)}")
    for name, caught, found in older:
        verdict = "CAUGHT" if found.regressions else "not caught"
        print(f"{header.runtime} {header.runtime_version} to {name}: {verdict}; by {caught} of {len(tables)} repeats")
        for line in found.regressions[:5]:
            print(f"  {line}")


if __name__ == "__main__":
    main()
