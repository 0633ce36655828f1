"""Build engines with TensorRT-RTX, which needs no GPU for that (extra ``tensorrt-rtx``).

It has no autotuning: that a network builds proves that TensorRT's parser and builder take it, and says nothing about
its speed.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from types import TracebackType

from dfmobile.export.tensorrt_process import TensorRTProcess, text
from dfmobile.files import atomic_write, read_bytes, storage_error

MODULE = "tensorrt_rtx"
DEFAULT_GPU = "SM80"
"""Compute capability that engines are built for unless told otherwise: the oldest of Orin's generation (Ampere)."""
BUILD_LIMIT_S = 600.0
_ENGINE = "dfmobile.export.tensorrt_engine:build"
_ABOUT = "dfmobile.export.tensorrt_engine:about"


class RtxBuilder:
    """TensorRT-RTX in one worker process for many builds; a context manager."""

    def __init__(self) -> None:
        self._process = TensorRTProcess(MODULE)

    def version(self) -> str:
        """Return the version, e.g. ``"1.7.1.116"``.

        Raises:
            BackendError: if TensorRT-RTX is not installed.
        """
        return text(self._process.call(_ABOUT, {}, BUILD_LIMIT_S, "loading"), "version")

    def build(
        self,
        onnx: bytes,
        *,
        name: str = "the model",
        gpu: str = DEFAULT_GPU,
        limit_s: float = BUILD_LIMIT_S,
    ) -> bytes:
        """Return an engine; the types that it computes in are those of the ONNX file.

        Args:
            onnx: content of an ONNX file.
            name: what messages call it.
            gpu: compute capability that it is for, e.g. ``"SM86"``.
            limit_s: seconds that it may take.

        Raises:
            FileFormatError: if that is no whole ONNX file.
            ExportError: if TensorRT rejects it: one line with node, op and version.
            BackendError: if TensorRT-RTX is not installed, cannot build it, crashed, or took too long.
            InputError: if it does not build for that GPU.
            StorageError: if there is no room for temporary files.
        """
        try:
            folder = tempfile.TemporaryDirectory(prefix="dfmobile-rtx-")
        except OSError as error:
            raise storage_error(error, tempfile.gettempdir(), "write") from error
        with folder as place:
            source, engine = Path(place) / "model.onnx", Path(place) / "model.engine"
            atomic_write(source, onnx)
            payload = {
                "name": name,
                "onnx": str(source),
                "engine": str(engine),
                "precision": "typed",
                "tf32": True,
                "compute_capability": gpu,
            }
            self._process.call(_ENGINE, payload, limit_s, f"building {name}")
            return read_bytes(engine)

    def close(self) -> None:
        """End the worker."""
        self._process.close()

    def __enter__(self) -> RtxBuilder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def build_rtx_engine(onnx: bytes, *, name: str = "the model", gpu: str = DEFAULT_GPU) -> bytes:
    """Build one engine in a worker of its own; see ``RtxBuilder.build``."""
    with RtxBuilder() as builder:
        return builder.build(onnx, name=name, gpu=gpu)
