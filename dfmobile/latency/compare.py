"""Two latency tables compared in full: blocks, spaces, single networks, and what of it is a regression."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from dfmobile import registry
from dfmobile.architecture.spaces import open_space
from dfmobile.errors import InputError, MissingBlocksError
from dfmobile.latency.best_networks import SpaceDiff, diff_networks, diff_space
from dfmobile.latency.diff import DEFAULT_THRESHOLD, TableDiff, TablePair, diff_tables
from dfmobile.latency.header import Build
from dfmobile.latency.predictor import refuse_replay
from dfmobile.latency.table import LatencyTable


@dataclass(frozen=True)
class Comparison:
    """Two tables compared.

    Attributes:
        blocks: block by block, and what they share.
        spaces: the best networks of each space (or the single networks) that both tables hold.
        notes: what could not be compared, for people.
    """

    blocks: TableDiff
    spaces: tuple[SpaceDiff, ...]
    notes: tuple[str, ...]

    @property
    def regressions(self) -> list[str]:
        """What is slower beyond the threshold, for people; empty where the gate opens."""
        found = []
        if self.blocks.common_regressed:
            low, high = self.blocks.common_interval
            found.append(f"everything is {_percent(self.blocks.common)} slower ({_percent(low)} to {_percent(high)})")
        found += [f"{block.text} is {_percent(block.ratio)} slower" for block in self.blocks.regressed]
        for space in self.spaces:
            for best in space.best:
                if best.regressed:
                    found.append(f"{best.encoding} at {space.input} is {_percent(best.b_ms / best.a_ms)} slower")
        return list(dict.fromkeys(found))

    def to_dict(self) -> dict[str, Any]:
        """Return the comparison as a JSON document."""
        return {
            **self.blocks.to_dict(),
            "spaces": [space.to_dict() for space in self.spaces],
            "notes": list(self.notes),
            "regressions": self.regressions,
        }


def compare_tables(
    a: str | os.PathLike[str],
    b: str | os.PathLike[str],
    *,
    threshold: float = DEFAULT_THRESHOLD,
    space: str | None = None,
    size: tuple[int, int] | None = None,
    max_depth: int | None = None,
) -> Comparison:
    """Compare two tables.

    Args:
        a: the older table.
        b: the newer one.
        threshold: slower by more than this share is a regression.
        space: compare this space's best networks; None: those of all spaces and networks that both were built for.
        size: (width, height) of the input; None: that of the builds.
        max_depth: of the space.

    Raises:
        InputError: if the tables cannot be compared.
        MissingBlocksError: if ``space`` is named and a table lacks blocks of it.
        StorageError: if a table cannot be read.
        FileFormatError: if a table is damaged.
    """
    with LatencyTable.open(a) as first, LatencyTable.open(b) as second:
        for table in (first, second):
            refuse_replay(table)
        pair = TablePair(first, second)
        blocks = diff_tables(pair, first, second, threshold)
        same = blocks.same_software
        builds = _shared(first.builds(), second.builds())
        spaces: list[SpaceDiff] = []
        notes: list[str] = []
        if blocks.common_slower and not blocks.common_regressed:
            why = "the software is the same" if same else "too few passes to believe that it is the software"
            notes.append(f"everything is {_percent(blocks.common)} slower: drift of the machine, as {why}")
        if space is not None:
            opened = open_space(space, max_depth)
            sizes = {(build.width, build.height) for build in builds} if size is None else {size}
            if len(sizes) > 1:
                raise InputError("the tables hold several input sizes", hint="choose one with --input")
            width, height = sizes.pop() if sizes else opened.default_input
            found = diff_space(pair, first, second, opened, width, height, threshold=threshold, same_software=same)
            return Comparison(blocks, (found,), tuple(notes))
        for build in builds:
            if size is not None and (build.width, build.height) != size:
                continue
            try:
                spaces.append(_of_build(pair, first, second, build, max_depth, threshold, same))
            except (MissingBlocksError, InputError) as error:
                notes.append(f"{build.target} at {build.input_text} is not compared: {error}")
    if not builds:
        notes.append("the tables were built for different spaces: only blocks are compared")
    return Comparison(blocks, tuple(spaces), tuple(notes))


def _shared(mine: Sequence[Build], theirs: Sequence[Build]) -> list[Build]:
    return [build for build in mine if any(build.same_target(other) for other in theirs)]


def _of_build(
    pair: TablePair,
    a: LatencyTable,
    b: LatencyTable,
    build: Build,
    max_depth: int | None,
    threshold: float,
    same: bool,
) -> SpaceDiff:
    size = (build.width, build.height)
    if build.space is None:
        return diff_networks(pair, [build.network or ""], *size, threshold=threshold, same_software=same)
    if build.space not in registry.names("dfmobile.spaces"):
        from_file = "@" in build.space
        raise InputError(
            f"the space {build.space} "
            + ("was read from a file: name it, --space FILE.yaml" if from_file else "is not installed")
        )
    opened = open_space(build.space, max_depth)
    return diff_space(pair, a, b, opened, *size, threshold=threshold, same_software=same)


def _percent(ratio: float) -> str:
    return f"{100 * (ratio - 1):.1f} %"
