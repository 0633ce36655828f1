"""Who a device is: operating system, product, SoC, ABI, hypervisor, GPU; from files, never from a serial number."""

from __future__ import annotations

import re
import shlex

from dfmobile.devices.cpuinfo import CpuInfo
from dfmobile.devices.profile_schema import Gpu, OperatingSystem
from dfmobile.devices.system_files import SystemFiles, read_int

_ABIS = {
    "x86_64": "x86_64",
    "amd64": "x86_64",
    "i386": "x86",
    "i686": "x86",
    "aarch64": "arm64-v8a",
    "arm64": "arm64-v8a",
    "armv7l": "armeabi-v7a",
    "armv8l": "armeabi-v7a",  # a 32-bit process on a 64-bit kernel
    "riscv64": "riscv64",
}
_HYPERVISORS = ("kvm", "qemu", "vmware", "virtualbox", "xen", "hyper-v", "bochs", "parallels", "firecracker")
_NO_NAME = {"", "to be filled by o.e.m.", "default string", "system product name", "none", "not specified", "o.e.m."}


def text(value: str | None, limit: int = 200) -> str | None:
    """Return one bounded line, or None for nothing."""
    line = " ".join((value or "").split())
    return line[:limit] or None


def operating_system(files: SystemFiles) -> OperatingSystem:
    """Return name, version and kernel from os-release, L4T's release file and /proc."""
    release = _os_release(files.read("/etc/os-release") or files.read("/usr/lib/os-release") or "")
    name, version = text(release.get("ID")), text(release.get("VERSION_ID"))
    tegra = re.search(r"R(\d+) \(release\), REVISION: ([\d.]+)", files.read("/etc/nv_tegra_release") or "")
    if tegra is not None:
        name, version = "l4t", f"{tegra[1]}.{tegra[2]}"
    return OperatingSystem(name=name, version=version, kernel=text(files.read("/proc/sys/kernel/osrelease")))


def _os_release(content: str) -> dict[str, str]:
    values = {}
    for line in content.splitlines():
        key, equals, value = line.partition("=")
        if equals and re.fullmatch(r"[A-Z0-9_]+", key):
            try:
                values[key] = " ".join(shlex.split(value))
            except ValueError:  # an unclosed quote; the text itself is still the best there is
                values[key] = value.strip("\"'")
    return values


def device_tree(files: SystemFiles) -> tuple[str | None, list[str]]:
    """Return the board's model and its ``compatible`` names, the board's first and the SoC's last."""
    for base in ("/proc/device-tree", "/sys/firmware/devicetree/base"):
        names = (files.read(f"{base}/compatible") or "").split()
        model = text(files.read(f"{base}/model"))
        if names or model:
            return model, names[:20]
    return None, []


def is_jetson(files: SystemFiles) -> bool:
    """True on a Jetson with NVIDIA's Linux."""
    return files.read("/etc/nv_tegra_release") is not None or any(
        name.startswith("nvidia,tegra") for name in device_tree(files)[1]
    )


def is_android(files: SystemFiles) -> bool:
    """True on Android (its system partition is there)."""
    return files.read("/system/build.prop") is not None or "build.prop" in files.names("/system")


def soc(files: SystemFiles, info: CpuInfo) -> tuple[str | None, list[str]]:
    """Return the SoC's name and every name by which the device gives it; on x86 the processor's model name."""
    base = "/sys/devices/soc0"
    family, machine = text(files.read(f"{base}/family")), text(files.read(f"{base}/machine"))
    stated = (machine, text(files.read(f"{base}/chip_name")), text(info.common.get("hardware")))
    names = [name for name in stated if name and name.casefold() not in _NO_NAME]
    hardware = re.search(r"\b(SDM|SM|MSM|QCS|MT|EXYNOS|KIRIN)\w*\d+\w*$", info.common.get("hardware", ""), re.I)
    if hardware is not None:
        names.append(hardware[0])
    names += [name.rpartition(",")[2] for name in device_tree(files)[1]]
    unique = list(dict.fromkeys(names))
    if info.is_x86:
        first = info.cores[min(info.cores)] if info.cores else {}
        return text(first.get("model name")), unique
    if family and machine and family.casefold() not in machine.casefold():
        return f"{family} {machine}", unique
    return (machine or (unique[-1] if unique else None)), unique


def model(files: SystemFiles) -> str | None:
    """Return the product's name, from the device tree or the firmware's tables."""
    board = device_tree(files)[0]
    if board is not None:
        return board
    base = "/sys/class/dmi/id"
    parts = [text(files.read(f"{base}/{name}")) for name in ("sys_vendor", "product_name")]
    kept = [part for part in parts if part is not None and part.casefold() not in _NO_NAME]
    return " ".join(kept) or None


def hypervisor(files: SystemFiles, info: CpuInfo) -> str | None:
    """Return the hypervisor's name where the kernel or the firmware gives one."""
    stated = text(files.read("/sys/hypervisor/type"))
    if stated and stated != "none":
        return stated
    # "Amazon EC2" alone does not say so (there are bare-metal instances), hence only names of hypervisors.
    words = (model(files) or "").casefold()
    virtual = not info.is_x86 or any("hypervisor" in core.get("flags", "") for core in info.cores.values())
    if virtual:
        for name in _HYPERVISORS:
            if name in words:
                return name
    return None


def abi(machine: str | None, info: CpuInfo) -> str | None:
    """Return Android's name of the ABI, from the kernel's machine name or else from /proc/cpuinfo."""
    if machine is not None:
        return _ABIS.get(machine.casefold(), machine)
    first = info.cores[min(info.cores)] if info.cores else {}
    if info.is_x86:
        return "x86_64" if "lm" in first.get("flags", "").split() else "x86"
    if info.is_arm and "asimd" in first.get("features", "").split():
        return "arm64-v8a"
    return None


def gpu(files: SystemFiles) -> Gpu | None:
    """Return the GPU that the kernel names: Adreno by kgsl, NVIDIA by its driver; None where neither is there."""
    adreno = text(files.read("/sys/class/kgsl/kgsl-3d0/gpu_model"))
    if adreno:
        hertz = read_int(files, "/sys/class/kgsl/kgsl-3d0/max_gpuclk")
        khz = hertz // 1000 if hertz is not None and 1000 <= hertz <= 10**11 else None
        return Gpu(name=adreno, max_frequency_khz=khz)
    for folder in files.names("/proc/driver/nvidia/gpus"):
        found = re.search(r"^Model:\s*(.+)$", files.read(f"/proc/driver/nvidia/gpus/{folder}/information") or "", re.M)
        if found is not None:
            return Gpu(name=found[1].strip()[:200])
    return None
