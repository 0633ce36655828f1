"""ONNX Runtime's CPU provider (extra ``onnx``) on this machine."""

from __future__ import annotations

from pathlib import Path

from dfmobile.errors import BackendError
from dfmobile.latency.backends.base import RuntimeIdentity
from dfmobile.latency.backends.inprocess import InProcessBackend
from dfmobile.latency.backends.tflite import library_sha256
from dfmobile.runtimes.base import ModelRunner, model_name
from dfmobile.runtimes.onnxruntime import OnnxRuntimeRunner, library_path, runtime_version


class OnnxRuntimeBackend(InProcessBackend):
    """Times .onnx files, a new session each pass, all graph optimisations on; see the base class.

    Threads are those of one operator; operators run one after the other. With one, they run in the calling thread.
    """

    name = "onnxruntime"
    model_format = "onnx"
    precisions = ("fp32",)

    def identity(self) -> RuntimeIdentity:
        """See base class."""
        flags = {"provider": "CPUExecutionProvider", "graph_optimizations": "all", "inter_op_threads": 1}
        return RuntimeIdentity("ONNX Runtime", runtime_version(), library_sha256(library_path()), flags)

    def open_runner(self, model: bytes | Path, threads: int) -> ModelRunner:
        """See base class; a file of another precision would be measured under a wrong name, so it is refused."""
        runner = OnnxRuntimeRunner(model, threads=threads)
        stated = runner.stated_precision()
        if stated == self.precision:
            return runner
        runner.close()
        raise BackendError(
            f"{model_name(model)} is a typed {stated} file, and precision {self.precision} was asked for",
            hint="such files are for TensorRT: export it with --precision fp32",
        )
