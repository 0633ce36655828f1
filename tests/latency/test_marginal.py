"""What a block adds to a network: the prefix, the arithmetic of differences, and engines as the unit of repetition."""

from __future__ import annotations

import csv
import dataclasses
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from latency.latency_helpers import KnownBackend, build_mini, mini_network, result_of

from dfmobile.devices.device import open_device
from dfmobile.errors import FileFormatError, InputError
from dfmobile.graph import Graph, reference
from dfmobile.latency.backends.base import MeasureJob, RuntimeIdentity
from dfmobile.latency.context import PREFIX_CHANNELS, prefix_of, with_prefix
from dfmobile.latency.diff import TablePair
from dfmobile.latency.exchange import export_table
from dfmobile.latency.marginal import (
    RESOLUTION_MS,
    MarginalSamples,
    by_build,
    marginal_samples,
    measure_of,
    summarise_isolated,
    summarise_marginal,
    welch_freedom,
)
from dfmobile.latency.measurement import PassResult, Protocol
from dfmobile.latency.models import cheap_weights
from dfmobile.latency.networks import MeasuredNetwork
from dfmobile.latency.predictor import Predictor
from dfmobile.latency.statistics import standard_error_of_median, t_quantile_975
from dfmobile.latency.table import LatencyTable

THREE = Protocol(passes=3, runs=2, cold_runs=0)


def marginal(context: list[float], prefix: list[float], build: str = "0") -> PassResult:
    samples = MarginalSamples(context, prefix)
    return result_of(1.0, extra={"build": build, "marginal": samples.to_dict()})


def summary_of(rows: list[PassResult]) -> Any:
    return summarise_marginal(rows, [samples for row in rows if (samples := marginal_samples(row)) is not None])


# The prefix


def test_a_prefix_gives_a_block_its_inputs() -> None:
    blocks = mini_network().blocks
    assert prefix_of(blocks[0]) is None  # it reads the image
    for block in blocks[1:]:
        prefix = prefix_of(block)
        if prefix is None:
            continue
        shapes = [prefix.graph.shapes[name] for name in prefix.graph.outputs]
        assert shapes == [shape for _, shape in block.graph.inputs]
        assert all(shape[1] <= PREFIX_CHANNELS for _, shape in prefix.graph.inputs)


def test_a_block_behind_its_prefix_computes_both() -> None:
    block = next(item for item in mini_network().blocks if prefix_of(item) is not None)
    prefix, whole = prefix_of(block), with_prefix(block)
    assert prefix is not None

    def run(graph: Graph, inputs: dict[str, Any], weights: Any) -> dict[str, Any]:
        return reference.run(graph, {name: weights[name] for name in graph.parameters()}, inputs)

    weights = {**cheap_weights(block.graph), **cheap_weights(prefix.graph)}
    image = {name: np.ones(shape, np.float32) for name, shape in prefix.graph.inputs}
    first = run(prefix.graph, image, weights)
    inside = dict(zip((name for name, _ in block.graph.inputs), (first[n] for n in prefix.graph.outputs), strict=True))
    expected = run(block.graph, inside, weights)[block.graph.outputs[0]]
    assert np.allclose(run(whole.graph, image, weights)[whole.graph.outputs[0]], expected, atol=1e-4)


def test_contexts_have_keys_of_their_own() -> None:
    blocks = [block for block in mini_network().blocks if prefix_of(block) is not None]
    keys = {item.key for block in blocks for item in (prefix_of(block), with_prefix(block)) if item is not None}
    assert not keys & {block.key for block in blocks}


# Differences


def test_a_cost_is_a_difference_of_medians() -> None:
    found = summary_of([marginal([3.0, 3.1, 9.0], [1.0, 1.1, 1.2], str(n)) for n in range(3)])
    assert found.median_ms == pytest.approx(2.0)
    assert found.passes == 3
    assert found.p5_ms is None  # a difference has no samples of its own


@given(
    st.lists(st.floats(1.0, 2.0), min_size=3, max_size=8, unique=True),
    st.lists(st.floats(0.1, 0.5), min_size=8, max_size=8, unique=True),
)
def test_variances_of_both_engines_add_up(context: list[float], prefix: list[float]) -> None:
    rows = [marginal([c], [p], str(n)) for n, (c, p) in enumerate(zip(context, prefix, strict=False))]
    errors = [standard_error_of_median(values) or 0.0 for values in (context, prefix[: len(context)])]
    found = summary_of(rows)
    assert found.standard_error_ms == pytest.approx(math.hypot(*errors))
    assert found.half_width_ms >= t_quantile_975(2 * len(context) - 2) * found.standard_error_ms * 0.999


def test_runs_of_one_build_do_not_make_it_more_certain() -> None:
    builds = [1.0, 1.2, 1.4]
    few = summary_of([marginal([value], [0.5], str(n)) for n, value in enumerate(builds)])
    many = summary_of([marginal([value] * 100, [0.5], str(n)) for n, value in enumerate(builds) for _ in range(5)])
    assert many.half_width_ms == pytest.approx(few.half_width_ms)
    assert many.passes == 3
    one = summary_of([marginal([1.0, 1.1], [0.5], "0") for _ in range(10)])
    assert one.half_width_ms is None  # of a single engine nothing says how much others differ


def test_isolated_passes_are_grouped_by_build_too() -> None:
    rows = [result_of(value, extra={"build": str(n % 3)}) for n, value in enumerate([1.0, 2.0, 3.0] * 4)]
    found = summarise_isolated(rows)
    assert found.passes == 3
    assert found.standard_error_ms == standard_error_of_median([1.0, 2.0, 3.0])
    assert summarise_isolated([result_of(1.0), result_of(2.0)]).passes == 2


def test_a_cost_lost_in_noise_is_the_clocks_resolution_and_its_row_keeps_the_sign() -> None:
    row = marginal([1.0], [1.1])
    assert row.extra["marginal"]["median_ms"] == pytest.approx(-0.1)
    assert summary_of([row]).median_ms == RESOLUTION_MS


def test_a_block_without_prefix_costs_what_it_takes() -> None:
    found = summary_of([marginal([value], [], str(n)) for n, value in enumerate((2.0, 2.1, 2.2))])
    assert found.median_ms == pytest.approx(2.1)
    assert found.standard_error_ms == standard_error_of_median([2.0, 2.1, 2.2])


def test_passes_without_builds_stand_for_themselves() -> None:
    rows = [result_of(1.0), result_of(2.0)]
    assert by_build(rows, [1.0, 2.0]) == [1.0, 2.0]


def test_freedom_lies_between_that_of_one_and_of_both() -> None:
    assert welch_freedom(1.0, 0.0, 2) == 2
    assert welch_freedom(1.0, 1.0, 2) == 4


def test_passes_of_both_kinds_never_mix() -> None:
    with pytest.raises(FileFormatError, match="some inside a network"):
        measure_of([result_of(1.0), marginal([1.0], [])], "t.sqlite")


@pytest.mark.parametrize(
    "document", [7, {}, {"context_ms": [], "prefix_ms": []}, {"context_ms": [-1.0], "prefix_ms": []}]
)
def test_damaged_samples_are_refused(document: Any) -> None:
    with pytest.raises(FileFormatError, match=r"cannot be|damaged"):
        marginal_samples(result_of(1.0, extra={"marginal": document}))


# Tables


class ContextBackend(KnownBackend):
    """Times files by their size, in context where a job has one; engine build n is n tenths slower."""

    block_measure = "marginal"
    processor = "gpu"
    least_passes = 3
    replay = False
    step = 0.1  # between builds

    def identity(self) -> RuntimeIdentity:
        return RuntimeIdentity("Known", self.version, "ab" * 32, {"replay": True} if self.replay else {})

    def measure(self, jobs: Iterable[MeasureJob]) -> Iterator[tuple[str, PassResult]]:
        for job in jobs:
            pace = 1 + job.repetition * self.step
            extra: dict[str, Any] = {"build": str(job.repetition)}
            if job.context is not None:
                parts = (job.context.with_prefix, job.context.prefix)
                times = [[path.stat().st_size / 1000 * pace] if path is not None else [] for path in parts]
                extra["marginal"] = MarginalSamples(*times).to_dict()
            yield (
                job.id,
                result_of(job.model_path.stat().st_size / 1000 * pace, cold_ms=[], clock="gpu-events", extra=extra),
            )


def context_table(path: Path, *, replay: bool = False, step: float = 0.1, latency_max_ms: float | None = None) -> Path:
    backend = ContextBackend(open_device("local"))
    backend.replay, backend.step = replay, step
    build_mini(path, backend, protocol=THREE, latency_max_ms=latency_max_ms)
    return path


def test_a_table_keeps_both_costs_and_the_predictor_sums_the_marginal_ones(tmp_path: Path) -> None:
    with LatencyTable.open(context_table(tmp_path / "t.sqlite")) as table:
        entries = {entry.key: entry for entry in table.entries()}
        for entry in entries.values():
            assert entry.measure == "marginal"
            assert entry.isolated is not None
            assert entry.hot.passes == 3
            assert entry.between_builds_ms is not None
            assert entry.half_width_ms is not None
            assert not entry.aggregate
        network = mini_network()
        total = sum(entries[key].hot_ms for key in network.keys)
        alone = sum(entries[key].isolated.median_ms for key in network.keys)  # type: ignore[union-attr]
        assert Predictor(table).predict(network).latency_ms == pytest.approx(total)
        assert Predictor(table, "sum-isolated").predict(network).latency_ms == pytest.approx(alone)
        assert total != pytest.approx(alone)


def test_a_block_is_too_slow_by_what_it_adds_and_not_by_its_borders(tmp_path: Path) -> None:
    with LatencyTable.open(context_table(tmp_path / "t.sqlite", step=0.0)) as table:
        costs = {item.key: (item.hot_ms, item.isolated.median_ms) for item in table.entries() if item.isolated}
    key = max(costs, key=lambda item: costs[item][1] - costs[item][0])
    limit_ms = sum(costs[key]) / 2
    assert costs[key][0] < limit_ms < costs[key][1]
    with LatencyTable.open(context_table(tmp_path / "limited.sqlite", step=0.0, latency_max_ms=limit_ms)) as table:
        assert key in {item.key for item in table.entries()}
        assert {item.key for item in table.skipped()} == {key for key, (adds, _) in costs.items() if adds > limit_ms}
        assert {item.measured_ms for item in table.skipped()} == {adds for adds, _ in costs.values() if adds > limit_ms}


def test_networks_count_builds_and_not_passes() -> None:
    passes = [result_of(1.0 + number, extra={"build": str(number)}) for number in range(3)]
    network = MeasuredNetwork("x", 1, 1, {}, passes)
    again = MeasuredNetwork("x", 1, 1, {}, passes * 4)
    assert again.half_width == network.half_width
    assert again.statistics.half_width_ms == network.statistics.half_width_ms


def test_a_summary_says_which_cost_it_has(tmp_path: Path) -> None:
    export_table(context_table(tmp_path / "t.sqlite"), tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {(row["measure"], row["builds"]) for row in rows} == {("marginal", "3")}
    assert any(float(row["isolated_ms"]) > float(row["hot_ms"]) for row in rows)


def test_tables_of_builds_are_compared_by_medians_and_builds(tmp_path: Path) -> None:
    """A difference of two engines is off both ways, so its smallest value says nothing."""

    class Scattered(ContextBackend):
        builds = 9

        def measure(self, jobs: Iterable[MeasureJob]) -> Iterator[tuple[str, PassResult]]:
            yield from super().measure(
                dataclasses.replace(job, repetition=(job.repetition % self.builds) * 7 % 5) for job in jobs
            )

    pairs = []
    for builds in (3, 9):
        paths = [tmp_path / f"{name}{builds}.sqlite" for name in "ab"]
        for path in paths:
            backend = Scattered(open_device("local"))
            backend.builds = builds
            build_mini(path, backend, protocol=dataclasses.replace(THREE, passes=9))
        with LatencyTable.open(paths[0]) as a, LatencyTable.open(paths[1]) as b:
            pairs.append(TablePair(a, b))
    few, many = pairs
    for pair in pairs:
        assert np.array_equal(pair.floors_ms, pair.medians_ms)
        assert pair.common_log == 0.0
    assert not few.many
    assert few.freedoms.max() < many.freedoms.min()  # nine passes of three builds are three


def test_three_builds_are_the_least(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="2 passes a block are too few"):
        build_mini(
            tmp_path / "t.sqlite",
            ContextBackend(open_device("local")),
            protocol=Protocol(passes=2, runs=2, cold_runs=0),
        )


def test_a_replay_is_never_reported_as_a_measurement(tmp_path: Path) -> None:
    with LatencyTable.open(context_table(tmp_path / "t.sqlite", replay=True)) as table:
        assert table.header.replay
        with pytest.raises(InputError, match="replay, not a measurement"):
            Predictor(table)
        assert Predictor(table, allow_replay=True).predict(mini_network()).latency_ms > 0


def test_a_table_of_blocks_alone_has_no_second_sum(tmp_path: Path) -> None:
    build_mini(tmp_path / "t.sqlite")
    with LatencyTable.open(tmp_path / "t.sqlite") as table, pytest.raises(InputError, match="no costs of blocks alone"):
        Predictor(table, "sum-isolated")
