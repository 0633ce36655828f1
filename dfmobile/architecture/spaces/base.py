"""What a search space is, and how to open one by name.

A space is factored: each column (a stage's list of widths, a controller's width, an output stride) has candidates
numbered from 0, an architecture is one id a column, and the order is the AND of the columns' orders. So millions of
architectures are rows of small integers, and everything about them is array arithmetic.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from dfmobile import registry
from dfmobile.architecture.encoding import Architecture
from dfmobile.architecture.network import PlacedBlock
from dfmobile.architecture.order import precedes
from dfmobile.errors import InputError, MissingBlocksError, PluginError, quoted

Rows = npt.NDArray[np.int32]
MAX_ROWS = 20_000_000


class SearchSpace(ABC):
    """A finite, factored set of architectures with a partial order.

    Attributes:
        name: as registered.
        max_depth: most blocks a stage may have.
        default_input: (width, height) where a user names none.
    """

    name: str
    max_depth: int
    default_input: tuple[int, int]

    @property
    @abstractmethod
    def widths(self) -> tuple[int, ...]:
        """Block widths to choose from, ascending."""

    @property
    @abstractmethod
    def total_stride(self) -> int:
        """Input sizes must be multiples of it."""

    @property
    @abstractmethod
    def stages(self) -> tuple[int, ...]:
        """Numbers of the stages, shallow to deep."""

    @property
    @abstractmethod
    def formula(self) -> str:
        """How the count follows from depth and widths, for people."""

    @property
    def options(self) -> Mapping[str, tuple[int, ...]]:
        """What the columns after the stages choose from, by name, id by id; empty where there are stages only."""
        return {}

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of a row: the stages, then ``options``."""
        return (*(f"stage{stage}" for stage in self.stages), *self.options)

    @abstractmethod
    def count(self) -> int:
        """Return the exact number of architectures."""

    @abstractmethod
    def rows(self) -> Rows:
        """Return all architectures as ids, int32 ``[count, columns]``.

        Raises:
            InputError: if there are more than ``MAX_ROWS``.
        """

    @abstractmethod
    def architecture(self, row: Sequence[int] | Rows) -> Architecture:
        """Return the architecture of a row of ids.

        Raises:
            InputError: if the row is of no member.
        """

    @abstractmethod
    def row(self, architecture: Architecture) -> Rows:
        """Return an architecture's ids, int32 ``[columns]``.

        Raises:
            InputError: if it is not a member.
        """

    @abstractmethod
    def sample_rows(self, count: int, generator: np.random.Generator) -> Rows:
        """Draw architectures uniformly and independently, int32 ``[count, columns]``."""

    def spread_rows(self, count: int, generator: np.random.Generator) -> Rows:
        """Draw independently, small architectures as often as large ones as far as the space can, ``[count, columns]``.

        Uniformly where a space does not say otherwise. ``sampling.stratified_rows`` draws from it.
        """
        return self.sample_rows(count, generator)

    @abstractmethod
    def stage_order(self, stage: int) -> npt.NDArray[np.bool_]:
        """Return ``[ids, ids]``: whether id a precedes id b, for the column at an index of ``columns``.

        Raises:
            InputError: if the space is too large for it.
        """

    @abstractmethod
    def blocks(self, width: int, height: int) -> tuple[PlacedBlock, ...]:
        """Return every distinct block of the space at an input size, stem and heads included.

        Raises:
            InputError: if the input size is not a multiple of the total stride.
        """

    @abstractmethod
    def sums(self, rows: Rows, width: int, height: int, features: Mapping[str, Sequence[float]]) -> npt.NDArray:  # type: ignore[type-arg]
        """Sum per-block features over the blocks of each architecture.

        Args:
            rows: ids, ``[R, columns]``.
            width: of the image, pixels.
            height: of the image, pixels.
            features: by block key, F numbers each.

        Returns:
            float64 ``[R, F]``.

        Raises:
            MissingBlocksError: if a key of the space has no features.
        """

    def __contains__(self, architecture: object) -> bool:
        if not isinstance(architecture, Architecture):
            return False
        try:
            self.row(architecture)
        except InputError:
            return False
        return True

    def precedes(self, left: Architecture, right: Architecture) -> bool:
        """Return whether ``left`` ≺ ``right`` (reflexive)."""
        return precedes(left, right)

    def sample(self, count: int, generator: np.random.Generator) -> list[Architecture]:
        """Draw architectures uniformly and independently."""
        return [self.architecture(row) for row in self.sample_rows(count, generator)]

    def key_index(self, width: int, height: int) -> list[str]:
        """Return the LUT keys of ``blocks``."""
        return [block.key for block in self.blocks(width, height)]


def feature_table(
    blocks: Iterable[PlacedBlock], features: Mapping[str, Sequence[float]], hint: str = ""
) -> npt.NDArray[np.float64]:
    """Return the features of blocks as an array ``[blocks, F]``.

    Raises:
        MissingBlocksError: naming the blocks that have none.
    """
    blocks = list(blocks)
    missing = [block for block in blocks if block.key not in features]
    if missing:
        shown = "; ".join(block.text for block in missing[:3]) + (" …" if len(missing) > 3 else "")
        raise MissingBlocksError(
            f"{len(missing)} of {len(blocks)} blocks are not in the table: {shown}",
            hint=hint,
            keys=tuple(block.key for block in missing),
        )
    return np.array([features[block.key] for block in blocks], dtype=np.float64).reshape(len(blocks), -1)


def open_space(name: str, max_depth: int | None = None) -> SearchSpace:
    """Open a search space by the name of its entry point in ``dfmobile.spaces``.

    Args:
        name: e.g. ``"df"``.
        max_depth: most blocks a stage may have; None for the space's own default.

    Raises:
        InputError: if there is none of that name, or the depth makes no space.
        PluginError: if the plug-in cannot be loaded.
    """
    known = registry.names("dfmobile.spaces")
    if name not in known:
        raise InputError(f"unknown space {quoted(name)}", hint=f"known: {', '.join(known)}")
    space = registry.load("dfmobile.spaces", name)(max_depth)
    if not isinstance(space, SearchSpace):
        raise PluginError(f"plug-in {name!r} of dfmobile.spaces returns {type(space).__name__}, not a SearchSpace")
    return space
