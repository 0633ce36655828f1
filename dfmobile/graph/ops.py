"""The ops of an op graph: attributes, shape inference, parameters and multiply-accumulate counts.

Tensors are ``[N, C, H, W]`` (``[N, C]`` after a fully connected op). An op knows nothing of file formats,
weights' values or names; exporters and the numpy reference dispatch on its type.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from dfmobile.errors import GraphError

Shape = tuple[int, ...]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Parameter:
    """One weight tensor of an op.

    Attributes:
        shape: its shape.
        trainable: counted in ``params`` (BN's moving mean and variance are not).
    """

    shape: Shape
    trainable: bool = True

    @property
    def size(self) -> int:
        """Number of elements."""
        total = 1
        for extent in self.shape:
            total *= extent
        return total


@dataclass(frozen=True)
class Op(ABC):
    """Base of all ops. An op is a value: equal attributes make equal ops."""

    kind: ClassVar[str]
    arity: ClassVar[int | None] = 1  # number of inputs; None: two or more

    @abstractmethod
    def infer(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """Return the shape of each output.

        Raises:
            GraphError: if the input shapes do not fit.
        """

    def parameters(self, inputs: tuple[Shape, ...]) -> dict[str, Parameter]:
        """Return the op's weight tensors by role (``weight``, ``bias``, ``scale``, …); most ops have none."""
        del inputs
        return {}

    def macs(self, inputs: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> int:
        """Return the number of multiply-accumulates (conv, transposed conv and fully connected only)."""
        del inputs, outputs
        return 0

    def text(self) -> str:
        """Return the canonical text of the op and its attributes, as used in LUT keys."""
        parts = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                parts.append(f"{field.name}={'x'.join(str(item) for item in value)}")
            elif isinstance(value, bool):
                parts.append(f"{field.name}={int(value)}")
            else:
                parts.append(f"{field.name}={value!r}" if isinstance(value, float) else f"{field.name}={value}")
        return f"{self.kind}({','.join(parts)})" if parts else self.kind


def _image(op: str, shape: Shape) -> Shape:
    if len(shape) != 4:
        raise GraphError(f"{op} takes a tensor [N, C, H, W], got {list(shape)}")
    return shape


def _windows(op: str, extent: int, kernel: int, stride: int, padding: int) -> int:
    if kernel < 1 or stride < 1 or padding < 0:
        raise GraphError(f"{op}: kernel {kernel}, stride {stride} and padding {padding} make no window")
    count = (extent + 2 * padding - kernel) // stride + 1
    if extent + 2 * padding < kernel:
        raise GraphError(f"{op}: a window of {kernel} does not fit in {extent} with padding {padding}")
    return count


@dataclass(frozen=True)
class Conv(Op):
    """2-D convolution over all channels; weight ``[out_channels, in_channels, kh, kw]``, padding symmetric, zeros."""

    out_channels: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    bias: bool = False
    kind: ClassVar[str] = "conv"

    def infer(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """See base class."""
        n, _, h, w = _image("conv", inputs[0])
        if self.out_channels < 1:
            raise GraphError(f"conv into {self.out_channels} channels")
        rows = _windows("conv", h, self.kernel[0], self.stride[0], self.padding[0])
        columns = _windows("conv", w, self.kernel[1], self.stride[1], self.padding[1])
        return ((n, self.out_channels, rows, columns),)

    def parameters(self, inputs: tuple[Shape, ...]) -> dict[str, Parameter]:
        """See base class."""
        found = {"weight": Parameter((self.out_channels, inputs[0][1], *self.kernel))}
        if self.bias:
            found["bias"] = Parameter((self.out_channels,))
        return found

    def macs(self, inputs: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> int:
        """See base class."""
        n, c, h, w = outputs[0]
        return n * c * h * w * inputs[0][1] * self.kernel[0] * self.kernel[1]


@dataclass(frozen=True)
class DepthwiseConv(Op):
    """2-D convolution of each channel by its own kernel; weight ``[channels, 1, kh, kw]``."""

    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    bias: bool = False
    kind: ClassVar[str] = "depthwise_conv"

    def infer(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """See base class."""
        n, c, h, w = _image("depthwise_conv", inputs[0])
        rows = _windows("depthwise_conv", h, self.kernel[0], self.stride[0], self.padding[0])
        columns = _windows("depthwise_conv", w, self.kernel[1], self.stride[1], self.padding[1])
        return ((n, c, rows, columns),)

    def parameters(self, inputs: tuple[Shape, ...]) -> dict[str, Parameter]:
        """See base class."""
        channels = inputs[0][1]
        found = {"weight": Parameter((channels, 1, *self.kernel))}
        if self.bias:
            found["bias"] = Parameter((channels,))
        return found

    def macs(self, inputs: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> int:
        """See base class."""
        del inputs
        n, c, h, w = outputs[0]
        return n * c * h * w * self.kernel[0] * self.kernel[1]


@dataclass(frozen=True)
class TransposedConv(Op):
    """Learned 2-D transposed convolution.

    Weight ``[in_channels, out_channels, kh, kw]``, or ``[channels, 1, kh, kw]`` when depthwise (then
    ``out_channels`` equals the input's). Output extent: ``(in - 1)·stride - 2·padding + kernel``.
    """

    out_channels: int
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)
    bias: bool = False
    depthwise: bool = False
    kind: ClassVar[str] = "transposed_conv"

    def infer(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """See base class."""
        n, c, h, w = _image("transposed_conv", inputs[0])
        if min(self.out_channels, *self.kernel, *self.stride) < 1 or min(self.padding) < 0:
            raise GraphError(
                f"transposed_conv: {self.out_channels} channels, kernel {self.kernel}, stride {self.stride} and "
                f"padding {self.padding} make no window"
            )
        if self.depthwise and c != self.out_channels:
            raise GraphError(f"depthwise transposed_conv keeps its {c} channels, out_channels is {self.out_channels}")
        extents = []
        for extent, kernel, stride, padding in zip((h, w), self.kernel, self.stride, self.padding, strict=True):
            extents.append((extent - 1) * stride - 2 * padding + kernel)
        if min(extents) < 1:
            raise GraphError(f"transposed_conv leaves nothing of {h}x{w}")
        return ((n, self.out_channels, *extents),)

    def parameters(self, inputs: tuple[Shape, ...]) -> dict[str, Parameter]:
        """See base class."""
        outputs_per_group = 1 if self.depthwise else self.out_channels
        found = {"weight": Parameter((inputs[0][1], outputs_per_group, *self.kernel))}
        if self.bias:
            found["bias"] = Parameter((self.out_channels,))
        return found

    def macs(self, inputs: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> int:
        """See base class; counted on the input side, as the reference tables do."""
        del outputs
        n, c, h, w = inputs[0]
        outputs_per_group = 1 if self.depthwise else self.out_channels
        return n * c * h * w * outputs_per_group * self.kernel[0] * self.kernel[1]


@dataclass(frozen=True)
class BilinearUpsample(Op):
    """Fixed bilinear depthwise transposed conv: kernel 2·scale, stride scale, padding scale/2, zero border.

    The Caffe ``bilinear`` filler with learning rate 0. Differs from a half-pixel resize only in the border,
    which is multiplied with zeros instead of clamped. Has no parameters.
    """

    scale: int
    kind: ClassVar[str] = "bilinear_upsample"

    def infer(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """See base class."""
        n, c, h, w = _image("bilinear_upsample", inputs[0])
        if self.scale < 2 or self.scale % 2:
            raise GraphError(f"bilinear_upsample takes an even scale of at least 2, got {self.scale}")
        return ((n, c, h * self.scale, w * self.scale),)

    def macs(self, inputs: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> int:
        """See base class; those of the transposed conv, whatever an exporter writes instead."""
        del outputs
        n, c, h, w = inputs[0]
        return n * c * h * w * 4 * self.scale * self.scale


@dataclass(frozen=True)
class BatchNorm(Op):
    """``scale · (x - mean) / sqrt(variance + epsilon) + shift`` per channel; folds into the conv before it."""

    epsilon: float
    kind: ClassVar[str] = "batch_norm"

    def infer(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """See base class."""
        return (_image("batch_norm", inputs[0]),)

    def parameters(self, inputs: tuple[Shape, ...]) -> dict[str, Parameter]:
        """See base class."""
        channels = (inputs[0][1],)
        return {
            "scale": Parameter(channels),
            "shift": Parameter(channels),
            "mean": Parameter(channels, trainable=False),
            "variance": Parameter(channels, trainable=False),
        }


@dataclass(frozen=True)
class Elementwise(Op):
    """Base of ops that keep one input's shape."""

    def infer(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """See base class."""
        return (inputs[0],)


@dataclass(frozen=True)
class Relu(Elementwise):
    """``max(x, 0)``."""

    kind: ClassVar[str] = "relu"


@dataclass(frozen=True)
class Relu6(Elementwise):
    """``min(max(x, 0), 6)``."""

    kind: ClassVar[str] = "relu6"


@dataclass(frozen=True)
class Softmax(Elementwise):
    """Softmax over the channels (axis 1)."""

    kind: ClassVar[str] = "softmax"


@dataclass(frozen=True)
class Add(Op):
    """Sum of two tensors of one shape."""

    kind: ClassVar[str] = "add"
    arity: ClassVar[int | None] = 2

    def infer(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """See base class."""
        if inputs[0] != inputs[1]:
            raise GraphError(f"add takes equal shapes, got {list(inputs[0])} and {list(inputs[1])}")
        return (inputs[0],)


@dataclass(frozen=True)
class Concat(Op):
    """Concatenation over the channels (axis 1)."""

    kind: ClassVar[str] = "concat"
    arity: ClassVar[int | None] = None

    def infer(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """See base class."""
        for shape in inputs:
            if shape[:1] + shape[2:] != inputs[0][:1] + inputs[0][2:]:
                raise GraphError(f"concat takes maps of one size, got {[list(item) for item in inputs]}")
        return ((inputs[0][0], sum(shape[1] for shape in inputs), *inputs[0][2:]),)


@dataclass(frozen=True)
class Split(Op):
    """Split over the channels (axis 1) into parts of the given sizes; one output each."""

    sizes: tuple[int, ...]
    kind: ClassVar[str] = "split"

    def infer(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """See base class."""
        shape = inputs[0]
        if len(self.sizes) < 2 or min(self.sizes) < 1 or sum(self.sizes) != shape[1]:
            raise GraphError(f"split into {list(self.sizes)} does not fit {shape[1]} channels")
        return tuple((shape[0], size, *shape[2:]) for size in self.sizes)


@dataclass(frozen=True)
class ChannelShuffle(Op):
    """ShuffleNet's channel shuffle: view the channels as ``[groups, channels/groups]`` and transpose."""

    groups: int
    kind: ClassVar[str] = "channel_shuffle"

    def infer(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """See base class."""
        shape = _image("channel_shuffle", inputs[0])
        if self.groups < 1 or shape[1] % self.groups:
            raise GraphError(f"channel_shuffle: {shape[1]} channels do not divide into {self.groups} groups")
        return (shape,)


@dataclass(frozen=True)
class _Pool(Op):
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)

    def infer(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """See base class."""
        n, c, h, w = _image(self.kind, inputs[0])
        if self.padding[0] * 2 > self.kernel[0] or self.padding[1] * 2 > self.kernel[1]:
            raise GraphError(f"{self.kind}: padding {self.padding} is more than half of the window {self.kernel}")
        rows = _windows(self.kind, h, self.kernel[0], self.stride[0], self.padding[0])
        columns = _windows(self.kind, w, self.kernel[1], self.stride[1], self.padding[1])
        return ((n, c, rows, columns),)


@dataclass(frozen=True)
class MaxPool(_Pool):
    """Maximum of each window; padding never wins."""

    kind: ClassVar[str] = "max_pool"


@dataclass(frozen=True)
class AveragePool(_Pool):
    """Mean of each window; without padding (its meaning differs between runtimes)."""

    kind: ClassVar[str] = "average_pool"

    def infer(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """See base class."""
        if self.padding != (0, 0):
            raise GraphError("average_pool takes no padding: runtimes disagree on whether it counts")
        return super().infer(inputs)


@dataclass(frozen=True)
class GlobalAveragePool(Op):
    """Mean of each channel: ``[N, C, H, W]`` to ``[N, C, 1, 1]``."""

    kind: ClassVar[str] = "global_average_pool"

    def infer(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """See base class."""
        shape = _image("global_average_pool", inputs[0])
        return ((shape[0], shape[1], 1, 1),)


@dataclass(frozen=True)
class ResizeBilinear(Op):
    """Bilinear resize with clamped border.

    Attributes:
        size: output ``(height, width)``.
        align_corners: source coordinate ``i·(in-1)/(out-1)`` (0 when out is 1) instead of the half-pixel
            ``(i+0.5)·in/out - 0.5``.
    """

    size: Pair
    align_corners: bool = False
    kind: ClassVar[str] = "resize_bilinear"

    def infer(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """See base class."""
        n, c, _, _ = _image("resize_bilinear", inputs[0])
        if min(self.size) < 1:
            raise GraphError(f"resize_bilinear to {self.size}")
        return ((n, c, *self.size),)


@dataclass(frozen=True)
class Pad(Op):
    """Zeros around the map: ``top, bottom, left, right``."""

    amounts: tuple[int, int, int, int]
    kind: ClassVar[str] = "pad"

    def infer(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """See base class."""
        n, c, h, w = _image("pad", inputs[0])
        if min(self.amounts) < 0:
            raise GraphError(f"pad by {self.amounts}")
        top, bottom, left, right = self.amounts
        return ((n, c, h + top + bottom, w + left + right),)


@dataclass(frozen=True)
class FullyConnected(Op):
    """``x · weightᵀ + bias`` with weight ``[out_features, in_features]``; takes ``[N, C]`` or ``[N, C, 1, 1]``."""

    out_features: int
    bias: bool = True
    kind: ClassVar[str] = "fully_connected"

    def infer(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """See base class."""
        shape = inputs[0]
        if len(shape) not in (2, 4) or (len(shape) == 4 and shape[2:] != (1, 1)):
            raise GraphError(f"fully_connected takes [N, C] or [N, C, 1, 1], got {list(shape)}")
        if self.out_features < 1:
            raise GraphError(f"fully_connected into {self.out_features} features")
        return ((shape[0], self.out_features),)

    def parameters(self, inputs: tuple[Shape, ...]) -> dict[str, Parameter]:
        """See base class."""
        found = {"weight": Parameter((self.out_features, inputs[0][1]))}
        if self.bias:
            found["bias"] = Parameter((self.out_features,))
        return found

    def macs(self, inputs: tuple[Shape, ...], outputs: tuple[Shape, ...]) -> int:
        """See base class."""
        return outputs[0][0] * outputs[0][1] * inputs[0][1]


@dataclass(frozen=True)
class ArgMax(Op):
    """Index of the largest channel, int32: ``[N, C, H, W]`` to ``[N, 1, H, W]``; ``[N, C]`` to ``[N, 1]``."""

    kind: ClassVar[str] = "argmax"

    def infer(self, inputs: tuple[Shape, ...]) -> tuple[Shape, ...]:
        """See base class."""
        shape = inputs[0]
        return ((shape[0], 1, *shape[2:]),)
