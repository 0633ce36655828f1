"""What of TensorRT is on this machine, asked in worker processes: without a driver it may raise, abort or segfault."""

from __future__ import annotations

import importlib.util
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dfmobile.errors import DfmobileError
from dfmobile.execution.process import WorkerDeathError, WorkerProcess
from dfmobile.export.tensorrt_api import LABELS, one_line

MODULES = ("tensorrt", "tensorrt_rtx", "tensorrt_lean")
"""Python modules that are looked for; the last runs engines and builds none."""
TRTEXEC_FOLDER = Path("/usr/src/tensorrt/bin")
"""Where JetPack and NVIDIA's packages put trtexec, which is not on ``$PATH``."""
PYTHON_RUNNER_MAJOR = 10
"""Oldest ``tensorrt`` that the Python runner drives."""
LIMIT_S = 60.0
_PROBE = "dfmobile.latency.tensorrt.availability_probe"
_ELSEWHERE = "measure on a board with --device ssh:USER@HOST"


@dataclass(frozen=True)
class Module:
    """One Python module.

    Attributes:
        name: one of ``MODULES``.
        version: None where it does not load.
        error: why it does not load, or cannot make its builder and runtime; empty where it works.
    """

    name: str
    version: str | None
    error: str = ""

    @property
    def label(self) -> str:
        """For people, e.g. ``"TensorRT-RTX 1.7.1.116"``."""
        name = LABELS.get(self.name, "TensorRT lean" if self.name == "tensorrt_lean" else self.name)
        return f"{name} {self.version}" if self.version else f"{name} (module {self.name})"


@dataclass(frozen=True)
class Availability:
    """What is here.

    Attributes:
        modules: those that are installed, broken ones too, by name.
        trtexec: the program, None where there is none.
        cuda: version of CUDA that the driver supports, e.g. ``"13.0"``; None without a driver.
        gpus: names with compute capability.
        gpu_error: why there is none; empty where there is one.
    """

    modules: dict[str, Module] = field(default_factory=dict)
    trtexec: Path | None = None
    cuda: str | None = None
    gpus: tuple[str, ...] = ()
    gpu_error: str = ""

    @property
    def python_runner(self) -> str | None:
        """Name of the module that the Python runner can use here, None where there is none."""
        for name in ("tensorrt", "tensorrt_rtx"):
            found = self.modules.get(name)
            usable = found is not None and not found.error and found.version is not None
            if self.gpus and usable and (name == "tensorrt_rtx" or _major(found) >= PYTHON_RUNNER_MAJOR):
                return name
        return None


def find_trtexec() -> Path | None:
    """Return trtexec from ``$PATH``, or from where NVIDIA's packages put it."""
    found = shutil.which("trtexec") or shutil.which("trtexec", path=str(TRTEXEC_FOLDER))
    return None if found is None else Path(found)


def availability() -> Availability:
    """Look at this machine; about half a second where TensorRT is installed, and it never crashes here."""
    driver = _ask("driver", {})
    modules = {name: _module(name) for name in MODULES if _installed(name)}
    version = driver.get("version")
    return Availability(
        modules=modules,
        trtexec=find_trtexec(),
        cuda=version if isinstance(version, str) else None,
        gpus=tuple(str(name) for name in driver.get("devices", ())),
        gpu_error=str(driver["error"]),
    )


def describe_missing(found: Availability | None = None) -> tuple[str, str] | None:
    """Say why TensorRT cannot measure on this machine, and what to do.

    Args:
        found: what is here; None: look.

    Returns:
        An error's text and its hint, a line each; None where trtexec or the Python runner can run here.
    """
    found = availability() if found is None else found
    if found.gpus and (found.trtexec is not None or found.python_runner is not None):
        return None
    gpu = f"no NVIDIA GPU ({found.gpu_error})"
    here = list(found.modules.values())
    names = ", ".join(module.label for module in here)
    if not found.gpus:
        if not here and found.trtexec is None:
            return (
                f"TensorRT cannot run on this machine: {gpu}, and no TensorRT (no trtexec, no Python module tensorrt)",
                f"{_ELSEWHERE}, or use a Jetson with JetPack or a PC with an NVIDIA GPU and TensorRT",
            )
        if [module.name for module in here] == ["tensorrt_rtx"] and not here[0].error and found.trtexec is None:
            return (
                f"{names} is installed, but there is {gpu}: it can build engines on this machine and run none",
                f"{_ELSEWHERE}, or use a PC with an NVIDIA RTX GPU",
            )
        what = " and ".join(filter(None, [names, f"trtexec ({found.trtexec})" if found.trtexec else ""]))
        reasons = "; ".join(f"{module.label}: {module.error}" for module in here if module.error)
        return (
            f"{what} cannot run on this machine: there is {gpu}" + (f"; {reasons}" if reasons else ""),
            f"install NVIDIA's driver if there is a GPU; else {_ELSEWHERE}",
        )
    if not here:
        return (
            f"there is a GPU ({found.gpus[0]}) but no TensorRT: no trtexec on $PATH or in {TRTEXEC_FOLDER}, and no "
            "Python module tensorrt",
            "on a Jetson install JetPack's package tensorrt; on a PC: python -m pip install 'dfmobile[tensorrt]'",
        )
    reasons = "; ".join(f"{module.label}: {module.error or _unused(module)}" for module in here)
    return (
        f"TensorRT is installed but cannot be used: {reasons}; and there is no trtexec on $PATH or in {TRTEXEC_FOLDER}",
        "install trtexec of the same version, or TensorRT 10 or newer: python -m pip install 'dfmobile[tensorrt]'",
    )


def summary(found: Availability) -> str:
    """Return what is here in one line, for ``dfmobile doctor``."""
    parts = [module.label if module.version else f"{module.label} does not load" for module in found.modules.values()]
    if found.trtexec is not None:
        parts.append(f"trtexec {found.trtexec}")
    return f"{', '.join(parts) or 'no TensorRT'}; {', '.join(found.gpus) or found.gpu_error}"


def _unused(module: Module) -> str:
    if module.name == "tensorrt_lean":
        return "it runs engines and builds none"
    return f"the Python runner needs {PYTHON_RUNNER_MAJOR} or newer"


def _major(module: Module | None) -> int:
    text = "" if module is None or module.version is None else module.version.partition(".")[0]
    return int(text) if text.isdecimal() else 0


def _installed(name: str) -> bool:
    try:
        found = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return False
    return found is not None and found.origin is not None  # any folder of that name on the path is a namespace package


def _module(name: str) -> Module:
    loaded = _ask("module", {"module": name})
    version = loaded.get("version")
    if not isinstance(version, str):
        return Module(name, None, str(loaded["error"]))
    # Not in the same call: where this crashes, the version is known.
    return Module(name, version, str(_ask("runtime", {"module": name})["error"]))


def _ask(function: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Call one function of the probe in a process of its own; a crash is its answer, too."""
    try:
        worker = WorkerProcess(LIMIT_S)
        try:
            answer = worker.call(f"{_PROBE}:{function}", payload, LIMIT_S)
        finally:
            worker.discard()
    except WorkerDeathError as error:
        last = f", after: {one_line(error.last_lines[-1])}" if error.last_lines else ""
        return {"error": f"it crashed ({error.reason}){last}" if not error.timed_out else error.reason}
    except DfmobileError as error:
        return {"error": one_line(error)}
    return answer if isinstance(answer.get("error"), str) else {"error": "the probe gave no answer"}
