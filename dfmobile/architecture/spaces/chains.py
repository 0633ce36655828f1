"""Stage-factored spaces: a backbone whose stages are lists of widths that never narrow, and a head or decoders.

Counting, listing, sampling, order and sums are array arithmetic over ids; see ``lists`` for the backbone's columns
and ``decoders`` for those of segmentation spaces.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.encoding import Architecture, Decoder, Stage
from dfmobile.architecture.network import PlacedBlock, check_input
from dfmobile.architecture.order import Widths
from dfmobile.architecture.spaces.base import MAX_ROWS, Rows, SearchSpace
from dfmobile.architecture.spaces.block_tables import BlockTables
from dfmobile.architecture.spaces.decoders import DecoderChoices
from dfmobile.architecture.spaces.lists import RisingLists, StageLists, UniformLists
from dfmobile.architecture.spaces.order_words import OrderWords
from dfmobile.architecture.spaces.places import Place, PlacedBlocks, backbone_places
from dfmobile.architecture.spaces.stage_tables import StageTables
from dfmobile.errors import InputError


class ChainSpace(SearchSpace):
    """Networks of one family: each stage a list of 1 to ``max_depth`` widths, never narrowing along the network.

    Families ``df`` and ``dfb`` (mid widths where blocks are bottlenecks) have non-decreasing lists, ``shuffle`` one
    width a stage. A row holds the list ids of stages 3, 4 and 5, then, with decoders, the ids of the controllers of
    stages 3, 4 and 5 and of the output stride.

    Args:
        name: as registered.
        template: an architecture whose family, stem, classes and channels all members share.
        widths: to choose from, ascending.
        max_depth: most blocks a stage.
        default_input: (width, height).
        decoders: to choose from, for segmentation; the template then has one of them.

    Raises:
        InputError: if template, depth, widths and decoders make no space.
        EncodingError: if the family has no such output stride.
    """

    def __init__(
        self,
        name: str,
        template: Architecture,
        widths: tuple[int, ...],
        max_depth: int,
        default_input: tuple[int, int],
        decoders: DecoderChoices | None = None,
    ) -> None:
        if template.family.startswith("resnet"):
            raise InputError(f"a chain space is of DF or shuffle networks, not of {template.text}")
        offered = template.decoder is not None and decoders is not None and decoders.ids(template.decoder) is not None
        if not offered and not (template.decoder is None and decoders is None):
            raise InputError(
                f"template {template.text} does not fit the decoders of space {name!r}",
                hint="give a decoder in the template and the decoders to choose from, or neither",
            )
        for stride in () if decoders is None else decoders.output_strides:
            dataclasses.replace(template, decoder=Decoder((1, 1, 1), stride))  # refuses strides the family lacks
        self.name = name
        self.max_depth = max_depth
        self.default_input = default_input
        self._template = template
        self._decoders = decoders
        self._lists: StageLists = (UniformLists if template.family == "shuffle" else RisingLists)(widths, max_depth)

    @property
    def template(self) -> Architecture:
        """An architecture whose family, stem, classes and channels all members share."""
        return self._template

    @property
    def decoders(self) -> DecoderChoices | None:
        """Decoders to choose from; None: a space of classifiers."""
        return self._decoders

    @property
    def widths(self) -> tuple[int, ...]:
        """See base class."""
        return self._lists.widths

    @property
    def total_stride(self) -> int:
        """See base class."""
        return self._template.total_stride

    @property
    def stages(self) -> tuple[int, ...]:
        """See base class."""
        return tuple(range(3, 3 + len(self._template.stages)))

    @property
    def options(self) -> dict[str, tuple[int, ...]]:
        """See base class."""
        return {} if self._decoders is None else self._decoders.options

    @property
    def lists(self) -> tuple[Widths, ...]:
        """All lists a stage can have, by id.

        Raises:
            InputError: if there are too many.
        """
        return self._lists.lists

    @property
    def formula(self) -> str:
        """See base class."""
        backbones = self._lists.formula(len(self.stages))
        return backbones if self._decoders is None else f"({backbones}) x {self._decoders.formula}"

    def count(self) -> int:
        """See base class."""
        backbones = self._lists.count_chains(len(self.stages))
        return backbones if self._decoders is None else backbones * self._decoders.count

    def rows(self) -> Rows:
        """See base class."""
        if self.count() > MAX_ROWS:
            raise InputError(
                f"space {self.name!r} at depth {self.max_depth} has {self.count()} architectures; "
                f"at most {MAX_ROWS} can be listed",
                hint="choose a smaller --max-depth",
            )
        backbones = self._lists.chains(len(self.stages))
        if self._decoders is None:
            return backbones
        decoders = self._decoders.rows()
        return np.concatenate(
            [np.repeat(backbones, len(decoders), axis=0), np.tile(decoders, (len(backbones), 1))], axis=1
        )

    @cached_property
    def _sizes(self) -> tuple[int, ...]:
        """How many ids each column has."""
        return (len(self.lists),) * len(self.stages) + (() if self._decoders is None else self._decoders.sizes)

    def architecture(self, row: Sequence[int] | Rows) -> Architecture:
        """See base class."""
        ids = tuple(int(number) for number in row)
        if len(ids) != len(self._sizes) or not all(0 <= a < size for a, size in zip(ids, self._sizes, strict=True)):
            ends = ", ".join(f"{name} 0 to {size - 1}" for name, size in zip(self.columns, self._sizes, strict=True))
            raise InputError(f"{list(ids)} is not a row of space {self.name!r}", hint=f"ids: {ends}")
        stages = len(self.stages)
        member = self._with_lists([self.lists[number] for number in ids[:stages]])
        if self._decoders is not None:
            member = dataclasses.replace(member, decoder=self._decoders.decoder(ids[stages:]))
        return member

    def _with_lists(self, lists: Sequence[Widths]) -> Architecture:
        kinds = [stage.kind for stage in self._template.stages]
        stages = tuple(Stage(kind, widths) for kind, widths in zip(kinds, lists, strict=True))
        return dataclasses.replace(self._template, stages=stages)

    def row(self, architecture: Architecture) -> Rows:
        """See base class."""
        template, given = self._template, architecture
        same = (template.family, template.stem, template.decoder is None, template.classes, template.in_channels)
        if same != (given.family, given.stem, given.decoder is None, given.classes, given.in_channels):
            raise InputError(f"{architecture.text} is not a member of space {self.name!r}: another kind of network")
        ids = [self._lists.ids.get(stage.widths) for stage in architecture.stages]
        if None in ids:
            raise InputError(
                f"{architecture.text} is not a member of space {self.name!r} at depth {self.max_depth}",
                hint=f"widths {', '.join(str(width) for width in self.widths)}; at most {self.max_depth} blocks a "
                "stage (--max-depth)",
            )
        if self._decoders is not None and given.decoder is not None:
            chosen = self._decoders.ids(given.decoder)
            if chosen is None:
                raise InputError(
                    f"{architecture.text} is not a member of space {self.name!r}: no such decoder",
                    hint="; ".join(
                        f"{name.replace('_', ' ')} {', '.join(str(item) for item in choice)}"
                        for name, choice in self._decoders.options.items()
                    ),
                )
            ids.extend(chosen)
        return np.array(ids, dtype=np.int32)

    def sample_rows(self, count: int, generator: np.random.Generator) -> Rows:
        """See base class."""
        return self._draw(count, generator, spread=False)

    def spread_rows(self, count: int, generator: np.random.Generator) -> Rows:
        """See base class: here about evenly in the logarithm of each stage's depth."""
        return self._draw(count, generator, spread=True)

    def _draw(self, count: int, generator: np.random.Generator, *, spread: bool) -> Rows:
        backbones = self._lists.draw(count, len(self.stages), generator, spread=spread)
        if self._decoders is None:
            return backbones
        return np.concatenate([backbones, self._decoders.draw(count, generator)], axis=1)

    def stage_order(self, stage: int) -> npt.NDArray[np.bool_]:
        """See base class."""
        stages = len(self.stages)
        if stage < stages or self._decoders is None:
            return self._lists.order  # every stage has the same lists
        return self._decoders.order(stage - stages)

    def order_words(self) -> OrderWords:
        """Return the order of the lists, which every stage has, without a matrix of pairs."""
        return self._lists.order_words

    @lru_cache(maxsize=8)  # noqa: B019  (a process opens few spaces, and blocks cost milliseconds to derive)
    def _placed(self, width: int, height: int) -> PlacedBlocks:
        check_input(self._template, width, height)
        return PlacedBlocks(((member, self._places(member)) for member in self._examples()), width, height)

    def _places(self, member: Architecture) -> list[Place]:
        places = backbone_places(member, self._lists.rank)
        third, fourth, fifth = (self._lists.rank[stage.widths[-1]] for stage in member.stages)
        if self._decoders is None or member.decoder is None:
            return [*places, ("head", fifth, 0)]
        return [*places, *self._decoders.places(member.decoder, (third, fourth, fifth))]

    def _examples(self) -> Iterator[Architecture]:
        """Yield small members that together have a block at every place."""
        stages, narrow = len(self.stages), self.widths[0]
        for low, high in itertools.combinations_with_replacement(self.widths, 2):
            for position in range(stages):
                # Before the stage: `low`; in it: high (first block), low,high (next block), three high (next blocks
                # that are not the last: where there are shuffles they have other forms); after it: high.
                for middle in ((high,), (low, high), (high, high, high)):
                    if self._lists.holds(middle):
                        before = low if position else narrow
                        yield self._with_lists([(before,)] * position + [middle] + [(high,)] * (stages - position - 1))
        if self._decoders is None:
            return
        plain = self._with_lists([(narrow,)] * stages)
        for decoder in self._decoders.pairs():
            yield dataclasses.replace(plain, decoder=decoder)
        sizes = self._decoders.sizes[:stages]
        for width, number in itertools.product(self.widths, range(max(sizes))):
            decoder = self._decoders.decoder((*(min(number, size - 1) for size in sizes), 0))
            yield dataclasses.replace(self._with_lists([(width,)] * stages), decoder=decoder)

    def blocks(self, width: int, height: int) -> tuple[PlacedBlock, ...]:
        """See base class."""
        return self._placed(width, height).blocks

    def sums(
        self, rows: Rows, width: int, height: int, features: Mapping[str, Sequence[float]]
    ) -> npt.NDArray[np.float64]:
        """See base class."""
        tables = self._placed(width, height).tables(features)
        lists, stages = self._lists, len(self.stages)
        total: npt.NDArray[np.float64] = np.tile(tables["stem"][0, 0], (len(rows), 1))
        before = np.zeros(len(rows), dtype=np.int64)  # the stem
        for position, stage in enumerate(self.stages):
            ids = rows[:, position]
            total += tables[f"stage{stage}.first"][before, lists.first_rank[ids]]
            if self.max_depth > 1:
                total += self._next_sums(tables[f"stage{stage}.next"])[ids]
            before = lists.last_rank[ids]
        if self._decoders is None:
            total += tables["head"][before, 0]
        else:
            total += self._decoders.sums(tables, lists.last_rank[rows[:, :stages]], rows[:, stages:])
        return total

    def _next_sums(self, following: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Return what all but the first block of each list add, ``[lists, F]``, of a table ``stage.next``."""
        first, second, kept = following.shape
        counts = self._lists.next_counts[:, :first, :second].reshape(-1, first * second)
        return counts @ following.reshape(-1, kept)

    def stage_tables(self, width: int, height: int, features: Mapping[str, Sequence[float]]) -> list[StageTables]:
        """Return per-block features summed by stage, one set of tables a feature: ``sums`` of any row adds up.

        Args:
            width: of the image, pixels.
            height: of the image, pixels.
            features: by block key, F numbers each.

        Raises:
            MissingBlocksError: if a key of the space has no features.
            InputError: if a stage has too many lists.
        """
        tables = self._placed(width, height).tables(features)
        lists, size = self._lists, tables["stem"].shape[2]
        by_stage = []
        for stage in self.stages:
            found = tables[f"stage{stage}.first"][:, lists.first_rank]
            if self.max_depth > 1:
                found = found + self._next_sums(tables[f"stage{stage}.next"])
            by_stage.append(found)
        third, fourth, fifth = by_stage
        fifth = fifth + tables["head" if self._decoders is None else "pyramid"][lists.last_rank, 0]
        ranks = len(self.widths)
        if self._decoders is None:
            alone, ends = np.zeros((1, size)), [np.zeros((ranks, 1, size))] * len(self.stages)
            ids = np.zeros((1, 0), np.int32)
        else:
            alone, ends = self._decoders.parts(tables)
            ids = self._decoders.rows()
        return [
            StageTables(
                first=tables["stem"][0, 0, number] + third[0, :, number],
                next4=np.ascontiguousarray(fourth[:, :, number]),
                next5=np.ascontiguousarray(fifth[:, :, number]),
                alone=np.ascontiguousarray(alone[:, number]),
                ends3=np.ascontiguousarray(ends[0][:, :, number]),
                ends4=np.ascontiguousarray(ends[1][:, :, number]),
                ends5=np.ascontiguousarray(ends[2][:, :, number]),
                last_rank=lists.last_rank,
                suffix_start=lists.suffix_start,
                decoder_ids=ids,
            )
            for number in range(size)
        ]

    def block_tables(self, width: int, height: int, features: Mapping[str, Sequence[float]]) -> list[BlockTables]:
        """Return per-block features by place, one set of tables a feature; no list of widths is made.

        Args:
            width: of the image, pixels.
            height: of the image, pixels.
            features: by block key, F numbers each; infinite where a block must not occur.

        Raises:
            MissingBlocksError: if a key of the space has no features.
            InputError: of shuffle networks, where a unit's cost depends on whether it is the last of its stage; they
                have few lists, so that ``stage_tables`` do for them.
        """
        if self._template.family == "shuffle" and self.max_depth > 1:
            raise InputError(
                f"blocks of {self.name} do not add up place by place: the last unit of a stage has a form of its own",
                hint="its stages have few lists: search it by stage",
            )
        tables = self._placed(width, height).tables(features)
        ranks, stages = len(self.widths), [f"stage{stage}" for stage in self.stages]
        rises = np.triu(np.ones((ranks, ranks), bool))
        decoders = 1 if self._decoders is None else self._decoders.count
        found = []
        for number in range(tables["stem"].shape[2]):
            first = []
            for stage in stages:
                given = tables[f"{stage}.first"][:, :, number]
                padded = np.full((ranks, ranks), np.inf)
                padded[: len(given)] = given
                first.append(np.where(rises, padded, np.inf))
            following = []
            for stage in stages:
                step = np.full((ranks, ranks), np.inf)
                if self.max_depth > 1:
                    step = np.where(rises, tables[f"{stage}.next"][:, :, number], np.inf)
                following.append(np.broadcast_to(step, (self.max_depth - 1, ranks, ranks)))
            end = [np.zeros(ranks) for _ in stages]
            end[-1] = tables["head" if self._decoders is None else "pyramid"][:, 0, number]
            alone, ends = np.zeros(decoders), [np.zeros((ranks, decoders)) for _ in stages]
            if self._decoders is not None:
                own, controllers = self._decoders.parts(tables)
                alone, ends = own[:, number], [item[:, :, number] for item in controllers]
            stem = float(tables["stem"][0, 0, number])
            found.append(BlockTables(stem, first, following, end, alone, ends))
        return found

    def member(self, lists: Sequence[Widths], decoder: int = 0) -> Architecture:
        """Return the architecture of lists of widths and of a decoder's number, however large the space.

        Raises:
            InputError: if there is none.
        """
        if len(lists) != len(self.stages) or not all(self._lists.holds(tuple(item)) for item in lists):
            raise InputError(f"{[list(item) for item in lists]} are no lists of space {self.name!r}")
        found = self._with_lists(lists)
        if self._decoders is None:
            return found
        return dataclasses.replace(
            found, decoder=self._decoders.decoder(tuple(self._decoders.rows()[decoder].tolist()))
        )
