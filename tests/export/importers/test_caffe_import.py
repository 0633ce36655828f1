"""Caffe models: V1 and V2, batch norms merged or not, give what the network they were written from computes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from export.importers.caffe_files import TrainedLayer, caffemodel, layer, nested, trained_layers

from dfmobile.architecture import Architecture, build, zoo
from dfmobile.errors import FileFormatError, InputError
from dfmobile.export.importers.caffe import caffe_name, import_caffe
from dfmobile.graph import initialise, ops, reference
from dfmobile.graph.fold import fold_batch_norm

NETWORK = build(Architecture.parse("df/8/8,16/16+seg:19,8,16"), 64, 64)
WEIGHTS = initialise(NETWORK.graph, 3)
LAYERS = trained_layers(NETWORK.graph, WEIGHTS)
IMAGE = np.random.default_rng(0).standard_normal(NETWORK.input_shape, np.float32)
EXPECTED = next(iter(reference.run(NETWORK.graph, WEIGHTS, {"image": IMAGE}).values()))


def imported(data: bytes) -> Any:
    return import_caffe(NETWORK.architecture, (64, 64), data, "net.caffemodel")


def scores(found: Any) -> np.ndarray:
    graph = NETWORK.graph if found.form == "training" else fold_batch_norm(NETWORK.graph)
    return next(iter(reference.run(graph, found.weights, {"image": IMAGE}).values()))


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("merged", [False, True])
@pytest.mark.parametrize("version", [1, 2])
def test_what_was_written_is_computed(version: int, merged: bool, double: bool) -> None:
    found = imported(caffemodel(LAYERS, version=version, merged=merged, double=double))
    assert found.form == ("deployed" if merged else "training")
    assert not found.unused
    assert set(found.fixed) == {"fusion4.upsample", "fusion3.upsample", "score.upsample"}
    assert ("batch_norm_epsilon" in found.metadata) == (version == 1 and not merged)
    np.testing.assert_allclose(scores(found), EXPECTED, atol=1e-4)


@pytest.mark.parametrize("factor", [1.0, 0.5, 3e4])
def test_the_factor_of_the_statistics_is_divided_out(factor: float) -> None:
    np.testing.assert_allclose(scores(imported(caffemodel(LAYERS, factor=factor))), EXPECTED, atol=1e-4)


def test_another_epsilon_is_kept_in_what_is_computed() -> None:
    # The merged file has it inside; the unmerged one must come to the same.
    merged = scores(imported(caffemodel(LAYERS, epsilon=0.3, merged=True)))
    assert np.abs(merged - EXPECTED).max() > 1e-2
    np.testing.assert_allclose(scores(imported(caffemodel(LAYERS, epsilon=0.3))), merged, atol=1e-4)


def test_a_bias_before_a_batch_norm_moves_its_mean() -> None:
    bias = np.full(LAYERS[0].weight.shape[0], 0.25, np.float32)
    assert LAYERS[0].norm is not None
    scale, shift, mean, variance = LAYERS[0].norm
    moved = dataclasses.replace(LAYERS[0], bias=bias, norm=(scale, shift, mean + bias, variance))
    np.testing.assert_allclose(scores(imported(caffemodel([moved, *LAYERS[1:]]))), EXPECTED, atol=1e-4)


def test_other_layers_are_reported_as_unused() -> None:
    extra = TrainedLayer("loss2.fc", "InnerProduct", np.zeros((5, 4), np.float32), np.zeros(5, np.float32))
    found = imported(caffemodel([*LAYERS, extra]))
    assert [(item.name, item.elements) for item in found.unused] == [("loss2.fc", 20), ("loss2.fc", 5)]


def test_fixed_kernels_may_be_left_out_but_not_be_others() -> None:
    without = [item for item in LAYERS if item.type != "Deconvolution"]
    assert imported(caffemodel(without)).fixed == ()
    trained = [
        dataclasses.replace(item, weight=item.weight * 1.001) if item.name == "Decoder_score.up8" else item
        for item in LAYERS
    ]
    with pytest.raises(InputError, match=r"not the fixed bilinear kernel that score.upsample"):
        imported(caffemodel(trained))


def test_what_is_missing_is_named() -> None:
    with pytest.raises(InputError, match=r"lacks 2 of \d+ layers: conv1 \(here stem.conv1\), conv2"):
        imported(caffemodel(LAYERS[2:]))
    half_merged = caffemodel(LAYERS[:4]) + caffemodel(LAYERS[4:], merged=True)
    with pytest.raises(InputError, match="not followed by a BatchNorm"):
        imported(half_merged)
    with pytest.raises(InputError, match=r"weight of layer conv1 has shape \[32, 3, 5, 5\]"):
        imported(caffemodel([dataclasses.replace(LAYERS[0], weight=np.zeros((32, 3, 5, 5))), *LAYERS[1:]]))
    with pytest.raises(InputError, match="no bias, and no batch norm follows it"):
        imported(caffemodel([dataclasses.replace(item, norm=None) for item in LAYERS]))


def test_damage_is_told() -> None:
    with pytest.raises(FileFormatError, match="there twice"):
        imported(caffemodel([LAYERS[0], *LAYERS]))
    with pytest.raises(FileFormatError, match="two versions"):
        imported(caffemodel(LAYERS) + caffemodel(LAYERS, version=1))
    with pytest.raises(FileFormatError, match=r"\(V0\)"):
        imported(nested(2, nested(1, nested(1, "conv1"))))
    bad = dataclasses.replace(LAYERS[0], weight=LAYERS[0].weight * np.float32(np.inf))
    with pytest.raises(FileFormatError, match="not finite"), np.errstate(invalid="ignore"):
        imported(caffemodel([bad, *LAYERS[1:]]))
    assert LAYERS[0].norm is not None
    scale, shift, mean, variance = LAYERS[0].norm
    negative = dataclasses.replace(LAYERS[0], norm=(scale, shift, mean, -variance))
    with pytest.raises(FileFormatError, match=r"variances .* not above 0"):
        imported(caffemodel([negative, *LAYERS[1:]]))


def test_blobs_that_go_round_end() -> None:
    # Each reads what the other writes: an order of the file, not of the blobs, is what counts.
    ring = [layer(2, name, "Scale", [a], [b]) for name, a, b in (("p", "x", "y"), ("q", "y", "x"))] * 50
    assert imported(b"".join(ring) + caffemodel(LAYERS)).form == "training"


def test_networks_without_caffe_names_are_refused() -> None:
    with pytest.raises(InputError, match="no Caffe names"):
        import_caffe(zoo.get("PL1A-Seg").architecture, (640, 384), caffemodel(LAYERS), "x")


@pytest.mark.parametrize("name", ["DF1", "DF2", "DF2A", "DF1-Seg", "DF2-Seg1", "DF2-Seg2", "DFlite-Seg"])
def test_names_are_those_of_the_published_networks(reference: Path, name: str) -> None:
    entry = zoo.get(name)
    graph = build(entry.architecture, entry.width, entry.height).graph
    kinds = (ops.Conv, ops.FullyConnected, ops.BilinearUpsample)
    ours = {
        caffe_name(node.name): graph.shapes[node.outputs[0]][1:] for node in graph.nodes if isinstance(node.op, kinds)
    }
    document = json.loads((reference / "df" / f"{name}.json").read_text())
    theirs = {
        item["name"]: tuple(item["out_shape"]) for item in document["layers"] if item["op"] in ("conv", "fc", "deconv")
    }
    assert {name: shape[:1] for name, shape in ours.items()} == {name: shape[:1] for name, shape in theirs.items()}


def random_layers(document: dict[str, Any]) -> list[TrainedLayer]:
    """Return DF1-Seg's layers as the reference lists them, with random weights and statistics."""
    generator = np.random.default_rng(7)
    found = []
    for item in document["layers"]:
        if item["op"] == "conv":
            shape = (item["out_channels"], item["in_channels"], item["kernel"], item["kernel"])
            weight = generator.normal(0, np.sqrt(2 / np.prod(shape[1:])), shape).astype(np.float32)
            scale, variance = (generator.uniform(low, 1.2, shape[0]).astype(np.float32) for low in (0.2, 0.7))
            shift, mean = (generator.normal(0, 0.2, shape[0]).astype(np.float32) for _ in range(2))
            found.append(TrainedLayer(item["name"], "Convolution", weight, norm=(scale, shift, mean, variance)))
        elif item["op"] == "deconv":
            line = 1 - np.abs(np.arange(item["kernel"]) / item["stride"] - (item["kernel"] - 1) / item["kernel"])
            kernel = np.broadcast_to(np.outer(line, line), (item["groups"], 1, item["kernel"], item["kernel"]))
            found.append(TrainedLayer(item["name"], "Deconvolution", kernel.astype(np.float32)))
    return found


def by_torch(document: dict[str, Any], layers: list[TrainedLayer], image: np.ndarray) -> np.ndarray:
    """Run the reference's list of layers in torch, at a smaller input than it is for: independent of our graphs."""
    torch = pytest.importorskip("torch")
    functional: Any = torch.nn.functional
    shrink = document["input_shape"][2] // image.shape[2]
    known = {item.name: item for item in layers}
    values = {"data": torch.from_numpy(image)}
    for item in document["layers"]:
        inputs = [values[name] for name in item["inputs"]]
        if item["op"] in ("conv", "deconv"):
            own = known[item["name"]]
            weight = torch.from_numpy(np.array(own.weight))
            if item["op"] == "deconv":
                value = functional.conv_transpose2d(
                    inputs[0], weight, stride=item["stride"], padding=item["pad"], groups=item["groups"]
                )
            else:
                value = functional.conv2d(inputs[0], weight, stride=item["stride"], padding=item["pad"])
                assert own.norm is not None
                scale, shift, mean, variance = (torch.from_numpy(array) for array in own.norm)
                value = functional.batch_norm(value, mean, variance, scale, shift, eps=item["bn"]["eps"])
        elif item["op"] == "add":
            value = inputs[0] + inputs[1]
        elif item["op"] == "avgpool":
            value = functional.avg_pool2d(inputs[0], item["kernel"] // shrink)
        elif item["op"] == "interp":
            size = [extent // shrink for extent in item["size"]]
            value = functional.interpolate(inputs[0], size, mode="bilinear", align_corners=True)
        elif item["op"] == "concat":
            value = torch.cat(inputs, 1)
        else:
            break  # softmax and argmax
        values[item["name"]] = functional.relu(value) if item.get("relu") else value
    result: np.ndarray = values["Decoder_score.up8"].numpy()
    return result


@pytest.mark.parametrize(("version", "merged"), [(1, False), (1, True), (2, False), (2, True)])
def test_df1_seg_equals_torch(reference: Path, version: int, merged: bool) -> None:
    torch = pytest.importorskip("torch")
    from dfmobile.export.torch_module import torch_module

    torch.set_num_threads(1)
    document = json.loads((reference / "df" / "DF1-Seg.json").read_text())
    layers = random_layers(document)
    network = build(zoo.get("DF1-Seg").architecture, 512, 256)
    image = np.random.default_rng(1).standard_normal(network.input_shape, np.float32)
    data = caffemodel(layers, version=version, merged=merged)
    found = import_caffe(network.architecture, (512, 256), data, "df1seg.caffemodel")
    assert found.form == ("deployed" if merged else "training")
    assert not found.unused
    graph = fold_batch_norm(network.graph) if merged else network.graph
    with torch.no_grad():
        expected = by_torch(document, layers, image)
        actual = torch_module(graph, found.weights).eval()(torch.from_numpy(image)).numpy()
    assert expected.std() > 0.1
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-4)
