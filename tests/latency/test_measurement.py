"""Protocols, passes, block models and benches: values that cannot be are refused, good ones come through."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from latency_helpers import KnownBackend, mini_network, result_of

from dfmobile.architecture import build, resolve
from dfmobile.devices.device import open_device
from dfmobile.errors import BackendError, FileFormatError, InputError, StorageError
from dfmobile.latency.bench import bench_model, bench_models
from dfmobile.latency.inprocess import random_inputs
from dfmobile.latency.measurement import PassResult, Protocol
from dfmobile.latency.models import ModelFolder, cheap_weights


@given(st.floats(1e-4, 1e5))
def test_run_counts_stay_within_their_limits(run_ms: float) -> None:
    protocol = Protocol()
    assert protocol.min_runs <= protocol.hot_runs_for(run_ms) <= protocol.runs
    assert 1 <= protocol.cold_runs_for(run_ms) <= protocol.cold_runs


@given(st.floats(1e-3, 1e4), st.floats(1.0, 10.0))
def test_a_slower_model_gets_no_more_runs_and_takes_no_less_time(run_ms: float, factor: float) -> None:
    protocol = Protocol()
    assert protocol.hot_runs_for(factor * run_ms) <= protocol.hot_runs_for(run_ms)
    assert protocol.cold_runs_for(factor * run_ms) <= protocol.cold_runs_for(run_ms)


def test_short_blocks_get_ten_runs_and_long_ones_fewer() -> None:
    protocol = Protocol()
    assert [protocol.hot_runs_for(run_ms) for run_ms in (1.0, 50.0, 100.0, 1000.0)] == [10, 10, 5, 3]
    assert Protocol(cold_runs=0).cold_runs_for(1.0) == 0


@pytest.mark.parametrize(
    "change",
    [
        {"passes": 0},
        {"runs": 0},
        {"threads": 0},
        {"cold_runs": -1},
        {"min_warm_up_runs": 0},
        {"warm_up_ms": -1.0},
        {"hot_budget_ms": math.nan},
        {"steady_ratio": 1.0},
        {"stop_above_ms": 0.0},
        {"stop_above_ms": math.inf},
    ],
)
def test_an_impossible_protocol_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Protocol(**change)


@pytest.mark.parametrize(
    "change",
    [
        {"hot_ms": [1.0, -1.0]},
        {"hot_ms": [0.0]},
        {"hot_ms": [math.nan]},
        {"hot_ms": [math.inf]},
        {"hot_ms": [1e12]},
        {"hot_ms": ["1"]},
        {"hot_ms": 1.0},
        {"hot_ms": []},
        {"hot_ms": [True]},
        {"cold_ms": None},
        {"clock": "sundial"},
        {"warm_up_runs": -1},
        {"warm_up_runs": 1.5},
        {"steady": 1},
        {"init_ms": math.nan},
        {"kernel_ms": -1},
        {"started_utc": ""},
        {"conditions_before": []},
        {"peak_memory_bytes": "many"},
        {"stopped": True},
    ],
)
def test_an_impossible_pass_is_refused(change: dict[str, Any]) -> None:
    document = {**result_of(1.0, 2.0).to_dict(), **change}
    with pytest.raises(FileFormatError, match=r"^pass 3"):
        PassResult.from_dict(document, "pass 3")


def test_a_pass_may_not_know_how_long_the_interpreter_took_to_be_ready() -> None:
    result = dataclasses.replace(result_of(1.0), init_ms=None)
    assert PassResult.from_dict(json.loads(json.dumps(result.to_dict())), "a") == result


def test_missing_and_unknown_fields_are_refused_by_name() -> None:
    document = result_of(1.0).to_dict()
    with pytest.raises(FileFormatError, match="surprise"):
        PassResult.from_dict({**document, "surprise": 1}, "a")
    del document["clock"]
    with pytest.raises(FileFormatError, match="clock"):
        PassResult.from_dict(document, "a")


def test_weights_for_timing_are_ordinary_numbers() -> None:
    graph = build(resolve("DF1"), 64, 64).blocks[-2].graph
    weights = cheap_weights(graph)
    graph.check_weights(weights)
    for name, values in weights.items():
        assert values.dtype == np.float32
        assert np.isfinite(values).all()
        assert np.abs(values).min() > np.finfo(np.float32).tiny, name
        assert values.std() > 0, name


def test_weights_and_inputs_are_the_same_every_time() -> None:
    graph = mini_network().blocks[1].graph
    first, second = cheap_weights(graph), cheap_weights(graph)
    assert all(np.array_equal(first[name], second[name]) for name in first)
    shapes = [(1, 3, 5, 7), (1, 2, 5, 7)]
    for left, right, shape in zip(random_inputs(shapes), random_inputs(shapes), shapes, strict=True):
        assert np.array_equal(left, right)
        assert left.shape == shape


def test_model_files_are_equal_when_made_again(tmp_path: Path) -> None:
    block = mini_network().blocks[1]
    with ModelFolder(tmp_path / "models", "tflite", max_bytes=0) as models:
        first = models.model(block)
        content = first.path.read_bytes()
        models.release(block, last=False)  # nothing may be kept
        assert not first.path.exists()
        assert models.model(block).path.read_bytes() == content
    assert not (tmp_path / "models").exists()


def test_a_folder_left_by_a_killed_build_is_emptied_but_not_what_others_put_there(tmp_path: Path) -> None:
    folder = tmp_path / "models"
    folder.mkdir()
    (folder / "0123456789ab.tflite").write_text("left over")
    (folder / "thesis.txt").write_text("dear")
    with pytest.raises(StorageError, match="models"), ModelFolder(folder, "tflite"):
        pass
    assert [path.name for path in folder.iterdir()] == ["thesis.txt"]


def test_a_format_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    with ModelFolder(tmp_path / "models", "engine") as models, pytest.raises(InputError, match="engine"):
        models.model(mini_network().blocks[0])


@pytest.fixture
def two_models(tmp_path: Path) -> list[Path]:
    paths = []
    with ModelFolder(tmp_path / "models", "tflite") as models:
        for number, block in enumerate(mini_network().blocks[:2]):
            path = tmp_path / f"{number}.tflite"
            path.write_bytes(models.model(block).path.read_bytes())
            paths.append(path)
    return paths


def test_a_model_file_is_measured_for_real(two_models: list[Path]) -> None:
    protocol = Protocol(passes=3, runs=5, cold_runs=0, warm_up_ms=1.0)
    result = bench_model(two_models[1], open_device("local"), "litert", protocol)
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    wanted = {"median_ms", "p5_ms", "p95_ms", "n", "samples_ms", "init_ms", "peak_memory_bytes", "backend", "device"}
    assert wanted | {"provenance"} <= document.keys()
    assert document["n"] == len(document["samples_ms"]) == 15
    assert min(document["samples_ms"]) <= document["p5_ms"] <= document["median_ms"] <= document["p95_ms"]
    assert document["provenance"]["clock"] == "thread-cpu"
    assert len(document["provenance"]["passes"]) == 3


def test_several_files_are_measured_in_rounds(two_models: list[Path]) -> None:
    backend = KnownBackend(open_device("local"))
    results = bench_models(two_models, backend.device, backend, Protocol(passes=4, cold_runs=0))
    assert [result.median_ms for result in results] == [path.stat().st_size / 1000 for path in two_models]
    turns = [name.split("-")[1] for name in backend.measured]
    assert all(set(turns[start : start + 2]) == {"0", "1"} for start in range(0, 8, 2))


def test_a_missing_model_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"nowhere\.tflite: no such file"):
        bench_model(tmp_path / "nowhere.tflite", open_device("local"), "litert")


def test_a_file_that_is_no_model_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "notes.tflite"
    path.write_text("notes " * 100)
    with pytest.raises(BackendError, match=r"notes\.tflite"):
        bench_model(path, open_device("local"), "litert")


def test_a_bench_has_a_half_width_only_with_several_passes(two_models: list[Path]) -> None:
    backend = KnownBackend(open_device("local"))
    protocol = Protocol(passes=1, cold_runs=0)
    assert bench_model(two_models[0], backend.device, backend, protocol).half_width_ms is None
    protocol = dataclasses.replace(protocol, passes=2)
    assert bench_model(two_models[0], backend.device, backend, protocol).half_width_ms == 0.0
