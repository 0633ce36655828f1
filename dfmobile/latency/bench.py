"""Measure whole model files, of any origin, end to end: what ``dfmobile bench`` and the search's last step do."""

from __future__ import annotations

import dataclasses
import datetime
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dfmobile import __version__
from dfmobile.devices.device import Device
from dfmobile.errors import BackendError
from dfmobile.files import sha256_hex
from dfmobile.latency.backends.base import Backend, MeasureJob, as_backend
from dfmobile.latency.marginal import summarise_isolated
from dfmobile.latency.measurement import PassResult, Protocol
from dfmobile.latency.statistics import LatencyStatistics

# A whole network is measured for its own sake: more interpreters and runs than a block gets.
BENCH_PROTOCOL = Protocol(
    passes=5, runs=20, hot_budget_ms=2000.0, cold_runs=0, warm_up_ms=100.0, warm_up_limit_ms=1000.0
)


@dataclass(frozen=True)
class BenchResult:
    """A model file's latency.

    Attributes:
        model: path.
        statistics: of all passes.
        samples_ms: every hot run, in the order of measuring; empty where the backend gives aggregates only.
        init_ms: median over the passes: making the interpreter ready; None where the backend cannot tell.
        peak_memory_bytes: None where the backend cannot tell.
        backend: registered name.
        device: URI.
        provenance: runtime, device, protocol, conditions, clock, contamination evidence, model.
    """

    model: str
    statistics: LatencyStatistics
    samples_ms: list[float]
    init_ms: float | None
    peak_memory_bytes: int | None
    backend: str
    device: str
    provenance: dict[str, Any]

    @property
    def median_ms(self) -> float:
        """Median of the pass medians."""
        return self.statistics.median_ms

    @property
    def half_width_ms(self) -> float | None:
        """Half of the 95 % interval of ``median_ms``; None for a single pass."""
        return self.statistics.half_width_ms

    @property
    def replay(self) -> bool:
        """Whether recorded logs were played: then nothing here was measured."""
        return self.provenance["flags"].get("replay") is True

    @property
    def remarks(self) -> list[str]:
        """What the passes say besides their times, each once: delegates, memory, agreement of outputs."""
        found = [text for item in self.provenance["passes"] for text in item["extra"].get("remarks", [])]
        grown = [item["extra"].get("memory_bytes") for item in self.provenance["passes"]]
        most = max((size for size in grown if isinstance(size, int)), default=None)
        if most is not None:
            found.append(f"memory footprint {most / 1e6:.1f} MB at most")
        return list(dict.fromkeys(map(str, found)))

    def to_dict(self) -> dict[str, Any]:
        """Return what ``dfmobile bench --json`` prints."""
        numbers = dataclasses.asdict(self.statistics)
        return {
            "model": self.model,
            **{
                name: numbers[name]
                for name in ("median_ms", "p5_ms", "p95_ms", "mean_ms", "mad_ms", "n", "runs", "passes")
            },
            "half_width_ms": self.half_width_ms,
            "samples_ms": self.samples_ms,
            "init_ms": self.init_ms,
            "peak_memory_bytes": self.peak_memory_bytes,
            "backend": self.backend,
            "device": self.device,
            "replay": self.replay,
            "provenance": self.provenance,
        }


def bench_model(
    model: Path | str,
    device: Device,
    backend: Backend | str,
    protocol: Protocol = BENCH_PROTOCOL,
    *,
    precision: str = "fp32",
) -> BenchResult:
    """Measure one model file on several fresh interpreters.

    Raises:
        StorageError: if the file cannot be read.
        BackendError: if it is no model that the backend can run.
        InputError, PluginError, DeviceError: see ``as_backend`` and ``Backend.measure``.
    """
    return bench_models([model], device, backend, protocol, precision=precision)[0]


def bench_models(
    models: Sequence[Path | str],
    device: Device,
    backend: Backend | str,
    protocol: Protocol = BENCH_PROTOCOL,
    *,
    precision: str = "fp32",
    seed: int = 0,
) -> list[BenchResult]:
    """Measure model files side by side: each round has one pass of every file, in a new random order.

    So files are compared fairly where the machine's pace changes in the meantime.

    Returns:
        One result a file, in the order given.
    """
    backend = as_backend(backend, device, protocol, precision)
    paths = [Path(model) for model in models]
    hashes = [sha256_hex(path) for path in paths]  # also finds files that cannot be read before anything runs
    generator = np.random.default_rng(seed)
    order = [int(number) for _ in range(protocol.passes) for number in generator.permutation(len(paths))]
    jobs = [
        MeasureJob(f"{turn}-{number}", paths[number], protocol, repetition=turn // len(paths))
        for turn, number in enumerate(order)
    ]
    results: dict[str, PassResult] = dict(backend.measure(jobs))
    missing = [job for job in jobs if job.id not in results]
    if missing:
        raise BackendError(f"backend {backend.name} gave no result for {missing[0].model_path}")
    common = {**bench_provenance(backend), "protocol": protocol.to_dict()}
    found = []
    for number, path in enumerate(paths):
        passes = [results[job.id] for job, which in zip(jobs, order, strict=True) if which == number]
        memory = [item.peak_memory_bytes for item in passes if item.peak_memory_bytes is not None]
        ready = [item.init_ms for item in passes if item.init_ms is not None]
        evidence = [_evidence(item) for item in passes]
        found.append(
            BenchResult(
                model=str(path),
                statistics=summarise_isolated(passes),
                samples_ms=[sample for item in passes if not item.aggregate for sample in item.hot_ms],
                init_ms=float(np.median(ready)) if ready else None,
                peak_memory_bytes=max(memory, default=None),
                backend=backend.name,
                device=str(device.uri),
                provenance={
                    **common,
                    "clock": passes[0].clock,
                    "model": str(path),
                    "model_sha256": hashes[number],
                    "model_bytes": path.stat().st_size,
                    "passes": evidence,
                },
            )
        )
    return found


def _evidence(result: PassResult) -> dict[str, Any]:
    """Return what a pass left besides its samples; from an aggregate also the one value that stands for them."""
    kept = result.to_dict()
    del kept["cold_ms"]
    hot_ms = kept.pop("hot_ms")
    return {**kept, "value_ms": hot_ms[0]} if result.aggregate and hot_ms else kept


def bench_provenance(backend: Backend) -> dict[str, Any]:
    """Return what all measurements of a backend share: tool, device, runtime, JSON values."""
    identity = backend.identity()
    return {
        "dfmobile": __version__,
        "python": platform.python_version(),
        "finished_utc": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "device_fingerprint": backend.device.fingerprint,
        "runtime": identity.name,
        "runtime_version": identity.version,
        "library_sha256": identity.library_sha256,
        "flags": identity.flags,
        "precision": backend.precision,
        "threads": backend.threads,
        "affinity": backend.affinity(),
        "evidence": backend.evidence(),
    }
