"""Every layer of the published networks against the graphs that dfmobile builds.

The reference tables name, wire and size each layer; a network here must have the same layers, wired the same way,
with the same shapes, parameters and multiply-accumulates: none missing and none more.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dfmobile.architecture import build, zoo
from dfmobile.graph import Graph, Node, ops
from dfmobile.graph.cost import node_macs
from dfmobile.graph.fold import fold_batch_norm

DF_TABLES = ("DF1", "DF2", "DF2A", "DF1-Seg", "DF1-Seg-d8", "DF2-Seg1", "DF2-Seg2", "DFlite-Seg", "DFlite-Seg-d8")


@dataclass
class Layer:
    """A node with what follows it in place: batch norm and ReLU."""

    node: Node
    output: str
    params: int
    batch_norm: float | None = None
    relu: bool = False


def trainable(graph: Graph, node: Node) -> int:
    return sum(item.size for item in node.op.parameters(graph.input_shapes(node)).values() if item.trainable)


def layers_of(graph: Graph) -> tuple[dict[str, Layer], dict[str, str]]:
    """Return the layers by name, and for each value the name of the layer that makes it."""
    layers: dict[str, Layer] = {}
    made_by = {name: name for name, _ in graph.inputs}
    for node in graph.nodes:
        if isinstance(node.op, ops.BatchNorm | ops.Relu):
            layer = layers[made_by[node.inputs[0]]]
            assert not layer.relu, f"{node.name} follows a ReLU"
            layer.params += trainable(graph, node)
            layer.output = node.outputs[0]
            if isinstance(node.op, ops.BatchNorm):
                layer.batch_norm = node.op.epsilon
            else:
                layer.relu = True
            made_by[node.outputs[0]] = layer.node.name
        else:
            layers[node.name] = Layer(node, node.outputs[0], trainable(graph, node))
            made_by.update(dict.fromkeys(node.outputs, node.name))
    return layers, made_by


def our_name(name: str) -> str:
    """Translate a layer's name in the reference tables."""
    fixed = {
        "data": "image",
        "conv1": "stem.conv1",
        "conv2": "stem.conv2",
        "psp.concat.conv": "pyramid.fuse",
        "psp.concat": "pyramid.concat",
        "Decoder_score": "score.conv",
        "Decoder_score.up8": "score.upsample",
        "pool5": "head.pool",
        "fc": "head.fc",
    }
    if name in fixed:
        return fixed[name]
    parts = {"skipConv": "projection", "sum": "add", "proj": "projection", "proj/up2": "upsample", "interp": "resize"}
    if match := re.fullmatch(r"res(\d)\.(\d+)\.(\w+)", name):
        return f"stage{int(match[1]) + 1}.block{match[2]}.{parts.get(match[3], match[3])}"
    if match := re.fullmatch(r"psp\.(pool\d)(?:\.(\w+))?", name):
        return f"pyramid.{match[1]}" + (f".{parts.get(match[2], match[2])}" if match[2] else "")
    if match := re.fullmatch(r"Decoder_wc(\d)", name):
        return f"controller{match[1]}.conv"
    if match := re.fullmatch(r"Decoder(\d)_\1\.(.+)", name):
        part = {"conv1": "fuse", "concat": "concat"}.get(match[2]) or parts[match[2]]
        return f"fusion{match[1]}.{part}"
    raise AssertionError(f"no rule for layer {name!r}")


def assert_same_op(row: dict[str, Any], op: ops.Op) -> None:
    kind = row["op"]
    if kind == "conv":
        assert isinstance(op, ops.Conv)
        kernel, stride, padding = (row[name] for name in ("kernel", "stride", "pad"))
        assert (op.kernel, op.stride, op.padding) == ((kernel, kernel), (stride, stride), (padding, padding))
        assert (row["dilation"], row["groups"], row["out_channels"]) == (1, 1, op.out_channels)
        assert op.bias == row["bias"]
    elif kind == "deconv":
        assert isinstance(op, ops.BilinearUpsample)
        assert (row["kernel"], row["stride"]) == (2 * op.scale, op.scale)
        assert row["groups"] == row["out_channels"]
    elif kind == "avgpool" and isinstance(op, ops.AveragePool):
        assert op.kernel == op.stride == (row["kernel"], row["kernel"])
        assert row["stride"] == row["kernel"]
    elif kind == "interp":
        assert isinstance(op, ops.ResizeBilinear)
        assert op.align_corners
    else:
        assert {"avgpool": "global_average_pool", "fc": "fully_connected"}.get(kind, kind) == op.kind


@pytest.mark.parametrize("name", DF_TABLES)
def test_every_layer_of_the_df_networks(reference: Path, name: str) -> None:
    table = json.loads((reference / "df" / f"{name}.json").read_text())
    _, _, height, width = table["input_shape"]
    entry = zoo.get(name)
    assert (entry.width, entry.height) == (width, height)
    graph = build(entry.architecture, width, height).graph
    if not any(row.get("bn") for row in table["layers"]):
        graph = fold_batch_norm(graph)  # published with batch norm merged into the convs
    layers, made_by = layers_of(graph)

    walked = set()
    for row in table["layers"]:
        if row["op"] in ("softmax", "argmax"):  # after the scores; not part of a network here
            assert row["out_shape"][1:] == list(graph.shapes[graph.outputs[0]][2:])
            continue
        layer = layers[our_name(row["name"])]
        walked.add(layer.node.name)
        assert [made_by[value] for value in layer.node.inputs] == [our_name(item) for item in row["inputs"]], row
        assert [list(shape[1:]) for shape in graph.input_shapes(layer.node)] == row["in_shape"], row
        shape = graph.shapes[layer.output]
        assert list(shape[1:]) == row["out_shape"][: len(shape) - 1], row
        assert node_macs(graph, layer.node) == (row.get("macs") or 0), row
        assert layer.params == (row.get("params") or 0), row
        assert layer.relu == bool(row.get("relu")), row
        assert layer.batch_norm == (row["bn"]["eps"] if row.get("bn") else None), row
        assert_same_op(row, layer.node.op)
    assert walked == set(layers)
    assert len(walked) == sum(row["op"] not in ("softmax", "argmax") for row in table["layers"])


def same_op_as_ncnn(row: dict[str, Any], op: ops.Op) -> bool:
    """Return whether an op is what a layer of the ncnn file says."""
    given = row["params"]
    kind = row["type"]
    if isinstance(op, ops.Conv | ops.DepthwiseConv):
        if kind != ("Convolution" if isinstance(op, ops.Conv) else "ConvolutionDepthWise"):
            return False
        channels = op.out_channels if isinstance(op, ops.Conv) else given["groups"]
        wanted = (channels, (given["kernel"],) * 2, (given["stride"],) * 2, (given["pad"],) * 2, True)
        return (given["num_output"], op.kernel, op.stride, op.padding, op.bias) == wanted and given["bias"] == 1
    if isinstance(op, ops.BilinearUpsample):
        wanted_deconv = (2 * op.scale, op.scale, op.scale // 2, 0)
        found = tuple(given.get(name) for name in ("kernel", "stride", "pad", "bias"))
        return kind == "DeconvolutionDepthWise" and found == wanted_deconv
    if isinstance(op, ops.AveragePool):
        return kind == "Pooling" and op.kernel == op.stride == (given["kernel_h"], given["kernel_w"])
    if isinstance(op, ops.ResizeBilinear):
        size = (given.get("output_height"), given.get("output_width"))
        return kind == "Interp" and op.size == size and not op.align_corners
    kinds = {"ReLU": ops.Relu, "Concat": ops.Concat, "ShuffleChannel": ops.ChannelShuffle, "Slice": ops.Split}
    return kind in kinds and isinstance(op, kinds[kind])


def test_every_layer_of_pl1a_seg(reference: Path) -> None:
    """Blob by blob: a layer of the deployed file is the first unused node that reads the same values."""
    table = json.loads((reference / "pl1a" / "pl1a_seg_layers.json").read_text())
    entry = zoo.get("PL1A-Seg")
    graph = fold_batch_norm(build(entry.architecture, entry.width, entry.height).graph)
    unused = list(graph.nodes)
    blobs: dict[int, str] = {}
    for row in table["layers"]:
        if not row["used_for_blob_219"] or row["type"] in ("Softmax", "ArgMax"):
            continue
        if row["type"] == "Input":
            blobs[row["tops"][0]] = "image"
            continue
        inputs = tuple(blobs[blob] for blob in row["bottoms"])
        if row["type"] == "Split":  # ncnn's copy of a value that several layers read
            blobs.update(dict.fromkeys(row["tops"], inputs[0]))
            continue
        node = next((node for node in unused if node.inputs == inputs and same_op_as_ncnn(row, node.op)), None)
        assert node is not None, row
        unused.remove(node)
        assert [list(shape) for shape in graph.input_shapes(node)] == row["in_shapes"], row
        assert [list(shape) for shape in graph.output_shapes(node)] == row["out_shapes"], row
        assert node_macs(graph, node) == row["macs"], row
        fixed = isinstance(node.op, ops.BilinearUpsample)  # stored in the file, but no parameter
        assert trainable(graph, node) == (0 if fixed else row["n_params"]), row
        blobs.update(zip(row["tops"], node.outputs, strict=True))
    assert unused == []
    assert graph.outputs == (blobs[217],)  # 218 is a softmax, 219 the argmax
