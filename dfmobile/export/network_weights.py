"""The weights of a network from a file, in whichever form they were kept: with batch norms, or folded."""

from __future__ import annotations

import os

from dfmobile.architecture import Network
from dfmobile.errors import GraphError, InputError
from dfmobile.export.weights import load_weights_file
from dfmobile.graph import Graph, Weights
from dfmobile.graph.fold import fold_batch_norm


def network_form(network: Network, weights: Weights) -> tuple[str, Graph]:
    """Return which form of a network weights are meant for, ``"training"`` or ``"deployed"``, and its graph.

    Args:
        network: whose weights they are.
        weights: by ``<node>.<role>``; whether they fit is not checked.
    """
    training, deployed = network.graph, fold_batch_norm(network.graph)
    # The deployed form is told by what only it lacks; an error is then about the form that was meant.
    norms = set(training.parameters()) - set(deployed.parameters())
    return ("training", training) if norms & set(weights) or not norms else ("deployed", deployed)


def network_weights(network: Network, path: str | os.PathLike[str]) -> tuple[Graph, Weights, dict[str, str]]:
    """Read a weights file for a network.

    Args:
        network: whose weights they are.
        path: a file of ``save_weights``: trained here, or imported.

    Returns:
        The graph that the weights belong to (the training form, or the deployed one where batch norms were folded
        before the file was written), the weights, and the file's metadata.

    Raises:
        StorageError: if the file cannot be read.
        FileFormatError: if it is damaged.
        InputError: if it has the weights of another network.
    """
    weights, metadata = load_weights_file(path)
    _, graph = network_form(network, weights)
    try:
        graph.check_weights(weights)
    except GraphError as error:
        raise InputError(
            f"{os.fspath(path)} does not fit {network.architecture.text}: {error}",
            hint="are they of another network?"
            + (f" the file says {metadata['encoding']!r}" if "encoding" in metadata else ""),
        ) from error
    return graph, weights, metadata
