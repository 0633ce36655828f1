"""A worker process in which TensorRT or TensorRT-RTX runs, and may crash without harm."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from dfmobile.errors import BackendError, ExecutionError, InputError
from dfmobile.execution.process import WorkerDeathError, WorkerProcess
from dfmobile.export.tensorrt_api import LABELS, PROTOCOL, one_line

START_LIMIT_S = 120.0
_CRASH_LINES = 5


class TensorRTProcess:
    """Calls functions in a worker process; one that crashes, aborts or takes too long fails the call it was running.

    The next call has a new one. A process that has ended is started at a call only.

    Args:
        module: ``"tensorrt"`` or ``"tensorrt_rtx"``.
        cudart: the CUDA runtime's library; None: search.

    Attributes:
        module: the same.

    Raises:
        InputError: if the module is another one.
    """

    def __init__(self, module: str, cudart: Path | None = None) -> None:
        if module not in LABELS:
            raise InputError(f"TensorRT's Python module is {' or '.join(LABELS)}, not {module!r}")
        self.module = module
        self._common: dict[str, Any] = {"protocol": PROTOCOL, "module": module}
        if cudart is not None:
            self._common["cudart"] = str(cudart)
        self._worker: WorkerProcess | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the worker, None where there is none."""
        return None if self._worker is None else self._worker.pid

    def call(self, function: str, payload: dict[str, Any], limit_s: float, doing: str) -> dict[str, Any]:
        """Call the worker, starting one if there is none.

        Args:
            function: ``"package.module:function"``.
            payload: beside the protocol and the module.
            limit_s: seconds that it may take.
            doing: for messages: ``"building x.onnx"``.

        Raises:
            BackendError: if it cannot be started, dies, takes too long, or answers something else.
            DfmobileError: what the function raised.
        """
        name = LABELS[self.module]
        try:
            if self._worker is None or not self._worker.alive:
                self.close()
                self._worker = WorkerProcess(START_LIMIT_S)
            answer = self._worker.call(function, {**self._common, **payload}, limit_s)
        except WorkerDeathError as error:
            self.close()
            last = " | ".join(one_line(line, 300) for line in error.last_lines[-_CRASH_LINES:])
            what = "took too long" if error.timed_out else "crashed"
            raise BackendError(
                f"{name} {what} while {doing}: {error.reason}" + (f"; its last messages: {last}" if last else ""),
                hint="give it more time"
                if error.timed_out
                else "is there a GPU, and enough memory? see: dfmobile doctor",
            ) from error
        except ExecutionError as error:
            raise BackendError(f"{name} failed while {doing}: {one_line(error)}", error.hint) from error
        except KeyboardInterrupt:
            self.close()  # in the middle of a call: its answer would be taken for the next call's
            raise
        if answer.get("protocol") != PROTOCOL:
            self.close()
            raise BackendError(f"the worker answers with protocol {answer.get('protocol')!r}, not {PROTOCOL}")
        return answer

    def close(self) -> None:
        """End the worker; a second call does nothing."""
        worker, self._worker = self._worker, None
        if worker is not None:
            worker.discard()


def text(answer: dict[str, Any], name: str) -> str:
    """Return a text of an answer.

    Raises:
        BackendError: if there is none.
    """
    value = answer.get(name)
    if not isinstance(value, str):
        raise BackendError(f"the worker's answer has no {name}")
    return value


def texts(answer: dict[str, Any], name: str) -> tuple[str, ...]:
    """Return a list of texts of an answer.

    Raises:
        BackendError: if there is none.
    """
    value = answer.get(name)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise BackendError(f"the worker's answer has no {name}")
    return tuple(value)


def number(answer: dict[str, Any], name: str) -> float:
    """Return a number of an answer, not negative.

    Raises:
        BackendError: if there is none.
    """
    value = answer.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise BackendError(f"the worker's answer has no {name}")
    return float(value)
