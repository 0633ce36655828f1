"""The effective last-level cache: read off a sweep, measured through any backend, kept in the table."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from latency_helpers import KnownBackend, build_mini

from dfmobile.devices.device import open_device
from dfmobile.devices.profile_schema import Cache
from dfmobile.errors import BackendError, FileFormatError
from dfmobile.latency import working_set
from dfmobile.latency.backends.base import MeasureJob
from dfmobile.latency.cache_curve import non_decreasing
from dfmobile.latency.calibrate import measure_device
from dfmobile.latency.table import LatencyTable
from dfmobile.latency.working_set import WorkingSet, effective_cache_bytes, eviction_bytes, stored_working_set

SIZES = [2**power * 1_000_000 for power in range(8)]


@pytest.fixture(autouse=True)
def short_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to 16 MB instead of 134 MB."""
    monkeypatch.setattr(working_set, "_SWEEP", ((512, 1), (1024, 1), (1024, 2), (1024, 3), (1024, 4)))


def steep(job: MeasureJob) -> float:
    """A device whose cache ends between 4 and 8 MB."""
    return 1.0 if job.model_path.stat().st_size < 6e6 else 5.0


@given(st.integers(2, 5), st.floats(1.5, 10))
def test_the_cache_ends_where_the_time_a_byte_steps_up(position: int, ratio: float) -> None:
    times = [size * 1e-6 * (1.0 if number < position else ratio) for number, size in enumerate(SIZES)]
    found, fast, slow = effective_cache_bytes(SIZES, times)
    assert found is not None
    assert SIZES[position - 1] <= found <= SIZES[position]
    assert (fast, slow) == (pytest.approx(1.0), pytest.approx(ratio))


def test_where_memory_is_as_fast_there_is_no_effective_cache() -> None:
    found, fast, slow = effective_cache_bytes(SIZES, [size * 1e-6 for size in SIZES])
    assert found is None
    assert fast == pytest.approx(slow)


def test_a_single_slow_phase_is_smoothed_away() -> None:
    times = [size * 1e-6 * (1.0 if number < 5 else 4.0) for number, size in enumerate(SIZES)]
    times[2] *= 1.3
    found, _, _ = effective_cache_bytes(SIZES, times)
    assert found is not None
    assert SIZES[4] <= found <= SIZES[5]


def test_too_few_sizes_are_an_error() -> None:
    with pytest.raises(BackendError, match="too few"):
        effective_cache_bytes(SIZES[:2], [1.0, 2.0])


@given(st.lists(st.floats(0.1, 100), min_size=1, max_size=30).map(np.array))
def test_isotonic_regression_is_ordered_and_keeps_the_mean(values: np.ndarray) -> None:
    found = non_decreasing(values)
    assert (np.diff(found) >= -1e-9).all()
    assert found.mean() == pytest.approx(values.mean())
    np.testing.assert_allclose(non_decreasing(found), found)


def test_it_is_measured_once_through_the_backend_and_kept(tmp_path: Path) -> None:
    path, backend = tmp_path / "t.sqlite", KnownBackend(open_device("local"))
    backend.pace = steep
    build_mini(path, backend)
    first = measure_device(path, backend)
    assert first is not None
    assert first.effective_llc_bytes is not None
    assert 4e6 < first.effective_llc_bytes < 8.5e6
    assert first.call_overhead_ms > 0
    assert "effective last-level cache" in first.text
    before = len(backend.measured)
    assert measure_device(path, backend) == first
    assert len(backend.measured) == before
    with LatencyTable.open(path) as table:
        assert stored_working_set(table) == first
    assert [item.name for item in tmp_path.iterdir() if item.suffix not in (".sqlite", ".lock")] == []


def test_a_backend_without_a_cpu_has_none(tmp_path: Path) -> None:
    class Accelerator(KnownBackend):
        processor = "gpu"

    backend = Accelerator(open_device("local"))
    build_mini(tmp_path / "t.sqlite", backend)
    assert measure_device(tmp_path / "t.sqlite", backend) is None


@pytest.mark.parametrize("change", [("effective_llc_bytes", -1.0), ("points", []), ("session", "1"), ("more", 1)])
def test_a_damaged_document_is_refused(tmp_path: Path, change: tuple[str, object]) -> None:
    path, backend = tmp_path / "t.sqlite", KnownBackend(open_device("local"))
    build_mini(path, backend)
    found = measure_device(path, backend)
    assert found is not None
    with LatencyTable.open(path) as table:
        table.set_document(working_set.DOCUMENT, {**found.model_dump(mode="json"), change[0]: change[1]})
        with pytest.raises(FileFormatError, match="working set"):
            stored_working_set(table)


def test_an_edited_document_is_refused(tmp_path: Path) -> None:
    path, backend = tmp_path / "t.sqlite", KnownBackend(open_device("local"))
    build_mini(path, backend)
    measure_device(path, backend)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE documents SET json = replace(json, 'call', 'cull') WHERE name = 'working-set'")
    connection.close()
    with LatencyTable.open(path) as table, pytest.raises(FileFormatError, match="checksum"):
        stored_working_set(table)


def test_the_curve_rises_where_the_cache_ends_and_the_call_is_measured_cold(tmp_path: Path) -> None:
    path, backend = tmp_path / "t.sqlite", KnownBackend(open_device("local"))
    backend.pace = steep
    build_mini(path, backend)
    found = measure_device(path, backend)
    assert found is not None
    assert found.curve is not None
    assert found.curve.at_one(1e6) == 0.0
    assert found.curve.at_one(1e9) == 1.0
    assert found.cold_call_ms >= 0


@pytest.mark.parametrize(
    ("effective", "nominal", "expected"),
    [
        (None, 32 * 2**20, None),  # no step: as much as the profile's cache asks for
        (2.5e6, 300 * 2**20, 10_000_000),  # a private cache before a huge shared one
        (25e6, 32 * 2**20, 64 * 2**20),  # never more than twice the nominal cache
        (1e5, 32 * 2**20, 4 * 2**20),
        (25e6, None, 100_000_000),
        (1e9, None, 512 * 2**20),
    ],
)
def test_cold_runs_evict_the_effective_cache(
    effective: float | None, nominal: int | None, expected: int | None
) -> None:
    profile = open_device("local").profile.model_copy(
        update={"caches": [] if nominal is None else [Cache(level=3, kind="unified", size_bytes=nominal)]}
    )
    found = WorkingSet(
        effective_llc_bytes=effective,
        call_overhead_ms=0.001,
        points=[{"weight_bytes": 1, "hot_ms": 1.0}],
        fast_ms_per_mb=1.0,
        slow_ms_per_mb=2.0,
        measured_utc="2026-11-26T00:00:00Z",
        session=1,
    )
    assert eviction_bytes(found, profile) == expected


def test_a_build_that_measures_caches_evicts_just_that_much(tmp_path: Path) -> None:
    path, backend = tmp_path / "t.sqlite", KnownBackend(open_device("local"))
    backend.pace = steep
    build_mini(path, backend, measure_caches=True)
    with LatencyTable.open(path) as table:
        found = stored_working_set(table)
        key = table.entries()[0].key
        session = table.provenance(key)[0]["session"]
    assert found is not None
    expected = eviction_bytes(found, backend.device.profile)
    assert expected is not None
    assert session["protocol"]["evict_bytes"] == expected
