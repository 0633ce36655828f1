"""What the battery and the power service say is read; what they do not say is unknown."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from phone_dumps import AWAKE, PIXEL_3_BATTERY

from dfmobile.devices.dumpsys import Battery, parse_battery, parse_screen


def test_a_full_battery_at_the_charger() -> None:
    assert parse_battery(PIXEL_3_BATTERY) == Battery(percent=100.0, temperature_c=21.5, charging=True)


@pytest.mark.parametrize(
    ("text", "percent", "temperature_c", "charging"),
    [
        ("AC powered: false\nUSB powered: true\nlevel: 41\nscale: 100\ntemperature: 305", 41.0, 30.5, True),
        ("AC powered: false\nUSB powered: false\nDock powered: false\nlevel: 33\nscale: 50", 66.0, None, False),
        ("level: 101\nscale: 100\ntemperature: 0", None, None, None),  # 0: a driver without a sensor
        ("level: 5\nscale: 0\ntemperature: 99999", None, None, None),
        ("level: \u0665\ntemperature: -80\r\n", None, -8.0, None),
        ("AC powered: maybe\n", None, None, None),
    ],
)
def test_batteries(text: str, percent: float | None, temperature_c: float | None, charging: bool | None) -> None:
    found = parse_battery(text)
    assert (found.percent, found.temperature_c, found.charging) == (percent, temperature_c, charging)


def test_values_set_by_hand_are_not_the_phones() -> None:
    text = PIXEL_3_BATTERY.replace("state:\n", "state:\n  (UPDATES STOPPED -- use 'reset' to restart)\n")
    found = parse_battery(text)
    assert (found.percent, found.charging) == (None, None)
    assert "dumpsys battery reset" in found.reason


@pytest.mark.parametrize(
    ("text", "on"),
    [
        (AWAKE, True),
        (AWAKE.replace("=ON", "=OFF"), False),
        (AWAKE.replace("=ON", "=DOZE"), False),
        ("Display Power: state=OFF\nDisplay Power: state=ON\n", True),
        ("Display Power: state=UNKNOWN\n  mWakefulness=Asleep\n", False),
        ("  mWakefulness=Awake\r\n", True),
        ("  mWakefulnessRaw=Dozing\n", False),
        ("  mWakefulness=Dreaming\n", True),
        ("  mWakefulness=Puzzled\n", None),
        ("", None),
    ],
)
def test_screens(text: str, on: bool | None) -> None:
    assert parse_screen(text) is on


@given(st.text(max_size=200))
def test_any_text_is_survived(text: str) -> None:
    parse_battery("level: " + text)
    parse_screen("mWakefulness=" + text)


def test_a_long_dump_of_nothing_takes_no_time() -> None:
    """Hours by a pattern that goes over line ends."""
    assert parse_screen("\n" * 2**20) is None
    assert parse_screen(" " * 2**20) is None
    assert parse_screen("  mWakefulness=Awake \r\n" + "\n" * 2**20) is True
