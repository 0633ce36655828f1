"""tflite-runtime (extra ``tflite-runtime``) on this machine's CPU: the older runtime, still what many apps ship."""

from __future__ import annotations

from dfmobile.latency.backends.tflite import InterpreterBackend
from dfmobile.runtimes.tflite_runtime import TFLiteRuntimeRunner, library_path, runtime_version


class TFLiteRuntimeBackend(InterpreterBackend):
    """Times .tflite files in tflite-runtime; see the base classes."""

    name = "tflite-runtime"
    runner = TFLiteRuntimeRunner
    version = staticmethod(runtime_version)
    library = staticmethod(library_path)
