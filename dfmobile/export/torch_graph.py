"""The torch module of an op graph. Imports torch: reach it through ``dfmobile.export.torch_module``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from dfmobile.errors import GraphError
from dfmobile.graph import Graph, Node, ops
from dfmobile.graph.reference import bilinear_kernel

BATCH_NORM_MOMENTUM = 0.1


class BilinearUpsample(nn.Module):  # type: ignore[misc]
    """The fixed bilinear transposed conv; its kernel is no parameter and is not in the state dict."""

    def __init__(self, scale: int, channels: int) -> None:
        super().__init__()
        self.scale = scale
        self.channels = channels
        kernel = torch.from_numpy(bilinear_kernel(scale)).float().expand(channels, 1, -1, -1).contiguous()
        self.register_buffer("kernel", kernel, persistent=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Upsample ``[N, C, H, W]`` to ``[N, C, H·scale, W·scale]``."""
        return functional.conv_transpose2d(
            x, self.kernel, stride=self.scale, padding=self.scale // 2, groups=self.channels
        )


def _weighted(graph: Graph, node: Node) -> nn.Module | None:
    """Return the torch module of an op that has state, None for one that has none."""
    op = node.op
    channels = graph.shapes[node.inputs[0]][1]
    if isinstance(op, ops.Conv):
        return nn.Conv2d(channels, op.out_channels, op.kernel, op.stride, op.padding, bias=op.bias)
    if isinstance(op, ops.DepthwiseConv):
        return nn.Conv2d(channels, channels, op.kernel, op.stride, op.padding, groups=channels, bias=op.bias)
    if isinstance(op, ops.TransposedConv):
        groups = channels if op.depthwise else 1
        return nn.ConvTranspose2d(
            channels, op.out_channels, op.kernel, op.stride, op.padding, groups=groups, bias=op.bias
        )
    if isinstance(op, ops.BilinearUpsample):
        return BilinearUpsample(op.scale, channels)
    if isinstance(op, ops.BatchNorm):
        return nn.BatchNorm2d(channels, eps=op.epsilon, momentum=BATCH_NORM_MOMENTUM)
    if isinstance(op, ops.FullyConnected):
        return nn.Linear(channels, op.out_features, bias=op.bias)
    return None


def _resize(op: ops.ResizeBilinear, x: torch.Tensor) -> torch.Tensor:
    return functional.interpolate(x, op.size, mode="bilinear", align_corners=op.align_corners, antialias=False)


def _shuffle(op: ops.ChannelShuffle, x: torch.Tensor) -> torch.Tensor:
    n, c, h, w = x.shape
    return x.reshape(n, op.groups, c // op.groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def _pad(op: ops.Pad, x: torch.Tensor) -> torch.Tensor:
    top, bottom, left, right = op.amounts
    return functional.pad(x, (left, right, top, bottom))


_FUNCTIONS: dict[type[ops.Op], Callable[..., Any]] = {
    ops.Relu: lambda op, x: functional.relu(x),
    ops.Relu6: lambda op, x: functional.relu6(x),
    ops.Softmax: lambda op, x: functional.softmax(x, dim=1),
    ops.Add: lambda op, x, y: x + y,
    ops.Concat: lambda op, *parts: torch.cat(parts, dim=1),
    ops.Split: lambda op, x: torch.split(x, op.sizes, dim=1),
    ops.ChannelShuffle: _shuffle,
    ops.MaxPool: lambda op, x: functional.max_pool2d(x, op.kernel, op.stride, op.padding),
    ops.AveragePool: lambda op, x: functional.avg_pool2d(x, op.kernel, op.stride),
    ops.GlobalAveragePool: lambda op, x: functional.adaptive_avg_pool2d(x, 1),
    ops.ResizeBilinear: _resize,
    ops.Pad: _pad,
    ops.ArgMax: lambda op, x: x.argmax(dim=1, keepdim=True).to(torch.int32),
}


class GraphModule(nn.Module):  # type: ignore[misc]
    """Executes an op graph in torch, for any batch size.

    Attributes:
        graph: what it executes.
        op_modules: the torch module of each node that has weights, by node name.
    """

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.layers = nn.ModuleDict()
        self._keys: dict[str, str] = {}
        for node in graph.nodes:
            module = _weighted(graph, node)
            if module is not None:
                self._keys[node.name] = _module_key(node.name)
                self.layers[self._keys[node.name]] = module
            elif type(node.op) not in _FUNCTIONS:
                raise GraphError(f"op {node.op.kind!r} (node {node.name!r}) has no torch form")
        # Values that no later node reads are dropped at once: without gradients this frees their memory.
        self._dropped: list[list[str]] = [[] for _ in graph.nodes]
        last = {name: position for position, node in enumerate(graph.nodes) for name in node.inputs}
        for name, position in last.items():
            if name not in graph.outputs:
                self._dropped[position].append(name)

    @property
    def op_modules(self) -> dict[str, nn.Module]:
        """The torch module of each node that has weights, by node name."""
        return {
            node.name: self.layers[self._keys[node.name]]
            for node in self.graph.nodes
            if node.op.parameters(self.graph.input_shapes(node))
        }

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        """Run the graph.

        Args:
            inputs: the graph's inputs in order, ``[N, C, H, W]``; N may differ from the graph's.

        Returns:
            The graph's output, or a tuple of its outputs.

        Raises:
            GraphError: if the number of inputs is wrong.
        """
        if len(inputs) != len(self.graph.inputs):
            raise GraphError(f"the graph takes {len(self.graph.inputs)} inputs, got {len(inputs)}")
        values: dict[str, torch.Tensor] = {}
        for (name, _), value in zip(self.graph.inputs, inputs, strict=True):
            values[name] = value
        for node, dropped in zip(self.graph.nodes, self._dropped, strict=True):
            arguments = [values[name] for name in node.inputs]
            if isinstance(node.op, ops.FullyConnected):
                arguments = [arguments[0].flatten(1)]
            if node.name in self._keys:
                result = self.layers[self._keys[node.name]](*arguments)
            else:
                result = _FUNCTIONS[type(node.op)](node.op, *arguments)
            values.update(zip(node.outputs, result if isinstance(result, tuple) else (result,), strict=True))
            del arguments, result
            for name in dropped:
                del values[name]
        outputs = tuple(values[name] for name in self.graph.outputs)
        return outputs[0] if len(outputs) == 1 else outputs


def _module_key(name: str) -> str:
    """Return a node's key in a module dictionary, which allows no dots and no names of its own methods."""
    key = name.replace(".", "/")
    return f"{key}/" if hasattr(nn.ModuleDict, key) or key in ("training",) else key
