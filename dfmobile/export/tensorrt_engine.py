"""Builds an engine file from an ONNX file with ``tensorrt`` or ``tensorrt_rtx``; runs in a worker process."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from dfmobile.errors import BackendError
from dfmobile.export.tensorrt_api import (
    PROTOCOL,
    KeptMessages,
    label,
    load_module,
    make_builder,
    make_logger,
    one_line,
    read_onnx,
    set_compute_capability,
)
from dfmobile.files import atomic_write, read_bytes

LIMIT_BYTES = 8 * 2**30
"""Largest ONNX file or timing cache that is read."""


def about(payload: dict[str, Any]) -> dict[str, Any]:
    """Return the ``version`` of the module."""
    return {"protocol": PROTOCOL, "version": str(load_module(payload).__version__)}


def build(payload: dict[str, Any]) -> dict[str, Any]:
    """Build an engine file from an ONNX file; see ``PythonRunner.build`` for the payload.

    ``name`` in the payload is what messages call the ONNX file.
    """
    trt, kept = load_module(payload), KeptMessages()
    logger = make_logger(trt, kept)
    name = str(payload["name"])
    content = read_bytes(payload["onnx"], LIMIT_BYTES)
    start = time.perf_counter()
    try:
        builder = make_builder(trt, logger, kept)
        # The parser owns the weights: it has to live until the engine is built.
        network, parser = read_onnx(trt, builder, logger, kept, content, name, typed=payload["precision"] == "typed")
        config = _config(trt, builder, payload)
        plan = builder.build_serialized_network(network, config)
        del parser
    except (TypeError, RuntimeError, AttributeError) as error:
        raise BackendError(f"{label(trt)} cannot build {name}: {kept.cause(one_line(error))}") from error
    if plan is None:
        raise BackendError(f"{label(trt)} cannot build {name}: {kept.cause()}")
    engine = bytes(plan)
    atomic_write(payload["engine"], engine)
    if payload.get("timing_cache"):
        atomic_write(payload["timing_cache"], bytes(config.get_timing_cache().serialize()))
    seconds = time.perf_counter() - start
    return {"protocol": PROTOCOL, "seconds": seconds, "engine_bytes": len(engine), "messages": kept.lines()}


def _config(trt: Any, builder: Any, payload: dict[str, Any]) -> Any:
    config = builder.create_builder_config()
    if payload["precision"] == "fp16":
        flag = getattr(trt.BuilderFlag, "FP16", None)
        if flag is None:
            raise BackendError(
                f"{label(trt)} has no fp16 mode: its networks have the types of the ONNX file",
                hint="write a float16 ONNX file (export --format onnx --precision fp16) and build it as typed",
            )
        config.set_flag(flag)
    if not payload["tf32"]:
        config.clear_flag(trt.BuilderFlag.TF32)
    if payload.get("workspace_bytes"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, int(payload["workspace_bytes"]))
    if payload.get("optimization_level") is not None:
        config.builder_optimization_level = int(payload["optimization_level"])
    if payload.get("timing_cache"):
        path = Path(payload["timing_cache"])
        stored = read_bytes(path, LIMIT_BYTES) if path.exists() else b""
        # Of another version or GPU: TensorRT refuses it here, and says so.
        if not config.set_timing_cache(config.create_timing_cache(stored), False):
            raise BackendError(
                f"{label(trt)} refuses the timing cache {path}", hint="it is of another GPU or version: remove it"
            )
    if payload.get("compute_capability"):
        set_compute_capability(trt, config, str(payload["compute_capability"]))
    return config
