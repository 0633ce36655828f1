"""The decoders that a segmentation space offers: controller widths and output strides, as four columns of a row.

Every choice is free of the others and of the backbone; a fusion node is as wide as its controller.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.encoding import Decoder
from dfmobile.architecture.spaces.places import Place, Tables
from dfmobile.errors import InputError

_STAGES = (3, 4, 5)


@dataclass(frozen=True)
class DecoderChoices:
    """Decoders of a space.

    Attributes:
        controllers: widths that the three channel controllers may have, ascending.
        output_strides: input size / score size, ascending.
        by_stage: widths of each of the three, ascending, where they do not all have the same choice.

    Raises:
        InputError: if there is nothing to choose from, or the numbers do not ascend.
    """

    controllers: tuple[int, ...]
    output_strides: tuple[int, ...]
    by_stage: tuple[tuple[int, ...], ...] | None = None

    def __post_init__(self) -> None:
        if self.by_stage is not None and (
            len(self.by_stage) != len(_STAGES) or sorted({*sum(self.by_stage, ())}) != list(self.controllers)
        ):
            raise InputError(f"controller widths {list(self.by_stage)} are not those of {len(_STAGES)} stages")
        for name, numbers in (
            *(("controller widths", widths) for widths in (self.controllers, *self.stages)),
            ("output strides", self.output_strides),
        ):
            if not numbers or list(numbers) != sorted(set(numbers)) or numbers[0] < 1:
                raise InputError(f"{name} {list(numbers)} are not ascending positive numbers")

    @classmethod
    def of_stages(cls, by_stage: tuple[tuple[int, ...], ...], output_strides: tuple[int, ...]) -> DecoderChoices:
        """Return choices in which each controller has widths of its own.

        Raises:
            InputError: if these are not ascending widths of three controllers.
        """
        return cls(tuple(sorted({*sum(by_stage, ())})), output_strides, by_stage)

    @property
    def stages(self) -> tuple[tuple[int, ...], ...]:
        """Widths of each of the three controllers."""
        return (self.controllers,) * len(_STAGES) if self.by_stage is None else self.by_stage

    @property
    def options(self) -> dict[str, tuple[int, ...]]:
        """What each column chooses from."""
        controllers = {f"controller{stage}": widths for stage, widths in zip(_STAGES, self.stages, strict=True)}
        return {**controllers, "output_stride": self.output_strides}

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """How many choices each column has."""
        third, fourth, fifth = (len(widths) for widths in self.stages)
        return third, fourth, fifth, len(self.output_strides)

    @property
    def count(self) -> int:
        """How many decoders there are."""
        return math.prod(self.sizes)

    @property
    def formula(self) -> str:
        """How ``count`` is computed, for people."""
        third, fourth, fifth, strides = self.sizes
        widths = f"{third}^3" if self.by_stage is None else f"{third} x {fourth} x {fifth}"
        return f"{widths} controller widths x {strides} output strides"

    def rows(self) -> npt.NDArray[np.int32]:
        """Return all decoders as ids, sorted, int32 ``[count, 4]``."""
        return np.stack(np.unravel_index(np.arange(self.count), self.sizes), axis=1).astype(np.int32)

    def draw(self, count: int, generator: np.random.Generator) -> npt.NDArray[np.int32]:
        """Draw decoders uniformly and independently, int32 ``[count, 4]``."""
        return generator.integers(0, self.sizes, size=(count, 4), dtype=np.int32)

    def decoder(self, ids: tuple[int, ...]) -> Decoder:
        """Return the decoder of four ids, each below its column's size."""
        first, second, third = (widths[number] for widths, number in zip(self.stages, ids[:3], strict=True))
        return Decoder((first, second, third), self.output_strides[ids[3]])

    def ids(self, decoder: Decoder) -> tuple[int, int, int, int] | None:
        """Return a decoder's ids, or None if it is not offered."""
        pairs = list(zip(self.stages, decoder.controllers, strict=True))
        if decoder.output_stride not in self.output_strides or any(width not in widths for widths, width in pairs):
            return None
        first, second, third = (widths.index(width) for widths, width in pairs)
        return first, second, third, self.output_strides.index(decoder.output_stride)

    def order(self, column: int) -> npt.NDArray[np.bool_]:
        """Return whether id a precedes id b in a column: controllers by width, output strides only each itself."""
        size = self.sizes[column]
        whole = np.ones((size, size), np.bool_)
        return np.triu(whole) if column < len(_STAGES) else whole & np.eye(size, dtype=np.bool_)

    def pairs(self) -> Iterator[Decoder]:
        """Yield decoders that together hold each pair of neighbours: controllers 3 and 4, 4 and 5, 3 and stride."""
        if self.by_stage is not None:
            for first, second, third, stride in itertools.product(*self.by_stage, self.output_strides):
                yield Decoder((first, second, third), stride)
            return
        for (low, high), stride in itertools.product(
            itertools.product(self.controllers, repeat=2), self.output_strides
        ):
            yield Decoder((low, high, low), stride)

    def places(self, decoder: Decoder, last_ranks: tuple[int, int, int]) -> list[Place]:
        """Return the places of a decoder's blocks, in order of execution.

        Args:
            decoder: one of these.
            last_ranks: ranks of the last widths of stages 3, 4 and 5.
        """
        ids = self.ids(decoder)
        assert ids is not None  # noqa: S101  (the caller's members have decoders of these)
        return [
            ("pyramid", last_ranks[2], 0),
            *(
                (f"controller{stage}", last, number)
                for stage, last, number in zip(_STAGES, last_ranks, ids[:3], strict=True)
            ),
            ("fusion4", ids[1], ids[2]),
            ("fusion3", ids[0], ids[1]),
            ("score", ids[0], ids[3]),
        ]

    def sums(
        self, tables: Tables, last_ranks: npt.NDArray[np.int64], ids: npt.NDArray[np.int32]
    ) -> npt.NDArray[np.float64]:
        """Sum features over decoders' blocks.

        Args:
            tables: features by place.
            last_ranks: of stages 3, 4 and 5, ``[R, 3]``.
            ids: of decoders, ``[R, 4]``.

        Returns:
            float64 ``[R, F]``.
        """
        # All that depends on the decoder alone is one table of ``count`` rows.
        alone = self._alone(tables)
        total: npt.NDArray[np.float64] = alone[np.ravel_multi_index(tuple(ids.T), self.sizes)]
        total += tables["pyramid"][last_ranks[:, 2], 0]
        for position, stage in enumerate(_STAGES):
            total += tables[f"controller{stage}"][last_ranks[:, position], ids[:, position]]
        return total

    def parts(self, tables: Tables) -> tuple[npt.NDArray[np.float64], list[npt.NDArray[np.float64]]]:
        """Return what decoders add, by what it depends on; ``sums`` without the pyramid adds up to the same.

        Args:
            tables: features by place, F each.

        Returns:
            Of the decoder alone, ``[count, F]``; and per stage of its last width and the decoder, ``[m, count, F]``.
        """
        chosen = self.rows().T
        controllers = [tables[f"controller{stage}"][:, chosen[position]] for position, stage in enumerate(_STAGES)]
        return self._alone(tables), controllers

    def _alone(self, tables: Tables) -> npt.NDArray[np.float64]:
        first, second, third, stride = self.rows().T
        fusions = tables["fusion4"][second, third] + tables["fusion3"][first, second]
        found: npt.NDArray[np.float64] = fusions + tables["score"][first, stride]
        return found
