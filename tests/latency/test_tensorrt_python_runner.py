"""The Python-API runner against stand-ins of TensorRT and of the CUDA runtime."""

from __future__ import annotations

import ast
import ctypes
import json
import math
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tensorrt_stubs import CUDART, RUNS, install

from dfmobile.errors import BackendError, ExportError, InputError, StorageError
from dfmobile.export import tensorrt_api, tensorrt_engine
from dfmobile.latency.tensorrt import cuda, python_worker
from dfmobile.latency.tensorrt.python_runner import PythonRunner

needs_gcc = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")


@pytest.fixture(scope="session")
def cudart(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cudart")
    source, library = folder / "cudart.c", folder / "libcudart.so"
    source.write_text(CUDART)
    subprocess.run(["gcc", "-w", "-shared", "-fPIC", "-o", library, source], check=True)
    return library


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    install(tmp_path / "site", monkeypatch, "10.3.0", RUNS)
    return tmp_path


@pytest.fixture
def runner(site: Path, cudart: Path) -> Iterator[PythonRunner]:
    with PythonRunner(cudart=cudart) as runner:
        yield runner


@pytest.fixture
def onnx(tmp_path: Path) -> Path:
    path = tmp_path / "model.onnx"
    path.write_bytes(b"good")
    return path


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    path = tmp_path / "model.engine"
    path.write_bytes(b"{}")
    return path


@needs_gcc
def test_what_ran(runner: PythonRunner, cudart: Path) -> None:
    assert runner.version == "10.3.0"
    assert runner.missing_gpu == ""
    assert runner.provenance == {
        "runner": "python",
        "module": "tensorrt",
        "version": "10.3.0",
        "cudart": str(cudart),
        "cuda": "12.6",
        "driver": "13.0",
    }


@needs_gcc
@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, {"network": 1, "flags": ["TF32"], "pools": {}, "level": None}),
        ({"precision": "fp16", "tf32": False}, {"network": 1, "flags": ["FP16"], "pools": {}, "level": None}),
        ({"precision": "typed"}, {"network": 3, "flags": ["TF32"], "pools": {}, "level": None}),
        (
            {"workspace_bytes": 2**28, "optimization_level": 5},
            {"network": 1, "flags": ["TF32"], "pools": {"0": 2**28}, "level": 5},
        ),
    ],
)
def test_build_options(
    runner: PythonRunner, onnx: Path, engine: Path, options: dict[str, object], expected: dict[str, object]
) -> None:
    built = runner.build(onnx, engine, **options)  # type: ignore[arg-type]
    assert json.loads(engine.read_bytes()) == expected
    assert built.engine_bytes == engine.stat().st_size
    assert built.messages == ("INFO: Opset version: 17",)  # VERBOSE is not kept


@needs_gcc
def test_the_timing_cache_is_kept_and_another_one_refused(
    runner: PythonRunner, onnx: Path, engine: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "timing.cache"
    for _ in range(2):
        runner.build(onnx, engine, timing_cache=cache)
        assert cache.read_bytes() == b"cache"
    cache.write_bytes(b"of another GPU")
    with pytest.raises(BackendError, match="refuses the timing cache"):
        runner.build(onnx, engine, timing_cache=cache)


@needs_gcc
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_times_are_those_of_the_events(
    runner: PythonRunner, engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cuda_graph: bool
) -> None:
    log = tmp_path / "calls"
    runner.close()
    monkeypatch.setenv("FAKE_CUDART_LOG", str(log))
    timing = runner.time(engine, warm_up_ms=0, runs=5, cuda_graph=cuda_graph)
    assert timing.samples_ms == (1.0, 1.25, 1.5, 1.75, 2.0)
    assert len(timing.host_ms) == 5
    assert timing.warm_up_runs == python_worker.MIN_WARM_UP_RUNS
    calls = Counter(log.read_text().split())
    assert calls["cudaEventRecord"] == 10
    assert calls["cudaGraphLaunch"] == (6 if cuda_graph else 0)
    for made, ended in (
        ("cudaMalloc", "cudaFree"),
        ("cudaStreamCreateWithFlags", "cudaStreamDestroy"),
        ("cudaEventCreateWithFlags", "cudaEventDestroy"),
        ("cudaStreamEndCapture", "cudaGraphDestroy"),
        ("cudaGraphInstantiateWithFlags", "cudaGraphExecDestroy"),
    ):
        assert calls[made] == calls[ended], made


@needs_gcc
def test_the_budget_ends_the_samples(runner: PythonRunner, engine: Path) -> None:
    assert len(runner.time(engine, warm_up_ms=0, runs=10**6, budget_ms=0).samples_ms) == 1


@needs_gcc
def test_outputs(runner: PythonRunner, engine: Path) -> None:
    found = runner.outputs(engine, [np.array([[1, 2, 3, 4.5]], np.float32)])
    assert [array.dtype for array in found] == [np.float32]  # float16 in the engine
    np.testing.assert_array_equal(found[0], [[2, 4, 6, 9]])
    with pytest.raises(BackendError, match=r"input 'x' is \[1, 4\], \[1, 3\] is given"):
        runner.outputs(engine, [np.zeros((1, 3), np.float32)])
    with pytest.raises(BackendError, match="takes 1 inputs, 0 are given"):
        runner.outputs(engine, [])


@needs_gcc
def test_a_rejected_model_names_node_op_and_version(runner: PythonRunner, onnx: Path, engine: Path) -> None:
    onnx.write_bytes(b"bad")
    before = engine.read_bytes()
    with pytest.raises(ExportError) as caught:
        runner.build(onnx, engine)
    assert str(caught.value) == (
        f"TensorRT 10.3.0 rejects {onnx} (opset 17): "
        "node 3 'conv1' (op Foo): UNSUPPORTED_NODE: no such op; [log] more (and 1 more)"
    )
    assert engine.read_bytes() == before


@needs_gcc
@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("abort", ("crashed while building", "signal 6 (SIGABRT)", "Assertion failed in the builder")),
        ("garbage", ("crashed while building", "[I] not an answer", "which is no answer")),
        ("sleep", ("took too long while building", "no answer within 1 s")),
        ("none", ("cannot build", "Could not find any implementation for node conv1")),
    ],
)
def test_builds_that_go_wrong(
    site: Path, onnx: Path, engine: Path, monkeypatch: pytest.MonkeyPatch, mode: str, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TENSORRT_STUB", mode)
    before = engine.read_bytes()
    with PythonRunner() as runner:
        with pytest.raises(BackendError) as caught:
            runner.build(onnx, engine, limit_s=1 if mode == "sleep" else 60)
        for word in words:
            assert word in str(caught.value)
        assert "\n" not in str(caught.value)
        assert engine.read_bytes() == before
        monkeypatch.delenv("TENSORRT_STUB")
        runner.close()
        runner.build(onnx, engine)  # another worker takes its place


@needs_gcc
@pytest.mark.parametrize(
    ("mode", "words"),
    [
        ("segfault", ("crashed while timing", "signal 11 (SIGSEGV)")),
        ("refuse", ("cannot run the engine",)),
        ("dynamic", ("has no fixed shape: [-1, 4]",)),
    ],
)
def test_runs_that_go_wrong(
    site: Path, cudart: Path, engine: Path, monkeypatch: pytest.MonkeyPatch, mode: str, words: tuple[str, ...]
) -> None:
    monkeypatch.setenv("TENSORRT_STUB", mode)
    with PythonRunner(cudart=cudart) as runner:
        with pytest.raises(BackendError) as caught:
            runner.time(engine, warm_up_ms=0)
        for word in words:
            assert word in str(caught.value)


@needs_gcc
@pytest.mark.parametrize("function", ["cudaMalloc", "cudaEventElapsedTime", "cudaGraphInstantiateWithFlags"])
def test_cudas_own_words(
    site: Path, cudart: Path, engine: Path, monkeypatch: pytest.MonkeyPatch, function: str
) -> None:
    monkeypatch.setenv("FAKE_CUDART_FAILS", function)
    with (
        PythonRunner(cudart=cudart) as runner,
        pytest.raises(BackendError, match=rf"{function}: out of memory \(CUDA error 2\)"),
    ):
        runner.time(engine, warm_up_ms=0, cuda_graph=True)


@needs_gcc
def test_an_engine_of_another_version(runner: PythonRunner, engine: Path, tmp_path: Path) -> None:
    engine.write_bytes(b"\x00\x01")
    with pytest.raises(BackendError, match=r"cannot load .*magicTag failed"):
        runner.time(engine)
    with pytest.raises(StorageError, match="no such file"):
        runner.time(tmp_path / "none.engine")


@needs_gcc
def test_a_killed_worker(runner: PythonRunner, engine: Path) -> None:
    pid = runner._process.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    for _ in range(2):  # noticed in a call or before it
        try:
            runner.time(engine, warm_up_ms=0, runs=1)
        except BackendError as error:
            assert "signal 9 (SIGKILL)" in str(error)  # noqa: PT017
    assert len(runner.time(engine, warm_up_ms=0, runs=1).samples_ms) == 1


@needs_gcc
def test_no_gpu(site: Path, cudart: Path, engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_CUDART_NO_GPU", "1")
    with PythonRunner(cudart=cudart) as runner:
        assert runner.missing_gpu == "the CUDA runtime finds no GPU"
        with pytest.raises(BackendError, match="finds no GPU"):
            runner.time(engine)


def test_a_module_that_is_missing_or_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "old", monkeypatch, "8.6.1", RUNS)
    with pytest.raises(BackendError, match=r"needs TensorRT 10 or newer, this is 8\.6\.1"):
        PythonRunner().open()
    install(tmp_path / "broken", monkeypatch, "10.0", "import no_such_library\n")
    with pytest.raises(BackendError, match=r"does not load: ModuleNotFoundError.*no_such_library"):
        PythonRunner().open()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4),
    max_leaves=8,
)
ANSWERS = st.fixed_dictionaries(
    {"protocol": st.just(python_worker.PROTOCOL)},
    optional={
        "samples_ms": JSON | st.lists(st.floats(0, 10), min_size=1, max_size=5),
        "host_ms": JSON | st.lists(st.floats(0, 10), min_size=1, max_size=5),
        "warm_up_runs": JSON | st.integers(0, 10),
        "messages": JSON | st.lists(st.text(max_size=5), max_size=2),
        "seconds": JSON | st.floats(0, 10),
        "engine_bytes": JSON | st.integers(0, 10),
    },
)


@given(answer=ANSWERS)
def test_an_answer_is_usable_or_refused(answer: dict[str, object]) -> None:
    runner = PythonRunner()
    runner._about = {"version": "10.3.0"}
    runner._process.call = lambda *arguments: answer  # type: ignore[method-assign]
    try:
        timing = runner.time(Path("x"), runs=4)
    except BackendError:
        pass
    else:
        assert 1 <= len(timing.samples_ms) == len(timing.host_ms) <= 4
        assert all(math.isfinite(value) and value >= 0 for value in timing.samples_ms + timing.host_ms)
    try:
        built = runner.build(Path("x"), Path("y"))
    except BackendError:
        pass
    else:
        assert built.seconds >= 0


def test_options_are_checked_here(site: Path, onnx: Path, engine: Path) -> None:
    with pytest.raises(InputError, match="'tensorflow'"):
        PythonRunner("tensorflow")
    runner = PythonRunner()
    with pytest.raises(InputError, match="precision 'int8'"):
        runner.build(onnx, engine, "int8")
    with pytest.raises(InputError, match="not 0"):
        runner.time(engine, runs=0)
    assert runner._process.pid is None


def test_the_library_is_named_where_it_does_not_load(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="no CUDA runtime: none of"):
        cuda.open_cuda(str(tmp_path / "libcudart.so.13"))
    (tmp_path / "libcudart.so.13").write_bytes(b"not a library")
    with pytest.raises(BackendError, match="does not load"):
        cuda.open_cuda(str(tmp_path / "libcudart.so.13"))


def test_every_function_is_in_the_real_cuda_runtime() -> None:
    """Whatever of it is installed, as the extra tensorrt-rtx does; its calls need a GPU."""
    checked = []
    for path in cuda.candidates():
        try:
            library = ctypes.CDLL(path)
        except OSError:
            continue
        checked.append(path)
        for name in (*cuda._SIGNATURES, "cudaGetErrorString"):
            assert hasattr(library, name), (path, name)
        version = ctypes.c_int()
        assert library.cudaRuntimeGetVersion(ctypes.byref(version)) == 0
        assert version.value >= 11000
    if not checked:
        pytest.skip("no CUDA runtime is installed (extra tensorrt-rtx)")


def test_every_call_exists_in_10_and_11(reference: Path) -> None:
    """Names that NVIDIA's bindings have, by version (names found with ``getattr`` may be absent)."""
    lines = (reference / "tensorrt" / "trt_python_api_by_version.txt").read_text().splitlines()
    versions = lines[1].split()[2:]
    rows = {line[:28].strip(): line[28:].split() for line in lines[2:] if line.strip()}
    used = {
        node.attr
        for module in (python_worker, tensorrt_api, tensorrt_engine)
        for node in ast.walk(ast.parse(Path(module.__file__).read_text()))
        if isinstance(node, ast.Attribute)
    } & set(rows)
    assert {"execute_async_v3", "set_tensor_address", "build_serialized_network"} <= used
    for name in used:
        marks = dict(zip(versions, rows[name], strict=True))
        assert all(mark == "x" for version, mark in marks.items() if int(version.split(".")[0]) >= 10), name
