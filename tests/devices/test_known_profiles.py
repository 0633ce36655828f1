"""The packaged profiles: sound in themselves, and equal to dumps of real devices where those are at hand."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dfmobile.devices.jetson_facts import GPUS, input_rails
from dfmobile.devices.probe import profile_from_files
from dfmobile.devices.profile import DeviceProfile, OperatingSystem, known_profiles, match_profile, summary
from dfmobile.devices.system_files import RecordedFiles
from dfmobile.devices.tegrastats import parse_tegrastats_line

PROFILES = known_profiles()


JETSONS = ["jetson-tx2", "jetson-nano", "jetson-xavier-nx", "jetson-agx-orin", "jetson-orin-nano"]


def test_the_profiles_that_are_packaged() -> None:
    assert {"snapdragon-845", "generic-x86-64", *JETSONS} <= set(PROFILES)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES.keys())
def test_every_profile_says_where_it_is_from(profile: DeviceProfile) -> None:
    stated = {
        name for name in ("clusters", "caches", "features", "thermal_zones", "gpu", "jetson") if getattr(profile, name)
    }
    assert stated <= set(profile.sources)
    assert summary(profile)
    assert not any(text.startswith("/") for text in profile.sources.values())


@pytest.mark.parametrize("name", JETSONS)
def test_what_no_dump_confirms_says_so(name: str) -> None:
    profile = PROFILES[name]
    assert "not verified on hardware" in profile.sources["clusters"].lower()
    assert "from data sheets" in profile.sources["clusters"].lower()
    assert profile.jetson is not None
    assert profile.jetson.input_rails == list(input_rails([rail.name for rail in profile.jetson.rails]))
    assert profile.gpu is not None
    assert (profile.gpu.name, profile.gpu.compute_capability) in GPUS.values()


def test_the_rails_are_those_of_recorded_lines(reference: Path) -> None:
    path = reference / "tensorrt" / "jetson_device_samples.txt"
    if not path.is_file():
        pytest.skip("the samples of Jetson tools are not here")
    lines = path.read_text().splitlines()
    for name, heading in (("jetson-tx2", "tegrastats TX2"), ("jetson-orin-nano", "tegrastats Orin Nano")):
        place = next(number for number, line in enumerate(lines) if line.startswith(f"### {heading}"))
        jetson = PROFILES[name].jetson
        assert jetson is not None
        assert {rail.name for rail in jetson.rails} <= set(parse_tegrastats_line(lines[place + 1]).rails)


def test_names_that_match_belong_to_one_profile() -> None:
    names = [name.casefold() for profile in PROFILES.values() for name in profile.soc_names]
    assert len(names) == len(set(names))


def test_matching() -> None:
    def device(kind: str, **fields: object) -> DeviceProfile:
        return DeviceProfile.model_validate({"name": "x", "kind": kind, **fields})

    def matched(profile: DeviceProfile) -> str | None:
        found = match_profile(profile)
        return found.name if found else None

    assert matched(device("phone", soc_names=["sdm845"])) == "snapdragon-845"
    assert matched(device("phone", soc_names=["SDM670"])) is None
    assert matched(device("host", soc_names=["sdm845"])) is None
    assert matched(device("host", abi="x86_64")) == "generic-x86-64"
    assert matched(device("host", abi="arm64-v8a")) is None
    assert matched(device("host")) is None
    assert matched(device("jetson", model="NVIDIA Jetson Orin Nano Developer Kit")) == "jetson-orin-nano"
    for profile in PROFILES.values():
        assert matched(profile) == profile.name


@pytest.fixture(scope="module")
def galaxy_s9(reference: Path) -> DeviceProfile:
    """Probe of the recorded Galaxy S9 (US)."""
    folder = reference / "android" / "phone"
    if not folder.is_dir():
        pytest.skip("the phone dumps (../shared/reference/android/phone) are not here")
    text = (folder / "galaxy-s9-us_sdm845_sysfs.txt").read_text()
    blocks = re.split(r"^== (/\S+)\n", text, flags=re.M)
    files = dict(zip(blocks[1::2], blocks[2::2], strict=True))
    files["/proc/cpuinfo"] = (folder / "galaxy-s9-us_proc_cpuinfo.txt").read_text()
    files["/system/build.prop"] = ""
    return profile_from_files(RecordedFiles(files))


def test_snapdragon_845_equals_the_dump_of_a_galaxy_s9(galaxy_s9: DeviceProfile) -> None:
    known = PROFILES["snapdragon-845"]
    fields = ("cores", "max_frequency_khz", "min_frequency_khz", "identity", "affinity_mask", "threads_per_core")
    for cluster, probed in zip(known.clusters, galaxy_s9.clusters, strict=True):
        assert [getattr(cluster, field) for field in fields] == [getattr(probed, field) for field in fields]
    assert known.caches == galaxy_s9.caches
    assert known.governors == galaxy_s9.governors
    assert known.gpu is not None
    assert galaxy_s9.gpu is not None
    assert known.gpu.max_frequency_khz == galaxy_s9.gpu.max_frequency_khz
    assert galaxy_s9.gpu.name.startswith("Adreno630")
    assert galaxy_s9.known_profile == "snapdragon-845"
    assert galaxy_s9.soc == "Snapdragon SDM845"
    # The recorded list is the 32-bit one, which cannot show half precision.
    assert galaxy_s9.features["fp16"] is None
    assert galaxy_s9.features["neon"] is True


def test_the_top_frequency_is_not_the_last_step_listed(galaxy_s9: DeviceProfile, reference: Path) -> None:
    text = (reference / "android" / "phone" / "galaxy-s9-us_sdm845_sysfs.txt").read_text()
    steps = re.search(r"^== /sys/devices/system/cpu/cpu4/cpufreq/scaling_available_frequencies\n(.*)$", text, re.M)
    assert steps is not None
    assert max(int(step) for step in steps[1].split()) == 2649600
    assert (
        galaxy_s9.clusters[0].max_frequency_khz == PROFILES["snapdragon-845"].clusters[0].max_frequency_khz == 2803200
    )


def test_snapdragon_845_features_are_those_of_a_pixel_3(reference: Path) -> None:
    path = reference / "android" / "phone" / "pixel3_blueline_cpuinfo_getprop_battery.txt"
    if not path.is_file():
        pytest.skip("the dump of a Pixel 3 is not here")
    found = re.search(r"^Features : ([a-z0-9 ]+?) ;", path.read_text(), re.M)
    assert found is not None
    text = f"processor\t: 0\nFeatures\t: {found[1]}\nCPU implementer\t: 0x51\nCPU architecture: 8\nCPU part\t: 0x802\n"
    probed = profile_from_files(RecordedFiles({"/proc/cpuinfo": text})).features
    known = PROFILES["snapdragon-845"].features
    assert known == {name: probed[name] for name in known}
    assert (known["fp16"], known["dotprod"]) == (True, False)


def test_snapdragon_845_thermal_zones(reference: Path) -> None:
    path = reference / "android" / "phone" / "sdm845_thermal_zones.txt"
    if not path.is_file():
        pytest.skip("the list of thermal zones is not here")
    listed = " ".join(path.read_text().splitlines()[:3]).split()
    assert [zone.type for zone in PROFILES["snapdragon-845"].thermal_zones] == listed


def test_orin_nano_thermal_zones(reference: Path) -> None:
    path = reference / "tensorrt" / "jetson_device_samples.txt"
    if not path.is_file():
        pytest.skip("the samples of Jetson tools are not here")
    line = next(line for line in path.read_text().splitlines() if line.startswith("### thermal zone types Orin Nano"))
    listed = line.partition("): ")[2].replace("0..2", "").replace("(0.0, unpowered)", "").split()
    families = [re.sub(r"\d", "", zone.type) for zone in PROFILES["jetson-orin-nano"].thermal_zones]
    assert list(dict.fromkeys(families)) == listed


def test_operating_system_defaults_are_unknown() -> None:
    assert PROFILES["generic-x86-64"].os == OperatingSystem()
