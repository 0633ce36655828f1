"""Files and properties of a phone with a Snapdragon 845: what a virtual phone shows unless a test gives it others.

Written for tests after what such phones are known to show: four small cores and four large ones, whose top step is
missing from ``scaling_available_frequencies``; thermal zones whose numbers have gaps; files that the shell may not
read.
"""

from __future__ import annotations

from dfmobile.testing.virtual_phone.programs import dump_files

_CPU = "/sys/devices/system/cpu"
_CORES = 8
_SMALL = ("0x803", "0x7", (300000, 576000, 748800, 979200, 1228800, 1516800, 1766400), 1766400, 0)
_LARGE = ("0x802", "0x6", (825600, 1056000, 1363200, 1689600, 2092800, 2476800, 2649600), 2803200, 4)
_ZONES = {
    0: ("battery", 29000), 1: ("cpu0-silver-usr", 36200), 2: ("cpu1-silver-usr", 36500), 3: ("cpu2-silver-usr", 36400),
    4: ("cpu3-silver-usr", 36100), 5: ("cpu0-gold-usr", 38100), 6: ("cpu1-gold-usr", 38400),
    7: ("cpu2-gold-usr", 38000), 8: ("cpu3-gold-usr", 38900), 10: ("gpu0-usr", 35700), 11: ("gpu1-usr", 35900),
    14: ("ddr-usr", 36800), 23: ("xo-therm-adc", 31000), 24: ("quiet-therm-adc", 30500),
}  # fmt: skip

PROPERTIES = {
    "ro.board.platform": "sdm845",
    "ro.boot.hardware": "qcom",
    "ro.build.type": "user",
    "ro.build.version.release": "10",
    "ro.build.version.sdk": "29",
    "ro.hardware": "qcom",
    "ro.product.brand": "dfmobile",
    "ro.product.cpu.abi": "arm64-v8a",
    "ro.product.cpu.abilist": "arm64-v8a,armeabi-v7a,armeabi",
    "ro.product.device": "virtual",
    "ro.product.manufacturer": "dfmobile",
    "ro.product.model": "Virtual Phone",
    "ro.product.name": "virtual",
    "ro.serialno": "0123456789abcdef",
    "sys.boot_completed": "1",
}

# The shell may not read them (where the phone has a user of its own, that is: where the tests run as root).
UNREADABLE = ("/sys/class/power_supply/bms/uevent", "/sys/kernel/debug/clk/measure")

_BATTERY = """Current Battery Service state:
  AC powered: false
  USB powered: true
  Wireless powered: false
  status: 2
  health: 2
  present: true
  level: 82
  scale: 100
  voltage: 4180
  temperature: 290
  technology: Li-ion
"""

_POWER = """POWER MANAGER (dumpsys power)

Power Manager State:
  mWakefulness=Awake
  mIsPowered=true
  mStayOn=true
Display Power: state=ON
"""

_THERMAL = """IsStatusOverride: false
Thermal Status: 0
Current temperatures from HAL:
\tTemperature{mValue=38.1, mType=0, mName=cpu0-gold-usr, mStatus=0}
\tTemperature{mValue=29.0, mType=2, mName=battery, mStatus=0}
"""


def files() -> dict[str, bytes]:
    """Return absolute path to content of everything that the phone shows."""
    texts = {
        "/proc/cpuinfo": _cpuinfo(),
        "/proc/meminfo": "MemTotal:        5853480 kB\nMemFree:          402112 kB\nMemAvailable:    3120844 kB\n",
        "/proc/loadavg": "2.41 2.60 2.55 2/2412 9120\n",
        "/proc/sys/kernel/osrelease": "4.9.186-perf+\n",
        "/proc/version": "Linux version 4.9.186-perf+ (build@virtual)\n",
        "/dev/cpuset/cpus": f"0-{_CORES - 1}\n",
        "/dev/cpuset/top-app/cpus": f"0-{_CORES - 1}\n",
        "/dev/cpuset/foreground/cpus": "0-3,6-7\n",
        "/dev/cpuset/background/cpus": "0-1\n",
        "/sys/devices/soc0/family": "Snapdragon\n",
        "/sys/devices/soc0/machine": "SDM845\n",
        "/sys/class/kgsl/kgsl-3d0/gpu_model": "Adreno630v2\n",
        "/sys/class/kgsl/kgsl-3d0/max_gpuclk": "710000000\n",
        "/sys/class/power_supply/battery/type": "Battery\n",
        "/sys/class/power_supply/battery/capacity": "82\n",
        "/sys/class/power_supply/battery/temp": "290\n",
        "/sys/class/power_supply/usb/type": "USB\n",
        "/sys/class/power_supply/usb/online": "1\n",
        **{f"{_CPU}/{name}": f"0-{_CORES - 1}\n" for name in ("present", "possible", "online")},
    }
    for core in range(_CORES):
        texts.update(_core(core))
    for number, (kind, temperature) in _ZONES.items():
        texts[f"/sys/class/thermal/thermal_zone{number}/type"] = f"{kind}\n"
        texts[f"/sys/class/thermal/thermal_zone{number}/temp"] = f"{temperature}\n"
    shown = {path: text.encode() for path, text in texts.items()}
    return {**shown, **dump_files({"battery": _BATTERY, "power": _POWER, "thermalservice": _THERMAL})}


def _cluster(core: int) -> tuple[str, str, tuple[int, ...], int, int]:
    return _SMALL if core < 4 else _LARGE


def _core(core: int) -> dict[str, str]:
    _, _, steps, top, first = _cluster(core)
    folder = f"{_CPU}/cpu{core}"
    members = " ".join(str(other) for other in range(first, first + 4))
    return {
        f"{folder}/online": "1\n",
        f"{folder}/cpu_capacity": "379\n" if core < 4 else "1024\n",
        f"{folder}/topology/physical_package_id": "0\n" if core < 4 else "1\n",
        f"{folder}/topology/core_siblings_list": f"{first}-{first + 3}\n",
        f"{folder}/topology/thread_siblings_list": f"{core}\n",
        f"{folder}/cpufreq/related_cpus": f"{members}\n",
        f"{folder}/cpufreq/cpuinfo_max_freq": f"{top}\n",
        f"{folder}/cpufreq/cpuinfo_min_freq": f"{steps[0]}\n",
        f"{folder}/cpufreq/scaling_max_freq": f"{top}\n",
        f"{folder}/cpufreq/scaling_min_freq": f"{steps[0]}\n",
        f"{folder}/cpufreq/scaling_cur_freq": f"{steps[-2]}\n",
        f"{folder}/cpufreq/scaling_available_frequencies": " ".join(map(str, steps)) + " \n",
        f"{folder}/cpufreq/scaling_available_governors": "powersave performance schedutil \n",
        f"{folder}/cpufreq/scaling_governor": "schedutil\n",
    }


def _cpuinfo() -> str:
    paragraphs = ["Processor\t: AArch64 Processor rev 13 (aarch64)\n"]
    for core in range(_CORES):
        part, variant, *_ = _cluster(core)
        paragraphs.append(
            f"processor\t: {core}\nBogoMIPS\t: 38.40\n"
            "Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop\n"
            f"CPU implementer\t: 0x51\nCPU architecture: 8\nCPU variant\t: {variant}\nCPU part\t: {part}\n"
            f"CPU revision\t: {'12' if core < 4 else '13'}\n\n"
        )
    return "".join(paragraphs) + "Hardware\t: Qualcomm Technologies, Inc SDM845\n"
