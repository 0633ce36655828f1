"""ONNX Runtime on the CPU (extra ``onnx``)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.errors import BackendError, import_extra
from dfmobile.runtimes.base import Array, ModelRunner, check_inputs, model_content, model_name

# Newer wheels have the runtime in a library of its own, older ones in the Python module.
_LIBRARIES = ("libonnxruntime.so.*", "onnxruntime_pybind11_state*.so")
_SILENT = 4  # only what makes the process end is logged; errors arrive as exceptions


def runtime_version() -> str:
    """Return the version of onnxruntime, e.g. ``"1.20.1"``.

    Raises:
        MissingExtraError: if it is not installed.
    """
    return str(import_extra("onnxruntime", "onnx", "ONNX Runtime").__version__)


def library_path() -> Path:
    """Return the shared library that holds ONNX Runtime and its kernels (its SHA-256 is provenance).

    Raises:
        BackendError: if this version has no such library.
        MissingExtraError: if it is not installed.
    """
    package = import_extra("onnxruntime", "onnx", "ONNX Runtime")
    folder = Path(str(package.__file__)).parent / "capi"
    for pattern in _LIBRARIES:
        found = sorted(folder.glob(pattern))
        if len(found) == 1:
            return found[0]
    raise BackendError(
        f"onnxruntime {package.__version__} has no library that dfmobile knows in {folder}",
        hint="install a version of onnxruntime that dfmobile was tested with: >=1.19,<2",
    )


class OnnxRuntimeRunner(ModelRunner):
    """An .onnx file in ONNX Runtime's CPU provider.

    Args:
        model: the file, or its content.
        threads: how many threads one operator may use; operators run one after the other.

    Raises:
        BackendError: if the file is damaged or is no .onnx file, or ONNX Runtime cannot prepare it.
        MissingExtraError: if onnxruntime is not installed.
        StorageError: if the file cannot be read.
    """

    def __init__(self, model: bytes | Path, threads: int = 1) -> None:
        runtime = import_extra("onnxruntime", "onnx", "running .onnx files")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = _SILENT
        content = model_content(model)
        try:
            session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # its exceptions share no base but Exception
            raise BackendError(
                f"ONNX Runtime cannot load {model_name(model)}: {' '.join(str(error).split())}",
                hint="is it a whole .onnx file? export it again",
            ) from error
        self._session: Any = session
        self._binding: Any = session.io_binding()
        self._inputs = session.get_inputs()
        self._held: list[Array] = []  # bound inputs are read in place
        for item in session.get_outputs():
            self._binding.bind_output(item.name)
        for item in self._inputs:
            if not all(isinstance(extent, int) for extent in item.shape) or item.type != "tensor(float)":
                raise BackendError(
                    f"input {item.name!r} of {model_name(model)} is {item.type} {item.shape}",
                    hint="dfmobile runs float32 models of fixed size; export it with fixed input sizes",
                )
        self.input_shapes = [tuple(item.shape) for item in self._inputs]

    def set_inputs(self, inputs: Sequence[npt.NDArray[np.float32]]) -> None:
        """See base class."""
        self._open()
        check_inputs(inputs, self.input_shapes)
        self._held = [np.array(array, order="C", copy=True) for array in inputs]
        for array, item in zip(self._held, self._inputs, strict=True):
            self._binding.bind_cpu_input(item.name, array)

    def invoke(self) -> None:
        """See base class."""
        try:
            self._open().run_with_iobinding(self._binding)
        except RuntimeError as error:
            raise BackendError(f"ONNX Runtime cannot run the model: {' '.join(str(error).split())}") from error

    def outputs(self) -> list[Array]:
        """See base class."""
        self._open()
        return [np.array(value) for value in self._binding.copy_outputs_to_cpu()]

    def stated_precision(self) -> str:
        """Return what the file's metadata say it computes in: ``fp16`` in typed files of dfmobile; else ``fp32``."""
        return str(self._open().get_modelmeta().custom_metadata_map.get("precision", "fp32"))

    def close(self) -> None:
        """See base class."""
        self._session = self._binding = None
        self._held = []

    def _open(self) -> Any:
        if self._session is None:
            raise BackendError("this model was closed")
        return self._session
