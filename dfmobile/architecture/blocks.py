"""The blocks: each knows how to write itself into an op graph, in its training form.

A block is a value (equal attributes, equal graph); where it stands in a network and what feeds it is decided in
``network``. Sources: Li et al., CVPR 2019 and the DF networks' published definitions (basic, bottleneck, stem,
pyramid, controllers, fusion, score); Ma et al., ECCV 2018 (ShuffleNetV2 units) and PL1A-Seg as deployed (shuffle
forms); He et al., CVPR 2016 (ResNet v1).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

from dfmobile.architecture.pyramid import pyramid_windows
from dfmobile.graph import GraphBuilder, ops

DF_EPSILON = 1e-4
# PL1A-Seg is known only with its BN folded, ResNets are the authors' 1e-5: the usual default.
DEFAULT_EPSILON = 1e-5
# Forms of a shuffle unit.
PLAIN, RESTORING, LAST = UNIT_FORMS = 0, 1, 2


def unit_form(width: int, position: int, *, last: bool) -> int:
    """Return in which form a shuffle unit is exported.

    ``PLAIN`` units (every second one) read channels in their natural order and leave their shuffle out. ``RESTORING``
    ones read what was left unshuffled by the unit before, and restore the order. ``LAST`` ones read the same, and
    leave the shuffle out, since what follows a stage takes any order. Widths that are no multiple of 4 keep their
    shuffles.

    Args:
        width: of the unit.
        position: in its stage; 1 is the down unit's.
        last: whether it is the last of its stage.
    """
    if width % 4 or position % 2:
        return PLAIN
    return LAST if last else RESTORING


@dataclass(frozen=True)
class Block(ABC):
    """Base of all blocks."""

    kind: ClassVar[str]

    @property
    def reads_halves(self) -> bool:
        """Whether, in the exported form, the channels of its input lie as halves: see ``graph.channel_order``."""
        return False

    @property
    def more(self) -> bool:
        """Whether, in the exported form, it restores the order of its output for a shuffle unit that follows."""
        return False

    @abstractmethod
    def emit(self, builder: GraphBuilder, prefix: str, *inputs: str) -> str:
        """Append the block's ops.

        Args:
            builder: graph under construction.
            prefix: layer names begin with it and a dot.
            inputs: values that feed the block.

        Returns:
            Name of the block's output value.

        Raises:
            GraphError: if the inputs' shapes do not fit.
        """


def conv_bn(
    builder: GraphBuilder,
    value: str,
    name: str,
    width: int,
    kernel: int,
    *,
    stride: int = 1,
    epsilon: float,
    relu: bool,
) -> str:
    """Append conv (padding keeps the size at stride 1), batch norm and, if asked, ReLU."""
    value = builder.conv(value, width, kernel, stride=stride, padding=kernel // 2, name=name)
    value = builder.batch_norm(value, epsilon, name=f"{name}.bn")
    return builder.relu(value, name=f"{name}.relu") if relu else value


def depthwise_bn(builder: GraphBuilder, value: str, name: str, *, stride: int = 1) -> str:
    """Append a 3x3 depthwise conv and batch norm, without ReLU, as shuffle networks have it."""
    value = builder.depthwise_conv(value, 3, stride=stride, padding=1, name=name)
    return builder.batch_norm(value, DEFAULT_EPSILON, name=f"{name}.bn")


@dataclass(frozen=True)
class Stem(Block):
    """3x3 convs with BN and ReLU. DF: widths 32 and 64, both stride 2."""

    convs: tuple[tuple[int, int], ...]
    kind: ClassVar[str] = "stem"

    def emit(self, builder: GraphBuilder, prefix: str, *inputs: str) -> str:
        """See base class."""
        value = inputs[0]
        for number, (width, stride) in enumerate(self.convs, 1):
            value = conv_bn(
                builder,
                value,
                f"{prefix}.conv{number}",
                width,
                3,
                stride=stride,
                epsilon=DF_EPSILON,
                relu=True,
            )
        return value


@dataclass(frozen=True)
class SeparableStem(Block):
    """PL1A-Seg's stem: depthwise 3x3 and 1x1 with ReLU, then depthwise 3x3 and a full 3x3 conv with ReLU."""

    convs: tuple[tuple[int, int], ...]
    kind: ClassVar[str] = "stem"

    def emit(self, builder: GraphBuilder, prefix: str, *inputs: str) -> str:
        """See base class."""
        (first, first_stride), (second, second_stride) = self.convs
        value = depthwise_bn(builder, inputs[0], f"{prefix}.depthwise1", stride=first_stride)
        value = conv_bn(builder, value, f"{prefix}.conv1", first, 1, epsilon=DEFAULT_EPSILON, relu=True)
        value = depthwise_bn(builder, value, f"{prefix}.depthwise2", stride=second_stride)
        return conv_bn(builder, value, f"{prefix}.conv2", second, 3, epsilon=DEFAULT_EPSILON, relu=True)


@dataclass(frozen=True)
class ResNetStem(Block):
    """7x7 stride-2 conv with BN and ReLU, then a 3x3 stride-2 max pool."""

    width: int
    kind: ClassVar[str] = "stem"

    def emit(self, builder: GraphBuilder, prefix: str, *inputs: str) -> str:
        """See base class."""
        value = conv_bn(
            builder, inputs[0], f"{prefix}.conv1", self.width, 7, stride=2, epsilon=DEFAULT_EPSILON, relu=True
        )
        return builder.add_op(ops.MaxPool((3, 3), (2, 2), (1, 1)), value, name=f"{prefix}.pool")[0]


@dataclass(frozen=True)
class Basic(Block):
    """Residual block of two 3x3 convs; ReLU after the add; 1x1 projection with BN and no ReLU where asked."""

    width: int
    stride: int
    projection: bool
    epsilon: float = DF_EPSILON
    kind: ClassVar[str] = "basic"

    def emit(self, builder: GraphBuilder, prefix: str, *inputs: str) -> str:
        """See base class."""
        value = conv_bn(
            builder,
            inputs[0],
            f"{prefix}.conv1",
            self.width,
            3,
            stride=self.stride,
            epsilon=self.epsilon,
            relu=True,
        )
        value = conv_bn(builder, value, f"{prefix}.conv2", self.width, 3, epsilon=self.epsilon, relu=False)
        return _add_shortcut(builder, prefix, value, inputs[0], self.width, self.stride, self.projection, self.epsilon)


@dataclass(frozen=True)
class Bottleneck(Block):
    """Residual block of 1x1, 3x3 and 1x1 convs; the stride is on the 3x3 (DF) or on the first 1x1 (ResNet v1)."""

    mid: int
    width: int
    stride: int
    projection: bool
    stride_in_first: bool = False
    epsilon: float = DF_EPSILON
    kind: ClassVar[str] = "bottleneck"

    def emit(self, builder: GraphBuilder, prefix: str, *inputs: str) -> str:
        """See base class."""
        first, second = (self.stride, 1) if self.stride_in_first else (1, self.stride)
        epsilon = self.epsilon
        value = conv_bn(builder, inputs[0], f"{prefix}.conv1", self.mid, 1, stride=first, epsilon=epsilon, relu=True)
        value = conv_bn(builder, value, f"{prefix}.conv2", self.mid, 3, stride=second, epsilon=epsilon, relu=True)
        value = conv_bn(builder, value, f"{prefix}.conv3", self.width, 1, epsilon=epsilon, relu=False)
        return _add_shortcut(builder, prefix, value, inputs[0], self.width, self.stride, self.projection, epsilon)


def _add_shortcut(
    builder: GraphBuilder,
    prefix: str,
    value: str,
    block_input: str,
    width: int,
    stride: int,
    projection: bool,
    epsilon: float,
) -> str:
    shortcut = block_input
    if projection:
        shortcut = conv_bn(
            builder, block_input, f"{prefix}.projection", width, 1, stride=stride, epsilon=epsilon, relu=False
        )
    return builder.relu(builder.add(value, shortcut, name=f"{prefix}.add"), name=f"{prefix}.relu")


@dataclass(frozen=True)
class ShuffleUnit(Block):
    """ShuffleNetV2 unit: half passes, half goes through 1x1, depthwise 3x3, 1x1; concat, then shuffle.

    Attributes:
        width: channels of input and output.
        form: how it is exported, one of ``unit_form``'s; the training form does not depend on it.
    """

    width: int
    form: int = PLAIN
    kind: ClassVar[str] = "shuffle_unit"

    @property
    def reads_halves(self) -> bool:
        """See base class."""
        return self.form != PLAIN

    @property
    def more(self) -> bool:
        """See base class."""
        return self.form == RESTORING

    def emit(self, builder: GraphBuilder, prefix: str, *inputs: str) -> str:
        """See base class."""
        half = self.width // 2
        passed, value = builder.split(inputs[0], (half, half), name=f"{prefix}.split")
        value = conv_bn(builder, value, f"{prefix}.conv1", half, 1, epsilon=DEFAULT_EPSILON, relu=True)
        value = depthwise_bn(builder, value, f"{prefix}.depthwise")
        value = conv_bn(builder, value, f"{prefix}.conv2", half, 1, epsilon=DEFAULT_EPSILON, relu=True)
        value = builder.concat(passed, value, name=f"{prefix}.concat")
        return builder.add_op(ops.ChannelShuffle(2), value, name=f"{prefix}.shuffle")[0]


@dataclass(frozen=True)
class ShuffleDown(Block):
    """ShuffleNetV2 down unit, stride 2: two branches of width/2 channels each; concat, then shuffle."""

    width: int
    kind: ClassVar[str] = "shuffle_down"

    def emit(self, builder: GraphBuilder, prefix: str, *inputs: str) -> str:
        """See base class."""
        half = self.width // 2
        left = depthwise_bn(builder, inputs[0], f"{prefix}.left.depthwise", stride=2)
        left = conv_bn(builder, left, f"{prefix}.left.conv", half, 1, epsilon=DEFAULT_EPSILON, relu=True)
        right = conv_bn(builder, inputs[0], f"{prefix}.right.conv1", half, 1, epsilon=DEFAULT_EPSILON, relu=True)
        right = depthwise_bn(builder, right, f"{prefix}.right.depthwise", stride=2)
        right = conv_bn(builder, right, f"{prefix}.right.conv2", half, 1, epsilon=DEFAULT_EPSILON, relu=True)
        value = builder.concat(left, right, name=f"{prefix}.concat")
        return builder.add_op(ops.ChannelShuffle(2), value, name=f"{prefix}.shuffle")[0]


@dataclass(frozen=True)
class PyramidPooling(Block):
    """Pyramid pooling over bins (rows, columns): pool, 1x1 conv, resize back, concat with the input, fuse.

    DF form (``separable`` False): align-corners resize, 3x3 fuse. PL1A form: half-pixel resize, fuse by depthwise
    3x3 (no ReLU) and 1x1.
    """

    bins: tuple[tuple[int, int], ...]
    branch_width: int
    width: int
    separable: bool
    kind: ClassVar[str] = "pyramid_pooling"

    def emit(self, builder: GraphBuilder, prefix: str, *inputs: str) -> str:
        """See base class."""
        epsilon = DEFAULT_EPSILON if self.separable else DF_EPSILON
        height, width = builder.shape(inputs[0])[2:]
        values = [inputs[0]]
        for number, window in enumerate(pyramid_windows(height, width, self.bins), 1):
            name = f"{prefix}.pool{number}"
            value = builder.average_pool(inputs[0], window, name=name)
            value = conv_bn(builder, value, f"{name}.conv", self.branch_width, 1, epsilon=epsilon, relu=True)
            value = builder.resize_bilinear(
                value, (height, width), align_corners=not self.separable, name=f"{name}.resize"
            )
            values.append(value)
        value = builder.concat(*values, name=f"{prefix}.concat")
        return _fuse(builder, value, prefix, self.width, epsilon, separable=self.separable)


def _fuse(builder: GraphBuilder, value: str, prefix: str, width: int, epsilon: float, *, separable: bool) -> str:
    if separable:
        value = depthwise_bn(builder, value, f"{prefix}.depthwise")
        return conv_bn(builder, value, f"{prefix}.fuse", width, 1, epsilon=epsilon, relu=True)
    return conv_bn(builder, value, f"{prefix}.fuse", width, 3, epsilon=epsilon, relu=True)


@dataclass(frozen=True)
class ChannelController(Block):
    """1x1 conv with BN and ReLU on a stage's last map: sets how many channels the decoder sees."""

    width: int
    epsilon: float = DF_EPSILON
    kind: ClassVar[str] = "channel_controller"

    def emit(self, builder: GraphBuilder, prefix: str, *inputs: str) -> str:
        """See base class."""
        return conv_bn(builder, inputs[0], f"{prefix}.conv", self.width, 1, epsilon=self.epsilon, relu=True)


@dataclass(frozen=True)
class FusionNode(Block):
    """Takes a controller's map and the deeper node's map: project, upsample by 2, concat, fuse.

    DF form: 3x3 fuse. PL1A form (``separable``): depthwise 3x3 (no ReLU) and 1x1.
    """

    width: int
    separable: bool
    kind: ClassVar[str] = "fusion_node"

    def emit(self, builder: GraphBuilder, prefix: str, *inputs: str) -> str:
        """See base class."""
        controller, deeper = inputs
        epsilon = DEFAULT_EPSILON if self.separable else DF_EPSILON
        value = conv_bn(builder, deeper, f"{prefix}.projection", self.width, 1, epsilon=epsilon, relu=True)
        value = builder.bilinear_upsample(value, 2, name=f"{prefix}.upsample")
        value = builder.concat(controller, value, name=f"{prefix}.concat")
        return _fuse(builder, value, prefix, self.width, epsilon, separable=self.separable)


@dataclass(frozen=True)
class ScoreHead(Block):
    """3x3 conv to the classes (DF: with BN, PL1A: with bias), then a fixed bilinear upsampling by ``scale``."""

    classes: int
    scale: int
    batch_norm: bool
    kind: ClassVar[str] = "score_head"

    def emit(self, builder: GraphBuilder, prefix: str, *inputs: str) -> str:
        """See base class."""
        if self.batch_norm:
            value = conv_bn(builder, inputs[0], f"{prefix}.conv", self.classes, 3, epsilon=DF_EPSILON, relu=False)
        else:
            value = builder.conv(inputs[0], self.classes, 3, padding=1, bias=True, name=f"{prefix}.conv")
        if self.scale > 1:
            value = builder.bilinear_upsample(value, self.scale, name=f"{prefix}.upsample")
        return value


@dataclass(frozen=True)
class ClassifierHead(Block):
    """Global average pool and a fully connected layer with bias."""

    classes: int
    kind: ClassVar[str] = "classifier_head"

    def emit(self, builder: GraphBuilder, prefix: str, *inputs: str) -> str:
        """See base class."""
        value = builder.add_op(ops.GlobalAveragePool(), inputs[0], name=f"{prefix}.pool")[0]
        return builder.add_op(ops.FullyConnected(self.classes), value, name=f"{prefix}.fc")[0]
