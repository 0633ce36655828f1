"""The partial order of architectures (Li et al., CVPR 2019, section 3.2).

x ≺ y when in each stage x has no more blocks than y and no block wider than y's block at the same place. Here the
order is reflexive: x ≺ x.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.encoding import Architecture

Widths = tuple[int, ...]


def list_precedes(left: Widths, right: Widths) -> bool:
    """Return whether one stage's list of widths precedes another's."""
    return len(left) <= len(right) and all(a <= b for a, b in zip(left, right, strict=False))


def precedes(left: Architecture, right: Architecture) -> bool:
    """Return whether ``left`` ≺ ``right``.

    Architectures that differ in anything but block widths, depths and controller widths are not comparable.
    """
    if (left.family, left.stem, left.classes, left.in_channels) != (
        right.family,
        right.stem,
        right.classes,
        right.in_channels,
    ):
        return False
    if left.decoder is None or right.decoder is None:
        if left.decoder is not right.decoder:
            return False
    elif left.decoder.output_stride != right.decoder.output_stride or any(
        a > b for a, b in zip(left.decoder.controllers, right.decoder.controllers, strict=True)
    ):
        return False
    return all(list_precedes(a.widths, b.widths) for a, b in zip(left.stages, right.stages, strict=True))


def order_matrix(lists: Sequence[Widths]) -> npt.NDArray[np.bool_]:
    """Return ``[lists, lists]``: whether list a (row) precedes list b (column).

    Lists are padded with zeros: where a is longer than b, a positive width meets b's zero and the test fails, so
    comparing element by element covers the depths too.
    """
    depth = max(len(widths) for widths in lists)
    # Widths are compared only with each other: their ranks fit a byte.
    ranks = {width: rank for rank, width in enumerate(sorted({width for widths in lists for width in widths}), 1)}
    padded = np.zeros((len(lists), depth), np.uint16)
    for row, widths in enumerate(lists):
        padded[row, : len(widths)] = [ranks[width] for width in widths]
    order = np.ones((len(lists), len(lists)), np.bool_)
    for position in range(depth):
        column = padded[:, position]
        order &= column[:, None] <= column[None, :]
    return order
