"""TensorRT-RTX builds what dfmobile writes, every zoo network and every block, and says what is wrong with a file."""

from __future__ import annotations

import importlib.util
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dfmobile import registry
from dfmobile.architecture import PlacedBlock, build, zoo
from dfmobile.errors import BackendError, ExportError, FileFormatError, InputError
from dfmobile.export.onnx import onnx_bytes
from dfmobile.export.onnx_precision import float16_bytes
from dfmobile.export.tensorrt_rtx import RtxBuilder, build_rtx_engine
from dfmobile.graph.fold import fold_batch_norm
from dfmobile.latency.models import cheap_weights, timing_model
from dfmobile.latency.tensorrt.availability import availability
from dfmobile.latency.tensorrt.python_runner import PythonRunner
from dfmobile.testing.op_graphs import OP_CASES

onnx = pytest.importorskip("onnx", reason="the extra onnx is not installed")
INSTALLED = importlib.util.find_spec("tensorrt_rtx") is not None
SPACES = {
    "df": (224, 224),
    "df-bottleneck": (224, 224),
    "df-cifar": (32, 32),
    "df-mini": (32, 32),
    "df-seg": (2048, 1024),
    "shuffle": (224, 224),
    "shuffle-seg": (640, 384),
}
"""Inputs at which all blocks of a space are built."""
FEW = ("DF1", "PL1A-Seg")


@pytest.fixture(scope="module")
def rtx() -> Iterator[RtxBuilder]:
    """One worker for all builds."""
    if not INSTALLED:
        if os.environ.get("DFMOBILE_REQUIRE_RTX") == "1":
            pytest.fail("tensorrt_rtx is not installed, and DFMOBILE_REQUIRE_RTX=1", pytrace=False)
        pytest.skip("the extra tensorrt-rtx is not installed")
    with RtxBuilder() as builder:
        yield builder


def blocks(space: str, width: int, height: int) -> dict[str, PlacedBlock]:
    """Return the blocks of a space by key."""
    found = registry.load("dfmobile.spaces", space)()
    return {block.key: block for block in found.blocks(width, height)}


def one_of_each_kind() -> dict[str, PlacedBlock]:
    """Return the first block of each kind, at small inputs."""
    found = {}
    for space in SPACES:
        size = 32 if space == "df-mini" else 128
        for block in blocks(space, size, size).values():
            found.setdefault(block.kind, block)
    return found


def test_there_is_a_size_for_every_space() -> None:
    built_in = {name for name in registry.names("dfmobile.spaces") if name in SPACES or "example" not in name}
    assert built_in == set(SPACES)


@pytest.mark.parametrize("name", FEW)
def test_networks_build(rtx: RtxBuilder, name: str) -> None:
    graph = fold_batch_norm(build(zoo.get(name).architecture, 64, 64).graph)
    content = onnx_bytes(graph, cheap_weights(graph))
    assert len(rtx.build(content, name=name)) > 10_000
    assert len(rtx.build(float16_bytes(content), name=f"{name} float16")) > 10_000


@pytest.mark.parametrize("name", [name for name in OP_CASES if not name.endswith(", odd")])
def test_every_op_builds(rtx: RtxBuilder, name: str) -> None:
    graph = fold_batch_norm(OP_CASES[name])
    rtx.build(onnx_bytes(graph, cheap_weights(graph)), name=name)


def test_a_block_of_each_kind_builds(rtx: RtxBuilder) -> None:
    for name, block in one_of_each_kind().items():
        rtx.build(timing_model(block.graph, "onnx"), name=name)
        rtx.build(timing_model(block.graph, "onnx", "fp16"), name=f"{name} float16")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_zoo_network_builds_at_its_own_input(rtx: RtxBuilder) -> None:
    for name in zoo.names():
        entry = zoo.get(name)
        graph = fold_batch_norm(build(entry.architecture, entry.width, entry.height).graph)
        content = onnx_bytes(graph, cheap_weights(graph))
        rtx.build(content, name=name)
        rtx.build(float16_bytes(content), name=f"{name} float16")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("space", SPACES)
def test_every_block_of_every_space_builds(rtx: RtxBuilder, space: str) -> None:
    found = blocks(space, *SPACES[space])
    assert len(found) > 20
    for key, block in found.items():
        rtx.build(timing_model(block.graph, "onnx"), name=key[:200])


@pytest.mark.parametrize("opset", [13, 17, 21])
def test_opsets(rtx: RtxBuilder, opset: int) -> None:
    graph = fold_batch_norm(build(zoo.get("PL1A-Seg").architecture, 64, 64).graph)
    rtx.build(onnx_bytes(graph, cheap_weights(graph), opset=opset))


def broken(operator: str, weights: tuple[int, ...] = (), *, shape: tuple[int, ...] = (1, 3, 8, 8)) -> bytes:
    """Return a file of two nodes, the second one as asked for."""
    import numpy as np

    helper, proto = onnx.helper, onnx.TensorProto
    inputs = ["a", *(["w"] if weights else [])]
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="first"),
        helper.make_node(operator, inputs, ["y"], name="second"),
    ]
    values = [onnx.numpy_helper.from_array(np.zeros(weights, np.float32), "w")] if weights else []
    sides = [[helper.make_tensor_value_info(name, proto.FLOAT, shape)] for name in "xy"]
    graph = helper.make_graph(nodes, "broken", *sides, values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    return bytes(model.SerializeToString())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (lambda: broken("FooBar"), ("node 1 'second' (op FooBar)", "INVALID_NODE", "Plugin not found")),
        (lambda: broken("Conv", (4, 5, 3, 3)), ("node 1 'second' (op Conv)", "INVALID_NODE")),
        (lambda: broken("Add", (1, 7, 8, 8)), ("node 1 'second' (op Add)", "broadcast")),
        (lambda: broken("Unique"), ("node 1 'second' (op Unique)",)),
    ],
)
def test_a_broken_file_names_node_op_and_version(rtx: RtxBuilder, content: Any, words: tuple[str, ...]) -> None:
    with pytest.raises(ExportError) as caught:
        rtx.build(content(), name="broken.onnx")
    for word in (f"TensorRT-RTX {rtx.version()} rejects broken.onnx (opset 17): ", *words):
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_no_whole_onnx_file(rtx: RtxBuilder) -> None:
    content = timing_model(OP_CASES["conv 3x3, even"], "onnx")
    for damaged in (content[:100], content[:-1], b"", b"not a model", b"\x00" * 1000):
        with pytest.raises(FileFormatError, match=rf"TensorRT-RTX {rtx.version()} cannot read m\.onnx"):
            rtx.build(damaged, name="m.onnx")


def test_an_input_without_a_size_is_refused(rtx: RtxBuilder) -> None:
    with pytest.raises(BackendError, match=r"cannot build m: .*dynamic or shape inputs"):
        rtx.build(broken("Relu", shape=("N", 3, 8, 8)), name="m")  # type: ignore[arg-type]


def test_other_gpus(rtx: RtxBuilder) -> None:
    content = timing_model(OP_CASES["relu, even"], "onnx")
    assert rtx.build(content, gpu="SM89") != rtx.build(content, gpu="SM80")
    with pytest.raises(InputError, match="compute capability 'SM62'"):
        rtx.build(content, gpu="SM62")


def test_a_worker_that_is_killed_or_late_is_replaced(rtx: RtxBuilder) -> None:
    content = timing_model(OP_CASES["conv 3x3, even"], "onnx")
    with RtxBuilder() as builder:
        assert builder.version() == rtx.version()
        with pytest.raises(BackendError, match=r"took too long while building m: no answer within 0\.001 s"):
            builder.build(content, name="m", limit_s=0.001)
        builder.build(content)
        pid = builder._process.pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        try:
            builder.build(content)
        except BackendError as error:
            assert "SIGKILL" in str(error)  # noqa: PT017
        builder.build(content)


def test_engines_do_not_run_without_a_gpu(rtx: RtxBuilder, tmp_path: Path) -> None:
    if availability().gpus:
        pytest.skip("this machine has a GPU")
    engine = tmp_path / "m.engine"
    engine.write_bytes(rtx.build(timing_model(OP_CASES["relu, even"], "onnx")))
    with PythonRunner("tensorrt_rtx") as runner:
        assert runner.version == rtx.version()
        assert "CUDA" in runner.missing_gpu
        with pytest.raises(BackendError, match="CUDA"):
            runner.time(engine)


@pytest.mark.skipif(INSTALLED, reason="tensorrt-rtx is installed")
def test_without_the_extra_it_is_named() -> None:
    with pytest.raises(BackendError, match="tensorrt_rtx does not load") as caught:
        build_rtx_engine(b"")
    assert "dfmobile[tensorrt-rtx]" in caught.value.hint
