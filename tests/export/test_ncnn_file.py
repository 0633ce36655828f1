"""ncnn files: every op and network computes what the numpy reference does, in ncnn itself; both files or none."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings

from dfmobile.architecture import build, zoo
from dfmobile.errors import ExportError, InputError, StorageError
from dfmobile.export.exporter import export, model_bytes
from dfmobile.export.importers.ncnn import import_ncnn
from dfmobile.export.ncnn import ncnn_model
from dfmobile.export.verify import TOLERANCES, compare
from dfmobile.graph import Graph, GraphBuilder, Weights, initialise, ops, reference
from dfmobile.graph.fold import fold_weights
from dfmobile.runtimes.ncnn import NcnnRunner
from dfmobile.testing.op_graphs import NETWORK_CASES, OP_CASES, residual_block, small_networks, window_op_graphs

pytest.importorskip("ncnn")
FAST = ("DFlite", "PL1A-Seg")
ZOO = [pytest.param(name, marks=[] if name in FAST else pytest.mark.slow) for name in zoo.names()]


def of_one(graph: Graph) -> Graph:
    """Return a graph for a batch of one, which is all that ncnn takes."""
    return Graph([(name, (1, *shape[1:])) for name, shape in graph.inputs], graph.nodes, graph.outputs)


def assert_agrees(graph: Graph, weights: Weights | None = None) -> None:
    weights = initialise(graph) if weights is None else weights
    generator = np.random.default_rng(0)
    inputs = {name: generator.standard_normal(shape, np.float32) for name, shape in graph.inputs}
    expected = reference.run(graph, weights, inputs)
    with NcnnRunner(ncnn_model(graph, weights)) as runner:
        actual = runner.run(list(inputs.values()))
    for name, values in zip(graph.outputs, actual, strict=True):
        assert values.shape == graph.shapes[name]
        scale = max(1.0, float(np.abs(expected[name]).max()))
        np.testing.assert_allclose(values, expected[name], rtol=0, atol=2e-5 * scale)


@pytest.mark.parametrize("case", [case for case in OP_CASES if "argmax" not in case])
def test_each_op_alone(case: str) -> None:
    assert_agrees(of_one(OP_CASES[case]))


@pytest.mark.parametrize("case", NETWORK_CASES)
def test_small_networks(case: str) -> None:
    assert_agrees(of_one(NETWORK_CASES[case]()))


@settings(max_examples=60)
@given(graph=window_op_graphs())
def test_any_window(graph: Graph) -> None:
    assert_agrees(of_one(graph))


@settings(max_examples=30)
@given(graph=small_networks())
def test_any_small_network(graph: Graph) -> None:
    assume(not set(graph.outputs) & {name for name, _ in graph.inputs})
    assert_agrees(of_one(graph))


@pytest.mark.parametrize("name", ZOO)
def test_every_network_of_the_zoo(name: str) -> None:
    graph = build(zoo.get(name).architecture, 64, 64).graph
    weights = initialise(graph, 1)
    image = np.random.default_rng(2).standard_normal(graph.inputs[0][1], np.float32)
    (expected,) = reference.run(graph, weights, {"image": image}).values()
    for precision, threads in (("fp32", 1), ("fp16", 2)):
        with NcnnRunner(ncnn_model(graph, weights, half=precision == "fp16"), threads=threads) as runner:
            (actual,) = runner.run([image])
        result, tolerance = compare(actual, expected), TOLERANCES[precision]
        assert result.rms <= tolerance.rms, (precision, result)
        assert result.argmax_agreement >= tolerance.argmax, (precision, result)


@pytest.mark.parametrize("name", ZOO)
def test_what_is_exported_is_imported_exactly(name: str) -> None:
    entry = zoo.get(name)
    graph = build(entry.architecture, entry.width, entry.height).graph
    weights = initialise(graph, 1)
    model = ncnn_model(graph, weights)
    found = import_ncnn(entry.architecture, (64, 64), model.param.encode(), model.binary, ("p", "b"))
    assert found.unused == ()
    for key, values in fold_weights(graph, weights).items():
        np.testing.assert_array_equal(found.weights[key], values)


def test_a_relu_goes_into_the_layer_before_it_only_where_nothing_else_reads_that() -> None:
    model = ncnn_model(residual_block(), initialise(residual_block()))
    kinds = [line.split()[0] for line in model.param.splitlines()[2:]]
    assert kinds.count("ReLU") == 1  # the one behind the sum
    assert model.param.count(" 9=1") == 1


def test_half_the_size_with_float16() -> None:
    graph = residual_block()
    full, half = (ncnn_model(graph, initialise(graph), half=flag) for flag in (False, True))
    assert full.param == half.param
    assert len(half.binary) < 0.56 * len(full.binary)
    weights = {name: values * np.float32(1e6) for name, values in initialise(graph).items()}
    with pytest.raises(ExportError, match="too large for float16"):
        ncnn_model(graph, weights, half=True)


def test_an_argmax_is_left_to_the_program(tmp_path: Path) -> None:
    builder = GraphBuilder()
    scores = builder.conv(builder.input("x", (1, 3, 4, 5)), 6, 1, name="scores")
    graph = builder.build(builder.add_op(ops.ArgMax(), scores)[0])
    weights = initialise(graph)
    result = export(graph, weights, tmp_path / "m.param", format="ncnn")
    assert result.verification is not None
    assert "ArgMax" not in (tmp_path / "m.param").read_text()
    about = json.loads((tmp_path / "m.json").read_text())
    assert about["outputs"] == [{"name": "scores", "shape": [1, 6, 4, 5]}]
    assert "argmax" in about["scores"]
    both = builder.build(scores, graph.outputs[0])
    with pytest.raises(ExportError, match="an argmax and its scores"):
        ncnn_model(both, weights)
    with pytest.raises(ExportError, match="batch of 2"):
        ncnn_model(OP_CASES["relu, odd"], {})


def test_three_files_are_written_and_verified(tmp_path: Path) -> None:
    graph = residual_block()
    about = {"encoding": "e", "classes": '["a", "b"]', "size": "640"}
    result = export(graph, initialise(graph), tmp_path / "m.param", format="ncnn", metadata=about)
    assert [path.name for path in (result.path, *result.companions)] == ["m.param", "m.bin", "m.json"]
    assert result.size_bytes == sum(path.stat().st_size for path in tmp_path.iterdir())
    assert result.verification is not None
    assert result.verification.relative < 1e-5
    document = json.loads((tmp_path / "m.json").read_text())
    assert (document["encoding"], document["classes"], document["size"]) == ("e", ["a", "b"], "640")
    image = np.zeros(graph.inputs[0][1], np.float32)
    with NcnnRunner(tmp_path / "m.param") as runner:
        assert runner.run([image])[0].shape == graph.shapes[graph.outputs[0]]


def test_all_files_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = residual_block()
    weights = initialise(graph)
    (tmp_path / "m.param").write_text("older")
    (tmp_path / "m.bin").mkdir()
    with pytest.raises(StorageError, match=r"m\.bin: it is a folder"):
        export(graph, weights, tmp_path / "m.param", format="ncnn")
    (tmp_path / "m.bin").rmdir()
    wrong = {name: values + np.float32(1e-3) for name, values in weights.items()}
    monkeypatch.setattr("dfmobile.export.ncnn.ncnn_model", lambda graph, weights, **k: ncnn_model(graph, wrong, **k))
    with pytest.raises(ExportError, match="differs from the reference"):
        export(graph, weights, tmp_path / "m.param", format="ncnn")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {"m.param": "older"}


def test_other_names_and_uses_are_refused(tmp_path: Path) -> None:
    graph = residual_block()
    with pytest.raises(InputError, match=r"does not end in \.param"):
        export(graph, initialise(graph), tmp_path / "m.ncnn", format="ncnn")
    with pytest.raises(InputError, match="two files"):
        model_bytes(graph, initialise(graph), "ncnn")
