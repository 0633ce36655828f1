"""Weights of a DF network from a .caffemodel of its authors: layers by name, batch norms by what they read."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from dfmobile.architecture import Architecture, build
from dfmobile.errors import InputError
from dfmobile.export.importers.base import (
    FloatArray,
    ImportedWeights,
    UnusedBlob,
    check_complete,
    damaged,
    is_bilinear,
    one_line,
    some,
)
from dfmobile.export.importers.caffe_file import CaffeLayer, is_caffemodel, read_caffemodel
from dfmobile.graph import Graph, Node, Weights, ops
from dfmobile.graph.fold import fold_batch_norm

__all__ = ["caffe_name", "import_caffe", "is_caffemodel"]

_WEIGHTED = ("Convolution", "InnerProduct", "Deconvolution")
_FAMILIES = ("df", "dfb")
# The authors' prototxt files: stage i is res{i-1}, fusion node i is Decoder{i}_{i}.
_NAMES = (
    (r"stem\.conv(\d+)", r"conv\1"),
    (r"stage(\d+)\.block(\d+)\.conv(\d+)", r"res{stage}.\2.conv\3"),
    (r"stage(\d+)\.block(\d+)\.projection", r"res{stage}.\2.skipConv"),
    (r"head\.fc", "fc"),
    (r"pyramid\.(pool\d+)\.conv", r"psp.\1.conv"),
    (r"pyramid\.fuse", "psp.concat.conv"),
    (r"controller(\d+)\.conv", r"Decoder_wc\1"),
    (r"fusion(\d+)\.projection", r"Decoder\1_\1.proj"),
    (r"fusion(\d+)\.upsample", r"Decoder\1_\1.proj/up2"),
    (r"fusion(\d+)\.fuse", r"Decoder\1_\1.conv1"),
    (r"score\.conv", "Decoder_score"),
    (r"score\.upsample", r"Decoder_score.up8"),
)


def caffe_name(name: str) -> str:
    """Return what the authors' Caffe files call a layer.

    Args:
        name: of a node with weights or a fixed kernel, e.g. ``stage3.block1.projection``.

    Raises:
        KeyError: if they have no such layer.
    """
    for pattern, replacement in _NAMES:
        found = re.fullmatch(pattern, name)
        if found:
            text = found.expand(replacement)
            return text.replace("{stage}", str(int(found[1]) - 1)) if "{stage}" in text else text
    raise KeyError(name)


@dataclass
class _Group:
    """A layer with weights and the batch norm and scale that follow it."""

    layer: CaffeLayer
    norm: CaffeLayer | None = None
    scale: CaffeLayer | None = None


def import_caffe(architecture: Architecture, size: tuple[int, int], data: bytes, path: str) -> ImportedWeights:
    """Read a DF network's weights from a .caffemodel: training form, or deployed form where its batch norms are merged.

    Args:
        architecture: whose weights they are, of family ``df`` or ``dfb``.
        size: (width, height) to build it at; weights do not depend on it.
        data: content of the file.
        path: for messages.

    Raises:
        FileFormatError: if the file is damaged.
        InputError: if it is of another network, or incomplete.
    """
    if architecture.family not in _FAMILIES:
        raise InputError(
            f"no Caffe names are known for networks of family {architecture.family!r}",
            hint="Caffe models are read of DF1, DF2, DF2A, DFlite and their segmentation networks",
        )
    network = build(architecture, *size)
    groups, others = _group(read_caffemodel(data, path), path)
    training = network.graph
    wanted = {
        node.name: caffe_name(node.name)
        for node in training.nodes
        if isinstance(node.op, (ops.Conv, ops.FullyConnected))
    }
    missing = [f"{theirs} (here {ours})" for ours, theirs in wanted.items() if theirs not in groups]
    if missing:
        raise InputError(
            f"{path} lacks {len(missing)} of {len(wanted)} layers: {some(missing)}",
            hint="is it the file of this network? partial weights are not imported",
        )
    normed = {node.inputs[0] for node in training.nodes if isinstance(node.op, ops.BatchNorm)}
    with_norm = [ours for ours in normed if groups[wanted[ours]].norm is not None]
    form = "training" if with_norm else "deployed"
    graph = training if with_norm else fold_batch_norm(training)
    weights: Weights = {}
    assumed = False
    for node in graph.nodes:
        if node.name in wanted:
            _layer_weights(node, graph, groups[wanted[node.name]], weights, path)
        elif isinstance(node.op, ops.BatchNorm):
            assumed |= _norm_weights(node, graph, groups[wanted[node.inputs[0]]], weights, path)
    check_complete(graph, weights, path)
    fixed = _check_fixed(graph, groups, path)
    used = {*wanted.values(), *(caffe_name(name) for name in fixed)}
    unused = [
        UnusedBlob(one_line(layer.name), values.size, "no layer of the network has this name")
        for layer in (*others, *[part for name, group in groups.items() if name not in used for part in _parts(group)])
        for values in layer.weights
    ]
    about = {"batch_norm_epsilon": "the network's own: files of V1 do not keep it"} if assumed else {}
    return ImportedWeights(weights, form, "caffe", fixed, tuple(unused), about)


def _parts(group: _Group) -> list[CaffeLayer]:
    return [part for part in (group.layer, group.norm, group.scale) if part is not None]


def _group(layers: list[CaffeLayer], path: str) -> tuple[dict[str, _Group], list[CaffeLayer]]:
    """Return layers with weights by name, each with its batch norm and scale, and what else has weights."""
    groups: dict[str, _Group] = {}
    others: list[CaffeLayer] = []
    made: dict[str, _Group] = {}  # whose result a blob still is, at this point of the file
    for layer in layers:
        source = made.get(layer.bottoms[0]) if layer.bottoms else None
        group = None
        if layer.type in _WEIGHTED and layer.weights:
            if layer.name in groups:
                raise damaged(path, f"layer {one_line(layer.name)} is there twice")
            group = groups[layer.name] = _Group(layer)
        elif layer.type == "BatchNorm" and source is not None and source.norm is None and source.scale is None:
            source.norm, group = layer, source
        elif layer.type == "Scale" and source is not None and source.norm is not None and source.scale is None:
            source.scale, group = layer, source
        elif layer.weights:
            others.append(layer)
        for top in layer.tops:
            if group is None:
                made.pop(top, None)
            else:
                made[top] = group
    return groups, others


def _fitted(values: FloatArray, shape: tuple[int, ...], what: str, path: str) -> FloatArray:
    """Return a blob in our shape; old files write leading ones (a bias as 1x1x1xC)."""

    def stripped(extents: tuple[int, ...]) -> tuple[int, ...]:
        while len(extents) > 1 and extents[0] == 1:
            extents = extents[1:]
        return extents

    if stripped(values.shape) != stripped(shape):
        raise InputError(
            f"{path}: {what} has shape {list(values.shape)}, not {list(shape)}", hint="is it the file of this network?"
        )
    return values.reshape(shape)


def _layer_weights(node: Node, graph: Graph, group: _Group, weights: Weights, path: str) -> None:
    layer, parameters = group.layer, node.op.parameters(graph.input_shapes(node))
    for position, (role, parameter) in enumerate(parameters.items()):
        if position >= len(layer.weights):
            raise InputError(
                f"{path}: layer {layer.name} has no {role}, and no batch norm follows it",
                hint="is it the file of this network? batch norms must be merged everywhere or nowhere",
            )
        weights[f"{node.name}.{role}"] = _fitted(
            layer.weights[position], parameter.shape, f"{role} of layer {layer.name}", path
        )


def _norm_weights(node: Node, graph: Graph, group: _Group, weights: Weights, path: str) -> bool:
    """Add a batch norm's weights; return whether its epsilon had to be taken from the network."""
    assert isinstance(node.op, ops.BatchNorm)  # noqa: S101  (narrows the type)
    name, norm, scale = group.layer.name, group.norm, group.scale
    if norm is None or scale is None or len(norm.weights) != 3 or len(scale.weights) != 2:
        raise InputError(
            f"{path}: layer {name} is not followed by a BatchNorm (mean, variance, factor) and a Scale with bias",
            hint="is it the file of this network? batch norms must be merged everywhere or nowhere",
        )
    channels = graph.input_shapes(node)[0][1:2]
    what = f"of the batch norm of layer {name}"
    gamma = _fitted(scale.weights[0], channels, f"scale {what}", path).astype(np.float64)
    beta = _fitted(scale.weights[1], channels, f"shift {what}", path)
    # Sums over the training; the third blob says by what to divide (0: nothing was summed).
    factor = float(_fitted(norm.weights[2], (1,), f"factor {what}", path)[0])
    divisor = 1.0 / factor if factor else 0.0
    mean = _fitted(norm.weights[0], channels, f"mean {what}", path).astype(np.float64) * divisor
    variance = _fitted(norm.weights[1], channels, f"variance {what}", path).astype(np.float64) * divisor
    epsilon = node.op.epsilon if norm.epsilon is None else norm.epsilon
    if not (epsilon >= 0.0 and (variance + epsilon > 0.0).all()):
        raise damaged(path, f"the variances {what} are not above 0")
    if not np.isclose(epsilon, node.op.epsilon, rtol=1e-6, atol=0.0):
        gamma *= np.sqrt((variance + node.op.epsilon) / (variance + epsilon))
    if len(group.layer.weights) > 1:  # a bias before a batch norm only moves its mean
        mean -= _fitted(group.layer.weights[1], channels, f"bias of layer {name}", path)
    for role, values in (("scale", gamma), ("shift", beta), ("mean", mean), ("variance", variance)):
        weights[f"{node.name}.{role}"] = values.astype(np.float32)
    return norm.epsilon is None


def _check_fixed(graph: Graph, groups: dict[str, _Group], path: str) -> tuple[str, ...]:
    """Check the kernels of fixed transposed convs; return the names of those layers here."""
    found = []
    for node in graph.nodes:
        if not isinstance(node.op, ops.BilinearUpsample):
            continue
        theirs = caffe_name(node.name)
        group = groups.get(theirs)
        if group is None:
            continue  # files may leave out what no training changes
        scale, channels = node.op.scale, graph.input_shapes(node)[0][1]
        shape = (channels, 1, 2 * scale, 2 * scale)
        kernel = _fitted(group.layer.weights[0], shape, f"kernel of layer {theirs}", path)
        if len(group.layer.weights) != 1 or not is_bilinear(kernel, scale):
            raise InputError(
                f"{path}: layer {theirs} has not the fixed bilinear kernel that {node.name} stands for",
                hint="networks whose upsampling was trained cannot be imported",
            )
        found.append(node.name)
    return tuple(found)
