"""The replay of trtexec against the flags that dfmobile passes and the parsers of what it writes."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from dfmobile.errors import InputError
from dfmobile.latency.tensorrt.failures import failure, failure_kind
from dfmobile.latency.tensorrt.flags import (
    _FLAGS,
    BuildRequest,
    TimingRequest,
    build_flags,
    has_flag,
    profile_flags,
    timing_choices,
    timing_flags,
)
from dfmobile.latency.tensorrt.layer_profile import parse_dump_profile, parse_export_profile
from dfmobile.latency.tensorrt.log import REPLAY_MARKER, TrtexecLog, parse_trtexec_log
from dfmobile.latency.tensorrt.times import parse_export_times
from dfmobile.latency.tensorrt.versions import TensorRTVersion
from dfmobile.testing.replay_trtexec import VERSIONS, configure_replay, install_replay
from dfmobile.testing.replay_trtexec.flags import OPSETS, SWITCHES, flags_of
from dfmobile.testing.replay_trtexec.network import BadOnnxError, read_network
from dfmobile.testing.replay_trtexec.play import FAILURES
from dfmobile.testing.replay_trtexec.text import MARKER

pytest.importorskip("onnx")

from dfmobile.export.onnx import OPSETS as WRITTEN_OPSETS
from dfmobile.export.onnx import onnx_bytes
from dfmobile.graph import initialise
from dfmobile.testing.op_graphs import residual_block

FOLDER = Path(__file__).resolve().parents[2] / "dfmobile" / "testing" / "replay_trtexec"


def onnx_file(opset: int = 13) -> bytes:
    graph = residual_block()
    return onnx_bytes(graph, initialise(graph), opset=opset)


class Ended(NamedTuple):
    """A run of the replay."""

    code: int
    text: str
    log: TrtexecLog

    @property
    def kind(self) -> str:
        return failure_kind(self.code, self.log, self.text)


class Board:
    """A folder with a replay in it."""

    def __init__(self, folder: Path, version: str, **settings: object) -> None:
        self.folder = folder
        self.version = TensorRTVersion.parse(version)
        self.program = install_replay(folder, version, build_s=0, **settings)
        (folder / "a.onnx").write_bytes(onnx_file())

    def path(self, name: str) -> str:
        return str(self.folder / name)

    def run(self, flags: list[str]) -> Ended:
        ended = subprocess.run(
            [self.program, *flags], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, check=False
        )
        return Ended(ended.returncode, ended.stdout, parse_trtexec_log(ended.stdout))

    def build(self, onnx: str = "a.onnx", engine: str = "a.engine", timing_cache: str | None = None) -> Ended:
        cache = None if timing_cache is None else self.path(timing_cache)
        request = BuildRequest(self.path(onnx), self.path(engine), "fp32", timing_cache=cache)
        return self.run(build_flags(self.version, request))

    def time(self, engine: str = "a.engine", graph: bool = False, transfers: bool = True) -> Ended:
        request = TimingRequest(self.path(engine), self.path("t.json"), 5, 50, 0.01, graph, not graph, transfers)
        ended = self.run(timing_flags(self.version, request))
        if ended.code == 0:
            assert ended.log.choices == {
                name: value for name, value in timing_choices(request).items() if name != "streams"
            }
        return ended

    def median(self) -> float:
        times = parse_export_times((self.folder / "t.json").read_bytes()).without_warm_up(5)
        return float(np.median(times.compute_ms))


@pytest.fixture(params=VERSIONS)
def board(request: pytest.FixtureRequest, tmp_path: Path) -> Board:
    return Board(tmp_path / "it's a board", request.param)


def test_every_flag_that_dfmobile_passes_is_known(board: Board) -> None:
    """Two tables written apart say the same of every flag that the one has."""
    known = flags_of((board.version.major, board.version.minor))
    differs = {flag for flag in _FLAGS if has_flag(board.version, flag) != (flag[2:] in known)}
    assert not differs
    assert {flag for flag in ("--useCudaGraph", "--noTF32", "--buildOnly") if flag[2:] not in SWITCHES} == set()


def test_build_time_and_profile(board: Board) -> None:
    built = board.build()
    assert built.code == 0, built.text
    assert built.log.passed
    assert built.log.replay
    assert built.log.version == board.version
    assert built.log.opset == 13
    assert built.log.gpu_compute is None

    timed = board.time(graph=True, transfers=False)
    assert timed.code == 0, timed.text
    assert timed.log.passed
    assert timed.log.replay
    summary = timed.log.gpu_compute
    assert summary is not None
    times = parse_export_times((board.folder / "t.json").read_bytes())
    runs = times.without_warm_up(5)
    assert len(runs) == timed.log.queries
    assert len(times) - len(runs) == (timed.log.warm_up_queries if board.version < TensorRTVersion(8, 6) else 0)
    assert (times.end_to_end_ms is not None) == (board.version < TensorRTVersion(8, 4))
    assert float(np.median(runs.compute_ms)) == pytest.approx(summary.median_ms, rel=1e-5)
    assert float(np.mean(runs.compute_ms)) == pytest.approx(summary.mean_ms or 0, rel=1e-5)
    assert (runs.h2d_ms == 0).all()
    assert 99.0 in summary.percentiles

    profiled = board.run([*profile_flags(board.version, board.path("a.engine"), board.path("p.json")), "--dumpProfile"])
    assert profiled.code == 0, profiled.text
    layers, count = parse_export_profile((board.folder / "p.json").read_bytes())
    printed = parse_dump_profile(profiled.text)
    assert [layer.name for layer in printed] == [layer.name for layer in layers]
    assert [layer.time_ms_total for layer in printed] == pytest.approx(
        [item.time_ms_total for item in layers], abs=0.01
    )
    assert layers[0].name == "block.conv1 + relu1"
    assert count > 0
    # 8.2 prints a contaminated summary of the profiled runs, 8.5 and 10.3 none, 11 profiles in a run of its own.
    assert (profiled.log.gpu_compute is not None) == (board.version.text in ("8.2.1", "11.0.0"))


def test_flags_of_other_versions_are_rejected(board: Board) -> None:
    other = {"8.2.1": "--memPoolSize=workspace:64", "8.5.2": "--skipInference", "10.3.0": "--workspace=64",
             "11.0.0": "--fp16"}[board.version.text]  # fmt: skip
    ended = board.run(["--onnx=" + board.path("a.onnx"), other])
    assert (ended.code, ended.log.passed, ended.log.replay) == (1, False, True)
    assert ended.kind == "unknown flag"
    assert f"Unknown option: {other}" in str(failure(1, ended.log, ended.text, what="building", version=None))
    for wrong in (["--bogus"], ["--iterations=x"], ["--useCudaGraph=1"], ["onnx"]):
        assert board.run(["--onnx=" + board.path("a.onnx"), *wrong]).code == 1


def test_opsets_that_a_version_does_not_know_are_rejected(board: Board) -> None:
    limit = board.version.max_onnx_opset
    for opset in {min(limit, max(WRITTEN_OPSETS)), limit + 1} & set(WRITTEN_OPSETS):
        (board.folder / "new.onnx").write_bytes(onnx_file(opset))
        ended = board.build("new.onnx", engine="new.engine")
        if opset <= limit:
            assert ended.code == 0, ended.text
            (board.folder / "new.engine").unlink()
            continue
        assert ended.kind == "unsupported onnx"
        error = failure(1, ended.log, ended.text, what="building", version=None)
        assert f"operator Conv, opset {opset}" in str(error)
        assert error.hint == f"export it with opset {board.version.max_onnx_opset}"
        assert not (board.folder / "new.engine").exists()


def test_opset_tables_agree() -> None:
    assert {key: TensorRTVersion(*key).max_onnx_opset for key in OPSETS} == OPSETS


def test_fp16_needs_a_typed_file_from_11_on(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no --fp16"):
        build_flags(TensorRTVersion.parse("11.0.0"), BuildRequest("a", "b", "fp16"))
    board = Board(tmp_path, "10.3.0")
    assert board.build().code == 0
    assert board.time().code == 0
    slow = board.median()
    flags = build_flags(board.version, BuildRequest(board.path("a.onnx"), board.path("a.engine"), "fp16"))
    assert board.run(flags).code == 0
    assert board.time().code == 0
    assert board.median() < slow


def test_builds_differ_and_a_shared_timing_cache_makes_them_the_same(tmp_path: Path) -> None:
    board = Board(tmp_path, "8.5.2")

    def medians(cache: str | None) -> set[float]:
        found = set()
        for index in range(3):
            assert board.build(engine=f"{index}.engine", timing_cache=cache).code == 0
            assert board.time(f"{index}.engine").code == 0
            found.add(round(board.median(), 4))
        return found

    assert len(medians(None)) > 1
    assert len(medians("cache")) == 1


def test_an_engine_of_another_version_or_none_is_rejected(tmp_path: Path) -> None:
    old, new = Board(tmp_path / "old", "8.5.2"), Board(tmp_path / "new", "10.3.0")
    assert old.build().code == 0
    shutil.copy(old.folder / "a.engine", new.folder / "a.engine")
    assert new.time().kind == "incompatible engine"
    (new.folder / "a.engine").write_bytes(b"\x00\x01" * 100)
    assert new.time().kind == "incompatible engine"
    (new.folder / "a.engine").unlink()
    assert new.time().kind == "missing file"


@pytest.mark.parametrize("content", [b"", b"nonsense", b"\xff" * 100, onnx_file()[:200], b"\x3a\x05ab"])
def test_a_damaged_onnx_file_is_rejected(tmp_path: Path, content: bytes) -> None:
    board = Board(tmp_path, "8.2.1")
    (tmp_path / "bad.onnx").write_bytes(content)
    assert board.build("bad.onnx").kind == "bad onnx"
    assert board.build("none.onnx").kind == "missing file"


def test_the_network_is_read() -> None:
    network = read_network(onnx_file(17))
    assert (network.opset, network.producer, network.dtype) == (17, "dfmobile", "fp32")
    assert [node.op for node in network.nodes].count("Conv") == 3
    assert network.inputs[0][1][0] == 1
    with pytest.raises(BadOnnxError):
        read_network(b"\x08")


@pytest.mark.parametrize(
    ("name", "code", "kind"),
    [
        ("no-driver", -6, "no driver"), ("killed", -9, "killed for memory"), ("crash", -11, "crashed"),
        ("unsupported-op", 1, "unsupported onnx"), ("gpu-memory", 1, "out of gpu memory"),
        ("workspace", 1, "workspace"),
        ("disk-full", 1, "disk full"), ("old-gpu", 1, "unsupported gpu"), ("silent", 0, "no result"),
    ],
)  # fmt: skip
def test_it_fails_as_it_is_told(tmp_path: Path, name: str, code: int, kind: str) -> None:
    board = Board(tmp_path, "8.5.2", failure=name, failure_phase="build", failures_left=2)
    for _ in range(2):
        ended = board.build()
        assert (ended.code, ended.kind, ended.log.replay) == (code, kind, True), ended.text
        assert not ended.log.passed
    assert board.build().code == 0
    assert board.time().code == 0


def test_failures_of_timings(tmp_path: Path) -> None:
    board = Board(tmp_path, "8.5.2", failure="cut-off", failure_phase="time")
    assert board.build().code == 0
    ended = board.time()
    assert (ended.code, ended.log.gpu_compute, ended.kind) == (0, None, "no result")
    configure_replay(tmp_path, failure="ignores-graph")
    request = TimingRequest(board.path("a.engine"), board.path("t.json"), 5, 50, 0.01, True, False, True)
    assert board.run(timing_flags(board.version, request)).log.choices["cuda_graph"] is False


def test_it_hangs_as_it_is_told(tmp_path: Path) -> None:
    board = Board(tmp_path, "8.5.2", failure="hang")
    with pytest.raises(subprocess.TimeoutExpired):
        subprocess.run(
            [board.program, "--onnx=" + board.path("a.onnx")], timeout=1, stdout=subprocess.DEVNULL, check=False
        )


def test_a_recorded_log_is_played_and_still_a_replay(tmp_path: Path, reference: Path) -> None:
    recorded = reference / "tensorrt" / "trtexec_8.0.1_nano_excerpt.log"
    board = Board(tmp_path, "8.2.1", recorded_log=str(recorded))
    assert board.build().code == 0
    request = TimingRequest(board.path("a.engine"), board.path("t.json"), 5, 50, 0.01, False, False, True)
    ended = board.run(timing_flags(board.version, request))
    assert ended.log.gpu_compute is not None
    assert ended.log.gpu_compute.median_ms == 39.9982
    assert ended.log.replay


def shape(text: str, first: str, last: str) -> list[str]:
    """Lines from one to another with every number as #, without warnings and traces."""
    lines = [line for line in text.splitlines() if "[W]" not in line]
    start = next(index for index, line in enumerate(lines) if first in line)
    end = next(index for index, line in enumerate(lines) if index > start and last in line)
    return [re.sub(r"[0-9.]+(?:e-[0-9]+)?", "#", line).rstrip() for line in lines[start : end + 1]]


@pytest.mark.parametrize(
    ("version", "name"),
    [("8.2.1", "8.0.1_nano_excerpt"), ("10.3.0", "10.16.1_result_01"), ("11.0.0", "10.16.1_result_01")],
)
def test_its_summary_reads_like_a_real_one(tmp_path: Path, reference: Path, version: str, name: str) -> None:
    board = Board(tmp_path, version)
    assert board.build().code == 0
    real = (reference / "tensorrt" / f"trtexec_{name}.log").read_text(encoding="utf-8")
    ends = ("=== Performance summary ===", "Explanations of the performance metrics")
    assert shape(board.time().text, *ends) == shape(real, *ends)


@pytest.mark.parametrize(
    ("version", "name"),
    [("8.5.2", "8.5.2_xavier_profile_excerpt"), ("10.3.0", "10.16.1_result_05"), ("11.0.0", "10.16.1_result_05")],
)
def test_its_profile_reads_like_a_real_one(tmp_path: Path, reference: Path, version: str, name: str) -> None:
    board = Board(tmp_path, version)
    assert board.build().code == 0
    ended = board.run([*profile_flags(board.version, board.path("a.engine"), board.path("p.json")), "--dumpProfile"])
    real = (reference / "tensorrt" / f"trtexec_{name}.log").read_text(encoding="utf-8")
    ours, theirs = (shape(text, "=== Profile (", " Total") for text in (ended.text, real))
    columns = [[" ".join(line.split()) for line in (part[0], part[1], part[-1])] for part in (ours, theirs)]
    assert columns[0] == columns[1]
    sample = (reference / "tensorrt" / "A100_fp16_resnet.onnx.engine.profile.json").read_text(encoding="utf-8")
    entry = [re.sub(r'"name" : ".*?"|[0-9.]+', "#", text.splitlines()[2]) for text in (
        (board.folder / "p.json").read_text(encoding="utf-8"), sample)]  # fmt: skip
    assert entry[0] == entry[1]


def test_its_times_read_like_a_real_file(tmp_path: Path, reference: Path) -> None:
    board = Board(tmp_path, "10.3.0")
    assert board.build().code == 0
    assert board.time(transfers=False).code == 0
    ours = (board.folder / "t.json").read_text(encoding="utf-8")
    real = (reference / "tensorrt" / "A100_fp16_resnet.onnx.engine.timing.json.head").read_text(encoding="utf-8")
    for line in range(3):
        a, b = (re.sub(r": [0-9.]+", ": #", text.splitlines()[line]) for text in (ours, real))
        assert a == b


def test_settings_that_do_not_exist_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"8\.4\.1"):
        install_replay(tmp_path, "8.4.1")
    with pytest.raises(ValueError, match="no settings speed"):
        install_replay(tmp_path, "8.2.1", speed=2)
    assert len(set(FAILURES)) == len(FAILURES)


def test_its_marker_is_the_parsers() -> None:
    assert MARKER == REPLAY_MARKER


@pytest.mark.parametrize("name", sorted(path.name for path in FOLDER.glob("*.py")))
def test_it_needs_nothing_but_python_3_6(name: str) -> None:
    tree = ast.parse((FOLDER / name).read_text(encoding="utf-8"), feature_version=(3, 6))
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and not node.level}
    needed = "hashlib json os pathlib random resource shutil signal stat sys time typing"
    assert modules <= set(needed.split())


def test_under_a_real_python_3_6(tmp_path: Path) -> None:
    interpreter = shutil.which("python3.6")
    if interpreter is None or subprocess.run([interpreter, "-c", ""], capture_output=True, check=False).returncode:
        pytest.skip("there is no Python 3.6 here")
    board = Board(tmp_path, "8.2.1", interpreter=interpreter)
    assert board.build().code == 0
    assert board.time().log.passed
