"""A number of every architecture as a sum over its stages, from tables that nothing per architecture is stored in.

For an additive latency (or score) and an architecture of lists s3, s4, s5 and decoder d

    value = ((first[s3] + ends3[last(s3), d] + alone[d]) + (next4[last(s3), s4] + ends4[last(s4), d]))
            + (next5[last(s4), s5] + ends5[last(s5), d])

in exactly this order of additions, so that every way to compute it gives the same float64.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.spaces.base import Rows
from dfmobile.errors import FileFormatError

Array = npt.NDArray[np.float64]
Variant = tuple[Array, Array, Array]


@dataclass(frozen=True)
class StageTables:
    """Tables of one number; L lists a stage, m widths, D decoders (one, that costs nothing, where there is none).

    Attributes:
        first: of a list of stage 3, stem included, ``[L]``.
        next4: of a list of stage 4 after each width, ``[m, L]``.
        next5: of a list of stage 5 after each width, head or pyramid included, ``[m, L]``.
        alone: of what depends on the decoder alone, ``[D]``.
        ends3: of what depends on the last width of stage 3 and on the decoder, ``[m, D]``.
        ends4: the same of stage 4.
        ends5: the same of stage 5.
        last_rank: rank of each list's last width, int64 ``[L]``.
        suffix_start: per rank the first list that can follow, int64 ``[m]``.
        decoder_ids: ids of each decoder, in the order of a row's last columns, int32 ``[D, columns]``.
    """

    first: Array
    next4: Array
    next5: Array
    alone: Array
    ends3: Array
    ends4: Array
    ends5: Array
    last_rank: npt.NDArray[np.int64]
    suffix_start: npt.NDArray[np.int64]
    decoder_ids: npt.NDArray[np.int32]

    @property
    def lists(self) -> int:
        """L, how many lists a stage has."""
        return len(self.first)

    @property
    def decoders(self) -> int:
        """D, how many decoders there are; 1 where the space has none."""
        return len(self.alone)

    @property
    def tails(self) -> npt.NDArray[np.int64]:
        """How many lists can follow each list, int64 ``[L]``."""
        return self.lists - self.suffix_start[self.last_rank]

    @property
    def heads(self) -> npt.NDArray[np.int64]:
        """How many pairs of lists can follow each list of stage 3, int64 ``[L]``."""
        behind = np.concatenate([np.cumsum(self.tails[::-1])[::-1], [0]])
        return np.asarray(behind[self.suffix_start[self.last_rank]], np.int64)

    @property
    def count(self) -> int:
        """How many architectures there are."""
        return int(self.heads.sum()) * self.decoders

    def variant(self, decoder: int) -> Variant:
        """Return ``[L]``, ``[m, L]``, ``[m, L]`` whose entries add up to the values with one decoder."""
        last = self.last_rank
        return (
            (self.first + self.ends3[last, decoder]) + self.alone[decoder],
            self.next4 + self.ends4[last, decoder],
            self.next5 + self.ends5[last, decoder],
        )

    def values(self, rows: Rows) -> Array:
        """Return the value of each row, ``[R]``."""
        third, fourth, fifth = (rows[:, column].astype(np.int64) for column in range(3))
        decoder, last = self.decoder_of(rows), self.last_rank
        one = (self.first[third] + self.ends3[last[third], decoder]) + self.alone[decoder]
        two = self.next4[last[third], fourth] + self.ends4[last[fourth], decoder]
        three = self.next5[last[fourth], fifth] + self.ends5[last[fifth], decoder]
        total: Array = (one + two) + three
        return total

    def decoder_of(self, rows: Rows) -> npt.NDArray[np.int64]:
        """Return the number of each row's decoder, int64 ``[R]``."""
        if not self.decoder_ids.shape[1]:
            return np.zeros(len(rows), np.int64)
        sizes = tuple((self.decoder_ids.max(axis=0) + 1).tolist())
        number: npt.NDArray[np.int64] = np.ravel_multi_index(tuple(rows[:, 3:].T.astype(np.int64)), sizes)
        return number

    def row(self, decoder: int, lists: tuple[int, int, int]) -> tuple[int, ...]:
        """Return the row of three lists and a decoder."""
        return (*lists, *(int(item) for item in self.decoder_ids[decoder]))

    def span(self) -> tuple[float, float]:
        """Return the smallest and the largest finite value; both are NaN if none is finite."""
        low, high = np.inf, -np.inf
        for decoder in range(self.decoders):
            for sign in (1.0, -1.0):
                # The best continuation from the back; what is not finite never counts.
                first, fourth, fifth = (
                    np.where(np.isfinite(part), sign * part, np.inf) for part in self.variant(decoder)
                )
                behind = _best_suffix(fifth, self.suffix_start)
                fourth = fourth + behind[self.last_rank]
                best = float((first + _best_suffix(fourth, self.suffix_start)[self.last_rank]).min())
                if np.isfinite(best):
                    low, high = (min(low, best), high) if sign > 0 else (low, max(high, -best))
        return (low, high) if np.isfinite(low) else (np.nan, np.nan)

    def without(self, counts: StageTables) -> StageTables:
        """Return tables in which everything that ``counts`` counts is infinite.

        Args:
            counts: how many blocks that must not occur each entry has.
        """
        names = ("first", "next4", "next5", "alone", "ends3", "ends4", "ends5")
        found = {name: np.where(getattr(counts, name) > 0, np.inf, getattr(self, name)) for name in names}
        return replace(self, **found)

    def arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return the tables by name, for a file."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of_arrays(cls, arrays: Mapping[str, npt.NDArray[np.generic]], origin: str) -> StageTables:
        """Read tables back.

        Args:
            arrays: by name, as a file has them.
            origin: what to call them in messages.

        Raises:
            FileFormatError: if they do not fit each other.
        """
        names = [field.name for field in fields(cls)]
        if sorted(arrays) != sorted(names):
            raise FileFormatError(f"{origin} does not have the stage tables", hint="search into a new folder")
        length, ranks, decoders = len(arrays["first"]), len(arrays["suffix_start"]), len(arrays["alone"])
        shapes = {
            "first": (length,), "next4": (ranks, length), "next5": (ranks, length), "alone": (decoders,),
            "ends3": (ranks, decoders), "ends4": (ranks, decoders), "ends5": (ranks, decoders),
            "last_rank": (length,), "suffix_start": (ranks,),
        }  # fmt: skip
        for name, shape in shapes.items():
            kind = np.int64 if name in ("last_rank", "suffix_start") else np.float64
            if arrays[name].shape != shape or arrays[name].dtype != kind:
                raise FileFormatError(f"{origin}: table {name} is damaged", hint="search into a new folder")
            limit = ranks if name == "last_rank" else length + 1
            if kind is np.int64 and not ((arrays[name] >= 0) & (arrays[name] < limit)).all():  # type: ignore[operator]
                raise FileFormatError(f"{origin}: table {name} is damaged", hint="search into a new folder")
        ids = arrays["decoder_ids"]
        if ids.ndim != 2 or len(ids) != decoders or ids.dtype != np.int32:
            raise FileFormatError(f"{origin}: table decoder_ids is damaged", hint="search into a new folder")
        return cls(**{name: arrays[name] for name in names})  # type: ignore[arg-type]

    def fingerprint(self) -> str:
        """Return the SHA-256 of all tables: the same table, rule, space and input give the same."""
        digest = hashlib.sha256()
        for name, array in self.arrays().items():
            digest.update(f"{name} {array.shape} {array.dtype.str};".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def _best_suffix(table: Array, start: npt.NDArray[np.int64]) -> Array:
    """Return per rank the smallest entry of that rank's row among the lists that can follow, ``[m]``."""
    return np.array([row[begin:].min(initial=np.inf) for row, begin in zip(table, start, strict=True)])
