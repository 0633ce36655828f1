"""LiteRT on this machine's CPU, XNNPACK as it applies it by default: the backend that needs nothing installed."""

from __future__ import annotations

from dfmobile.latency.backends.tflite import InterpreterBackend
from dfmobile.runtimes.litert import LiteRTRunner, library_path, runtime_version


class LiteRTBackend(InterpreterBackend):
    """Times .tflite files in LiteRT; see the base classes."""

    name = "litert"
    runner = LiteRTRunner
    version = staticmethod(runtime_version)
    library = staticmethod(library_path)
