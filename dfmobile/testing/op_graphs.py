"""Small op graphs for tests of exporters and runtimes: a table of every op, and hypothesis strategies."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import assume
from hypothesis import strategies as st

from dfmobile.errors import GraphError
from dfmobile.graph import Graph, GraphBuilder, Shape, ops
from dfmobile.graph.ops import Op, Pair

EVEN: Shape = (1, 8, 10, 12)
ODD: Shape = (2, 6, 11, 7)


def op_graph(op: Op, shape: Shape, inputs: int = 1) -> Graph:
    """Return a graph of one op, all of whose inputs have one shape.

    Raises:
        GraphError: if the op does not take that shape.
    """
    builder = GraphBuilder()
    values = [builder.input(f"input{position}", shape) for position in range(inputs)]
    return builder.build(*builder.add_op(op, *values))


def _cases() -> dict[str, Graph]:
    found = {}
    for label, shape in (("even", EVEN), ("odd", ODD)):
        channels = shape[1]
        one_input: dict[str, Op] = {
            "conv 3x3": ops.Conv(5, (3, 3), (1, 1), (1, 1)),
            "conv 3x3 stride 2": ops.Conv(5, (3, 3), (2, 2), (1, 1), bias=True),
            "conv 3x3 stride 2 without padding": ops.Conv(5, (3, 3), (2, 2)),
            "conv 1x1": ops.Conv(7, (1, 1), bias=True),
            "conv 1x1 stride 2": ops.Conv(7, (1, 1), (2, 2)),
            "conv 7x7 stride 2": ops.Conv(4, (7, 7), (2, 2), (3, 3)),
            "conv 5x3 stride 2x1": ops.Conv(4, (5, 3), (2, 1), (2, 0)),
            "depthwise conv 3x3": ops.DepthwiseConv((3, 3), (1, 1), (1, 1)),
            "depthwise conv 3x3 stride 2": ops.DepthwiseConv((3, 3), (2, 2), (1, 1), bias=True),
            "transposed conv 4x4 stride 2": ops.TransposedConv(5, (4, 4), (2, 2), (1, 1), bias=True),
            "transposed conv 3x3 stride 2": ops.TransposedConv(5, (3, 3), (2, 2), (1, 1)),
            "transposed conv 5x5 stride 2 cropped": ops.TransposedConv(5, (5, 5), (2, 2), (1, 1)),
            "transposed conv 2x2 stride 2": ops.TransposedConv(5, (2, 2), (2, 2)),
            "transposed conv 1x1 stride 2": ops.TransposedConv(5, (1, 1), (2, 2)),
            "depthwise transposed conv 4x4 stride 2": ops.TransposedConv(
                channels, (4, 4), (2, 2), (1, 1), bias=True, depthwise=True
            ),
            "depthwise transposed conv 3x3 stride 3 cropped": ops.TransposedConv(
                channels, (3, 3), (3, 3), (1, 1), depthwise=True
            ),
            "bilinear upsample 2": ops.BilinearUpsample(2),
            "bilinear upsample 4": ops.BilinearUpsample(4),
            "batch norm": ops.BatchNorm(1e-4),
            "relu": ops.Relu(),
            "relu6": ops.Relu6(),
            "split equal": ops.Split((channels // 2, channels // 2)),
            "split unequal": ops.Split((1, 2, channels - 3)),
            "split into singles": ops.Split((1,) * channels),
            "channel shuffle": ops.ChannelShuffle(2),
            "max pool 3x3 stride 2": ops.MaxPool((3, 3), (2, 2), (1, 1)),
            "max pool 2x2": ops.MaxPool((2, 2), (2, 2)),
            "average pool 3x2": ops.AveragePool((3, 2), (3, 2)),
            "average pool 3x3 stride 1": ops.AveragePool((3, 3), (1, 1)),
            "global average pool": ops.GlobalAveragePool(),
            "resize up, half pixel": ops.ResizeBilinear((23, 24)),
            "resize down, half pixel": ops.ResizeBilinear((5, 3)),
            "resize up, align corners": ops.ResizeBilinear((23, 24), align_corners=True),
            "resize down, align corners": ops.ResizeBilinear((5, 1), align_corners=True),
            "pad": ops.Pad((1, 0, 2, 3)),
            "softmax": ops.Softmax(),
            "argmax": ops.ArgMax(),
        }
        for name, op in one_input.items():
            found[f"{name}, {label}"] = op_graph(op, shape)
        found[f"add, {label}"] = op_graph(ops.Add(), shape, inputs=2)
        found[f"concat of 3, {label}"] = op_graph(ops.Concat(), shape, inputs=3)
        found[f"concat of 7, {label}"] = op_graph(ops.Concat(), shape, inputs=7)
    found["resize from one pixel, half pixel"] = op_graph(ops.ResizeBilinear((4, 6)), (1, 3, 1, 1))
    found["resize from one pixel, align corners"] = op_graph(ops.ResizeBilinear((4, 6), True), (1, 3, 1, 1))
    found["fully connected on a map"] = op_graph(ops.FullyConnected(5), (2, 8, 1, 1))
    found["fully connected without bias"] = op_graph(ops.FullyConnected(5, bias=False), (2, 8))
    found["softmax of scores"] = op_graph(ops.Softmax(), (2, 9))
    found["argmax of scores"] = op_graph(ops.ArgMax(), (2, 9))
    return found


OP_CASES: dict[str, Graph] = _cases()
"""One graph for each op and each of its forms, by what it shows, on even and odd maps."""


def residual_block(shape: Shape = (1, 6, 9, 8), stride: int = 2) -> Graph:
    """Return a residual block with a projection, in training form."""
    builder = GraphBuilder()
    x = builder.input("x", shape)
    y = builder.conv(x, 10, 3, stride=stride, padding=1, name="block.conv1")
    y = builder.relu(builder.batch_norm(y, 1e-4, "block.bn1"))
    y = builder.batch_norm(builder.conv(y, 10, 3, padding=1, name="block.conv2"), 1e-4, "block.bn2")
    shortcut = builder.batch_norm(builder.conv(x, 10, 1, stride=stride, name="block.projection"), 1e-4)
    return builder.build(builder.relu(builder.add(y, shortcut)))


def shuffle_unit(shape: Shape = (1, 8, 6, 10)) -> Graph:
    """Return a shuffle unit: split, three convs on one half, concat, shuffle."""
    builder = GraphBuilder()
    x = builder.input("x", shape)
    kept, y = builder.split(x, (shape[1] // 2, shape[1] // 2))
    y = builder.relu(builder.batch_norm(builder.conv(y, shape[1] // 2, 1), 1e-5))
    y = builder.batch_norm(builder.depthwise_conv(y, 3, padding=1), 1e-5)
    y = builder.relu(builder.batch_norm(builder.conv(y, shape[1] // 2, 1), 1e-5))
    return builder.build(builder.add_op(ops.ChannelShuffle(2), builder.concat(kept, y))[0])


def unfusable_graph(shape: Shape = (1, 4, 8, 8)) -> Graph:
    """Return a graph whose convs must not fuse what follows: it is read twice, or returned as it is.

    Its batch norms stand after an add and before a conv, so they do not fold either.
    """
    builder = GraphBuilder()
    x = builder.input("x", shape)
    twice = builder.conv(x, 4, 3, padding=1, bias=True)
    activated = builder.relu(twice)
    returned = builder.conv(activated, 4, 1)
    y = builder.add_op(ops.Relu6(), returned)[0]
    y = builder.batch_norm(builder.add(y, twice), 1e-3)
    return builder.build(builder.relu(builder.conv(y, 3, 3)), returned)


NETWORK_CASES: dict[str, Callable[[], Graph]] = {
    "residual block": residual_block,
    "residual block, stride 1": lambda: residual_block(stride=1),
    "shuffle unit": shuffle_unit,
    "graph that must not be fused": unfusable_graph,
}
"""Small graphs of several ops."""


def _pairs(low: int, high: int) -> st.SearchStrategy[Pair]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


def _operations(channels: int) -> st.SearchStrategy[Op]:
    kernel, stride, padding = _pairs(1, 5), _pairs(1, 3), _pairs(0, 2)
    out = st.integers(1, 9)
    return st.one_of(
        st.builds(ops.Conv, out, kernel, stride, padding, st.booleans()),
        st.builds(ops.DepthwiseConv, kernel, stride, padding, st.booleans()),
        st.builds(ops.TransposedConv, out, kernel, stride, padding, st.booleans()),
        st.builds(ops.TransposedConv, st.just(channels), kernel, stride, padding, st.booleans(), st.just(True)),
        st.builds(ops.BilinearUpsample, st.sampled_from([2, 4, 6])),
        st.builds(ops.MaxPool, kernel, stride, padding),
        st.builds(ops.AveragePool, kernel, stride),
        st.builds(ops.ResizeBilinear, _pairs(1, 20), st.booleans()),
        st.builds(ops.Pad, st.tuples(*[st.integers(0, 3)] * 4)),
    )


@st.composite
def window_op_graphs(draw: st.DrawFn) -> Graph:
    """Draw one op that has a window or a size, on a map of any small shape."""
    shape = (draw(st.integers(1, 2)), draw(st.integers(1, 7)), draw(st.integers(1, 12)), draw(st.integers(1, 12)))
    op = draw(_operations(shape[1]))
    try:
        return op_graph(op, shape)
    except GraphError:
        assume(False)
        raise


@st.composite
def small_networks(draw: st.DrawFn) -> Graph:
    """Draw a graph of up to eight steps on maps of one size: convs, norms, activations, adds, concats, shuffles."""
    builder = GraphBuilder()
    height, width = draw(st.integers(2, 6)), draw(st.integers(2, 6))
    values = [builder.input("x", (1, 4, height, width))]
    for _ in range(draw(st.integers(1, 8))):
        value = draw(st.sampled_from(values))
        channels = builder.shape(value)[1]
        step = draw(st.sampled_from(["conv", "conv bn", "depthwise", "bn", "relu", "relu6", "add", "concat", "split"]))
        if step in ("conv", "conv bn"):
            made = [builder.conv(value, draw(st.sampled_from([2, 4])), 3, padding=1, bias=draw(st.booleans()))]
            if step == "conv bn":
                made = [builder.batch_norm(made[0], 1e-3)]
        elif step == "depthwise":
            made = [builder.depthwise_conv(value, 3, padding=1)]
        elif step == "bn":
            made = [builder.batch_norm(value, 1e-3)]
        elif step in ("relu", "relu6"):
            made = [builder.add_op(ops.Relu() if step == "relu" else ops.Relu6(), value)[0]]
        elif step == "add":
            alike = [item for item in values if builder.shape(item) == builder.shape(value)]
            made = [builder.add(value, draw(st.sampled_from(alike)))]
        elif step == "concat":
            made = [builder.concat(value, draw(st.sampled_from(values)))]
        elif channels > 1:
            made = list(builder.split(value, (1, channels - 1)))
        else:
            made = [builder.relu(value)]
        values += made
    # Return everything that nothing reads, so that no op is dead.
    read = {name for node in builder.nodes for name in node.inputs}
    return builder.build(*[name for name in values if name not in read and name != "x"])
