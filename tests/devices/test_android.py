"""Phones are described from their own files, properties and services; what they hide is said, never guessed."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_trees import CPU, arm_core
from machine_trees import phone as three_clusters
from phone_dumps import AWAKE, PIXEL_3_BATTERY, FolderPhone, galaxy_s9, installed_shells, pixel_3, plant_phone
from typer.testing import CliRunner

from dfmobile.cli.main import app
from dfmobile.devices import device
from dfmobile.devices.profile import (
    DeviceProfile,
    dump_profile,
    fingerprint,
    known_profiles,
    load_profile,
    parse_profile,
    summary,
)
from dfmobile.devices.transport.base import CommandResult, CommandTimeoutError, ConnectionLostError
from dfmobile.devices.uri import parse_device

PROPERTIES = "[ro.product.model]: [Phone X]\n[ro.product.cpu.abi]: [arm64-v8a]\n[ro.build.version.release]: [13]\n"
BOTH = {"battery": PIXEL_3_BATTERY, "power": AWAKE}


def missing(profile: DeviceProfile) -> str:
    return "\n".join(f"{item.what}: {item.reason}" for item in profile.unreadable)


def round_trips(profile: DeviceProfile) -> bool:
    return parse_profile(dump_profile(profile).encode(), "x") == profile


@pytest.fixture(scope="module")
def dumps(reference: Path) -> Path:
    folder = reference / "android" / "phone"
    if not folder.is_dir():
        pytest.skip("the phone dumps (../shared/reference/android/phone) are not here")
    return folder


@pytest.mark.parametrize("shell", installed_shells())
def test_galaxy_s9(dumps: Path, tmp_path: Path, shell: str) -> None:
    profile = galaxy_s9(dumps, tmp_path).probe(shell)
    assert (profile.name, profile.kind, profile.known_profile) == ("sm-g960u", "phone", "snapdragon-845")
    assert profile.soc == "Snapdragon SDM845"
    assert {"SDM845", "sdm845", "Qualcomm Technologies, Inc SDM845"} <= set(profile.soc_names)
    assert profile.model == "SM-G960U"
    assert (profile.os.name, profile.os.version, profile.os.kernel) == ("android", "8.0.0", None)
    assert profile.os.build == "samsung/starqltesq/starqltesq:8.0.0/R16NW/G960USQU1ARB7:user/release-keys"
    assert profile.abi == "arm64-v8a"
    assert (profile.cpu.vendor, profile.cpu.virtualised) == ("qualcomm", None)
    # cpu4's list of steps ends at 2649600: the top is only in cpuinfo_max_freq.
    assert [(c.name, c.cores, c.affinity_mask, c.max_frequency_khz, c.min_frequency_khz) for c in profile.clusters] == [
        ("big", [4, 5, 6, 7], "f0", 2803200, 825600),
        ("little", [0, 1, 2, 3], "0f", 1766400, 300000),
    ]
    assert [c.identity for c in profile.clusters] == ["0x51:0x802", "0x51:0x803"]
    assert profile.caches == known_profiles()["snapdragon-845"].caches
    assert profile.sources["caches"] == f"{CPU}/cpu*/cache"
    assert profile.governors == ["performance", "schedutil"]
    assert profile.gpu is not None
    assert (profile.gpu.name, profile.gpu.max_frequency_khz) == ("Adreno630v2", 710000)
    assert profile.limits.allowed_cores == "0-7"
    assert profile.defaults.cluster == "big"
    # The recorded list of features is the 32-bit one: it cannot tell, and no other phone's answer is put in its place.
    assert profile.features["neon"] is True
    assert (profile.features["fp16"], profile.features["dotprod"]) == (None, None)
    assert profile.observed is not None
    assert profile.observed["frequency_khz"]["0"] == 748800
    assert profile.observed["governor"]["7"] == "schedutil"
    assert profile.observed["screen_on"] is True
    assert "battery_percent" not in profile.observed
    told = missing(profile)
    for what in ("memory_bytes", "thermal_zones", "cpusets", "os.kernel", "observed.battery_percent", "fp16, dotprod"):
        assert what in told
    assert "/proc/meminfo: no such file or directory" in told
    assert "3372745183" not in dump_profile(profile)  # the SoC's serial number
    assert round_trips(profile)


def test_pixel_3(dumps: Path, tmp_path: Path) -> None:
    """No cpufreq, capacity and cache to read: what a core was designed for orders the clusters."""
    profile = pixel_3(dumps, tmp_path).probe()
    assert (profile.model, profile.os.version, profile.known_profile) == ("Pixel 3", "10", "snapdragon-845")
    assert profile.soc == "SDM845"
    assert [(c.name, c.cores, c.affinity_mask, c.max_frequency_khz) for c in profile.clusters] == [
        ("big", [4, 5, 6, 7], "f0", None),
        ("little", [0, 1, 2, 3], "0f", None),
    ]
    assert (profile.features["fp16"], profile.features["dotprod"]) == (True, False)
    assert profile.memory_bytes == 3631712 * 1024
    assert profile.caches == known_profiles()["snapdragon-845"].caches
    assert profile.sources["caches"].startswith("packaged profile snapdragon-845")
    assert "cache: no such file or directory" in missing(profile)
    assert [zone.type for zone in profile.thermal_zones] == [
        zone.type for zone in known_profiles()["snapdragon-845"].thermal_zones
    ]
    observed = profile.observed
    assert observed is not None
    assert observed["temperature_c"]["cpu0-gold-usr"] == 31.4
    assert (observed["battery_percent"], observed["battery_temperature_c"]) == (100.0, 21.5)
    assert (observed["charging"], observed["screen_on"]) == (True, True)
    assert "frequency range of cores 0-7" in missing(profile)
    assert round_trips(profile)


def test_mi_8_is_known_by_its_board(dumps: Path, tmp_path: Path) -> None:
    text = (dumps / "mi8_dipper_getprop_part.txt").read_text()
    profile = FolderPhone(plant_phone(tmp_path, {}), text).probe()
    assert (profile.soc, profile.abi, profile.known_profile) == ("sdm845", "arm64-v8a", "snapdragon-845")
    assert profile.model is None
    assert profile.clusters == []
    assert profile.caches == []  # without cores nobody knows whose caches they would be
    assert "model: neither getprop nor a file says it" in missing(profile)


def test_the_moment_is_not_in_the_fingerprint(tmp_path: Path) -> None:
    before = FolderPhone(plant_phone(tmp_path / "a", three_clusters()), PROPERTIES, BOTH).probe()
    files = {
        "/proc/loadavg": "0.01 0.01 0.01 1/1 1",
        "/proc/self/status": "Cpus_allowed_list:\t0-3",
        "/sys/class/thermal/thermal_zone0/temp": "80000",
        f"{CPU}/cpu7/cpufreq/scaling_cur_freq": "2841600",
    }
    battery = PIXEL_3_BATTERY.replace("level: 100", "level: 7").replace("true", "false").replace("215", "399")
    after = FolderPhone(
        plant_phone(tmp_path / "b", three_clusters() | files),
        PROPERTIES,
        {"battery": battery, "power": AWAKE.replace("=ON", "=OFF")},
    ).probe()
    assert before.observed is not None
    assert after.observed is not None
    assert (after.observed["battery_percent"], after.observed["battery_temperature_c"]) == (7.0, 39.9)
    assert (after.observed["charging"], after.observed["screen_on"]) == (False, False)
    assert before.observed["temperature_c"] != after.observed["temperature_c"]
    assert fingerprint(before) == fingerprint(after)


def test_three_clusters(tmp_path: Path) -> None:
    profile = FolderPhone(plant_phone(tmp_path, three_clusters()), PROPERTIES, BOTH).probe()
    assert [(c.name, c.affinity_mask) for c in profile.clusters] == [("prime", "80"), ("big", "70"), ("little", "0f")]
    assert profile.cpusets == {"top-app": "0-7", "background": "0-3"}
    assert profile.soc == "Snapdragon SM8150"
    assert profile.known_profile is None
    assert profile.defaults.cluster == "prime"
    assert summary(profile).startswith("Phone X, Snapdragon SM8150, 1 Cortex-A76 core to 2.84 GHz")
    assert profile.observed is not None
    assert profile.observed["temperature_c"] == {"cpu-1-0-usr": 41.3, "battery": 31.0}
    assert profile.observed["steal_ms"] == 800


def test_the_default_cluster_is_one_that_the_shell_may_use(tmp_path: Path) -> None:
    files = three_clusters() | {"/proc/self/status": "Cpus_allowed_list:\t0-6", "/proc/self/cpuset": "/foreground"}
    profile = FolderPhone(plant_phone(tmp_path, files), PROPERTIES, BOTH).probe()
    assert profile.limits.allowed_cores == "0-6"
    assert profile.defaults.cluster == "big"
    assert "the shell may not use all of prime" in profile.sources["defaults"]
    assert "/foreground" in profile.sources["limits"]


def of_kinds(*kinds: tuple[int, str, int | None]) -> dict[str, str]:
    """Cores of several kinds: how many, part number, maximum clock."""
    cores = [(part, clock) for count, part, clock in kinds for _ in range(count)]
    files = {
        "/proc/cpuinfo": "\n".join(arm_core(number, part) for number, (part, _) in enumerate(cores)),
        f"{CPU}/present": f"0-{len(cores) - 1}",
        f"{CPU}/online": f"0-{len(cores) - 1}",
    }
    for number, (_, clock) in enumerate(cores):
        if clock is not None:
            files[f"{CPU}/cpu{number}/cpufreq/cpuinfo_max_freq"] = str(clock)
    return files


def test_four_clusters(tmp_path: Path) -> None:
    """One Cortex-X4, two kinds of clocks of Cortex-A720, two Cortex-A520; numbered in the makers' strange order."""
    files = of_kinds((2, "0xd80", 2265600), (3, "0xd81", 3148800), (2, "0xd81", 2956800), (1, "0xd82", 3302400))
    text = PROPERTIES + "[ro.soc.model]: [SM8650]\n[ro.board.platform]: [pineapple]\n[ro.hardware.egl]: [adreno]\n"
    profile = FolderPhone(plant_phone(tmp_path, files), text, BOTH).probe()
    assert [(c.name, c.cores, c.affinity_mask) for c in profile.clusters] == [
        ("prime", [7], "80"),
        ("big", [2, 3, 4], "1c"),
        ("mid", [5, 6], "60"),
        ("little", [0, 1], "03"),
    ]
    assert profile.soc == "SM8650"
    assert profile.soc_names == ["SM8650", "pineapple"]
    assert profile.gpu is not None
    assert profile.gpu.name == "adreno"
    assert "gpu model" in missing(profile)


def test_one_cluster(tmp_path: Path) -> None:
    profile = FolderPhone(plant_phone(tmp_path, of_kinds((4, "0xd03", 1401600))), PROPERTIES).probe()
    assert [(c.name, c.affinity_mask, c.microarchitecture) for c in profile.clusters] == [("all", "0f", "Cortex-A53")]


def test_ten_cores_of_three_kinds_have_a_longer_mask(tmp_path: Path) -> None:
    files = of_kinds((4, "0xd03", 1391000), (4, "0xd03", 1846000), (2, "0xd08", 2119000))
    profile = FolderPhone(plant_phone(tmp_path, files), PROPERTIES).probe()
    assert [c.affinity_mask for c in profile.clusters] == ["0300", "f0", "0f"]


def test_clocks_that_cannot_be_read(tmp_path: Path) -> None:
    """The big cores have the higher part number here, and the lower one in a Snapdragon 845."""
    files = of_kinds((4, "0xd05", None), (3, "0xd41", None), (1, "0xd44", None))
    profile = FolderPhone(plant_phone(tmp_path, files), PROPERTIES).probe()
    assert [c.microarchitecture for c in profile.clusters] == ["Cortex-X1", "Cortex-A78", "Cortex-A55"]
    assert all(c.max_frequency_khz is None for c in profile.clusters)
    assert "frequency range of cores 0-7" in missing(profile)
    assert profile.governors == []


def test_cores_that_are_off_belong_to_their_policy(tmp_path: Path) -> None:
    files = {
        path: text for path, text in three_clusters().items() if not path.startswith((f"{CPU}/cpu5/", f"{CPU}/cpu6/"))
    }
    files |= {f"{CPU}/online": "0-4,7"}
    files["/proc/cpuinfo"] = "\n\n".join(
        part
        for part in files["/proc/cpuinfo"].split("\n\n")
        if not part.startswith(("processor\t: 5", "processor\t: 6"))
    )
    profile = FolderPhone(plant_phone(tmp_path, files), PROPERTIES).probe()
    assert profile.cluster("big").cores == [4, 5, 6]
    assert profile.observed is not None
    assert set(profile.observed["frequency_khz"]) == {"0", "1", "2", "3", "4", "7"}


def test_a_32_bit_phone(tmp_path: Path) -> None:
    core = (
        "processor\t: {}\nmodel name\t: ARMv7 Processor rev 5 (v7l)\nFeatures\t: half thumb neon vfpv4\n"
        "CPU implementer\t: 0x41\nCPU architecture: 7\nCPU part\t: 0xc07\n"
    )
    files = {"/proc/cpuinfo": "\n".join(core.format(number) for number in range(4)), f"{CPU}/present": "0-3"}
    text = "[ro.product.cpu.abi]: [armeabi-v7a]\n[ro.board.platform]: [mt6580]\n"
    profile = FolderPhone(plant_phone(tmp_path, files), text).probe()
    assert (profile.abi, profile.soc, profile.clusters[0].microarchitecture) == ("armeabi-v7a", "mt6580", "Cortex-A7")
    assert profile.features["neon"] is True
    assert profile.features["fp16"] is None


def test_an_emulator_says_so(tmp_path: Path) -> None:
    files = of_kinds((4, "0xd03", None))
    profile = FolderPhone(plant_phone(tmp_path, files), PROPERTIES + "[ro.boot.qemu]: [1]\n").probe()
    assert (profile.cpu.virtualised, profile.cpu.hypervisor) == (True, "qemu")


def test_mali(tmp_path: Path) -> None:
    files = of_kinds((1, "0xd44", 2800000)) | {
        "/sys/class/misc/mali0/device/gpuinfo": "Mali-G78 20 cores r0p1 0x90210000"
    }
    profile = FolderPhone(plant_phone(tmp_path, files), PROPERTIES + "[ro.hardware.egl]: [mali]\n").probe()
    assert profile.gpu is not None
    assert profile.gpu.name == "Mali-G78 MP20"


def test_battery_from_the_kernel_where_the_service_is_closed(tmp_path: Path) -> None:
    power = "/sys/class/power_supply"
    files = three_clusters() | {
        f"{power}/battery/type": "Battery",
        f"{power}/battery/capacity": "64",
        f"{power}/battery/temp": "287",
        f"{power}/usb/type": "USB",
        f"{power}/usb/online": "1",
        f"{power}/dc/type": "Wireless",
        f"{power}/dc/online": "0",
    }
    denied = CommandResult(("dumpsys",), 255, b"", b"Permission Denial: can't dump Battery\n", 1.0)
    profile = FolderPhone(plant_phone(tmp_path, files), PROPERTIES, {"battery": denied}).probe()
    observed = profile.observed
    assert observed is not None
    assert (observed["battery_percent"], observed["battery_temperature_c"], observed["charging"]) == (64.0, 28.7, True)
    assert "observed.screen_on: dumpsys power: Can't find service: power" in missing(profile)


def test_services_that_hang_or_lie(tmp_path: Path) -> None:
    answers = {"battery": CommandTimeoutError("slow"), "power": "Permission Denial: can't dump PowerManager"}
    profile = FolderPhone(plant_phone(tmp_path, {}), PROPERTIES, answers).probe()
    assert "observed.charging: dumpsys battery did not end within 15 s" in missing(profile)
    assert "observed.screen_on: dumpsys power: Permission Denial" in missing(profile)
    frozen = {"battery": "Current Battery Service state:\n  (UPDATES STOPPED -- use 'reset' to restart)\n  level: 5\n"}
    assert "set by hand" in missing(FolderPhone(tmp_path, PROPERTIES, frozen).probe())


def test_a_phone_that_goes_away_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConnectionLostError):
        FolderPhone(plant_phone(tmp_path, {}), PROPERTIES, {"battery": ConnectionLostError("gone")}).probe()


def test_nothing_but_a_shell(tmp_path: Path) -> None:
    profile = FolderPhone(tmp_path).probe()
    assert (profile.kind, profile.name, profile.clusters, profile.soc) == ("phone", "device", [], None)
    told = missing(profile)
    for what in ("soc", "model", "abi", "os.version", "clusters", "cpusets", "thermal_zones", "limits.allowed_cores"):
        assert f"{what}:" in told
    assert round_trips(profile)


NASTY = st.binary(max_size=60) | st.sampled_from(
    [
        *(b"\x00" * 50, b"9" * 5000, b"-1", b"0x7fffffff", b"1e9", b"nan", b"\xff\xfe", b"a\nb\nc"),
        *(b"\x1b[31mred", b"4-2", b"x" * 70_000, b"0-999999999", b"Cpus_allowed_list:\t9-1"),
    ]
)


@settings(max_examples=15)
@given(
    st.dictionaries(st.sampled_from(sorted(three_clusters())), NASTY, max_size=12),
    st.text(max_size=80),
    st.text(max_size=80),
)
def test_hostile_content_never_breaks_the_probe(
    tmp_path_factory: pytest.TempPathFactory, damage: dict[str, bytes], getprop: str, dump: str
) -> None:
    root = plant_phone(tmp_path_factory.mktemp("phone"), three_clusters())
    for path, data in damage.items():
        (root / path.lstrip("/")).write_bytes(data)
    profile = FolderPhone(root, PROPERTIES + getprop, {"battery": PIXEL_3_BATTERY + dump, "power": dump}).probe()
    assert round_trips(profile)
    assert "\x1b" not in dump_profile(profile)
    assert fingerprint(profile)


def test_the_command_line_shows_and_writes_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    phone = FolderPhone(plant_phone(tmp_path / "phone", three_clusters()), PROPERTIES, BOTH)
    opened = device.Device(parse_device("adb:0123"), phone)
    monkeypatch.setattr(device, "open_device", lambda text: opened)
    target = tmp_path / "phone.yaml"
    result = CliRunner().invoke(app, ["profile", "--device", "adb:0123", "-o", str(target)])
    assert result.exit_code == 0, result.output
    assert load_profile(target) == opened.profile
    shown = CliRunner().invoke(app, ["profile", "--device", "adb:0123"]).stdout
    for line in (
        "kind: phone",
        "model: Phone X",
        "battery_percent: 100.0",
        "battery_temperature_c: 21.5",
        "charging: true",
    ):
        assert line in shown
    assert "screen_on: true" in shown
    assert parse_profile(shown.encode(), "x") == opened.profile
