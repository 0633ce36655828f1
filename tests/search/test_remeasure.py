"""After the search: model files, end-to-end measurements beside predictions, and honesty where there are none."""

import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
from search_helpers import HereExecutor, MacsPredictor, evaluate

from dfmobile import errors
from dfmobile.architecture import Architecture, build
from dfmobile.architecture.spaces import open_space
from dfmobile.devices.device import open_device
from dfmobile.errors import BackendError, DeviceError, GraphError, InputError
from dfmobile.export import onnx as onnx_export
from dfmobile.export.weights import save_weights
from dfmobile.graph import initialise
from dfmobile.latency.backends.base import Backend, MeasureJob, RuntimeIdentity, open_backend
from dfmobile.latency.measurement import PassResult, Protocol
from dfmobile.search import deliver as delivering
from dfmobile.search.campaign import run_campaign
from dfmobile.search.remeasure import remeasure
from dfmobile.search.settings import CampaignSettings
from dfmobile.search.store import CampaignStore

SPACE = open_space("df-mini", max_depth=1)


class StandInBackend(Backend):
    """Says that a model takes as long as the test wants; nothing runs."""

    name = "stand-in"
    model_format = "tflite"

    def __init__(self, times_ms: list[float], fail_after: int | None = None) -> None:
        super().__init__(open_device("local"))
        self.times_ms, self.fail_after, self.jobs = times_ms, fail_after, []  # type: ignore[var-annotated]

    def identity(self) -> RuntimeIdentity:
        return RuntimeIdentity("stand-in", "0", None)

    def affinity(self) -> str | None:
        return None

    def measure(self, jobs: Iterable[MeasureJob]) -> Iterator[tuple[str, PassResult]]:
        for number, job in enumerate(jobs):
            if number == self.fail_after:
                raise DeviceError("the device went away")
            assert job.model_path.stat().st_size > 0
            self.jobs.append(job.id)
            time_ms = self.times_ms[int(job.id.partition("/")[0]) % len(self.times_ms)]
            yield job.id, PassResult([time_ms] * 3, [], "wall", [time_ms], 1, True, 1.0, 4.0, 4.0, 1.0, 0, "")


def _search(folder: Path, budget: int = 8, evaluator: Any = evaluate) -> Path:
    with HereExecutor(evaluator) as executor:
        run_campaign(
            folder, SPACE, MacsPredictor(), "analytic", {}, executor, CampaignSettings(mode="paper", budget=budget)
        )
    return folder


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _search(tmp_path_factory.mktemp("run"))


def _boundary(folder: Path) -> list[dict[str, Any]]:
    return list(json.loads((folder / "boundary.json").read_text()))


def test_the_boundary_is_measured_by_litert_and_delivered(finished: Path) -> None:
    with open_device("local") as device:
        result = remeasure(finished, open_backend("litert", device), Protocol(passes=2, runs=3, cold_runs=0))
    records = _boundary(finished)
    with CampaignStore(finished / "campaign.sqlite") as store:
        assert [item.encoding for item in store.boundary()] == [record["encoding"] for record in records]
        assert store.remeasured() == {record["encoding"]: record for record in records}
    assert result.records == records
    assert result.bias is not None
    for record in records:
        assert {"encoding", "predicted_ms", "measured_ms", "accuracy"} <= set(record)
        assert record["measured_ms"] > 0
        assert record["status"] == "re-measured"
        assert record["weights"].startswith("random (")
        assert record["measurement"]["backend"] == "litert"
        assert len(record["measurement"]["passes"]) == 2
        assert {*record["files"], *record["missing"]} == {"tflite", "onnx"}
        for format in record["files"]:
            assert (finished / record["files"][format]["path"]).stat().st_size == record["files"][format]["size_bytes"]


def test_without_a_device_it_says_so_and_delivers_the_files(tmp_path: Path) -> None:
    folder = _search(tmp_path, budget=3)
    result = remeasure(folder, None, unreachable="adb:0123 is not connected")
    assert "not re-measured: adb:0123 is not connected" in result.notes
    assert result.bias is None
    for record in _boundary(folder):
        assert record["measured_ms"] is None
        assert record["status"] == "not re-measured: adb:0123 is not connected"
        assert (folder / record["files"]["tflite"]["path"]).exists()


def test_a_device_that_goes_away_leaves_what_was_measured(tmp_path: Path) -> None:
    folder = _search(tmp_path)
    count = len(remeasure(folder, None).records)
    remeasure(folder, StandInBackend([1.0], fail_after=3 * count - 1), Protocol(passes=3))
    states = [record["status"] for record in _boundary(folder)]
    assert states.count("not re-measured: the device went away") == 1
    assert states.count("re-measured") == count - 1


def test_a_measurement_is_kept_when_the_device_is_away_later(tmp_path: Path) -> None:
    folder = _search(tmp_path, budget=3)
    remeasure(folder, StandInBackend([2.5]))
    remeasure(folder, None)
    assert {(record["measured_ms"], record["status"]) for record in _boundary(folder)} == {(2.5, "re-measured")}


def test_a_device_that_plays_recorded_logs_measures_nothing(tmp_path: Path) -> None:
    class ReplayBackend(StandInBackend):
        def identity(self) -> RuntimeIdentity:
            return RuntimeIdentity("stand-in", "0", None, {"replay": True})

    folder, backend = _search(tmp_path, budget=3), ReplayBackend([2.5])
    result = remeasure(folder, backend)
    assert backend.jobs == []
    assert all(record["measured_ms"] is None for record in _boundary(folder))
    assert all("replay" in record["status"] for record in _boundary(folder))
    assert any("plays recorded logs" in note for note in result.notes)


def test_passes_of_different_architectures_are_shuffled(tmp_path: Path) -> None:
    backend = StandInBackend([1.0])
    remeasure(_search(tmp_path), backend, Protocol(passes=4))
    assert sorted(backend.jobs) != backend.jobs
    assert len(set(backend.jobs)) == len(backend.jobs) == 4 * len(_boundary(tmp_path))


def test_a_measured_order_against_the_predicted_one_is_said(tmp_path: Path) -> None:
    folder = _search(tmp_path)
    count = len(remeasure(folder, None).records)
    assert count > 1
    result = remeasure(folder, StandInBackend([2.0, 1.0] + [50.0] * (count - 2)))
    first, second = _boundary(folder)[:2]
    assert result.contradictions == [{"faster": first["encoding"], "slower": second["encoding"], "beyond_noise": True}]
    assert first["on_measured_boundary"] is False
    assert second["on_measured_boundary"] is True
    assert any("reverse of the predicted order" in note for note in result.notes)


def test_trained_weights_go_into_the_files_only_if_they_are_of_this_network(tmp_path: Path) -> None:
    def trained(payload: dict[str, Any]) -> dict[str, Any]:
        architecture = Architecture.parse(payload["encoding"])
        folder = Path(payload["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(folder / "weights.npz", initialise(build(architecture, 32, 32).graph, seed=5), {})
        proxy = "64" in payload["encoding"].rpartition("/")[2]
        details = {"trained_encoding": "df/8/8/8" if proxy else payload["encoding"]}
        return {**evaluate(payload), "details": details, "weights": str(folder / "weights.npz")}

    records = remeasure(_search(tmp_path, evaluator=trained), None).records
    for record in records:
        proxy = "64" in record["encoding"].rpartition("/")[2]
        assert record["weights"] == ("random (accuracy is of a scaled proxy: df/8/8/8)" if proxy else "trained")
    assert {record["weights"] == "trained" for record in records} == {True, False}


def test_trained_weights_that_do_not_fit_are_an_error(tmp_path: Path) -> None:
    def wrong(payload: dict[str, Any]) -> dict[str, Any]:
        folder = Path(payload["folder"])
        folder.mkdir(parents=True, exist_ok=True)
        save_weights(folder / "weights.npz", {}, {})
        details = {"trained_encoding": payload["encoding"]}
        return {**evaluate(payload), "details": details, "weights": str(folder / "weights.npz")}

    with pytest.raises(GraphError, match="is missing"):
        remeasure(_search(tmp_path, budget=2, evaluator=wrong), None)


def test_without_the_onnx_extra_the_record_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = _search(tmp_path, budget=2)

    def missing(module: str, extra: str, purpose: str) -> Any:
        raise errors.MissingExtraError(f"{purpose} needs {module}")

    monkeypatch.setattr(onnx_export, "import_extra", missing)
    result = remeasure(folder, None)
    for record in result.records:
        assert record["missing"] == {"onnx": "not written (extra onnx is not installed)"}
        assert list(record["files"]) == ["tflite"]
    assert "onnx: not written (extra onnx is not installed)" in result.notes


def test_an_int8_backend_measures_an_int8_file(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_quantizer", reason="the extra quantize is not installed")
    backend = open_backend("litert", open_device("local"), precision="int8")
    quick = Protocol(passes=1, runs=2, cold_runs=0, warm_up_ms=0.0, warm_up_limit_ms=5.0)
    remeasure(_search(tmp_path), backend, quick)
    for record in _boundary(tmp_path):
        assert record["measured_ms"] > 0
        assert record["measurement"]["precision"] == "int8"
        small = tmp_path / record["files"]["tflite-int8"]["path"]
        assert small.name.endswith(".int8.tflite")
        assert b"random: for timing only" in small.read_bytes()
        assert small.stat().st_size < (tmp_path / record["files"]["tflite"]["path"]).stat().st_size


def test_a_backend_that_cannot_run_a_file_is_an_error(tmp_path: Path) -> None:
    class Broken(StandInBackend):
        def measure(self, jobs: Iterable[MeasureJob]) -> Iterator[tuple[str, PassResult]]:
            raise BackendError("cannot load")
            yield

    with pytest.raises(BackendError):
        remeasure(_search(tmp_path, budget=2), Broken([1.0]))


def test_a_folder_without_a_campaign_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        remeasure(tmp_path, None)
    with pytest.raises(InputError, match="is not a folder"):
        remeasure(tmp_path / "missing", None)


def test_networks_too_large_for_a_file_are_said_and_the_others_are_measured(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(shutil.copytree(finished, tmp_path / "copy"))
    with CampaignStore(folder / "campaign.sqlite") as store:
        boundary = [item.encoding for item in store.boundary()]
    sizes = [
        4 * sum(item.size for item in build(Architecture.parse(text), 32, 32).graph.parameters().values())
        for text in boundary
    ]
    monkeypatch.setattr(delivering, "MAX_WEIGHTS_BYTES", max(sizes) - 1)
    result = remeasure(folder, StandInBackend([1.0]), Protocol(passes=1))
    large = [record for record in result.records if "more than the" in record["status"]]
    assert [record["encoding"] for record in large] == [
        text for text, size in zip(boundary, sizes, strict=True) if size == max(sizes)
    ]
    assert all(record["files"] == {} and record["measured_ms"] is None for record in large)
    assert all(record["measured_ms"] == 1.0 for record in result.records if record not in large)
    assert any("too large for a file" in note for note in result.notes)
    for record in remeasure(folder, None, unreachable="no phone").records:
        assert ("no phone" in record["status"]) == (record["measured_ms"] is None and record not in large)
