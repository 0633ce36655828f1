"""The plug point for backends: a runtime that times model files on a device.

A backend gets a stream of jobs and returns a stream of results, so that one that drives a phone may push many
models at once, let them run without the cable, and hand back what has come.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dfmobile import registry
from dfmobile.devices.device import Device
from dfmobile.errors import InputError, PluginError, quoted
from dfmobile.latency.measurement import Measure, PassResult, Protocol
from dfmobile.latency.phases import Phase, PhasesResult

GROUP = "dfmobile.backends"


@dataclass(frozen=True)
class RuntimeIdentity:
    """Which runtime exactly timed a model; a latency table belongs to one.

    Attributes:
        name: e.g. ``LiteRT``.
        version: e.g. ``2.1.4``.
        library_sha256: of the shared library that does the work; None where it is not a file.
        flags: what was switched on that changes speed or results, JSON values.
    """

    name: str
    version: str
    library_sha256: str | None
    flags: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ModelOutputs:
    """What a model returned for given inputs.

    Attributes:
        values: ``[N, C, H, W]`` or ``[N, C]`` each, float32 (argmax: int32).
        steps: distance between neighbouring values of each; 0.0 where it is not quantised.
    """

    values: list[npt.NDArray[Any]]
    steps: list[float]


@dataclass(frozen=True)
class JobContext:
    """What a block is timed with, so that its cost inside a network can be told (see ``latency.context``).

    Attributes:
        with_prefix: model file of the block behind its prefix.
        prefix: model file of the prefix alone; None for a block that has none, whose ``with_prefix`` is itself.
    """

    with_prefix: Path
    prefix: Path | None


@dataclass(frozen=True)
class MeasureJob:
    """One pass to measure.

    Attributes:
        id: the caller's name for it, returned with the result.
        model_path: model file in the backend's ``model_format``; it stays until the result has been taken.
        protocol: how.
        repetition: how many passes of this model come before it; a backend that builds engines has one for each.
        context: for backends whose ``block_measure`` is ``marginal``; None times the model alone.
    """

    id: str
    model_path: Path
    protocol: Protocol
    repetition: int = 0
    context: JobContext | None = None


@dataclass(frozen=True)
class FileOptions:
    """What model files a backend wants, beside their format and precision.

    Attributes:
        opset: of .onnx files; None: the default.
    """

    opset: int | None = None


class Backend(ABC):
    """A runtime on a device, with fixed threads and precision.

    Args:
        device: where models run.
        threads: of the runtime.
        precision: one of ``precisions``.

    Raises:
        InputError: if the backend has no such precision, or not that many threads.
    """

    name: ClassVar[str]
    model_format: ClassVar[str]
    precisions: ClassVar[tuple[str, ...]] = ("fp32",)
    # Option to what it means, for people; names are lower-case words joined by hyphens.
    options: ClassVar[Mapping[str, str]] = {}
    # Of them, those without which it cannot be opened.
    required_options: ClassVar[tuple[str, ...]] = ()
    # "cpu": weights live in caches, and the working-set sweep tells how much of them.
    processor: str = "cpu"
    # "marginal": jobs of blocks bring a context, and results have the samples of ``latency.marginal`` too.
    block_measure: Measure = "isolated"
    # Of each block: a runtime that builds engines, each a little different, is known by several of them only.
    least_passes: int = 1

    def __init__(self, device: Device, *, threads: int = 1, precision: str = "fp32") -> None:
        if precision not in self.precisions:
            raise InputError(
                f"backend {self.name} has no precision {precision!r}", hint=f"one of: {', '.join(self.precisions)}"
            )
        if not 1 <= threads <= 256:
            raise InputError(f"{threads} threads are not between 1 and 256")
        # Told a line where people should know what is going on: a connection that was lost, a device that restarted.
        self.tell: Callable[[str], None] = lambda text: None
        self.device = device
        self.threads = threads
        self.precision = precision

    @property
    def replay(self) -> bool:
        """Whether recorded logs are played: then no time that comes back was measured."""
        return self.identity().flags.get("replay") is True

    @property
    def file_precision(self) -> str:
        """Precision of the model files that it measures, as ``dfmobile export`` names it.

        Only integers need files of their own; in which precision a float file is computed is the backend's matter.
        """
        return "int8" if self.precision == "int8" else "fp32"

    @property
    def file_options(self) -> FileOptions:
        """What the model files have to be like, beside ``model_format`` and ``file_precision``."""
        return FileOptions()

    @abstractmethod
    def identity(self) -> RuntimeIdentity:
        """Return which runtime this is; equal at every call.

        Raises:
            BackendError: if the runtime is not there.
        """

    @abstractmethod
    def affinity(self) -> str | None:
        """Return the mask of the cores that models run on (hexadecimal, no ``0x``); None where there is none."""

    @abstractmethod
    def measure(self, jobs: Iterable[MeasureJob]) -> Iterator[tuple[str, PassResult]]:
        """Measure jobs, each on a fresh interpreter, and yield ``(job.id, result)`` as they are done.

        Jobs may be taken ahead of results and results may come in any order, but each job has one result. The
        stream of jobs may be endless in principle (a job may be added because of a result), so nothing waits for
        its end.

        Raises:
            BackendError: if a model cannot be loaded or run; the message names the file.
            DeviceError: if the device is gone.
        """

    def outputs(self, model_path: Path, inputs: Sequence[npt.NDArray[np.float32]]) -> ModelOutputs | None:
        """Run a model once, untimed, as it is run when it is timed, and return its outputs.

        The builder compares them with a reference before it records a block: fast and wrong is no measurement.

        Args:
            model_path: model file in the backend's ``model_format``.
            inputs: one float32 array for each input, ``[N, C, H, W]`` or ``[N, C]``.

        Returns:
            None from a backend that cannot give outputs back; its tables say that they were not checked.

        Raises:
            BackendError: if the model cannot be loaded or run; the message names the file.
            DeviceError: if the device is gone.
        """
        del model_path, inputs
        return None

    def run_phases(self, model_path: Path, phases: Sequence[Phase], purpose: str) -> PhasesResult:
        """Load a model once and keep it running, phase after phase.

        A capability that a backend may have or not; ``measure`` is what every backend has.

        Args:
            model_path: model file in the backend's ``model_format``.
            phases: in order.
            purpose: the user's option that needs it, for the message, e.g. ``--cadence``.

        Returns:
            One result a phase, in order.

        Raises:
            InputError: from a backend that cannot.
            BackendError: if the model cannot be loaded or run; the message names the file.
            DeviceError: if the device is gone.
        """
        del model_path, phases
        raise InputError(
            f"backend {self.name} cannot do {purpose}",
            hint="backends that run inside this process can: litert, onnxruntime, tflite-runtime",
        )

    def pass_overhead_ms(self, protocol: Protocol) -> float:
        """Return about how long a pass takes beyond what its protocol's runs need, for estimates only.

        Args:
            protocol: of the pass.
        """
        del protocol
        return 0.0

    def evidence(self) -> dict[str, Any]:
        """Return what else a reader of the measurements may want to know, constant for this object, JSON values."""
        return {}


def open_backend(
    name: str,
    device: Device,
    *,
    threads: int = 1,
    precision: str = "fp32",
    options: Mapping[str, str] | None = None,
) -> Backend:
    """Open a backend by its registered name.

    Args:
        name: registered.
        device: where models run.
        threads: of the runtime.
        precision: one of the backend's.
        options: of the backend, by name; only a backend that declares options is given them, as the keyword
            argument ``options``.

    Raises:
        PluginError: if there is no such backend, or it is not one.
        InputError: if it cannot do that precision or that many threads, or has no such option.
        BackendError: if its runtime is not there or does not fit the device.
    """
    backend_class = check_backend_options(name, options or {})
    if backend_class.options:
        # Its own keyword: backends without options need not take it.
        factory: Callable[..., Backend] = backend_class
        return factory(device, threads=threads, precision=precision, options=dict(options or {}))
    return backend_class(device, threads=threads, precision=precision)


def check_backend_options(name: str, options: Mapping[str, str]) -> type[Backend]:
    """Return a backend's class if it takes these options; nothing is opened.

    Raises:
        PluginError: if there is no such backend, or it is not one.
        InputError: naming the first option that it does not have, or needs and was not given.
    """
    backend_class = registry.load(GROUP, name)
    if not (isinstance(backend_class, type) and issubclass(backend_class, Backend)):
        raise PluginError(f"backend {name!r} is not a subclass of {Backend.__module__}.Backend")
    known = backend_class.options
    for option in options:
        if option not in known:
            has = f"it has: {', '.join(known)}" if known else "it has none"
            raise InputError(f"backend {name} has no option {quoted(option, 40)}", hint=has)
    for option in backend_class.required_options:
        if option not in options:
            raise InputError(
                f"backend {name} needs the option {option}: {known[option]}",
                hint=f"add --backend-option {option}=…",
            )
    return backend_class


def as_backend(backend: Backend | str, device: Device, protocol: Protocol, precision: str) -> Backend:
    """Return a backend given as an object or by name.

    Raises:
        InputError: if an object does not fit the device, the protocol's threads, or the precision.
        PluginError, BackendError: see ``open_backend``.
    """
    if isinstance(backend, str):
        return open_backend(backend, device, threads=protocol.threads, precision=precision)
    for what, has, wanted in (
        ("device", str(backend.device.uri), str(device.uri)),
        ("threads", backend.threads, protocol.threads),
        ("precision", backend.precision, precision),
    ):
        if has != wanted:
            raise InputError(f"backend {backend.name} was opened for {what} {has}, not {wanted}")
    return backend
