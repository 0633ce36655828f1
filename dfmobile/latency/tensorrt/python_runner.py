"""Builds and times engines with TensorRT's Python module, in a worker process that may crash without harm.

For TensorRT 10 or newer on this machine (Orin and later, desktop GPUs), where trtexec is absent or not wanted.
Not verified on hardware: see ``python_worker``.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.errors import BackendError, InputError
from dfmobile.export.tensorrt_process import START_LIMIT_S, TensorRTProcess, number, text, texts
from dfmobile.latency.tensorrt.availability import PYTHON_RUNNER_MAJOR

PRECISIONS = ("fp32", "fp16", "typed")
"""``fp16`` lets TensorRT 10 choose float16; ``typed`` computes in the types of the ONNX file, all that 11 does."""
BUILD_LIMIT_S = 3600.0
RUN_LIMIT_S = 600.0
MOST_RUNS = 1_000_000
_WORKER = "dfmobile.latency.tensorrt.python_worker"


@dataclass(frozen=True)
class EngineBuild:
    """How an engine was built.

    Attributes:
        seconds: parsing and building.
        engine_bytes: size of the file.
        messages: what TensorRT told its logger, ``SEVERITY: text``, without VERBOSE.
    """

    seconds: float
    engine_bytes: int
    messages: tuple[str, ...]


@dataclass(frozen=True)
class EngineTiming:
    """Times of single inferences of one engine, in the order in which they ran.

    Attributes:
        samples_ms: between two CUDA events around the inference.
        host_ms: from before the first event to the arrival of the second on the host: longer by the call.
        warm_up_runs: runs before.
        messages: what TensorRT told its logger.
    """

    samples_ms: tuple[float, ...]
    host_ms: tuple[float, ...]
    warm_up_runs: int
    messages: tuple[str, ...]


class PythonRunner:
    """TensorRT's Python module in a worker process; a context manager.

    A worker that crashes, aborts or takes too long fails the call it was running; the next call has a new one.

    Args:
        module: ``"tensorrt"`` or ``"tensorrt_rtx"``.
        cudart: the CUDA runtime's library; None: search (see ``cuda.candidates``).

    Raises:
        InputError: if the module is another one.
    """

    def __init__(self, module: str = "tensorrt", *, cudart: Path | None = None) -> None:
        self._process = TensorRTProcess(module, cudart)
        self._about: dict[str, Any] = {}

    def open(self) -> PythonRunner:
        """Start the worker and load the module.

        Raises:
            BackendError: if it does not load, or is too old.
        """
        if self._about:
            return self
        about = self._process.call(f"{_WORKER}:hello", {}, START_LIMIT_S, "loading")
        version = text(about, "version")
        major = version.partition(".")[0]
        if self._process.module == "tensorrt" and not (major.isdecimal() and int(major) >= PYTHON_RUNNER_MAJOR):
            self.close()
            raise BackendError(
                f"the Python runner needs TensorRT {PYTHON_RUNNER_MAJOR} or newer, this is {version}",
                hint="use trtexec of this version, or update TensorRT",
            )
        self._about = about
        return self

    @property
    def version(self) -> str:
        """Version of the module, e.g. ``"10.3.0"``."""
        return text(self.open()._about, "version")

    @property
    def provenance(self) -> dict[str, str | None]:
        """What ran: module, its version, path and version of the CUDA runtime, CUDA version of the driver."""
        about = self.open()._about
        found: dict[str, str | None] = {"runner": "python", "module": self._process.module}
        for name in ("version", "cudart", "cuda", "driver"):
            value = about.get(name)
            found[name] = value if isinstance(value, str) else None
        return found

    @property
    def missing_gpu(self) -> str:
        """Why engines cannot run here, empty where they can."""
        return text(self.open()._about, "cuda_error")

    def build(
        self,
        onnx_path: Path,
        engine_path: Path,
        precision: str = "fp32",
        *,
        timing_cache: Path | None = None,
        workspace_bytes: int | None = None,
        optimization_level: int | None = None,
        tf32: bool = True,
        compute_capability: str | None = None,
        limit_s: float = BUILD_LIMIT_S,
    ) -> EngineBuild:
        """Build an engine file.

        Args:
            onnx_path: the network.
            engine_path: what is written, whole or not at all.
            precision: one of ``PRECISIONS``.
            timing_cache: read if it exists, and written; None: tactics are chosen anew.
            workspace_bytes: limit of the memory that tactics may use; None: TensorRT's default.
            optimization_level: 0 to 5; None: TensorRT's default.
            tf32: let float32 layers use tensor cores with 10-bit mantissas, TensorRT's and trtexec's default.
            compute_capability: e.g. ``"SM80"``: build for that GPU without having it (TensorRT-RTX only).
            limit_s: seconds it may take.

        Raises:
            InputError: if an option is unknown.
            FileFormatError: if the file is no ONNX file.
            ExportError: if TensorRT rejects the network: one line with node, op and version.
            BackendError: if TensorRT cannot build it, crashed, or took too long.
            StorageError: if a file cannot be read or written.
        """
        if precision not in PRECISIONS:
            raise InputError(
                f"the Python runner has no precision {precision!r}", hint=f"one of: {', '.join(PRECISIONS)}"
            )
        self.open()
        payload = {
            "name": str(onnx_path),
            "onnx": str(onnx_path),
            "engine": str(engine_path),
            "precision": precision,
            "timing_cache": None if timing_cache is None else str(timing_cache),
            "workspace_bytes": workspace_bytes,
            "optimization_level": optimization_level,
            "tf32": tf32,
            "compute_capability": compute_capability,
        }
        answer = self._process.call("dfmobile.export.tensorrt_engine:build", payload, limit_s, f"building {onnx_path}")
        return EngineBuild(number(answer, "seconds"), int(number(answer, "engine_bytes")), texts(answer, "messages"))

    def time(
        self,
        engine_path: Path,
        *,
        warm_up_ms: float = 200.0,
        runs: int = 100,
        budget_ms: float = math.inf,
        cuda_graph: bool = False,
        limit_s: float = RUN_LIMIT_S,
    ) -> EngineTiming:
        """Time an engine: single inferences, one after the other, inputs and outputs on the GPU.

        Args:
            engine_path: the engine.
            warm_up_ms: at least as long it runs before.
            runs: samples wanted, at most ``MOST_RUNS``.
            budget_ms: no sample begins later; at least one is taken.
            cuda_graph: launch as a CUDA graph: takes the time of launching single kernels out.
            limit_s: seconds all of it may take.

        Raises:
            InputError: if there is nothing to run.
            BackendError: if it cannot be run, as without a GPU, or TensorRT crashed.
            StorageError: if the file cannot be read.
        """
        if not 1 <= runs <= MOST_RUNS:
            raise InputError(f"an engine is timed 1 to {MOST_RUNS} times, not {runs}")
        self.open()
        payload = {
            "engine": str(engine_path),
            "warm_up_ms": warm_up_ms,
            "runs": runs,
            "budget_ms": min(budget_ms, 1000 * limit_s),
            "cuda_graph": cuda_graph,
        }
        answer = self._process.call(f"{_WORKER}:time", payload, limit_s, f"timing {engine_path}")
        samples, host = _times(answer, "samples_ms", runs), _times(answer, "host_ms", runs)
        if len(samples) != len(host):
            raise BackendError(f"the worker gives {len(samples)} times on the GPU and {len(host)} on the host")
        return EngineTiming(samples, host, int(number(answer, "warm_up_runs")), texts(answer, "messages"))

    def outputs(
        self, engine_path: Path, inputs: Sequence[npt.NDArray[np.float32]], *, limit_s: float = RUN_LIMIT_S
    ) -> list[npt.NDArray[Any]]:
        """Run an engine once.

        Args:
            engine_path: the engine.
            inputs: in the order of the ONNX file, of its shapes.
            limit_s: seconds it may take.

        Returns:
            The outputs, in the order of the ONNX file; float16 ones as float32.

        Raises:
            BackendError: if it cannot be run, or inputs do not fit, or TensorRT crashed.
            StorageError: if the file cannot be read.
        """
        self.open()
        with tempfile.TemporaryDirectory(prefix="dfmobile-tensorrt-") as name:
            folder = Path(name)
            files = []
            for index, array in enumerate(inputs):
                files.append(str(folder / f"input{index}.npy"))
                np.save(files[-1], array, allow_pickle=False)
            payload = {"engine": str(engine_path), "inputs": files, "folder": name}
            answer = self._process.call(f"{_WORKER}:outputs", payload, limit_s, f"running {engine_path}")
            found = []
            for index in range(len(texts(answer, "outputs"))):
                try:
                    values = np.load(folder / f"output{index}.npy", allow_pickle=False)
                except (OSError, ValueError) as error:
                    raise BackendError(f"output {index} of {engine_path} cannot be read: {error}") from error
                found.append(values.astype(np.float32) if values.dtype == np.float16 else values)
            return found

    def close(self) -> None:
        """End the worker; a second call does nothing."""
        self._about = {}
        self._process.close()

    def __enter__(self) -> PythonRunner:
        """Open it."""
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()


def _times(answer: dict[str, Any], name: str, most: int) -> tuple[float, ...]:
    value = answer.get(name)
    good = isinstance(value, list) and 1 <= len(value) <= most
    if not good or not all(
        isinstance(item, (int, float)) and math.isfinite(item) and item >= 0 for item in value or ()
    ):
        raise BackendError(f"the worker's answer has no usable {name}")
    return tuple(float(item) for item in value or ())
