"""What the two backends share that time .tflite files with TensorFlow Lite's interpreter in this process."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

from dfmobile.errors import BackendError
from dfmobile.files import sha256_hex
from dfmobile.latency.backends.base import RuntimeIdentity
from dfmobile.latency.backends.inprocess import InProcessBackend
from dfmobile.runtimes.base import ModelRunner, model_name
from dfmobile.runtimes.interpreter import InterpreterRunner, nchw


class InterpreterBackend(InProcessBackend):
    """Times .tflite files in an interpreter on the CPU, XNNPACK as the runtime applies it by default.

    ``int8`` times what ``dfmobile export --precision int8`` writes: integers inside and at the border.
    """

    model_format = "tflite"
    precisions: ClassVar[tuple[str, ...]] = ("fp32", "int8")
    runner: ClassVar[type[InterpreterRunner]]
    version: ClassVar[Callable[[], str]]
    library: ClassVar[Callable[[], Path]]

    def identity(self) -> RuntimeIdentity:
        """See base class."""
        kind = type(self)
        version, sha256 = kind.version(), library_sha256(kind.library())
        return RuntimeIdentity(kind.runner.runtime, version, sha256, {"delegate": "XNNPACK (default)"})

    def open_runner(self, model: bytes | Path, threads: int) -> ModelRunner:
        """See base class; a file of another precision would be measured under a wrong name, so it is refused."""
        runner = self.runner(model, threads=threads)
        quantised = runner.quantised_border()
        if quantised == (self.precision == "int8"):
            return runner
        runner.close()
        kind = "integer" if quantised else "float32"
        raise BackendError(
            f"{model_name(model)} takes {kind} inputs, and precision {self.precision} was asked for",
            hint="say --precision int8" if quantised else f"export it with --precision {self.precision}",
        )

    def input_shapes(self, runner: ModelRunner) -> Sequence[tuple[int, ...]]:
        """See base class; the file has ``[N, H, W, C]``."""
        return [nchw(shape) for shape in runner.input_shapes]

    def inspect(self, runner: ModelRunner) -> dict[str, Any]:
        """Return which operators XNNPACK left to the runtime, and into how many partitions it cut the graph."""
        if not isinstance(runner, InterpreterRunner):
            return {}
        return {"unaccelerated_ops": runner.unaccelerated_ops(), "partitions": runner.partition_count()}


@lru_cache(maxsize=4)
def library_sha256(path: Path) -> str:
    """Return the digest of a runtime's library, computed once a process."""
    return sha256_hex(path)
