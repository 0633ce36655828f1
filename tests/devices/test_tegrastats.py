"""Lines of tegrastats: every dialect of the recordings, forms of our own, and damage."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dfmobile.devices.jetson_facts import JETPACKS, MODULES, input_rails, jetpack_of, module_part
from dfmobile.devices.tegrastats import CoreLoad, RailPower, TegrastatsSample, parse_tegrastats_line
from dfmobile.errors import FileFormatError

ORIN_NANO = (
    "09-19-2026 13:33:02 RAM 2850/7486MB (lfb 33x4MB) CPU [2%@729,off,0%@1344] EMC_FREQ 5%@665 GR3D_FREQ 97%@[918,0] "
    "NVDEC0 off APE 200 cpu@45.812C/47.1C cv0@-256C/-256C gpu@46.843C/46.843C soc1@0C "
    "VDD_IN 3582mW/3500mW/3900mW VDD_SOC 1127mW/1127mW/1127mW"
)


def recorded(reference: Path) -> list[tuple[str, str]]:
    """The recorded lines, each with the heading above it."""
    path = reference / "tensorrt" / "jetson_device_samples.txt"
    if not path.is_file():
        pytest.skip("the samples of Jetson tools (../shared/reference/tensorrt) are not here")
    heading, found = "", []
    for line in path.read_text().splitlines():
        heading = line if line.startswith("### ") else heading
        if heading.startswith("### tegrastats") and not line.startswith("#"):
            found.append((heading, line))
    return found


def test_the_four_recorded_dialects(reference: Path) -> None:
    tx2, xavier, orin, nano = (parse_tegrastats_line(line) for _, line in recorded(reference))

    assert (tx2.ram_used_mb, tx2.ram_total_mb, tx2.swap_used_mb, tx2.swap_total_mb) == (1404, 7860, 0, 3930)
    assert [core.mhz for core in tx2.cores if core] == [345, 960, 960, 345, 345, 345]
    assert (tx2.gpu_load_percent, tx2.gpu_mhz, tx2.emc_load_percent, tx2.emc_mhz) == (0, (), 0, None)
    assert tx2.temperature_c["MCPU"] == 35.5
    assert tx2.rails["VDD_IN"] == RailPower(1649, 1649)
    assert list(tx2.rails) == ["VDD_SYS_GPU", "VDD_SYS_SOC", "VDD_4V0_WIFI", "VDD_IN", "VDD_SYS_CPU", "VDD_SYS_DDR"]
    assert input_rails(tx2.rails) == ("VDD_IN",)

    assert len(xavier.cores) == 8
    assert {name: rail.now_mw for name, rail in xavier.rails.items()} == {
        "GPU": 463, "CPU": 618, "SOC": 2936, "CV": 0, "VDDRQ": 309, "SYS5V": 3306,
    }  # fmt: skip
    assert xavier.temperature_c["thermal"] == 30.8
    assert len(input_rails(xavier.rails)) == 6

    assert orin.time_text == "10-05-2026 21:03:35"
    assert (orin.emc_load_percent, orin.emc_mhz, orin.gpu_mhz, orin.gpu_load_percent) == (None, None, (), 0)
    assert len(orin.cores) == 12
    assert orin.cores[1] == CoreLoad(25, 729)
    assert orin.rails["VIN_SYS_5V0"] == RailPower(4543, 4543)
    assert input_rails(orin.rails) == ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0")

    assert (nano.gpu_load_percent, nano.gpu_mhz, nano.emc_load_percent, nano.emc_mhz) == (0, (305,), 5, 665)
    assert nano.swap_total_mb is None
    assert nano.rails["VDD_CPU_GPU_CV"] == RailPower(523, 523, 523)
    assert nano.temperature_c["tj"] == 46.843


def test_forms_of_our_own() -> None:
    sample = parse_tegrastats_line(ORIN_NANO)
    assert sample.cores == (CoreLoad(2, 729), None, CoreLoad(0, 1344))
    assert (sample.gpu_load_percent, sample.gpu_mhz) == (97, (918, 0))
    assert sample.temperature_c == {"cpu": 45.812, "gpu": 46.843}  # without power: left out
    assert sample.rails == {"VDD_IN": RailPower(3582, 3500, 3900), "VDD_SOC": RailPower(1127, 1127, 1127)}


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "RAM 1/2MB cpu [17%,off,29%]@408 EMC 1%@1600 APE 25 GR3D 39%@76",
            TegrastatsSample(
                ram_used_mb=1, ram_total_mb=2, cores=(CoreLoad(17, 408), None, CoreLoad(29, 408)),
                gpu_load_percent=39, gpu_mhz=(76,), emc_load_percent=1, emc_mhz=1600,
            ),
        ),
        (
            "CPU [] GR3D_FREQ 99%@917 GR3D2_FREQ 99%@306 VDD_IN 5mW/6mW",
            TegrastatsSample(gpu_load_percent=99, gpu_mhz=(917, 306), rails={"VDD_IN": RailPower(5, 6)}),
        ),
        ("RAM 3/4MB NEW_THING 3/4furlong x@y zz", TegrastatsSample(ram_used_mb=3, ram_total_mb=4)),
        ("RAM 3/4MB CPU [101%@5,x]", TegrastatsSample(ram_used_mb=3, ram_total_mb=4, cores=(None, None))),
        ("RAM 3/4MB CPU [1%@5", TegrastatsSample(ram_used_mb=3, ram_total_mb=4)),
        ("RAM 3/4MB GR3D_FREQ @[1,2,3]", TegrastatsSample(ram_used_mb=3, ram_total_mb=4, gpu_mhz=(1, 2, 3))),
    ],
)  # fmt: skip
def test_odd_lines(line: str, expected: TegrastatsSample) -> None:
    assert parse_tegrastats_line(line) == expected


@pytest.mark.parametrize("line", ["", "tegrastats: not found", "RAM x/yMB", "RAM 99999999999/1MB"])
def test_what_is_no_line(line: str) -> None:
    with pytest.raises(FileFormatError, match="not a line of tegrastats"):
        parse_tegrastats_line(line)


@given(st.text(max_size=300))
@example("RAM 1/1MB " + "CPU [" * 3000)
@example("A 1/1" * 20_000)
def test_any_text_is_a_sample_or_an_error(text: str) -> None:
    for line in (text, ORIN_NANO + text, text + ORIN_NANO):
        try:
            sample = parse_tegrastats_line(line)
        except FileFormatError:
            continue
        assert all(-100 < degrees < 1000 for degrees in sample.temperature_c.values())


@given(st.data())
def test_any_damage_is_a_sample_or_an_error(data: st.DataObject) -> None:
    letters = list(ORIN_NANO)
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(letters) - 1))
        letters[place] = data.draw(st.sampled_from(["", " ", "@", "%", "/", "9", "[", "]", "C", "-", "\0", "²", "٣"]))
    try:
        sample = parse_tegrastats_line("".join(letters))
    except FileFormatError:
        return
    assert len(sample.cores) < 20


# --- what is known of boards ----------------------------------------------------------------------------------------


def test_jetpacks() -> None:
    assert len({item.l4t for item in JETPACKS}) == len(JETPACKS)
    expected = {
        "32.5": ("4.5", "7.1.3"),
        "32.5.0": ("4.5", "7.1.3"),
        "32.6.1": ("4.6", "8.0.1"),
        "32.7.4": ("4.6.4", "8.2.1"),
        "35.2.1": ("5.1", "8.5.2"),
        "36.3.0": ("6.0", "8.6.2"),
        "36.4.7": ("6.2.1", "10.3"),
        "39.2.0": ("7.2", "10.16"),
    }
    for l4t, (name, tensorrt) in expected.items():
        found = jetpack_of(l4t)
        assert found is not None
        assert (found.name, found.tensorrt) == (name, tensorrt)
    assert jetpack_of("36.4.999") is None
    assert jetpack_of(None) is None


def test_modules_and_rails() -> None:
    assert module_part(["nvidia,p3768-0000+p3767-0005-super", "nvidia,tegra234"]) == "p3767-0005"
    assert module_part(["nvidia,p2597-0000+p3310-1000", "nvidia,quill"]) == "p3310-1000"
    assert module_part(["nvidia,tegra234", "p9999-0000"]) is None
    assert all(name.startswith("Jetson ") for name in MODULES.values())
    assert input_rails(["VDD_SOC"]) == ()
    assert input_rails(["POM_5V_GPU", "POM_5V_IN"]) == ("POM_5V_IN",)
