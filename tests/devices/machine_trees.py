"""Hand-written /proc and /sys of three machines: a phone, a hybrid Intel, a bare container."""

from __future__ import annotations

from pathlib import Path

CPU = "/sys/devices/system/cpu"
ARM_FLAGS = "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp"
X86_FLAGS = "fpu sse4_1 sse4_2 avx f16c fma avx2 lm avx_vnni"


def plant(root: Path, files: dict[str, str]) -> Path:
    """Write files (absolute path on the device to text) below a folder."""
    for path, text in files.items():
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text + "\n")
    return root


def arm_core(core: int, part: str, flags: str = ARM_FLAGS) -> str:
    """One paragraph of an ARM /proc/cpuinfo."""
    return (
        f"processor\t: {core}\nBogoMIPS\t: 38.40\nFeatures\t: {flags}\nCPU implementer\t: 0x41\n"
        f"CPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: {part}\nCPU revision\t: 0\n"
    )


def phone(flags: str = ARM_FLAGS) -> dict[str, str]:
    """A phone of three clusters: 0-3 Cortex-A55, 4-6 Cortex-A76, 7 Cortex-A76 with a higher clock."""
    kinds = (
        [("0xd05", 1804800, 300000, 325)] * 4
        + [("0xd0b", 2419200, 710400, 871)] * 3
        + [("0xd0b", 2841600, 825600, 1024)]
    )
    policies = {0: "0 1 2 3", 4: "4 5 6", 7: "7"}
    files = {
        "/proc/cpuinfo": "\n".join(arm_core(core, kind[0], flags) for core, kind in enumerate(kinds))
        + "\nHardware\t: Qualcomm Technologies, Inc SM8150",
        "/proc/meminfo": "MemTotal:        5766032 kB\nMemFree:          155812 kB\nMemAvailable:    2155812 kB",
        "/proc/loadavg": "7.25 6.90 6.80 3/2100 12345",
        "/proc/stat": "cpu  100 200 300 400 5 6 7 80 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0",
        "/proc/sys/kernel/osrelease": "4.14.190-perf",
        f"{CPU}/present": "0-7",
        f"{CPU}/online": "0-7",
        "/system/build.prop": "ro.build.version.release=11",
        "/sys/devices/soc0/family": "Snapdragon",
        "/sys/devices/soc0/machine": "SM8150",
        "/sys/class/kgsl/kgsl-3d0/gpu_model": "Adreno640v2",
        "/sys/class/kgsl/kgsl-3d0/max_gpuclk": "585000000",
        "/dev/cpuset/top-app/cpus": "0-7",
        "/dev/cpuset/background/cpus": "0-3",
        "/dev/cpuset/cgroup.procs": "1",
        "/sys/class/thermal/thermal_zone0/type": "cpu-1-0-usr",
        "/sys/class/thermal/thermal_zone0/temp": "41300",
        "/sys/class/thermal/thermal_zone2/type": "battery",
        "/sys/class/thermal/thermal_zone2/temp": "31000",
        "/sys/class/thermal/thermal_zone10/type": "battery",
        "/sys/class/thermal/thermal_zone10/temp": "-256000",
        "/sys/class/thermal/cooling_device0/type": "thermal-cpufreq-0",
    }
    for core, (_, maximum, minimum, capacity) in enumerate(kinds):
        base = f"{CPU}/cpu{core}"
        policy = max(first for first in policies if first <= core)
        files |= {
            f"{base}/cpufreq/cpuinfo_max_freq": str(maximum),
            f"{base}/cpufreq/cpuinfo_min_freq": str(minimum),
            f"{base}/cpufreq/related_cpus": policies[policy],
            f"{base}/cpufreq/scaling_available_governors": "performance schedutil ",
            f"{base}/cpufreq/scaling_governor": "schedutil",
            f"{base}/cpufreq/scaling_cur_freq": str(minimum),
            f"{base}/cpu_capacity": str(capacity),
            f"{base}/topology/thread_siblings_list": str(core),
        }
        for index, (level, kind, size, shared) in enumerate(
            [(1, "Data", "32K", str(core)), (2, "Unified", "128K", str(core)), (3, "Unified", "2048K", "0-7")]
        ):
            files |= {
                f"{base}/cache/index{index}/level": str(level),
                f"{base}/cache/index{index}/type": kind,
                f"{base}/cache/index{index}/size": size,
                f"{base}/cache/index{index}/shared_cpu_list": shared,
                f"{base}/cache/index{index}/coherency_line_size": "64",
            }
    return files


def x86_core(core: int, model_name: str, flags: str, mhz: str = "1200.000") -> str:
    """One paragraph of an x86 /proc/cpuinfo."""
    return (
        f"processor\t: {core}\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 151\n"
        f"model name\t: {model_name}\nstepping\t: 2\nmicrocode\t: 0x2e\ncpu MHz\t\t: {mhz}\n"
        f"flags\t\t: {flags}\n"
    )


def hybrid() -> dict[str, str]:
    """A hybrid Intel: 0-3 are two performance cores with two threads each (one favoured), 4-7 efficiency cores."""
    files = {
        "/proc/cpuinfo": "\n".join(x86_core(core, "12th Gen Intel(R) Core(TM) i7", X86_FLAGS) for core in range(8)),
        "/proc/meminfo": "MemTotal:       32594104 kB",
        "/proc/sys/kernel/osrelease": "6.1.0-18-amd64",
        "/proc/sys/kernel/arch": "x86_64",
        "/etc/os-release": 'NAME="Debian GNU/Linux"\nID=debian\nVERSION_ID="12"',
        "/sys/class/dmi/id/sys_vendor": "Example Computers",
        "/sys/class/dmi/id/product_name": "Desk 3000",
        f"{CPU}/present": "0-7",
        f"{CPU}/online": "0-7",
        "/sys/devices/cpu_core/cpus": "0-3",
        "/sys/devices/cpu_atom/cpus": "4-7",
    }
    for core in range(8):
        base = f"{CPU}/cpu{core}"
        big = core < 4
        files |= {
            f"{base}/cpufreq/cpuinfo_max_freq": "5000000" if core < 2 else "4900000" if big else "3800000",
            f"{base}/cpufreq/cpuinfo_min_freq": "800000",
            f"{base}/topology/thread_siblings_list": f"{core // 2 * 2}-{core // 2 * 2 + 1}" if big else str(core),
        }
    return files


def container() -> dict[str, str]:
    """A container of a virtual machine: /proc, and hardly any /sys."""
    return {
        "/proc/cpuinfo": "\n".join(
            x86_core(core, "Example Server CPU", "fpu lm hypervisor avx2 fma f16c avx512f avx512_vnni")
            for core in (0, 1)
        ),
        "/proc/meminfo": "MemTotal:        4028440 kB",
        "/sys/fs/cgroup/cpu.max": "150000 100000",
        "/sys/fs/cgroup/memory.max": "1073741824",
    }
