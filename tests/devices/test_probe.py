"""The probe describes machines from their files, and says what it could not read."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_trees import CPU, arm_core, container, hybrid, phone, plant, x86_core

from dfmobile.devices.probe import installed_runtimes, probe_local, profile_from_files
from dfmobile.devices.profile import DeviceProfile, dump_profile, fingerprint, parse_profile, summary
from dfmobile.devices.system_files import FolderFiles, RecordedFiles


def missing(profile: DeviceProfile) -> str:
    return "\n".join(f"{item.what}: {item.reason}" for item in profile.unreadable)


def test_phone(tmp_path: Path) -> None:
    profile = probe_local(plant(tmp_path, phone()))
    assert profile.kind == "phone"
    assert profile.soc == "Snapdragon SM8150"
    assert "SM8150" in profile.soc_names
    assert profile.abi == "arm64-v8a"
    assert [(c.name, c.cores, c.affinity_mask, c.microarchitecture) for c in profile.clusters] == [
        ("prime", [7], "80", "Cortex-A76"),
        ("big", [4, 5, 6], "70", "Cortex-A76"),
        ("little", [0, 1, 2, 3], "0f", "Cortex-A55"),
    ]
    assert [(c.min_frequency_khz, c.max_frequency_khz, c.capacity) for c in profile.clusters] == [
        (825600, 2841600, 1024),
        (710400, 2419200, 871),
        (300000, 1804800, 325),
    ]
    assert [(c.level, c.kind, c.size_bytes, c.shared_by) for c in profile.caches if c.level == 3] == [
        (3, "unified", 2 * 2**20, ["0-7"])
    ]
    assert profile.memory_bytes == 5766032 * 1024
    assert profile.features["fp16"] is True
    assert profile.features["dotprod"] is True
    assert profile.features["i8mm"] is False
    assert profile.cpusets == {"top-app": "0-7", "background": "0-3"}
    assert profile.governors == ["performance", "schedutil"]
    assert [(zone.name, zone.type) for zone in profile.thermal_zones] == [
        ("thermal_zone0", "cpu-1-0-usr"),
        ("thermal_zone2", "battery"),
        ("thermal_zone10", "battery"),
    ]
    assert profile.gpu is not None
    assert (profile.gpu.name, profile.gpu.max_frequency_khz) == ("Adreno640v2", 585000)
    assert profile.defaults.cluster == "prime"
    assert profile.known_profile is None
    assert profile.runtimes == {}


def test_hybrid_intel(tmp_path: Path) -> None:
    """Favoured cores, whose clock is a little higher, do not make a cluster of their own."""
    profile = probe_local(plant(tmp_path, hybrid()))
    assert profile.kind == "host"
    assert profile.model == "Example Computers Desk 3000"
    assert profile.soc == "12th Gen Intel(R) Core(TM) i7"
    assert (profile.os.name, profile.os.version, profile.os.kernel) == ("debian", "12", "6.1.0-18-amd64")
    assert [(c.name, c.cores, c.max_frequency_khz, c.threads_per_core) for c in profile.clusters] == [
        ("performance", [0, 1, 2, 3], 5000000, 2),
        ("efficiency", [4, 5, 6, 7], 3800000, 1),
    ]
    assert (profile.cpu.family, profile.cpu.model, profile.cpu.virtualised) == (6, 151, False)
    assert profile.features["avx2"] is True
    assert profile.features["avx512f"] is False
    assert profile.known_profile == "generic-x86-64"
    assert "caches" in missing(profile)


def test_hybrid_without_the_kernels_lists(tmp_path: Path) -> None:
    files = {path: text for path, text in hybrid().items() if not path.startswith("/sys/devices/cpu_")}
    profile = probe_local(plant(tmp_path, files))
    assert [(c.name, c.cores) for c in profile.clusters] == [
        ("performance", [0, 1, 2, 3]),
        ("efficiency", [4, 5, 6, 7]),
    ]


def test_bare_container(tmp_path: Path) -> None:
    profile = probe_local(plant(tmp_path, container()))
    assert [(c.name, c.cores, c.max_frequency_khz) for c in profile.clusters] == [("all", [0, 1], None)]
    assert profile.caches == []
    assert profile.cpu.virtualised is True
    assert profile.limits.cpu_quota == 1.5
    assert profile.limits.memory_bytes == 2**30
    told = missing(profile)
    for what in ("frequency range of cores 0-1", "caches", "governors", "thermal_zones", "os", "model"):
        assert what in told
    assert "no such file or directory" in told
    assert "virtual" in summary(profile)


def test_nothing_at_all(tmp_path: Path) -> None:
    profile = probe_local(tmp_path)
    assert profile.clusters == []
    assert profile.name == "device"
    assert "clusters" in missing(profile)
    assert parse_profile(dump_profile(profile).encode(), "x") == profile


def test_getconf_stands_in_for_sysfs_caches() -> None:
    text = (
        "LEVEL1_DCACHE_SIZE 32768\nLEVEL1_DCACHE_LINESIZE 64\nLEVEL2_CACHE_SIZE 0\nLEVEL3_CACHE_SIZE 1048576\nPATH /bin"
    )
    profile = profile_from_files(RecordedFiles(container()), getconf=text)
    assert [(c.level, c.kind, c.size_bytes, c.line_bytes) for c in profile.caches] == [
        (1, "data", 32768, 64),
        (3, "unified", 1048576, None),
    ]
    assert "which cores share a cache" in missing(profile)


def test_a_32_bit_list_cannot_tell_of_fp16() -> None:
    compatible = "half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt lpae evtstrm aes pmull sha1 sha2 crc32"
    profile = profile_from_files(RecordedFiles(phone(compatible)))
    assert profile.features["neon"] is True
    assert profile.features["fp16"] is None
    assert profile.features["dotprod"] is None
    assert "fp16, dotprod" in missing(profile)


def test_a_feature_must_be_on_every_core() -> None:
    text = arm_core(0, "0xd03", "fp asimd") + "\n" + arm_core(1, "0xd0b", "fp asimd fphp asimdhp asimddp")
    profile = profile_from_files(RecordedFiles({"/proc/cpuinfo": text}))
    assert profile.features["fp16"] is False


def test_same_frequency_other_microarchitecture() -> None:
    """A TX2: Denver 2 and A57 have one clock range; only their part numbers tell them apart."""
    text = "\n".join(arm_core(core, "0xd07", "fp asimd") for core in (0, 3, 4, 5))
    text += "\n" + "\n".join(
        arm_core(core, "0x003", "fp asimd").replace("implementer\t: 0x41", "implementer\t: 0x4e") for core in (1, 2)
    )
    files = {
        "/proc/cpuinfo": text,
        "/etc/nv_tegra_release": "# R32 (release), REVISION: 6.1, GCID: 1, BOARD: t186ref, EABI: aarch64",
        "/proc/device-tree/model": "quill\x00",
        "/proc/device-tree/compatible": "nvidia,p2597-0000+p3310-1000\x00nvidia,quill\x00nvidia,tegra186\x00",
    }
    profile = profile_from_files(RecordedFiles(files), machine="aarch64")
    assert {(c.microarchitecture, tuple(c.cores)) for c in profile.clusters} == {
        ("Denver 2", (1, 2)),
        ("Cortex-A57", (0, 3, 4, 5)),
    }
    assert (profile.kind, profile.os.name, profile.os.version) == ("jetson", "l4t", "32.6.1")
    assert profile.known_profile == "jetson-tx2"


def test_orin_nano_is_known_and_its_larger_brother_is_not_taken_for_it() -> None:
    files = {
        "/proc/cpuinfo": "\n".join(arm_core(core, "0xd42") for core in range(6)),
        "/etc/nv_tegra_release": "# R36 (release), REVISION: 4.7, GCID: 1, BOARD: generic, EABI: aarch64",
        "/proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005\x00nvidia,p3767-0005\x00nvidia,tegra234\x00",
    }
    assert profile_from_files(RecordedFiles(files)).known_profile == "jetson-orin-nano"
    for module, known in (("p3701-0005", "jetson-agx-orin"), ("p3701-0004", None), ("p3767-0000", None)):
        names = f"nvidia,p3737-0000+{module}\x00nvidia,{module}\x00nvidia,tegra234\x00"
        files["/proc/device-tree/compatible"] = names
        assert profile_from_files(RecordedFiles(files)).known_profile == known


def test_a_switched_off_core_belongs_with_those_of_its_policy(tmp_path: Path) -> None:
    root = plant(tmp_path, phone())
    for name in ("cpufreq", "topology", "cache"):
        shutil.rmtree(root / f"{CPU}/cpu5".lstrip("/") / name)
    (root / f"{CPU}/cpu5/cpu_capacity".lstrip("/")).unlink()
    text = "\n\n".join(p for p in phone()["/proc/cpuinfo"].split("\n\n") if not p.startswith("processor\t: 5"))
    (root / "proc/cpuinfo").write_text(text)
    profile = probe_local(root)
    assert profile.cluster("big").cores == [4, 5, 6]
    assert "frequency range of cores" not in missing(profile)


def test_unreadable_values_are_recorded_with_what_they_say(tmp_path: Path) -> None:
    root = plant(tmp_path, phone() | {f"{CPU}/cpu7/cpufreq/cpuinfo_max_freq": "<unsupported>"})
    profile = probe_local(root)
    assert "frequency range of cores 7" in missing(profile)
    assert "<unsupported>" in missing(profile)


def test_recorded_files_and_a_folder_give_the_same(tmp_path: Path) -> None:
    recorded = profile_from_files(RecordedFiles(phone()))
    folder = profile_from_files(FolderFiles(plant(tmp_path, phone())))
    # Only the words of why something is missing differ.
    assert [item.what for item in recorded.unreadable] == [item.what for item in folder.unreadable]
    assert recorded.model_copy(update={"unreadable": []}) == folder.model_copy(update={"unreadable": []})


def test_fingerprint_ignores_the_moment(tmp_path: Path) -> None:
    before = fingerprint(probe_local(plant(tmp_path / "a", phone())))
    later = phone() | {
        "/proc/meminfo": "MemTotal:        5765984 kB\nMemFree:  9 kB",
        "/proc/loadavg": "0.01 0.02 0.03 1/99 5",
        "/proc/sys/kernel/osrelease": "4.14.212-perf+",
        "/sys/class/thermal/thermal_zone0/temp": "79000",
        "/sys/class/thermal/thermal_zone3/type": "another",
        f"{CPU}/cpu0/cpufreq/scaling_cur_freq": "1804800",
        f"{CPU}/cpu0/cpufreq/scaling_governor": "performance",
        f"{CPU}/online": "0-3",
    }
    assert fingerprint(probe_local(plant(tmp_path / "b", later))) == before


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("/sys/devices/soc0/machine", "SM8250"),
        ("/proc/sys/kernel/osrelease", "5.4.1"),
        (f"{CPU}/cpu7/cpufreq/cpuinfo_max_freq", "2956800"),
        (f"{CPU}/cpu0/cache/index1/size", "64K"),
        ("/sys/class/kgsl/kgsl-3d0/gpu_model", "Adreno650"),
        (f"{CPU}/present", "0-3"),
    ],
)
def test_fingerprint_sees_other_hardware(path: str, text: str) -> None:
    assert fingerprint(profile_from_files(RecordedFiles(phone() | {path: text}))) != fingerprint(
        profile_from_files(RecordedFiles(phone()))
    )


def test_this_machine() -> None:
    profile = probe_local()
    assert profile.core_count >= 1
    assert profile.memory_bytes is not None
    assert profile.runtimes == installed_runtimes()
    assert profile.observed is not None
    assert json.dumps(profile.observed)
    assert parse_profile(dump_profile(profile).encode(), "x") == profile
    assert fingerprint(profile) == fingerprint(probe_local())
    assert len(fingerprint(profile)) == 16
    assert profile.name in dump_profile(profile)


FILES = st.sampled_from(sorted({**phone(), **hybrid(), **container()}))


@settings(max_examples=25)
@given(st.dictionaries(FILES, st.text(max_size=80) | st.binary(max_size=20).map(lambda b: b.decode("latin1"))))
def test_damaged_files_never_break_the_probe(damage: dict[str, str]) -> None:
    for machine in (phone(), hybrid()):
        profile = profile_from_files(RecordedFiles(machine | damage))
        assert parse_profile(dump_profile(profile).encode(), "x") == profile
        assert fingerprint(profile)


def test_x86_paragraphs_are_read_by_number() -> None:
    text = x86_core(1, "B", "lm") + "\n" + x86_core(0, "A", "lm")
    assert profile_from_files(RecordedFiles({"/proc/cpuinfo": text})).soc == "A"
