"""An architecture at an input size: its blocks with their LUT keys, and one op graph for the whole."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

from dfmobile.architecture import blocks
from dfmobile.architecture.blocks import Block
from dfmobile.architecture.encoding import Architecture
from dfmobile.architecture.pyramid import DF_BINS, PL1A_BINS
from dfmobile.errors import InputError
from dfmobile.graph import Graph, GraphBuilder, Shape, cost
from dfmobile.graph.exported import exported_form

IMAGE = "image"
MAX_EXTENT = 8192
BOTTLENECK_EXPANSION = 4
DF_BOTTLENECK_MAX_WIDTH = 1024
# Every published DF-Seg has these literals, whatever its backbone's last width.
DF_PYRAMID_BRANCH, DF_PYRAMID_WIDTH = 128, 512


@lru_cache(maxsize=65536)
def _training_graph(block: Block, input_shapes: tuple[Shape, ...]) -> Graph:
    builder = GraphBuilder()
    inputs = [builder.input(f"input{number}", shape) for number, shape in enumerate(input_shapes)]
    return builder.build(block.emit(builder, "block", *inputs))


@lru_cache(maxsize=65536)
def _exported_graph(block: Block, input_shapes: tuple[Shape, ...]) -> Graph:
    graph = _training_graph(block, input_shapes)
    from_halves = [name for name, _ in graph.inputs] if block.reads_halves else []
    return exported_form(graph, from_halves=from_halves, more=graph.outputs if block.more else (), any_order=True).graph


@lru_cache(maxsize=65536)
def _macs(block: Block, input_shapes: tuple[Shape, ...]) -> int:
    return cost.macs(_training_graph(block, input_shapes))


@dataclass(frozen=True)
class PlacedBlock:
    """A block with the shapes that feed it.

    Attributes:
        name: where it stands, e.g. ``stage3.block1``.
        block: what it is.
        sources: names of the blocks (or ``image``) that feed it.
        input_shapes: ``[N, C, H, W]`` of each.
    """

    name: str
    block: Block
    sources: tuple[str, ...]
    input_shapes: tuple[Shape, ...]

    @cached_property
    def kind(self) -> str:
        """Kind of block, e.g. ``basic``."""
        return self.block.kind

    @cached_property
    def graph(self) -> Graph:
        """The block alone in its exported form, as inside a network; inputs are ``input0``, ``input1`` and so on."""
        return _exported_graph(self.block, self.input_shapes)

    @cached_property
    def key(self) -> str:
        """LUT key: canonical text of the exported graph."""
        return self.graph.key

    @property
    def digest(self) -> str:
        """Short name of the key, 12 hexadecimal digits."""
        return self.graph.digest

    @property
    def output_shape(self) -> Shape:
        """Shape that the block returns."""
        return self.graph.shapes[self.graph.outputs[0]]

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        return _macs(self.block, self.input_shapes)

    @property
    def params(self) -> int:
        """Trainable parameters of the training form."""
        return cost.params(_training_graph(self.block, self.input_shapes))

    @property
    def text(self) -> str:
        """A line for people: kind, shapes, short key."""
        inputs = " + ".join("x".join(str(extent) for extent in shape[1:]) for shape in self.input_shapes)
        output = "x".join(str(extent) for extent in self.output_shape[1:])
        return f"{self.kind} {inputs} -> {output} ({self.digest})"


# Networks of one space share most of their blocks, and with them what a block has worked out once: key, graph, kind.
_placed = lru_cache(maxsize=65536)(PlacedBlock)


@dataclass(frozen=True)
class Network:
    """An architecture at an input size.

    Attributes:
        architecture: what it encodes.
        width: of the image, pixels.
        height: of the image, pixels.
        batch: images at once.
        blocks: in execution order.
    """

    architecture: Architecture
    width: int
    height: int
    batch: int
    blocks: tuple[PlacedBlock, ...]

    @cached_property
    def graph(self) -> Graph:
        """The whole in its training form; input value ``image`` ``[N, C, H, W]``.

        Made when it is first asked for: predicting a network needs its blocks' keys only.
        """
        builder = GraphBuilder()
        values = {IMAGE: builder.input(IMAGE, self.input_shape)}
        for placed in self.blocks:
            inputs = [values[source] for source in placed.sources]
            values[placed.name] = placed.block.emit(builder, placed.name, *inputs)
        return builder.build(values[self.blocks[-1].name])

    @cached_property
    def keys(self) -> tuple[str, ...]:
        """LUT keys of the blocks, in execution order."""
        return tuple(block.key for block in self.blocks)

    @property
    def input_shape(self) -> Shape:
        """``[N, C, H, W]``."""
        return self.batch, self.architecture.in_channels, self.height, self.width

    @property
    def output_shape(self) -> Shape:
        """``[N, classes]`` or ``[N, classes, H, W]``."""
        return self.blocks[-1].output_shape

    @cached_property
    def cost(self) -> cost.Cost:
        """MACs, parameters and bytes."""
        return cost.cost(self.graph)


def plan(architecture: Architecture) -> Iterator[tuple[str, Block, tuple[str, ...]]]:
    """Yield name, block and sources of each block, in execution order."""
    family = architecture.family
    if family.startswith("resnet"):
        yield "stem", blocks.ResNetStem(architecture.stem[0][0]), (IMAGE,)
    elif family == "shuffle":
        yield "stem", blocks.SeparableStem(architecture.stem), (IMAGE,)
    else:
        yield "stem", blocks.Stem(architecture.stem), (IMAGE,)
    previous = "stem"
    last_of_stage = {}
    first_stage = 2 if family.startswith("resnet") else 3
    channels = architecture.stem[-1][0]
    for number, stage in enumerate(architecture.stages, first_stage):
        width_before = None
        for position, width in enumerate(stage.widths, 1):
            block, channels = residual_block(
                family,
                stage.kind,
                width,
                width_before,
                channels,
                position=position,
                last=position == len(stage.widths),
                stage=number,
            )
            name = f"stage{number}.block{position}"
            yield name, block, (previous,)
            previous, width_before = name, width
        last_of_stage[number] = previous
    if architecture.decoder is None:
        yield "head", blocks.ClassifierHead(architecture.classes), (previous,)
        return
    yield from _decoder_plan(architecture, last_of_stage, channels)


def residual_block(
    family: str,
    kind: str,
    width: int,
    width_before: int | None,
    channels: int,
    *,
    position: int,
    last: bool,
    stage: int,
) -> tuple[Block, int]:
    """Return a stage's block and the channels it makes.

    Args:
        family: of the architecture.
        kind: of the stage.
        width: of the block (bottleneck: mid width).
        width_before: width of the block before it in the same stage; None for the first.
        channels: of the map that feeds it.
        position: in its stage; the first has stride 2, but stride 1 in a ResNet's stage 2.
        last: whether it is the stage's last block.
        stage: its number.
    """
    resnet, first = family.startswith("resnet"), position == 1
    stride = 2 if first and not (resnet and stage == 2) else 1
    if kind == "shuffle":
        form = blocks.unit_form(width, position, last=last)
        return (blocks.ShuffleDown(width) if first else blocks.ShuffleUnit(width, form)), width
    out = width
    if kind == "bottleneck":
        out = BOTTLENECK_EXPANSION * width
        if not resnet:
            out = min(out, DF_BOTTLENECK_MAX_WIDTH)
    # DF projects in the first block of a stage and wherever the (mid) width changes; ResNet where the shape does.
    projection = (stride != 1 or channels != out) if resnet else (first or width != width_before)
    epsilon = blocks.DEFAULT_EPSILON if resnet else blocks.DF_EPSILON
    if kind == "basic":
        return blocks.Basic(width, stride, projection, epsilon), out
    return blocks.Bottleneck(width, out, stride, projection, stride_in_first=resnet, epsilon=epsilon), out


def _decoder_plan(
    architecture: Architecture, last_of_stage: dict[int, str], channels: int
) -> Iterator[tuple[str, Block, tuple[str, ...]]]:
    decoder = architecture.decoder
    assert decoder is not None  # noqa: S101  (the caller checked)
    separable = architecture.family == "shuffle"
    epsilon = blocks.DEFAULT_EPSILON if separable else blocks.DF_EPSILON
    if separable:
        pyramid = blocks.PyramidPooling(PL1A_BINS, max(1, channels // 4), channels, separable=True)
    else:
        pyramid = blocks.PyramidPooling(DF_BINS, DF_PYRAMID_BRANCH, DF_PYRAMID_WIDTH, separable=False)
    yield "pyramid", pyramid, (last_of_stage[5],)
    width3, width4, width5 = decoder.controllers
    yield "controller3", blocks.ChannelController(width3, epsilon), (last_of_stage[3],)
    yield "controller4", blocks.ChannelController(width4, epsilon), (last_of_stage[4],)
    yield "controller5", blocks.ChannelController(width5, epsilon), ("pyramid",)
    yield "fusion4", blocks.FusionNode(width4, separable), ("controller4", "controller5")
    yield "fusion3", blocks.FusionNode(width3, separable), ("controller3", "fusion4")
    scale = architecture.decoder_stride // decoder.output_stride
    yield "score", blocks.ScoreHead(architecture.classes, scale, batch_norm=not separable), ("fusion3",)


def check_input(architecture: Architecture, width: int, height: int) -> None:
    """Refuse an input size that the architecture cannot take.

    Raises:
        InputError: if it is not a positive multiple of the total stride, or absurdly large.
    """
    if max(width, height) > MAX_EXTENT:
        raise InputError(f"the input is larger than {MAX_EXTENT} pixels a side")
    stride = architecture.total_stride
    if width < 1 or height < 1 or width % stride or height % stride:
        good = (max(1, round(width / stride)) * stride, max(1, round(height / stride)) * stride)
        raise InputError(
            f"input {width}x{height} (width x height) is not a multiple of {stride}",
            hint=f"the nearest that fits is {good[0]}x{good[1]}",
        )


def build(architecture: Architecture, width: int, height: int, batch: int = 1) -> Network:
    """Build an architecture at an input size.

    Args:
        architecture: the encoded network.
        width: of the image, pixels.
        height: of the image, pixels.
        batch: images at once.

    Raises:
        InputError: if the size is not a multiple of the architecture's total stride.
    """
    check_input(architecture, width, height)
    shapes: dict[str, Shape] = {IMAGE: (batch, architecture.in_channels, height, width)}
    placed = []
    for name, block, sources in plan(architecture):
        here = _placed(name, block, sources, tuple([shapes[source] for source in sources]))
        shapes[name] = here.output_shape
        placed.append(here)
    return Network(architecture, width, height, batch, tuple(placed))
