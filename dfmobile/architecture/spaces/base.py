"""What a search space is, and how to open one by name.

A space is factored: each column (a stage's list of widths, a controller's width, an output stride) has candidates
numbered from 0, an architecture is one id a column, and the order is the AND of the columns' orders. So millions of
architectures are rows of small integers, and everything about them is array arithmetic.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile import registry
from dfmobile.architecture.encoding import Architecture
from dfmobile.architecture.network import PlacedBlock
from dfmobile.architecture.order import precedes
from dfmobile.errors import FileFormatError, InputError, MissingBlocksError, PluginError, quoted

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
    def source(self) -> str:
        """How a command names the space, quoted for a shell: its name, or the file that it is read from."""
        return self.name

    @property
    def document(self) -> dict[str, Any] | None:
        """What makes the space, JSON-able, where it is not found by name but read from a file."""
        return None

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
    """Open a search space by the name of its entry point in ``dfmobile.spaces``, or by its YAML file.

    Args:
        name: e.g. ``"df"``, or the path of a file that ends in ``.yaml`` or ``.yml``.
        max_depth: most blocks a stage may have; None for the space's own default.

    Raises:
        InputError: if there is none of that name, or the depth makes no space.
        PluginError: if the plug-in cannot be loaded.
        StorageError: if the file cannot be read.
        FileFormatError: if it describes no space.
    """
    from dfmobile.architecture.spaces.space_file import is_file_name, load_space

    if is_file_name(name):
        return load_space(name, max_depth)
    known = registry.names("dfmobile.spaces")
    if name not in known:
        hint = f"known: {', '.join(known)}, or a file that ends in .yaml"
        if "@" in name:
            hint = "it was read from a file: name that file, --space FILE.yaml"
        raise InputError(f"unknown space {quoted(name)}", hint=hint)
    space = registry.load("dfmobile.spaces", name)(max_depth)
    if not isinstance(space, SearchSpace):
        raise PluginError(f"plug-in {name!r} of dfmobile.spaces returns {type(space).__name__}, not a SearchSpace")
    return space


def reopen_space(name: str, max_depth: int | None, document: Any = None) -> SearchSpace:
    """Open a space as it was recorded: by name, or by the document of one that was read from a file.

    Raises:
        InputError: as ``open_space``.
        FileFormatError: if the document describes no space, or another one.
    """
    if document is None:
        return open_space(name, max_depth)
    from dfmobile.architecture.spaces.space_file import parse_space

    space = parse_space(document, max_depth, f"the recorded space {quoted(name)}")
    if space.name != name:
        raise FileFormatError(f"the recorded space {quoted(name)} is in fact {space.name}")
    return space
