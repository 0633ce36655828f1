"""Python modules that behave like releases of TensorRT in the one way that a test is about: written into a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

# What the modules of every release have for logging.
LOGGER = """
import os
class ILogger:
    class Severity:
        pass
    def __init__(self):
        pass
class _Severity:
    def __init__(self, name):
        self.name = name
    def __str__(self):
        return "Severity." + self.name
"""

# 8.5.3 without a driver: the cause goes to the logger only.
NO_DRIVER_8_5_3 = """
class Builder:
    def __init__(self, logger):
        logger.log(_Severity("ERROR"), "6: [init] Error Code 6:\\n(CUDA initialization failure with error: 35)")
        raise TypeError("pybind11::init(): factory function returned nullptr")
"""

ABORTS = """
class Builder:
    def __init__(self, logger):
        os.write(2, b"terminate called after throwing an instance of 'nvinfer1::CudaError'\\n")
        os.abort()
"""

SEGFAULTS = """
import signal
class Runtime:
    def __init__(self, logger):
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGSEGV)
"""

WORKS = """
class Builder:
    def __init__(self, logger):
        pass
Runtime = Builder
"""


def install(folder: Path, monkeypatch: pytest.MonkeyPatch, version: str, body: str, module: str = "tensorrt") -> None:
    """Put a module first on the path of this process and of the workers that it starts."""
    folder.mkdir(exist_ok=True)
    (folder / f"{module}.py").write_text(f"__version__ = {version!r}\n{LOGGER}{body}")
    monkeypatch.syspath_prepend(str(folder))


# The interface of 10.3 as far as the runner uses it; it computes y = 2 x on [1, 4] in memory that a stand-in of the
# CUDA runtime gave. What TENSORRT_STUB holds decides how it misbehaves.
RUNS = """
import ctypes, json, signal, time
import numpy as np
_MODE = os.environ.get("TENSORRT_STUB", "")
class _Enum:
    def __init__(self, prefix, names):
        for value, name in enumerate(names):
            setattr(self, name, value)
NetworkDefinitionCreationFlag = _Enum("", ["EXPLICIT_BATCH", "STRONGLY_TYPED"])
BuilderFlag = _Enum("", ["FP16", "TF32"])
MemoryPoolType = _Enum("", ["WORKSPACE"])
TensorIOMode = _Enum("", ["NONE", "INPUT", "OUTPUT"])
class _Network:
    def __init__(self, flags):
        self.flags, self.num_outputs = flags, 0
class _Code:
    def __init__(self, name):
        self.name = name
    def __str__(self):
        return "ErrorCode." + self.name
class _Error:
    def node(self): return 3
    def node_name(self): return "conv1"
    def node_operator(self): return "Foo"
    def code(self): return _Code("UNSUPPORTED_NODE")
    def desc(self): return "no such op\\n[log] more"
class OnnxParser:
    def __init__(self, network, logger):
        self.network, self.logger, self.num_errors = network, logger, 0
    def parse(self, content):
        self.logger.log(_Severity("INFO"), "Opset version:    17")
        self.logger.log(_Severity("VERBOSE"), "chatter")
        if content == b"bad":
            self.num_errors = 2
            return False
        self.network.num_outputs = 1
        return True
    def get_error(self, index):
        return _Error()
class _Cache:
    def __init__(self, content):
        self.content = content
    def serialize(self):
        return b"cache"
class _Config:
    def __init__(self):
        self.flags, self.pools, self.cache, self.builder_optimization_level = {"TF32"}, {}, None, None
    def set_flag(self, flag):
        self.flags.add({BuilderFlag.FP16: "FP16", BuilderFlag.TF32: "TF32"}[flag])
    def clear_flag(self, flag):
        self.flags.discard({BuilderFlag.FP16: "FP16", BuilderFlag.TF32: "TF32"}[flag])
    def set_memory_pool_limit(self, pool, size):
        self.pools[pool] = size
    def create_timing_cache(self, content):
        return _Cache(content)
    def set_timing_cache(self, cache, ignore_mismatch):
        self.cache = cache
        return cache.content in (b"", b"cache")
    def get_timing_cache(self):
        return self.cache
class Builder:
    def __init__(self, logger):
        self.logger = logger
    def create_network(self, flags):
        return _Network(flags)
    def create_builder_config(self):
        return _Config()
    def build_serialized_network(self, network, config):
        if _MODE == "abort":
            self.logger.log(_Severity("ERROR"), "Assertion failed in the builder")
            os.abort()
        if _MODE == "garbage":
            for descriptor in range(3, 20):
                try:
                    os.write(descriptor, b"[I] not an answer\\n")
                except OSError:
                    pass
        if _MODE == "sleep":
            time.sleep(600)
        if _MODE == "none":
            self.logger.log(_Severity("ERROR"), "Could not find any implementation for node conv1")
            return None
        pools = {str(pool): size for pool, size in config.pools.items()}
        return json.dumps({"network": network.flags, "flags": sorted(config.flags), "pools": pools,
                           "level": config.builder_optimization_level}).encode()
class _Context:
    def __init__(self):
        self.addresses = {}
    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return True
    def execute_async_v3(self, stream_handle):
        assert stream_handle == 0x51
        if _MODE == "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        if _MODE == "refuse":
            return False
        x = np.frombuffer((ctypes.c_char * 16).from_address(self.addresses["x"]), np.float32)
        y = np.frombuffer((ctypes.c_char * 8).from_address(self.addresses["y"]), np.float16)
        y[:] = 2 * x
        return True
class _Engine:
    num_io_tensors = 2
    def create_execution_context(self):
        return _Context()
    def get_tensor_name(self, index):
        return "yx"[index]
    def get_tensor_shape(self, name):
        return (-1, 4) if _MODE == "dynamic" else (1, 4)
    def get_tensor_dtype(self, name):
        return name
    def get_tensor_mode(self, name):
        return TensorIOMode.INPUT if name == "x" else TensorIOMode.OUTPUT
def nptype(kind):
    return np.float32 if kind == "x" else np.float16
class Runtime:
    def __init__(self, logger):
        self.logger = logger
    def deserialize_cuda_engine(self, content):
        if not content.startswith(b"{"):
            self.logger.log(_Severity("ERROR"), "Serialization assertion magicTag failed")
            return None
        return _Engine()
"""

# The functions and signatures of libcudart on the host's memory; each call leaves its name in $FAKE_CUDART_LOG.
CUDART = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
static void note(const char *name) {
    const char *path = getenv("FAKE_CUDART_LOG");
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file) { fprintf(file, "%s\n", name); fclose(file); }
}
static int code(const char *name) {
    const char *failing = getenv("FAKE_CUDART_FAILS");
    note(name);
    return failing && !strcmp(failing, name) ? 2 : 0;
}
#define NAMED(function) int function
NAMED(cudaRuntimeGetVersion)(int *version) { *version = 12060; return code(__func__); }
NAMED(cudaDriverGetVersion)(int *version) { *version = 13000; return code(__func__); }
NAMED(cudaGetDeviceCount)(int *count) { *count = getenv("FAKE_CUDART_NO_GPU") ? 0 : 1; return code(__func__); }
NAMED(cudaSetDevice)(int device) { return code(__func__); }
NAMED(cudaMalloc)(void **address, size_t size) { *address = malloc(size); return code(__func__); }
NAMED(cudaFree)(void *address) { free(address); return code(__func__); }
NAMED(cudaMemcpyAsync)(void *to, const void *from, size_t size, int kind, void *stream) {
    memcpy(to, from, size); return code(__func__); }
NAMED(cudaStreamCreateWithFlags)(void **stream, unsigned flags) { *stream = (void *)0x51; return code(__func__); }
NAMED(cudaStreamSynchronize)(void *stream) { return code(__func__); }
NAMED(cudaStreamDestroy)(void *stream) { return code(__func__); }
NAMED(cudaEventCreateWithFlags)(void **event, unsigned flags) { *event = (void *)0xE; return code(__func__); }
NAMED(cudaEventRecord)(void *event, void *stream) { return code(__func__); }
NAMED(cudaEventSynchronize)(void *event) { return code(__func__); }
NAMED(cudaEventElapsedTime)(float *time, void *start, void *end) {
    static int calls; *time = 1.0f + 0.25f * calls++; return code(__func__); }
NAMED(cudaEventDestroy)(void *event) { return code(__func__); }
NAMED(cudaStreamBeginCapture)(void *stream, int mode) { return code(__func__); }
NAMED(cudaStreamEndCapture)(void *stream, void **graph) { *graph = (void *)0x6; return code(__func__); }
NAMED(cudaGraphInstantiateWithFlags)(void **launchable, void *graph, unsigned long long flags) {
    *launchable = (void *)0x7; return code(__func__); }
NAMED(cudaGraphLaunch)(void *launchable, void *stream) { return code(__func__); }
NAMED(cudaGraphExecDestroy)(void *launchable) { return code(__func__); }
NAMED(cudaGraphDestroy)(void *graph) { return code(__func__); }
const char *cudaGetErrorString(int code) { return code == 2 ? "out of memory" : "other"; }
"""
