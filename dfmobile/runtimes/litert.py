"""LiteRT (the TensorFlow Lite interpreter of ai-edge-litert), with XNNPACK as it applies it by default."""

from __future__ import annotations

import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ai_edge_litert
import numpy as np
import numpy.typing as npt

from dfmobile.errors import BackendError
from dfmobile.runtimes.base import Array, ModelRunner, check_inputs, model_content, model_name

_DELEGATE = "DELEGATE"  # the op name that LiteRT gives to a partition that a delegate took over
_LIBRARIES = ("libpywrap_litert_common.so", "_pywrap_tensorflow_interpreter_wrapper.so")
_GREETING = b"Created TensorFlow Lite XNNPACK delegate for CPU."
_first_load = threading.Lock()
_greeted = False


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


class LiteRTRunner(ModelRunner):
    """A .tflite file in LiteRT's interpreter on the CPU.

    Args:
        model: the file, or its content.
        threads: how many threads XNNPACK and LiteRT's own kernels use.

    Raises:
        BackendError: if the file is damaged or is no .tflite file, or LiteRT cannot prepare it.
        StorageError: if the file cannot be read.
    """

    def __init__(self, model: bytes | Path, threads: int = 1) -> None:
        from ai_edge_litert.interpreter import Interpreter

        content = model_content(model)
        try:
            with _without_greeting():
                interpreter = Interpreter(model_content=content, num_threads=threads)
                interpreter.allocate_tensors()
            self._inputs = interpreter.get_input_details()
            self._outputs = interpreter.get_output_details()
        except (ValueError, RuntimeError) as error:
            raise BackendError(
                f"LiteRT cannot load {model_name(model)}: {_one_line(error)}",
                hint="is it a whole .tflite file? export it again",
            ) from error
        self._interpreter: Any = interpreter
        self.input_shapes = [tuple(int(extent) for extent in item["shape"]) for item in self._inputs]

    def set_inputs(self, inputs: Sequence[npt.NDArray[np.float32]]) -> None:
        """See base class."""
        check_inputs(inputs, [_nchw(shape) for shape in self.input_shapes])
        for array, details in zip(inputs, self._inputs, strict=True):
            if details["dtype"] is not np.float32:
                kind = np.dtype(details["dtype"]).name
                raise BackendError(f"input {details['name']!r} of the model is {kind}, dfmobile gives float32")
            layout = np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if array.ndim == 4 else array
            self._open().set_tensor(details["index"], layout)

    def invoke(self) -> None:
        """See base class."""
        try:
            self._open().invoke()
        except RuntimeError as error:
            raise BackendError(f"LiteRT cannot run the model: {_one_line(error)}") from error

    def outputs(self) -> list[Array]:
        """See base class."""
        values = [self._open().get_tensor(details["index"]) for details in self._outputs]
        return [np.ascontiguousarray(v.transpose(0, 3, 1, 2)) if v.ndim == 4 else v for v in values]

    def output_names(self) -> list[str]:
        """Return the names of the output tensors, in the order of ``outputs``."""
        return [str(details["name"]) for details in self._outputs]

    def close(self) -> None:
        """See base class."""
        self._interpreter = None

    def unaccelerated_ops(self) -> list[str]:
        """Return the names of the operators that XNNPACK did not take, e.g. ``["ARG_MAX"]``.

        LiteRT keeps the operators that a delegate replaced in its list, so being listed says nothing. An
        operator runs only if a result depends on it, walking back from the outputs, where a delegate's
        partition stands for all operators that it replaced.
        """
        nodes = self._open()._get_ops_details()
        maker: dict[int, dict[str, Any]] = {}
        for node in nodes:  # partitions come last: they take over what they make
            maker.update((int(index), node) for index in node["outputs"])
        pending = [int(details["index"]) for details in self._outputs]
        seen: set[int] = set()
        found: dict[int, str] = {}
        while pending:
            node = maker.get(pending.pop())
            if node is None or node["index"] in seen:
                continue
            seen.add(node["index"])
            if node["op_name"] != _DELEGATE:
                found[node["index"]] = str(node["op_name"])
            pending += [int(index) for index in node["inputs"]]
        return [found[index] for index in sorted(found)]

    def operator_count(self) -> int:
        """Return the number of operators in the file."""
        return sum(node["op_name"] != _DELEGATE for node in self._open()._get_ops_details())

    def partition_count(self) -> int:
        """Return the number of partitions that XNNPACK took; 1 when the whole graph is one."""
        return sum(node["op_name"] == _DELEGATE for node in self._open()._get_ops_details())

    def delegated_fraction(self) -> float:
        """Return the fraction of operators that XNNPACK took, from 0 to 1."""
        count = self.operator_count()
        return 1.0 - len(self.unaccelerated_ops()) / count if count else 0.0

    def fully_accelerated(self) -> bool:
        """Tell whether XNNPACK took the whole graph as one partition."""
        return self.partition_count() == 1 and not self.unaccelerated_ops()

    def _open(self) -> Any:
        if self._interpreter is None:
            raise BackendError("this model was closed")
        return self._interpreter


def _nchw(shape: tuple[int, ...]) -> tuple[int, ...]:
    return (shape[0], shape[3], shape[1], shape[2]) if len(shape) == 4 else shape


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


@contextmanager
def _without_greeting() -> Iterator[None]:
    """Keep LiteRT's greeting off standard error; whatever else is written meanwhile comes out afterwards.

    LiteRT prints one line from C++ when it first makes XNNPACK's delegate in a process, and has no switch for it.
    """
    global _greeted
    with _first_load:
        saved = None if _greeted else _duplicate_stderr()
        if saved is None:
            yield
            return
        with tempfile.TemporaryFile() as captured:
            os.dup2(captured.fileno(), 2)
            try:
                yield
            finally:
                sys.stderr.flush()
                os.dup2(saved, 2)
                os.close(saved)
                captured.seek(0)
                for line in captured:
                    if _GREETING in line:
                        _greeted = True
                    else:
                        os.write(2, line)


def _duplicate_stderr() -> int | None:
    """Return a copy of file descriptor 2, None where standard error is closed: then nothing would be seen."""
    if sys.stderr is None:  # Python's way to say that it was closed when the process began
        return None
    sys.stderr.flush()
    try:
        return os.dup(2)
    except OSError:
        return None
