"""Features of architectures that never fall along the partial order: what a monotone surrogate is made of.

A function with non-negative weights on such features never falls along the order either, whatever the weights.
"""

from __future__ import annotations

import itertools

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.spaces import SearchSpace
from dfmobile.architecture.spaces.chains import ChainSpace

Array = npt.NDArray[np.float64]


def column_coordinates(space: SearchSpace, column: int) -> Array:
    """Return numbers of each id of a column that never fall along the column's order, ``[ids, C]``, each from 0.

    A stage's list of widths has, for each width to choose from, the number of blocks at least that wide: the first
    is the depth. Any other column has the length of the longest chain below an id.

    Args:
        space: the search space.
        column: index in ``space.columns``.

    Raises:
        InputError: if the space is too large for it.
    """
    if isinstance(space, ChainSpace) and column < len(space.stages):
        least = np.array(space.widths)
        return np.array([(np.array(widths)[:, None] >= least).sum(0) for widths in space.lists], np.float64)
    order = np.array(space.stage_order(column))
    np.fill_diagonal(order, False)
    height = np.zeros(len(order))
    for _ in range(len(order)):  # longest paths: one more step of the order each time, until nothing grows
        grown = np.where(order, height[:, None] + 1.0, 0.0).max(axis=0)
        if (grown <= height).all():
            break
        height = np.maximum(height, grown)
    return height[:, None]


_HALVES = (0.1, 0.3, 1.0)  # where a form that levels off has half of what it would reach


class MonotoneFeatures:
    """Turns rows of a space into features in [0, 1] that never fall along the order.

    For each column: its coordinates (``column_coordinates``) as they are, with falling returns (logarithm), and as
    "at least one"; their mean and its logarithm. Over the columns: the least and the mean of these means, and for
    each pair the lesser and the geometric mean. The pairs say what sums cannot: a wide stage helps little beside a
    narrow one. Of the mean also forms that level off early: accuracy does.

    Args:
        space: the search space.

    Raises:
        InputError: if the space is too large for it.
    """

    def __init__(self, space: SearchSpace) -> None:
        self._tables: list[Array] = []
        self._sizes: list[Array] = []
        for column in range(len(space.columns)):
            coordinates = column_coordinates(space, column)
            most = np.maximum(coordinates.max(axis=0), 1.0)
            mean = coordinates.mean(axis=1)
            top = max(float(mean.max()), 1e-12)
            size = np.column_stack([mean / top, np.log1p(mean) / np.log1p(top)])
            parts = [coordinates / most, np.log1p(coordinates) / np.log1p(most), (coordinates >= 1).astype(float), size]
            self._tables.append(np.concatenate(parts, axis=1))
            self._sizes.append(size)
        # Controllers and strides are many and small: pairs are of the stages, which carry most of the accuracy.
        self._paired = len(space.stages)
        self.count = len(self(np.zeros((1, len(space.columns)), np.int32))[0])

    def __call__(self, rows: npt.NDArray[np.int32]) -> Array:
        """Return the features of rows ``[R, columns]``: ``[R, F]``."""
        parts = [table[rows[:, column]] for column, table in enumerate(self._tables)]
        sizes = np.stack([self._sizes[column][rows[:, column]] for column in range(self._paired)], axis=1)
        mean = sizes.mean(axis=1)
        parts += [sizes.min(axis=1), mean, np.sqrt(mean), *(mean * (1 + half) / (mean + half) for half in _HALVES)]
        for left, right in itertools.combinations(range(self._paired), 2):
            parts.append(np.minimum(sizes[:, left], sizes[:, right]))
            parts.append(np.sqrt(sizes[:, left] * sizes[:, right]))
        return np.concatenate(parts, axis=1)
