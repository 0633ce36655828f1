"""Virtual Jetsons: a folder that stands for a board's ``/``, with its files and small scripts for its tools.

The probe and tegrastats beside a command run on it through a real transport (local, or a real sshd) and a real shell.
Everything is written for tests: names and forms are those of the boards, numbers are invented, and nothing here is a
measurement. ``probe_linux_board(transport, root=str(board.root))`` reads it; no option of the product reaches that.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from pathlib import Path

_CPU = "/sys/devices/system/cpu"
_FLAGS = {
    8.0: "fp asimd evtstrm aes pmull sha1 sha2 crc32",
    8.1: "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm dcpop",
    8.2: "fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp",
}


@dataclass(frozen=True)
class BoardSpec:
    """What one board shows.

    Attributes:
        model: of the device tree.
        compatible: of the device tree.
        release: first line of ``/etc/nv_tegra_release``.
        kernel: release of the kernel.
        cores: for each: implementer, part, lowest and highest clock in kHz.
        arm: 8.0, 8.1 (8.2 without dot product), 8.2: which instruction sets it has.
        gpu: folder under ``/sys/class/devfreq``, and the steps in kHz.
        zones: thermal zone type to milli-degrees.
        rails: name to milliwatts, in the order of the sensor.
        hwmon: rails are under hwmon (L4T 34 and later), not under the ina3221x driver.
        power_mode: name of the mode.
        line: what tegrastats writes; ``{rails}`` stands for the rails.
        milliwatts: tegrastats writes the unit.
        packages: installed packages, as ``name version``.
        memory_kb: MemTotal.
    """

    model: str
    compatible: tuple[str, ...]
    release: str
    kernel: str
    cores: tuple[tuple[str, str, int, int], ...]
    arm: float
    gpu: tuple[str, tuple[int, ...]]
    zones: dict[str, int]
    rails: dict[str, int]
    hwmon: bool
    power_mode: str
    line: str
    milliwatts: bool
    packages: tuple[str, ...]
    memory_kb: int


_A57 = ("0x41", "0xd07", 102000, 1479000)
_CARMEL = ("0x4e", "0x004", 115200, 1907200)
_A78AE = ("0x41", "0xd42", 115200, 1510400)

BOARDS = {
    "nano": BoardSpec(
        model="NVIDIA Jetson Nano Developer Kit",
        compatible=("nvidia,p3449-0000-b00+p3448-0000-b00", "nvidia,jetson-nano", "nvidia,tegra210"),
        release="# R32 (release), REVISION: 7.1, GCID: 1, BOARD: t210ref, EABI: aarch64, DATE: Sat Feb 19 2022",
        kernel="4.9.253-tegra",
        cores=(_A57,) * 4,
        arm=8.0,
        gpu=("57000000.gpu", (76800, 460800, 921600)),
        zones={"AO-therm": 38500, "CPU-therm": 32000, "GPU-therm": 30500, "PLL-therm": 30000, "PMIC-Die": 50000},
        rails={"POM_5V_IN": 2500, "POM_5V_GPU": 200, "POM_5V_CPU": 400},
        hwmon=False,
        power_mode="MAXN",
        line="RAM 900/3956MB (lfb 500x4MB) SWAP 0/1978MB (cached 0MB) IRAM 0/252kB(lfb 252kB) "
        "CPU [3%@1479,off,1%@1479,0%@1479] EMC_FREQ 1%@1600 GR3D_FREQ 40%@921 APE 25 PLL@30C CPU@32C GPU@30.5C "
        "AO@38.5C thermal@31.25C {rails}",
        milliwatts=False,
        packages=("libnvinfer8 8.2.1-1+cuda10.2", "nvidia-jetpack 4.6.1-b110", "python3-libnvinfer 8.2.1-1+cuda10.2"),
        memory_kb=4051000,
    ),
    "tx2": BoardSpec(
        model="quill",
        compatible=("nvidia,p2597-0000+p3310-1000", "nvidia,quill", "nvidia,tegra186"),
        release="# R32 (release), REVISION: 5, GCID: 2, BOARD: t186ref, EABI: aarch64, DATE: Sat Nov 07 2020",
        kernel="4.9.201-tegra",
        cores=(
            ("0x41", "0xd07", 345600, 2035200),
            *((("0x4e", "0x003", 345600, 2035200),) * 2),
            *((("0x41", "0xd07", 345600, 2035200),) * 3),
        ),
        arm=8.0,
        gpu=("17000000.gp10b", (114750, 624750, 1300500)),
        zones={"BCPU-therm": 35500, "MCPU-therm": 35500, "GPU-therm": 33000, "PMIC-Die": 100000},
        rails={"VDD_IN": 4000, "VDD_SYS_CPU": 800, "VDD_SYS_DDR": 600, "VDD_SYS_GPU": 900, "VDD_SYS_SOC": 500},
        hwmon=False,
        power_mode="MAXP_CORE_ALL",
        line="RAM 1400/7860MB (lfb 200x4MB) SWAP 0/3930MB (cached 0MB) "
        "CPU [2%@2035,0%@2035,0%@2035,1%@2035,1%@2035,1%@2035] EMC_FREQ 0% GR3D_FREQ 60% PLL@35C MCPU@35.5C PMIC@100C "
        "GPU@33C BCPU@35.5C thermal@34.6C {rails}",
        milliwatts=False,
        packages=("libnvinfer7 7.1.3-1+cuda10.2",),
        memory_kb=8048640,
    ),
    "xavier-nx": BoardSpec(
        model="NVIDIA Jetson Xavier NX Developer Kit",
        compatible=("nvidia,p3509-0000+p3668-0000", "nvidia,p3668-0000", "nvidia,tegra194"),
        release="# R35 (release), REVISION: 2.1, GCID: 3, BOARD: t186ref, EABI: aarch64, DATE: Tue Jan 24 2023",
        kernel="5.10.104-tegra",
        cores=(_CARMEL,) * 6,
        arm=8.1,
        gpu=("17000000.gv11b", (114750, 510000, 1109250)),
        zones={"CPU-therm": 39500, "GPU-therm": 37500, "AUX-therm": 39000, "AO-therm": 38000, "PMIC-Die": 50000},
        rails={"VDD_IN": 5000, "VDD_CPU_GPU_CV": 900, "VDD_SOC": 1100},
        hwmon=True,
        power_mode="MODE_15W_6CORE",
        line="RAM 2690/6854MB (lfb 6x1MB) SWAP 479/3427MB (cached 3MB) CPU [3%@1420,7%@1420,1%@1420,0%@1420,off,off] "
        "EMC_FREQ 4%@1600 GR3D_FREQ 80%@[1109] VIC_FREQ 601 APE 150 AUX@39C CPU@39.5C GPU@37.5C PMIC@50C {rails}",
        milliwatts=True,
        packages=("libnvinfer8 8.5.2-1+cuda11.4", "cuda-cudart-11-4 11.4.298-1"),
        memory_kb=7018600,
    ),
    "agx-orin": BoardSpec(
        model="NVIDIA Jetson AGX Orin Developer Kit",
        compatible=("nvidia,p3737-0000+p3701-0005", "nvidia,p3701-0005", "nvidia,tegra234"),
        release="# R36 (release), REVISION: 4.3, GCID: 4, BOARD: generic, EABI: aarch64, DATE: Wed Jan  8 2025",
        kernel="5.15.148-tegra",
        cores=(("0x41", "0xd42", 115200, 2201600),) * 12,
        arm=8.2,
        gpu=("17000000.gpu", (306000, 612000, 1300500)),
        zones={
            "cpu-thermal": 50000,
            "gpu-thermal": -256000,
            "cv0-thermal": 0,
            "soc0-thermal": 48500,
            "tj-thermal": 50000,
        },
        rails={"VDD_GPU_SOC": 5000, "VDD_CPU_CV": 1000, "VIN_SYS_5V0": 4000, "VDDQ_VDD2_1V8AO": 600},
        hwmon=True,
        power_mode="MODE_30W",
        line="11-26-2026 10:00:00 RAM 5000/62841MB (lfb 2x4MB) SWAP 0/31420MB (cached 0MB) "
        "CPU [1%@1728,2%@1728,off,off] GR3D_FREQ 90% cpu@50C soc0@48.5C tj@50C {rails}",
        milliwatts=True,
        packages=("libnvinfer10 10.3.0.30-1+cuda12.5", "nvidia-jetpack 6.2+b77", "cuda-cudart-12-6 12.6.68-1"),
        memory_kb=64349000,
    ),
    "orin-nano": BoardSpec(
        model="NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super",
        compatible=("nvidia,p3768-0000+p3767-0005-super", "nvidia,p3767-0005", "nvidia,tegra234"),
        release="# R36 (release), REVISION: 4.7, GCID: 5, BOARD: generic, EABI: aarch64, DATE: Thu Sep 18 2025",
        kernel="5.15.148-tegra",
        cores=(_A78AE,) * 6,
        arm=8.2,
        gpu=("17000000.gpu", (306000, 612000, 1020000)),
        zones={
            "cpu-thermal": 45812,
            "gpu-thermal": 46843,
            "cv0-thermal": 0,
            "soc0-thermal": 46093,
            "tj-thermal": 46843,
        },
        rails={"VDD_IN": 6000, "VDD_CPU_GPU_CV": 2000, "VDD_SOC": 1500},
        hwmon=True,
        power_mode="MAXN_SUPER",
        line="11-26-2026 10:00:00 RAM 2850/7486MB (lfb 33x4MB) CPU [2%@1510,0%@1510,0%@1510,0%@1510,1%@1510,off] "
        "EMC_FREQ 5%@3199 GR3D_FREQ 99%@[1020] NVDEC off APE 200 cpu@45.812C gpu@46.843C tj@46.843C {rails}",
        milliwatts=True,
        packages=("libnvinfer10 10.3.0.30-1+cuda12.5",),
        memory_kb=7666000,
    ),
}


@dataclass(frozen=True)
class VirtualJetson:
    """A board in a folder.

    Attributes:
        root: the folder that stands for ``/``.
        spec: what it shows.
    """

    root: Path
    spec: BoardSpec

    @property
    def tegrastats(self) -> str:
        """Path of its tegrastats, for ``TegrastatsMonitor``."""
        return str(self.root / "usr/bin/tegrastats")

    def write(self, path: str, content: str | bytes) -> Path:
        """Write one of its files, by its path on the board."""
        target = self.root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else content.encode())
        return target

    def add_tool(self, name: str, body: str, folder: str = "/usr/bin") -> None:
        """Write a program: lines of POSIX sh."""
        self.write(f"{folder}/{name}", f"#!/bin/sh\n{body}\n").chmod(0o755)

    def remove_tool(self, name: str, folder: str = "/usr/bin") -> None:
        """Take a program away."""
        (self.root / folder.lstrip("/") / name).unlink()


def plant_jetson(root: Path, name: str, *, locked: bool = False, sudo: bool = True) -> VirtualJetson:
    """Build a board in a folder.

    Args:
        root: the folder; made where it is not there.
        name: one of ``BOARDS``.
        locked: its clocks are locked, as after ``sudo jetson_clocks``.
        sudo: ``sudo -n`` asks no password.
    """
    spec = BOARDS[name]
    board = VirtualJetson(root, spec)
    _files(board, locked)
    _sensors(board, locked)
    _tools(board, locked, sudo)
    return board


def _files(board: VirtualJetson, locked: bool) -> None:
    spec = board.spec
    board.write("/etc/nv_tegra_release", f"{spec.release}\n# KERNEL_VARIANT: oot\n")
    board.write("/etc/os-release", 'ID=ubuntu\nVERSION_ID="20.04"\n')
    board.write("/proc/device-tree/model", spec.model.encode() + b"\0")
    board.write("/proc/device-tree/compatible", b"".join(item.encode() + b"\0" for item in spec.compatible))
    board.write("/proc/sys/kernel/osrelease", spec.kernel + "\n")
    board.write("/proc/meminfo", f"MemTotal:  {spec.memory_kb} kB\nMemAvailable:  {spec.memory_kb // 2} kB\n")
    board.write("/proc/loadavg", "0.50 0.40 0.30 1/300 1000\n")
    board.write("/proc/stat", "cpu  1 2 3 4 5 6 7 0 0 0\n")
    board.write("/proc/self/status", f"Name:\tsh\nCpus_allowed_list:\t0-{len(spec.cores) - 1}\n")
    board.write(f"{_CPU}/present", f"0-{len(spec.cores) - 1}\n")
    board.write(f"{_CPU}/online", f"0-{len(spec.cores) - 1}\n")
    paragraphs = []
    for core, (implementer, part, lowest, highest) in enumerate(spec.cores):
        paragraphs.append(
            f"processor\t: {core}\nFeatures\t: {_FLAGS[spec.arm]}\nCPU implementer\t: {implementer}\n"
            f"CPU architecture: 8\nCPU variant\t: 0x1\nCPU part\t: {part}\nCPU revision\t: 0\n"
        )
        base = f"{_CPU}/cpu{core}/cpufreq"
        board.write(f"{base}/cpuinfo_min_freq", f"{lowest}\n")
        board.write(f"{base}/cpuinfo_max_freq", f"{highest}\n")
        board.write(f"{base}/scaling_min_freq", f"{highest if locked else lowest}\n")
        board.write(f"{base}/scaling_max_freq", f"{highest}\n")
        board.write(f"{base}/scaling_cur_freq", f"{highest if locked else lowest}\n")
        board.write(f"{base}/scaling_governor", "schedutil\n")
        board.write(f"{base}/scaling_available_governors", "conservative ondemand performance schedutil\n")
    board.write("/proc/cpuinfo", "\n".join(paragraphs))


def _sensors(board: VirtualJetson, locked: bool) -> None:
    spec = board.spec
    for number, (kind, value) in enumerate(spec.zones.items()):
        board.write(f"/sys/class/thermal/thermal_zone{number}/type", kind + "\n")
        board.write(f"/sys/class/thermal/thermal_zone{number}/temp", f"{value}\n")
    board.write("/sys/class/thermal/cooling_device0/type", "gpu-throttle-alert\n")
    board.write("/sys/class/thermal/cooling_device0/cur_state", "0\n")
    node, steps = spec.gpu
    base = f"/sys/class/devfreq/{node}"
    board.write(f"{base}/available_frequencies", " ".join(str(1000 * step) for step in steps) + "\n")
    board.write(f"{base}/min_freq", f"{1000 * (steps[-1] if locked else steps[0])}\n")
    board.write(f"{base}/max_freq", f"{1000 * steps[-1]}\n")
    board.write(f"{base}/cur_freq", f"{1000 * steps[-1]}\n")
    board.write(f"{base}/governor", "nvhost_podgov\n")
    board.write("/sys/class/devfreq/15340000.vic/cur_freq", "1000000\n")
    for number, rail in enumerate(spec.rails):
        sensor, channel = divmod(number, 3)
        if spec.hwmon:
            folder = f"/sys/class/hwmon/hwmon{sensor + 1}"
            board.write(f"{folder}/name", "ina3221\n")
            board.write(f"{folder}/in{channel + 1}_label", rail + "\n")
        else:
            folder = f"/sys/bus/i2c/drivers/ina3221x/{sensor}-0040/iio:device{sensor}"
            board.write(f"{folder}/rail_name_{channel}", rail + "\n")
    if spec.hwmon:
        board.write("/sys/class/hwmon/hwmon0/name", "soctherm_oc\n")
        board.write("/sys/class/hwmon/hwmon0/oc1_event_cnt", "0\n")


def _tools(board: VirtualJetson, locked: bool, sudo: bool) -> None:
    spec = board.spec
    steps = spec.gpu[1]
    override = " FreqOverride=1" if locked else ""
    shown = [f"SOC family:{spec.compatible[-1].split(',')[1]}  Machine:{spec.model}", "Online CPUs: all"]
    for core, (_, _, lowest, highest) in enumerate(spec.cores):
        low = highest if locked else lowest
        clocks = f"MinFreq={low} MaxFreq={highest} CurrentFreq={low} IdleStates: WFI=1 c7=1 "
        shown.append(f"cpu{core}: Online=1 Governor=schedutil {clocks}")
    low = 1000 * (steps[-1] if locked else steps[0])
    shown.append(f"GPU MinFreq={low} MaxFreq={1000 * steps[-1]} CurrentFreq={1000 * steps[-1]}")
    shown.append(f"EMC MinFreq=204000000 MaxFreq=1600000000 CurrentFreq=1600000000{override}")
    shown.append(f"NV Power Mode: {spec.power_mode}")
    board.add_tool("nvpmodel", f"printf '%s\\n' {shlex.quote('NV Power Mode: ' + spec.power_mode)} 0")
    board.add_tool(
        "jetson_clocks",
        "[ \"$VIRTUAL_ROOT\" = 1 ] || { echo 'Error: this needs root rights'; exit 1; }\n"
        f"printf '%s\\n' {' '.join(map(shlex.quote, shown))}",
    )
    board.add_tool(
        "sudo",
        '[ "$1" = -n ] || exit 1\nshift\nVIRTUAL_ROOT=1 exec "$@"'
        if sudo
        else "echo 'sudo: a password is required' >&2\nexit 1",
    )
    board.add_tool("uname", "echo aarch64")
    listed = " ".join(shlex.quote("ii  " + item) for item in spec.packages)
    board.add_tool("dpkg-query", f"printf '%s\\n' {listed} 'un  libnvinfer-bin '\necho 'no packages found' >&2\nexit 1")
    unit = "mW" if spec.milliwatts else ""
    rails = " ".join(f"{rail} {power}{unit}/{power}{unit}" for rail, power in spec.rails.items())
    line = shlex.quote(spec.line.format(rails=rails))
    board.add_tool(
        "tegrastats",
        '[ "$1" = --interval ] || exit 2\npause=$(($2 / 1000)).$(printf %03d $(($2 % 1000)))\n'
        f"while printf '%s\\n' {line}; do sleep \"$pause\"; done",
    )
