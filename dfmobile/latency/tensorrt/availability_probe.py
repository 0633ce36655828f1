"""Looks at TensorRT and CUDA on this machine; each function runs in a worker process, which it may take down."""

from __future__ import annotations

import ctypes
import importlib
from typing import Any

from dfmobile.export.tensorrt_api import KeptMessages, make_logger, one_line

DRIVER_LIBRARY = "libcuda.so.1"
_NAME_BYTES = 256
_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, _MINOR
_MOST_DEVICES = 64


def driver(payload: dict[str, Any]) -> dict[str, Any]:
    """Return ``version`` (of CUDA that the driver supports), ``devices`` (name, compute capability) and ``error``.

    Source: the CUDA driver API (cuInit, cuDriverGetVersion, cuDeviceGetCount, cuDeviceGetName).
    """
    library = str(payload.get("library", DRIVER_LIBRARY))
    try:
        cuda = ctypes.CDLL(library)
    except OSError as error:
        absent = "No such file" in str(error)
        return _no_driver(f"no CUDA driver: {library} is not installed" if absent else f"{library}: {one_line(error)}")
    number = ctypes.c_int()
    version = None
    if cuda.cuDriverGetVersion(ctypes.byref(number)) == 0:
        version = f"{number.value // 1000}.{number.value % 1000 // 10}"
    code = cuda.cuInit(0)
    if code:
        reason = f"the CUDA driver finds no GPU: cuInit gives {_error_name(cuda, code)}"
        return {**_no_driver(reason), "version": version}
    if cuda.cuDeviceGetCount(ctypes.byref(number)) or number.value < 1:
        return {**_no_driver("the CUDA driver finds no GPU"), "version": version}
    devices = [_device(cuda, index) for index in range(min(number.value, _MOST_DEVICES))]
    return {"version": version, "devices": devices, "error": ""}


def module(payload: dict[str, Any]) -> dict[str, Any]:
    """Import a module; return ``version``, or ``error`` where it does not load."""
    try:
        found = importlib.import_module(str(payload["module"]))
    except Exception as error:  # a library of NVIDIA's may raise anything
        return {"version": None, "error": one_line(f"{type(error).__name__}: {error}")}
    return {"version": str(getattr(found, "__version__", "unknown")), "error": ""}


def runtime(payload: dict[str, Any]) -> dict[str, Any]:
    """Make a module's builder, where it has one, and its runtime; return ``error``, empty if both work.

    Without a driver some versions raise, with the cause told to the logger only, and some crash.
    """
    trt: Any = importlib.import_module(str(payload["module"]))
    kept = KeptMessages()
    logger = make_logger(trt, kept)
    for kind in ("Builder", "Runtime"):
        if not hasattr(trt, kind):  # the lean runtime has no builder
            continue
        try:
            getattr(trt, kind)(logger)
        except Exception as error:
            return {"error": f"{kind}: {kept.cause(one_line(f'{type(error).__name__}: {error}'))}"}
    return {"error": kept.cause("")}


def _no_driver(reason: str) -> dict[str, Any]:
    return {"version": None, "devices": [], "error": reason}


def _error_name(cuda: ctypes.CDLL, code: int) -> str:
    text = ctypes.c_char_p()
    if cuda.cuGetErrorName(code, ctypes.byref(text)) == 0 and text.value:
        return f"{text.value.decode(errors='replace')} ({code})"
    return str(code)


def _device(cuda: ctypes.CDLL, index: int) -> str:
    handle, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(_NAME_BYTES)
    failed = (
        cuda.cuDeviceGet(ctypes.byref(handle), index)
        or cuda.cuDeviceGetName(name, _NAME_BYTES, handle)
        or cuda.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, handle)
        or cuda.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, handle)
    )
    if failed:
        return f"GPU {index}: {_error_name(cuda, failed)}"
    return f"{name.value.decode(errors='replace')} (compute capability {major.value}.{minor.value})"
