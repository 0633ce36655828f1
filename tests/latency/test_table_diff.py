"""Comparing tables: a real slow-down is found, noise and drift are not taken for one."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from latency_helpers import KnownBackend, build_mini

from dfmobile.architecture import build, resolve
from dfmobile.architecture.spaces import open_space
from dfmobile.devices.device import open_device
from dfmobile.errors import InputError, MissingBlocksError
from dfmobile.latency.builder import build_table
from dfmobile.latency.compare import Comparison, compare_tables
from dfmobile.latency.content import TableContent, read_content, write_content
from dfmobile.latency.diff import median_interval
from dfmobile.latency.measurement import Protocol

PASSES = Protocol(passes=6, runs=5, cold_runs=0, warm_up_ms=0.0, warm_up_limit_ms=5.0)


@pytest.fixture(scope="module")
def space_table(tmp_path_factory: pytest.TempPathFactory) -> TableContent:
    """Every block of a small space, six passes each, without any noise."""
    path = tmp_path_factory.mktemp("table") / "space.sqlite"
    device = open_device("local")
    build_table(path, open_space("df-mini"), 32, 32, device, KnownBackend(device), PASSES)
    return read_content(path)


def noisy(
    content: TableContent,
    path: Path,
    seed: int,
    factor: Callable[[str], float] = lambda key: 1.0,
    version: str = "1.0",
    phases: float = 0.15,
) -> Path:
    """Write the table as a shared machine would measure it: 1 % noise, and passes in phases that are up to 40 % slower.

    Args:
        content: without noise.
        path: of the table to write.
        seed: of the noise.
        factor: by key, how much slower the block is.
        version: of the runtime.
        phases: share of passes in a slow phase.
    """
    generator = np.random.default_rng(seed)
    blocks = []
    for block in content.blocks:
        passes = {}
        for index, (session, document) in block.passes.items():
            slow = 1 + 0.4 * generator.random() if generator.random() < phases else 1.0
            noise = np.exp(np.abs(generator.normal(0, 0.01, len(document["hot_ms"]))))
            times = (np.array(document["hot_ms"]) * factor(block.key) * slow * noise).tolist()
            passes[index] = (session, {**document, "hot_ms": times})
        blocks.append(replace(block, passes=passes))
    header = content.header.model_copy(update={"runtime_version": version})
    write_content(path, replace(content, header=header, blocks=blocks))
    return path


def compare(
    content: TableContent, folder: Path, factor: Callable[[str], float] = lambda key: 1.0, version: str = "1.0"
) -> Comparison:
    a = noisy(content, folder / "a.sqlite", 1)
    return compare_tables(a, noisy(content, folder / "b.sqlite", 2, factor, version))


def test_repeats_of_one_version_raise_no_alarm(space_table: TableContent, tmp_path: Path) -> None:
    paths = [noisy(space_table, tmp_path / f"{seed}.sqlite", seed) for seed in range(6)]
    for a, b in itertools.pairwise(paths):
        found = compare_tables(a, b)
        assert found.regressions == []
        assert found.blocks.common == pytest.approx(1.0, abs=0.01)
        assert found.spaces[0].rank_correlation is not None
        assert found.spaces[0].rank_correlation > 0.9


def test_one_slower_block_is_named(space_table: TableContent, tmp_path: Path) -> None:
    slow = space_table.blocks[5]
    found = compare(space_table, tmp_path, lambda key: 1.6 if key == slow.key else 1.0, version="0.9")
    assert [block.key for block in found.blocks.regressed] == [slow.key]
    assert found.blocks.regressed[0].interval[0] < 1.6 < found.blocks.regressed[0].interval[1]
    assert found.blocks.blocks[0].key == slow.key  # the most slowed down first
    assert found.blocks.common == pytest.approx(1.0, abs=0.01)
    assert any(slow.facts["text"] in text for text in found.regressions)
    json.dumps(found.to_dict(), allow_nan=False)


def test_drift_of_the_machine_is_set_apart(space_table: TableContent, tmp_path: Path) -> None:
    slow = space_table.blocks[5].key
    found = compare(space_table, tmp_path, lambda key: 1.3 * (1.6 if key == slow else 1.0))
    assert found.blocks.common == pytest.approx(1.3, abs=0.01)
    assert [block.key for block in found.blocks.regressed] == [slow]
    assert not found.blocks.common_regressed


def test_a_runtime_that_is_slower_in_everything_is_a_regression(space_table: TableContent, tmp_path: Path) -> None:
    found = compare(space_table, tmp_path, lambda key: 1.2, version="0.9")
    assert found.blocks.common_regressed
    assert found.regressions[0].startswith("everything is 2")


def test_three_passes_do_not_tell_a_slower_runtime_from_a_slower_machine(
    space_table: TableContent, tmp_path: Path
) -> None:
    blocks = [replace(item, passes={n: item.passes[n] for n in range(3)}) for item in space_table.blocks]
    few = replace(space_table, blocks=blocks)
    found = compare(few, tmp_path, lambda key: 1.2, version="0.9")
    assert found.blocks.common_slower
    assert found.regressions == []
    assert "too few passes" in found.notes[0]
    slow = few.blocks[5].key
    b = noisy(few, tmp_path / "c.sqlite", 3, lambda key: 2.5 if key == slow else 1.0, "0.9", phases=0.0)
    a = noisy(few, tmp_path / "d.sqlite", 4, phases=0.0)
    assert [block.key for block in compare_tables(a, b).blocks.regressed] == [slow]


def test_a_faster_runtime_is_no_regression_for_what_it_leaves_alone(space_table: TableContent, tmp_path: Path) -> None:
    same = space_table.blocks[5].key
    found = compare(space_table, tmp_path, lambda key: 1.0 if key == same else 0.6, version="1.1")
    assert found.regressions == []
    assert same in [block.key for block in found.blocks.changed]


def test_a_change_below_the_threshold_passes_the_gate(space_table: TableContent, tmp_path: Path) -> None:
    slow = space_table.blocks[5].key
    assert compare(space_table, tmp_path, lambda key: 1.03 if key == slow else 1.0, version="0.9").regressions == []


def test_best_networks_change_where_what_they_are_made_of_does(space_table: TableContent, tmp_path: Path) -> None:
    a = noisy(space_table, tmp_path / "a.sqlite", 1, phases=0.0)
    best = compare_tables(a, a).spaces[0].best
    assert not any(item.moved or item.too_slow or item.regressed for item in best)
    assert [item.a_ms <= item.target_ms for item in best if item.target_ms] == [True] * len(best)
    b = noisy(space_table, tmp_path / "b.sqlite", 2, phases=0.0)
    assert not compare_tables(a, b).spaces[0].changed
    # Slow down what the middle target's choice is made of.
    parts = {block.key for block in build(resolve(best[2].encoding), 32, 32).blocks if block.kind == "basic"}
    c = noisy(space_table, tmp_path / "c.sqlite", 3, lambda key: 2.0 if key in parts else 1.0, phases=0.0)
    found = compare_tables(a, c).spaces[0]
    assert found.changed
    assert found.best[2].moved
    assert found.best[2].too_slow
    assert found.best[2].regressed


def test_single_networks_are_compared(tmp_path: Path) -> None:
    build_mini(tmp_path / "a.sqlite")
    found = compare_tables(tmp_path / "a.sqlite", tmp_path / "a.sqlite")
    (space,) = found.spaces
    assert (space.space, space.networks, space.best[0].a_ms) == ("networks", 1, space.best[0].b_ms)


def test_a_named_space_must_be_there(tmp_path: Path) -> None:
    build_mini(tmp_path / "a.sqlite")
    with pytest.raises(MissingBlocksError, match="lacks"):
        compare_tables(tmp_path / "a.sqlite", tmp_path / "a.sqlite", space="df-mini", size=(32, 32))


def test_tables_without_a_common_block_cannot_be_compared(tmp_path: Path, space_table: TableContent) -> None:
    half = len(space_table.blocks) // 2
    a = tmp_path / "a.sqlite"
    write_content(a, replace(space_table, blocks=space_table.blocks[:half]))
    write_content(tmp_path / "b.sqlite", replace(space_table, blocks=space_table.blocks[half:]))
    with pytest.raises(InputError, match="no block in common"):
        compare_tables(a, tmp_path / "b.sqlite")
    write_content(tmp_path / "c.sqlite", replace(space_table, blocks=space_table.blocks[: half + 3]))
    found = compare_tables(a, tmp_path / "c.sqlite")
    assert (len(found.blocks.only_a), len(found.blocks.only_b), found.spaces) == (0, 3, ())
    assert "not compared" in found.notes[0]


def test_a_threshold_is_a_share(space_table: TableContent, tmp_path: Path) -> None:
    a = noisy(space_table, tmp_path / "a.sqlite", 1)
    with pytest.raises(InputError, match="no share"):
        compare_tables(a, a, threshold=-0.1)


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=40))
def test_the_interval_of_a_median_holds_it(values: list[float]) -> None:
    low, high = median_interval(values)
    assert min(values) <= low <= float(np.median(values)) <= high <= max(values)


def test_the_interval_of_a_median_holds_95_percent() -> None:
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(2000):
        low, high = median_interval(generator.normal(size=21).tolist())
        hits += low <= 0 <= high
    assert hits / 2000 > 0.94
