"""The CUDA runtime through ctypes: memory, a stream, events and a graph; nothing else of CUDA is needed to time.

Used in worker processes only. Source of the signatures: CUDA Runtime API reference, versions 11.4 to 13; all functions
here are the same in these (``cudaGraphInstantiate`` is not, hence ``cudaGraphInstantiateWithFlags``).
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dfmobile.errors import BackendError

NAMES = ("libcudart.so.13", "libcudart.so.12", "libcudart.so.11.0")
"""File names, newest first; JetPack 5 has the last."""
FOLDERS = tuple(
    f"/usr/local/cuda/{name}" for name in ("lib64", "targets/aarch64-linux/lib", "targets/x86_64-linux/lib")
)
"""Where NVIDIA's packages put it when the loader is not told."""
_HOST_TO_DEVICE, _DEVICE_TO_HOST = 1, 2  # cudaMemcpyKind
_NON_BLOCKING = 1  # cudaStreamNonBlocking: does not wait for the legacy stream
_CAPTURE_THREAD = 1  # cudaStreamCaptureModeThreadLocal
_POINTER, _POINTER_OUT = ctypes.c_void_p, ctypes.POINTER(ctypes.c_void_p)
_INT_OUT = ctypes.POINTER(ctypes.c_int)
_SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cudaRuntimeGetVersion": (_INT_OUT,),
    "cudaDriverGetVersion": (_INT_OUT,),
    "cudaGetDeviceCount": (_INT_OUT,),
    "cudaSetDevice": (ctypes.c_int,),
    "cudaMalloc": (_POINTER_OUT, ctypes.c_size_t),
    "cudaFree": (_POINTER,),
    "cudaMemcpyAsync": (_POINTER, _POINTER, ctypes.c_size_t, ctypes.c_int, _POINTER),
    "cudaStreamCreateWithFlags": (_POINTER_OUT, ctypes.c_uint),
    "cudaStreamSynchronize": (_POINTER,),
    "cudaStreamDestroy": (_POINTER,),
    "cudaEventCreateWithFlags": (_POINTER_OUT, ctypes.c_uint),
    "cudaEventRecord": (_POINTER, _POINTER),
    "cudaEventSynchronize": (_POINTER,),
    "cudaEventElapsedTime": (ctypes.POINTER(ctypes.c_float), _POINTER, _POINTER),
    "cudaEventDestroy": (_POINTER,),
    "cudaStreamBeginCapture": (_POINTER, ctypes.c_int),
    "cudaStreamEndCapture": (_POINTER, _POINTER_OUT),
    "cudaGraphInstantiateWithFlags": (_POINTER_OUT, _POINTER, ctypes.c_ulonglong),
    "cudaGraphLaunch": (_POINTER, _POINTER),
    "cudaGraphExecDestroy": (_POINTER,),
    "cudaGraphDestroy": (_POINTER,),
}


class Cuda:
    """A loaded CUDA runtime on the first GPU.

    Args:
        path: name or path of the library.

    Attributes:
        path: the same.

    Raises:
        BackendError: if it does not load, lacks a function, or finds no GPU; with CUDA's own words.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            self._library = ctypes.CDLL(path)
            for name, arguments in _SIGNATURES.items():
                function = getattr(self._library, name)
                function.argtypes, function.restype = arguments, ctypes.c_int
            self._library.cudaGetErrorString.restype = ctypes.c_char_p
        except (OSError, AttributeError) as error:
            raise BackendError(f"the CUDA runtime {path} does not load: {error}") from error
        count = ctypes.c_int()
        self.call("cudaGetDeviceCount", ctypes.byref(count))
        if count.value < 1:
            raise BackendError("the CUDA runtime finds no GPU")
        self.call("cudaSetDevice", 0)

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function.

        Raises:
            BackendError: if it returns an error.
        """
        code = getattr(self._library, name)(*arguments)
        if code:
            text = self._library.cudaGetErrorString(code)
            words = text.decode(errors="replace") if text else "unknown error"
            raise BackendError(f"{name}: {words} (CUDA error {code})")

    def release(self, name: str, handle: int) -> None:
        """Give something back; what is wrong then was wrong before, and has been said."""
        getattr(self._library, name)(handle)

    def handle(self, name: str, *arguments: Any) -> int:
        """Call a function whose first argument receives a handle, and return that.

        Raises:
            BackendError: if it returns an error.
        """
        result = ctypes.c_void_p()
        self.call(name, ctypes.byref(result), *arguments)
        return int(result.value or 0)

    def version(self, name: str = "cudaRuntimeGetVersion") -> str:
        """Return the runtime's version, or the driver's (``cudaDriverGetVersion``), e.g. ``"12.6"``."""
        number = ctypes.c_int()
        self.call(name, ctypes.byref(number))
        return f"{number.value // 1000}.{number.value % 1000 // 10}"

    def malloc(self, size_bytes: int) -> int:
        """Return memory of the GPU (one byte where none is asked for: its address must be valid)."""
        return self.handle("cudaMalloc", max(1, size_bytes))

    def stream(self) -> int:
        """Return a new stream."""
        return self.handle("cudaStreamCreateWithFlags", _NON_BLOCKING)

    def event(self) -> int:
        """Return a new event that records times."""
        return self.handle("cudaEventCreateWithFlags", 0)

    def elapsed_ms(self, start: int, end: int) -> float:
        """Return the time from one recorded event to another, to about half a microsecond."""
        self.call("cudaEventSynchronize", end)
        result = ctypes.c_float()
        self.call("cudaEventElapsedTime", ctypes.byref(result), start, end)
        return float(result.value)

    def write(self, address: int, values: np.ndarray[Any, np.dtype[Any]], stream: int) -> None:
        """Copy an array to the GPU and wait for it."""
        content = np.ascontiguousarray(values)
        self.call("cudaMemcpyAsync", address, content.ctypes.data, content.nbytes, _HOST_TO_DEVICE, stream)
        self.call("cudaStreamSynchronize", stream)

    def read(self, address: int, values: np.ndarray[Any, np.dtype[Any]], stream: int) -> None:
        """Fill a contiguous array from the GPU."""
        self.call("cudaMemcpyAsync", values.ctypes.data, address, values.nbytes, _DEVICE_TO_HOST, stream)
        self.call("cudaStreamSynchronize", stream)

    def begin_capture(self, stream: int) -> None:
        """Record what goes to a stream from here on instead of running it."""
        self.call("cudaStreamBeginCapture", stream, _CAPTURE_THREAD)

    def end_capture(self, stream: int) -> int:
        """Return what was recorded as a graph."""
        result = ctypes.c_void_p()
        self.call("cudaStreamEndCapture", stream, ctypes.byref(result))
        return int(result.value or 0)


def candidates() -> Iterator[str]:
    """Return where the CUDA runtime may be: the loader's path, CUDA's folders, NVIDIA's Python packages."""
    yield from NAMES
    packages = [folder for entry in sys.path for folder in sorted(Path(entry or ".").glob("nvidia/*/lib"))]
    for folder in [*map(Path, FOLDERS), *packages]:
        for name in NAMES:
            if (folder / name).exists():
                yield str(folder / name)


def open_cuda(path: str | None = None) -> Cuda:
    """Load the newest CUDA runtime that the driver takes.

    Args:
        path: the library; None: search.

    Raises:
        BackendError: if there is none, or none that finds a GPU; then in the words of the newest.
    """
    first: BackendError | None = None
    for candidate in candidates() if path is None else [path]:
        try:
            return Cuda(candidate)
        except BackendError as error:
            if "No such file" not in str(error.__cause__) and first is None:
                first = error
    hint = "is NVIDIA's driver installed, and newer than the CUDA runtime?"
    if first is not None:
        raise BackendError(str(first), hint) from first
    raise BackendError(
        f"no CUDA runtime: none of {', '.join(NAMES)} is on the loader's path or in {FOLDERS[0]}",
        hint="install the CUDA toolkit's cudart, or: python -m pip install nvidia-cuda-runtime",
    )
