"""TensorFlow Lite's interpreter as LiteRT and tflite-runtime both have it: one API, two packages.

This module imports neither; each runtime's own module makes the interpreter.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from dfmobile.errors import BackendError
from dfmobile.runtimes.base import Array, ModelRunner, check_inputs, model_content, model_name
from dfmobile.runtimes.greeting import Greeting

_DELEGATE = "DELEGATE"  # the op name that the interpreter gives to a partition that a delegate took over


class InterpreterRunner(ModelRunner):
    """A .tflite file in an interpreter on the CPU, with XNNPACK as the runtime applies it by default.

    Inputs and outputs that the file has quantised are written and read by their scale and zero point, so that
    callers see float32.

    Args:
        model: the file, or its content.
        threads: how many threads XNNPACK and the runtime's own kernels use.

    Raises:
        BackendError: if the file is damaged or is no .tflite file, or the runtime cannot prepare it.
        MissingExtraError: if the runtime is not installed.
        StorageError: if the file cannot be read.
    """

    runtime: ClassVar[str]
    greeting: ClassVar[Greeting]

    def __init__(self, model: bytes | Path, threads: int = 1) -> None:
        content = model_content(model)
        try:
            with self.greeting.hidden():
                interpreter = self._make(content, threads)
                interpreter.allocate_tensors()
            self._inputs = interpreter.get_input_details()
            self._outputs = interpreter.get_output_details()
        except (ValueError, RuntimeError) as error:
            raise BackendError(
                f"{self.runtime} cannot load {model_name(model)}: {_one_line(error)}",
                hint="is it a whole .tflite file? export it again",
            ) from error
        self._interpreter: Any = interpreter
        self.input_shapes = [tuple(int(extent) for extent in item["shape"]) for item in self._inputs]

    @staticmethod
    @abstractmethod
    def _make(content: bytes, threads: int) -> Any:
        """Return the runtime's interpreter object, tensors not yet allocated.

        Raises:
            ValueError, RuntimeError: whatever the runtime has against the content.
            MissingExtraError: if the runtime is not installed.
        """

    def set_inputs(self, inputs: Sequence[npt.NDArray[np.float32]]) -> None:
        """See base class."""
        check_inputs(inputs, [nchw(shape) for shape in self.input_shapes])
        for array, details in zip(inputs, self._inputs, strict=True):
            layout = np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if array.ndim == 4 else array
            self._open().set_tensor(details["index"], _stored(layout, details))

    def invoke(self) -> None:
        """See base class."""
        try:
            self._open().invoke()
        except RuntimeError as error:
            raise BackendError(f"{self.runtime} cannot run the model: {_one_line(error)}") from error

    def outputs(self) -> list[Array]:
        """See base class."""
        values = [_real(self._open().get_tensor(details["index"]), details) for details in self._outputs]
        return [np.ascontiguousarray(v.transpose(0, 3, 1, 2)) if v.ndim == 4 else v for v in values]

    def stored_inputs(self, inputs: Sequence[npt.NDArray[np.float32]]) -> list[Array]:
        """Return inputs as the file takes them: its layout, integers by scale and zero point where it has those.

        Raises:
            BackendError: if they do not fit the model.
        """
        check_inputs(inputs, [nchw(shape) for shape in self.input_shapes])
        layouts = [array.transpose(0, 2, 3, 1) if array.ndim == 4 else array for array in inputs]
        return [
            np.ascontiguousarray(_stored(layout, details))
            for layout, details in zip(layouts, self._inputs, strict=True)
        ]

    def read_outputs(self, content: bytes) -> list[Array]:
        """Return what another run of this file wrote, all outputs one after the other, as ``outputs`` would.

        Raises:
            BackendError: if it has another size.
        """
        kinds = [np.dtype(details["dtype"]) for details in self._outputs]
        shapes = [tuple(int(extent) for extent in details["shape"]) for details in self._outputs]
        sizes = [int(np.prod(shape)) * kind.itemsize for kind, shape in zip(kinds, shapes, strict=True)]
        if len(content) != sum(sizes):
            raise BackendError(f"the outputs have {len(content)} bytes, the model's have {sum(sizes)}")
        found, start = [], 0
        for kind, shape, size, details in zip(kinds, shapes, sizes, self._outputs, strict=True):
            values = _real(np.frombuffer(content[start : start + size], kind).reshape(shape).copy(), details)
            found.append(np.ascontiguousarray(values.transpose(0, 3, 1, 2)) if values.ndim == 4 else values)
            start += size
        return found

    def output_bytes(self) -> int:
        """Return the size of all outputs as the file has them."""
        return sum(int(np.prod(item["shape"])) * np.dtype(item["dtype"]).itemsize for item in self._outputs)

    def output_steps(self) -> list[float]:
        """See base class."""
        self._open()
        return [float(details["quantization"][0]) for details in self._outputs]

    def input_names(self) -> list[str]:
        """Return the names of the input tensors, in the order of ``set_inputs``."""
        return [str(details["name"]) for details in self._inputs]

    def quantised_border(self) -> bool:
        """Tell whether all inputs are integers with a scale, as in a file of static int8."""
        return all(details["quantization"][0] != 0.0 for details in self._inputs)

    def output_names(self) -> list[str]:
        """Return the names of the output tensors, in the order of ``outputs``."""
        return [str(details["name"]) for details in self._outputs]

    def close(self) -> None:
        """See base class."""
        self._interpreter = None

    def unaccelerated_ops(self) -> list[str]:
        """Return the names of the operators that XNNPACK did not take, e.g. ``["ARG_MAX"]``.

        The interpreter keeps the operators that a delegate replaced in its list, so being listed says nothing. An
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


def nchw(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the ``[N, C, H, W]`` form of a file's ``[N, H, W, C]``; other ranks stay."""
    return (shape[0], shape[3], shape[1], shape[2]) if len(shape) == 4 else shape


def _stored(values: npt.NDArray[np.float32], details: dict[str, Any]) -> Array:
    """Return float values as the file has them: float32, or integers by scale and zero point."""
    kind = np.dtype(details["dtype"])
    scale, zero_point = details["quantization"]
    if kind == np.float32:
        return values
    if kind.kind not in "iu" or scale == 0.0:
        raise BackendError(f"input {details['name']!r} of the model is {kind.name}, dfmobile gives float32")
    limits = np.iinfo(kind)
    stored: Array = np.clip(np.rint(values / np.float32(scale)) + zero_point, limits.min, limits.max).astype(kind)
    return stored


def _real(values: Array, details: dict[str, Any]) -> Array:
    """Return what integers with a scale stand for, float32; other values (argmax) as they are."""
    scale, zero_point = details["quantization"]
    if values.dtype.kind not in "iu" or scale == 0.0:
        return values
    real: Array = (values.astype(np.float32) - zero_point) * np.float32(scale)
    return real


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
