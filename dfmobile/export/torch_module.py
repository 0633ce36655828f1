"""Op graph to ``torch.nn.Module`` and back to weights (extra ``train``); torch is imported when called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from dfmobile.errors import InputError, import_extra
from dfmobile.graph import Graph, Node, Weights, ops

if TYPE_CHECKING:
    from dfmobile.export.torch_graph import GraphModule

_BATCH_NORM_ROLES = {
    "scale": "weight",
    "shift": "bias",
    "mean": "running_mean",
    "variance": "running_var",
}


def torch_module(graph: Graph, weights: Weights | None = None) -> GraphModule:
    """Build a torch module that computes what a graph computes.

    Args:
        graph: training or deployed form; batch norms become ``nn.BatchNorm2d`` (momentum 0.1).
        weights: starting weights; without them torch's own initialisation stays.

    Returns:
        A module in training mode whose ``forward`` takes the graph's inputs in order (any batch size) and
        returns a tensor, or a tuple of them. ``op_modules`` gives each weighted node's torch module.

    Raises:
        GraphError: if the weights do not fit the graph.
        MissingExtraError: if torch is not installed.
    """
    import_extra("torch", "train", "a torch module")
    from dfmobile.export.torch_graph import GraphModule

    module = GraphModule(graph)
    if weights is not None:
        load_weights(module, weights)
    return module


def _tensors(module: GraphModule) -> dict[str, Any]:
    """Return a module's torch tensors by ``<node>.<role>``."""
    modules = module.op_modules
    found = {}
    for node in module.graph.nodes:
        for role in node.op.parameters(module.graph.input_shapes(node)):
            found[f"{node.name}.{role}"] = getattr(modules[node.name], _attribute(node, role))
    return found


def _attribute(node: Node, role: str) -> str:
    return _BATCH_NORM_ROLES[role] if isinstance(node.op, ops.BatchNorm) else role


def _graph_module(module: Any) -> GraphModule:
    from dfmobile.export.torch_graph import GraphModule

    if not isinstance(module, GraphModule):
        raise InputError(f"{type(module).__name__} was not made by torch_module")
    return module


def module_weights(module: Any) -> Weights:
    """Return a module's weights as float32 numpy copies by ``<node>.<role>``.

    Args:
        module: made by ``torch_module``, on any device.

    Raises:
        InputError: if it was not made by ``torch_module``.
    """
    tensors = _tensors(_graph_module(module))
    return {name: np.array(tensor.detach().cpu().float().numpy()) for name, tensor in tensors.items()}


def load_weights(module: Any, weights: Weights) -> None:
    """Copy weights into a module.

    Args:
        module: made by ``torch_module``, on any device.
        weights: exactly those of the module's graph.

    Raises:
        GraphError: if they do not fit.
        InputError: if the module was not made by ``torch_module``.
    """
    torch = import_extra("torch", "train", "a torch module")
    module = _graph_module(module)
    module.graph.check_weights(weights)
    with torch.no_grad():
        for name, tensor in _tensors(module).items():
            tensor.copy_(torch.from_numpy(np.array(weights[name], np.float32)))
