"""The partial order from the encodings themselves: no block wider, in no stage more blocks, no controller wider.

A second way to it beside the spaces' tables, for the check of certificates.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dfmobile.architecture import Architecture
from dfmobile.architecture.spaces import SearchSpace


class EncodingOrder:
    """Which members of a space precede which.

    Args:
        space: one with an order of its own is asked, pair by pair.
        members: of the space; the methods take their indices.
    """

    def __init__(self, space: SearchSpace, members: list[Architecture]) -> None:
        self._own = space if type(space).precedes is not SearchSpace.precedes else None
        self._members = members
        depth = max(len(stage.widths) for member in members for stage in member.stages)
        self._sizes = np.array([_sizes(member, depth) for member in members], np.int32)
        self._strides = np.array([0 if item.decoder is None else item.decoder.output_stride for item in members])

    def precedes(self, smaller: npt.NDArray[np.int64], larger: int) -> npt.NDArray[np.bool_]:
        """Return which of some members precede one, ``[n]``."""
        if self._own is not None:
            own = self._own
            return np.array([own.precedes(self._members[item], self._members[larger]) for item in smaller], bool)
        same = self._strides[smaller] == self._strides[larger]
        return np.asarray(same & (self._sizes[smaller] <= self._sizes[larger]).all(axis=1))

    def follows(self, larger: npt.NDArray[np.int64], smaller: int) -> npt.NDArray[np.bool_]:
        """Return which of some members one precedes, ``[n]``."""
        if self._own is not None:
            own = self._own
            return np.array([own.precedes(self._members[smaller], self._members[item]) for item in larger], bool)
        same = self._strides[larger] == self._strides[smaller]
        return np.asarray(same & (self._sizes[smaller] <= self._sizes[larger]).all(axis=1))


def _sizes(member: Architecture, depth: int) -> list[int]:
    """Return the widths of all places, 0 where there is no block."""
    found: list[int] = []
    for stage in member.stages:
        found += [*stage.widths, *(0 for _ in range(depth - len(stage.widths)))]
    return found + list(() if member.decoder is None else member.decoder.controllers)
