"""``dfmobile doctor``: can this installation do its work, and what is missing for the rest?"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass

import typer

from dfmobile.cli.common import EXIT_FAILED, JsonOption, handled, one_line, print_json

_EXTRAS = {
    "onnx": (("onnx", "onnxruntime"), "export and check .onnx files"),
    "ncnn": (("ncnn",), "check exported ncnn files"),
    "train": (("torch", "mlxtend"), "train architectures (search --evaluator training, quickstart --train)"),
    "quantize": (("ai_edge_quantizer",), "write and measure static int8 models"),
    "video": (("cv2",), "label videos (segment)"),
    "adb": (("adb_shell", "adbutils"), "reach phones (devices, profile, bench and lut build with --device adb:…)"),
}


@dataclass(frozen=True)
class Check:
    """One finding.

    Attributes:
        name: what was checked.
        state: ``ok``, ``missing`` (optional) or ``failed`` (the core does not work).
        text: what was found.
        hint: what to do; empty where nothing is to be done.
    """

    name: str
    state: str
    text: str
    hint: str = ""


def register(parent: typer.Typer) -> None:
    """Add the command."""
    parent.command("doctor")(doctor)


def _python() -> Check:
    import platform

    text = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    return Check("python", "ok", text)


def _plugins() -> Check:
    from dfmobile import registry

    count = 0
    for group in registry.GROUPS:
        for name in registry.names(group):
            registry.load(group, name)
            count += 1
    return Check("plug-ins", "ok", f"{count} load")


def _runtime() -> Check:
    """Run a small network with LiteRT and compare it with the numpy reference."""
    from dfmobile.architecture import Architecture, build
    from dfmobile.export.tflite import tflite_bytes
    from dfmobile.export.verify import verify
    from dfmobile.graph import initialise
    from dfmobile.runtimes.litert import LiteRTRunner, runtime_version

    network = build(Architecture.parse("df,stem=8s1,classes=10,channels=1/8,16/16/24"), 32, 32)
    weights = initialise(network.graph, 0)
    model = tflite_bytes(network.graph, weights)
    found = verify(model, "tflite", network.graph, weights)
    runner = LiteRTRunner(model)
    accelerated = runner.fully_accelerated()
    runner.close()
    text = f"LiteRT {runtime_version()} agrees with the reference (difference {found.relative:.0e} of the scores)"
    if not accelerated:
        return Check(
            "runtime", "failed", f"{text}, but without XNNPACK", "this LiteRT build cannot be used for measuring"
        )
    return Check("runtime", "ok", f"{text}; XNNPACK takes all ops")


def _device() -> Check:
    from dfmobile.devices.device import open_device
    from dfmobile.devices.fingerprint import summary

    with open_device("local") as device:
        return Check("device", "ok", summary(device.profile))


def _clock() -> Check:
    steps = []
    for _ in range(200):
        start = now = time.thread_time_ns()
        while now == start:
            now = time.thread_time_ns()
        steps.append(now - start)
    step_us = sorted(steps)[len(steps) // 2] / 1000
    if step_us > 100:
        return Check(
            "clock",
            "failed",
            f"the thread-CPU clock ticks every {step_us:.0f} µs",
            "too coarse to time blocks: measure on another machine",
        )
    return Check("clock", "ok", f"the thread-CPU clock resolves {step_us:.2f} µs")


def _ssh() -> Check:
    from dfmobile.devices.transport.ssh_client import ssh_version

    version = ssh_version()
    if version is None:
        text = "no program ssh: needed to reach boards (--device ssh:USER@HOST)"
        return Check("ssh", "missing", text, "install OpenSSH's client (apt install openssh-client)")
    if not version.startswith("OpenSSH"):
        text = f"{version!r} is not OpenSSH, which is needed to reach boards (--device ssh:USER@HOST)"
        return Check("ssh", "missing", text, "install OpenSSH's client (apt install openssh-client)")
    return Check("ssh", "ok", f"{version} (boards: --device ssh:USER@HOST)")


def _extra(name: str, modules: tuple[str, ...], purpose: str) -> Check:
    import importlib.metadata
    import importlib.util

    missing = [module for module in modules if importlib.util.find_spec(module) is None]
    if missing:
        text = f"{', '.join(missing)} not installed: needed to {purpose}"
        return Check(f"extra {name}", "missing", text, f"python -m pip install 'dfmobile[{name}]'")
    # A module's distribution may have another name (cv2: opencv-python-headless), or there may be several.
    found = importlib.metadata.packages_distributions()
    versions = []
    for module in modules:
        distributions = sorted(set(found.get(module, ())))
        versions += [f"{item} {importlib.metadata.version(item)}" for item in distributions] or [module]
    return Check(f"extra {name}", "ok", ", ".join(versions))


def _tensorrt() -> Check:
    from dfmobile.latency.tensorrt.availability import availability, describe_missing, summary

    found = availability()
    missing = describe_missing(found)
    if missing is not None:
        return Check("tensorrt", "missing", *missing)
    return Check("tensorrt", "ok", summary(found))


def _guarded(name: str, check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        return Check(name, "failed", one_line(text), getattr(error, "hint", ""))


@handled
def doctor(json: JsonOption = False) -> None:
    """Check this installation: runtime, clock, device, plug-ins, ssh, optional extras, TensorRT."""
    core: dict[str, Callable[[], Check]] = {
        "python": _python,
        "plug-ins": _plugins,
        "runtime": _runtime,
        "clock": _clock,
        "device": _device,
    }
    checks = [_guarded(name, check) for name, check in core.items()]
    checks.append(_guarded("ssh", _ssh))
    checks += [_extra(name, *details) for name, details in _EXTRAS.items()]
    checks.append(_guarded("tensorrt", _tensorrt))
    if json:
        print_json([asdict(check) for check in checks])
    else:
        for check in checks:
            typer.echo(f"{check.state:8} {check.name:12} {check.text}")
            if check.hint:
                typer.echo(f"{'':8} {'':12} {check.hint}")
    if any(check.state == "failed" for check in checks):
        raise typer.Exit(EXIT_FAILED)
