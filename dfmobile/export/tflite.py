"""Op graph to .tflite, written directly: milliseconds for a block, no converter, no TensorFlow.

NHWC, in the exported form, ReLU and ReLU6 fused into the op before them, one signature. Everything the zoo uses
is taken by XNNPACK as a whole; ARG_MAX is not, LiteRT's own kernel runs it.
"""

from __future__ import annotations

from collections.abc import Mapping

from dfmobile import __version__
from dfmobile.errors import ExportError
from dfmobile.export.tflite_lowering import Lowering
from dfmobile.export.tflite_ops import write_node
from dfmobile.graph import Graph, Weights
from dfmobile.graph.exported import exported_form


def tflite_bytes(
    graph: Graph, weights: Weights, *, metadata: Mapping[str, str] | None = None, half: bool = False
) -> bytes:
    """Return a graph as the content of a .tflite file.

    Args:
        graph: training or deployed form.
        weights: its weights, by ``<node>.<role>``.
        metadata: texts to store in the file, by name.
        half: store weights as float16: half the size, the same float32 arithmetic and speed.

    Returns:
        The file: float32, inputs and outputs ``[N, H, W, C]`` (argmax: int32), signature ``serving_default``
        whose names are the graph's input and output names.

    Raises:
        GraphError: if the weights do not fit the graph.
        ExportError: if the graph cannot be written as TFLite, or a weight is too large for float16.
    """
    names = graph.outputs  # of the training form: folding renames a batch norm's output to the conv's
    exported = exported_form(graph)
    graph, weights = exported.graph, exported.weights(weights)
    inputs = [name for name, _ in graph.inputs]
    if len(set(graph.outputs)) < len(graph.outputs) or set(graph.outputs) & set(inputs):
        raise ExportError("a graph that returns one of its inputs, or a value twice, cannot be written as TFLite")
    lowering = Lowering(graph, weights, half=half)
    for node in graph.nodes:
        write_node(lowering, node)
    return lowering.writer.finish(
        {name: lowering.indices[name] for name in inputs},
        {name: lowering.indices[value] for name, value in zip(names, graph.outputs, strict=True)},
        description=f"dfmobile {__version__}",
        metadata=metadata or {},
    )
