"""Options of the backend ``tensorrt``: what users may choose, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from dfmobile.errors import InputError, quoted
from dfmobile.latency.measurement import Measure

LEAST_BUILDS = 3

OPTIONS: dict[str, str] = {
    "runner": "trtexec (default), or python: the module tensorrt of this machine, version 10 or later",
    "trtexec": "path of trtexec on the device; default: from its PATH, else /usr/src/tensorrt/bin/trtexec",
    "measure": "marginal (default): what a block adds to a network; or isolated: blocks as engines of their own alone",
    "builds": "engine builds that the passes of a block share in turn, 3 or more; default: each pass has its own",
    "calibration-cache": "file of this machine with int8 scales, for --precision int8",
    "workspace-mib": "scratch memory of the builder, MiB; default: TensorRT's own",
    "tf32": "true: let fp32 layers use TF32 on GPUs that have it (default false)",
    "cuda-graph": "true: launch a captured CUDA graph (default false)",
    "spin-wait": "true (default): wait for the GPU busily; false: by blocking",
    "transfers": "true: copy inputs and outputs for every run (default false; the GPU's compute time has no copies)",
    "warm-up-ms": "run that long before timing (default 200)",
    "timed-ms": "time for at least so long (default 500); energy wants 2000 or more",
    "build-secs": "most that one engine may take to build (default 3600)",
    "power": "auto (default): tegrastats beside each timing where the board has it; or none",
    "cache-mib": "engines kept on the device, MiB (default 2048)",
    "reconnect-secs": "try so long to get a lost connection back (default 300)",
}
_MAX_PATH = 4000
_PYTHON_DOES = (("transfers", "false"), ("spin-wait", "true"), ("power", "none"))


@dataclass(frozen=True)
class TensorRTOptions:
    """Checked values; see ``OPTIONS``.

    Attributes:
        runner: ``trtexec`` or ``python``.
        trtexec: path on the device; None: look for it.
        measure: of blocks.
        builds: None: each pass has its own.
        calibration_cache: file here; None: none.
        workspace_mib: None: TensorRT's default.
        tf32: allowed.
        cuda_graph: used.
        spin_wait: used.
        transfers: made.
        warm_up_ms: at least.
        timed_ms: at least.
        build_secs: at most.
        power: tegrastats where there is one.
        cache_mib: kept on the device.
        reconnect_secs: longest try.
    """

    runner: str = "trtexec"
    trtexec: str | None = None
    measure: Measure = "marginal"
    builds: int | None = None
    calibration_cache: Path | None = None
    workspace_mib: int | None = None
    tf32: bool = False
    cuda_graph: bool = False
    spin_wait: bool = True
    transfers: bool = False
    warm_up_ms: float = 200.0
    timed_ms: float = 500.0
    build_secs: float = 3600.0
    power: bool = True
    cache_mib: float = 2048.0
    reconnect_secs: float = 300.0


def parse_options(options: Mapping[str, str], precision: str) -> TensorRTOptions:
    """Read the options that ``--backend-option`` gave.

    Raises:
        InputError: naming the first that cannot be, or that the precision needs or does not take.
    """
    unknown = [name for name in options if name not in OPTIONS]
    if unknown:
        raise InputError(
            f"backend tensorrt has no option {quoted(unknown[0], 40)}", hint=f"it has: {', '.join(OPTIONS)}"
        )
    runner = _choice(options, "runner", ("trtexec", "python"))
    trtexec = options.get("trtexec")
    if trtexec is not None:
        if not trtexec.startswith("/") or not trtexec.isprintable() or len(trtexec) > _MAX_PATH:
            raise InputError(
                f"option trtexec: {quoted(trtexec)} is no absolute path of the device", hint="write trtexec=/…/trtexec"
            )
        if runner == "python":
            raise InputError("runner=python runs no trtexec", hint="leave the option trtexec out")
    cache = options.get("calibration-cache")
    if precision == "int8":
        if cache is None:
            raise InputError(
                "precision int8 needs the option calibration-cache: TensorRT would make scales up otherwise",
                hint="write one where the network was calibrated (IInt8Calibrator.write_calibration_cache), then "
                "--backend-option calibration-cache=FILE",
            )
        if not Path(cache).is_file():
            raise InputError(f"option calibration-cache: there is no file {quoted(cache)}")
        if runner == "python":
            raise InputError(
                "runner=python takes no calibration cache", hint="leave runner out: trtexec does precision int8"
            )
    elif cache is not None:
        raise InputError(
            f"precision {precision} takes no calibration cache", hint="leave it out, or add --precision int8"
        )
    if runner == "python":
        _refuse_for_python(options)
    builds = options.get("builds")
    workspace = options.get("workspace-mib")
    return TensorRTOptions(
        runner=runner,
        trtexec=trtexec,
        measure="marginal" if _choice(options, "measure", ("marginal", "isolated")) == "marginal" else "isolated",
        builds=None if builds is None else _whole("builds", builds, LEAST_BUILDS, 1000),
        calibration_cache=None if cache is None else Path(cache),
        workspace_mib=None if workspace is None else _whole("workspace-mib", workspace, 1, 2**20),
        tf32=_switch(options, "tf32", default=False),
        cuda_graph=_switch(options, "cuda-graph", default=False),
        spin_wait=_switch(options, "spin-wait", default=True),
        transfers=_switch(options, "transfers", default=False),
        warm_up_ms=_number(options, "warm-up-ms", 200.0, 0.0, 600_000.0),
        timed_ms=_number(options, "timed-ms", 500.0, 0.0, 600_000.0),
        build_secs=_number(options, "build-secs", 3600.0, 1.0, 24 * 3600.0),
        power=_choice(options, "power", ("auto", "none")) == "auto",
        cache_mib=_number(options, "cache-mib", 2048.0, 1.0, 1e6),
        reconnect_secs=_number(options, "reconnect-secs", 300.0, 0.0, 24 * 3600.0),
    )


def _refuse_for_python(options: Mapping[str, str]) -> None:
    """Refuse what the Python runner does not do: its rows would say that it was done."""
    for name in ("transfers", "spin-wait", "power", "cache-mib", "reconnect-secs"):
        if name in options and (name, options[name]) not in _PYTHON_DOES:
            raise InputError(
                f"runner=python has no option {name}={quoted(options[name], 40)}",
                hint="leave it out, or leave runner out: trtexec does that",
            )


def _choice(options: Mapping[str, str], name: str, choices: tuple[str, str]) -> str:
    value = options.get(name, choices[0])
    if value not in choices:
        raise InputError(f"option {name} is {quoted(value, 40)}, it must be {' or '.join(choices)}")
    return value


def _switch(options: Mapping[str, str], name: str, *, default: bool) -> bool:
    return _choice(options, name, ("true", "false") if default else ("false", "true")) == "true"


def _number(options: Mapping[str, str], name: str, default: float, least: float, most: float) -> float:
    text = options.get(name, str(default))
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise InputError(f"option {name} is {quoted(text, 40)}, it must be a number from {least:g} to {most:g}")
    return value


def _whole(name: str, text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 10 and least <= int(text) <= most):
        raise InputError(f"option {name} is {quoted(text, 40)}, it must be a whole number from {least} to {most}")
    return int(text)
