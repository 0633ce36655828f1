"""The backend of the stock ``benchmark_model``: the contract, over a stand-in that really times models on this host.

What a phone would answer is told by a double; nothing here was verified on hardware.
"""

from __future__ import annotations

import base64
import dataclasses
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import benchmark_model_logs as logs
import numpy as np
import pytest
from batch_double import RecordingBatch
from typer.testing import CliRunner

from dfmobile.cli import campaigns
from dfmobile.cli.main import app
from dfmobile.devices.batch import Batch, BatchItem, BatchSettings, RunOnDevice
from dfmobile.devices.device import Device, open_device
from dfmobile.errors import BackendError, DeviceError, InputError
from dfmobile.graph.fold import fold_batch_norm
from dfmobile.latency.backends import benchmark_model as module
from dfmobile.latency.backends.base import Backend, MeasureJob, ModelOutputs, open_backend
from dfmobile.latency.backends.benchmark_model import BenchmarkModelBackend
from dfmobile.latency.bench import bench_model
from dfmobile.latency.benchmark_model_options import longest_s, parse_options, protocol_flags
from dfmobile.latency.benchmark_model_outputs import OutputRequest, agreement, split_log
from dfmobile.latency.device_batches import host_mark as _host
from dfmobile.latency.header import TableHeader
from dfmobile.latency.inprocess import random_inputs
from dfmobile.latency.measurement import PassResult, Protocol
from dfmobile.latency.models import timing_model
from dfmobile.latency.statistics import summarise_results
from dfmobile.latency.table import LatencyTable
from dfmobile.runtimes.litert import LiteRTRunner
from dfmobile.testing.backend_contract import BackendContract
from dfmobile.testing.benchmark_model import write_stand_in
from dfmobile.testing.op_graphs import residual_block

QUICK = Protocol(passes=1, runs=4, cold_runs=2, warm_up_ms=1.0, hot_budget_ms=5.0)
# Tests must not leave the cores that they were given.
OPTIONS = {"cluster": "none", "warm-up-secs": "0.01"}
HELP = "usage\n--graph=\n--output_filepath=\n"


class QuickBackend(BenchmarkModelBackend):
    """Looks at the device often, since this one answers at once."""

    poll_s = 0.02


def open_quick(folder: Path, precision: str = "fp32", device: Device | None = None, **options: str) -> QuickBackend:
    """Return the backend with the stand-in on this host."""
    binary = write_stand_in(folder / "benchmark_model")
    given = {"binary": str(binary), **OPTIONS, **{name.replace("_", "-"): value for name, value in options.items()}}
    return QuickBackend(device or open_device("local"), precision=precision, options=given)


@pytest.fixture(autouse=True)
def own_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device has one job at a time, and this host is the device: give each test a scratch folder of its own."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


class TestBenchmarkModelBackend(BackendContract):
    protocol = QUICK

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Backend:
        return open_quick(tmp_path)

    def test_its_identity_says_what_timed(self, backend: Backend, tmp_path: Path) -> None:
        identity = backend.identity()
        assert identity.name == "benchmark_model"
        assert identity.version.startswith("dfmobile host stand-in for benchmark_model, LiteRT ")
        assert identity.flags["flags"] == "--num_threads=1 --use_xnnpack=true --enable_op_profiling=false"

    def test_a_result_is_an_aggregate_and_says_so(self, backend: Backend, model_path: Path) -> None:
        result = self.measure_one(backend, model_path, self.protocol)
        assert result.aggregate
        assert result.timed_runs == result.extra["count"]
        assert 0 < result.extra["min_ms"] <= result.extra["p5_ms"] <= result.extra["p95_ms"] <= result.extra["max_ms"]
        assert result.extra["delegates"] == ["XNNPACK took the whole graph (1 of 1 nodes, 1 partition)"]
        assert result.extra["outputs"].startswith("outputs agree with LiteRT")
        assert result.extra["memory_bytes"] > 0
        assert result.conditions_before["time_utc"] <= result.conditions_after["time_utc"]

    def test_outputs_come_with_the_first_pass_of_a_model_only(self, backend: Backend, model_path: Path) -> None:
        jobs = [MeasureJob(str(number), model_path, self.protocol) for number in range(2)]
        assert ["outputs" in result.extra for _, result in backend.measure(jobs)] == [True, False]

    def test_it_runs_what_is_on_the_device_already(self, tmp_path: Path, model_path: Path) -> None:
        there = write_stand_in(tmp_path / "there")
        backend = QuickBackend(open_device("local"), options={"binary": f"device:{there}", **OPTIONS})
        assert backend.identity().library_sha256 == open_quick(tmp_path).identity().library_sha256
        assert self.measure_one(backend, model_path, self.protocol).hot_ms

    def test_one_bad_model_does_not_cost_the_others_of_its_batch(
        self, backend: Backend, model_path: Path, tmp_path: Path
    ) -> None:
        bad = tmp_path / "bad.tflite"
        bad.write_bytes(b"no model" * 100)
        jobs = [MeasureJob("bad", bad, self.protocol), MeasureJob("good", model_path, self.protocol)]
        results = backend.measure(jobs)
        assert next(iter(results))[0] == "good"
        with pytest.raises(BackendError, match=r"bad\.tflite"):
            next(iter(results))

    def test_nothing_stays_on_the_device(self, backend: Backend, model_path: Path) -> None:
        self.measure_one(backend, model_path, self.protocol)
        assert not [run for run in Batch.runs(backend.device.transport) if str(os.getpid()) in run.run_id]


@pytest.mark.skipif(importlib.util.find_spec("ai_edge_quantizer") is None, reason="the extra quantize is not installed")
class TestBenchmarkModelBackendInInt8(BackendContract):
    protocol = QUICK

    @pytest.fixture
    def backend(self, tmp_path: Path) -> Backend:
        return open_quick(tmp_path, "int8")


# What it asks of a device, by a double


class DoubleBackend(BenchmarkModelBackend):
    batch_class = RecordingBatch  # type: ignore[assignment]


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(timing_model(fold_batch_norm(residual_block()), "tflite"))
    return path


def phone(features: Mapping[str, bool | None] | None = None) -> Device:
    """Return this machine, said to be a phone of two clusters."""
    device = open_device("local")
    clusters = [
        {"name": "big", "cores": [4, 5, 6, 7]},
        {"name": "little", "cores": [0, 1, 2, 3]},
    ]
    document = {
        **device.profile.model_dump(mode="json"),
        "kind": "phone",
        "abi": "arm64-v8a",
        "clusters": clusters,
        "caches": [],
        "defaults": {"cluster": "big", "threads": 1},
        "features": dict(features or {}),
        "thermal_zones": [{"type": "cpu-1-0-usr"}, {"type": "battery"}],
    }
    device.__dict__["profile"] = type(device.profile).model_validate(document)
    return device


def double(
    tmp_path: Path, log: str, code: int = 0, more: dict[str, Any] | None = None, **options: Any
) -> DoubleBackend:
    """Return a backend whose device prints this log for every model."""
    RecordingBatch.reset(lambda item: (1, HELP, {}) if item.id == "help" else (code, log, more or {}))
    device, precision = options.pop("device", None) or phone(), options.pop("precision", "fp32")
    binary = write_stand_in(tmp_path / "tool")
    given = {"binary": str(binary), **{name.replace("_", "-"): value for name, value in options.items()}}
    return DoubleBackend(device, precision=precision, options=given)


def one(backend: Backend, path: Path, protocol: Protocol = QUICK) -> PassResult:
    return next(iter(dict(backend.measure([MeasureJob("a", path, protocol)])).values()))


def last_argv() -> list[str]:
    return list(RecordingBatch.items[-1].argv)


def test_a_pass_on_the_cpu(tmp_path: Path, model: Path) -> None:
    conditions = {
        "frequency_khz": {"0": 300, "4": 2800, "7": 2700}, "temperature_mc": {"cpu-1-0-usr": 41_500}, "uptime_s": 5,
        "time_utc": "2026-01-01T00:00:00+00:00",
    }  # fmt: skip
    result = one(double(tmp_path, logs.NEW, more=conditions), model)
    assert result.hot_ms == [150.21]
    assert (result.clock, result.cold_ms, result.started_utc) == ("wall", [], "2026-01-01T00:00:00+00:00")
    assert result.extra["samples"] == "aggregate"
    assert (result.timed_runs, result.mean_ms) == (7, 150.32)
    assert result.peak_memory_bytes == round(8.5 * 2**20)
    assert result.conditions_before["temperature_c"] == {"cpu-1-0-usr": 41.5}
    assert result.conditions_before["frequency_khz"] == {"4": 2800, "7": 2700}
    assert result.conditions_before["other_frequency_khz"] == {"0": 300}
    assert PassResult.from_dict(json.loads(json.dumps(result.to_dict())), "it") == result


def test_the_device_is_asked_with_the_clusters_mask_and_the_program_is_shared(tmp_path: Path, model: Path) -> None:
    backend = double(tmp_path, logs.NEW)
    assert backend.affinity() == "f0"
    one(backend, model)
    settings = RecordingBatch.settings[-1]
    assert settings.affinity_mask == "f0"
    assert settings.task_profile == "MaxPerformance"
    assert settings.cool_down is None
    assert [name for _, name in settings.shared_files] == ["benchmark_model"]
    assert double(tmp_path, logs.NEW, cluster="little").affinity() == "0f"
    assert double(tmp_path, logs.NEW, cluster="none").affinity() is None
    with pytest.raises(InputError, match="no cluster 'gold'"):
        double(tmp_path, logs.NEW, cluster="gold")


def test_it_waits_until_the_device_is_cool_where_asked(tmp_path: Path, model: Path) -> None:
    one(double(tmp_path, logs.NEW, cool_down="45"), model)
    settings = RecordingBatch.settings[-1]
    assert settings.cool_down is not None
    assert (settings.cool_down.zones, settings.cool_down.limit_mc) == (("cpu-1-0-usr",), 45_000)
    assert settings.spin_up_ms > 0


@pytest.mark.parametrize(
    ("precision", "options", "flags"),
    [
        ("fp32", {}, ["--use_xnnpack=true"]),
        ("fp16-compute", {}, ["--use_xnnpack=true", "--xnnpack_force_fp16=true"]),
        ("int8", {}, ["--use_xnnpack=true"]),
        ("fp32", {"processor": "gpu"}, ["--use_gpu=true", "--gpu_precision_loss_allowed=false"]),
        ("fp16-compute", {"processor": "gpu"}, ["--use_gpu=true", "--gpu_precision_loss_allowed=true"]),
        ("fp32", {"peak_memory": "true"}, ["--report_peak_memory_footprint=true"]),
    ],
)
def test_flags(tmp_path: Path, model: Path, precision: str, options: dict[str, str], flags: list[str]) -> None:
    log = logs.GPU_WHOLE if options.get("processor") == "gpu" else logs.NEW
    device = phone({"fp16": True})
    backend = double(tmp_path, log, device=device, precision=precision, **options)
    one(backend, model)
    argv = last_argv()
    assert set(flags) <= set(argv)
    assert ("--use_xnnpack=true" in argv) != ("--use_gpu=true" in argv)
    assert {"--num_threads=1", "--enable_op_profiling=false", "--graph={item}/model.tflite"} <= set(argv)
    assert backend.processor == options.get("processor", "cpu")
    assert backend.file_precision == ("int8" if precision == "int8" else "fp32")


def test_half_precision_needs_a_cpu_that_has_it(tmp_path: Path) -> None:
    for features, why in (({"fp16": False}, "lacks"), ({}, "not known")):
        with pytest.raises(BackendError, match=why):
            double(tmp_path, logs.NEW, device=phone(features), precision="fp16-compute")
    double(tmp_path, logs.GPU_WHOLE, precision="fp16-compute", processor="gpu")  # another processor's arithmetic
    with pytest.raises(BackendError, match="int8 on the GPU"):
        double(tmp_path, logs.GPU_WHOLE, precision="int8", processor="gpu")


def test_the_protocol_becomes_flags() -> None:
    options = parse_options({"binary": "x"})
    assert protocol_flags(options, Protocol()) == [
        "--warmup_runs=2", "--warmup_min_secs=0.5", "--num_runs=3", "--min_secs=0.5", "--max_secs=150",
    ]  # fmt: skip
    short = protocol_flags(options, Protocol(stop_above_ms=200.0))  # three runs of 200 ms end well before 0.8 s
    assert short[-1] == "--max_secs=0.8"


def test_a_process_may_take_all_the_time_that_its_protocol_gives_it() -> None:
    options = parse_options({"binary": "x"})
    for protocol in (Protocol(), Protocol(warm_up_ms=600_000.0), Protocol(hot_budget_ms=600_000.0)):
        max_secs = float(protocol_flags(options, protocol)[-1].partition("=")[2])
        assert longest_s(protocol, options) >= 2 * max_secs + 60  # warm-up and timing, each as long as it may be


def test_a_slow_model_is_stopped_by_its_fastest_run(tmp_path: Path, model: Path) -> None:
    result = one(double(tmp_path, logs.NEW), model, dataclasses.replace(QUICK, stop_above_ms=100.0))
    assert result.stopped
    assert result.hot_ms == []
    assert result.warm_up_ms == [150.0]
    assert not one(double(tmp_path, logs.NEW), model, dataclasses.replace(QUICK, stop_above_ms=150.5)).stopped


@pytest.mark.parametrize(
    ("log", "options", "why"),
    [
        (logs.GPU_PARTIAL, {"processor": "gpu"}, "GPU took a part .*12 of 16 nodes.*it cannot do UNPACK, ARG_MAX"),
        (logs.NEW, {"processor": "gpu"}, "does not say that the GPU delegate was applied"),
        ("WARN: Unconsumed cmdline flags: --max_secs=150\n" + logs.OLD, {}, "does not know the flags --max_secs=150"),
    ],
)
def test_what_is_partial_is_refused_unless_allowed(
    tmp_path: Path, model: Path, log: str, options: dict[str, str], why: str
) -> None:
    with pytest.raises(BackendError, match=why) as caught:
        one(double(tmp_path, log, **options), model)
    assert str(model) in str(caught.value)
    assert "allow-partial" in caught.value.hint
    allowed = one(double(tmp_path, log, allow_partial="true", **options), model)
    assert allowed.hot_ms
    assert double(tmp_path, log, allow_partial="true", **options).identity().flags["allow_partial"] is True
    if "partial" in log:
        assert allowed.extra["delegated_fraction"] == 0.75


@pytest.mark.parametrize(
    ("log", "code", "why"),
    [
        (logs.CRASHED, 139, r"signal 11 \(segmentation fault\): .*ended with: Initialized session"),
        (logs.FAILED_DELEGATE, 1, "ended with 1: .*NNAPI could not be applied"),
        ("/system/bin/sh: tool: not executable: 64-bit ELF file\n", 126, "could not be started"),
        ("", 0, "gave no result"),
        (logs.NEW, 134, r"printed a result, but it was killed by signal 6 \(abort\)"),
    ],
)
def test_no_result_is_a_failure_with_the_last_lines(tmp_path: Path, model: Path, log: str, code: int, why: str) -> None:
    with pytest.raises(BackendError, match=why) as caught:
        one(double(tmp_path, log, code), model)
    assert str(model) in str(caught.value)


def printed(outputs: bytes) -> str:
    """Return outputs as they come along in a log."""
    return f"\ndfmobile-outputs-begin\n{base64.encodebytes(outputs).decode()}\ndfmobile-outputs-end\n"


def test_outputs_that_differ_from_the_cpus_are_refused(tmp_path: Path, model: Path) -> None:
    with LiteRTRunner(model) as runner:
        wrong = np.full(runner.output_bytes() // 4, 2.0, np.float32).tobytes()
    for content, why in (
        (printed(wrong), "outputs differ from those of LiteRT"),
        (printed(wrong).replace("dfmobile-outputs-end", ""), "came back cut short"),
        (printed(wrong[:-4]), "the model's have"),
        (printed(wrong).replace("A", "*"), "came back damaged"),
    ):
        with pytest.raises(BackendError, match=why) as caught:
            one(double(tmp_path, logs.GPU_WHOLE + content, processor="gpu"), model)
        assert str(model) in str(caught.value)


def test_outputs_of_a_tool_that_cannot_write_them_are_said_to_be_not_checked(tmp_path: Path, model: Path) -> None:
    backend = double(tmp_path, logs.OLD)
    RecordingBatch.reset(lambda item: (1, "--graph is needed\n") if item.id == "help" else (0, logs.OLD))
    result = one(backend, model)
    assert "cannot write them" in result.extra["outputs"]
    assert backend.outputs(model, random_inputs([(1, 8, 16, 16)])) is None
    assert not backend.evidence()["outputs_checked"]
    assert "--output_filepath" not in " ".join(last_argv())


def test_outputs_are_asked_for_again_after_a_batch_that_broke_off(tmp_path: Path, model: Path) -> None:
    backend = double(tmp_path, logs.NEW)

    def break_off(item: BatchItem) -> tuple[int, str]:
        if item.id != "help":
            raise DeviceError("no space left")
        return 1, HELP

    RecordingBatch.reset(break_off)
    with pytest.raises(DeviceError, match="no space"):
        one(backend, model)
    RecordingBatch.reset(lambda item: (1, HELP) if item.id == "help" else (0, logs.NEW))
    one(backend, model)
    assert last_argv()[0] == "sh"  # the script that brings outputs
    one(backend, model)
    assert last_argv()[0] != "sh"


def test_a_binary_that_is_replaced_while_it_is_used_is_refused(tmp_path: Path, model: Path) -> None:
    backend = double(tmp_path, logs.NEW)
    one(backend, model)
    with (tmp_path / "tool").open("a") as stream:
        stream.write("# another build\n")
    with pytest.raises(BackendError, match="has changed since"):
        one(backend, model)


def test_a_process_that_ends_badly_after_its_result_says_so_where_it_is_allowed(tmp_path: Path, model: Path) -> None:
    result = one(double(tmp_path, logs.NEW, 134, allow_partial="true", outputs="none"), model)
    assert result.extra["remarks"][0] == "after its result it was killed by signal 6 (abort)"


def test_outputs_that_do_not_come_back_are_said_to_be_not_checked(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = one(double(tmp_path, logs.NEW), model)
    assert result.extra["outputs"] == "outputs not checked: the tool wrote none"
    monkeypatch.setattr("dfmobile.latency.benchmark_model_outputs.MAX_OUTPUT_BYTES", 16)
    result = one(double(tmp_path, logs.NEW), model)
    assert "too many to bring back" in result.extra["outputs"]


def test_damaged_outputs_are_no_crash() -> None:
    assert split_log(b"a log") == (b"a log", None)
    assert split_log(b"log\ndfmobile-outputs-begin\nAAAA\n\ndfmobile-outputs-end\n") == (b"log\n", b"\0\0\0")
    with pytest.raises(BackendError, match="damaged"):
        split_log(b"dfmobile-outputs-begin\nA*A\n\ndfmobile-outputs-end\n")


def test_a_device_without_base64_is_said_to_be_not_checked(tmp_path: Path, model: Path) -> None:
    """The very script, in a shell that finds no such program."""
    (tmp_path / "tools").mkdir()
    request = OutputRequest((), ())
    argv = request.wrapped((sys.executable, "-c", f"open({str(tmp_path / 'out')!r}, 'w').write('AAA'); print('log')"))
    argv = tuple(part.replace("{item}/outputs.bin", str(tmp_path / "out")) for part in argv)
    with_it = subprocess.run(argv, capture_output=True, check=True).stdout
    assert split_log(with_it) == (b"log\n\n", b"AAA")
    shell = str(shutil.which("sh"))
    environment = {"PATH": str(tmp_path / "tools")}
    without = subprocess.run((shell, *argv[1:]), capture_output=True, check=True, env=environment).stdout
    assert split_log(without)[0] == b"log\n\n"
    assert "no base64" in str(split_log(without)[1])
    result = one(double(tmp_path, logs.NEW + without.decode().removeprefix("log\n")), model)
    assert result.extra["outputs"] == "outputs not checked: the device has no base64, by which they come back"


def test_jobs_are_sent_in_bounded_batches(tmp_path: Path, model: Path) -> None:
    backend = double(tmp_path, logs.NEW, outputs="none")
    jobs = [MeasureJob(str(number), model, QUICK) for number in range(module.MAX_JOBS + 1)]
    assert len(list(backend.measure(jobs))) == len(jobs)
    assert len(RecordingBatch.settings) == 2
    taken: list[int] = []

    def endless() -> Any:
        for number in range(10**9):
            taken.append(number)
            yield MeasureJob(str(number), model, QUICK)

    results = backend.measure(endless())
    next(results)
    assert len(taken) == module.MAX_JOBS


def test_a_tool_that_is_another_program_is_refused(tmp_path: Path, model: Path) -> None:
    backend = double(tmp_path, logs.NEW)
    RecordingBatch.reset(lambda item: (127, "sh: /run/benchmark_model: inaccessible or not found\n"))
    with pytest.raises(BackendError, match=r"does not behave like benchmark_model.*127.*not found"):
        one(backend, model)


def elf(machine: int) -> bytes:
    return b"\x7fELF\x02\x01\x01" + bytes(11) + machine.to_bytes(2, "little") + bytes(40)


def test_a_tool_for_another_processor_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    path = tmp_path / "benchmark_model"
    for machine, name in ((62, "x86_64"), (243, "riscv64"), (8, "machine 8")):
        path.write_bytes(elf(machine))
        with pytest.raises(BackendError, match=f"built for {name}, and the device is arm64-v8a"):
            DoubleBackend(phone(), options={"binary": str(path)})
    for machine in (183, 40):  # 64-bit phones run 32-bit programs too
        path.write_bytes(elf(machine))
        DoubleBackend(phone(), options={"binary": str(path)})
    path.write_bytes(b"PK\x03\x04 an archive")
    with pytest.raises(BackendError, match="no program"):
        DoubleBackend(phone(), options={"binary": str(path)})


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({}, "needs the stock tool"),
        ({"binary": "device:benchmark_model"}, "not an absolute path"),
        ({"binary": "/nowhere/at/all"}, "no file /nowhere/at/all"),
        ({"binary": "device:/nowhere/at/all"}, "no file /nowhere/at/all on"),
        ({"binary": "x", "processor": "npu"}, "cpu or gpu"),
        ({"binary": "x", "allow-partial": "yes"}, "false or true"),
        ({"binary": "x", "warm-up-secs": "nan"}, "0 to 60"),
        ({"binary": "x", "cool-down": "500"}, "10 to 120"),
        ({"binary": "x", "colour": "red"}, "no option 'colour'"),
    ],
)
def test_bad_options_are_named(options: dict[str, str], why: str) -> None:
    with pytest.raises((InputError, BackendError), match=why):
        BenchmarkModelBackend(open_device("local"), options=options)


def test_its_version_is_what_is_known(tmp_path: Path) -> None:
    assert double(tmp_path, logs.NEW).identity().version == "unknown"
    assert double(tmp_path, logs.NEW, version="TensorFlow 2.17.0").identity().version == "TensorFlow 2.17.0"


def test_a_search_without_the_tool_ends_unmeasured_and_one_with_a_wrong_option_does_not_begin() -> None:
    assert "needs the option binary" in campaigns.unmeasurable_because("benchmark_model", {}, asked=False)
    assert campaigns.unmeasurable_because("benchmark_model", {"binary": "x"}, asked=True) == ""
    assert campaigns.unmeasurable_because("recorded", {}, asked=True) == ""
    for options, asked in (({}, True), ({"colour": "red"}, False)):
        with pytest.raises(InputError):
            campaigns.unmeasurable_because("benchmark_model", options, asked=asked)


def test_a_boundary_is_not_re_measured_by_other_options_than_the_tables(tmp_path: Path) -> None:
    device = phone()
    header = TableHeader.of(double(tmp_path, logs.GPU_WHOLE, device=device, processor="gpu"))
    assert campaigns._unlike_the_table(header, double(tmp_path, logs.GPU_WHOLE, device=device, processor="gpu")) == ""
    why = campaigns._unlike_the_table(header, double(tmp_path, logs.NEW, device=device, cluster="little"))
    assert "flag processor is gpu in the table and cpu now" in why
    assert "affinity is f0 in the table and 0f now" in why
    elsewhere = header.model_copy(update={"device_fingerprint": "another phone's"})
    assert campaigns._unlike_the_table(elsewhere, double(tmp_path, logs.NEW, device=device)) == ""


def test_options_of_other_backends() -> None:
    device = open_device("local")
    with pytest.raises(InputError, match="litert has no option 'binary'"):
        open_backend("litert", device, options={"binary": "x"})
    with pytest.raises(InputError, match="needs the option binary"):
        open_backend("benchmark_model", device)


def test_an_orphaned_run_makes_way_and_a_living_one_does_not(
    tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their process is gone: they only hold the lock."""
    removed: list[str | None] = []
    dead = 2**22 - 3  # above the kernel's highest process id on small systems, and very likely free

    class LockedBatch(RecordingBatch):
        held: ClassVar[list[str]] = [
            f"bm-{_host()}-{dead}-aa",
            f"bm-{_host()}-1-bb",
            "bm-0000-5-cc",
            "other",
        ]

        def run(self, items: Any, on_progress: Any = None) -> Any:
            if any(run.endswith("aa") for run in self.held):
                from dfmobile.devices.batch import PhoneLockedError

                raise PhoneLockedError("another job runs")
            return super().run(items, on_progress)

        @staticmethod
        def runs(transport: Any, folder: str | None = None) -> list[Any]:
            return [RunOnDevice(name, "running", "me", 5.0, 0, 1) for name in LockedBatch.held]

        def clean_up(self) -> None:
            removed.append(self.run_id)
            self.held[:] = [run for run in self.held if run != self.run_id]

    monkeypatch.setattr(DoubleBackend, "batch_class", LockedBatch)
    backend = double(tmp_path, logs.NEW, outputs="none")
    LockedBatch.reset(RecordingBatch.answer)
    said: list[str] = []
    backend.tell = said.append
    assert one(backend, model).hot_ms
    assert removed == [f"bm-{_host()}-{dead}-aa"]
    assert "is gone" in said[0]
    # One whose process is killed after we looked.
    removed.clear()
    LockedBatch.held.append(f"bm-{_host()}-{dead}-aa")
    assert one(backend, model).hot_ms
    assert removed[0] not in LockedBatch.held  # what was sent before the lock was seen
    assert str(removed[0]).startswith(f"bm-{_host()}-{os.getpid()}-")
    assert removed[1:] == [f"bm-{_host()}-{dead}-aa"]


def test_what_a_killed_build_left_finished_is_removed_by_the_next(tmp_path: Path, model: Path) -> None:
    dead = 2**22 - 3
    transport = open_device("local").transport
    folder = f"{transport.scratch_root}/{transport.scratch_name}"
    for run_id in (f"bm-{_host()}-{dead}-aa", f"bm-{_host()}-1-bb", "other"):
        next(Batch(transport, BatchSettings(poll_s=0.02), run_id=run_id).run([BatchItem("a", ("true",))]))
    backend = open_quick(tmp_path, outputs="none")
    said: list[str] = []
    backend.tell = said.append
    assert backend.identity()
    assert sorted(path.name for path in Path(folder, "runs").iterdir()) == sorted((f"bm-{_host()}-1-bb", "other"))
    assert any(f"bm-{_host()}-{dead}-aa" in line and "is gone" in line for line in said)


# What is claimed of aggregates


def aggregate(value_ms: float, count: int, average_ms: float) -> PassResult:
    extra = {"samples": "aggregate", "count": count, "average_ms": average_ms, "statistic": "median"}
    return PassResult(
        [value_ms], [], "wall", [9.0], 1, True, 1.0, 1.0, 1.0, None, None, "2026-01-01T00:00:00+00:00", extra=extra
    )


def test_statistics_of_aggregates_claim_no_samples() -> None:
    found = summarise_results([aggregate(2.0, 100, 2.1), aggregate(3.0, 300, 3.1), aggregate(2.5, 100, 2.5)])
    assert found.median_ms == 2.5
    assert (found.p5_ms, found.p95_ms, found.mad_ms) == (None, None, None)
    assert (found.n, found.runs, found.passes) == (0, 500, 3)
    assert found.mean_ms == pytest.approx((210 + 930 + 250) / 500)
    assert found.half_width_ms is not None  # the spread between processes is known


def test_bench_of_aggregates(tmp_path: Path, model: Path) -> None:
    backend = double(tmp_path, logs.NEW)
    result = bench_model(model, backend.device, backend, dataclasses.replace(QUICK, passes=3))
    document = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert (document["n"], document["runs"], document["samples_ms"]) == (0, 21, [])
    assert (document["p5_ms"], document["p95_ms"], document["median_ms"]) == (None, None, 150.21)
    assert document["provenance"]["passes"][0]["value_ms"] == 150.21
    assert "XNNPACK took the whole graph (5 of 5 nodes, 1 partition)" in result.remarks


def test_bench_where_the_log_does_not_tell_when_the_model_was_ready(tmp_path: Path, model: Path) -> None:
    log = logs.OLD.replace("Initialized session in 1.5ms\n", "").replace("Init: 1500, ", "")
    backend = double(tmp_path, log)
    result = bench_model(model, backend.device, backend, QUICK)
    assert json.loads(json.dumps(result.to_dict()))["init_ms"] is None
    assert one(double(tmp_path, logs.OLD), model).init_ms == 1.5


def test_outputs_that_are_all_empty_agree_with_nothing(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = np.zeros((1, 0), np.float32)
    monkeypatch.setattr(LiteRTRunner, "run", lambda self, inputs: [empty])
    said = agreement(model, ModelOutputs([empty], [0.0]), "fp32")
    assert said == "outputs not checked: all of them are empty, there is nothing to compare"


# End to end, by the commands


def run(*arguments: str) -> Any:
    result = CliRunner().invoke(app, [*arguments])
    assert result.exit_code == 0, result.output
    return result


NETWORK = ["--network", "df,stem=8s1,classes=10,channels=1/8/8,16/16", "--input", "32x32"]


@pytest.mark.parametrize(
    "source", [NETWORK, pytest.param(["--space", "df-mini"], marks=[pytest.mark.slow, pytest.mark.timeout(1200)])]
)
def test_a_table_end_to_end(tmp_path: Path, source: list[str]) -> None:
    """Measured by the stand-in in processes of its own, checked against the reference, and told as what it is."""
    table, binary = tmp_path / "t.sqlite", write_stand_in(tmp_path / "benchmark_model")
    options = [f"--backend-option={name}={value}" for name, value in {"binary": str(binary), **OPTIONS}.items()]
    base = ["lut", "build", *source, "--backend", "benchmark_model", *options, "--passes", "1", "--latency-max", "1000"]
    report = json.loads(run(*base, "-o", str(table), "--json").stdout)
    assert report["coverage"]["fraction"] == 1.0
    assert report["unchecked_blocks"] == 0
    with LatencyTable.open(table) as opened:
        assert opened.header.runtime_version.startswith("dfmobile host stand-in")
        assert opened.header.library_sha256
        passes = [result for found in opened.passes().values() for _, result in found]
    assert passes
    assert all(result.aggregate for result in passes)
    shown = run("lut", "show", str(table)).stdout
    assert "aggregate (" in shown
    document = json.loads(run("lut", "show", str(table), "--json").stdout)
    assert {(entry["n"], entry["samples"]) for entry in document["entries"]} == {(0, "aggregate")}
    assert all(entry["runs"] > 0 for entry in document["entries"])
    again = json.loads(run(*base, "-o", str(table), "--json").stdout)
    assert again["passes"] == 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_killed_build_goes_on(tmp_path: Path) -> None:
    """The run that it left on the device makes way; no row is lost, none doubled."""
    table, binary = tmp_path / "t.sqlite", write_stand_in(tmp_path / "benchmark_model")
    options = [f"--backend-option={name}={value}" for name, value in {"binary": str(binary), **OPTIONS}.items()]
    arguments = ["lut", "build", *NETWORK, "--backend", "benchmark_model", *options, "--passes", "3", "-o", str(table)]
    command = [sys.executable, "-c", "from dfmobile.cli.main import main; main()", *arguments]
    process = subprocess.Popen(command, env={**os.environ, "TMPDIR": str(tmp_path)}, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 240
        recorded: set[tuple[str, int]] = set()
        while not recorded and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
            if table.exists():
                with LatencyTable.open(table) as opened:
                    recorded = opened.recorded()
        assert recorded
        assert process.poll() is None
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    result = run(*arguments)
    assert "is gone" in result.stderr
    with LatencyTable.open(table) as opened:
        passes = opened.passes()
    assert {(key, number) for key, found in passes.items() for number, _ in found} >= recorded
    assert all([number for number, _ in found] == [0, 1, 2] for found in passes.values())


def test_another_tool_is_another_table(tmp_path: Path) -> None:
    first, second = write_stand_in(tmp_path / "one"), write_stand_in(tmp_path / "two")
    second.write_text(second.read_text() + "# another build\n")
    headers = []
    for binary in (first, second):
        RecordingBatch.reset(lambda item: (1, HELP))
        headers.append(TableHeader.of(DoubleBackend(phone(), options={"binary": str(binary)})))
    assert [text for text in headers[0].differences(headers[1]) if "library sha256" in text]


def test_bench_says_that_it_has_aggregates(tmp_path: Path, model: Path) -> None:
    binary = write_stand_in(tmp_path / "benchmark_model")
    options = [f"--backend-option={name}={value}" for name, value in {"binary": str(binary), **OPTIONS}.items()]
    shown = run("bench", str(model), "--backend", "benchmark_model", *options, "--passes", "2").stdout
    assert "aggregates only, no samples" in shown
    assert "XNNPACK took the whole graph" in shown
    assert "outputs agree with LiteRT" in shown
    refused = CliRunner().invoke(app, ["bench", str(model), "--backend", "litert", *options])
    assert refused.exit_code == 1
    assert "litert has no option" in refused.output


def test_settings_of_items_are_what_a_batch_takes(tmp_path: Path, model: Path) -> None:
    one(double(tmp_path, logs.NEW), model)
    item = next(item for item in RecordingBatch.items if item.id != "help")
    assert isinstance(item, BatchItem)
    assert isinstance(RecordingBatch.settings[-1], BatchSettings)
    assert item.argv[:2] == ("sh", "-c")
    assert "{run}/benchmark_model" in item.argv
    assert "--input_layer_value_files=input0:{item}/input0.bin" in item.argv
    assert {name for _, name in item.files} == {"model.tflite", "input0.bin"}
