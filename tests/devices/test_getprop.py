"""Properties of a phone are read as they are, and nothing in them can break the reader."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.devices.getprop import GetpropLimits, parse_getprop
from dfmobile.errors import DeviceError


def test_names_and_values() -> None:
    text = "[ro.product.model]: [SM-G960U]\n[ro.empty]: []\n[ro.brackets]: [a]b[c]]\n[ro.soc.model]: [SM8550]\n"
    assert parse_getprop(text) == {
        "ro.product.model": "SM-G960U",
        "ro.empty": "",
        "ro.brackets": "a]b[c]",
        "ro.soc.model": "SM8550",
    }


def test_a_value_over_several_lines() -> None:
    text = "[persist.note]: [first\nsecond]\n\nthird]\n[ro.hardware]: [qcom]\n"
    assert parse_getprop(text) == {"persist.note": "first\nsecond]\n\nthird", "ro.hardware": "qcom"}


def test_line_ends_of_an_old_device() -> None:
    assert parse_getprop("[a]: [1]\r\n[b]: [2\r\n3]\r\n") == {"a": "1", "b": "2\n3"}


def test_noise_around_it_is_skipped_and_a_cut_value_is_left_out() -> None:
    text = "WARNING: linker: something\n[ro.a]: [1]\n[ro.b]: [cut off"
    assert parse_getprop(text) == {"ro.a": "1"}


def test_a_name_that_comes_twice_is_only_kept_if_both_agree() -> None:
    assert parse_getprop("[x]: [forged\n[ro.soc]: [fast]\n[ro.soc]: [slow]\n[y]: [1]\n[y]: [1]\n") == {"y": "1"}


@pytest.mark.parametrize(
    "name",
    [
        *(
            "ro.serialno",
            "ro.boot.serialno",
            "ril.serialnumber",
            "ro.ril.miui.imei0",
            "persist.radio.imei",
            "gsm.sim.iccid",
        ),
        *("ro.boot.btmacaddr", "ro.boot.wifimacaddr", "ro.boot.mac", "net.hostname", "ro.ril.oem.sno", "ril.cdma.esn"),
    ],
)
def test_numbers_of_the_unit_stay_on_the_device(name: str) -> None:
    assert parse_getprop(f"[{name}]: [secret]\n[ro.product.model]: [Phone]\n") == {"ro.product.model": "Phone"}


@pytest.mark.parametrize("name", ["ro.hardware", "ro.build.machine", "ro.serial_console.enabled", "ro.smack", "ro.sns"])
def test_names_that_only_look_alike_are_kept(name: str) -> None:
    assert parse_getprop(f"[{name}]: [1]\n") == {name: "1"}


def test_limits() -> None:
    limits = GetpropLimits(text_characters=100, properties=3, name_characters=4, value_characters=5)
    assert parse_getprop("[abcd]: [12345]\n[abcde]: [1]\n[b]: [123456]\n", limits) == {"abcd": "12345"}
    with pytest.raises(DeviceError, match="100 characters"):
        parse_getprop("x" * 101, limits)
    with pytest.raises(DeviceError, match="more than 3"):
        parse_getprop("[a]: [1]\n" * 4, limits)


def test_a_real_dump(reference: Path) -> None:
    path = reference / "android" / "phone" / "galaxy-s9-us_getprop.txt"
    if not path.is_file():
        pytest.skip("the properties of a Galaxy S9 (../shared/reference/android/phone) are not here")
    text = path.read_text()
    found = parse_getprop(text)
    assert found["ro.product.model"] == "SM-G960U"
    assert found["ro.board.platform"] == "sdm845"
    assert found["ro.build.version.release"] == "8.0.0"
    lines = [line for line in text.splitlines() if line.startswith("[")]
    assert len(found) > 0.98 * len(lines)


NAME = st.text(alphabet="abcXYZ019._-", min_size=1, max_size=20).map(lambda name: f"ro.t.{name}q")
VALUE = st.text(max_size=60).filter(lambda value: "\r" not in value and "]: [" not in value)


@given(st.dictionaries(NAME, VALUE, max_size=10))
def test_what_getprop_writes_is_read_back(properties: dict[str, str]) -> None:
    text = "".join(f"[{name}]: [{value}]\n" for name, value in properties.items())
    assert parse_getprop(text) == properties


@given(st.text(max_size=300) | st.lists(st.sampled_from(["[", "]", ": ", "a", "\n", "\r\n", "]: ["])).map("".join))
def test_any_text_is_survived(text: str) -> None:
    for name, value in parse_getprop(text).items():
        assert name
        assert value in text.replace("\r\n", "\n")
