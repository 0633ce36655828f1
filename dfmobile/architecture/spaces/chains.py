"""Stage-factored spaces whose stages are non-decreasing lists of widths: counting, sampling, sums by array arithmetic.

Counting: with m widths, the lists of three stages with depths (n3, n4, n5) chain into one non-decreasing list, so
the space has Σ C(n3+n4+n5+m-1, m-1) architectures over all depths. Sampling is exact by the same counts
(dynamic programming over stages), never by enumeration.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.encoding import Architecture, Stage
from dfmobile.architecture.network import PlacedBlock, check_input, plan
from dfmobile.architecture.order import Widths, order_matrix
from dfmobile.architecture.spaces.base import MAX_ROWS, Rows, SearchSpace, feature_table
from dfmobile.errors import InputError
from dfmobile.graph import GraphBuilder

MAX_LISTS = 200_000
# An order matrix has a byte for each pair of lists: 0.9 GB.
MAX_ORDERED_LISTS = 30_000


class ChainSpace(SearchSpace):
    """Backbones of one family: each stage a non-decreasing list of 1 to ``max_depth`` widths, never narrowing.

    Args:
        name: as registered.
        template: an architecture whose family, stem, classes and channels all members share.
        widths: to choose from, ascending.
        max_depth: most blocks a stage.
        default_input: (width, height).

    Raises:
        InputError: if depth or widths make no space.
    """

    def __init__(
        self,
        name: str,
        template: Architecture,
        widths: tuple[int, ...],
        max_depth: int,
        default_input: tuple[int, int],
    ) -> None:
        if not 1 <= max_depth <= 24:
            raise InputError(f"depth {max_depth} is outside 1 to 24", hint="--max-depth takes 1 to 24 blocks a stage")
        if not widths or list(widths) != sorted(set(widths)) or widths[0] < 1:
            raise InputError(f"widths {list(widths)} are not ascending positive numbers")
        if template.decoder is not None or template.family.startswith(("resnet", "shuffle")):
            raise InputError(f"a chain space is of DF backbones without a decoder, not of {template.text}")
        self.name = name
        self.max_depth = max_depth
        self.default_input = default_input
        self._template = template
        self._widths = widths
        self._rank = {width: rank for rank, width in enumerate(widths)}

    @property
    def widths(self) -> tuple[int, ...]:
        """See base class."""
        return self._widths

    @property
    def total_stride(self) -> int:
        """See base class."""
        return self._template.total_stride

    @property
    def stages(self) -> tuple[int, ...]:
        """See base class."""
        return tuple(range(3, 3 + len(self._template.stages)))

    @property
    def formula(self) -> str:
        """See base class."""
        m = len(self._widths)
        return f"sum over depths (n3, n4, n5) from 1 to {self.max_depth} of C(n3+n4+n5+{m - 1}, {m - 1})"

    @cached_property
    def lists(self) -> tuple[Widths, ...]:
        """All lists a stage can have, sorted: by first width, so the successors of a list are a suffix."""
        self._refuse_above(MAX_LISTS)
        found: list[Widths] = []
        for depth in range(1, self.max_depth + 1):
            found.extend(itertools.combinations_with_replacement(self._widths, depth))
        return tuple(sorted(found))

    def _refuse_above(self, limit: int) -> None:
        """Refuse, before any memory is spent, a space with more lists a stage than ``limit``."""
        number = math.comb(self.max_depth + len(self._widths), self.max_depth) - 1
        if number > limit:
            raise InputError(
                f"space {self.name!r} at depth {self.max_depth} has {number} lists a stage; at most {limit} can be "
                "handled here",
                hint="choose a smaller --max-depth",
            )

    @cached_property
    def _list_ids(self) -> dict[Widths, int]:
        return {widths: number for number, widths in enumerate(self.lists)}

    @cached_property
    def _first_rank(self) -> npt.NDArray[np.int64]:
        return np.array([self._rank[widths[0]] for widths in self.lists])

    @cached_property
    def _last_rank(self) -> npt.NDArray[np.int64]:
        return np.array([self._rank[widths[-1]] for widths in self.lists])

    @cached_property
    def _suffix_start(self) -> npt.NDArray[np.int64]:
        """First list id whose first width is at least each width."""
        return np.searchsorted(self._first_rank, np.arange(len(self._widths)))

    @cached_property
    def _completions(self) -> list[npt.NDArray[np.float64]]:
        """Per stage, per list: how many ways the later stages can follow. Float64 is exact below 2**53."""
        after = np.ones(len(self.lists))
        found = [after]
        for _ in self.stages[1:]:
            from_list = np.concatenate([np.cumsum(after[::-1])[::-1], [0.0]])
            after = from_list[self._suffix_start[self._last_rank]]
            found.append(after)
        return found[::-1]

    def count(self) -> int:
        """See base class."""
        m, depth, stages = len(self._widths), self.max_depth, len(self.stages)
        # How many ways to reach each total depth: a convolution of uniform depths.
        ways = [1]
        for _ in range(stages):
            ways = [
                sum(ways[total - step] for step in range(1, depth + 1) if 0 <= total - step < len(ways))
                for total in range(len(ways) + depth)
            ]
        return sum(number * math.comb(total + m - 1, m - 1) for total, number in enumerate(ways))

    def rows(self) -> Rows:
        """See base class."""
        if self.count() > MAX_ROWS:
            raise InputError(
                f"space {self.name!r} at depth {self.max_depth} has {self.count()} architectures; "
                f"at most {MAX_ROWS} can be listed",
                hint="choose a smaller --max-depth",
            )
        total = len(self.lists)
        rows = np.arange(total, dtype=np.int32)[:, None]
        for _ in self.stages[1:]:
            start = self._suffix_start[self._last_rank[rows[:, -1]]]
            lengths = total - start
            before = np.repeat(np.arange(len(rows)), lengths)
            offsets = np.arange(int(lengths.sum())) - np.repeat(np.cumsum(lengths) - lengths, lengths)
            following = (start[before] + offsets).astype(np.int32)
            rows = np.concatenate([rows[before], following[:, None]], axis=1)
        return rows

    def architecture(self, row: Sequence[int] | Rows) -> Architecture:
        """See base class."""
        template = self._template
        if len(row) != len(template.stages) or not all(0 <= int(number) < len(self.lists) for number in row):
            raise InputError(
                f"a row of space {self.name!r} has {len(template.stages)} list ids from 0 to {len(self.lists) - 1}"
            )
        stages = tuple(
            Stage(stage.kind, self.lists[int(number)]) for stage, number in zip(template.stages, row, strict=True)
        )
        return Architecture(
            template.family, stages, template.stem, template.decoder, template.classes, template.in_channels
        )

    def row(self, architecture: Architecture) -> Rows:
        """See base class."""
        template = self._template
        same = (template.family, template.stem, template.decoder, template.classes, template.in_channels)
        given = architecture
        if same != (given.family, given.stem, given.decoder, given.classes, given.in_channels):
            raise InputError(f"{architecture.text} is not a member of space {self.name!r}: another kind of network")
        ids = [self._list_ids.get(stage.widths) for stage in architecture.stages]
        if None in ids:
            raise InputError(
                f"{architecture.text} is not a member of space {self.name!r} at depth {self.max_depth}",
                hint=f"widths {', '.join(str(width) for width in self._widths)}; at most {self.max_depth} blocks a "
                "stage (--max-depth)",
            )
        return np.array(ids, dtype=np.int32)

    def sample_rows(self, count: int, generator: np.random.Generator) -> Rows:
        """See base class."""
        rows = np.empty((count, len(self.stages)), np.int32)
        low = np.zeros(count, dtype=np.int64)
        for position, completions in enumerate(self._completions):
            cumulative = np.concatenate([[0.0], np.cumsum(completions)])
            base = cumulative[low]
            target = base + generator.random(count) * (cumulative[-1] - base)
            chosen = np.searchsorted(cumulative, target, side="right") - 1
            chosen = np.clip(chosen, low, len(self.lists) - 1)  # rounding at the ends
            rows[:, position] = chosen
            low = self._suffix_start[self._last_rank[chosen]]
        return rows

    @cached_property
    def _order(self) -> npt.NDArray[np.bool_]:
        return order_matrix(self.lists)

    def stage_order(self, stage: int) -> npt.NDArray[np.bool_]:
        """See base class."""
        del stage  # every stage has the same lists
        self._refuse_above(MAX_ORDERED_LISTS)
        return self._order

    @lru_cache(maxsize=8)  # noqa: B019  (a process opens few spaces, and blocks cost milliseconds to derive)
    def _placed(self, width: int, height: int) -> tuple[dict[tuple[object, ...], int], tuple[PlacedBlock, ...]]:
        """Return, by place, the index of the block in the list of distinct blocks.

        A place is ``("stem",)``, ``(stage, "first", rank before, rank)``, ``(stage, "next", rank before, rank)``
        or ``("head", rank)``.
        """
        check_input(self._template, width, height)
        places: dict[tuple[object, ...], int] = {}
        found: dict[str, int] = {}
        blocks: list[PlacedBlock] = []

        def note(place: tuple[object, ...], block: PlacedBlock) -> None:
            if place not in places:
                if block.key not in found:
                    found[block.key] = len(blocks)
                    blocks.append(block)
                places[place] = found[block.key]

        # Small members in which every transition occurs: stage lists of one or two widths.
        depth = min(2, self.max_depth)
        for architecture in self._transition_members(depth):
            for place, block in _places(architecture, width, height, self._rank):
                note(place, block)
        return places, tuple(blocks)

    def _transition_members(self, depth: int) -> list[Architecture]:
        """Return members that together hold every block of the space."""
        members = []
        narrow = self._widths[0]
        kinds = [stage.kind for stage in self._template.stages]
        for low, high in itertools.combinations_with_replacement(self._widths, 2):
            for position in range(len(kinds)):
                # Before the stage: `low`; in it: high (first block), and low,high (next block); after it: high.
                for middle in [(high,), *([(low, high)] if depth == 2 else [])]:
                    before = low if position else narrow
                    lists = [
                        middle if number == position else ((before,) if number < position else (high,))
                        for number in range(len(kinds))
                    ]
                    stages = tuple(Stage(kind, widths) for kind, widths in zip(kinds, lists, strict=True))
                    template = self._template
                    members.append(
                        Architecture(
                            template.family,
                            stages,
                            template.stem,
                            template.decoder,
                            template.classes,
                            template.in_channels,
                        )
                    )
        return members

    def blocks(self, width: int, height: int) -> tuple[PlacedBlock, ...]:
        """See base class."""
        return self._placed(width, height)[1]

    @cached_property
    def _next_counts(self) -> npt.NDArray[np.float64]:
        """``[lists, m·m]``: how often each (width before, width) follows inside a list."""
        m = len(self._widths)
        counts = np.zeros((len(self.lists), m * m))
        for number, widths in enumerate(self.lists):
            for before, after in itertools.pairwise(widths):
                counts[number, self._rank[before] * m + self._rank[after]] += 1
        return counts

    def sums(
        self, rows: Rows, width: int, height: int, features: Mapping[str, Sequence[float]]
    ) -> npt.NDArray[np.float64]:
        """See base class."""
        places, blocks = self._placed(width, height)
        table = feature_table(blocks, features)
        m, size = len(self._widths), table.shape[1]
        total = np.tile(table[places[("stem",)]], (len(rows), 1))
        before = np.zeros(len(rows), dtype=np.int64)  # the stem: stage 3's first blocks are noted under rank 0
        for position, stage in enumerate(self.stages):
            first = np.full((m, m, size), np.nan)
            following = np.zeros((m * m, size))
            for low in range(m):
                for high in range(low, m):
                    place = (stage, "first", low if position else 0, high)
                    if place in places:
                        first[low, high] = table[places[place]]
                    place = (stage, "next", low, high)
                    if place in places:
                        following[low * m + high] = table[places[place]]
            inner = self._next_counts @ following
            ids = rows[:, position]
            total += first[before, self._first_rank[ids]] + inner[ids]
            before = self._last_rank[ids]
        heads = np.stack([table[places[("head", rank)]] for rank in range(m)])
        result: npt.NDArray[np.float64] = total + heads[before]
        return result


def _places(
    architecture: Architecture, width: int, height: int, rank: Mapping[int, int]
) -> list[tuple[tuple[object, ...], PlacedBlock]]:
    """Return each block of a backbone with its place (see ``ChainSpace._placed``)."""
    builder = GraphBuilder()
    value = builder.input("image", (1, architecture.in_channels, height, width))
    flat = [
        (number, position, widths[position - 1] if position else None, width_here)
        for number, widths in enumerate((stage.widths for stage in architecture.stages), 3)
        for position, width_here in enumerate(widths)
    ]
    found: list[tuple[tuple[object, ...], PlacedBlock]] = []
    previous_last = None
    residuals = iter(flat)
    for name, block, sources in plan(architecture):
        shape = builder.shape(value)
        placed = PlacedBlock(name, block, sources, (shape,))
        place: tuple[object, ...]
        if name == "stem":
            place = ("stem",)
        elif name == "head":
            place = ("head", rank[architecture.stages[-1].widths[-1]])
        else:
            stage, position, before, here = next(residuals)
            if position == 0:
                place = (stage, "first", 0 if previous_last is None else rank[previous_last], rank[here])
            else:
                assert before is not None  # noqa: S101  (narrows the type)
                place = (stage, "next", rank[before], rank[here])
            previous_last = here
        found.append((place, placed))
        value = block.emit(builder, name, value)
    return found
