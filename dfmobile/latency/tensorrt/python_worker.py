"""Runs engines with TensorRT's Python module, 10 or newer, or TensorRT-RTX; each function runs in a worker process.

Not verified on hardware: written against the documented interfaces and tested with stand-ins and without a GPU.
Nothing is kept between calls, so that a worker that died is replaced by starting another.
"""

from __future__ import annotations

import math
import time as clock
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dfmobile.errors import BackendError
from dfmobile.export.tensorrt_api import PROTOCOL, KeptMessages, label, load_module, make_logger, one_line
from dfmobile.files import read_bytes
from dfmobile.latency.tensorrt.cuda import Cuda, open_cuda

LIMIT_BYTES = 8 * 2**30
"""Largest engine file that is read."""
MIN_WARM_UP_RUNS = 3
_Array = np.ndarray[Any, np.dtype[Any]]


def hello(payload: dict[str, Any]) -> dict[str, Any]:
    """Return ``version`` of the module, and of the CUDA runtime, or why there is none."""
    trt = load_module(payload)
    answer = {"protocol": PROTOCOL, "version": str(trt.__version__), "label": label(trt)}
    try:
        cuda = open_cuda(payload.get("cudart"))
    except BackendError as error:
        return {**answer, "cuda": None, "driver": None, "cudart": None, "cuda_error": str(error)}
    versions = {"cuda": cuda.version(), "driver": cuda.version("cudaDriverGetVersion")}
    return {**answer, **versions, "cudart": cuda.path, "cuda_error": ""}


def time(payload: dict[str, Any]) -> dict[str, Any]:
    """Time an engine; see ``PythonRunner.time``."""
    with _opened(payload) as loaded:
        for tensor in loaded.inputs:
            loaded.cuda.write(tensor.address, _random(tensor), loaded.stream)
        run = loaded.enqueue
        warm_up = _warm_up(loaded, run, float(payload["warm_up_ms"]))
        if payload["cuda_graph"]:
            run = loaded.captured()
            run()
            loaded.cuda.call("cudaStreamSynchronize", loaded.stream)
        samples, host = _samples(loaded, run, int(payload["runs"]), float(payload["budget_ms"]))
        return {
            "protocol": PROTOCOL,
            "samples_ms": samples,
            "host_ms": host,
            "warm_up_runs": warm_up,
            "messages": loaded.kept.lines(),
        }


def outputs(payload: dict[str, Any]) -> dict[str, Any]:
    """Run an engine once on arrays of ``.npy`` files and write its outputs as such; see ``PythonRunner.outputs``."""
    with _opened(payload) as loaded:
        paths = payload["inputs"]
        if len(paths) != len(loaded.inputs):
            raise BackendError(f"the engine takes {len(loaded.inputs)} inputs, {len(paths)} are given")
        for tensor, path in zip(loaded.inputs, paths, strict=True):
            values = np.load(path, allow_pickle=False)
            if values.shape != tensor.shape:
                raise BackendError(f"input {tensor.name!r} is {list(tensor.shape)}, {list(values.shape)} is given")
            loaded.cuda.write(tensor.address, values.astype(tensor.kind), loaded.stream)
        loaded.enqueue()
        loaded.cuda.call("cudaStreamSynchronize", loaded.stream)
        files = []
        for index, tensor in enumerate(loaded.outputs):
            values = np.empty(tensor.shape, tensor.kind)
            loaded.cuda.read(tensor.address, values, loaded.stream)
            files.append(str(Path(payload["folder"]) / f"output{index}.npy"))
            np.save(files[-1], values, allow_pickle=False)
        return {"protocol": PROTOCOL, "outputs": files, "messages": loaded.kept.lines()}


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    kind: np.dtype[Any]
    address: int


@dataclass(frozen=True)
class _Loaded:
    """An engine on the GPU, its inputs and outputs in place."""

    cuda: Cuda
    stream: int
    context: Any
    inputs: tuple[_Tensor, ...]
    outputs: tuple[_Tensor, ...]
    kept: KeptMessages
    stack: ExitStack

    def enqueue(self) -> None:
        """Start one inference."""
        if not self.context.execute_async_v3(self.stream):
            raise BackendError(f"TensorRT cannot run the engine: {self.kept.cause()}")

    def captured(self) -> Callable[[], None]:
        """Capture one inference as a CUDA graph; return what launches it."""
        cuda, stream = self.cuda, self.stream
        cuda.begin_capture(stream)
        self.enqueue()
        graph = cuda.end_capture(stream)
        self.stack.callback(cuda.release, "cudaGraphDestroy", graph)
        launchable = cuda.handle("cudaGraphInstantiateWithFlags", graph, 0)
        self.stack.callback(cuda.release, "cudaGraphExecDestroy", launchable)
        return lambda: cuda.call("cudaGraphLaunch", launchable, stream)


@contextmanager
def _opened(payload: dict[str, Any]) -> Iterator[_Loaded]:
    trt, kept = load_module(payload), KeptMessages()
    path = Path(payload["engine"])
    content = read_bytes(path, LIMIT_BYTES)
    cuda = open_cuda(payload.get("cudart"))
    with ExitStack() as stack:
        try:
            runtime = trt.Runtime(make_logger(trt, kept))
            engine = runtime.deserialize_cuda_engine(content)
            context = None if engine is None else engine.create_execution_context()
        except (TypeError, RuntimeError) as error:
            raise BackendError(f"{label(trt)} cannot load {path}: {kept.cause(one_line(error))}") from error
        if engine is None or context is None:
            raise BackendError(
                f"{label(trt)} cannot load {path}: {kept.cause()}",
                hint="engines run on the GPU, the TensorRT and the driver that they were built with: build it again",
            )
        stream = cuda.stream()
        stack.callback(cuda.release, "cudaStreamDestroy", stream)
        tensors: dict[bool, list[_Tensor]] = {True: [], False: []}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            tensor = _allocate(trt, engine, name, cuda, stack)
            if not context.set_tensor_address(name, tensor.address):
                raise BackendError(f"{label(trt)} refuses the memory of tensor {name!r}: {kept.cause()}")
            tensors[engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT].append(tensor)
        yield _Loaded(cuda, stream, context, tuple(tensors[True]), tuple(tensors[False]), kept, stack)


def _allocate(trt: Any, engine: Any, name: str, cuda: Cuda, stack: ExitStack) -> _Tensor:
    shape = tuple(int(extent) for extent in engine.get_tensor_shape(name))
    if any(extent < 0 for extent in shape):
        raise BackendError(f"tensor {name!r} of the engine has no fixed shape: {list(shape)}")
    try:
        kind = np.dtype(trt.nptype(engine.get_tensor_dtype(name)))
    except TypeError as error:
        raise BackendError(f"tensor {name!r} of the engine has a type that numpy lacks: {one_line(error)}") from error
    address = cuda.malloc(math.prod(shape) * kind.itemsize)
    stack.callback(cuda.release, "cudaFree", address)
    return _Tensor(name, shape, kind, address)


def _random(tensor: _Tensor) -> _Array:
    """Return standard normal values, none denormal; zeros for integers."""
    if tensor.kind.kind != "f":
        return np.zeros(tensor.shape, tensor.kind)
    values = np.random.default_rng(1).standard_normal(tensor.shape, np.float32)
    values[np.abs(values) < 1e-4] = 1e-4  # smaller ones are denormal in float16
    return values.astype(tensor.kind)


def _warm_up(loaded: _Loaded, run: Callable[[], None], warm_up_ms: float) -> int:
    count, start = 0, clock.perf_counter()
    while count < MIN_WARM_UP_RUNS or 1000 * (clock.perf_counter() - start) < warm_up_ms:
        run()
        loaded.cuda.call("cudaStreamSynchronize", loaded.stream)
        count += 1
    return count


def _samples(loaded: _Loaded, run: Callable[[], None], runs: int, budget_ms: float) -> tuple[list[float], list[float]]:
    """Return the times of single inferences: between two events on the GPU, and on the host until the second."""
    cuda, stream = loaded.cuda, loaded.stream
    events = []
    for _ in range(2):
        events.append(cuda.event())
        loaded.stack.callback(cuda.release, "cudaEventDestroy", events[-1])
    begin, end = events
    samples: list[float] = []
    host: list[float] = []
    start = clock.perf_counter()
    while len(samples) < runs and (not samples or 1000 * (clock.perf_counter() - start) < budget_ms):
        before = clock.perf_counter()
        cuda.call("cudaEventRecord", begin, stream)
        run()
        cuda.call("cudaEventRecord", end, stream)
        samples.append(cuda.elapsed_ms(begin, end))
        host.append(1000 * (clock.perf_counter() - before))
    return samples, host
