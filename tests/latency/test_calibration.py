"""Calibrating and validating a table: resumable, stored, checked, and never silently another rule."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from latency_helpers import AheadBackend, KnownBackend, build_mini, mini_network
from typer.testing import CliRunner

from dfmobile.architecture import build
from dfmobile.architecture.spaces import open_space
from dfmobile.cli.main import app
from dfmobile.devices.device import open_device
from dfmobile.errors import FileFormatError, InputError, MissingBlocksError
from dfmobile.latency import calibrate, working_set
from dfmobile.latency.backends.base import MeasureJob
from dfmobile.latency.builder import build_table
from dfmobile.latency.calibrate import CalibrationReport, calibrate_table
from dfmobile.latency.calibration import stored_calibrations
from dfmobile.latency.measurement import Protocol
from dfmobile.latency.networks import stored_network, stored_networks
from dfmobile.latency.predictor import Predictor, available_rules, default_rules
from dfmobile.latency.table import LatencyTable
from dfmobile.latency.validation import Validation, validate_table, write_csv

SPACE = open_space("df-mini", 2)
NETWORKS = 10


@pytest.fixture(autouse=True, scope="module")
def short_sweep() -> Any:
    """Up to 12 MB instead of 134 MB."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(working_set, "_SWEEP", ((512, 1), (1024, 1), (1024, 2), (1024, 3)))
        yield


def slower_whole(job: MeasureJob) -> float:
    """A device on which networks take 1.2 times what their blocks do."""
    return 1.2 if job.id.startswith("network") else 1.0


def backend_of(kind: type[KnownBackend] = KnownBackend) -> KnownBackend:
    backend = kind(open_device("local"))
    backend.pace = slower_whole
    return backend


def calibrated(path: Path, backend: KnownBackend, **options: Any) -> CalibrationReport:
    return calibrate_table(path, SPACE, 32, 32, backend, **{"networks": NETWORKS, "passes": 2, **options})


def validated(path: Path, backend: KnownBackend, **options: Any) -> Validation:
    return validate_table(path, SPACE, 32, 32, backend, **{"networks": 20, **options})


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("built") / "t.sqlite"
    device = open_device("local")
    build_table(path, SPACE, 32, 32, device, KnownBackend(device), Protocol(passes=2))
    return path


@pytest.fixture(scope="module")
def ready(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table that is calibrated."""
    path = tmp_path_factory.mktemp("ready") / "t.sqlite"
    shutil.copy(built, path)
    calibrated(path, backend_of())
    return path


@pytest.fixture
def path(built: Path, tmp_path: Path) -> Path:
    """A fresh copy of the table, not calibrated."""
    return Path(shutil.copy(built, tmp_path / "t.sqlite"))


@pytest.fixture
def copy(ready: Path, tmp_path: Path) -> Path:
    """A fresh copy of the calibrated table."""
    return Path(shutil.copy(ready, tmp_path / "c.sqlite"))


def test_networks_that_are_slower_than_their_blocks_are_predicted_so(built: Path, ready: Path) -> None:
    with LatencyTable.open(built) as table:
        before = Predictor(table)
    with LatencyTable.open(ready) as table:
        after = Predictor(table)
    rows = SPACE.sample_rows(50, np.random.default_rng(0))
    ratio = after.predict_rows(SPACE, rows, 32, 32) / before.predict_rows(SPACE, rows, 32, 32)
    # The model file of a network is smaller than those of its blocks together, hence a little below 1.2.
    assert 1.05 < np.median(ratio) < 1.21


def test_which_rule_is_used_is_said_and_follows_from_the_table(path: Path, ready: Path) -> None:
    with LatencyTable.open(path) as table:
        assert default_rules(table) == available_rules(table) == ["sum"]
        found = Predictor(table).predict(mini_network())
        assert found.rule == "sum"
        assert found.basis
        with pytest.raises(InputError, match="working-set") as caught:
            Predictor(table, "cache-aware")
        assert "lut calibrate" in caught.value.hint
        with pytest.raises(InputError, match="no calibration"):
            Predictor(table, "calibrated").predict(mini_network())
    calibrate.measure_device(path, backend_of())
    with LatencyTable.open(path) as table:
        assert Predictor(table).predict(mini_network()).rule == "cache-aware"
    with LatencyTable.open(ready) as table:
        assert available_rules(table) == ["calibrated", "cache-aware", "sum"]
        predictor = Predictor(table)
        assert predictor.predict(mini_network()).rule == predictor.rule_for(SPACE, 32, 32) == "calibrated"
        for name in available_rules(table):
            assert Predictor(table, name).predict(mini_network()).rule == name


def test_a_calibration_is_for_its_space_and_input_only(copy: Path) -> None:
    build_mini(copy, network=mini_network(64))
    with LatencyTable.open(copy) as table:
        predictor = Predictor(table)
        assert predictor.predict(mini_network()).rule == "calibrated"
        assert predictor.predict(mini_network(64)).rule == "cache-aware"
        with pytest.raises(InputError, match="no calibration"):
            Predictor(table, "calibrated").predict(mini_network(64))


def test_one_by_one_and_vectorised_agree(ready: Path) -> None:
    with LatencyTable.open(ready) as table:
        predictor = Predictor(table)
    rows = SPACE.sample_rows(40, np.random.default_rng(1))
    together = predictor.predict_rows(SPACE, rows, 32, 32)
    intervals = predictor.interval_rows(SPACE, rows, 32, 32)
    middle, half = predictor.difference_rows(SPACE, rows, rows[::-1], 32, 32)
    networks = [build(SPACE.architecture(row), 32, 32) for row in rows]
    for number, network in enumerate(networks):
        found = predictor.predict(network)
        assert found.latency_ms == pytest.approx(together[number])
        assert found.interval_ms == pytest.approx(tuple(intervals[number]))
        difference = predictor.difference(network, networks[-1 - number])
        assert difference.latency_ms == pytest.approx(middle[number])
        assert difference.interval_ms == pytest.approx((middle[number] - half[number], middle[number] + half[number]))


def test_the_sum_rule_has_vectorised_intervals_and_differences_too(ready: Path) -> None:
    with LatencyTable.open(ready) as table:
        predictor = Predictor(table, "sum")
    rows = SPACE.sample_rows(10, np.random.default_rng(1))
    intervals = predictor.interval_rows(SPACE, rows, 32, 32)
    for row, interval in zip(rows, intervals, strict=True):
        assert predictor.predict(build(SPACE.architecture(row), 32, 32)).interval_ms == pytest.approx(tuple(interval))
    assert predictor.difference_rows(SPACE, rows, rows, 32, 32)[1] == pytest.approx(np.zeros(10))
    middle, half = predictor.difference_rows(SPACE, rows, rows[::-1], 32, 32)
    networks = [build(SPACE.architecture(row), 32, 32) for row in rows]
    for number, network in enumerate(networks):
        difference = predictor.difference(network, networks[-1 - number])
        assert difference.interval_ms == pytest.approx((middle[number] - half[number], middle[number] + half[number]))


def test_what_was_measured_and_fitted_is_in_the_table(ready: Path) -> None:
    with LatencyTable.open(ready) as table:
        (found,) = stored_calibrations(table)
        networks = stored_networks(table, 32, 32, found.networks)
    assert len(set(found.networks)) == NETWORKS
    assert found.document_name == "calibration 32x32 df-mini"
    assert {"scales", "interval_multiplier", "mean_deviation_by_kind"} <= found.coefficients.keys()
    assert all(
        len(network.passes) == 3 and network.sessions for network in networks
    )  # two do not tell how well they repeat
    assert any(value == pytest.approx(1.0) for network in networks for value in network.drift)
    latency = sorted(network.quiet_ms for network in networks)
    assert latency[-1] / latency[0] > 3  # they span the space


def test_an_interrupted_calibration_goes_on_where_it_was(path: Path) -> None:
    backend = backend_of()

    def stop(job: MeasureJob) -> None:
        if sum(item.startswith("network") for item in backend.measured) == 7:
            raise KeyboardInterrupt

    backend.before_result = stop
    with pytest.raises(KeyboardInterrupt):
        calibrated(path, backend)
    again = backend_of()
    calibrated(path, again)
    assert sum(item.startswith("network") for item in again.measured) == 3 * NETWORKS - 7
    finished = backend_of()
    calibrated(path, finished)
    assert finished.measured == []


def test_a_backend_that_works_ahead_gives_the_same(path: Path, ready: Path) -> None:
    calibrated(path, backend_of(AheadBackend))
    with LatencyTable.open(path) as table, LatencyTable.open(ready) as other:
        one, two = (Predictor(item).predict(mini_network()).latency_ms for item in (table, other))
    assert one == pytest.approx(two)


def test_a_table_of_another_version_is_refused(path: Path) -> None:
    with pytest.raises(InputError, match="version"):
        calibrated(path, KnownBackend(open_device("local"), version="2.0"))


def test_a_table_that_lacks_blocks_is_refused_with_the_command_that_adds_them(tmp_path: Path) -> None:
    build_mini(tmp_path / "t.sqlite")
    with pytest.raises(MissingBlocksError) as caught:
        calibrated(tmp_path / "t.sqlite", backend_of())
    assert "lut build --space df-mini" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "value"),
    [("networks", ["df/8/8/8"] * 8), ("networks", []), ("space", "other"), ("width", 0), ("more", 1)],
)
def test_a_damaged_calibration_is_refused(copy: Path, name: str, value: object) -> None:
    with LatencyTable.open(copy) as table:
        (found,) = stored_calibrations(table)
        table.set_document(found.document_name, {**found.model_dump(mode="json"), name: value})
        with pytest.raises(FileFormatError):
            Predictor(table)


@pytest.mark.parametrize("damage", ["blocks", "encoding", "passes"])
def test_a_damaged_network_is_refused(copy: Path, damage: str) -> None:
    with LatencyTable.open(copy) as table:
        (found,) = stored_calibrations(table)
        (network,) = stored_networks(table, 32, 32, found.networks[:1])
        document = network.to_dict()
        if damage == "blocks":
            document["blocks"] = {"0123456789ab": 3}
        elif damage == "encoding":
            document["encoding"] = found.networks[1]
        else:
            document["passes"][0]["result"]["hot_ms"] = [-1.0]
        table.set_document(network.document_name, document)
        with pytest.raises(FileFormatError):
            Predictor(table)


def test_a_network_of_other_blocks_than_today_is_refused(copy: Path) -> None:
    with LatencyTable.open(copy) as table:
        (found,) = stored_calibrations(table)
        (network,) = stored_networks(table, 32, 32, found.networks[:1])
        table.set_document(network.document_name, {**network.to_dict(), "blocks": {"0123456789ab": 3}})
        row = next(row for row in SPACE.rows() if SPACE.architecture(row).text == network.encoding)
        with pytest.raises(FileFormatError, match="other blocks"):
            stored_network(table, build(SPACE.architecture(row), 32, 32))


def test_validation_of_a_device_without_noise_finds_none(copy: Path) -> None:
    with LatencyTable.open(copy) as table:
        (calibration,) = stored_calibrations(table)
    found = validated(copy, backend_of())
    assert found.rule == "calibrated"
    assert found.noise_floor == pytest.approx(0.0)
    assert found.agreement.mape < 0.03
    assert found.agreement.kendall_tau > 0.97
    assert found.agreement.n == len({item.encoding for item in found.networks}) == 20
    assert not {item.encoding for item in found.networks} & set(calibration.networks)
    assert set(found.by_rule) == {"calibrated", "cache-aware", "sum"}
    assert found.by_rule["sum"].bias < -0.05
    assert abs(found.worst[0].error) == pytest.approx(found.agreement.max_error)
    assert found.drift is not None
    assert found.drift[1] == pytest.approx(1.0)
    # Passes agree at once, so none has more than it must.
    assert {item.passes for item in found.networks} == {4}


def test_validation_goes_on_and_does_not_choose_anew(copy: Path) -> None:
    backend = backend_of()

    def stop(job: MeasureJob) -> None:
        if sum(item.startswith("network") for item in backend.measured) == 30:
            raise KeyboardInterrupt

    backend.before_result = stop
    with pytest.raises(KeyboardInterrupt):
        validated(copy, backend)
    again = backend_of()
    first = validated(copy, again)
    assert sum(item.startswith("network") for item in again.measured) == 80 - 30
    assert validated(copy, backend_of()).to_dict() == first.to_dict()


def test_a_network_whose_passes_disagree_is_measured_again(copy: Path) -> None:
    backend, turn = backend_of(), [0]

    def noisy(job: MeasureJob) -> float:
        turn[0] += 1
        return 1.2 * (1 + 0.3 * (turn[0] % 7)) if job.id.startswith("network") else 1.0

    backend.pace = noisy
    found = validated(copy, backend)
    assert max(item.passes for item in found.networks) > 4
    assert all(item.passes == 8 or item.half_width <= 0.02 for item in found.networks)
    assert found.noise_floor is not None
    assert found.noise_floor > 0.0


def test_networks_can_be_named(copy: Path, tmp_path: Path) -> None:
    chosen = [item.text for item in SPACE.sample(3, np.random.default_rng(9))]
    found = validated(copy, backend_of(), encodings=chosen)
    assert [item.encoding for item in found.networks] == chosen
    write_csv(tmp_path / "v.csv", found)
    lines = (tmp_path / "v.csv").read_text().splitlines()
    assert len(lines) == 4
    assert lines[0].startswith("encoding,predicted_ms")


def test_only_fast_networks_where_that_is_asked_for(copy: Path) -> None:
    with LatencyTable.open(copy) as table:
        middle = float(np.median(Predictor(table).predict_rows(SPACE, SPACE.rows(), 32, 32)))
    found = validated(copy, backend_of(), latency_max_ms=middle, networks=10)
    assert max(item.predicted_ms for item in found.networks) <= middle


def test_the_commands(copy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfmobile.latency.backends.base.open_backend", lambda *_, **__: backend_of())

    def invoke(*arguments: str | Path) -> Any:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return result.stdout

    report = json.loads(invoke("lut", "calibrate", copy, "--networks", "10", "--passes", "2", "--json"))
    assert report["n"] == 10
    assert report["space"] == "df-mini"
    options = ("lut", "validate", copy, "--networks", "12", "--csv", tmp_path / "v.csv", "--plot", tmp_path / "v.svg")
    found = json.loads(invoke(*options, "--json"))
    wanted = {"n", "mape", "bias", "max_error", "within_5", "within_10", "kendall_tau", "coverage", "noise_floor"}
    assert wanted | {"networks"} <= found.keys()
    assert {"encoding", "predicted_ms", "measured_ms"} <= found["networks"][0].keys()
    assert "<svg" in (tmp_path / "v.svg").read_text()
    assert len((tmp_path / "v.csv").read_text().splitlines()) == 13
    text = invoke(*options)
    assert "rule calibrated" in text
    assert "noise floor" in text
    encoding = mini_network().architecture.text
    assert json.loads(invoke("predict", encoding, "--lut", copy, "--json"))["rule"] == "calibrated"
    assert "rule sum" in invoke("predict", encoding, "--lut", copy, "--rule", "sum")
    run = tmp_path / "run"
    run.mkdir()
    (run / "boundary.json").write_text(json.dumps([{"encoding": encoding}]))
    assert json.loads(invoke("lut", "validate", copy, "--run", run, "--json"))["n"] == 1


def test_a_space_must_be_named_where_there_are_several(copy: Path) -> None:
    device = open_device("local")
    build_table(copy, SPACE, 64, 64, device, KnownBackend(device), Protocol(passes=1))
    result = CliRunner().invoke(app, ["lut", "validate", str(copy)])
    assert result.exit_code == 1
    assert "several builds" in result.output
    assert "--input" in result.output


def test_a_pass_beside_a_disturbed_anchor_is_measured_again(copy: Path) -> None:
    backend = backend_of()
    turn = 0

    def disturbed(job: MeasureJob) -> float:
        """From the 30th job on, six jobs take twice as long."""
        nonlocal turn
        turn += 1
        return 2.0 if 30 <= turn < 36 else 1.0

    backend.pace = disturbed
    found = validate_table(copy, SPACE, 32, 32, backend, networks=12)
    assert found.rejected > 0
    assert found.noise_floor == pytest.approx(0.0, abs=1e-9)  # nothing of the six jobs is left
    with LatencyTable.open(copy) as table:
        networks = stored_networks(table, 32, 32, [item.encoding for item in found.networks])
    assert sum(len(item.rejected) for item in networks) == found.rejected
    assert all(len(item.passes) == 4 for item in networks)


def test_a_level_that_stays_is_accepted(copy: Path) -> None:
    backend = backend_of()
    turn = 0

    def slower(job: MeasureJob) -> float:
        nonlocal turn
        turn += 1
        return 1.0 if turn < 15 else 1.5

    backend.pace = slower
    found = validate_table(copy, SPACE, 32, 32, backend, networks=12)
    assert all(item.passes >= 4 for item in found.networks)
    assert found.rejected <= 3 * 12 * 8
