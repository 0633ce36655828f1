"""Shapes, parameters and multiply-accumulates of every op, and what ops refuse."""

from __future__ import annotations

import pytest

from dfmobile.errors import GraphError
from dfmobile.graph import ops
from dfmobile.graph.ops import Op, Shape
from dfmobile.testing.op_graphs import EVEN, ODD

SHAPES: list[tuple[Op, Shape, tuple[Shape, ...]]] = [
    (ops.Conv(5, (3, 3), (2, 2), (1, 1)), EVEN, ((1, 5, 5, 6),)),
    (ops.Conv(5, (3, 3), (2, 2), (1, 1)), ODD, ((2, 5, 6, 4),)),
    (ops.Conv(5, (3, 1), (1, 2)), EVEN, ((1, 5, 8, 6),)),
    (ops.DepthwiseConv((3, 3), (2, 2)), EVEN, ((1, 8, 4, 5),)),
    (ops.TransposedConv(3, (4, 4), (2, 2), (1, 1)), EVEN, ((1, 3, 20, 24),)),
    (ops.TransposedConv(3, (3, 2), (2, 1)), EVEN, ((1, 3, 21, 13),)),
    (ops.BilinearUpsample(4), EVEN, ((1, 8, 40, 48),)),
    (ops.BatchNorm(1e-5), ODD, (ODD,)),
    (ops.Concat(), EVEN, ((1, 16, 10, 12),)),
    (ops.Split((1, 7)), EVEN, ((1, 1, 10, 12), (1, 7, 10, 12))),
    (ops.ChannelShuffle(4), EVEN, (EVEN,)),
    (ops.MaxPool((3, 3), (2, 2), (1, 1)), ODD, ((2, 6, 6, 4),)),
    (ops.AveragePool((5, 4), (5, 4)), EVEN, ((1, 8, 2, 3),)),
    (ops.GlobalAveragePool(), ODD, ((2, 6, 1, 1),)),
    (ops.ResizeBilinear((3, 40)), ODD, ((2, 6, 3, 40),)),
    (ops.Pad((1, 2, 3, 4)), EVEN, ((1, 8, 13, 19),)),
    (ops.FullyConnected(9), (2, 6, 1, 1), ((2, 9),)),
    (ops.FullyConnected(9), (2, 6), ((2, 9),)),
    (ops.ArgMax(), EVEN, ((1, 1, 10, 12),)),
    (ops.ArgMax(), (2, 6), ((2, 1),)),
]


@pytest.mark.parametrize(("op", "shape", "expected"), SHAPES, ids=lambda item: getattr(item, "kind", None))
def test_output_shapes(op: Op, shape: Shape, expected: tuple[Shape, ...]) -> None:
    assert op.infer((shape,) * (2 if op.arity is None else 1)) == expected


# (op, input shape, parameters, multiply-accumulates), counted by hand.
COSTS: list[tuple[Op, Shape, int, int]] = [
    (ops.Conv(5, (3, 3), (2, 2), (1, 1)), EVEN, 5 * 8 * 9, 5 * 6 * 5 * 8 * 9),
    (ops.Conv(5, (1, 1), bias=True), EVEN, 5 * 8 + 5, 120 * 5 * 8),
    (ops.DepthwiseConv((3, 3), (1, 1), (1, 1), bias=True), EVEN, 8 * 9 + 8, 120 * 8 * 9),
    (ops.TransposedConv(3, (4, 4), (2, 2), (1, 1)), EVEN, 8 * 3 * 16, 120 * 8 * 3 * 16),
    (ops.TransposedConv(8, (4, 4), (2, 2), (1, 1), depthwise=True), EVEN, 8 * 16, 120 * 8 * 16),
    (ops.BilinearUpsample(2), EVEN, 0, 120 * 8 * 16),  # those of the transposed conv with its 4x4 kernel
    (ops.BatchNorm(1e-5), EVEN, 4 * 8, 0),
    (ops.FullyConnected(9), (2, 6), 9 * 6 + 9, 2 * 9 * 6),
    (ops.MaxPool((3, 3), (2, 2)), EVEN, 0, 0),
    (ops.Relu(), EVEN, 0, 0),
]


@pytest.mark.parametrize(("op", "shape", "parameters", "macs"), COSTS, ids=lambda item: getattr(item, "kind", None))
def test_parameters_and_macs(op: Op, shape: Shape, parameters: int, macs: int) -> None:
    assert sum(item.size for item in op.parameters((shape,)).values()) == parameters
    assert op.macs((shape,), op.infer((shape,))) == macs


def test_moving_statistics_are_not_trainable() -> None:
    roles = ops.BatchNorm(1e-5).parameters((EVEN,))
    assert {role for role, item in roles.items() if item.trainable} == {"scale", "shift"}


REFUSED: list[tuple[Op, tuple[Shape, ...], str]] = [
    (ops.Conv(5, (11, 11)), (EVEN,), "does not fit"),
    (ops.Conv(5, (3, 3), (0, 1)), (EVEN,), "make no window"),
    (ops.Conv(5, (3, 3), padding=(-1, 0)), (EVEN,), "make no window"),
    (ops.Conv(0, (3, 3)), (EVEN,), "into 0 channels"),
    (ops.Conv(5, (3, 3)), ((2, 6),), r"takes a tensor \[N, C, H, W\]"),
    (ops.TransposedConv(5, (4, 4), (2, 2), depthwise=True), (EVEN,), "keeps its 8 channels"),
    (ops.TransposedConv(5, (2, 2), (1, 1), (6, 6)), (EVEN,), "leaves nothing"),
    (ops.TransposedConv(5, (2, 2), (0, 1)), (EVEN,), "make no window"),
    (ops.BilinearUpsample(3), (EVEN,), "even scale"),
    (ops.BilinearUpsample(0), (EVEN,), "even scale"),
    (ops.Add(), (EVEN, ODD), "equal shapes"),
    (ops.Concat(), (EVEN, ODD), "maps of one size"),
    (ops.Concat(), (EVEN, (1, 8)), "maps of one size"),
    (ops.Split((4, 5)), (EVEN,), "does not fit 8 channels"),
    (ops.Split((8,)), (EVEN,), "does not fit"),
    (ops.Split((9, -1)), (EVEN,), "does not fit"),
    (ops.ChannelShuffle(3), (EVEN,), "do not divide"),
    (ops.MaxPool((3, 3), (2, 2), (2, 2)), (EVEN,), "more than half"),
    (ops.AveragePool((3, 3), (2, 2), (1, 1)), (EVEN,), "takes no padding"),
    (ops.ResizeBilinear((0, 4)), (EVEN,), "resize_bilinear to"),
    (ops.Pad((0, -1, 0, 0)), (EVEN,), "pad by"),
    (ops.FullyConnected(4), (EVEN,), "takes"),
    (ops.FullyConnected(0), ((2, 6),), "into 0 features"),
]


@pytest.mark.parametrize(("op", "shapes", "reason"), REFUSED, ids=lambda item: getattr(item, "kind", None))
def test_what_does_not_fit_is_refused(op: Op, shapes: tuple[Shape, ...], reason: str) -> None:
    with pytest.raises(GraphError, match=reason):
        op.infer(shapes)


def test_text_has_every_attribute() -> None:
    assert ops.Conv(5, (3, 1), (2, 2), (1, 0), True).text() == (
        "conv(out_channels=5,kernel=3x1,stride=2x2,padding=1x0,bias=1)"
    )
    assert ops.BatchNorm(1e-4).text() == "batch_norm(epsilon=0.0001)"
    assert ops.Relu().text() == "relu"
