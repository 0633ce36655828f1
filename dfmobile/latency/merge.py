"""Merge latency tables that hold measurements of one kind: same device, runtime, precision, threads, affinity."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dfmobile.errors import InputError
from dfmobile.latency.content import (
    BlockContent,
    TableContent,
    read_content,
    refuse_existing,
    write_content,
)
from dfmobile.latency.header import Build
from dfmobile.latency.merge_documents import merge_documents


@dataclass(frozen=True)
class MergeReport:
    """What a merge did.

    Attributes:
        tables: how many were merged.
        blocks: distinct blocks of the result.
        passes: of the result.
        renumbered: passes that got another index because theirs was taken by other samples.
        identical: passes that several tables held, kept once.
        dropped: names of derived documents (coefficients of a rule and so on) that are not the same in all tables.
    """

    tables: int
    blocks: int
    passes: int
    renumbered: int
    identical: int
    dropped: tuple[str, ...]

    @property
    def text(self) -> str:
        """One line for people."""
        text = f"{self.tables} tables, {self.blocks} blocks, {self.passes} passes"
        if self.renumbered:
            text += f", {self.renumbered} renumbered"
        if self.identical:
            text += f", {self.identical} there more than once and kept once"
        return text


def merge_tables(tables: Sequence[str | os.PathLike[str]], output: str | os.PathLike[str]) -> MergeReport:
    """Write one table that holds what several hold; the tables themselves stay as they are.

    A pass that several tables hold with the same samples is kept once; where the index of a pass is taken by other
    samples, the later table's pass gets the next free index. A block that one table skipped and another measured is
    measured.

    Args:
        tables: two or more; where they agree in substance, the first's header stays.
        output: made anew, whole or not at all.

    Raises:
        InputError: if there are fewer than two, or they hold other measurements (the message names what differs).
        StorageError: if the output is there already, or something cannot be read or written.
        FileFormatError: if a table is damaged.
    """
    if len(tables) < 2:
        raise InputError("a merge takes two tables or more")
    refuse_existing(Path(output))
    contents = [read_content(table) for table in tables]
    first = contents[0]
    for path, content in zip(tables[1:], contents[1:], strict=True):
        differences = first.header.differences(content.header)
        if differences:
            reasons = [item.replace(" in the table and", " and").removesuffix(" now") for item in differences]
            raise InputError(
                f"{os.fspath(tables[0])} and {os.fspath(path)} hold other measurements: {'; '.join(reasons)}",
                hint="only tables of one device, runtime, precision, threads and affinity merge; compare others with: "
                "dfmobile lut diff",
            )
    merge = _Merge()
    numbers = [merge.add(content) for content in contents]
    paths = [os.fspath(table) for table in tables]
    documents = [content.documents for content in contents]
    kept, dropped = merge_documents(list(zip(paths, documents, numbers, strict=True)))
    result = TableContent(first.header, merge.builds, kept, merge.sessions, list(merge.blocks.values()))
    write_content(output, result)
    return MergeReport(
        tables=len(tables),
        blocks=len(result.blocks),
        passes=result.pass_count,
        renumbered=merge.renumbered,
        identical=merge.identical,
        dropped=dropped,
    )


class _Merge:
    """Content of several tables, taken in one after the other."""

    def __init__(self) -> None:
        self.builds: list[Build] = []
        self.sessions: dict[int, dict[str, Any]] = {}
        self.blocks: dict[str, BlockContent] = {}
        self.renumbered, self.identical = 0, 0

    def add(self, content: TableContent) -> dict[int, int]:
        """Take a table in, and return the numbers that its sessions get."""
        numbers = {}
        for old, provenance in content.sessions.items():
            same = next((number for number, item in self.sessions.items() if item == provenance), None)
            numbers[old] = len(self.sessions) + 1 if same is None else same
            self.sessions[numbers[old]] = provenance
        for block in content.blocks:
            self._add_block(block, numbers)
        for build in content.builds:
            self._add_build(build)
        return numbers

    def _add_block(self, block: BlockContent, numbers: dict[int, int]) -> None:
        mine = self.blocks.get(block.key)
        passes = {} if mine is None else dict(mine.passes)
        there = [document for _, document in passes.values()]
        for index, (session, document) in sorted(block.passes.items()):
            if document in there:
                self.identical += 1
                continue
            free = index
            if index in passes:
                free = max((*passes, *block.passes)) + 1
                self.renumbered += 1
            passes[free] = (numbers[session], document)
        skipped = None
        if not passes:
            if mine is not None and mine.skipped is not None:
                skipped = mine.skipped
            elif block.skipped is not None:
                skipped = (numbers[block.skipped[0]], block.skipped[1])
        facts = block.facts if mine is None else mine.facts
        self.blocks[block.key] = BlockContent(block.key, facts, passes, skipped)

    def _add_build(self, build: Build) -> None:
        mine = next((item for item in self.builds if item.same_target(build)), None)
        if mine is None:
            self.builds.append(build)
            return
        limits = (mine.latency_max_ms, build.latency_max_ms)
        joined = mine.model_copy(
            update={
                "passes": max(mine.passes, build.passes),
                "latency_max_ms": None if None in limits else max(limit for limit in limits if limit is not None),
                "keys": list(dict.fromkeys((*mine.keys, *build.keys))),
            }
        )
        self.builds[self.builds.index(mine)] = joined
