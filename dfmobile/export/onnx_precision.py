"""float32 ONNX to a strongly typed float16 one: what TensorRT 11 and TensorRT-RTX need to compute in float16.

They have no switch for it: a network computes in the types of its file. TensorRT 10 takes such a file as well (strongly
typed), and then its float16 is the same network's, not a choice of tactics.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dfmobile.errors import ExportError, FileFormatError, import_extra

OPERATORS = (
    *("Add", "ArgMax", "AveragePool", "Cast", "Clip", "Concat", "Conv", "ConvTranspose", "Flatten", "Gemm"),
    *("GlobalAveragePool", "MaxPool", "Mul", "Pad", "Relu", "Reshape", "Resize", "Softmax", "Split", "Transpose"),
)
"""What ``onnx_bytes`` writes; each computes in the type of its first input, from opset 13 on."""
PRECISION_KEY = "precision"
"""Name of the metadata text that says ``fp16``, so that nobody times such a file as fp32."""
_LARGEST = float(np.finfo(np.float16).max)


def to_float16(model: Any) -> Any:
    """Return a float16 network with float32 inputs and outputs.

    Weights and constants become float16; each float32 input is cast right behind, each float32 output right before
    its end, so that callers see no difference. Integers (shapes, argmax) stay.

    Args:
        model: an ``onnx.ModelProto`` of ``onnx_bytes``; not changed.

    Raises:
        ExportError: if a weight does not fit float16, or the model has an operator that dfmobile does not write.
        MissingExtraError: if onnx is not installed.
    """
    onnx = import_extra("onnx", "onnx", "a float16 .onnx file")
    proto, helper = onnx.TensorProto, onnx.helper
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    for node in graph.node:
        if node.domain not in ("", "ai.onnx") or node.op_type not in OPERATORS:
            raise ExportError(
                f"node {node.name!r} (op {node.op_type}) has no float16 form here",
                hint="only .onnx files that dfmobile wrote can be converted",
            )
    for tensor in graph.initializer:
        if tensor.data_type == proto.FLOAT:
            tensor.CopyFrom(_half(onnx, tensor))
    names = {name for node in graph.node for name in (*node.input, *node.output)}
    renamed: dict[str, str] = {}
    before, after = [], []
    for value in graph.input:
        if value.type.tensor_type.elem_type == proto.FLOAT:
            renamed[value.name] = inner = _free(f"{value.name}/float16", names)
            before.append(helper.make_node("Cast", [value.name], [inner], name=inner, to=proto.FLOAT16))
    for value in graph.output:
        if value.type.tensor_type.elem_type == proto.FLOAT:
            renamed[value.name] = inner = _free(f"{value.name}/float16", names)
            after.append(helper.make_node("Cast", [inner], [value.name], name=f"{inner}/cast", to=proto.FLOAT))
    for node in graph.node:
        if node.op_type == "Cast" and any(item.name == "to" and item.i == proto.FLOAT for item in node.attribute):
            raise ExportError(f"node {node.name!r} (op Cast) makes float32: the model is typed already")
        for side in (node.input, node.output):
            side[:] = [renamed.get(name, name) for name in side]
    nodes = [*before, *graph.node, *after]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    helper.set_model_props(result, {**{item.key: item.value for item in model.metadata_props}, PRECISION_KEY: "fp16"})
    try:
        onnx.checker.check_model(result, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ExportError(f"onnx's checker rejects the float16 model: {' '.join(str(error).split())}") from error
    return result


def float16_bytes(content: bytes) -> bytes:
    """Return the content of a float32 .onnx file as a float16 one; see ``to_float16``.

    Raises:
        FileFormatError: if that is no ONNX file.
        ExportError, MissingExtraError: as ``to_float16``.
    """
    onnx = import_extra("onnx", "onnx", "a float16 .onnx file")
    try:
        model = onnx.load_from_string(content)
    except Exception as error:  # protobuf's DecodeError is another class in each of its implementations
        raise FileFormatError(f"the content is no ONNX file: {' '.join(str(error).split())}") from error
    return bytes(to_float16(model).SerializeToString())


def _half(onnx: Any, tensor: Any) -> Any:
    values = onnx.numpy_helper.to_array(tensor)
    largest = float(np.abs(values).max(initial=0.0))
    if not largest <= _LARGEST:
        raise ExportError(
            f"weight {tensor.name!r} has values of {largest:.3g}, more than float16 can hold ({_LARGEST:.0f})",
            hint="export as fp32",
        )
    return onnx.numpy_helper.from_array(values.astype(np.float16), tensor.name)


def _free(name: str, taken: set[str]) -> str:
    while name in taken:
        name += "_"
    taken.add(name)
    return name
