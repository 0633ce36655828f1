"""tflite-runtime (extra ``tflite-runtime``): TensorFlow Lite's interpreter before it was renamed LiteRT.

Its last version, 2.14, is built for numpy 1 and Python up to 3.11; files of ``dfmobile export`` run in it unchanged.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np

from dfmobile.errors import BackendError, MissingExtraError, import_extra
from dfmobile.runtimes.greeting import Greeting
from dfmobile.runtimes.interpreter import InterpreterRunner

_EXTRA = "tflite-runtime"
_NUMPY = "1"
_LIBRARY = "_pywrap_tensorflow_interpreter_wrapper.so"


def runtime_version() -> str:
    """Return the version of tflite-runtime, e.g. ``"2.14.0"``.

    Raises:
        MissingExtraError: if it is not installed.
    """
    return str(_package("tflite_runtime").__version__)


def library_path() -> Path:
    """Return the shared library that holds the interpreter and its kernels (its SHA-256 is provenance).

    Raises:
        BackendError: if this version has no such library.
        MissingExtraError: if it is not installed.
    """
    package = _package("tflite_runtime")
    path = Path(str(package.__file__)).with_name(_LIBRARY)
    if not path.is_file():
        raise BackendError(
            f"tflite-runtime {package.__version__} has no library that dfmobile knows in {path.parent}",
            hint="install the version that dfmobile was tested with: 2.14.0",
        )
    return path


def _package(module: str) -> ModuleType:
    """Import a module of tflite-runtime.

    Raises:
        MissingExtraError: if it is not installed, or numpy is too new: then it would fail deep in C, with a traceback.
    """
    found = import_extra("tflite_runtime", _EXTRA, "backend tflite-runtime")
    if np.__version__.partition(".")[0] != _NUMPY:
        raise MissingExtraError(
            f"tflite-runtime {found.__version__} is built for numpy {_NUMPY}, and numpy {np.__version__} is installed",
            hint=f"give it an environment of its own: python3.11 -m venv …; pip install 'dfmobile[{_EXTRA}]'",
        )
    return import_extra(module, _EXTRA, "backend tflite-runtime")


class TFLiteRuntimeRunner(InterpreterRunner):
    """A .tflite file in tflite-runtime's interpreter; see the base class."""

    runtime: ClassVar[str] = "tflite-runtime"
    greeting: ClassVar[Greeting] = Greeting()

    @staticmethod
    def _make(content: bytes, threads: int) -> Any:
        from ai_edge_litert.interpreter import Interpreter

        module = _package("tflite_runtime.interpreter")
        Interpreter(model_content=content)  # it verifies the file; this older one reads past the end of a damaged one
        return module.Interpreter(model_content=content, num_threads=threads)
