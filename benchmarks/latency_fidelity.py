"""How far predicted latencies are off on fresh networks, ours beside simpler predictors, in one run.

For each configuration (space, input, backend, precision, threads): builds the table, calibrates it with K networks,
measures N fresh networks (stratified over the latency range) and some that a selection by predicted latency chose
(winner's curse), and compares with the same measurements: this package's rules; MACs and parameters times a scale
fitted on the same K networks; a random forest on block features trained on them; and the noise floor, which is the
difference of the same networks in the two halves of the run.

Everything is kept in the folder given by ``-o``: run again, it goes on where it was stopped (``--seconds`` stops it by
itself). ``--report`` prints the tables of what is there, and writes them with ``--markdown``.

Run: ``python benchmarks/latency_fidelity.py -o STATE [--only df-640x384,…] [--networks 200] [--seconds 600]``.
The full run takes about two hours on one core of a server. The random forest needs scikit-learn.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import itertools
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.architecture import Architecture, Network, build
from dfmobile.architecture.spaces import SearchSpace, open_space
from dfmobile.devices.device import open_device
from dfmobile.devices.profile import summary
from dfmobile.files import atomic_write
from dfmobile.latency.agreement import Fraction, agreement
from dfmobile.latency.backends.base import Backend, open_backend
from dfmobile.latency.builder import BuildProgress, build_table
from dfmobile.latency.calibrate import calibrate_table
from dfmobile.latency.calibration import stored_calibrations
from dfmobile.latency.measurement import Protocol
from dfmobile.latency.network_runs import RunProgress
from dfmobile.latency.networks import stored_networks
from dfmobile.latency.predictor import Predictor
from dfmobile.latency.table import LatencyTable
from dfmobile.latency.validation import Validation, validate_table

Array = npt.NDArray[np.float64]
PUBLISHED = """\
| predictor (as published) | training measurements | networks within 10 % | within 5 % |
|---|---|---|---|
| nn-Meter, Cortex-A76 CPU (Zhang et al., MobiSys 2021) | thousands of kernels | 99.0 % | - |
| LitePred, Xiaomi 12 CPU, TFLite 2.1 (Feng et al., NSDI 2024, repository) | 1,800 + transfer | 99.9 % | 97.6 % |
| LitePred, Pixel 5 CPU, TFLite 2.7 (the same) | 3,400 + transfer | 99.2 % | 79.6 % |
"""


@dataclass(frozen=True)
class Configuration:
    """What is measured.

    Attributes:
        space: name.
        width: of the input image, pixels.
        height: of the input image, pixels.
        backend: registered name.
        precision: of the table.
        threads: of the runtime.
        latency_max_ms: networks up to here.
        networks: fresh ones in a full run.
        table: name of the configuration into whose table its blocks are added; None: a table of its own.
    """

    space: str
    width: int
    height: int
    backend: str = "litert"
    precision: str = "fp32"
    threads: int = 1
    latency_max_ms: float = 60.0
    networks: int = 200
    table: str | None = None

    @property
    def name(self) -> str:
        """Name of its files, and of ``--only``."""
        parts = [self.space, f"{self.width}x{self.height}"]
        parts += [self.backend] * (self.backend != "litert") + [self.precision] * (self.precision != "fp32")
        return "-".join([*parts, *([f"{self.threads}threads"] if self.threads != 1 else [])])


# A segmentation space has its backbones' blocks from their table, and adds its decoders'.
CONFIGURATIONS = (
    Configuration("df", 640, 384),
    Configuration("df-seg", 640, 384, latency_max_ms=100.0, table="df-640x384"),
    Configuration("shuffle", 640, 384),
    Configuration("df", 224, 224),
    Configuration("df", 224, 224, backend="onnxruntime", networks=60),
    Configuration("df", 224, 224, precision="int8", networks=60),
    Configuration("shuffle-seg", 640, 384, table="shuffle-640x384"),
    Configuration("df-bottleneck", 224, 224),
    Configuration("df", 224, 224, threads=2, networks=60),
)


class OutOfTimeError(Exception):
    """The time of ``--seconds`` is up; what is measured is kept."""


class Teller:
    """Prints progress now and then, and stops when the time is up.

    Args:
        seconds: for the whole run; infinite where none is given.
    """

    def __init__(self, seconds: float) -> None:
        self._end = time.monotonic() + seconds
        self._last = 0.0
        self.title = ""

    def _say(self, text: str) -> None:
        now = time.monotonic()
        if now - self._last > 20:
            self._last = now
            print(f"  {self.title}: {text}", flush=True)
        if now > self._end:
            raise OutOfTimeError

    def build(self, step: BuildProgress) -> None:
        """Progress of a table."""
        self._say(f"{step.done}/{step.total} passes of blocks")

    def networks(self, step: RunProgress) -> None:
        """Progress of whole networks."""
        drift = "" if step.drift is None else f", anchor {step.drift:.2f}"
        self._say(f"{step.done}/{step.total} passes of networks{drift}")


def network_features(network: Network) -> list[float]:
    """Return what a random forest sees: totals, and MACs and counts by kind and resolution."""
    found = [
        float(sum(block.macs for block in network.blocks)),
        float(sum(block.params for block in network.blocks)),
        float(len(network.blocks)),
        float(sum(np.prod(block.output_shape) for block in network.blocks)),
    ]
    for scale in range(2, 7):
        pixels = network.width * network.height / 4**scale
        here = [
            block
            for block in network.blocks
            if np.prod(block.output_shape[2:]) <= pixels < 4 * np.prod(block.output_shape[2:])
        ]
        found += [
            float(len(here)),
            float(sum(block.macs for block in here)),
            float(sum(block.params for block in here)),
        ]
    return found


def scaled(train: Array, train_ms: Array, test: Array) -> Array:
    """Return a feature times the scale with the least absolute relative error on the training networks."""
    candidates = train_ms / train
    errors = [float(np.abs(scale * train / train_ms - 1).mean()) for scale in candidates]
    found: Array = candidates[int(np.argmin(errors))] * test
    return found


def forest(train: list[list[float]], train_ms: Array, test: list[list[float]]) -> Array:
    """Return a random forest's predictions (500 trees, on the logarithm of the latency)."""
    from sklearn.ensemble import RandomForestRegressor

    model = RandomForestRegressor(n_estimators=500, random_state=0, n_jobs=1)
    model.fit(np.array(train), np.log(train_ms))
    found: Array = np.exp(model.predict(np.array(test)))
    return found


def selected_networks(path: Path, space: SearchSpace, setting: Configuration, count: int) -> list[str]:
    """Return what a selection by predicted latency chooses: in each latency stratum the network with most MACs."""
    with LatencyTable.open(path) as table:
        predictor = Predictor(table)
        seen = {text for item in stored_calibrations(table) for text in item.networks}
    size = (setting.width, setting.height)
    generator = np.random.default_rng(7)
    rows = np.unique(
        np.concatenate([space.sample_rows(50_000, generator), space.spread_rows(150_000, generator)]), axis=0
    )
    latency_ms = predictor.predict_rows(space, rows, *size, skipped="infinite")
    fast = latency_ms <= setting.latency_max_ms
    rows, latency_ms = rows[fast], latency_ms[fast]
    macs = space.sums(rows, *size, {block.key: (float(block.macs),) for block in space.blocks(*size)})[:, 0]
    edges = np.geomspace(latency_ms.min(), latency_ms.max() * 1.0001, count + 1)
    found = []
    for low, high in itertools.pairwise(edges):
        inside = np.flatnonzero((latency_ms >= low) & (latency_ms < high))
        for number in inside[np.argsort(-macs[inside] / latency_ms[inside])][:3]:
            text = space.architecture(rows[number]).text
            if text not in seen:
                found.append(text)
                break
    return found


def recorded_keys(path: Path) -> set[str]:
    """Return the keys of the blocks that a table has; none where there is no table yet."""
    if not path.exists():
        return set()
    with LatencyTable.open(path) as table:
        return {key for key, _ in table.recorded()}


def kept_number(path: Path, number: Callable[[], int]) -> int:
    """Return a number that an earlier sitting kept, else find and keep it."""
    if not path.exists():
        atomic_write(path, json.dumps(number()))
    return int(json.loads(path.read_text()))


def kept_selection(folder: Path, setting: Configuration, choose: Callable[[], list[str]]) -> list[str]:
    """Return what an earlier sitting selected, else select and keep it."""
    path = folder / f"{setting.name}.selected.json"
    if not path.exists():
        atomic_write(path, json.dumps(choose()))
    found: list[str] = json.loads(path.read_text())
    return found


def compare(path: Path, setting: Configuration, found: Validation) -> dict[str, Array]:
    """Return every predictor's predictions of the fresh networks, by name."""
    with LatencyTable.open(path) as table:
        calibration = next(
            item for item in stored_calibrations(table) if (item.width, item.height) == (setting.width, setting.height)
        )
        trained = stored_networks(table, setting.width, setting.height, calibration.networks)
        predictors = {name: Predictor(table, name) for name in ("calibrated", "cache-aware", "sum")}

    def built(encodings: list[str]) -> list[Network]:
        return [build(Architecture.parse(text), setting.width, setting.height) for text in encodings]

    train, test = built(list(calibration.networks)), built([item.encoding for item in found.networks])
    train_ms = np.array([item.quiet_ms for item in trained])
    result = {name: np.array([item.predict(n).latency_ms for n in test]) for name, item in predictors.items()}
    features: dict[str, Callable[[Network], float]] = {
        "MACs x scale": lambda network: float(sum(block.macs for block in network.blocks)),
        "params x scale": lambda network: float(sum(block.params for block in network.blocks)),
    }
    sums = np.array([predictors["sum"].predict(network).latency_ms for network in train])
    result["sum x scale"] = scaled(sums, train_ms, result["sum"])
    for name, feature in features.items():
        train_x, test_x = (np.array([feature(n) for n in group]) for group in (train, test))
        result[name] = scaled(train_x, train_ms, test_x)
    forest_x = [[network_features(n) for n in group] for group in (train, test)]
    result["random forest"] = forest(forest_x[0], train_ms, forest_x[1])
    return result


def run(setting: Configuration, folder: Path, options: argparse.Namespace, teller: Teller) -> None:
    """Measure one configuration and write its results."""
    path = folder / f"{setting.table or setting.name}.sqlite"
    known = kept_number(folder / f"{setting.name}.known.json", lambda: len(recorded_keys(path)))
    space = open_space(setting.space)
    count = min(setting.networks, options.networks)
    teller.title = setting.name
    with open_device("local") as device:
        backend: Backend = open_backend(setting.backend, device, threads=setting.threads, precision=setting.precision)
        size = (setting.width, setting.height)
        started = time.monotonic()
        report = build_table(
            path,
            space,
            *size,
            device,
            backend,
            Protocol(passes=options.passes, threads=setting.threads),
            precision=setting.precision,
            latency_max_ms=setting.latency_max_ms,
            progress=teller.build,
            measure_caches=True,
        )
        # Kept from when the build was first whole: later, another configuration may add to the same table.
        new_blocks = kept_number(folder / f"{setting.name}.blocks.json", lambda: len(recorded_keys(path)) - known)
        calibrated = calibrate_table(
            path,
            space,
            *size,
            backend,
            networks=options.calibration,
            latency_max_ms=setting.latency_max_ms,
            progress=teller.networks,
        )
        arguments: dict[str, Any] = {"half_width": options.half_width, "progress": teller.networks}
        fresh = validate_table(
            path, space, *size, backend, networks=count, latency_max_ms=setting.latency_max_ms, **arguments
        )
        chosen = kept_selection(folder, setting, lambda: selected_networks(path, space, setting, options.selected))
        selected = validate_table(path, space, *size, backend, encodings=chosen, **arguments) if chosen else None
        machine = summary(device.profile)
        identity = backend.identity()
    predictions = compare(path, setting, fresh)
    measured = np.array([item.measured_ms for item in fresh.networks])
    document = {
        "name": setting.name,
        "setting": setting.__dict__,
        "date_utc": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="minutes"),
        "machine": machine,
        "platform": platform.platform(),
        "load": os.getloadavg(),
        "runtime": f"{identity.name} {identity.version}",
        "blocks": report.coverage.blocks,
        "new_blocks": new_blocks,
        "skipped": report.coverage.skipped,
        "calibration_networks": len(calibrated.calibration.networks),
        "working_set": None if calibrated.working_set is None else calibrated.working_set.text,
        "seconds": time.monotonic() - started,
        "fresh": fresh.to_dict(),
        "selected": None if selected is None else selected.to_dict(),
        "predictors": {name: agreement(values, measured).to_dict() for name, values in predictions.items()},
    }
    atomic_write(folder / f"{setting.name}.json", json.dumps(document, indent=1))
    with (folder / f"{setting.name}.csv").open("w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["encoding", "measured_ms", "low_ms", "high_ms", *predictions])
        for number, item in enumerate(fresh.networks):
            low, high = item.interval_ms or ("", "")
            writer.writerow([item.encoding, item.measured_ms, low, high, *(v[number] for v in predictions.values())])


def percent(value: float | None) -> str:
    """Return a fraction as percent."""
    return "-" if value is None else f"{100 * value:.1f} %"


def tables(folder: Path) -> str:
    """Return the results in a folder as Markdown."""
    documents = [
        json.loads((folder / f"{setting.name}.json").read_text())
        for setting in CONFIGURATIONS
        if (folder / f"{setting.name}.json").exists()
    ]
    if not documents:
        return "nothing was measured yet\n"
    lines = []
    machines = sorted({f"{item['machine']}; {item['platform']}" for item in documents})
    dates = sorted(item["date_utc"] for item in documents)
    lines += [f"Evaluated {dates[0]} to {dates[-1]} UTC on {' / '.join(machines)}.", ""]
    head = (
        "| space, input | n | MAPE | bias | max | within 5 % | within 10 % | tau | in interval | noise floor | kept? |"
    )
    lines += [head, "|" + "---|" * (head.count("|") - 1)]
    for item in documents:
        fresh = item["fresh"]
        goal = max(0.03, 1.2 * (fresh["noise_floor"] or 0.0))
        kept = (
            fresh["mape"] <= goal
            and fresh["within_10"] >= 0.97
            and fresh["within_5"] >= 0.85
            and fresh["kendall_tau"] >= 0.95
            and 0.90 <= (fresh["coverage"] or 0.0) <= 0.99
        )
        lines.append(_row(item["name"], fresh, "yes" if kept else "no"))
    lines += [
        "",
        "Networks that a selection by predicted latency chose: in each latency stratum, most MACs a millisecond.",
        "",
    ]
    lines += [head.replace(" kept? |", ""), "|" + "---|" * (head.count("|") - 2)]
    lines += [_row(item["name"], item["selected"], None) for item in documents if item["selected"]]
    for item in documents:
        lines += ["", f"### {item['name']}", ""]
        skipped = f", {item['skipped']} left out as slower alone than the limit" if item["skipped"] else ""
        shared = f", the others are in the table of {item['setting']['table']}" if item["setting"]["table"] else ""
        lines.append(
            f"{item['runtime']}, networks up to {item['setting']['latency_max_ms']:g} ms; {item['blocks']} blocks: "
            f"{item['new_blocks']} measured for it{shared}{skipped}; {item['calibration_networks']} networks to "
            f"calibrate: {item['new_blocks'] + item['calibration_networks']} measurements. {item['fresh']['n']} fresh "
            "networks. "
            f"{item['working_set'] or ''}. "
            f"Load {item['load'][0]:.1f}; the median run took {item['fresh']['disturbance']:.2f} of the fastest; "
            f"{item['seconds'] / 60:.0f} min in the last sitting."
        )
        lines += [
            "",
            "| predictor | MAPE | bias | max | within 5 % | within 10 % | tau |",
            "|---|---|---|---|---|---|---|",
        ]
        for name, found in item["predictors"].items():
            lines.append(
                f"| {name} | {percent(found['mape'])} | {100 * found['bias']:+.1f} % | {percent(found['max_error'])} | "
                f"{percent(found['within_5'])} | {percent(found['within_10'])} | {found['kendall_tau']:.3f} |"
            )
    return "\n".join(
        [*lines, "", "Published by others, as published, on other devices and other networks:", "", PUBLISHED]
    )


def _row(name: str, found: dict[str, Any], verdict: str | None) -> str:
    n = found["n"]
    shares = [Fraction(round(found[key] * n), n).text for key in ("within_5", "within_10")]
    coverage = "-" if found["coverage"] is None else Fraction(round(found["coverage"] * n), n).text
    cells = [
        name, str(n), percent(found["mape"]), f"{100 * found['bias']:+.1f} %", percent(found["max_error"]), *shares,
        f"{found['kendall_tau']:.3f}", coverage, percent(found["noise_floor"]),
    ]  # fmt: skip
    return f"| {' | '.join([*cells, *([verdict] if verdict is not None else [])])} |"


def main() -> None:
    """Measure what is asked for, then print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder that keeps everything")
    parser.add_argument("--only", help="names of configurations, with commas; default: all")
    parser.add_argument("--networks", type=int, default=10_000, help="fresh networks at most; default: a full run")
    parser.add_argument("--calibration", type=int, default=20, help="networks to calibrate with")
    parser.add_argument("--selected", type=int, default=30, help="networks that a selection chooses")
    parser.add_argument("--passes", type=int, default=3, help="of each block")
    parser.add_argument("--half-width", type=float, default=0.02, help="of each network")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this long")
    parser.add_argument("--report", action="store_true", help="measure nothing")
    parser.add_argument("--markdown", type=Path, help="write the tables here")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    names = [setting.name for setting in CONFIGURATIONS]
    wanted = options.only.split(",") if options.only else names
    unknown = sorted(set(wanted) - set(names))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(names)}")
    teller = Teller(options.seconds)
    for setting in CONFIGURATIONS:
        if options.report or setting.name not in wanted:
            continue
        print(f"{setting.name}:", flush=True)
        try:
            run(setting, options.output, options, teller)
        except OutOfTimeError:
            print(f"time is up in {setting.name}; run again to go on", flush=True)
            break
    text = tables(options.output)
    print(text)
    if options.markdown is not None:
        atomic_write(options.markdown, text)


if __name__ == "__main__":
    main()
