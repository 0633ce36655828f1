"""What a device records around each process reaches the guards: disturbed passes are measured again.

The conditions are in the words and units of a batch run on a device; nothing here was verified on hardware.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import benchmark_model_logs as logs
import pytest
from batch_double import RecordingBatch
from latency_helpers import QUICK, mini_network

from dfmobile.devices.batch import BatchItem, BatchResult, BatchSettings
from dfmobile.devices.device import Device, open_device
from dfmobile.errors import InputError
from dfmobile.latency.backends.benchmark_model import BenchmarkModelBackend
from dfmobile.latency.builder import BuildReport, build_table
from dfmobile.latency.header import TableHeader
from dfmobile.latency.rejected import rejected_passes
from dfmobile.latency.table import LatencyTable
from dfmobile.testing.benchmark_model import write_stand_in

HELP = "usage\n--graph=\n"
BIG = (4, 5, 6, 7)


def conditions(clock_khz: int = 2_800_000, heat_mc: int = 41_000, little_khz: int = 1_700_000) -> dict[str, Any]:
    """Return what ``BatchResult`` has of a phone of two clusters."""
    clocks = {core: clock_khz if core in BIG else little_khz for core in range(8)}
    return {"frequency_khz": clocks, "temperature_mc": {"cpu-1-0-usr": heat_mc}, "uptime_s": 5.0}


class PhoneBatch(RecordingBatch):
    """Answers with the conditions before and after that ``around`` names for the n-th process, else quiet ones."""

    around: ClassVar[dict[int, tuple[dict[str, Any], dict[str, Any]]]] = {}
    count: ClassVar[int] = 0

    def run(self, items: Sequence[BatchItem], on_progress: Any = None) -> Iterator[BatchResult]:
        for result in super().run(items, on_progress):
            quiet = (conditions(), conditions())
            before, after = quiet if result.id == "help" else self.around.get(PhoneBatch.count, quiet)
            PhoneBatch.count += result.id != "help"
            yield replace(result, conditions_before=before, conditions_after=after)


class PhoneBackend(BenchmarkModelBackend):
    batch_class = PhoneBatch  # type: ignore[assignment]


def phone() -> Device:
    """Return this machine, said to be a phone of two clusters."""
    device = open_device("local")
    document = {
        **device.profile.model_dump(mode="json"),
        "kind": "phone", "abi": "arm64-v8a", "caches": [], "features": {},
        "clusters": [{"name": "big", "cores": list(BIG)}, {"name": "little", "cores": [0, 1, 2, 3]}],
        "defaults": {"cluster": "big", "threads": 1}, "thermal_zones": [{"type": "cpu-1-0-usr"}],
    }  # fmt: skip
    device.__dict__["profile"] = type(device.profile).model_validate(document)
    return device


def backend(folder: Path, **options: str) -> PhoneBackend:
    PhoneBatch.reset(lambda item: (1, HELP) if item.id == "help" else (0, logs.NEW))
    PhoneBatch.count, PhoneBatch.around = 0, {}
    given = {"binary": str(write_stand_in(folder / "tool")), "outputs": "none"}
    given |= {name.replace("_", "-"): value for name, value in options.items()}
    return PhoneBackend(phone(), options=given)


def build(folder: Path, around: dict[int, tuple[dict[str, Any], dict[str, Any]]]) -> tuple[BuildReport, list[str]]:
    """Build a table with these disturbances; return the report and why passes were rejected."""
    runtime = backend(folder)
    PhoneBatch.around = around
    network, table = mini_network(), folder / "t.sqlite"
    report = build_table(table, network, network.width, network.height, runtime.device, runtime, QUICK)
    with LatencyTable.open(table) as opened:
        numbers = [[number for number, _ in found] for found in opened.passes().values()]
        reasons = [item.reason for item in rejected_passes(opened)]
    assert report.coverage.fraction == 1.0
    assert all(found == [0, 1] for found in numbers)
    return report, reasons


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        (conditions(), conditions(clock_khz=1_900_000), "the clock fell from 2800 to 1900 MHz"),
        (conditions(clock_khz=1_900_000), conditions(clock_khz=1_900_000), "the clock was 1900 MHz, usually 2800 MHz"),
        (conditions(), conditions(heat_mc=60_000), "cpu-1-0-usr went from 41 to 60 °C"),
        (conditions(heat_mc=94_000), conditions(heat_mc=96_000), "cpu-1-0-usr was at 96 °C"),
    ],
)
def test_a_disturbed_pass_is_measured_again(
    tmp_path: Path, before: dict[str, Any], after: dict[str, Any], reason: str
) -> None:
    report, reasons = build(tmp_path, {6: (before, after)})
    assert report.guards.contaminated == 1
    assert reasons == [reason]


def test_clocks_of_other_cores_and_a_rising_clock_reject_nothing(tmp_path: Path) -> None:
    around = {
        4: (conditions(little_khz=1_700_000), conditions(little_khz=300_000)),
        6: (conditions(clock_khz=800_000), conditions()),
        8: ({}, {}),  # a phone that lets nothing be read
    }
    report, reasons = build(tmp_path, around)
    assert (report.guards.contaminated, reasons) == (0, [])


def test_passes_that_stay_disturbed_are_recorded_and_said(tmp_path: Path) -> None:
    hot = (conditions(), conditions(heat_mc=99_000))
    report, _ = build(tmp_path, dict.fromkeys(range(1000), hot))
    assert report.guards.accepted == report.passes / 3
    assert any("stayed disturbed" in line for line in report.guards.lines)


def settings(folder: Path, **options: str) -> BatchSettings:
    runtime = backend(folder, **options)
    runtime.identity()
    return PhoneBatch.settings[-1]


def test_the_protocol_of_the_phone_and_its_defaults(tmp_path: Path) -> None:
    usual = settings(tmp_path)
    assert (usual.cool_down, usual.spin_up_ms, usual.task_profile, usual.reconnect_s) == (
        None, 0, "MaxPerformance", 300.0,
    )  # fmt: skip
    cooled = settings(tmp_path, cool_down="45")
    assert cooled.cool_down is not None
    assert (cooled.cool_down.limit_mc, cooled.cool_down.longest_wait_s, cooled.spin_up_ms) == (45_000, 120.0, 200)
    own = settings(
        tmp_path, cool_down="45", cool_down_secs="30", spin_up_ms="500", task_profile="none", reconnect_secs="5"
    )
    assert own.cool_down is not None
    assert (own.cool_down.longest_wait_s, own.spin_up_ms, own.task_profile, own.reconnect_s) == (30.0, 500, None, 5.0)


@pytest.mark.parametrize(
    ("name", "value"),
    [("cool_down_secs", "-1"), ("spin_up_ms", "soon"), ("task_profile", "a b"), ("reconnect_secs", "nan")],
)
def test_wrong_values_are_named(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(InputError, match=name.replace("_", "-")):
        backend(tmp_path, **{name: value})


def test_tables_with_and_without_cooling_are_not_mixed(tmp_path: Path) -> None:
    plain, cooled, busy = (
        TableHeader.of(backend(tmp_path, **options)) for options in ({}, {"cool_down": "45"}, {"spin_up_ms": "100"})
    )
    assert [text.partition(" is ")[0] for text in plain.differences(cooled)] == ["flag cool_down_c", "flag spin_up_ms"]
    assert plain.differences(busy) == ["flag spin_up_ms is None in the table and 100 now"]
    older = plain.model_copy(
        update={"flags": {k: v for k, v in plain.flags.items() if k not in ("cool_down_c", "spin_up_ms")}}
    )
    assert older.differences(plain) == []  # a table from before goes on


def test_tables_with_and_without_the_task_profile_are_not_mixed(tmp_path: Path) -> None:
    headers = [TableHeader.of(backend(tmp_path, task_profile=name)) for name in ("MaxPerformance", "none")]
    (difference,) = headers[0].differences(headers[1])
    assert difference.startswith("flag task_profile is ")


def test_a_device_that_did_not_cool_down_is_marked(tmp_path: Path) -> None:
    warm = {**conditions(), "cool_down": {"waited_s": 120.0, "reached": False, "hottest_mc": 55_000}}
    runtime = backend(tmp_path, cool_down="45")
    PhoneBatch.around = {number: (warm, conditions()) for number in range(1000)}
    network, table = mini_network(), tmp_path / "t.sqlite"
    build_table(table, network, network.width, network.height, runtime.device, runtime, QUICK)
    with LatencyTable.open(table) as opened:
        results = [result for found in opened.passes().values() for _, result in found]
    said = "the device was still too warm after 120.0 s of cooling"
    assert results
    assert all(said in result.extra["remarks"] for result in results)
