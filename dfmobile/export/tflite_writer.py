"""Serialise tensors and operators as a .tflite file: FlatBuffers only, no knowledge of op graphs.

The low-level FlatBuffers builder is used because the object API walks weights byte by byte in Python, which
takes seconds for a few million of them. Format: ``schema.fbs`` version 3, file identifier ``TFL3``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from dfmobile.errors import ExportError

SCHEMA_VERSION = 3
FILE_IDENTIFIER = b"TFL3"
BUFFER_ALIGNMENT_BYTES = 16  # what runtimes ask of constants that they read in place
SIGNATURE = "serving_default"
_LIMIT_BYTES = 2**31 - 1  # FlatBuffers offsets are signed 32 bit

Array = npt.NDArray[Any]

_TENSOR_TYPES = {
    np.dtype(np.float32): schema.TensorType.FLOAT32,
    np.dtype(np.float16): schema.TensorType.FLOAT16,
    np.dtype(np.int32): schema.TensorType.INT32,
}


@dataclass(frozen=True)
class _Tensor:
    name: str
    shape: tuple[int, ...]
    type: int
    buffer: int


@dataclass(frozen=True)
class _Operator:
    code: tuple[int, int]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: tuple[int, Any] | None


class TFLiteWriter:
    """Collects one subgraph and writes it.

    Tensors are numbered in the order in which they are made; operators run in the order in which they are added.
    """

    def __init__(self) -> None:
        self._tensors: list[_Tensor] = []
        self._operators: list[_Operator] = []
        self._buffers: list[Array | bytes] = [b""]  # buffer 0 is, by definition, the empty one
        self._small: dict[tuple[int, ...], int] = {}
        self._paddings: dict[str, int] = {}

    def tensor(self, name: str, shape: Sequence[int], dtype: npt.DTypeLike = np.float32) -> int:
        """Add a tensor without data (an input or an activation) and return its index."""
        return self._add(name, shape, np.dtype(dtype), 0)

    def constant(self, name: str, values: Array) -> int:
        """Add a tensor with data, float32, float16 or int32, and return its index."""
        self._buffers.append(np.ascontiguousarray(values))
        return self._add(name, values.shape, values.dtype, len(self._buffers) - 1)

    def int32s(self, values: Iterable[int]) -> int:
        """Return a constant int32 vector (a shape, axes, a permutation); equal ones are stored once."""
        key = tuple(int(value) for value in values)
        if key not in self._small:
            name = "int32/" + "_".join(str(value) for value in key)
            self._small[key] = self.constant(name, np.array(key, np.int32))
        return self._small[key]

    def int32_matrix(self, rows: Sequence[tuple[int, int]]) -> int:
        """Return a constant int32 matrix ``[n, 2]`` (paddings); equal ones are stored once."""
        name = "paddings/" + "_".join(f"{before}.{after}" for before, after in rows)
        if name not in self._paddings:
            self._paddings[name] = self.constant(name, np.array(rows, np.int32))
        return self._paddings[name]

    def operator(
        self,
        code: int,
        inputs: Sequence[int],
        outputs: Sequence[int],
        options: tuple[int, Any] | None = None,
        version: int = 1,
    ) -> None:
        """Append an operator.

        Args:
            code: a ``schema.BuiltinOperator``.
            inputs: tensor indices; -1 where an optional input is absent.
            outputs: tensor indices.
            options: a ``schema.BuiltinOptions`` and the matching ``…OptionsT``.
            version: the first version of the operator that knows what is used of it.
        """
        self._operators.append(_Operator((code, version), tuple(inputs), tuple(outputs), options))

    @property
    def operator_count(self) -> int:
        """Number of operators so far."""
        return len(self._operators)

    def _add(self, name: str, shape: Sequence[int], dtype: np.dtype[Any], buffer: int) -> int:
        self._tensors.append(_Tensor(name, tuple(shape), _TENSOR_TYPES[dtype], buffer))
        return len(self._tensors) - 1

    def finish(
        self,
        inputs: Mapping[str, int],
        outputs: Mapping[str, int],
        *,
        description: str,
        metadata: Mapping[str, str],
    ) -> bytes:
        """Return the file.

        Args:
            inputs: tensor index by name in the signature, in the order of the subgraph's inputs.
            outputs: the same for outputs.
            description: free text in the file.
            metadata: further texts by name.

        Raises:
            ExportError: if the file would exceed the 2 GiB of the format.
        """
        data_bytes = sum(item.nbytes if isinstance(item, np.ndarray) else len(item) for item in self._buffers)
        room = data_bytes + 64 * len(self._buffers) + 512 * (len(self._tensors) + len(self._operators)) + 4096
        if room > _LIMIT_BYTES:
            raise ExportError(f"a .tflite file holds at most 2 GiB, the weights alone are {data_bytes} bytes")
        builder = flatbuffers.Builder(room)
        buffers = list(self._buffers)
        entries = []
        for name, text in metadata.items():
            buffers.append(text.encode())
            entries.append((name, len(buffers) - 1))

        buffer_offsets = [_buffer(builder, item) for item in buffers]
        codes = sorted({operator.code for operator in self._operators})
        code_offsets = [_operator_code(builder, code, version) for code, version in codes]
        subgraph = self._subgraph(builder, codes, list(inputs.values()), list(outputs.values()))
        signature = _signature(builder, inputs, outputs)
        metadata_offsets = [_metadata(builder, name, buffer) for name, buffer in entries]

        start = schema
        buffers_at = _offsets(builder, start.ModelStartBuffersVector, buffer_offsets)
        codes_at = _offsets(builder, start.ModelStartOperatorCodesVector, code_offsets)
        subgraphs_at = _offsets(builder, start.ModelStartSubgraphsVector, [subgraph])
        signatures_at = _offsets(builder, start.ModelStartSignatureDefsVector, [signature])
        metadata_at = _offsets(builder, start.ModelStartMetadataVector, metadata_offsets)
        description_at = builder.CreateString(description)
        schema.ModelStart(builder)
        schema.ModelAddVersion(builder, SCHEMA_VERSION)
        schema.ModelAddOperatorCodes(builder, codes_at)
        schema.ModelAddSubgraphs(builder, subgraphs_at)
        schema.ModelAddDescription(builder, description_at)
        schema.ModelAddBuffers(builder, buffers_at)
        schema.ModelAddMetadata(builder, metadata_at)
        schema.ModelAddSignatureDefs(builder, signatures_at)
        builder.Finish(schema.ModelEnd(builder), FILE_IDENTIFIER)
        return bytes(memoryview(builder.Bytes)[builder.Head() :])  # Output() would copy once more

    def _subgraph(self, builder: Any, codes: list[tuple[int, int]], inputs: list[int], outputs: list[int]) -> int:
        tensors = [_tensor(builder, tensor) for tensor in self._tensors]
        position = {code: index for index, code in enumerate(codes)}
        operators = [_operator(builder, position[item.code], item) for item in self._operators]
        tensors_at = _offsets(builder, schema.SubGraphStartTensorsVector, tensors)
        operators_at = _offsets(builder, schema.SubGraphStartOperatorsVector, operators)
        inputs_at = builder.CreateNumpyVector(np.array(inputs, np.int32))
        outputs_at = builder.CreateNumpyVector(np.array(outputs, np.int32))
        name_at = builder.CreateString("main")
        schema.SubGraphStart(builder)
        schema.SubGraphAddTensors(builder, tensors_at)
        schema.SubGraphAddInputs(builder, inputs_at)
        schema.SubGraphAddOutputs(builder, outputs_at)
        schema.SubGraphAddOperators(builder, operators_at)
        schema.SubGraphAddName(builder, name_at)
        return int(schema.SubGraphEnd(builder))


def _offsets(builder: Any, start: Callable[[Any, int], Any], offsets: Sequence[int]) -> int:
    start(builder, len(offsets))
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _buffer(builder: Any, data: Array | bytes) -> int:
    raw = data.reshape(-1).view(np.uint8).data if isinstance(data, np.ndarray) else data
    size = len(raw)
    data_at = 0
    if size:
        builder.StartVector(1, size, BUFFER_ALIGNMENT_BYTES)
        builder.head -= size  # StartVector made room; one copy instead of one call an element
        builder.Bytes[builder.head : builder.head + size] = raw
        data_at = builder.EndVector()
    schema.BufferStart(builder)
    if size:
        schema.BufferAddData(builder, data_at)
    return int(schema.BufferEnd(builder))


def _operator_code(builder: Any, code: int, version: int) -> int:
    schema.OperatorCodeStart(builder)
    # Readers older than schema 3a know only the 8-bit field; they take the larger of the two.
    schema.OperatorCodeAddDeprecatedBuiltinCode(builder, min(code, 127))
    schema.OperatorCodeAddVersion(builder, version)
    schema.OperatorCodeAddBuiltinCode(builder, code)
    return int(schema.OperatorCodeEnd(builder))


def _tensor(builder: Any, tensor: _Tensor) -> int:
    name_at = builder.CreateString(tensor.name)
    shape_at = builder.CreateNumpyVector(np.array(tensor.shape, np.int32))
    schema.TensorStart(builder)
    schema.TensorAddShape(builder, shape_at)
    schema.TensorAddType(builder, tensor.type)
    schema.TensorAddBuffer(builder, tensor.buffer)
    schema.TensorAddName(builder, name_at)
    schema.TensorAddHasRank(builder, True)
    return int(schema.TensorEnd(builder))


def _operator(builder: Any, code_index: int, operator: _Operator) -> int:
    inputs_at = builder.CreateNumpyVector(np.array(operator.inputs, np.int32))
    outputs_at = builder.CreateNumpyVector(np.array(operator.outputs, np.int32))
    options_at = None if operator.options is None else operator.options[1].Pack(builder)
    schema.OperatorStart(builder)
    schema.OperatorAddOpcodeIndex(builder, code_index)
    schema.OperatorAddInputs(builder, inputs_at)
    schema.OperatorAddOutputs(builder, outputs_at)
    if operator.options is not None:
        schema.OperatorAddBuiltinOptionsType(builder, operator.options[0])
        schema.OperatorAddBuiltinOptions(builder, options_at)
    return int(schema.OperatorEnd(builder))


def _signature(builder: Any, inputs: Mapping[str, int], outputs: Mapping[str, int]) -> int:
    def tensor_map(name: str, index: int) -> int:
        name_at = builder.CreateString(name)
        schema.TensorMapStart(builder)
        schema.TensorMapAddName(builder, name_at)
        schema.TensorMapAddTensorIndex(builder, index)
        return int(schema.TensorMapEnd(builder))

    inputs_at = _offsets(
        builder,
        schema.SignatureDefStartInputsVector,
        [tensor_map(name, index) for name, index in inputs.items()],
    )
    outputs_at = _offsets(
        builder,
        schema.SignatureDefStartOutputsVector,
        [tensor_map(name, index) for name, index in outputs.items()],
    )
    key_at = builder.CreateString(SIGNATURE)
    schema.SignatureDefStart(builder)
    schema.SignatureDefAddInputs(builder, inputs_at)
    schema.SignatureDefAddOutputs(builder, outputs_at)
    schema.SignatureDefAddSignatureKey(builder, key_at)
    schema.SignatureDefAddSubgraphIndex(builder, 0)
    return int(schema.SignatureDefEnd(builder))


def _metadata(builder: Any, name: str, buffer: int) -> int:
    name_at = builder.CreateString(name)
    schema.MetadataStart(builder)
    schema.MetadataAddName(builder, name_at)
    schema.MetadataAddBuffer(builder, buffer)
    return int(schema.MetadataEnd(builder))
