"""Probe of a Linux board through any transport, in one round trip: a Jetson with all that is its own, or a plain host.

What cannot be read (for want of rights, of a tool, of a file) is recorded as unreadable; nothing is guessed. Nothing on
the board is changed, and of sudo only ``sudo -n`` is used, to read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from dfmobile.devices.android import allowed_cores, with_known_caches
from dfmobile.devices.board_conditions import board_conditions, gpu_node
from dfmobile.devices.board_files import (
    CUDA,
    DEVFREQ,
    HWMON,
    INA3221X,
    TENSORRT_HEADERS,
    TOOLS,
    read_board,
    tool_answer,
    tool_output,
)
from dfmobile.devices.identity import device_tree, text
from dfmobile.devices.jetson_facts import GPUS, MODULES, input_rails, jetpack_of, module_part
from dfmobile.devices.jetson_tools import (
    parse_cuda_version,
    parse_l4t,
    parse_nvidia_smi,
    parse_packages,
    parse_tensorrt_header,
    parse_trtexec_banner,
)
from dfmobile.devices.probe import profile_from_files
from dfmobile.devices.profile_schema import DeviceProfile, Gpu, JetsonBoard, NvidiaSoftware, PowerRail, Unreadable
from dfmobile.devices.system_files import SystemFiles
from dfmobile.devices.transport.base import Transport

_STATUS = "/proc/self/status"
_RELEASE = "/etc/nv_tegra_release"
_MAX_RAILS = 64


def probe_linux_board(transport: Transport, *, root: str = "") -> DeviceProfile:
    """Describe the Linux board or host behind a transport.

    Args:
        transport: an open connection.
        root: folder on the board that stands for ``/``, its tools included; for tests. No option reaches it.

    Returns:
        Its profile, matched to a packaged one where there is one; conditions of the moment are in ``observed``.

    Raises:
        DeviceError: if the board went away, or has no shell. What cannot be read is no error.
    """
    files = read_board(transport, root=root)
    profile = profile_from_files(
        files,
        machine=text(tool_answer(files, "uname").text),
        getconf=tool_answer(files, "getconf").text,
        allowed_cores=allowed_cores(files),
    )
    profile = with_board_facts(profile, files)
    if profile.limits.allowed_cores is None:
        missing = Unreadable(what="limits.allowed_cores", reason=f"{_STATUS}: {files.reason(_STATUS)}")
        profile = profile.model_copy(update={"unreadable": [*profile.unreadable, missing]})
    closed = [
        _unreadable(path, reason)
        for path, reason in list(files.closed.items())[:100]
        if not path.startswith(TOOLS) and not any(path in item.reason for item in profile.unreadable)
    ]
    cut = [_unreadable(f"all of {path}", "longer than what is read of a file") for path in files.cut]
    return profile.model_copy(update={"unreadable": [*profile.unreadable, *closed, *cut][:1000]})


def with_board_facts(profile: DeviceProfile, files: SystemFiles) -> DeviceProfile:
    """Add what only boards and NVIDIA's tools say: GPU, software, module, rails, conditions.

    Args:
        profile: what ``profile_from_files`` made of the same device.
        files: as ``read_board`` brings them.
    """
    sources, unreadable = dict(profile.sources), list(profile.unreadable)
    conditions = board_conditions(files)
    update: dict[str, object] = {"observed": conditions.to_dict(), "sources": sources, "unreadable": unreadable}
    is_jetson = profile.kind == "jetson"
    packages = parse_packages(tool_output(files, "packages"))
    smi = parse_nvidia_smi(tool_answer(files, "nvidia-smi").text or "")
    gpu = _gpu(profile, files, smi, sources)
    if gpu is not None and gpu != profile.gpu:
        update["gpu"] = gpu
        unreadable[:] = [item for item in unreadable if item.what != "gpu"]
    software = _software(files, packages, smi[1], sources)
    has_nvidia = is_jetson or any(software.model_dump().values())
    if has_nvidia:
        update["nvidia"] = software
        _note_software(software, files, unreadable)
    if is_jetson:
        update["jetson"] = _jetson(files, packages, conditions.power_mode, sources, unreadable)
        unreadable += [_unreadable(what, reason) for what, reason in conditions.missing]
    profile = profile.model_copy(update=update)
    return with_known_caches(profile) if is_jetson else profile  # kernels of L4T 32 hide the caches


def _gpu(
    profile: DeviceProfile, files: SystemFiles, smi: tuple[str | None, str | None, str | None], sources: dict[str, str]
) -> Gpu | None:
    if profile.kind == "jetson":
        known = GPUS.get(profile.soc or "")
        if known is None:
            return profile.gpu
        folder = gpu_node(files)
        listed = files.read(f"{DEVFREQ}/{folder}/available_frequencies") or "" if folder is not None else ""
        steps = [int(step) // 1000 for step in listed.split()[:200] if re.fullmatch(r"[0-9]{4,13}", step)]
        highest = max(steps, default=0)
        sources["gpu"] = f"by the chip {profile.soc}; clock from {DEVFREQ}" if steps else f"by the chip {profile.soc}"
        return Gpu(
            name=known[0],
            compute_capability=known[1],
            max_frequency_khz=highest if 0 < highest <= 100_000_000 else None,
        )
    name = profile.gpu.name if profile.gpu is not None else smi[0]
    if name is None or smi[0] is None:
        return profile.gpu
    sources["gpu"] = "the NVIDIA driver, nvidia-smi"
    return Gpu(name=name, compute_capability=smi[2])


def _software(
    files: SystemFiles, packages: Mapping[str, str], driver: str | None, sources: dict[str, str]
) -> NvidiaSoftware:
    library = next((name for name in packages if re.fullmatch(r"libnvinfer[0-9]{1,3}", name)), None)
    header = next((path for path in TENSORRT_HEADERS if parse_tensorrt_header(files.read(path) or "")), None)
    tensorrt: str | None = None
    if library is not None:
        tensorrt, sources["nvidia.tensorrt"] = packages[library], f"package {library}"
    elif header is not None:
        tensorrt, sources["nvidia.tensorrt"] = parse_tensorrt_header(files.read(header) or ""), header
    else:
        tensorrt = parse_trtexec_banner(tool_output(files, "trtexec"))
        sources.update({"nvidia.tensorrt": "first line of trtexec"} if tensorrt else {})
    cuda = parse_cuda_version(files.read(f"{CUDA}/version.json"), files.read(f"{CUDA}/version.txt"))
    runtime = next((name for name in sorted(packages) if name.startswith("cuda-cudart-")), None)
    if cuda is not None:
        sources["nvidia.cuda"] = CUDA
    elif runtime is not None:
        cuda, sources["nvidia.cuda"] = packages[runtime], f"package {runtime}"
    trtexec = text(files.read(f"{TOOLS}/trtexec-path"))
    return NvidiaSoftware(
        cuda=cuda,
        tensorrt=tensorrt,
        tensorrt_python=packages.get("python3-libnvinfer"),
        trtexec=trtexec if trtexec is not None and trtexec.startswith("/") else None,
        driver=driver,
    )


def _note_software(software: NvidiaSoftware, files: SystemFiles, unreadable: list[Unreadable]) -> None:
    if software.tensorrt is None:
        why = f"no package libnvinfer, no {TENSORRT_HEADERS[0]}, and trtexec does not say it"
        unreadable.append(_unreadable("nvidia.tensorrt", why))
    if software.trtexec is None:
        unreadable.append(_unreadable("nvidia.trtexec", "neither on PATH nor in /usr/src/tensorrt/bin"))
    if software.cuda is None:
        path = f"{CUDA}/version.json"
        unreadable.append(_unreadable("nvidia.cuda", f"{path}: {files.reason(path)}; no package cuda-cudart"))


def _jetson(
    files: SystemFiles,
    packages: Mapping[str, str],
    power_mode: str | None,
    sources: dict[str, str],
    unreadable: list[Unreadable],
) -> JetsonBoard:
    part = module_part(device_tree(files)[1])
    l4t = parse_l4t(files.read(_RELEASE) or "")
    known = jetpack_of(l4t)
    jetpack = packages.get("nvidia-jetpack") or (known.name if known is not None else None)
    rails = _rails(files)
    found = {
        "module": (part, "part number in the device tree", "the device tree has no part number that is known"),
        "l4t": (l4t, _RELEASE, f"{_RELEASE}: {files.reason(_RELEASE)}"),
        "jetpack": (
            jetpack,
            "package nvidia-jetpack" if "nvidia-jetpack" in packages else "by the L4T version",
            "no package nvidia-jetpack, and the L4T version is not listed",
        ),
        "power_mode": (power_mode, "nvpmodel -q, or jetson_clocks --show", ""),
        "rails": (rails, "INA sensors under /sys", f"{HWMON} and {INA3221X}: no rail with a name"),
    }
    for name, (value, source, reason) in found.items():
        if value:
            sources[f"jetson.{name}"] = source
        elif reason:
            unreadable.append(_unreadable(f"jetson.{name}", reason))
    return JetsonBoard(
        module=MODULES.get(part or ""),
        part=part,
        l4t=l4t,
        jetpack=text(jetpack),
        power_mode=power_mode,
        rails=rails,
        input_rails=list(input_rails([rail.name for rail in rails])),
    )


def _rails(files: SystemFiles) -> list[PowerRail]:
    """Find the rails by the names that their sensors have: hwmon since L4T 34, the ina3221x driver before."""
    found: dict[str, PowerRail] = {}

    def take(name: str | None, path: str) -> None:
        # "NC" is an input of the sensor that is not connected; the seventh one is a sum.
        if name and name.upper() != "NC" and not name.startswith("sum of") and len(found) < _MAX_RAILS:
            found.setdefault(name, PowerRail(name=name, path=path))

    for folder in files.names(HWMON)[:100]:
        if re.match(r"ina[0-9]", files.read(f"{HWMON}/{folder}/name") or ""):
            for number in range(1, 5):
                take(text(files.read(f"{HWMON}/{folder}/in{number}_label"), 100), f"{HWMON}/{folder}")
    for device in files.names(INA3221X)[:50]:
        for folder in files.names(f"{INA3221X}/{device}")[:50]:
            for number in range(3):
                path = f"{INA3221X}/{device}/{folder}"
                take(text(files.read(f"{path}/rail_name_{number}"), 100), path)
    return list(found.values())


def _unreadable(what: str, reason: str) -> Unreadable:
    return Unreadable(what=what[:1000], reason=" ".join(reason.split())[:1000])
