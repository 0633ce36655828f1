"""Predicting: the sum of the blocks, vectorised and single alike, and never with a block missing."""

from __future__ import annotations

import itertools
import math
import shlex
from pathlib import Path

import numpy as np
import pytest
from latency_helpers import KnownBackend, build_mini, mini_network, result_of

from dfmobile.architecture import build, resolve
from dfmobile.architecture.spaces import open_space
from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.devices.device import open_device
from dfmobile.errors import InputError, MissingBlocksError, PluginError
from dfmobile.graph.exported import EXPORT_VERSION
from dfmobile.latency.build_command import build_command
from dfmobile.latency.builder import build_table
from dfmobile.latency.header import TableHeader, parse_header
from dfmobile.latency.measurement import Protocol
from dfmobile.latency.predictor import Predictor
from dfmobile.latency.rules import SumRule, open_rule, register_rule, rule_names
from dfmobile.latency.table import LatencyTable

SPACE = open_space("df-mini")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table of the whole df-mini space whose every latency is known."""
    path = tmp_path_factory.mktemp("predict") / "mini.sqlite"
    device = open_device("local")
    build_table(path, SPACE, 32, 32, device, KnownBackend(device), Protocol(passes=2))
    return path


@pytest.fixture
def predictor(path: Path) -> Predictor:
    with LatencyTable.open(path) as table:
        return Predictor(table)


def test_a_network_is_the_sum_of_its_blocks(path: Path, predictor: Predictor) -> None:
    network = build(SPACE.sample(1, np.random.default_rng(0))[0], 32, 32)
    with LatencyTable.open(path) as table:
        hot = {entry.key: entry.hot_ms for entry in table.entries()}
    prediction = predictor.predict(network)
    assert prediction.latency_ms == pytest.approx(sum(hot[block.key] for block in network.blocks))
    assert prediction.latency_ms == pytest.approx(sum(block.latency_ms for block in prediction.blocks))
    assert [block.name for block in prediction.blocks] == [block.name for block in network.blocks]
    assert prediction.rule == "sum"


def test_stage_latencies_add_up_to_the_rows(path: Path, predictor: Predictor) -> None:
    assert isinstance(SPACE, ChainSpace)
    assert predictor.is_additive(SPACE, 32, 32)
    rows = SPACE.rows()
    tables = predictor.stage_latencies(SPACE, 32, 32)
    np.testing.assert_allclose(tables.values(rows), predictor.predict_rows(SPACE, rows, 32, 32), rtol=1e-12)


def test_a_rule_that_is_no_sum_has_no_stage_latencies(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    assert isinstance(SPACE, ChainSpace)
    monkeypatch.setattr(type(predictor._opened[0].rule), "additive", False)
    assert not predictor.is_additive(SPACE, 32, 32)
    with pytest.raises(InputError, match="not a sum over blocks") as caught:
        predictor.stage_latencies(SPACE, 32, 32)
    assert caught.value.hint == "--rule sum"


def test_only_the_sum_says_that_it_is_additive() -> None:
    assert {name: open_rule(name).additive for name in ("sum", "cache-aware", "calibrated")} == {
        "sum": True,
        "cache-aware": False,
        "calibrated": False,
    }


def test_rows_and_single_networks_agree(predictor: Predictor) -> None:
    rows = SPACE.sample_rows(200, np.random.default_rng(1))
    together = predictor.predict_rows(SPACE, rows, 32, 32)
    single = [predictor.predict(build(SPACE.architecture(row), 32, 32)).latency_ms for row in rows]
    np.testing.assert_allclose(together, single, rtol=1e-12)


def test_the_document_has_what_its_contract_says(predictor: Predictor) -> None:
    document = predictor.predict(mini_network()).to_dict()
    assert {"latency_ms", "interval_ms", "blocks", "rule"} <= document.keys()
    assert len(document["interval_ms"]) == 2
    assert {"key", "latency_ms"} <= document["blocks"][0].keys()


def table_of(path: Path, passes: list[list[float]]) -> LatencyTable:
    """Return a table in which each distinct block of the mini network has these hot samples, one list a pass."""
    table = LatencyTable.create(path, TableHeader.of(KnownBackend(open_device("local"))))
    session = table.start_session({})
    for block in {block.key: block for block in mini_network().blocks}.values():
        for number, samples in enumerate(passes):
            table.record_pass(block, number, result_of(*samples), session=session, model_sha256="")
    return table


def test_the_interval_is_measurement_error_of_independent_blocks(tmp_path: Path) -> None:
    with table_of(tmp_path / "t.sqlite", [[0.9], [1.0], [1.1]]) as table:
        entry = table.entries()[0]
        prediction = Predictor(table).predict(mini_network())
    assert prediction.interval_ms is not None
    low, high = prediction.interval_ms
    count = len(prediction.blocks)
    assert prediction.latency_ms == pytest.approx(count)
    assert (low + high) / 2 == pytest.approx(count)
    assert entry.half_width_ms is not None
    # Errors of different blocks average out: the sum is relatively surer than one block.
    assert 0 < (high - low) / 2 / count < entry.half_width_ms


def test_a_repeated_block_is_one_error_not_two_independent_ones(tmp_path: Path) -> None:
    with table_of(tmp_path / "t.sqlite", [[0.9], [1.0], [1.1]]) as table:
        entry = table.entries()[0]
        rule = SumRule(table, [entry])
    once, twice = rule.interval_ms([(entry, 1)], 1.0), rule.interval_ms([(entry, 2)], 2.0)
    assert once is not None
    assert twice is not None
    assert twice[1] - 2.0 == pytest.approx(2 * (once[1] - 1.0))


def test_with_a_single_pass_the_interval_is_unknown_rather_than_invented(tmp_path: Path) -> None:
    with table_of(tmp_path / "t.sqlite", [[1.0]]) as table:
        assert Predictor(table).predict(mini_network()).interval_ms is None


def test_a_missing_block_is_named_with_the_command_that_adds_it(tmp_path: Path) -> None:
    path = tmp_path / "a table.sqlite"
    build_mini(path)
    other = build(resolve("df,stem=8s1,classes=10,channels=1/8/8,16/24"), 32, 32)
    with LatencyTable.open(path) as table, pytest.raises(MissingBlocksError) as caught:
        Predictor(table).predict(other)
    missing = [block for block in other.blocks if block.key in caught.value.keys]
    assert [block.kind for block in missing] == ["basic", "classifier_head"]
    for block in missing:
        assert block.digest in str(caught.value)
        assert block.kind in str(caught.value)
    command = shlex.split(caught.value.hint.removeprefix("add: "))
    words = ["dfmobile", "lut", "build", "--space", "df-mini", "--input", "32x32", "--backend", KnownBackend.name]
    assert command == [*words, "-o", str(path)]


def test_the_command_names_what_the_tables_header_tells(tmp_path: Path) -> None:
    build_mini(tmp_path / "t.sqlite")
    with LatencyTable.open(tmp_path / "t.sqlite") as table:
        header = table.header
    told = header.model_copy(
        update={
            "device": "adb:S 1",
            "backend": "benchmark_model",
            "threads": 4,
            "precision": "int8",
            "affinity": "f0",
            "device_profile": {"clusters": [{"name": "big cores", "affinity_mask": "f0"}]},
            "flags": {"processor": "gpu", "flags": "--x", "allow_partial": True, "task_profile": None},
        }
    )
    command = build_command(told, "a table.sqlite", "--space df-mini --input 32x32", max_depth=2)
    assert shlex.split(command) == [
        *("dfmobile", "lut", "build", "--space", "df-mini", "--input", "32x32", "--device", "adb:S 1"),
        *("--backend", "benchmark_model", "--threads", "4", "--precision", "int8", "--max-depth", "2"),
        *("--backend-option", "binary=…", "--backend-option", "processor=gpu"),
        *("--backend-option", "cluster=big cores", "--backend-option", "allow-partial=true"),
        *("--backend-option", "task-profile=none", "-o", "a table.sqlite"),
    ]
    unknown = header.model_copy(update={"backend": "of a plugin", "device": "local"})
    assert "--backend 'of a plugin' -o" in build_command(unknown, "t", "--space df-mini --input 32x32")


def test_a_space_of_another_depth_is_named_with_its_depth(tmp_path: Path) -> None:
    build_mini(tmp_path / "t.sqlite")
    with LatencyTable.open(tmp_path / "t.sqlite") as table:
        predictor = Predictor(table)
    space = open_space("df-mini", 1)
    with pytest.raises(MissingBlocksError) as caught:
        predictor.predict_rows(space, space.rows()[:1], 64, 64)
    assert "--max-depth 1" in caught.value.hint


def test_at_another_input_size_every_block_is_missing(predictor: Predictor) -> None:
    with pytest.raises(MissingBlocksError, match="64x64") as caught:
        predictor.predict(mini_network(64))
    assert "--input 64x64" in caught.value.hint


def test_a_network_of_no_space_gets_a_command_of_its_own(predictor: Predictor) -> None:
    network = build(resolve("ResNet-18"), 64, 64)
    with pytest.raises(MissingBlocksError) as caught:
        predictor.predict(network)
    assert f"--network {network.architecture.text} --input 64x64" in caught.value.hint


def test_rows_of_an_incomplete_table_are_refused(tmp_path: Path) -> None:
    build_mini(tmp_path / "t.sqlite")
    with LatencyTable.open(tmp_path / "t.sqlite") as table:
        predictor = Predictor(table)
    with pytest.raises(MissingBlocksError, match="blocks at 32x32") as caught:
        predictor.predict_rows(SPACE, SPACE.rows()[:5], 32, 32)
    assert "--space df-mini" in caught.value.hint
    assert set(caught.value.keys) == set(SPACE.key_index(32, 32)) - {block.key for block in mini_network().blocks}


def test_skipped_blocks_are_missing_or_infinite_if_asked_never_zero(tmp_path: Path, path: Path) -> None:
    device = open_device("local")
    limited = tmp_path / "limited.sqlite"
    build_table(limited, SPACE, 32, 32, device, KnownBackend(device), Protocol(passes=1), latency_max_ms=100.0)
    with LatencyTable.open(limited) as table, LatencyTable.open(path) as complete:
        skipped = {item.key for item in table.skipped()}
        assert skipped
        predictor, whole = Predictor(table), Predictor(complete)
    rows = SPACE.sample_rows(300, np.random.default_rng(2))
    with pytest.raises(MissingBlocksError, match="skipped by --latency-max 100"):
        predictor.predict_rows(SPACE, rows, 32, 32)
    found = predictor.predict_rows(SPACE, rows, 32, 32, skipped="infinite")
    expected = whole.predict_rows(SPACE, rows, 32, 32)
    assert isinstance(SPACE, ChainSpace)
    by_stage = predictor.stage_latencies(SPACE, 32, 32, skipped="infinite").values(rows)
    np.testing.assert_allclose(by_stage, found, rtol=1e-12)
    for row, latency_ms, unlimited_ms in zip(rows, found, expected, strict=True):
        slow = any(block.key in skipped for block in build(SPACE.architecture(row), 32, 32).blocks)
        assert latency_ms == (math.inf if slow else pytest.approx(unlimited_ms))
        assert not slow or unlimited_ms > 100.0


def test_a_table_of_another_export_version_is_refused(tmp_path: Path) -> None:
    device, path = open_device("local"), tmp_path / "t.sqlite"
    header = TableHeader.of(KnownBackend(device))
    assert header.export_version == EXPORT_VERSION
    document = header.model_dump(mode="json")
    del document["export_version"]  # as tables of version 1 are
    older = parse_header(document, "t.sqlite")
    LatencyTable.create(path, older).close()
    with LatencyTable.open(path) as table, pytest.raises(InputError, match="of export version 1; this dfmobile writes"):
        Predictor(table)
    with pytest.raises(InputError, match=f"export version is 1 in the table and {EXPORT_VERSION} now"):
        build_table(path, SPACE, 32, 32, device, KnownBackend(device), Protocol(passes=2))


def test_a_table_of_layers_is_refused(tmp_path: Path) -> None:
    header = TableHeader.of(KnownBackend(open_device("local"))).model_copy(update={"granularity": "layer"})
    with LatencyTable.create(tmp_path / "t.sqlite", header) as table, pytest.raises(InputError, match="layers"):
        Predictor(table)


def test_an_unknown_rule_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(InputError, match="guess") as caught:
        open_rule("guess")
    assert "sum" in caught.value.hint
    assert "sum" in rule_names()


def test_two_rules_of_one_name_clash() -> None:
    with pytest.raises(PluginError, match="sum"):
        register_rule(type("OtherSum", (SumRule,), {}))


def test_a_better_rule_fits_the_interface(path: Path) -> None:
    """Not a plain sum: a network's weights beyond a cache's size cost their cold latency."""

    class CacheRule(SumRule):
        name = "test-cache"
        cache_bytes = 50_000.0

        def features(self, entry):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return (entry.hot_ms, entry.cold_ms - entry.hot_ms, float(entry.weight_bytes))

        def combine(self, sums):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
            return sums[:, 0] + np.minimum(1.0, sums[:, 2] / self.cache_bytes) * sums[:, 1]

    register_rule(CacheRule)
    with LatencyTable.open(path) as table:
        predictor = Predictor(table, "test-cache")
    rows = SPACE.sample_rows(50, np.random.default_rng(3))
    together = predictor.predict_rows(SPACE, rows, 32, 32)
    for row, latency_ms in zip(rows, together, strict=True):
        prediction = predictor.predict(build(SPACE.architecture(row), 32, 32))
        assert prediction.latency_ms == pytest.approx(latency_ms)
        assert prediction.rule == "test-cache"


def test_a_network_that_precedes_another_is_predicted_no_slower_here(predictor: Predictor) -> None:
    """The known backend times blocks by their size, so the table is monotone like the order."""
    architectures = SPACE.sample(40, np.random.default_rng(4))
    latency = {item: predictor.predict(build(item, 32, 32)).latency_ms for item in architectures}
    for left, right in itertools.permutations(architectures, 2):
        if SPACE.precedes(left, right):
            assert latency[left] <= latency[right] * 1.01
