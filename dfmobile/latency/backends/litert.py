"""LiteRT on this machine's CPU, XNNPACK as it applies it by default: the backend that needs nothing installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dfmobile.devices.device import Device
from dfmobile.errors import BackendError
from dfmobile.latency.backends.base import RuntimeIdentity
from dfmobile.latency.backends.tflite import InterpreterBackend, library_sha256
from dfmobile.runtimes.base import ModelRunner
from dfmobile.runtimes.litert import LiteRTRunner, library_path, runtime_version
from dfmobile.runtimes.litert_compiled import HalfPrecisionRunner

HALF = "fp16-compute"


class LiteRTBackend(InterpreterBackend):
    """Times .tflite files in LiteRT; see the base classes.

    ``fp16-compute`` times fp32 files that XNNPACK computes in float16, through LiteRT's CompiledModel: refused where
    the CPU has no such arithmetic, as XNNPACK would emulate it, more slowly than float32.

    Raises:
        BackendError: if that is asked for and the CPU lacks it, or cannot be asked.
    """

    name = "litert"
    precisions = ("fp32", "int8", HALF)
    runner = LiteRTRunner
    version = staticmethod(runtime_version)
    library = staticmethod(library_path)

    def __init__(self, device: Device, *, threads: int = 1, precision: str = "fp32") -> None:
        super().__init__(device, threads=threads, precision=precision)
        if precision == HALF and not device.profile.features.get("fp16"):
            unknown = device.profile.features.get("fp16") is None
            state = "it is not known whether this CPU has" if unknown else "this CPU lacks"
            raise BackendError(
                f"precision {HALF}: {state} float16 arithmetic (ARMv8.2 FP16, or AVX512-FP16)",
                hint="take --precision fp32 or int8, or a device that has it",
            )

    def identity(self) -> RuntimeIdentity:
        """See base class."""
        if self.precision != HALF:
            return super().identity()
        flags = {"delegate": "XNNPACK", "xnnpack_flags": "FORCE_FP16", "interface": "CompiledModel"}
        return RuntimeIdentity("LiteRT", runtime_version(), library_sha256(library_path()), flags)

    def open_runner(self, model: bytes | Path, threads: int) -> ModelRunner:
        """See base class."""
        return HalfPrecisionRunner(model, threads) if self.precision == HALF else super().open_runner(model, threads)

    def inspect(self, runner: ModelRunner) -> dict[str, Any]:
        """See base class."""
        if isinstance(runner, HalfPrecisionRunner):
            return {"fully_accelerated": runner.fully_accelerated()}
        return super().inspect(runner)
