"""tegrastats beside a timing: energy of an inference, and a GPU whose clock moved is measured again."""

from __future__ import annotations

from pathlib import Path

import pytest
from latency.latency_helpers import result_of
from latency.tensorrt.replays import conv_model, replay_backend, scratch

from dfmobile.devices.power_trace import PowerSample, PowerTrace
from dfmobile.devices.tegrastats import RailPower, TegrastatsSample
from dfmobile.latency.backends.base import JobContext, MeasureJob
from dfmobile.latency.contamination import contamination
from dfmobile.latency.measurement import Protocol
from dfmobile.latency.tensorrt.power import clock_mhz, energy_document, timed_window

__all__ = ["scratch"]

# Prints what a Xavier NX prints, so often as it is asked to, until it is ended.
TEGRASTATS = """#!/bin/sh
while :; do
  echo "RAM 2384/7772MB (lfb 2x4MB) CPU [2%@1190,1%@1190] EMC_FREQ 0% GR3D_FREQ 97%@1109 GPU@43.5C VDD_IN 9000/9000 \
VDD_CPU_GPU_CV 4000/4000 VDD_SOC 1200/1200"
  sleep 0.1
done
"""


def trace(loads: list[int], khz: list[int] | None = None) -> PowerTrace:
    """Return a trace of ten samples a second, 5 W on one rail."""
    clocks = khz or [900_000] * len(loads)
    samples = [
        PowerSample(100.0 * n, TegrastatsSample(gpu_load_percent=load, rails={"VDD_IN": RailPower(5000, 5000)}), clock)
        for n, (load, clock) in enumerate(zip(loads, clocks, strict=True))
    ]
    return PowerTrace(tuple(samples), 100, "arrival", 100.0 * len(loads), 0)


def test_the_timed_runs_are_the_last_of_the_load() -> None:
    found = trace([0, 0, 90, 95, 99, 99, 99, 99, 0, 0])
    assert timed_window(found, 300.0) == (400.0, 700.0)
    assert timed_window(found, 10_000.0) == (200.0, 700.0)
    assert timed_window(trace([0, 0, 1]), 100.0) is None


def test_energy_is_power_over_the_runs() -> None:
    document, why = energy_document(trace([0, 99, 99, 99, 99, 99, 0]), 400.0, 200)
    assert why == ""
    assert document is not None
    assert document["rails_mj"]["VDD_IN"] == pytest.approx(5000 * 0.4 / 200)
    nothing, why = energy_document(trace([0, 0, 0]), 400.0, 200)
    assert nothing is None
    assert "no load of the GPU" in why


def test_a_clock_that_moves_in_the_timed_runs_speaks_against_the_pass() -> None:
    clocks = [300_000, 900_000, 900_000, 810_000, 900_000, 900_000]
    low, high = clock_mhz(trace([0, 99, 99, 99, 99, 0], clocks), 400.0) or (0, 0)
    assert (low, high) == (810.0, 900.0)
    told = contamination(result_of(1.0, extra={"gpu_clock_mhz": {"min": low, "max": high}}))
    assert told is not None
    assert "810 and 900 MHz" in told
    assert contamination(result_of(1.0, extra={"gpu_clock_mhz": {"min": 890.0, "max": 900.0}})) is None


def test_a_clock_that_rises_in_the_warm_up_does_not() -> None:
    """The last sample may be an interval before the end, and the window as much too early."""
    clocks = [300_000, 300_000, 600_000, 900_000, 900_000, 900_000, 900_000]
    assert clock_mhz(trace([0, 99, 99, 99, 99, 99, 0], clocks), 300.0) == (900.0, 900.0)


@pytest.mark.slow
def test_rows_have_the_energy_of_an_inference(tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool = tmp_path / "bin" / "tegrastats"
    tool.parent.mkdir()
    tool.write_text(TEGRASTATS)
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:/usr/bin:/bin")
    backend = replay_backend(tmp_path, scale=100.0, run_s=1.2, options={"power": "auto", "timed-ms": "800"})
    assert backend.evidence()["tegrastats"] is True
    paths = [conv_model(backend, tmp_path / f"{size}.onnx", size) for size in (8, 16, 4)]
    job = MeasureJob("only", paths[0], Protocol(runs=4), context=JobContext(paths[1], paths[2]))
    ((_, result),) = backend.measure([job])
    energy = result.extra["engines"]["context"]["energy"]
    assert energy["rails_mj"]["VDD_IN"] > 0
    assert set(result.extra["marginal_energy_mj"]) >= {"VDD_IN", "VDD_CPU_GPU_CV"}
    assert result.extra["gpu_clock_mhz"] == {"min": 1109.0, "max": 1109.0}
    assert not contamination(result)
