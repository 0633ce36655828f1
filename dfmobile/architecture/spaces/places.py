"""Blocks by place: in a space, what a block costs depends on its role in the network and on two small numbers.

Roles and numbers: ``stem`` (0, 0); ``stage4.first`` and ``stage4.next`` (rank of the width before, rank of the width;
stage 3's first blocks follow the stem: 0), in shuffle stages ``stage4.next`` (rank of the width, ``unit_form``);
``head`` (rank of the last width, 0); a decoder's roles are in ``decoders``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.blocks import unit_form
from dfmobile.architecture.encoding import Architecture
from dfmobile.architecture.network import PlacedBlock, build
from dfmobile.architecture.spaces.base import feature_table

Place = tuple[str, int, int]
# By role, features ``[first number, second number, F]``; 0 where no block stands.
Tables = dict[str, npt.NDArray[np.float64]]


def backbone_places(architecture: Architecture, rank: Mapping[int, int]) -> list[Place]:
    """Return the places of stem and residual blocks, in order of execution."""
    places: list[Place] = [("stem", 0, 0)]
    before = 0
    for number, stage in enumerate(architecture.stages, 3):
        for position, width in enumerate(stage.widths, 1):
            if position == 1:
                places.append((f"stage{number}.first", before, rank[width]))
            elif stage.kind == "shuffle":
                form = unit_form(width, position, last=position == len(stage.widths))
                places.append((f"stage{number}.next", rank[width], form))
            else:
                places.append((f"stage{number}.next", before, rank[width]))
            before = rank[width]
    return places


class PlacedBlocks:
    """The distinct blocks of a space at one input size, with every place at which each stands.

    Args:
        members: architectures that together have a block at every place, each with its blocks' places in order
            of execution.
        width: of the image, pixels.
        height: of the image, pixels.

    Raises:
        InputError: if the input size is not a multiple of the total stride.
    """

    def __init__(self, members: Iterable[tuple[Architecture, Sequence[Place]]], width: int, height: int) -> None:
        self._indices: dict[Place, int] = {}
        found: dict[str, int] = {}
        blocks: list[PlacedBlock] = []
        for architecture, places in members:
            for place, block in zip(places, build(architecture, width, height).blocks, strict=True):
                if place in self._indices:
                    continue
                if block.key not in found:
                    found[block.key] = len(blocks)
                    blocks.append(block)
                self._indices[place] = found[block.key]
        self.blocks = tuple(blocks)
        extents: dict[str, tuple[int, int]] = {}
        for role, first, second in self._indices:
            rows, columns = extents.get(role, (0, 0))
            extents[role] = (max(rows, first + 1), max(columns, second + 1))
        self._extents = extents

    def tables(self, features: Mapping[str, Sequence[float]]) -> Tables:
        """Return features by place.

        Raises:
            MissingBlocksError: naming the blocks that have none.
        """
        values = feature_table(self.blocks, features)
        tables = {role: np.zeros((*extent, values.shape[1])) for role, extent in self._extents.items()}
        for (role, first, second), index in self._indices.items():
            tables[role][first, second] = values[index]
        return tables
