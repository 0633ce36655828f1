"""Who a device is: operating system, product, SoC, ABI, hypervisor, GPU; from files, never from a serial number."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping

from dfmobile.devices.cpuinfo import CpuInfo
from dfmobile.devices.jetson_facts import module_part
from dfmobile.devices.jetson_tools import parse_l4t
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
# Where Android says which SoC it runs on; the first since Android 12.
_SOC_PROPERTIES = ("ro.soc.model", "ro.hardware.chipname", "ro.chipname", "ro.board.platform", "ro.product.board")
_NO_NAME = {
    "unknown",
    "",
    "to be filled by o.e.m.",
    "default string",
    "system product name",
    "none",
    "not specified",
    "o.e.m.",
}


MAX_WORD = 200


def text(value: str | None, limit: int = MAX_WORD) -> str | None:
    """Return one bounded line, or None for nothing."""
    line = " ".join((value or "").split())
    return line[:limit] or None


def operating_system(files: SystemFiles, properties: Mapping[str, str] | None = None) -> OperatingSystem:
    """Return name, version and kernel from Android's properties, or from os-release, L4T's release file and /proc."""
    if properties is not None:
        return OperatingSystem(
            name="android",
            version=text(properties.get("ro.build.version.release")),
            kernel=text(files.read("/proc/sys/kernel/osrelease")),
            build=text(properties.get("ro.build.fingerprint")),
        )
    release = _os_release(files.read("/etc/os-release") or files.read("/usr/lib/os-release") or "")
    name, version = text(release.get("ID")), text(release.get("VERSION_ID"))
    tegra = parse_l4t(files.read("/etc/nv_tegra_release") or "")
    if tegra is not None:
        name, version = "l4t", tegra
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
        # Bounded as all that a device says of itself: a profile takes no longer words.
        names = [name[:MAX_WORD] for name in (files.read(f"{base}/compatible") or "").split()]
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


def soc(files: SystemFiles, info: CpuInfo, properties: Mapping[str, str] | None = None) -> tuple[str | None, list[str]]:
    """Return the SoC's name and every name by which the device gives it; on an x86 host the processor's model name.

    Args:
        files: the device's files.
        info: /proc/cpuinfo.
        properties: Android's; the SoC's model, the platform, and the chip's name count, in this order.
    """
    base = "/sys/devices/soc0"
    family, machine = text(files.read(f"{base}/family")), text(files.read(f"{base}/machine"))
    stated = (machine, text(files.read(f"{base}/chip_name")), text(info.common.get("hardware")))
    names = [name for name in stated if name and name.casefold() not in _NO_NAME]
    found = re.search(r"\b(SDM|SM|MSM|QCS|MT|EXYNOS|KIRIN)\w*\d+\w*$", info.common.get("hardware", ""), re.I)
    hardware = None if found is None else found[0][:MAX_WORD]
    if hardware is not None:
        names.append(hardware)
    names += [name.rpartition(",")[2] for name in device_tree(files)[1]]
    part = module_part(device_tree(files)[1])  # of a Jetson on any carrier board
    names += [part] if part is not None else []
    if properties is not None:
        stated_by_android = [text(properties.get(name)) for name in _SOC_PROPERTIES]
        names += [name for name in stated_by_android if name and name.casefold() not in _NO_NAME]
        unique = list(dict.fromkeys(names))
        # The first property is made for this; soc0 may give a code name ("KALAMA"); a platform may be a whole series.
        chip = stated_by_android[0] or machine or hardware or next(iter(unique), None)
        if chip and family and family.casefold() not in chip.casefold() and family.casefold() not in _NO_NAME:
            chip = f"{family} {chip}"
        return chip, unique
    unique = list(dict.fromkeys(names))
    # A Jetson's soc0 names the board, not the chip.
    tegra = next((name for name in unique if re.fullmatch(r"tegra[0-9]{3}", name)), None)
    if tegra is not None:
        return tegra, unique
    if info.is_x86:
        first = info.cores[min(info.cores)] if info.cores else {}
        return text(first.get("model name")), unique
    if family and machine and family.casefold() not in machine.casefold():
        return f"{family} {machine}", unique
    return (machine or (unique[-1] if unique else None)), unique


def model(files: SystemFiles, properties: Mapping[str, str] | None = None) -> str | None:
    """Return the product's name, from Android's properties, the device tree or the firmware's tables."""
    if properties is not None:
        found = (text(properties.get(f"ro.product.{part}model")) for part in ("", "vendor.", "system."))
        return next((name for name in found if name), None)
    board = device_tree(files)[0]
    if board is not None:
        return board
    base = "/sys/class/dmi/id"
    parts = [text(files.read(f"{base}/{name}")) for name in ("sys_vendor", "product_name")]
    kept = [part for part in parts if part is not None and part.casefold() not in _NO_NAME]
    return " ".join(kept) or None


def hypervisor(files: SystemFiles, info: CpuInfo, properties: Mapping[str, str] | None = None) -> str | None:
    """Return the hypervisor's name where the kernel, the firmware or Android gives one."""
    if properties is not None and "1" in (properties.get("ro.boot.qemu"), properties.get("ro.kernel.qemu")):
        return "qemu"  # Android's emulator
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


def gpu(files: SystemFiles, properties: Mapping[str, str] | None = None) -> Gpu | None:
    """Return the GPU that the kernel names: Adreno by kgsl, Mali and NVIDIA by their drivers.

    Where the kernel does not, Android's properties give the family at least (``adreno``, ``mali``, ``powervr``).
    """
    adreno = text(files.read("/sys/class/kgsl/kgsl-3d0/gpu_model"))
    if adreno:
        hertz = read_int(files, "/sys/class/kgsl/kgsl-3d0/max_gpuclk")
        khz = hertz // 1000 if hertz is not None and 1000 <= hertz <= 10**11 else None
        return Gpu(name=adreno, max_frequency_khz=khz)
    for folder in files.names("/proc/driver/nvidia/gpus"):
        found = re.search(r"^Model:\s*(.+)$", files.read(f"/proc/driver/nvidia/gpus/{folder}/information") or "", re.M)
        if found is not None:
            return Gpu(name=found[1].strip()[:200])
    # "Mali-G78 20 cores r0p1 0x90..": the last words are the revision and the identity register.
    mali = re.match(r"(Mali-\S+)(?: ([0-9]{1,3}) cores)?", files.read("/sys/class/misc/mali0/device/gpuinfo") or "")
    if mali is not None:
        return Gpu(name=f"{mali[1][:100]} MP{mali[2]}" if mali[2] else mali[1][:100])
    stated = (text((properties or {}).get(f"ro.hardware.{name}")) for name in ("egl", "vulkan"))
    return next((Gpu(name=name) for name in stated if name), None)
