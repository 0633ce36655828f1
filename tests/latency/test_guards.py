"""What watches over a build: each guard has passes measured again, keeps what it rejects, and says what it finds."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from latency_helpers import KnownBackend, build_mini, memory_folder, mini_network, result_of

from dfmobile.architecture import PlacedBlock
from dfmobile.architecture.spaces import open_space
from dfmobile.devices.device import open_device
from dfmobile.errors import FileFormatError
from dfmobile.latency.backends.base import MeasureJob
from dfmobile.latency.builder import BuildReport, build_table
from dfmobile.latency.contamination import contamination
from dfmobile.latency.coverage import table_document
from dfmobile.latency.drift import LEAST_JOBS, stored_anchors
from dfmobile.latency.measurement import Protocol
from dfmobile.latency.monotonicity import narrower, order_findings, shape_of
from dfmobile.latency.rejected import parse_rejected, rejected_passes
from dfmobile.latency.table import LatencyTable

THREE = Protocol(passes=3, runs=2, cold_runs=1, warm_up_ms=0.0)


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory: these tests record thousands of passes, each synchronised to the disk."""
    with memory_folder() as folder:
        yield folder


@pytest.fixture
def backend() -> KnownBackend:
    return KnownBackend(open_device("local"))


def build_space(path: Path, backend: KnownBackend, protocol: Protocol = THREE) -> BuildReport:
    return build_table(path, open_space("df-mini", 1), 32, 32, backend.device, backend, protocol)


def pair(kind: str = "basic") -> tuple[PlacedBlock, PlacedBlock]:
    """Return two blocks of df-mini that differ in width only: narrower, wider."""
    found = [block for block in open_space("df-mini", 1).blocks(32, 32) if block.kind == kind]
    for one in found:
        for other in found:
            (left, small), (right, large) = shape_of(one.key), shape_of(other.key)
            if left == right and narrower(small, large):
                return one, other
    raise AssertionError("no such pair")


# Contamination


def conditions(**changes: Any) -> dict[str, Any]:
    return {
        "time_utc": "2026-01-01T00:00:00.000000+00:00",
        "frequency_khz": {"0": 2_000_000, "1": 800_000},
        "governor": {"0": "performance"},
        "temperature_c": {"cpu": 50.0},
        "steal_ms": 100.0,
        **changes,
    }


LATER = {"time_utc": "2026-01-01T00:00:01.000000+00:00"}


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        ({}, None),
        ({"frequency_khz": {"0": 1_900_000}}, None),  # within the tolerance
        ({"frequency_khz": {"0": 2_500_000}}, None),  # a governor follows the load
        ({"frequency_khz": {"0": 1_500_000}}, "the clock fell from 2000 to 1500 MHz"),
        ({"frequency_khz": {"0": None}}, None),  # not readable any more: nothing is held against it
        ({"governor": {"0": "powersave"}}, "governor"),
        ({"temperature_c": {"cpu": 64.0}}, None),
        ({"temperature_c": {"cpu": 66.0}}, "50 to 66 °C"),
        ({"temperature_c": {"cpu": 96.0}}, "96 °C"),
        ({"steal_ms": 150.0}, None),
        ({"steal_ms": 300.0}, "200 of 1000 ms"),
    ],
)
def test_a_pass_is_contaminated_when_its_conditions_changed(after: dict[str, Any], reason: str | None) -> None:
    result = result_of(1.0, conditions_before=conditions(), conditions_after=conditions(**{**LATER, **after}))
    found = contamination(result)
    assert (found is None) == (reason is None), found
    assert found is None or reason is None or reason in found


def test_a_clock_unlike_that_of_other_passes_is_contamination() -> None:
    usual = [result_of(1.0, conditions_after=conditions())] * 5
    slow = conditions(frequency_khz={"0": 1_000_000})
    result = result_of(1.0, conditions_before=slow, conditions_after=slow)
    assert contamination(result) is None
    assert contamination(result, usual[:2]) is None  # too few to know what is usual
    assert "usually 2000 MHz" in (contamination(result, usual) or "")


def test_preemption_counts_by_the_wall_clock_only() -> None:
    disturbed = {"involuntary_switches": 5, "cpu_wall_ratio": 0.3}
    assert contamination(result_of(*[1.0] * 10, **disturbed)) is None
    assert "5 times in 10 runs" in (contamination(result_of(*[1.0] * 10, clock="wall", **disturbed)) or "")
    few = result_of(*[1.0] * 10, clock="wall", involuntary_switches=4)
    assert contamination(few) is None  # the median of ten runs does not see four


def test_a_low_cpu_share_counts_only_against_what_is_usual() -> None:
    usual = [result_of(1.0, clock="wall", cpu_wall_ratio=3.6)] * 3
    starved = result_of(1.0, clock="wall", cpu_wall_ratio=1.5)
    assert contamination(starved) is None
    assert "usually 3.60" in (contamination(starved, usual) or "")


def test_conditions_of_any_kind_are_survived() -> None:
    odd = {"frequency_khz": [1], "governor": 3, "temperature_c": {"cpu": "hot"}, "steal_ms": "much", "time_utc": "now"}
    assert contamination(result_of(1.0, conditions_before=odd, conditions_after=odd)) is None
    assert contamination(result_of(1.0, conditions_before={}, conditions_after={})) is None


def test_a_contaminated_pass_is_measured_again_and_kept(tmp_path: Path, backend: KnownBackend) -> None:
    path = tmp_path / "t.sqlite"
    victim = f"{mini_network().blocks[1].digest}-1"
    seen: Counter[str] = Counter()

    def changes(job: MeasureJob) -> dict[str, Any]:
        seen[job.id] += 1
        hot = {"conditions_after": {"temperature_c": {"cpu": 97.0}}}
        return hot if job.id == victim and seen[victim] == 1 else {}

    backend.changes = changes
    report = build_mini(path, backend)
    assert report.guards.contaminated == 1
    assert report.guards.accepted == 0
    assert report.coverage.fraction == 1.0
    assert seen[victim] == 2
    with LatencyTable.open(path) as table:
        (rejected,) = rejected_passes(table)
        assert (rejected.key, rejected.pass_index) == (mini_network().blocks[1].key, 1)
        assert rejected.reason == "cpu was at 97 °C"
        assert rejected.result.hot_ms
        assert table_document(table)["guards"]["rejected"][0]["reason"] == rejected.reason


def test_a_machine_that_never_cools_down_is_recorded_as_such(tmp_path: Path, backend: KnownBackend) -> None:
    path = tmp_path / "t.sqlite"
    backend.changes = lambda job: {"conditions_after": {"temperature_c": {"cpu": 97.0}}}
    report = build_mini(path, backend)
    assert report.coverage.fraction == 1.0
    passes = report.coverage.blocks * 2
    assert report.guards.contaminated == 2 * passes  # each twice, then taken as it is
    assert report.guards.accepted == passes
    assert any("stayed disturbed" in line for line in report.guards.lines)
    with LatencyTable.open(path) as table:
        recorded = [result for results in table.passes().values() for _, result in results]
        assert all(result.extra["contamination"] == "cpu was at 97 °C" for result in recorded)
        assert len(rejected_passes(table)) == 2 * passes


def test_a_damaged_rejected_pass_is_refused(tmp_path: Path, backend: KnownBackend) -> None:
    path = tmp_path / "t.sqlite"
    victim = f"{mini_network().blocks[1].digest}-1"
    backend.changes = lambda job: {"conditions_after": {"temperature_c": {"cpu": 97.0}}} if job.id == victim else {}
    build_mini(path, backend)
    with LatencyTable.open(path) as table:
        document = json.loads(json.dumps(rejected_passes(table)[0].to_dict()))
    assert parse_rejected(document, "a").to_dict() == document
    for change in ({"guard": "mood"}, {"pass_index": -1}, {"surprise": 1}, {"result": {}}):
        with pytest.raises(FileFormatError):
            parse_rejected({**document, **change}, "a")


# Drift


def test_a_slow_phase_is_found_by_the_anchors_and_measured_again(tmp_path: Path, backend: KnownBackend) -> None:
    path = tmp_path / "t.sqlite"
    order: list[str] = []

    def pace(job: MeasureJob) -> float:
        order.append(job.id)
        return 1.4 if 20 <= len(order) < 60 else 1.0

    backend.pace = pace
    report = build_space(path, backend)
    assert report.coverage.fraction == 1.0
    assert report.coverage.blocks * 3 >= LEAST_JOBS + 60
    assert report.guards.drifted >= 32
    assert report.guards.contradicting == 0
    assert report.guards.largest_drift == pytest.approx(0.4)
    with LatencyTable.open(path) as table:
        slow = {item.key for item in rejected_passes(table)}
        assert slow
        for entry in table.entries():
            if entry.key in slow:  # what was measured in the slow phase does not count any more
                assert entry.hot.standard_error_ms == pytest.approx(0.0, abs=1e-9)
        assert all(item.guard == "drift" and "1.40 of its usual time" in item.reason for item in rejected_passes(table))


def test_a_steady_machine_has_anchors_and_no_rejections(tmp_path: Path, backend: KnownBackend) -> None:
    path = tmp_path / "t.sqlite"
    report = build_space(path, backend)
    assert report.guards.rejected == 0
    assert report.guards.largest_drift == 0.0
    with LatencyTable.open(path) as table:
        (series,) = stored_anchors(table)
    passes = report.coverage.blocks * 3
    assert len(series.measurements) == -(-passes // 16) + 1 == report.guards.anchors
    assert report.passes == passes  # anchors are none


def test_a_resumed_build_knows_the_pace_of_the_earlier_sittings(tmp_path: Path, backend: KnownBackend) -> None:
    path = tmp_path / "t.sqlite"

    def stop(job: MeasureJob) -> None:
        if len(backend.measured) == 70:
            raise KeyboardInterrupt

    backend.before_result = stop
    with pytest.raises(KeyboardInterrupt):
        build_space(path, backend)
    slower = KnownBackend(backend.device)
    slower.pace = lambda job: 1.3
    report = build_space(path, slower)
    assert report.guards.drifted > 0


def test_a_short_build_has_no_anchors(tmp_path: Path, backend: KnownBackend) -> None:
    report = build_mini(tmp_path / "t.sqlite", backend)
    assert report.guards.anchors == 0
    assert report.guards.largest_drift is None


def test_blocks_of_microseconds_are_no_anchors(tmp_path: Path, backend: KnownBackend) -> None:
    path = tmp_path / "t.sqlite"
    # The estimate comes from a probe that is a thousand times too slow.
    backend.pace = lambda job: 1.0 if job.id == "probe" else 0.001 * (1.0 if len(backend.measured) % 2 else 1.5)
    report = build_space(path, backend)
    assert 1 <= report.guards.anchors <= 3
    assert report.guards.drifted == 0


# Order of widths


def test_blocks_are_compared_only_where_nothing_but_the_widths_differs() -> None:
    for kind, space in (("basic", "df"), ("bottleneck", "df-bottleneck"), ("shuffle_down", "shuffle")):
        blocks = [block for block in open_space(space).blocks(224, 224) if block.kind == kind]
        compared = 0
        for one in blocks:
            for other in blocks:
                (left, small), (right, large) = shape_of(one.key), shape_of(other.key)
                if left == right and narrower(small, large):
                    compared += 1
                    assert one.input_shapes == other.input_shapes
                    assert one.output_shape[2:] == other.output_shape[2:]
                    assert one.output_shape[1] <= other.output_shape[1]
                    assert one.macs < other.macs
        assert compared > 0, kind


def test_every_pair_of_equal_input_and_projection_is_compared() -> None:
    blocks = [block for block in open_space("df").blocks(640, 384) if block.kind == "basic"]
    groups: dict[Any, list[PlacedBlock]] = {}
    for block in blocks:
        stride = block.input_shapes[0][2] // block.output_shape[2]
        projection = stride > 1 or block.input_shapes[0][1] != block.output_shape[1]
        groups.setdefault((block.input_shapes, stride, projection), []).append(block)
    assert any(len(group) > 2 for group in groups.values())
    for group in groups.values():
        assert len({shape_of(block.key)[0] for block in group}) == 1


def test_a_bottleneck_with_a_projection_is_not_compared_with_one_without() -> None:
    blocks = [block for block in open_space("df-bottleneck").blocks(224, 224) if block.kind == "bottleneck"]
    identity = [block for block in blocks if block.input_shapes[0] == block.output_shape]
    projected = [block for block in blocks if block.input_shapes[0] != block.output_shape]
    assert identity
    assert not {shape_of(block.key)[0] for block in identity} & {shape_of(block.key)[0] for block in projected}


def test_a_contradiction_is_measured_again_once_and_settled(tmp_path: Path, backend: KnownBackend) -> None:
    path = tmp_path / "t.sqlite"
    narrow, wide = pair()
    seen: Counter[str] = Counter()

    def pace(job: MeasureJob) -> float:
        seen[job.id] += 1
        return 0.01 if job.id.startswith(wide.digest) and seen[job.id] == 1 else 1.0

    backend.pace = pace
    report = build_space(path, backend)
    assert report.guards.findings == ()
    with LatencyTable.open(path) as table:
        rejected = rejected_passes(table)
        assert {item.key for item in rejected} >= {narrow.key, wide.key}
        assert all(item.guard == "order" for item in rejected)
        assert order_findings(table.entries()) == []
    assert report.guards.contradicting == len(rejected)


def test_a_contradiction_that_stays_is_reported_and_not_measured_for_ever(
    tmp_path: Path, backend: KnownBackend
) -> None:
    path = tmp_path / "t.sqlite"
    narrow, wide = pair()
    backend.pace = lambda job: 0.01 if job.id.startswith(wide.digest) else 1.0
    report = build_space(path, backend)
    found = {(item.narrow_key, item.wide_key) for item in report.guards.findings}
    assert (narrow.key, wide.key) in found
    assert any(line.startswith("against the order") for line in report.guards.lines)
    measured = len(backend.measured)
    again = build_space(path, backend)
    assert len(backend.measured) == measured
    assert again.guards.findings == report.guards.findings
    with LatencyTable.open(path) as table:
        document = json.loads(json.dumps(table_document(table), allow_nan=False))
    assert len(document["guards"]["findings"]) == len(found)


def test_two_passes_are_too_few_to_contradict(tmp_path: Path, backend: KnownBackend) -> None:
    _, wide = pair()
    backend.pace = lambda job: 0.01 if job.id.startswith(wide.digest) else 1.0
    report = build_space(tmp_path / "t.sqlite", backend, Protocol(passes=2, runs=2, cold_runs=0, warm_up_ms=0.0))
    assert report.guards.findings == ()
