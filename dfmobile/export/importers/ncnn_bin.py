"""ncnn's bin files: the weights of each layer, one after the other, each stored in one of five ways.

Format: ``ModelBin::load`` and the layers' ``load_model`` of ncnn 1.0. A main weight has a 4-byte tag: 0 float32,
0x01306B47 float16, 0x000D4B38 int8 (its scales follow), 0x0002C056 float32, anything else a table of 256 floats and
a byte for each value. Biases, statistics and scales are plain float32.
"""

from __future__ import annotations

import struct

import numpy as np

from dfmobile.errors import FileFormatError
from dfmobile.export.importers.base import FloatArray, damaged
from dfmobile.export.importers.ncnn_param import NcnnLayer

FLOAT32_TAG, FLOAT16_TAG, INT8_TAG, SCALED_FLOAT32_TAG = 0, 0x01306B47, 0x000D4B38, 0x0002C056
_WITHOUT_WEIGHTS = frozenset(
    """
    Input Split Noop Dropout Flatten Reshape Permute Squeeze ExpandDims Crop Concat Slice Padding Interp
    Pooling ReLU ELU Sigmoid TanH Clip SELU HardSigmoid HardSwish Swish Mish GELU Softplus Softmax ArgMax
    Eltwise BinaryOp UnaryOp AbsVal BNLL Exp Log Power Threshold LRN MVN Reduction ShuffleChannel Reorg
    PixelShuffle Packing Cast DeepCopy Tile PriorBox DetectionOutput Yolov3DetectionOutput Proposal ROIPooling
    ROIAlign PSROIPooling SPP StatisticsPooling
    """.split()  # noqa: SIM905  (57 quoted names are no easier to read)
)
_OTHER_BLOB = -233  # a scale whose factors are another layer's output
CONVOLUTIONS = ("Convolution", "ConvolutionDepthWise", "Deconvolution", "DeconvolutionDepthWise")


class _Reader:
    def __init__(self, data: bytes, path: str) -> None:
        self.data, self.path, self.position = memoryview(data), path, 0

    def take(self, count: int, layer: NcnnLayer) -> memoryview:
        if count < 0 or self.position + count > len(self.data):
            raise damaged(
                self.path,
                f"layer {layer.name} needs {count} bytes at {self.position}, {len(self.data) - self.position} are left",
            )
        self.position += count
        return self.data[self.position - count : self.position]

    def floats(self, count: int, layer: NcnnLayer) -> FloatArray:
        return np.frombuffer(self.take(4 * count, layer), "<f4").astype(np.float32)

    def tagged(self, count: int, layer: NcnnLayer) -> tuple[FloatArray, bool]:
        """Return a main weight as float32, and whether it was int8 (then it is still to be divided by its scales)."""
        if count < 1:
            raise damaged(self.path, f"layer {layer.name} claims {count} weights")
        (tag,) = struct.unpack("<I", self.take(4, layer))
        if tag == FLOAT16_TAG:
            stored = np.frombuffer(self.take((2 * count + 3) // 4 * 4, layer), "<f2", count)
            return stored.astype(np.float32), False
        if tag == INT8_TAG:
            return np.frombuffer(self.take((count + 3) // 4 * 4, layer), np.int8, count).astype(np.float32), True
        if tag in (FLOAT32_TAG, SCALED_FLOAT32_TAG):
            return self.floats(count, layer), False
        table = self.floats(256, layer)
        return table[np.frombuffer(self.take((count + 3) // 4 * 4, layer), np.uint8, count)], False


def read_bin(layers: list[NcnnLayer], data: bytes, path: str) -> list[dict[str, FloatArray]]:
    """Read the weights of a network.

    Args:
        layers: of its param file.
        data: content of the bin file.
        path: for messages.

    Returns:
        For each layer its weights by role: flat ``weight`` and ``bias`` of convolutions and fully connected layers;
        ``scale``, ``mean``, ``variance``, ``shift`` of batch norms; ``scale``, ``shift`` of scales.

    Raises:
        FileFormatError: if the file is shorter or longer than the layers say, or a layer's weights are unknown.
    """
    reader = _Reader(data, path)
    found = [_layer_weights(reader, layer) for layer in layers]
    if reader.position != len(data):
        raise damaged(path, f"{len(data) - reader.position} of {len(data)} bytes follow its last layer")
    return found


def _layer_weights(reader: _Reader, layer: NcnnLayer) -> dict[str, FloatArray]:
    parameters = layer.parameters
    if layer.type in CONVOLUTIONS:
        outputs, groups = parameters.integer(0), parameters.integer(7, 1)
        if parameters.integer(19) and layer.type.startswith("Conv"):
            return {}  # its weights are another layer's output
        term = parameters.integer(8) if layer.type.startswith("Conv") else 0
        scales = groups if layer.type == "ConvolutionDepthWise" else outputs
        if layer.type == "ConvolutionDepthWise" and term % 100 == 2:
            scales = 1
        return _with_bias(reader, layer, parameters.integer(6), outputs if parameters.integer(5) else 0, term, scales)
    if layer.type == "InnerProduct":
        outputs = parameters.integer(0)
        biases = outputs if parameters.integer(1) else 0
        return _with_bias(reader, layer, parameters.integer(2), biases, parameters.integer(8), outputs)
    if layer.type == "BatchNorm":
        channels = parameters.integer(0)
        return {role: reader.floats(channels, layer) for role in ("scale", "mean", "variance", "shift")}
    if layer.type == "Scale":
        channels = parameters.integer(0)
        if channels == _OTHER_BLOB:
            return {}
        found = {"scale": reader.floats(channels, layer)}
        if parameters.integer(1):
            found["shift"] = reader.floats(channels, layer)
        return found
    if layer.type in _WITHOUT_WEIGHTS or layer.type.startswith("custom"):
        return {}
    raise FileFormatError(
        f"{reader.path}: layer {layer.name} is of type {layer.type}, whose weights are not known here",
        hint="networks of dfmobile have no such layer: is it the file of this network?",
    )


def _with_bias(
    reader: _Reader, layer: NcnnLayer, count: int, biases: int, int8_term: int, scale_count: int
) -> dict[str, FloatArray]:
    weight, quantised = reader.tagged(count, layer)
    found = {"weight": weight}
    if biases:
        found["bias"] = reader.floats(biases, layer)
    if int8_term:
        scales = reader.floats(scale_count, layer)
        reader.floats(1 if int8_term < 100 else 2, layer)  # those of the activations
        if quantised:
            if not (scales > 0).all() or scale_count < 1 or count % scale_count:
                raise damaged(reader.path, f"layer {layer.name} has int8 scales that cannot be")
            found["weight"] = (weight.reshape(scale_count, -1) / scales[:, None]).ravel()
    elif quantised:
        raise damaged(reader.path, f"layer {layer.name} has int8 weights and no scales")
    return found
