"""A model over time: steady state, camera pace, MLPerf's queries. Clocks are simulated, so nothing waits."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from latency_helpers import KnownBackend, mini_network
from typer.testing import CliRunner

from dfmobile.devices.device import open_device
from dfmobile.errors import InputError, StorageError
from dfmobile.latency.backends.base import open_backend
from dfmobile.latency.bench_modes import bench_cadence, bench_mlperf, bench_sustained, throttling_onset_s
from dfmobile.latency.inprocess_phases import Timer, run_phases
from dfmobile.latency.models import timing_model
from dfmobile.latency.phases import Phase, PhasesResult
from dfmobile.runtimes.base import ModelRunner


class SimulatedTime(Timer):
    """A machine whose clocks move only when something runs or sleeps."""

    def __init__(self) -> None:
        self.wall = 0
        self.cpu = 0
        self.slept_s = 0.0

    def wall_ns(self) -> int:
        return self.wall

    def cpu_ns(self) -> int:
        return self.cpu

    def sleep(self, seconds: float) -> None:
        self.wall += max(1, round(seconds * 1e9))
        self.slept_s += seconds

    def work(self, milliseconds: float) -> None:
        self.wall += round(milliseconds * 1e6)
        self.cpu += round(milliseconds * 1e6)


class SimulatedRunner(ModelRunner):
    """A model whose run takes as long as a function of the time says."""

    def __init__(self, clocks: SimulatedTime, run_ms: Callable[[float], float]) -> None:
        self.input_shapes = [(1, 2)]
        self._clocks, self._run_ms = clocks, run_ms
        self.copies = 0

    def set_inputs(self, inputs: Sequence[npt.NDArray[np.float32]]) -> None:
        self.copies += 1
        self._clocks.work(0.5)

    def invoke(self) -> None:
        self._clocks.work(self._run_ms(self._clocks.wall / 1e9))

    def outputs(self) -> list[npt.NDArray[Any]]:
        return [np.zeros((1, 2), np.float32)]

    def close(self) -> None:
        pass


class SimulatedBackend(KnownBackend):
    """Keeps simulated models running."""

    def __init__(
        self, run_ms: Callable[[float], float], conditions: Callable[[float], dict[str, Any]] | None = None
    ) -> None:
        super().__init__(open_device("local"))
        self.clocks = SimulatedTime()
        self.run_ms = run_ms
        self.conditions = conditions or (lambda now_s: {})

    def run_phases(self, model_path: Path, phases: Sequence[Phase], purpose: str) -> PhasesResult:
        return run_phases(
            lambda: SimulatedRunner(self.clocks, self.run_ms),
            phases,
            lambda: self.conditions(self.clocks.wall / 1e9),
            threads=self.threads,
            input_shapes=lambda runner: runner.input_shapes,
            timer=self.clocks,
        )


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "m.tflite"
    path.write_bytes(timing_model(mini_network().blocks[1].graph, "tflite"))
    return path


def check_document(document: dict[str, Any], mode: str) -> dict[str, Any]:
    """Check what every mode's document has, as ``bench --json`` always had it; return the mode's part."""
    document = json.loads(json.dumps(document, allow_nan=False))
    wanted = {"median_ms", "p5_ms", "p95_ms", "n", "samples_ms", "init_ms", "peak_memory_bytes", "backend", "device"}
    assert wanted | {"provenance", "mode", mode} <= document.keys()
    assert document["mode"] == mode
    assert document["provenance"]["model_sha256"]
    details: dict[str, Any] = document[mode]
    return details


# Sustained


def test_a_device_that_throttles_is_found_out(model: Path) -> None:
    def conditions(now_s: float) -> dict[str, Any]:
        hot = now_s > 40
        return {"temperature_c": {"cpu": 50.0 + now_s / 3}, "frequency_khz": {"0": 1_400_000 if hot else 2_800_000}}

    backend = SimulatedBackend(lambda now_s: 20.0 if now_s > 40 else 10.0, conditions)
    result = bench_sustained(model, backend, 100)
    details = check_document(result.to_dict(), "sustained")
    assert details["ratio"] == pytest.approx(2.0)
    assert details["baseline_s"] == pytest.approx(10.0, abs=0.1)  # the first tenth
    assert details["throttling_onset_s"] == pytest.approx(40, abs=3)
    assert details["clock"] == "thread-cpu"
    windows = details["windows"]
    assert len(windows) == 60
    assert windows[0]["hottest_c"] < windows[-1]["hottest_c"]
    assert (windows[0]["fastest_mhz"], windows[-1]["fastest_mhz"]) == (2800, 1400)
    assert sum(window["n"] for window in windows) == details["runs"]
    assert any("slower than at first" in line for line in result.lines)


def test_long_runs_are_compared_with_the_first_minute(model: Path) -> None:
    details = check_document(bench_sustained(model, SimulatedBackend(lambda _: 50.0), 1200).to_dict(), "sustained")
    assert details["baseline_s"] == 60.0
    assert details["ratio"] == pytest.approx(1.0)
    assert details["throttling_onset_s"] is None
    assert details["windows"][0]["hottest_c"] is None


def test_a_short_disturbance_is_no_throttling() -> None:
    windows = [{"start_s": float(number), "median_ms": 1.0} for number in range(10)]
    assert throttling_onset_s(windows, 1.0) is None
    for number in (3, 4):
        windows[number]["median_ms"] = 2.0
    assert throttling_onset_s(windows, 1.0) is None
    windows[5]["median_ms"] = 1.06
    assert throttling_onset_s(windows, 1.0) == 3.0


def test_very_many_runs_are_thinned_and_said_so(model: Path) -> None:
    result = bench_sustained(model, SimulatedBackend(lambda _: 0.02), 20)
    details = check_document(result.to_dict(), "sustained")
    assert details["runs"] > 900_000
    assert len(result.to_dict()["samples_ms"]) <= 100_000
    assert result.to_dict()["samples_every"] > 1


def test_too_few_runs_to_compare_are_refused(model: Path) -> None:
    backend = SimulatedBackend(lambda now_s: 1.0 if now_s < 0.2 else 4000.0)
    with pytest.raises(InputError, match="too few"):
        bench_sustained(model, backend, 3)
    for seconds in (0, -1, 1e9, float("nan")):
        with pytest.raises(InputError, match="--sustained"):
            bench_sustained(model, backend, seconds)


# Cadence


def test_camera_pace_is_measured_beside_back_to_back_runs(model: Path) -> None:
    backend = SimulatedBackend(lambda _: 0.0)
    last_end = [0.0]

    def run_ms(now_s: float) -> float:
        slow = now_s - last_end[0] > 0.01  # after a rest the clock has fallen
        last_end[0] = now_s
        return 8.0 if slow else 2.0

    backend.run_ms = run_ms
    details = check_document(bench_cadence(model, backend, 30).to_dict(), "cadence")
    assert details["ratio"] == pytest.approx(4.0)
    assert details["cpu_ratio"] == pytest.approx(4.0)
    assert details["missed_frames"] == 0
    assert details["frames"] == pytest.approx(300, abs=4)
    assert details["paced"]["p99_ms"] == pytest.approx(8.0)
    assert details["back_to_back"]["median_ms"] == pytest.approx(2.0)


def test_frames_that_come_while_the_model_runs_are_missed(model: Path) -> None:
    backend = SimulatedBackend(lambda _: 50.0)
    details = check_document(bench_cadence(model, backend, 30).to_dict(), "cadence")
    assert details["frames"] == pytest.approx(150, abs=4)  # every other frame
    assert details["missed_frames"] == pytest.approx(details["frames"], abs=4)


def test_runs_begin_at_multiples_of_the_period() -> None:
    clocks = SimulatedTime()
    phase = Phase("paced", least_s=1.0, period_s=0.1)
    result = run_phases(
        lambda: SimulatedRunner(clocks, lambda _: 30.0),
        [phase],
        dict,
        threads=1,
        input_shapes=lambda runner: runner.input_shapes,
        timer=clocks,
    )
    (found,) = result.phases
    assert list(found.start_s) == pytest.approx([0.1 * number for number in range(11)], abs=1e-6)
    assert list(found.wall_ms) == pytest.approx([30.0] * 11)


@pytest.mark.parametrize("hz", [0, -30, 1e6, float("nan")])
def test_an_impossible_pace_is_refused(model: Path, hz: float) -> None:
    with pytest.raises(InputError, match="--cadence"):
        bench_cadence(model, SimulatedBackend(lambda _: 1.0), hz)


# MLPerf


def test_queries_go_on_for_a_minute_and_1024_of_them(model: Path) -> None:
    fast = check_document(bench_mlperf(model, SimulatedBackend(lambda _: 9.5)).to_dict(), "mlperf")
    assert fast["seconds"] >= 60
    assert fast["queries"] == 6000
    assert fast["p90_ms"] == pytest.approx(10.0)  # the inputs' copy is part of a query
    slow = check_document(bench_mlperf(model, SimulatedBackend(lambda _: 99.5)).to_dict(), "mlperf")
    assert slow["queries"] == 1024
    assert slow["enough_queries_and_time"]


def test_the_quantile_is_that_of_all_queries(model: Path) -> None:
    count = [0]

    def run_ms(now_s: float) -> float:
        count[0] += 1
        return 99.5 if count[0] % 8 == 0 else 9.5

    details = check_document(bench_mlperf(model, SimulatedBackend(run_ms)).to_dict(), "mlperf")
    assert details["p90_ms"] == pytest.approx(100.0)
    assert details["median_ms"] == pytest.approx(10.0)


# Capability, real runtime, command line


def test_a_backend_without_the_capability_says_so(model: Path) -> None:
    backend = KnownBackend(open_device("local"))
    for option, bench in (
        ("--sustained", lambda: bench_sustained(model, backend, 10)),
        ("--cadence", lambda: bench_cadence(model, backend, 30)),
        ("--mlperf", lambda: bench_mlperf(model, backend)),
    ):
        with pytest.raises(InputError, match=f"backend known cannot do {option}"):
            bench()


def test_a_missing_model_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        bench_mlperf(tmp_path / "nowhere.tflite", SimulatedBackend(lambda _: 1.0))


def test_modes_run_for_real(model: Path) -> None:
    backend = open_backend("litert", open_device("local"))
    check_document(bench_sustained(model, backend, 1).to_dict(), "sustained")
    check_document(bench_cadence(model, backend, 200, seconds=0.4).to_dict(), "cadence")
    details = check_document(bench_mlperf(model, backend, least_queries=20, least_s=0.1).to_dict(), "mlperf")
    assert not details["enough_queries_and_time"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--sustained", "5", "--mlperf"], "--sustained and --mlperf exclude one another"),
        (["--cadence", "30", "--sustained", "5"], "exclude one another"),
        (["--cadence", "30", "--passes", "3"], "takes no --passes"),
        (["--cadence", "0"], "--cadence 0 is not between"),
    ],
)
def test_options_that_do_not_fit_are_one_clear_line(model: Path, options: list[str], message: str) -> None:
    from dfmobile.cli.main import app

    result = CliRunner().invoke(app, ["bench", str(model), *options])
    assert result.exit_code == 1
    assert message in result.output
    assert len([line for line in result.output.splitlines() if line.startswith("error:")]) == 1


def test_the_command_prints_one_document(model: Path) -> None:
    from dfmobile.cli.main import app

    result = CliRunner().invoke(app, ["bench", str(model), "--sustained", "1", "--json"])
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["sustained"]["ratio"] > 0
    text = CliRunner().invoke(app, ["bench", str(model), "--sustained", "1"])
    assert "ratio" in text.stdout
