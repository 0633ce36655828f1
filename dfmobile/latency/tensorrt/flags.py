"""trtexec's command line by version: what to pass for a build, a timing and a profile, every choice explicit.

The table says from which version to which a flag exists; source: the option parsers of NVIDIA's open releases 7.1.3
to 11.1 (``samples/common/sampleOptions.cpp``), and the help of a real trtexec 8.5.3. Things that are easy to get
wrong:

- TensorRT 11 turns CUDA graphs and spin-wait on and data transfers off by default. Its ``--useCudaGraph``,
  ``--useSpinWait`` and ``--noDataTransfers`` do nothing; ``--noCudaGraph``, ``--noSpinWait`` and
  ``--includeDataTransfers`` undo the defaults.
- TensorRT 11 has no ``--fp16``, and no ``--int8`` either: that string in its sources belongs to the builder for safety
  engines. Every network is typed by its ONNX file.
- trtexec up to 7.2 takes an ONNX file with a fixed batch only with ``--explicitBatch``; from 8.0 on it is implied.
- trtexec up to 8.2 reads the duration as a whole number and drops what follows: 0.5 s would be none at all.
- trtexec 7.1 attaches its profiler wherever it exports times, so they are those of a profiled engine, and only there
  or with ``--dumpProfile``.

What a version cannot do is an ``InputError``, never left out.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

from dfmobile.errors import InputError, quoted
from dfmobile.latency.tensorrt.versions import TensorRTVersion

OLDEST = TensorRTVersion(7, 1)
_V7_2, _V8_0_1 = TensorRTVersion(7, 2), TensorRTVersion(8, 0, 1)
_V8_4, _V8_6 = TensorRTVersion(8, 4), TensorRTVersion(8, 6)
_V10, _V11 = TensorRTVersion(10, 0), TensorRTVersion(11, 0)

# Flag: (the first version that has it, the first that has it no more).
_FLAGS: dict[str, tuple[TensorRTVersion, TensorRTVersion | None]] = {
    "--onnx": (OLDEST, None),
    "--saveEngine": (OLDEST, None),
    "--loadEngine": (OLDEST, None),
    "--explicitBatch": (OLDEST, _V10),
    "--fp16": (OLDEST, _V11),
    "--int8": (OLDEST, _V11),
    "--calib": (OLDEST, _V11),
    "--stronglyTyped": (TensorRTVersion(9, 1), None),
    "--noTF32": (OLDEST, None),
    "--workspace": (OLDEST, _V10),
    "--memPoolSize": (_V8_4, None),
    "--buildOnly": (OLDEST, _V10),
    "--skipInference": (_V8_6, None),
    "--timingCacheFile": (_V8_0_1, None),
    "--inputIOFormats": (OLDEST, None),
    "--outputIOFormats": (OLDEST, None),
    "--iterations": (OLDEST, None),
    "--duration": (OLDEST, None),
    "--warmUp": (OLDEST, None),
    "--streams": (OLDEST, None),
    "--infStreams": (_V8_6, None),
    "--useCudaGraph": (OLDEST, None),
    "--noCudaGraph": (_V11, None),
    "--useSpinWait": (OLDEST, None),
    "--noSpinWait": (_V11, None),
    "--noDataTransfers": (_V8_0_1, None),
    "--includeDataTransfers": (_V11, None),
    "--separateProfileRun": (_V8_0_1, None),
    "--exportTimes": (OLDEST, None),
    "--exportProfile": (OLDEST, None),
    "--dumpProfile": (OLDEST, None),
}
_FORMAT = r"(?:fp32|fp16|bf16|int32|int64|int8|fp8|int4|uint8|bool):[a-z0-9_]{1,16}(?:\+[a-z0-9_]{1,16}){0,8}"
_FORMATS = re.compile(rf"{_FORMAT}(?:,{_FORMAT}){{0,63}}")

Precision = Literal["fp32", "fp16", "int8"]


@dataclass(frozen=True)
class BuildRequest:
    """An engine to build; paths are the device's.

    Attributes:
        onnx: path of the ONNX file.
        engine: path of the engine to write.
        precision: fp32; fp16 and int8 are allowed *in addition to* fp32, as trtexec has it, unless strongly typed.
        timing_cache: path of the timing cache to read and write; None: none outside this build.
        workspace_mib: scratch memory that the builder may use, MiB; None: TensorRT's default.
        calibration_cache: path of INT8 scales, for int8 only. Without it, and without quantize and dequantize nodes in
            the ONNX file, trtexec makes scales up: right for time, meaningless for results.
        input_formats: of the inputs, as trtexec takes it: ``"fp16:chw"``, several with commas.
        output_formats: of the outputs.
        strongly_typed: tensor types are the ONNX file's, ``precision`` only says which those are.
        tf32: allow TF32 where fp32 is asked for (Ampere and later).
    """

    onnx: str
    engine: str
    precision: Precision
    timing_cache: str | None = None
    workspace_mib: int | None = None
    calibration_cache: str | None = None
    input_formats: str | None = None
    output_formats: str | None = None
    strongly_typed: bool = False
    tf32: bool = False


@dataclass(frozen=True)
class TimingRequest:
    """An engine to time, with one stream; paths are the device's.

    Attributes:
        engine: path of the engine.
        times: path of the JSON file to write, one entry a run.
        warm_up_ms: run that long before measuring.
        iterations: at least that many runs.
        duration_s: for at least that long; before 8.4 for whole seconds, rounded up.
        cuda_graph: launch a captured CUDA graph.
        spin_wait: busy-wait for the GPU.
        transfers: copy inputs and outputs for every run.
    """

    engine: str
    times: str
    warm_up_ms: int
    iterations: int
    duration_s: float
    cuda_graph: bool
    spin_wait: bool
    transfers: bool


def has_flag(version: TensorRTVersion, flag: str) -> bool:
    """Return whether trtexec of that version has a flag.

    Raises:
        InputError: if dfmobile does not know the flag.
    """
    if flag not in _FLAGS:
        raise InputError(f"dfmobile passes no flag {quoted(flag)} to trtexec")
    since, gone = _FLAGS[flag]
    return version >= since and (gone is None or version < gone)


def build_flags(version: TensorRTVersion, request: BuildRequest) -> list[str]:
    """Return trtexec's arguments, without the program, that build an engine and run nothing.

    Raises:
        InputError: if that version cannot do it, or a value cannot be used.
    """
    flags = _Flags(version)
    flags.path("--onnx", request.onnx)
    flags.path("--saveEngine", request.engine)
    if version < TensorRTVersion(8, 0):
        flags.add("--explicitBatch")
    flags.add("--skipInference" if flags.has("--skipInference") else "--buildOnly")
    _precision_flags(flags, request)
    if not request.tf32:
        flags.add("--noTF32")
    if request.timing_cache is not None:
        hint = f"TensorRT {version.text} keeps no timing cache in a file: build without one"
        flags.path("--timingCacheFile", request.timing_cache, hint)
    if request.workspace_mib is not None:
        mib = _at_least(1, request.workspace_mib, "the workspace", "MiB")
        if flags.has("--memPoolSize"):
            flags.add("--memPoolSize", f"workspace:{mib}")
        else:
            flags.add("--workspace", str(mib))
    for flag, formats in (("--inputIOFormats", request.input_formats), ("--outputIOFormats", request.output_formats)):
        if formats is not None:
            if not _FORMATS.fullmatch(formats):
                raise InputError(f"{flag[2:]} cannot be {quoted(formats)}", hint="write it like fp16:chw,fp32:chw")
            flags.add(flag, formats)
    return flags.arguments


def timing_flags(version: TensorRTVersion, request: TimingRequest) -> list[str]:
    """Return trtexec's arguments that time a built engine and write each run's times.

    Raises:
        InputError: if that version cannot do it, or a value cannot be used.
    """
    flags = _Flags(version)
    if version < _V7_2:
        raise InputError(
            f"trtexec {version.text} profiles every layer where it exports times, which makes them slower",
            hint="update the board to JetPack 4.6, which has TensorRT 8",
        )
    flags.path("--loadEngine", request.engine)
    flags.path("--exportTimes", request.times)
    flags.add("--warmUp", str(_at_least(0, request.warm_up_ms, "the warm-up", "ms")))
    flags.add("--iterations", str(_at_least(1, request.iterations, "the iterations", "runs")))
    if not (math.isfinite(request.duration_s) and 0 <= request.duration_s <= 86400):
        raise InputError(f"a timing cannot last {request.duration_s} s", hint="give seconds from 0 to 86400")
    duration_s = request.duration_s if version >= _V8_4 else math.ceil(request.duration_s)
    flags.add("--duration", f"{duration_s:g}")
    flags.add("--infStreams" if flags.has("--infStreams") else "--streams", "1")
    _switch(flags, request.cuda_graph, on="--useCudaGraph", off="--noCudaGraph")
    _switch(flags, request.spin_wait, on="--useSpinWait", off="--noSpinWait")
    if version >= _V11:
        if request.transfers:
            flags.add("--includeDataTransfers")
    elif not request.transfers:
        flags.add(
            "--noDataTransfers", hint=f"trtexec {version.text} copies inputs and outputs every run: time with transfers"
        )
    return flags.arguments


def profile_flags(version: TensorRTVersion, engine: str, profile: str) -> list[str]:
    """Return trtexec's arguments that profile an engine's layers: a run of its own, its summary is not to be used.

    CUDA graphs stay off in every version: old profilers see nothing of them.

    Args:
        version: of trtexec.
        engine: path of the engine.
        profile: path of the JSON file to write.

    Raises:
        InputError: if a path cannot be used.
    """
    flags = _Flags(version)
    flags.path("--loadEngine", engine)
    flags.path("--exportProfile", profile)
    if version < _V7_2:
        flags.add("--dumpProfile")
    flags.add("--infStreams" if flags.has("--infStreams") else "--streams", "1")
    _switch(flags, wanted=False, on="--useCudaGraph", off="--noCudaGraph")
    return flags.arguments


def timing_choices(request: TimingRequest) -> dict[str, object]:
    """Return what of a timing belongs in a table's key, the same for every version.

    ``trtexec`` prints the first three among its options; ``TrtexecLog.choices`` has them as it understood them.
    """
    return {
        "cuda_graph": request.cuda_graph,
        "spin_wait": request.spin_wait,
        "transfers": request.transfers,
        "streams": 1,
    }


class _Flags:
    """Collects arguments for one version, and refuses what it lacks."""

    def __init__(self, version: TensorRTVersion) -> None:
        if version < OLDEST:
            raise InputError(
                f"TensorRT {version.text} is older than {OLDEST.text}, the oldest whose trtexec is known",
                hint="update the board's JetPack to 4.4 or later",
            )
        self.version = version
        self.arguments: list[str] = []

    def has(self, flag: str) -> bool:
        return has_flag(self.version, flag)

    def add(self, flag: str, value: str | None = None, hint: str = "") -> None:
        if not self.has(flag):
            raise InputError(f"trtexec of TensorRT {self.version.text} has no {flag}", hint=hint)
        self.arguments.append(flag if value is None else f"{flag}={value}")

    def path(self, flag: str, path: str, hint: str = "") -> None:
        if not path or not path.isprintable():
            raise InputError(f"{flag} cannot name {quoted(path)}", hint="give a path without control characters")
        self.add(flag, path, hint)


def _precision_flags(flags: _Flags, request: BuildRequest) -> None:
    version, precision = flags.version, request.precision
    if precision not in ("fp32", "fp16", "int8"):
        raise InputError(f"TensorRT has no precision {quoted(precision)} here", hint="choose fp32, fp16 or int8")
    if request.calibration_cache is not None and (precision != "int8" or request.strongly_typed):
        what = "a strongly typed network" if request.strongly_typed else precision
        raise InputError(f"{what} takes no calibration cache", hint="leave the calibration cache out")
    if request.strongly_typed:
        if version < _V11:  # 11 types every network so, and its flag does nothing
            flags.add("--stronglyTyped", hint="let TensorRT choose the types, or use TensorRT 10 or later")
        return
    if precision == "fp32":
        return
    typed = {"fp16": "an ONNX file with fp16 tensors", "int8": "an ONNX file with quantize and dequantize nodes"}
    flags.add(f"--{precision}", hint=f"give it {typed[precision]}, strongly typed")
    if request.calibration_cache is not None:
        flags.path("--calib", request.calibration_cache)


def _switch(flags: _Flags, wanted: bool, on: str, off: str) -> None:
    """Add what turns a thing on or off: the version's default needs no flag, and none is passed that does nothing."""
    default_on = flags.version >= _V11
    if wanted and not default_on:
        flags.add(on)
    elif default_on and not wanted:
        flags.add(off)


def _at_least(least: int, value: int, what: str, unit: str) -> int:
    if not least <= value <= 10**9:
        raise InputError(f"{what} cannot be {value} {unit}", hint=f"give a number of at least {least}")
    return value
