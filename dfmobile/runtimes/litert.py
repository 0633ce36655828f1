"""LiteRT (the TensorFlow Lite interpreter of ai-edge-litert), with XNNPACK as it applies it by default."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import ai_edge_litert

from dfmobile.errors import BackendError
from dfmobile.runtimes.greeting import Greeting
from dfmobile.runtimes.interpreter import InterpreterRunner

_LIBRARIES = ("libpywrap_litert_common.so", "_pywrap_tensorflow_interpreter_wrapper.so")


def runtime_version() -> str:
    """Return the version of ai-edge-litert, e.g. ``"2.3.0"``."""
    return str(ai_edge_litert.__version__)


def library_path() -> Path:
    """Return the shared library that holds the interpreter and its kernels (its SHA-256 is provenance).

    Raises:
        BackendError: if this version of ai-edge-litert has none of the known libraries.
    """
    folder = Path(str(ai_edge_litert.__file__)).parent
    for name in _LIBRARIES:
        if (folder / name).is_file():
            return folder / name
    raise BackendError(
        f"ai-edge-litert {runtime_version()} has no library that dfmobile knows in {folder}",
        hint="install a version of ai-edge-litert that dfmobile was tested with: >=2.1.4,<3",
    )


class LiteRTRunner(InterpreterRunner):
    """A .tflite file in LiteRT's interpreter; see the base class."""

    runtime: ClassVar[str] = "LiteRT"
    greeting: ClassVar[Greeting] = Greeting()

    @staticmethod
    def _make(content: bytes, threads: int) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        return Interpreter(model_content=content, num_threads=threads)
