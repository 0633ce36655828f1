"""Weights of a network from ncnn's two files: layers are told by what they compute, since their names say nothing."""

from __future__ import annotations

from dfmobile.architecture import Architecture, build
from dfmobile.errors import FileFormatError, GraphError, InputError
from dfmobile.export.importers.base import (
    WRONG_FILE,
    FloatArray,
    ImportedWeights,
    UnusedBlob,
    check_complete,
    fixed_layers,
    some,
)
from dfmobile.export.importers.match import match
from dfmobile.export.importers.ncnn_bin import read_bin
from dfmobile.export.importers.ncnn_graph import NcnnGraph, input_size, ncnn_graph
from dfmobile.export.importers.ncnn_param import NcnnLayer, read_param
from dfmobile.graph import Weights, ops
from dfmobile.graph.fold import fold_batch_norm, fold_weights


def import_ncnn(
    architecture: Architecture, size: tuple[int, int], param: bytes, binary: bytes, names: tuple[str, str]
) -> ImportedWeights:
    """Read a network's weights from ncnn's files, deployed form.

    Args:
        architecture: whose weights they are.
        size: (width, height) to build it at where the param file names none.
        param: content of the param file, text or binary.
        binary: content of the bin file.
        names: of the two files, for messages.

    Raises:
        FileFormatError: if a file is damaged.
        InputError: if it is another network.
    """
    layers = read_param(param, names[0])
    tensors = read_bin(layers, binary, names[1])
    width, height = input_size(layers) or size
    try:
        network = build(architecture, width, height)
    except InputError as error:
        raise InputError(
            f"{names[0]} is for an input of {width}x{height}: {error}", error.hint or WRONG_FILE
        ) from error
    try:
        found = ncnn_graph(layers, tensors, network.input_shape)
        graph, folded = fold_batch_norm(found.graph), fold_weights(found.graph, found.weights)
    except GraphError as error:
        raise FileFormatError(f"{names[0]} is no network of an image: {error}", hint=WRONG_FILE) from error
    deployed = fold_batch_norm(network.graph)
    try:
        pairs = match(deployed, graph, names[0])
    except InputError as error:
        if found.left_out:
            layer, reason = next(iter(found.left_out.items()))
            unread = f"unread layers: {some(list(found.left_out))} ({layer}: {reason})"
            raise InputError(f"{error}; {unread}", error.hint) from error
        raise
    weights: Weights = {}
    for node in deployed.nodes:
        for role in node.op.parameters(deployed.input_shapes(node)):
            weights[f"{node.name}.{role}"] = folded[f"{pairs[node.name]}.{role}"]
    check_complete(deployed, weights, names[1])
    unused = _unused(layers, tensors, found, set(pairs.values()))
    return ImportedWeights(weights, "deployed", "ncnn", fixed_layers(deployed), unused, {"input": f"{width}x{height}"})


def _unused(
    layers: list[NcnnLayer], tensors: list[dict[str, FloatArray]], found: NcnnGraph, used: set[str]
) -> tuple[UnusedBlob, ...]:
    makers = {value: node for node in found.graph.nodes for value in node.outputs}
    norms = {node.name: node for node in found.graph.nodes if isinstance(node.op, ops.BatchNorm)}
    unused = []
    for layer, own in zip(layers, tensors, strict=True):
        count = sum(values.size for values in own.values())
        name = found.merged.get(layer.name, layer.name)
        if name in norms and norms[name].inputs[0] in makers:
            name = makers[norms[name].inputs[0]].name  # a folded batch norm belongs to its conv
        if count and name not in used and layer.name not in used:
            reason = found.left_out.get(layer.name, "the network's output does not depend on it")
            unused.append(UnusedBlob(layer.name, count, reason))
    return tuple(unused)
