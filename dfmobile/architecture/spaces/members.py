"""A space cut down to listed members: what a second search looks among once a first one has found its backbones."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.encoding import Architecture
from dfmobile.architecture.network import PlacedBlock, build
from dfmobile.architecture.spaces.base import Rows
from dfmobile.architecture.spaces.block_tables import BlockTables
from dfmobile.architecture.spaces.space_file import FileSpace, SpaceDocument
from dfmobile.architecture.spaces.stage_tables import StageTables
from dfmobile.errors import DfmobileError, InputError, quoted

MAX_MEMBERS = 100_000


class MemberSpace(FileSpace):
    """A file's space of which only some architectures are members.

    Columns, ids and order are those of the whole space; only ``rows`` is shorter. A network without a decoder, in the
    list of a segmentation space, stands for that backbone with every decoder.

    Args:
        document: the file's fields, ``members`` among them.
        max_depth: most blocks a stage; None: the file's.
        source: how a command names the space.

    Raises:
        InputError: if a listed network is malformed or not of the space, or there are too many.
    """

    def __init__(self, document: SpaceDocument, max_depth: int | None = None, source: str = "") -> None:
        super().__init__(document, max_depth, source)
        found: dict[bytes, Rows] = {}
        for text in document.members or ():
            try:
                chosen = self._rows_of(Architecture.parse(text))
            except DfmobileError as error:
                raise InputError(f"member {quoted(text)}: {error}", hint=error.hint) from error
            for row in chosen:
                found.setdefault(row.tobytes(), row)
            if len(found) > MAX_MEMBERS:
                raise InputError(f"the members are more than {MAX_MEMBERS} architectures", hint="list fewer of them")
        self._members: Rows = np.array(list(found.values()), np.int32)
        self._known = frozenset(found)

    def _rows_of(self, architecture: Architecture) -> Rows:
        if self._decoders is None or architecture.decoder is not None:
            return super().row(architecture)[None]
        first = self._decoders.decoder((0, 0, 0, 0))
        # Without a decoder the head has its own default width; with one the scores have the space's classes.
        whole = dataclasses.replace(architecture, decoder=first, classes=self._template.classes)
        backbone = super().row(whole)[: len(self.stages)]
        decoders = self._decoders.rows()
        return np.concatenate([np.tile(backbone, (len(decoders), 1)), decoders], axis=1).astype(np.int32)

    @property
    def formula(self) -> str:
        """See base class."""
        return "listed one by one"

    def count(self) -> int:
        """See base class."""
        return len(self._members)

    def rows(self) -> Rows:
        """See base class."""
        copied: Rows = self._members.copy()
        return copied

    def architecture(self, row: Sequence[int] | Rows) -> Architecture:
        """See base class."""
        found = super().architecture(row)
        if np.asarray(row, np.int32).tobytes() not in self._known:
            raise InputError(f"{list(map(int, row))} is not a row of space {self.name!r}: not listed as a member")
        return found

    def row(self, architecture: Architecture) -> Rows:
        """See base class."""
        found = super().row(architecture)
        if found.tobytes() not in self._known:
            raise InputError(f"{architecture.text} is not listed as a member of space {self.name!r}")
        return found

    def sample_rows(self, count: int, generator: np.random.Generator) -> Rows:
        """See base class."""
        drawn: Rows = self._members[generator.integers(len(self._members), size=count)]
        return drawn

    def spread_rows(self, count: int, generator: np.random.Generator) -> Rows:
        """See base class: uniformly."""
        return self.sample_rows(count, generator)

    @lru_cache(maxsize=8)  # noqa: B019  (a process opens few spaces, and blocks cost milliseconds to derive)
    def blocks(self, width: int, height: int) -> tuple[PlacedBlock, ...]:
        """See base class: the members' blocks only."""
        # Blocks depend on neighbours, so that few members have all of them; backbones and decoders repeat.
        needed: set[str] = set()
        for row in self._members:
            needed.update(build(super().architecture(row), width, height).keys)
        return tuple(block for block in super().blocks(width, height) if block.key in needed)

    def sums(
        self, rows: Rows, width: int, height: int, features: Mapping[str, Sequence[float]]
    ) -> npt.NDArray[np.float64]:
        """See base class; blocks that no member has need no features."""
        size = len(next(iter(features.values()), ()))
        unused = dict.fromkeys((block.key for block in super().blocks(width, height)), (0.0,) * size)
        own = {block.key for block in self.blocks(width, height)}
        filled = {key: value for key, value in unused.items() if key not in own}
        return super().sums(rows, width, height, {**filled, **features})

    def stage_tables(self, width: int, height: int, features: Mapping[str, Sequence[float]]) -> list[StageTables]:
        """Refuse: stage tables are of all combinations.

        Raises:
            InputError: always.
        """
        raise InputError(f"space {self.name!r} lists its members: it has no tables by stage")

    def block_tables(self, width: int, height: int, features: Mapping[str, Sequence[float]]) -> list[BlockTables]:
        """Refuse: block tables are of all combinations.

        Raises:
            InputError: always.
        """
        raise InputError(f"space {self.name!r} lists its members: it has no tables by block")
