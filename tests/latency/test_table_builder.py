"""Building: everything once, in a fair order, resumable, refused where it would mix measurements."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import pytest
from latency_helpers import QUICK, AheadBackend, KnownBackend, build_mini, mini_network

from dfmobile.architecture.spaces import open_space
from dfmobile.devices.device import open_device
from dfmobile.errors import BackendError, FileFormatError, InputError, LockedError
from dfmobile.files import FileLock
from dfmobile.latency.backends.base import MeasureJob
from dfmobile.latency.builder import BuildProgress, build_table
from dfmobile.latency.measurement import Protocol
from dfmobile.latency.schedule import interleave
from dfmobile.latency.table import LatencyTable


@pytest.fixture
def backend() -> KnownBackend:
    return KnownBackend(open_device("local"))


def recorded(path: Path) -> set[tuple[str, int]]:
    with LatencyTable.open(path) as table:
        return table.recorded()


def test_every_block_is_measured_in_every_pass(tmp_path: Path, backend: KnownBackend) -> None:
    report = build_mini(tmp_path / "t.sqlite", backend)
    keys = {block.key for block in mini_network().blocks}
    assert recorded(tmp_path / "t.sqlite") == {(key, number) for key in keys for number in range(2)}
    assert report.coverage.fraction == 1.0
    assert report.passes == 2 * len(keys)
    assert report.ratio is not None


def test_a_whole_space_is_measured(tmp_path: Path, backend: KnownBackend) -> None:
    space = open_space("df-mini")
    report = build_table(tmp_path / "t.sqlite", space, 32, 32, backend.device, backend, Protocol(passes=1))
    assert report.coverage.blocks == len(space.key_index(32, 32)) == 86


def test_a_second_run_finds_nothing_to_do(tmp_path: Path, backend: KnownBackend) -> None:
    build_mini(tmp_path / "t.sqlite", backend)
    measured = list(backend.measured)
    report = build_mini(tmp_path / "t.sqlite", backend)
    assert backend.measured == measured
    assert report.passes == 0
    assert report.ratio is None


def test_more_passes_are_added_to_those_that_are_there(tmp_path: Path, backend: KnownBackend) -> None:
    build_mini(tmp_path / "t.sqlite", backend)
    before = recorded(tmp_path / "t.sqlite")
    build_mini(tmp_path / "t.sqlite", backend, protocol=Protocol(passes=3))
    after = recorded(tmp_path / "t.sqlite")
    assert before < after
    assert {number for _, number in after - before} == {2}


def test_an_interrupted_build_goes_on_where_it_was(tmp_path: Path, backend: KnownBackend) -> None:
    build_mini(tmp_path / "unbroken.sqlite", KnownBackend(backend.device))

    def interrupt(job: MeasureJob) -> None:
        if len(backend.measured) == 4:
            raise KeyboardInterrupt

    backend.before_result = interrupt
    with pytest.raises(KeyboardInterrupt):
        build_mini(tmp_path / "t.sqlite", backend)
    kept = recorded(tmp_path / "t.sqlite")
    assert len(kept) == 3  # the first of the four was the probe for the estimate
    backend.before_result = lambda job: None
    build_mini(tmp_path / "t.sqlite", backend)
    assert recorded(tmp_path / "t.sqlite") == recorded(tmp_path / "unbroken.sqlite") > kept
    jobs = [name for name in backend.measured if name != "probe"]
    assert len(jobs) == len(set(jobs))  # none twice


def test_several_inputs_and_targets_share_a_table(tmp_path: Path, backend: KnownBackend) -> None:
    build_mini(tmp_path / "t.sqlite", backend)
    build_mini(tmp_path / "t.sqlite", backend, network=mini_network(64))
    with LatencyTable.open(tmp_path / "t.sqlite") as table:
        assert [build.input_text for build in table.builds()] == ["32x32", "64x64"]
        assert len({entry.key for entry in table.entries()}) > len({block.key for block in mini_network().blocks})


@pytest.mark.parametrize(
    ("change", "message"),
    [({"version": "2.0"}, r"runtime version is 1\.0 in the table and 2\.0 now"), ({"threads": 2}, "threads is 1")],
)
def test_another_combination_is_refused(tmp_path: Path, backend: KnownBackend, change: dict, message: str) -> None:  # type: ignore[type-arg]
    build_mini(tmp_path / "t.sqlite", backend)
    before = (tmp_path / "t.sqlite").read_bytes()
    other = KnownBackend(backend.device, **change)
    protocol = Protocol(passes=2, threads=other.threads)
    with pytest.raises(InputError, match=message) as caught:
        build_mini(tmp_path / "t.sqlite", other, protocol=protocol)
    assert "-o" in caught.value.hint
    assert (tmp_path / "t.sqlite").read_bytes() == before


def test_a_second_builder_is_refused_with_the_holders_pid(tmp_path: Path, backend: KnownBackend) -> None:
    with FileLock(tmp_path / "t.sqlite", "building the table"), pytest.raises(LockedError) as caught:
        build_mini(tmp_path / "t.sqlite", backend)
    assert caught.value.holder_pid == os.getpid()
    assert str(os.getpid()) in str(caught.value)


def test_a_damaged_table_is_not_touched(tmp_path: Path, backend: KnownBackend) -> None:
    path = tmp_path / "t.sqlite"
    build_mini(path, backend)
    data = path.read_bytes()[:-4096]
    path.write_bytes(data)
    with pytest.raises(FileFormatError):
        build_mini(path, backend)
    assert path.read_bytes() == data


def test_slow_blocks_are_skipped_with_the_evidence(tmp_path: Path, backend: KnownBackend) -> None:
    path = tmp_path / "t.sqlite"
    report = build_mini(path, backend, latency_max_ms=15.0)
    with LatencyTable.open(path) as table:
        skipped = table.skipped()
        assert skipped
        for item in skipped:
            assert item.measured_ms > item.limit_ms == 15.0
            assert item.evidence.warm_up_ms == [item.measured_ms]
        assert not {item.key for item in skipped} & {entry.key for entry in table.entries()}
        assert all(entry.hot_ms <= 15.0 for entry in table.entries())
    assert report.coverage.skipped == len(skipped)
    assert report.coverage.missing == 0
    assert report.coverage.fraction < 1.0


def test_skipped_blocks_are_not_measured_again_unless_the_limit_rises(tmp_path: Path, backend: KnownBackend) -> None:
    path = tmp_path / "t.sqlite"
    build_mini(path, backend, latency_max_ms=15.0)
    measured = len(backend.measured)
    build_mini(path, backend, latency_max_ms=15.0)
    assert len(backend.measured) == measured
    report = build_mini(path, backend)
    assert report.coverage.fraction == 1.0
    with LatencyTable.open(path) as table:
        assert table.skipped() == []


def test_a_backend_that_works_ahead_gives_the_same_table(tmp_path: Path, backend: KnownBackend) -> None:
    for name, limit in (("all", None), ("some", 15.0)):
        one, other = tmp_path / f"{name}-one.sqlite", tmp_path / f"{name}-other.sqlite"
        build_mini(one, backend, latency_max_ms=limit)
        build_mini(other, AheadBackend(backend.device), latency_max_ms=limit)
        assert recorded(one) == recorded(other)


def test_a_backend_that_loses_a_job_is_an_error(tmp_path: Path, backend: KnownBackend) -> None:
    class Lossy(KnownBackend):
        def measure(self, jobs):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            for identifier, result in super().measure(jobs):
                if not identifier.endswith("-1"):
                    yield identifier, result

    with pytest.raises(BackendError, match="not measured"):
        build_mini(tmp_path / "t.sqlite", Lossy(backend.device))
    assert len(recorded(tmp_path / "t.sqlite")) == len({block.key for block in mini_network().blocks})


def test_progress_starts_with_an_estimate_and_ends_complete(tmp_path: Path, backend: KnownBackend) -> None:
    seen: list[BuildProgress] = []
    build_mini(tmp_path / "t.sqlite", backend, progress=seen.append)
    assert seen[0].done == 0
    assert seen[0].seconds_left > 0
    assert [step.done for step in seen] == list(range(len(seen)))
    assert seen[-1].done == seen[-1].total
    assert seen[-1].seconds_left == pytest.approx(0.0, abs=1e-6)


def test_model_files_are_gone_afterwards(tmp_path: Path, backend: KnownBackend) -> None:
    build_mini(tmp_path / "t.sqlite", backend)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.sqlite", "t.sqlite.lock"]


def test_a_network_of_another_size_is_refused(tmp_path: Path, backend: KnownBackend) -> None:
    with pytest.raises(InputError, match="32x32"):
        build_table(tmp_path / "t.sqlite", mini_network(), 64, 64, backend.device, backend, QUICK)


def test_no_slow_phase_can_hit_all_passes_of_a_block() -> None:
    blocks = open_space("df-mini").blocks(32, 32)
    for seed in range(5):
        order = interleave(blocks, 4, seed)
        assert len(order) == len(set(map(repr, order))) == 4 * len(blocks)
        places: dict[str, list[int]] = {}
        for place, (block, number) in enumerate(order):
            assert place // len(blocks) == number
            places.setdefault(block.key, []).append(place)
        gaps = [later - earlier for found in places.values() for earlier, later in pairwise(found)]
        assert min(gaps) >= len(blocks) // 2


def test_the_order_depends_on_the_keys_and_the_seed_only() -> None:
    blocks = open_space("df-mini").blocks(32, 32)
    assert interleave(blocks, 2, 0) == interleave(blocks[::-1], 2, 0)
    assert interleave(blocks, 2, 0) != interleave(blocks, 2, 1)
