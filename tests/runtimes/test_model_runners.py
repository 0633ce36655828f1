"""LiteRT and ONNX Runtime runners: one contract, damaged files, what is accelerated."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfmobile.errors import BackendError, StorageError
from dfmobile.export.onnx import onnx_bytes
from dfmobile.export.tflite import tflite_bytes
from dfmobile.graph import GraphBuilder, initialise, ops, reference
from dfmobile.runtimes import ModelRunner, litert, onnxruntime
from dfmobile.testing.op_graphs import residual_block

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

GRAPH = residual_block()
WEIGHTS = initialise(GRAPH)
SHAPE = GRAPH.inputs[0][1]
RUNNERS: dict[str, tuple[Callable[..., ModelRunner], bytes]] = {
    "litert": (litert.LiteRTRunner, tflite_bytes(GRAPH, WEIGHTS)),
    "onnxruntime": (onnxruntime.OnnxRuntimeRunner, onnx_bytes(GRAPH, WEIGHTS)),
}
runtimes = pytest.mark.parametrize("runtime", RUNNERS)


def image(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(SHAPE, np.float32)


@runtimes
def test_runs_from_bytes_and_from_a_path(runtime: str, tmp_path: Path) -> None:
    make, data = RUNNERS[runtime]
    (tmp_path / "model").write_bytes(data)
    expected = reference.run(GRAPH, WEIGHTS, {"x": image()})[GRAPH.outputs[0]]
    for model in (data, tmp_path / "model"):
        with make(model, threads=2) as runner:
            np.testing.assert_allclose(runner.run([image()])[0], expected, atol=1e-4)


@runtimes
def test_invoke_uses_the_inputs_set_last(runtime: str) -> None:
    make, data = RUNNERS[runtime]
    with make(data) as runner:
        values = image(1)
        runner.set_inputs([values])
        values[...] = np.nan  # the runner has its own copy
        runner.invoke()
        first = runner.outputs()[0]
        runner.invoke()
        np.testing.assert_array_equal(runner.outputs()[0], first)
        assert np.isfinite(first).all()
        kept = first.copy()
        runner.run([image(2)])
        np.testing.assert_array_equal(first, kept)  # outputs are copies too


def test_input_shapes_are_those_of_the_file() -> None:
    n, c, h, w = SHAPE
    assert RUNNERS["litert"][0](RUNNERS["litert"][1]).input_shapes == [(n, h, w, c)]
    assert RUNNERS["onnxruntime"][0](RUNNERS["onnxruntime"][1]).input_shapes == [SHAPE]


@runtimes
@pytest.mark.parametrize(
    "inputs", [[], [image(), image()], [image()[:, :-1]], [image().astype(np.float64)]], ids=["0", "2", "C", "f64"]
)
def test_inputs_that_do_not_fit_are_refused(runtime: str, inputs: list[np.ndarray]) -> None:
    make, data = RUNNERS[runtime]
    with make(data) as runner, pytest.raises(BackendError, match="takes"):
        runner.run(inputs)


@runtimes
def test_a_closed_runner_says_so(runtime: str) -> None:
    make, data = RUNNERS[runtime]
    runner = make(data)
    runner.close()
    runner.close()
    for use in (runner.invoke, runner.outputs, lambda: runner.set_inputs([image()])):
        with pytest.raises(BackendError, match="closed"):
            use()


@runtimes
def test_missing_and_empty_files(runtime: str, tmp_path: Path) -> None:
    make, _ = RUNNERS[runtime]
    with pytest.raises(StorageError, match="no such file"):
        make(tmp_path / "absent")
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(BackendError, match="empty is empty"):
        make(tmp_path / "empty")


@runtimes
def test_a_file_of_another_kind_is_refused(runtime: str, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(b"Hello, world! " * 100)
    with pytest.raises(BackendError, match="cannot load") as caught:
        RUNNERS[runtime][0](tmp_path / "text")
    assert "\n" not in str(caught.value)
    assert "export it again" in caught.value.hint


@runtimes
def test_truncated_files_are_refused(runtime: str) -> None:
    make, data = RUNNERS[runtime]

    @settings(deadline=None, max_examples=40)
    @given(keep=st.floats(0.0, 0.999))
    def check(keep: float) -> None:
        with pytest.raises(BackendError):
            make(data[: int(keep * len(data))])

    check()


def test_a_model_with_an_unreadable_name_is_refused() -> None:
    builder = GraphBuilder()
    data = tflite_bytes(builder.build(builder.relu(builder.input("picture", SHAPE))), {})
    with pytest.raises(BackendError, match="cannot load"):
        litert.LiteRTRunner(data.replace(b"picture", b"pict\xff\xfe!"))


def test_what_xnnpack_did_not_take_is_named() -> None:
    builder = GraphBuilder()
    x = builder.input("x", (1, 3, 8, 8))
    scores = builder.conv(x, 5, 1)
    graph = builder.build(builder.add_op(ops.ArgMax(), scores)[0])
    with litert.LiteRTRunner(tflite_bytes(graph, initialise(graph))) as runner:
        assert "ARG_MAX" in runner.unaccelerated_ops()
        assert "CONV_2D" not in runner.unaccelerated_ops()
        assert 0.0 < runner.delegated_fraction() < 1.0
        assert not runner.fully_accelerated()
        assert runner.outputs()[0].dtype == np.int32


def test_library_and_version_are_known() -> None:
    assert litert.library_path().is_file()
    assert litert.runtime_version()[0].isdigit()
    assert onnxruntime.runtime_version()[0].isdigit()


def test_litert_prints_nothing_and_keeps_what_others_print(tmp_path: Path) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(RUNNERS["litert"][1])
    program = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from dfmobile.errors import BackendError\n"
        "from dfmobile.runtimes.litert import LiteRTRunner\n"
        "os.write(2, b'before\\n')\n"
        "try:\n"
        "    LiteRTRunner(b'not a model')\n"
        "except BackendError:\n"
        "    os.write(2, b'refused\\n')\n"
        "LiteRTRunner(Path(sys.argv[1])).close()\n"
        "os.write(2, b'after\\n')\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True)
    assert done.stderr == "before\nrefused\nafter\n"
    assert done.stdout == ""
