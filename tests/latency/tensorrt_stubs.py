"""Python modules that behave like releases of TensorRT in the one way that a test is about: written into a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

# What the modules of every release have for logging.
LOGGER = """
import os
class ILogger:
    class Severity:
        pass
    def __init__(self):
        pass
class _Severity:
    def __init__(self, name):
        self.name = name
    def __str__(self):
        return "Severity." + self.name
"""

# 8.5.3 without a driver: the cause goes to the logger only.
NO_DRIVER_8_5_3 = """
class Builder:
    def __init__(self, logger):
        logger.log(_Severity("ERROR"), "6: [init] Error Code 6:\\n(CUDA initialization failure with error: 35)")
        raise TypeError("pybind11::init(): factory function returned nullptr")
"""

ABORTS = """
class Builder:
    def __init__(self, logger):
        os.write(2, b"terminate called after throwing an instance of 'nvinfer1::CudaError'\\n")
        os.abort()
"""

SEGFAULTS = """
import signal
class Runtime:
    def __init__(self, logger):
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
"""

WORKS = """
class Builder:
    def __init__(self, logger):
        pass
Runtime = Builder
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, version: str, body: str, module: str = "tensorrt") -> None:
    """Put a module first on the path of this process and of the workers that it starts."""
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(f"__version__ = {version!r}\n{LOGGER}{body}")
    monkeypatch.syspath_prepend(str(folder))
