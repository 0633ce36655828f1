"""LiteRT's CompiledModel: the one Python interface that passes flags to XNNPACK, such as float16 arithmetic.

The interpreter of ``litert`` cannot set them. Both run the same kernels; this one logs every step, so standard error
is silenced while a model is loaded or freed. What C++ logs when the process ends (``DestroyAccelerator``) stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.errors import BackendError
from dfmobile.runtimes.base import Array, ModelRunner, check_inputs, model_content, model_name
from dfmobile.runtimes.greeting import silenced
from dfmobile.runtimes.interpreter import nchw

FORCE_FP16 = 4  # TFLITE_XNNPACK_DELEGATE_FLAG_FORCE_FP16
_NEEDED = "2.3.0"


@lru_cache(maxsize=1)
def _environment() -> Any:
    """Return what all models of a process share."""
    try:
        from ai_edge_litert.environment import Environment, EnvironmentOptions
    except ImportError as error:
        raise BackendError(
            f"this LiteRT cannot pass flags to XNNPACK: {error}",
            hint=f"python -m pip install 'ai-edge-litert>={_NEEDED}'",
        ) from error
    return Environment.create(options=EnvironmentOptions())


class HalfPrecisionRunner(ModelRunner):
    """A float32 .tflite file computed in float16 by XNNPACK; inputs and outputs stay float32.

    Args:
        model: the file, or its content.
        threads: how many threads XNNPACK uses.

    Raises:
        BackendError: if the file is damaged, is not float32, or LiteRT cannot prepare it for float16.
        StorageError: if the file cannot be read.
    """

    def __init__(self, model: bytes | Path, threads: int = 1) -> None:
        content = model_content(model)
        try:
            with silenced():
                environment = _environment()
                from ai_edge_litert.compiled_model import CompiledModel
                from ai_edge_litert.options import CpuOptions, Options

                options = Options(cpu_options=CpuOptions(num_threads=threads, xnnpack_flags=FORCE_FP16))
                compiled = CompiledModel.from_buffer(content, environment=environment, options=options)
                signature = compiled.get_signature_by_index(0)
                inputs = compiled.get_input_tensor_details(signature["key"])
                outputs = compiled.get_output_tensor_details(signature["key"])
                self._in = compiled.create_input_buffers(0)
                self._out = compiled.create_output_buffers(0)
                for buffer, name in zip(self._in, signature["inputs"], strict=True):
                    # The first access of a process makes, and logs, one more environment.
                    buffer.write(np.zeros(inputs[name]["shape"], np.dtype(inputs[name]["dtype"])))
        except (RuntimeError, ValueError, ImportError) as error:
            raise BackendError(
                f"LiteRT cannot load {model_name(model)} for float16 arithmetic: {' '.join(str(error).split())}",
                hint="is it a whole .tflite file? export it again as fp32",
            ) from error
        self._compiled: Any = compiled
        self._outputs = [outputs[name] for name in signature["outputs"]]
        self.input_shapes = [tuple(int(extent) for extent in inputs[name]["shape"]) for name in signature["inputs"]]
        kinds = [inputs[name]["dtype"] for name in signature["inputs"]]
        if any(kind != "float32" for kind in kinds):
            raise BackendError(f"{model_name(model)} takes {kinds[0]} inputs; float16 arithmetic needs a float32 file")

    def set_inputs(self, inputs: Sequence[npt.NDArray[np.float32]]) -> None:
        """See base class."""
        self._open()
        check_inputs(inputs, [nchw(shape) for shape in self.input_shapes])
        for array, buffer in zip(inputs, self._in, strict=True):
            buffer.write(np.ascontiguousarray(array.transpose(0, 2, 3, 1)) if array.ndim == 4 else array)

    def invoke(self) -> None:
        """See base class."""
        try:
            self._open().run_by_index(0, self._in, self._out)
        except RuntimeError as error:
            raise BackendError(f"LiteRT cannot run the model: {' '.join(str(error).split())}") from error

    def outputs(self) -> list[Array]:
        """See base class."""
        self._open()
        found = []
        for buffer, details in zip(self._out, self._outputs, strict=True):
            shape = tuple(int(extent) for extent in details["shape"])
            values = buffer.read(int(np.prod(shape)), np.dtype(details["dtype"]).type).reshape(shape)
            found.append(np.ascontiguousarray(values.transpose(0, 3, 1, 2)) if values.ndim == 4 else values)
        return found

    def fully_accelerated(self) -> bool:
        """Tell whether XNNPACK took the whole graph."""
        return bool(self._open().is_fully_accelerated())

    def close(self) -> None:
        """See base class."""
        with silenced():
            self._compiled, self._in, self._out = None, [], []

    def _open(self) -> Any:
        if self._compiled is None:
            raise BackendError("this model was closed")
        return self._compiled
