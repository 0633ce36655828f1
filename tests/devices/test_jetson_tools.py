"""Tools and files of Jetsons: what the recordings say, forms of our own, and damage."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.devices.jetson_tools import (
    ClockRange,
    parse_cuda_version,
    parse_jetson_clocks,
    parse_l4t,
    parse_nvidia_smi,
    parse_packages,
    parse_power_mode,
    parse_tensorrt_header,
    parse_trtexec_banner,
)

UNLOCKED = """SOC family:tegra234  Machine:NVIDIA Some Jetson
Online CPUs: 0-1
cpu0: Online=1 Governor=schedutil MinFreq=729600 MaxFreq=1510400 CurrentFreq=960000 IdleStates: WFI=1 c7=1
cpu1: Online=0 Governor=schedutil MinFreq=1 MaxFreq=2 CurrentFreq=1
GPU MinFreq=306000000 MaxFreq=918000000 CurrentFreq=306000000
Active GPU TPCs: 4
EMC MinFreq=204000000 MaxFreq=3199000000 CurrentFreq=665600000
NV Power Mode: 25W
"""


@pytest.fixture(scope="module")
def samples(reference: Path) -> dict[str, list[str]]:
    """The recorded outputs by their headings."""
    path = reference / "tensorrt" / "jetson_device_samples.txt"
    if not path.is_file():
        pytest.skip("the samples of Jetson tools (../shared/reference/tensorrt) are not here")
    found: dict[str, list[str]] = {}
    for block in re.split(r"^### ", path.read_text(), flags=re.M)[1:]:
        heading, _, body = block.partition("\n")
        found[heading] = body.splitlines()
    return found


def recorded(samples: dict[str, list[str]], start: str) -> str:
    return "\n".join(next(lines for heading, lines in samples.items() if heading.startswith(start)))


def test_recorded_releases(samples: dict[str, list[str]]) -> None:
    lines = recorded(samples, "/etc/nv_tegra_release").splitlines()
    assert [parse_l4t(line) for line in lines] == ["32.5", "32.6.1", "32.7.4", "36.4.7"]


def test_recorded_power_modes(samples: dict[str, list[str]]) -> None:
    assert parse_power_mode(recorded(samples, "nvpmodel -q   ")) == "MAXN"
    assert parse_power_mode(recorded(samples, "nvpmodel -q --verbose")) == "MODE_15W_6CORE"


def test_recorded_clocks(samples: dict[str, list[str]]) -> None:
    nano = parse_jetson_clocks(recorded(samples, "sudo jetson_clocks --show: Nano"))
    assert nano is not None
    assert nano.machine == "NVIDIA Jetson Nano Developer Kit"
    assert nano.cpus == {0: ClockRange(921600, 921600, 921600)}
    assert nano.gpu == ClockRange(614400, 614400, 614400)
    assert nano.emc == ClockRange(204000, 1600000, 1600000, override=True)
    assert nano.power_mode == "5W"
    assert (nano.cpus[0].locked, nano.gpu.locked, nano.emc.locked) == (True, True, True)

    orin = parse_jetson_clocks(recorded(samples, "sudo jetson_clocks --show: Orin Nano"))
    assert orin is not None
    assert orin.gpu is not None
    assert orin.emc is not None
    assert (orin.cpus[0].locked, orin.gpu.locked, orin.emc.locked) == (False, False, False)
    assert orin.power_mode == "25W"

    locked = parse_jetson_clocks(recorded(samples, "sudo jetson_clocks --show: locked"))
    assert locked is not None
    assert locked.gpu is not None
    assert locked.emc is not None
    assert (locked.cpus, locked.gpu.locked, locked.emc.locked) == ({}, True, True)
    assert locked.power_mode == "MAXN_SUPER"

    assert parse_jetson_clocks(recorded(samples, "jetson_clocks without sudo")) is None


def test_recorded_trtexec_banners(reference: Path) -> None:
    folder = reference / "tensorrt"
    expected = {
        "trtexec_8.0.1_nano_excerpt.log": "8.0.1",
        "trtexec_8.5.2_xavier_profile_excerpt.log": "8.5.2",
        "trtexec_10.16.1_result_01.log": "10.16.1",
    }
    for name, version in expected.items():
        if not (folder / name).is_file():
            pytest.skip("the logs of trtexec (../shared/reference/tensorrt) are not here")
        assert parse_trtexec_banner((folder / name).read_text()) == version


def test_clocks_of_our_own() -> None:
    shown = parse_jetson_clocks(UNLOCKED)
    assert shown is not None
    assert shown.cpus == {0: ClockRange(729600, 1510400, 960000)}  # the other one is switched off
    assert shown.emc == ClockRange(204000, 3199000, 665600)
    old = parse_jetson_clocks("cpu3: Gonvernor=interactive MinFreq=17 MaxFreq=17 CurrentFreq=17")
    assert old is not None
    assert old.cpus[3].locked
    assert not ClockRange(1, 3, 2, override=True).locked  # held below its highest


@pytest.mark.parametrize(
    ("text", "l4t"),
    [
        ("# R28 (release), REVISION: 2.1, GCID", "28.2.1"),
        ("# R34 (release), REVISION: 1.0, GCID", "34.1.0"),
        ("# R39 (release), REVISION: 2, GCID", "39.2"),
        ("# Rx (release), REVISION: 2", None),
        ("", None),
    ],
)
def test_releases(text: str, l4t: str | None) -> None:
    assert parse_l4t(text) == l4t


def test_power_modes() -> None:
    assert parse_power_mode("NV Fan Mode:quiet\nNV Power Mode: MODE_30W\n2\n") == "MODE_30W"
    assert parse_power_mode("NVPM ERROR: Error opening /var/lib/nvpmodel/status: 13") is None
    assert parse_power_mode("NV Power Mode:\n0") is None


def test_packages_are_those_that_are_installed() -> None:
    text = (
        "ii  libnvinfer8 8.5.2-1+cuda11.4\nun  libnvinfer-bin \nrc  libnvinfer7 7.1.3-1\n"
        "ii  nvidia-jetpack 6.2.1+b38\nii  epoch 1:2.3~rc1-4\nii  none 1:\nii  none +\n"
        "dpkg-query: no packages found matching x\n"
    )
    assert parse_packages(text) == {"libnvinfer8": "8.5.2", "nvidia-jetpack": "6.2.1", "epoch": "2.3"}


def test_headers() -> None:
    old = "#define NV_TENSORRT_MAJOR 8 //!< x\n#define NV_TENSORRT_MINOR 2\n#define NV_TENSORRT_PATCH 1\n"
    assert parse_tensorrt_header(old) == "8.2.1"
    assert parse_tensorrt_header(old + "#define NV_TENSORRT_BUILD 9\n#define NV_TENSORRT_SONAME_MAJOR 7\n") == "8.2.1.9"
    new = "#define TRT_{}_ENTERPRISE {}\n#define NV_TENSORRT_{} TRT_{}_ENTERPRISE\n"
    parts = zip(("MAJOR", "MINOR", "PATCH", "BUILD"), (10, 13, 3, 9), strict=True)
    assert parse_tensorrt_header("".join(new.format(name, value, name, name) for name, value in parts)) == "10.13.3.9"
    assert parse_tensorrt_header("#define NV_TENSORRT_MAJOR 8") is None


def test_versions() -> None:
    assert parse_trtexec_banner("&&&& RUNNING TensorRT.trtexec [TensorRT v8205] # trtexec") == "8.2.5"
    assert parse_trtexec_banner("&&&& RUNNING TensorRT.trtexec [TensorRT v100300] [b30] # trtexec") == "10.3.0"
    assert parse_trtexec_banner("&&&& RUNNING TensorRT.trtexec # trtexec") is None  # 7.x does not say it
    assert parse_cuda_version('{"cuda": {"name": "CUDA SDK", "version": "12.6.11"}}', None) == "12.6.11"
    assert parse_cuda_version(None, "CUDA Version 10.2.300") == "10.2.300"
    assert parse_cuda_version('{"cuda": 3}', "CUDA Version 10.2.300") == "10.2.300"
    for damaged in ("{", "[" * 100_000, '{"cuda": {"version": "x"}}', "null"):
        assert parse_cuda_version(damaged, None) is None
    assert parse_nvidia_smi("NVIDIA A100, 535.54.03, 8.0\nNVIDIA A30, 1.1, 8.0") == ("NVIDIA A100", "535.54.03", "8.0")
    assert parse_nvidia_smi("Orin (nvgpu), 540.4.0, [N/A]") == ("Orin (nvgpu)", "540.4.0", None)
    assert parse_nvidia_smi("NVIDIA-SMI has failed") == (None, None, None)


@given(
    st.text(max_size=200), st.sampled_from([UNLOCKED, "R36 (release), REVISION: 4", "ii  a 1\n", "[TensorRT v8502]"])
)
def test_any_text_is_an_answer_or_none(text: str, real: str) -> None:
    for content in (text, real + text, text + real, real[: len(text)] + text):
        parse_l4t(content)
        parse_power_mode(content)
        parse_packages(content)
        parse_tensorrt_header(content)
        parse_trtexec_banner(content)
        parse_cuda_version(content, content)
        parse_nvidia_smi(content)
        shown = parse_jetson_clocks(content)
        assert shown is None or len(shown.cpus) < 100


@given(st.data())
def test_damaged_clocks(data: st.DataObject) -> None:
    letters = list(UNLOCKED)
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(letters) - 1))
        letters[place] = data.draw(st.sampled_from(["", " ", "=", "\n", "9", "٣", ":", "cpu", "\0"]))
    parse_jetson_clocks("".join(letters))
