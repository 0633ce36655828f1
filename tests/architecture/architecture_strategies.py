"""Hypothesis strategies: any architecture of any family."""

from __future__ import annotations

from hypothesis import strategies as st

from dfmobile.architecture import Architecture, Decoder, Stage
from dfmobile.architecture.encoding import FAMILIES

KINDS = {
    "df": ("basic", "basic", "basic"),
    "dfb": ("basic", "bottleneck", "bottleneck"),
    "shuffle": ("shuffle", "shuffle", "shuffle"),
    "resnet": ("basic",) * 4,
    "resnetb": ("bottleneck",) * 4,
}


@st.composite
def architectures(
    draw: st.DrawFn, *, max_width: int = 8192, max_depth: int = 5, families: tuple[str, ...] = FAMILIES
) -> Architecture:
    """Draw an architecture."""
    family = draw(st.sampled_from(families))
    kinds = KINDS[family]
    depths = [draw(st.integers(1, max_depth)) for _ in kinds]
    if family == "shuffle":
        halves = sorted(draw(st.integers(1, max_width // 2)) for _ in kinds)
        lists = [(2 * half,) * depth for half, depth in zip(halves, depths, strict=True)]
    else:
        chain = sorted(draw(st.integers(1, max_width)) for _ in range(sum(depths)))
        lists = [tuple(chain.pop(0) for _ in range(depth)) for depth in depths]
    conv = st.tuples(st.integers(1, max_width), st.sampled_from((1, 2)))
    if family.startswith("resnet"):
        stem: tuple[tuple[int, int], ...] = ((64, 4),)
    elif family == "shuffle":
        stem = draw(st.one_of(st.just(((8, 2), (24, 2))), st.tuples(conv, conv)))
    else:
        stem = draw(st.one_of(st.just(((32, 2), (64, 2))), st.lists(conv, min_size=1, max_size=4).map(tuple)))
    decoder = None
    if not family.startswith("resnet") and draw(st.booleans()):
        decoder_stride = 2
        for _, stride in stem:
            decoder_stride *= stride
        output_stride = draw(st.sampled_from([stride for stride in (1, 2, 4, 8) if decoder_stride % stride == 0]))
        width = st.integers(1, max_width)
        decoder = Decoder(draw(st.tuples(width, width, width)), output_stride)
    stages = tuple(Stage(kind, widths) for kind, widths in zip(kinds, lists, strict=True))
    classes = draw(st.sampled_from((1000, 19, 1, 10, 100_000)))
    return Architecture(family, stages, stem, decoder, classes, draw(st.sampled_from((3, 1, 4, 64))))
