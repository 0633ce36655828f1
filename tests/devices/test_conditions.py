"""Conditions of the moment: what is there is read, what is not is None or absent."""

from __future__ import annotations

import json
import resource
import tempfile
from datetime import datetime, timezone
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from machine_trees import CPU, container, phone, plant

from dfmobile.devices.conditions import ConditionsReader, read_conditions


def test_phone(tmp_path: Path) -> None:
    conditions = read_conditions(plant(tmp_path, phone()))
    assert conditions.load_1min == 7.25
    assert conditions.frequency_khz == {**dict.fromkeys(range(4), 300000), 4: 710400, 5: 710400, 6: 710400, 7: 825600}
    assert conditions.governor == dict.fromkeys(range(8), "schedutil")
    # The zone at -256 degrees has no power.
    assert conditions.temperature_c == {"cpu-1-0-usr": 41.3, "battery": 31.0}
    assert conditions.steal_ms == 80 * 10
    assert conditions.memory_available_bytes == 2155812 * 1024
    assert conditions.involuntary_switches is None  # this process does not run on that machine


def test_two_zones_of_one_type_are_told_apart(tmp_path: Path) -> None:
    files = phone() | {"/sys/class/thermal/thermal_zone10/temp": "30500"}
    assert read_conditions(plant(tmp_path, files)).temperature_c == {
        "cpu-1-0-usr": 41.3,
        "battery": 31.0,
        "battery#thermal_zone10": 30.5,
    }


def test_container_hides_clocks_and_we_do_not_invent_them(tmp_path: Path) -> None:
    conditions = read_conditions(plant(tmp_path, container() | {f"{CPU}/online": "0-1"}))
    assert conditions.frequency_khz == {0: None, 1: None}
    assert conditions.governor is None
    assert conditions.temperature_c == {}
    assert conditions.load_1min is None
    assert conditions.steal_ms is None


def test_only_the_cores_asked_for(tmp_path: Path) -> None:
    reader = ConditionsReader(plant(tmp_path, phone()), cores=[7, 7, 4])
    assert reader.read().frequency_khz == {4: 710400, 7: 825600}


def test_a_reader_sees_changes_and_survives_losses(tmp_path: Path) -> None:
    root = plant(tmp_path, phone())
    reader = ConditionsReader(root, cores=[0])
    current = root / f"{CPU}/cpu0/cpufreq/scaling_cur_freq".lstrip("/")
    current.write_text("1804800\n")
    assert reader.read().frequency_khz == {0: 1804800}
    current.write_text("<unknown>\n")
    assert reader.read().frequency_khz == {0: None}
    current.unlink()
    assert reader.read().frequency_khz == {0: None}


def test_this_machine_and_json() -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw
    conditions = read_conditions()
    assert conditions.involuntary_switches is not None
    assert conditions.involuntary_switches >= before
    moment = datetime.fromisoformat(conditions.time_utc)
    assert moment.tzinfo == timezone.utc
    document = conditions.to_dict()
    assert json.loads(json.dumps(document, allow_nan=False)) == document


@settings(max_examples=25)
@given(st.dictionaries(st.sampled_from(sorted(phone())), st.binary(max_size=40)))
def test_damaged_files_never_break_a_snapshot(damage: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = plant(Path(folder), {path: text for path, text in phone().items() if path in damage})
        for path, data in damage.items():
            (root / path.lstrip("/")).write_bytes(data)
        assert json.dumps(ConditionsReader(root, cores=range(3)).read().to_dict(), allow_nan=False)
