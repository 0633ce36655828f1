"""Biases that do not fit into static int8's 32 bits: channels with them get a coarser weight scale.

A bias is an int32 in steps of (input scale x weight scale). A channel that training has all but switched off has tiny
weights, hence a tiny weight scale, and its bias, which is then all that it says, is clipped: every later layer sees
another constant. ai-edge-quantizer 0.10.0 leaves it so; TensorFlow's converter widens the scale, as is done here.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from dfmobile.errors import ExportError

LIMIT = 2.0**30
"""Biases above this many steps are widened: the sum of the products needs room in the same 32 bits."""
_WIDENED = 2.0**28
# Inputs, by position: activation, weight, bias.
_PLACES = {
    schema.BuiltinOperator.CONV_2D: (0, 1, 2),
    schema.BuiltinOperator.DEPTHWISE_CONV_2D: (0, 1, 2),
    schema.BuiltinOperator.FULLY_CONNECTED: (0, 1, 2),
    schema.BuiltinOperator.TRANSPOSE_CONV: (2, 1, 3),
}


def widen_scales(quantised: bytes, model: bytes) -> bytes:
    """Return a static int8 .tflite file whose biases all fit.

    Args:
        quantised: what ai-edge-quantizer made.
        model: the float32 file that it was made from, with the same names of tensors.

    Raises:
        ExportError: if a bias does not fit and the float32 file does not have it.
    """
    content = bytearray(quantised)  # vectors keep their length, so that everything is changed in its place
    root: Any = schema.Model.GetRootAs(content, 0)
    floats: dict[str, npt.NDArray[np.float32]] | None = None
    for index in range(root.SubgraphsLength()):
        graph = root.Subgraphs(index)
        for number in range(graph.OperatorsLength()):
            operator = graph.Operators(number)
            places = _PLACES.get(root.OperatorCodes(operator.OpcodeIndex()).BuiltinCode())
            if places is None or operator.InputsLength() <= places[2] or operator.Inputs(places[2]) < 0:
                continue
            values, weight, bias = (graph.Tensors(operator.Inputs(place)) for place in places)
            if bias.Type() != schema.TensorType.INT32 or weight.Type() != schema.TensorType.INT8:
                continue
            # Clipped ones are at the end of the range; most networks have none, and need no float file read.
            if np.abs(_data(content, root, bias, np.int32).astype(np.int64)).max(initial=0) <= LIMIT:
                continue
            floats = floats if floats is not None else _floats(model)
            name = bias.Name().decode()
            if floats.get(name, np.empty(0)).size == 0:
                raise ExportError(f"bias {name!r} does not fit into int8's 32 bits", hint="export it as fp32")
            _widen(content, root, (values, weight, bias), floats[name])
    return bytes(content)


def _widen(content: bytearray, root: Any, tensors: tuple[Any, Any, Any], real: npt.NDArray[np.float32]) -> None:
    values, weight, bias = tensors
    quantised = weight.Quantization()
    scales, bias_scales = quantised.ScaleAsNumpy(), bias.Quantization().ScaleAsNumpy()
    step = float(values.Quantization().ScaleAsNumpy()[0])
    integers, bias_integers = _data(content, root, weight, np.int8), _data(content, root, bias, np.int32)
    axis = quantised.QuantizedDimension()
    shape = weight.ShapeAsNumpy()
    by_channel = np.moveaxis(integers.reshape(shape), axis, 0) if len(scales) > 1 else integers[None]
    biases = real.reshape(-1)
    for channel in range(len(scales)):
        mine = slice(channel, channel + 1) if len(scales) > 1 else slice(None)
        largest = float(np.abs(biases[mine]).max())
        if largest <= LIMIT * step * float(scales[channel]):
            continue
        wider = largest / (step * _WIDENED)
        by_channel[channel] = np.rint(by_channel[channel] * (float(scales[channel]) / wider)).astype(np.int8)
        scales[channel] = wider
        bias_scales[channel if len(bias_scales) > 1 else 0] = step * wider
        bias_integers[mine] = np.rint(biases[mine].astype(np.float64) / (step * wider)).astype(np.int32)


def _data(content: bytes | bytearray, root: Any, tensor: Any, kind: type) -> npt.NDArray[Any]:
    """Return a tensor's content in its place: writable where the file is."""
    buffer = root.Buffers(tensor.Buffer())
    if buffer.Offset() > 1:  # behind the flatbuffer, where ai-edge-quantizer puts all but the smallest
        count = buffer.Size() // np.dtype(kind).itemsize
        return np.frombuffer(content, kind, count, buffer.Offset())
    return np.asarray(buffer.DataAsNumpy()).view(kind) if buffer.DataLength() else np.empty(0, kind)


def _floats(model: bytes) -> dict[str, npt.NDArray[np.float32]]:
    root: Any = schema.Model.GetRootAs(model, 0)
    found = {}
    for index in range(root.SubgraphsLength()):
        graph = root.Subgraphs(index)
        for number in range(graph.TensorsLength()):
            tensor = graph.Tensors(number)
            if tensor.Type() == schema.TensorType.FLOAT32:
                found[tensor.Name().decode()] = _data(model, root, tensor, np.float32)
    return found
