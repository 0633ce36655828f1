"""Options of the backend ``benchmark_model``: what users may say, checked, and the tool's flags that follow from it.

Flags by precision and processor (tensorflow/lite/tools/benchmark and tools/delegates, README):

==============  =========  ==========================================================
processor       precision  flags
==============  =========  ==========================================================
cpu             fp32       ``--use_xnnpack=true``
cpu             fp16-…     ``--use_xnnpack=true --xnnpack_force_fp16=true``
cpu             int8       ``--use_xnnpack=true``, files of static int8
gpu             fp32       ``--use_gpu=true --gpu_precision_loss_allowed=false``
gpu             fp16-…     ``--use_gpu=true --gpu_precision_loss_allowed=true``
==============  =========  ==========================================================

Nothing here touches a device.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass

from dfmobile.devices.profile import DeviceProfile
from dfmobile.errors import BackendError, InputError, quoted
from dfmobile.latency.measurement import Protocol

HALF = "fp16-compute"
OPTIONS: Mapping[str, str] = {
    "binary": "the tool: a file of this machine, or device:/data/local/tmp/benchmark_model",
    "version": "what to record as its version, where its log does not say",
    "processor": "cpu (XNNPACK) or gpu (the GPU delegate); default cpu",
    "cluster": "name of the device profile's cores to pin to; default the profile's; none: do not pin",
    "warm-up-secs": "seconds of warm-up at least; default 0.5",
    "allow-partial": "true: measure although a delegate took only a part, or flags were not known; default false",
    "peak-memory": "true: let the tool watch its peak memory, in a thread that may disturb timing; default false",
    "outputs": "auto: compare outputs where the tool can write them; none: do not; default auto",
    "cool-down": "°C that the device's CPU and GPU zones must be below before each model; default: no waiting",
    "cool-down-secs": "longest wait for that, then the model is measured and marked; default 120",
    "spin-up-ms": "busy cores before each model, so that their clock is up; default 200 with cool-down, else 0",
    "task-profile": "of Android, where the device has settaskprofile; none: leave it; default MaxPerformance",
    "reconnect-secs": "how long to try to get a lost connection back; default 300",
}
TASK_PROFILE = "MaxPerformance"
_SPIN_UP_MS = 200  # clocks fall while a device cools
# Stock default of the tool, and what bounds a model that is very slow.
MAX_SECS = 150.0
_ON_DEVICE = "device:"
_LEAST_WARM_UP_SECS, _MOST_WARM_UP_SECS = 0.0, 60.0


@dataclass(frozen=True)
class BenchmarkOptions:
    """What the user chose.

    Attributes:
        binary: path of the tool, here or on the device.
        on_device: it is there already.
        version: told by the user; ``""`` where not.
        processor: ``cpu`` or ``gpu``.
        cluster: name of a cluster; None: the profile's default; ``""``: do not pin.
        warm_up_secs: at least.
        allow_partial: measure although a delegate took only a part of a graph.
        peak_memory: let the tool watch its memory.
        outputs: compare outputs where the tool can write them.
        cool_down_c: highest temperature before a model; None: do not wait.
        cool_down_secs: longest wait for it.
        spin_up_ms: busy cores before a model.
        task_profile: of Android; None: leave it.
        reconnect_secs: longest try to get a lost connection back.
    """

    binary: str
    on_device: bool = False
    version: str = ""
    processor: str = "cpu"
    cluster: str | None = None
    warm_up_secs: float = 0.5
    allow_partial: bool = False
    peak_memory: bool = False
    outputs: bool = True
    cool_down_c: float | None = None
    cool_down_secs: float = 120.0
    spin_up_ms: int = 0
    task_profile: str | None = TASK_PROFILE
    reconnect_secs: float = 300.0


def parse_options(options: Mapping[str, str]) -> BenchmarkOptions:
    """Read the options that ``--backend-option`` gave.

    Raises:
        InputError: naming the first that cannot be.
    """
    unknown = [name for name in options if name not in OPTIONS]
    if unknown:
        raise InputError(
            f"backend benchmark_model has no option {quoted(unknown[0], 40)}", hint=f"it has: {', '.join(OPTIONS)}"
        )
    binary = options.get("binary", "")
    on_device = binary.startswith(_ON_DEVICE)
    path = binary.removeprefix(_ON_DEVICE)
    if not path or "\0" in path or "\n" in path:
        raise InputError(
            "backend benchmark_model needs the stock tool, which dfmobile does not download",
            hint="get it where TensorFlow or LiteRT publish it, then --backend-option binary=FILE",
        )
    if on_device and not path.startswith("/"):
        raise InputError(f"{quoted(binary)} is not an absolute path of the device", hint="write binary=device:/…")
    version = options.get("version", "").strip()
    if len(version) > 200 or not version.isprintable():
        raise InputError(f"option version: {quoted(version, 60)} is no version")
    cluster = options.get("cluster")
    cool_down = options.get("cool-down")
    spin_up = "0" if cool_down is None else f"{_SPIN_UP_MS}"
    profile = options.get("task-profile", TASK_PROFILE)
    if not re.fullmatch(r"[A-Za-z0-9_]{1,64}", profile):
        raise InputError(f"option task-profile: {quoted(profile, 60)} cannot name a task profile")
    return BenchmarkOptions(
        binary=path,
        on_device=on_device,
        version=version,
        processor=_choice(options, "processor", ("cpu", "gpu")),
        cluster="" if cluster == "none" else cluster,
        warm_up_secs=_number(
            "warm-up-secs", options.get("warm-up-secs", "0.5"), _LEAST_WARM_UP_SECS, _MOST_WARM_UP_SECS
        ),
        allow_partial=_choice(options, "allow-partial", ("false", "true")) == "true",
        peak_memory=_choice(options, "peak-memory", ("false", "true")) == "true",
        outputs=_choice(options, "outputs", ("auto", "none")) == "auto",
        cool_down_c=None if cool_down is None else _number("cool-down", cool_down, 10.0, 120.0),
        cool_down_secs=_number("cool-down-secs", options.get("cool-down-secs", "120"), 0.0, 3600.0),
        spin_up_ms=round(_number("spin-up-ms", options.get("spin-up-ms", spin_up), 0.0, 60_000.0)),
        task_profile=None if profile == "none" else profile,
        reconnect_secs=_number("reconnect-secs", options.get("reconnect-secs", "300"), 0.0, 24 * 3600.0),
    )


def check_precision(options: BenchmarkOptions, precision: str, profile: DeviceProfile) -> None:
    """Refuse a precision that the processor cannot do, or does only by emulation.

    Raises:
        BackendError: saying why.
    """
    if options.processor == "gpu" and precision == "int8":
        raise BackendError(
            "precision int8 on the GPU: its delegate computes int8 files in floating point, which would be no int8",
            hint="take precision fp32 or fp16-compute on the GPU, or processor=cpu",
        )
    if options.processor == "cpu" and precision == HALF and not profile.features.get("fp16"):
        unknown = profile.features.get("fp16") is None
        state = "it is not known whether this CPU has" if unknown else "this CPU lacks"
        raise BackendError(
            f"precision {HALF}: {state} float16 arithmetic (ARMv8.2 FP16, or AVX512-FP16)",
            hint="take --precision fp32 or int8, or a device that has it",
        )


def fixed_flags(options: BenchmarkOptions, precision: str, threads: int) -> list[str]:
    """Return the flags that all models of a table are measured with."""
    flags = [f"--num_threads={threads}"]
    if options.processor == "gpu":
        flags += ["--use_gpu=true", f"--gpu_precision_loss_allowed={'true' if precision == HALF else 'false'}"]
    else:
        flags.append("--use_xnnpack=true")
        if precision == HALF:
            flags.append("--xnnpack_force_fp16=true")
    flags.append("--enable_op_profiling=false")
    if options.peak_memory:
        flags.append("--report_peak_memory_footprint=true")
    return flags


def protocol_flags(options: BenchmarkOptions, protocol: Protocol) -> list[str]:
    """Return the flags that a protocol asks for.

    The tool times at least ``num_runs`` runs and at least ``min_secs`` seconds, so short models get more runs than
    ``Protocol.runs`` says: their single runs are no more than a few ticks of its clock, a microsecond each. It warms
    up by time alone, at least ``warm_up_secs``. ``max_secs`` ends warm-up and timing each; a model that is only asked
    whether it is above ``stop_above_ms`` is cut as soon as the answer is certain.
    """
    warm_up_s, hot_s, max_secs = _seconds(options, protocol)
    runs = min(protocol.min_runs, protocol.runs)
    if protocol.stop_above_ms is not None:
        max_secs = min(max_secs, max(warm_up_s, hot_s, (runs + 1) * protocol.stop_above_ms / 1000))
    return [
        f"--warmup_runs={protocol.min_warm_up_runs}",
        f"--warmup_min_secs={_text(warm_up_s)}",
        f"--num_runs={runs}",
        f"--min_secs={_text(hot_s)}",
        f"--max_secs={_text(max_secs)}",
    ]


def longest_s(protocol: Protocol, options: BenchmarkOptions) -> float:
    """Return after how many seconds a model's process has certainly gone astray."""
    return 2 * _seconds(options, protocol)[2] + 300


def _seconds(options: BenchmarkOptions, protocol: Protocol) -> tuple[float, float, float]:
    """Return how long to warm up and to time at least, and each of them at most."""
    warm_up_s = max(options.warm_up_secs, protocol.warm_up_ms / 1000)
    hot_s = protocol.hot_budget_ms / 1000
    return warm_up_s, hot_s, max(MAX_SECS, 2 * hot_s, 2 * warm_up_s)


def _text(seconds: float) -> str:
    return f"{seconds:.6f}".rstrip("0").rstrip(".") or "0"


def _choice(options: Mapping[str, str], name: str, choices: tuple[str, str]) -> str:
    value = options.get(name, choices[0])
    if value not in choices:
        raise InputError(f"option {name} is {quoted(value, 40)}, it must be {' or '.join(choices)}")
    return value


def _number(name: str, text: str, least: float, most: float) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise InputError(f"option {name} is {quoted(text, 40)}, it must be a number from {least:g} to {most:g}")
    return value
