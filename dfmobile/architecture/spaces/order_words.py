"""The order of stage lists as numbers: x ≺ y is one subtraction and one comparison of machine words.

A list of n non-decreasing widths out of m is told by m small numbers: n, and for every width but the narrowest
``k + 1 - a`` where ``a`` is the first position with at least that width (0 where there is none; k is the largest n).
Then x ≺ y exactly if each number of x is at most y's. The numbers are packed in 64-bit words, each with one free bit
above it: in ``(y | free) - x`` a field's free bit survives exactly if the field of x is not larger, so all fields are
compared at once.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.order import Widths

Words = npt.NDArray[np.uint64]
_WORD_BITS = 64


class OrderWords:
    """The order of many lists, in a few bytes for each: no matrix of pairs.

    Args:
        lists: non-decreasing, of ``widths``.
        widths: to choose from, ascending.
        max_depth: k, the most widths in a list.
    """

    def __init__(self, lists: Sequence[Widths], widths: Widths, max_depth: int) -> None:
        depths = np.array([len(item) for item in lists], np.int64)
        flat = np.fromiter((width for item in lists for width in item), np.int64, int(depths.sum()))
        owner = np.repeat(np.arange(len(lists)), depths)
        fields = [depths]
        for width in widths[1:]:
            # Lists do not fall, so those at least this wide are the last ones of each list.
            at_least = np.bincount(owner[flat >= width], minlength=len(lists))
            first = depths - at_least + 1
            fields.append(np.where(at_least > 0, max_depth + 1 - first, 0))
        bits = max_depth.bit_length() + 1
        per_word = _WORD_BITS // bits
        count = -(-len(fields) // per_word)
        self.words: Words = np.zeros((len(lists), count), np.uint64)
        self.free: Words = np.zeros(count, np.uint64)
        for number, field in enumerate(fields):
            word, shift = number // per_word, np.uint64(bits * (number % per_word))
            self.words[:, word] |= field.astype(np.uint64) << shift
            self.free[word] |= np.uint64(1 << (bits - 1)) << shift

    def below(self, item: int) -> npt.NDArray[np.bool_]:
        """Return which lists precede list ``item`` (itself too), ``[lists]``."""
        found: npt.NDArray[np.bool_] = (((self.words[item] | self.free) - self.words) & self.free == self.free).all(
            axis=1
        )
        return found

    def precedes(self, left: int, right: int) -> bool:
        """Return whether list ``left`` precedes list ``right``."""
        return bool((((self.words[right] | self.free) - self.words[left]) & self.free == self.free).all())

    def matrix(self) -> npt.NDArray[np.bool_]:
        """Return ``[lists, lists]``: whether list a (row) precedes list b (column)."""
        return np.stack([self.below(item) for item in range(len(self.words))], axis=1)
