"""The backend ``tensorrt`` over the replay: the contract, engines and caches, and an error for every failure."""

from __future__ import annotations

import dataclasses
import json
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from latency.tensorrt.replays import FAST, QuickBackend, conv_model, engines, one_pass, replay_backend, scratch
from typer.testing import CliRunner

from dfmobile.cli.main import app
from dfmobile.devices.batch import clean_device
from dfmobile.devices.device import Device, open_device
from dfmobile.devices.transport.base import CommandFailedError, CommandResult, ConnectionLostError
from dfmobile.errors import BackendError, DeviceError, InputError
from dfmobile.latency.backends.base import Backend, JobContext, MeasureJob
from dfmobile.latency.backends.tensorrt import TensorRTBackend
from dfmobile.latency.build_command import build_command
from dfmobile.latency.header import TableHeader
from dfmobile.latency.measurement import Protocol
from dfmobile.latency.tensorrt import board as board_module
from dfmobile.latency.tensorrt.availability import describe_missing
from dfmobile.latency.tensorrt.board import TrtexecBoard
from dfmobile.latency.tensorrt.options import parse_options
from dfmobile.testing.backend_contract import BackendContract
from dfmobile.testing.replay_trtexec import VERSIONS, configure_replay
from dfmobile.testing.replay_trtexec.play import FAILURES

__all__ = ["scratch"]


class TestContractOverTheReplay(BackendContract):
    @pytest.fixture
    def backend(self, tmp_path: Path, scratch: Path) -> Backend:
        return replay_backend(tmp_path)


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_gets_its_opset_and_its_flags(version: str, tmp_path: Path, scratch: Path) -> None:
    backend = replay_backend(tmp_path, version)  # refuses flags and opsets that its version lacks
    assert backend.identity().version == version
    assert backend.file_options.opset == (13 if version == "8.2.1" else 17)
    result = one_pass(backend, conv_model(backend, tmp_path / "m.onnx"))
    assert result.clock == "gpu-events"
    assert result.extra["replay"] is True
    assert result.extra["engines"]["isolated"]["choices"] == {
        "cuda_graph": False, "spin_wait": True, "transfers": False, "streams": 1,
    }  # fmt: skip


def test_choices_are_in_the_key(tmp_path: Path, scratch: Path) -> None:
    flags = replay_backend(tmp_path, options={"cuda-graph": "true", "transfers": "true"}).identity().flags
    assert (flags["cuda_graph"], flags["spin_wait"], flags["transfers"]) == (True, True, True)
    assert flags["replay"] is True


def test_engines_are_built_once_for_each_build(tmp_path: Path, scratch: Path) -> None:
    backend = replay_backend(tmp_path)
    path = conv_model(backend, tmp_path / "m.onnx")
    first = one_pass(backend, path, repetition=0)
    again = one_pass(replay_backend(tmp_path), path, repetition=0)
    other = one_pass(backend, path, repetition=1)
    names = [result.extra["engines"]["isolated"]["engine_sha256"] for result in (first, again, other)]
    assert names[0] == names[1] != names[2]
    assert again.extra["engines"]["isolated"]["build_ms"] is None
    assert first.extra["build"] == again.extra["build"] != other.extra["build"]
    assert len(engines(scratch)) == 2


def test_builds_are_shared_where_asked_for(tmp_path: Path, scratch: Path) -> None:
    backend = replay_backend(tmp_path, options={"builds": "3"})
    assert [backend.build_name(number).partition("@")[0] for number in range(5)] == ["0", "1", "2", "0", "1"]


def test_an_engine_of_another_boot_is_not_taken_and_removed(
    tmp_path: Path, scratch: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the board restarts between two batches of one process."""
    backend = replay_backend(tmp_path)
    path = conv_model(backend, tmp_path / "m.onnx")
    before = one_pass(backend, path)
    folder = Path(backend.board.folder)
    assert folder.is_dir()
    boot = tmp_path / "boot_id"
    boot.write_text("another")
    monkeypatch.setattr(board_module, "_BOOT", str(boot))
    after = one_pass(backend, path)
    assert before.extra["build"] != after.extra["build"]
    assert len(engines(scratch)) == 1
    assert not folder.exists()


@pytest.mark.parametrize(
    ("error", "boot"),
    [
        (CommandFailedError("cat: No such file", result=CommandResult(("cat",), 1, b"", b"", 1.0)), "00000000"),
        (ConnectionLostError("the line is cut"), None),
    ],
)
def test_a_boot_is_unknown_only_where_the_board_says_so(error: DeviceError, boot: str | None) -> None:
    """Were a cut taken for it, the engines of the real boot would be removed."""

    class Cut:
        def read_bytes(self, *_: object) -> bytes:
            raise error

    board = TrtexecBoard(cast(Device, SimpleNamespace(transport=Cut())), None)
    if boot is None:
        with pytest.raises(ConnectionLostError):
            _ = board.boot
    else:
        assert board.boot == boot


def test_another_tensorrt_builds_its_own(tmp_path: Path, scratch: Path) -> None:
    old, new = replay_backend(tmp_path), replay_backend(tmp_path, "10.3.0")
    path = conv_model(old, tmp_path / "m.onnx")
    one_pass(old, path)
    one_pass(new, path)
    assert old.board.folder != new.board.folder


def test_the_oldest_engines_make_room_and_come_back_with_the_same_kernels(tmp_path: Path, scratch: Path) -> None:
    backend = replay_backend(tmp_path)
    path = conv_model(backend, tmp_path / "m.onnx")
    first = one_pass(backend, path)
    backend.board.make_room(0)
    assert engines(scratch) == []
    assert one_pass(backend, path).hot_ms == first.hot_ms  # its timing cache stayed


def test_clean_removes_engines(tmp_path: Path, scratch: Path) -> None:
    backend = replay_backend(tmp_path)
    one_pass(backend, conv_model(backend, tmp_path / "m.onnx"))
    assert engines(scratch)
    clean_device(backend.device.transport, stop=True)
    assert not engines(scratch)


def test_a_job_with_a_context_is_three_engines(tmp_path: Path, scratch: Path) -> None:
    backend = replay_backend(tmp_path)
    paths = [conv_model(backend, tmp_path / f"{name}.onnx", size) for name, size in (("a", 8), ("b", 16), ("c", 4))]
    job = MeasureJob("only", paths[0], Protocol(runs=4), context=JobContext(paths[1], paths[2]))
    ((_, result),) = backend.measure([job])
    assert list(result.extra["engines"]) == ["prefix", "context", "isolated"]
    found = result.extra["marginal"]
    assert len(found["context_ms"]) == len(found["prefix_ms"]) == len(result.hot_ms) == 4
    assert found["median_ms"] > 0


def test_a_stem_is_its_own_context(tmp_path: Path, scratch: Path) -> None:
    backend = replay_backend(tmp_path)
    path = conv_model(backend, tmp_path / "a.onnx")
    ((_, result),) = backend.measure([MeasureJob("only", path, Protocol(runs=4), context=JobContext(path, None))])
    assert result.extra["marginal"]["context_ms"] == result.hot_ms
    assert result.extra["marginal"]["prefix_ms"] == []


def test_one_bad_model_does_not_take_the_others_along(tmp_path: Path, scratch: Path) -> None:
    backend = replay_backend(tmp_path)
    good, bad = conv_model(backend, tmp_path / "good.onnx"), tmp_path / "bad.onnx"
    bad.write_text("this is no model")
    results = backend.measure([MeasureJob(str(n), path, Protocol(runs=4)) for n, path in enumerate((bad, good))])
    assert next(results)[0] == "1"
    with pytest.raises(BackendError, match=r"bad\.onnx"):
        next(results)


def test_a_tflite_file_is_not_sent_to_the_board(tmp_path: Path, scratch: Path) -> None:
    path = tmp_path / "m.tflite"
    path.write_bytes(b"\x1c\0\0\0TFL3")
    with pytest.raises(InputError, match=r"m\.tflite is a TFLite file, and TensorRT takes ONNX"):
        one_pass(replay_backend(tmp_path), path)


@pytest.mark.slow
def test_every_failure_of_the_replay_is_one_error_with_a_hint(tmp_path: Path, scratch: Path) -> None:
    backend = replay_backend(tmp_path)
    path = conv_model(backend, tmp_path / "m.onnx")
    one_pass(backend, path)
    # Where nothing asks for a CUDA graph, there is none to ignore.
    for repetition, name in enumerate(sorted({*FAILURES} - {"hang", "ignores-graph"}), 1):
        configure_replay(tmp_path / "trtexec-8.5.2", failure=name)
        with pytest.raises(BackendError, match=r"m\.onnx") as caught:
            one_pass(backend, path, repetition=repetition)
        assert "\n" not in str(caught.value)
        assert caught.value.hint
    configure_replay(tmp_path / "trtexec-8.5.2", failure="")
    assert one_pass(backend, path, repetition=99).hot_ms


def test_a_build_that_hangs_is_stopped_on_the_device(tmp_path: Path, scratch: Path) -> None:
    backend = replay_backend(tmp_path, options={"build-secs": "2"}, failure="hang", failure_phase="build")
    with pytest.raises(BackendError, match="did not end in the time it was given"):
        one_pass(backend, conv_model(backend, tmp_path / "m.onnx"))


def test_a_graph_that_trtexec_ignores_is_an_error(tmp_path: Path, scratch: Path) -> None:
    backend = replay_backend(tmp_path, options={"cuda-graph": "true"}, failure="ignores-graph")
    with pytest.raises(BackendError, match="did not do as it was told") as caught:
        one_pass(backend, conv_model(backend, tmp_path / "m.onnx"))
    assert "cuda-graph=false" in str(caught.value.hint)


def test_times_that_are_not_those_of_the_log_are_refused(tmp_path: Path, scratch: Path) -> None:
    backend = replay_backend(tmp_path)
    path = conv_model(backend, tmp_path / "m.onnx")
    one_pass(backend, path)
    names = [
        "startEnqMs",
        "endEnqMs",
        "startH2dMs",
        "endH2dMs",
        "startComputeMs",
        "endComputeMs",
        "startD2hMs",
        "endD2hMs",
        "h2dMs",
        "computeMs",
        "d2hMs",
        "latencyMs",
    ]
    runs = [dict.fromkeys(names, 1000.0 + number) for number in range(4)]
    times, log = tmp_path / "times.json", tmp_path / "run.log"
    times.write_text(json.dumps(runs))
    log.write_text(
        "[01/01/2026-00:00:00] [I] GPU Compute Time: min = 1 ms, max = 2 ms, mean = 1.5 ms, median = 1.5 ms, "
        "percentile(99%) = 2 ms\n"
    )
    configure_replay(tmp_path / "trtexec-8.5.2", recorded_log=str(log), recorded_times=str(times))
    with pytest.raises(BackendError, match=r"printed a median of 1\.5 ms and wrote times"):
        one_pass(backend, path)


def test_a_program_that_becomes_a_replay_is_an_error(tmp_path: Path, scratch: Path) -> None:
    """Its table would not say so: what a table belongs to is found out once."""
    backend = replay_backend(tmp_path)
    facts = backend.board.facts
    backend.board.__dict__["facts"] = dataclasses.replace(facts, replay=False)
    with pytest.raises(BackendError, match="the log is a replay"):
        one_pass(backend, conv_model(backend, tmp_path / "m.onnx"))


def test_old_versions_time_for_whole_seconds(tmp_path: Path, scratch: Path) -> None:
    backend = replay_backend(tmp_path, "8.2.1", scale=500.0, options={"timed-ms": "300"})
    assert sum(one_pass(backend, conv_model(backend, tmp_path / "m.onnx")).hot_ms) >= 900


def test_int8_wants_a_calibration_cache(tmp_path: Path, scratch: Path) -> None:
    with pytest.raises(InputError, match="calibration-cache"):
        replay_backend(tmp_path, precision="int8")
    cache = tmp_path / "scales.cache"
    cache.write_text("TRT-8502-EntropyCalibration2\ninput0: 3c010a14\n")
    backend = replay_backend(tmp_path, precision="int8", options={"calibration-cache": str(cache)})
    assert one_pass(backend, conv_model(backend, tmp_path / "m.onnx")).hot_ms
    assert len(str(backend.identity().flags["calibration_sha256"])) == 64
    with pytest.raises(InputError, match=r"11\.0\.0 has no int8"):
        replay_backend(tmp_path, "11.0.0", precision="int8", options={"calibration-cache": str(cache)})
    with pytest.raises(InputError, match="takes no calibration cache"):
        replay_backend(tmp_path, precision="fp16", options={"calibration-cache": str(cache)})


@pytest.mark.parametrize("version", ["8.2.1", "10.3.0"])
def test_half_precision_is_allowed_by_a_flag_before_11(version: str, tmp_path: Path, scratch: Path) -> None:
    backend = replay_backend(tmp_path, version, precision="fp16")
    assert backend.file_precision == "fp32"
    assert one_pass(backend, conv_model(backend, tmp_path / "m.onnx")).hot_ms


def test_layers_are_profiled_in_a_run_of_their_own(tmp_path: Path, scratch: Path) -> None:
    backend = replay_backend(tmp_path, "10.3.0")
    layers, runs = backend.profile_layers(conv_model(backend, tmp_path / "m.onnx"))
    assert layers
    assert runs > 0


def test_a_board_without_trtexec_says_what_to_do(scratch: Path) -> None:
    with pytest.raises(BackendError, match="there is no file /nowhere/trtexec"):
        QuickBackend(open_device("local"), options={"trtexec": "/nowhere/trtexec"})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"trtexec": "trtexec"}, "no absolute path"),
        ({"builds": "2"}, "whole number from 3"),
        ({"measure": "both"}, "marginal or isolated"),
        ({"timed-ms": "x"}, "a number"),
        ({"wings": "2"}, "no option"),
        ({"runner": "python", "transfers": "true"}, "runner=python has no option transfers='true'"),
        ({"runner": "python", "spin-wait": "false"}, "runner=python has no option spin-wait='false'"),
        ({"runner": "python", "cache-mib": "10"}, "runner=python has no option cache-mib"),
    ],
)
def test_options_are_checked(options: dict[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        TensorRTBackend(open_device("local"), options={**FAST, **options})


def test_what_a_table_says_to_add_blocks_with_is_what_the_backend_takes(tmp_path: Path, scratch: Path) -> None:
    backend = replay_backend(tmp_path)
    command = build_command(TableHeader.of(backend), "t.sqlite", "--space df")
    words = shlex.split(command)
    options = dict(words[n + 1].split("=", 1) for n, word in enumerate(words) if word == "--backend-option")
    assert parse_options(options, "fp32") == dataclasses.replace(
        parse_options({}, "fp32"), warm_up_ms=5.0
    )  # the path of trtexec and how long is timed are no part of the key


def test_the_python_module_runs_here_only(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="runs no trtexec"):
        QuickBackend(open_device("local"), options={"runner": "python", "trtexec": "/x"})
    with pytest.raises(BackendError, match="TensorRT") as caught:
        QuickBackend(open_device("local"), options={"runner": "python"})
    assert caught.value.hint


def test_bench_on_this_machine_says_what_is_missing_in_one_line(tmp_path: Path) -> None:
    missing = describe_missing()
    if missing is None:
        pytest.skip("skipped: TensorRT can run on this machine")
    words = ["bench", str(tmp_path / "m.onnx"), "--device", "local", "--backend", "tensorrt"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 1
    assert result.stderr.splitlines() == [f"error: {missing[0]}", f"hint: {missing[1]}"]


def test_bench_finds_no_trtexec_where_a_gpu_has_only_the_module(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("dfmobile.latency.backends.tensorrt.describe_missing", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("dfmobile.latency.tensorrt.board.USUAL_PATH", "/nowhere/trtexec")
    sh = tmp_path / "sh"
    sh.symlink_to("/bin/sh")
    with pytest.raises(BackendError, match="has no trtexec") as caught:
        QuickBackend(open_device("local"))
    assert "runner=python" in str(caught.value.hint)
