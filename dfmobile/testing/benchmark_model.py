"""A host-side stand-in for TensorFlow Lite's ``benchmark_model``: its flags, its log, and really timed models.

For tests of what drives the tool: no stock binary for this machine is published for every version, and none may be
downloaded silently. Each call loads the model in LiteRT in its own process, runs it, and prints what it took, in the
stock format of 2025. The first line says what it is; the parser keeps that line as the version, so no row can be taken
for one of a phone. Run it with ``python -m dfmobile.testing.benchmark_model``, or write an executable script with
``write_stand_in``.
"""

from __future__ import annotations

import shlex
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dfmobile.errors import DfmobileError
from dfmobile.latency.benchmark_model_log import STAND_IN_GREETING
from dfmobile.runtimes.litert import LiteRTRunner, runtime_version

# Flags of the stock tool that it knows, with their defaults.
FLAGS: dict[str, str] = {
    "graph": "",
    "num_threads": "-1",
    "num_runs": "50",
    "min_secs": "1.0",
    "max_secs": "150.0",
    "warmup_runs": "1",
    "warmup_min_secs": "0.5",
    "use_xnnpack": "true",
    "xnnpack_force_fp16": "false",
    "use_gpu": "false",
    "gpu_precision_loss_allowed": "true",
    "enable_op_profiling": "false",
    "report_peak_memory_footprint": "false",
    "input_layer": "",
    "input_layer_shape": "",
    "input_layer_value_files": "",
    "output_filepath": "",
    "help": "false",
}


def write_stand_in(path: Path, interpreter: str = sys.executable, import_paths: Sequence[str] = ()) -> Path:
    """Write an executable script that is the tool; return its path.

    Args:
        path: of the script.
        interpreter: that runs it. A device that is this host under another user may not reach ours.
        import_paths: where that interpreter finds dfmobile, numpy and LiteRT; empty: where it finds them by itself.
    """
    command = shlex.join([interpreter, "-m", "dfmobile.testing.benchmark_model"])
    setting = f"PYTHONPATH={shlex.quote(':'.join(import_paths))} PYTHONDONTWRITEBYTECODE=1 " if import_paths else ""
    path.write_text(f'#!/bin/sh\n{setting}exec {command} "$@"\n', encoding="utf-8")
    path.chmod(0o755)
    return path


def main(arguments: Sequence[str]) -> int:
    """Do what the tool does; return its exit code."""
    print(f"{STAND_IN_GREETING}, LiteRT {runtime_version()}")
    _say("STARTING!")
    values, unknown = dict(FLAGS), []
    for argument in arguments:
        name, equals, value = argument.removeprefix("--").partition("=")
        if argument.startswith("--") and name in FLAGS:
            values[name] = value if equals else "true"
        else:
            unknown.append(argument)
    if values["help"] == "true":
        print("usage: benchmark_model")
        for name, default in FLAGS.items():
            print(f"\t--{name}={default}\tsee tensorflow/lite/tools/benchmark")
        return 1
    if unknown:
        print(f"WARN: Unconsumed cmdline flags: {' '.join(unknown)}")
    if not values["graph"]:
        return _fail("Please specify the name of your TF Lite input file with --graph")
    _say(f"Graph: [{values['graph']}]")
    if values["use_gpu"] == "true":
        print("ERROR: this stand-in has no GPU")
        print("ERROR: Failed to apply GPU delegate.")
        return _fail("Benchmarking failed.")
    try:
        _benchmark(values)
    except DfmobileError as error:
        print(f"ERROR: Failed to load or run the model: {error}")
        return _fail("Benchmarking failed.")
    return 0


class _Model:
    """A model in LiteRT, with its inputs set: the interpreter, or CompiledModel where float16 is forced."""

    def __init__(self, values: dict[str, str]) -> None:
        path, threads = Path(values["graph"]), max(1, int(values["num_threads"]))
        self._half: Any = None
        files = [item.partition(":")[2] for item in values["input_layer_value_files"].split(",") if item]
        started = time.perf_counter_ns()
        if values["xnnpack_force_fp16"] == "true":
            from dfmobile.runtimes.litert_compiled import HalfPrecisionRunner

            self._half = HalfPrecisionRunner(path, threads)
            self.init_us = (time.perf_counter_ns() - started) // 1000
            self._half.set_inputs(_float_inputs(self._half.input_shapes, files))
            return
        self._runner = LiteRTRunner(path, threads)
        self.init_us = (time.perf_counter_ns() - started) // 1000
        self._interpreter: Any = self._runner._open()
        for number, details in enumerate(self._interpreter.get_input_details()):
            self._interpreter.set_tensor(details["index"], _input(details, files[number] if files else ""))

    def run(self) -> None:
        if self._half is not None:
            self._half.invoke()
        else:
            self._interpreter.invoke()

    def say_delegates(self) -> None:
        if self._half is not None:
            whole, total, left, partitions = self._half.fully_accelerated(), 1, 0, 1
        else:
            total, left = self._runner.operator_count(), len(self._runner.unaccelerated_ops())
            partitions, whole = self._runner.partition_count(), self._runner.fully_accelerated()
            print(
                f"VERBOSE: Replacing {total - left} out of {total} node(s) with delegate (TfLiteXNNPackDelegate) node,"
                f" yielding {partitions} partitions for the whole graph."
            )
        if whole:
            _say(
                "Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the delegate."
            )
        elif total - left and partitions:
            _say(
                "Explicitly applied XNNPACK delegate, and the model graph will be partially executed by the delegate"
                f" w/ {partitions} delegate kernels."
            )
        else:
            _say("Though XNNPACK delegate is explicitly applied, the model graph will not be executed by the delegate.")

    def outputs(self) -> bytes:
        if self._half is not None:
            arrays = [a.transpose(0, 2, 3, 1) if a.ndim == 4 else a for a in self._half.outputs()]
        else:
            details = self._interpreter.get_output_details()
            arrays = [self._interpreter.get_tensor(item["index"]) for item in details]
        return b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)


def _benchmark(values: dict[str, str]) -> None:
    before_kb = _memory_kb("VmRSS")
    model = _Model(values)
    _say(f"Loaded model {values['graph']}")
    model.say_delegates()
    loaded_kb = _memory_kb("VmRSS")
    _say(f"The input model file size (MB): {Path(values['graph']).stat().st_size / 1e6:g}")
    _say(f"Initialized session in {model.init_us / 1000:g}ms.")
    limit_s = float(values["max_secs"])
    warm_up = _phase(model, int(values["warmup_runs"]), float(values["warmup_min_secs"]), limit_s)
    timed = _phase(model, int(values["num_runs"]), float(values["min_secs"]), limit_s)
    if values["output_filepath"]:
        Path(values["output_filepath"]).write_bytes(model.outputs())
    _say(
        f"Inference timings in us: Init: {model.init_us}, First inference: {warm_up[0]}, "
        f"Warmup (avg): {statistics.fmean(warm_up):g}, Inference (avg): {statistics.fmean(timed):g}"
    )
    _say(
        f"Memory footprint delta from the start of the tool (MB): init={(loaded_kb - before_kb) / 1024:g} "
        f"overall={(_memory_kb('VmRSS') - before_kb) / 1024:g}"
    )
    if values["report_peak_memory_footprint"] == "true":
        peak_kb = _memory_kb("VmHWM")
        _say(f"Overall peak memory footprint (MB) via periodic monitoring: {peak_kb / 1024:g}")


def _phase(model: _Model, least_runs: int, least_s: float, limit_s: float) -> list[int]:
    """Run as the stock tool does; return µs of each run, at least one."""
    _say(
        f"Running benchmark for at least {least_runs} iterations and at least {least_s:g} seconds but terminate if "
        f"exceeding {limit_s:g} seconds."
    )
    runs: list[int] = []
    start = time.perf_counter_ns()
    spent_s = 0.0
    while not runs or ((len(runs) < least_runs or spent_s < least_s) and spent_s <= limit_s):
        begin = time.perf_counter_ns()
        model.run()
        end = time.perf_counter_ns()
        runs.append(max(1, (end - begin) // 1000))
        spent_s = (end - start) / 1e9
    _say(_statistics(runs))
    return runs


def _statistics(runs: Sequence[int]) -> str:
    """Return the stock tool's line of statistics."""
    if min(runs) == max(runs):
        return f"count={len(runs)} curr={runs[-1]}" + ("(all same)" if len(runs) > 1 else "")
    p5, median, p95 = np.quantile(np.asarray(runs), (0.05, 0.5, 0.95), method="nearest")
    return (
        f"count={len(runs)} first={runs[0]} curr={runs[-1]} min={min(runs)} max={max(runs)} "
        f"avg={statistics.fmean(runs):g} std={statistics.pstdev(runs):.0f} p5={p5} median={median} p95={p95}"
    )


def _input(details: dict[str, Any], path: str) -> Any:
    """Return an input as the file takes it: from a file, or random as the stock tool makes it."""
    kind, shape = np.dtype(details["dtype"]), tuple(int(extent) for extent in details["shape"])
    if path:
        return np.frombuffer(_content(path, int(np.prod(shape)) * kind.itemsize), kind).reshape(shape)
    generator = np.random.default_rng(0)
    if kind.kind == "f":
        return generator.uniform(-0.5, 0.5, shape).astype(kind)
    limits = np.iinfo(kind)
    return generator.integers(limits.min, limits.max, shape, kind, endpoint=True)


def _float_inputs(shapes: Sequence[tuple[int, ...]], files: Sequence[str]) -> list[Any]:
    """Return float32 inputs ``[N, C, H, W]`` of files that have ``[N, H, W, C]``."""
    found = []
    for number, shape in enumerate(shapes):
        details = {"dtype": np.float32, "shape": shape}
        array = _input(details, files[number] if files else "")
        found.append(np.ascontiguousarray(array.transpose(0, 3, 1, 2)) if array.ndim == 4 else array)
    return found


def _content(path: str, size: int) -> bytes:
    content = Path(path).read_bytes()
    if len(content) != size:
        raise DfmobileError(f"The size of {path} is {len(content)} bytes. It should be {size} bytes.")
    return content


def _memory_kb(name: str) -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1])
    return 0


def _say(text: str) -> None:
    print(f"INFO: {text}", flush=True)


def _fail(text: str) -> int:
    print(f"ERROR: {text}", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
