"""Latencies in a bundle: measured where a device is there, predicted from its tables, or absent, and which is said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from dfmobile.architecture import Network
from dfmobile.devices.device import Device
from dfmobile.devices.profile import DeviceProfile, fingerprint, match_profile
from dfmobile.errors import FileFormatError, InputError
from dfmobile.latency.backends.base import open_backend
from dfmobile.latency.bench import BENCH_PROTOCOL, bench_models
from dfmobile.latency.header import TableHeader
from dfmobile.latency.predictor import Predictor
from dfmobile.latency.table import LatencyTable


@dataclass(frozen=True)
class BundleLatency:
    """One latency of one model file.

    Attributes:
        kind: ``measured`` (end to end, here and now) or ``predicted`` (from a table of blocks).
        model: path in the bundle.
        latency_ms: median.
        interval_ms: (low, high), 95 %; None where it is not known.
        precision: of the measurement or table.
        backend: that measured, or that the table was measured with.
        runtime: name and version.
        threads: of the runtime.
        device: what it is of.
        note: what a reader must know; may be empty.
    """

    kind: Literal["measured", "predicted"]
    model: str
    latency_ms: float
    interval_ms: tuple[float, float] | None
    precision: str
    backend: str
    runtime: str
    threads: int
    device: str
    note: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        found = asdict(self)
        found["interval_ms"] = None if self.interval_ms is None else list(self.interval_ms)
        return found


def measured(
    folder: Path,
    models: Mapping[str, str],
    device: Device,
    backend: str,
    *,
    threads: int,
    options: Mapping[str, str],
) -> list[BundleLatency]:
    """Measure model files end to end, side by side where they have one precision.

    Args:
        folder: of the bundle.
        models: precision by path in the bundle; fp16 is how weights are stored and runs as fp32.
        device: open.
        backend: registered name.
        threads: of the runtime.
        options: of the backend.

    Raises:
        BackendError, DeviceError, InputError, PluginError: see ``bench_models``.
    """
    found = []
    for precision in ("fp32", "int8"):
        paths = [path for path, mine in models.items() if ("fp32" if mine == "fp16" else mine) == precision]
        if not paths:
            continue
        runtime = open_backend(backend, device, threads=threads, precision=precision, options=options)
        protocol = replace(BENCH_PROTOCOL, threads=threads)
        results = bench_models([folder / path for path in paths], device, runtime, protocol, precision=precision)
        for path, result in zip(paths, results, strict=True):
            half = result.half_width_ms
            middle = result.median_ms
            found.append(
                BundleLatency(
                    kind="measured",
                    model=path,
                    latency_ms=middle,
                    interval_ms=None if half is None else (middle - half, middle + half),
                    precision=precision,
                    backend=backend,
                    runtime=f"{result.provenance['runtime']} {result.provenance['runtime_version']}",
                    threads=threads,
                    device=str(device.uri),
                    note=f"clock {result.provenance['clock']}",
                )
            )
    return found


def predicted(
    network: Network, models: Mapping[str, str], tables: Sequence[Path], profile: DeviceProfile
) -> list[BundleLatency]:
    """Predict from tables of the device, for the model files that have a table's precision.

    Args:
        network: at the input size of the models.
        models: precision by path in the bundle.
        tables: measured block tables.
        profile: of the device that they must be of.

    Raises:
        InputError: if a table is of another device, of recorded layers, or of a precision that no model has.
        MissingBlocksError: if a table lacks blocks of the network.
        FileFormatError, StorageError: if a table cannot be read.
    """
    found = []
    for path in tables:
        with LatencyTable.open(path) as table:
            header = table.header
            if header.granularity != "block":
                raise InputError(f"{path} is a table of recorded layers", hint="give one of `dfmobile lut build`")
            note = _belongs(path, header, profile)
            prediction = Predictor(table).predict(network)
        # fp16 in a file is how weights are stored: it runs as fp32. Float16 arithmetic runs fp32 files.
        runs = {"fp32": ("fp32", "fp16"), "fp16-compute": ("fp32", "fp16"), "int8": ("int8",)}
        fitting = [model for model, precision in models.items() if precision in runs.get(header.precision, ())]
        if not fitting:
            raise InputError(
                f"{path} is of precision {header.precision}, of which the bundle has no model",
                hint="give --calibration DIR for int8" if header.precision == "int8" else "leave the table out",
            )
        found += [
            BundleLatency(
                kind="predicted",
                model=model,
                latency_ms=prediction.latency_ms,
                interval_ms=prediction.interval_ms,
                precision=header.precision,
                backend=header.backend,
                runtime=f"{header.runtime} {header.runtime_version}",
                threads=header.threads,
                device=header.device_summary,
                note=f"table {path.name}, rule {prediction.rule}: {prediction.basis}{note}",
            )
            for model in fitting
        ]
    return found


def _belongs(path: Path, header: TableHeader, profile: DeviceProfile) -> str:
    """Return what to say of how a table's device is the bundle's.

    Raises:
        InputError: if it is another.
    """
    try:
        own = DeviceProfile.model_validate(header.device_profile)
    except ValidationError as error:
        raise FileFormatError(f"{path} has no readable device profile", hint="build it again") from error
    if header.device_fingerprint == fingerprint(profile) or own.name == profile.name:
        return ""
    match = match_profile(own)
    if match is not None and match.name == profile.name:
        return f"; measured on {header.device_summary}, which is taken for {profile.name}"
    raise InputError(
        f"{path} was measured on {header.device_summary}, not on {profile.name}",
        hint="give the table of that device, or --device with this one's profile",
    )
