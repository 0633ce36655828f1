"""Op graphs: typed ops with shapes, the single source for torch, ONNX, TFLite, MACs, params and LUT keys."""

from dfmobile.graph.builder import GraphBuilder
from dfmobile.graph.graph import Graph, Node, Weights, initialise
from dfmobile.graph.ops import Shape

__all__ = ["Graph", "GraphBuilder", "Node", "Shape", "Weights", "initialise"]
