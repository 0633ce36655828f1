"""What every runtime offers: load a model file, set inputs, run. Times nothing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from dfmobile.errors import BackendError
from dfmobile.files import read_bytes

Array = npt.NDArray[Any]
RunnerT = TypeVar("RunnerT", bound="ModelRunner")
MODEL_LIMIT_BYTES = 2**31 - 1  # neither FlatBuffers nor protobuf goes further


class ModelRunner(ABC):
    """A loaded model file.

    Arrays go in and come out as ``[N, C, H, W]`` (or ``[N, C]``) whatever the file's layout is.

    Attributes:
        input_shapes: shape of each input as the model file has it (TFLite: ``[N, H, W, C]``).
    """

    input_shapes: list[tuple[int, ...]]

    @abstractmethod
    def set_inputs(self, inputs: Sequence[npt.NDArray[np.float32]]) -> None:
        """Copy the inputs into the runtime.

        Args:
            inputs: one float32 array for each input, ``[N, C, H, W]`` or ``[N, C]``.

        Raises:
            BackendError: if their number, shapes or types do not fit the model.
        """

    @abstractmethod
    def invoke(self) -> None:
        """Run once with the inputs that were set last; copies nothing, so this alone is what gets timed.

        Raises:
            BackendError: if the runtime fails.
        """

    @abstractmethod
    def outputs(self) -> list[Array]:
        """Return copies of the outputs of the last run, float32 (argmax: int32), ``[N, C, H, W]`` or ``[N, C]``."""

    def output_steps(self) -> list[float]:
        """Return the distance between neighbouring values of each output; 0.0 where it is not quantised."""
        return [0.0 for _ in self.outputs()]

    @abstractmethod
    def close(self) -> None:
        """Free the runtime's memory; the runner cannot be used afterwards. May be called twice."""

    def run(self, inputs: Sequence[npt.NDArray[np.float32]]) -> list[Array]:
        """Set the inputs, run once and return the outputs.

        Raises:
            BackendError: if the inputs do not fit, or the runtime fails.
        """
        self.set_inputs(inputs)
        self.invoke()
        return self.outputs()

    def __enter__(self: RunnerT) -> RunnerT:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def model_content(model: bytes | Path) -> bytes:
    """Return the content of a model given as bytes or as a path.

    Raises:
        StorageError: if the file cannot be read.
        FileFormatError: if it is larger than any model format allows.
        BackendError: if it is empty.
    """
    content = model if isinstance(model, bytes) else read_bytes(model, MODEL_LIMIT_BYTES)
    if not content:
        raise BackendError(f"{model_name(model)} is empty", hint="export it again")
    return content


def model_name(model: bytes | Path) -> str:
    """Return how to call a model in a message."""
    return "the model" if isinstance(model, bytes) else str(model)


def check_inputs(inputs: Sequence[npt.NDArray[np.float32]], shapes: Sequence[tuple[int, ...]]) -> None:
    """Check inputs against the ``[N, C, H, W]`` shapes that a model takes.

    Raises:
        BackendError: saying which input does not fit.
    """
    if len(inputs) != len(shapes):
        raise BackendError(f"the model takes {len(shapes)} inputs, got {len(inputs)}")
    for position, (array, shape) in enumerate(zip(inputs, shapes, strict=True)):
        if tuple(array.shape) != tuple(shape) or array.dtype != np.float32:
            given = f"{array.dtype} {list(array.shape)}"
            raise BackendError(f"input {position} of the model takes float32 {list(shape)}, got {given}")
