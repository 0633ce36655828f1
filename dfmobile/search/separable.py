"""The exact best of a chain space by a sum over blocks, within a latency range, for spaces far beyond enumeration.

Score and latency are sums over blocks, so an architecture is a path: block after block, stage after stage, whose state
is (stage, number of blocks in it, width). Lists of widths are never made. The optimum is found by label setting with
Lagrangian bounds (the resource constrained shortest path; Handler & Zang 1980, Dumitrescu & Boland 2003):

1. For a price λ ≥ 0 of a millisecond, one backward pass gives the best of score - λ·latency from every state on. The
   smallest bound over λ is found by bisection; the paths on the way that are within the range are first answers.
2. Forward, state by state, labels (latency, score) are kept that no other label of the state beats, that can still
   end within the range, and whose bound is not below the best answer so far.

What is exact: no member of the space within the range has a higher score than the answer, where sums are compared in
float64 with a tolerance of 1e-9 (relative to the largest bound) in favour of keeping labels. A range with two ends is
first solved with each end alone; an answer that is within the other end too is the answer. Where both ends bind, a
label that is faster and better may be too fast to reach the lower end: then only labels that surely end within the
range beat others, and many more are kept. If they become more than ``MAX_LABELS``, that is an error, never an inexact
answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.encoding import Architecture
from dfmobile.architecture.spaces.block_tables import BlockTables
from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.architecture.spaces.stage_tables import Array
from dfmobile.errors import InputError
from dfmobile.search.separable_labels import Labels, chosen, joined, stepped, unbeaten

Ints = npt.NDArray[np.int64]
MAX_LABELS = 2_000_000
_GOLDEN = (3 - 5**0.5) / 2
_SECTIONS = 30
_TOLERANCE = 1e-9


@dataclass(frozen=True)
class SeparableOptimum:
    """The best architecture.

    Attributes:
        architecture: it.
        score: its score.
        latency_ms: its latency.
        labels: how many partial architectures were looked at.
    """

    architecture: Architecture
    score: float
    latency_ms: float
    labels: int


@dataclass(frozen=True)
class _Passes:
    """Best completions from every state; ``value[stage][depth - 1, rank]``, and before the first block ``start``."""

    start: float
    value: list[Array]
    end: list[Array]


def best_separable(
    space: ChainSpace,
    latency: BlockTables,
    score: BlockTables,
    latency_range: tuple[float | None, float | None] = (None, None),
) -> SeparableOptimum:
    """Return the member with the highest score whose latency is within the range.

    Args:
        space: of any size.
        latency: ms; infinite where a block must not occur.
        score: finite; it may depend on the position in the stage.
        latency_range: lowest and highest latency, ends included; None: open.

    Raises:
        InputError: if no member is within the range, or more labels than ``MAX_LABELS`` are needed.
    """
    low, high = latency_range
    bounds = (-np.inf if low is None else low, np.inf if high is None else high)
    pairs = [(latency.variant(number), score.variant(number)) for number in range(latency.decoders)]
    for ends in dict.fromkeys(((-np.inf, bounds[1]), (bounds[0], np.inf), bounds)):
        found = _best(space, pairs, ends)
        if found is None:
            break
        if bounds[0] <= found.latency_ms <= bounds[1]:
            return found
    spans = np.array([_Problem(space, *pair, (-np.inf, np.inf)).span() for pair in pairs])
    raise InputError(
        f"no architecture of {space.name} has a latency in the range {bounds[0]:g} to {bounds[1]:g} ms",
        hint=f"the space's latencies are {spans[:, 0].min():.4g} to {spans[:, 1].max():.4g} ms",
    )


def _best(
    space: ChainSpace, pairs: list[tuple[BlockTables, BlockTables]], bounds: tuple[float, float]
) -> SeparableOptimum | None:
    """Return the best member within a range, None if there is none; ``pairs`` are latency and score by decoder."""
    problems = [_Problem(space, *pair, bounds) for pair in pairs]
    problems[0].refine()
    for problem in problems[1:]:
        problem.price_at(problems[0].price)
    best: SeparableOptimum | None = None
    labels = 0
    # Decoders by their bound, best first: most cannot beat what the first ones give.
    for number in sorted(range(len(problems)), key=lambda number: -problems[number].bound):
        problem, floor = problems[number], -np.inf if best is None else best.score
        if problem.bound < floor:
            break
        if number:
            problem.refine()
        if problem.bound < floor:
            continue
        answer, used = problem.solve(floor, MAX_LABELS - labels)
        labels += used
        if answer is not None and (best is None or answer[0] > best.score):
            best = SeparableOptimum(space.member(answer[2], number), answer[0], answer[1], labels)
    return None if best is None else replace(best, labels=labels)


class _Problem:
    """One decoder: states are numbered by stage, depth and rank of the last width."""

    def __init__(
        self, space: ChainSpace, latency: BlockTables, score: BlockTables, bounds: tuple[float, float]
    ) -> None:
        self.depth, self.ranks = space.max_depth, len(space.widths)
        self.widths = space.widths
        self.latency, self.score = latency, score
        self.low, self.high = bounds
        usable = latency.with_infinite_as(0.0)
        self.allowed = latency.finite()
        self._fastest = self._backward(usable.scaled(-1.0))
        self._slowest = self._backward(usable)
        self._usable = usable
        self.price_at(0.0)

    def price_at(self, price: float) -> None:
        """Take the bound and the completions at a price of a millisecond; every price gives a valid bound."""
        if (price > 0 and np.isinf(self.high)) or (price < 0 and np.isinf(self.low)):
            price = 0.0
        self.price = price
        self._priced = self._backward(self.score.plus(self._usable.scaled(-price)))
        # A positive price pays for the upper end, a negative one for the lower end.
        limit = self.high if price > 0 else self.low
        self.bound = self._priced.start + (price * limit if price else 0.0)
        if -self._fastest.start > self.high or self._slowest.start < self.low:
            self.bound = -np.inf

    def span(self) -> tuple[float, float]:
        """Return the smallest and the largest latency."""
        return -self._fastest.start, self._slowest.start

    def _backward(self, value: BlockTables) -> _Passes:
        """Return the best completion from each state, by the sum of a number over blocks; -inf where there is none."""
        stages = len(value.first)
        values: list[Array] = [np.empty((self.depth, self.ranks))] * stages
        ends: list[Array] = [np.empty(self.ranks)] * stages
        for stage in reversed(range(stages)):
            end = value.end[stage]
            if stage + 1 < stages:
                step = np.where(self.allowed.first[stage + 1], value.first[stage + 1], -np.inf) + values[stage + 1][0]
                end = end + step.max(axis=1)
            end = np.where(self.allowed.end[stage], end, -np.inf)
            table = np.empty((self.depth, self.ranks))
            table[-1] = end
            for depth in range(self.depth - 2, -1, -1):
                step = np.where(self.allowed.following[stage][depth], value.following[stage][depth], -np.inf)
                table[depth] = np.maximum(end, (step + table[depth + 1]).max(axis=1))
            values[stage], ends[stage] = table, end
        first = np.where(self.allowed.first[0], value.first[0], -np.inf)[0] + values[0][0]
        return _Passes(float(first.max() + value.start), values, ends)

    def refine(self) -> None:
        """Take the lowest bound over prices: it is convex in the price."""
        self.price_at(0.0)
        if self.bound == -np.inf:
            return
        scores = self._priced.start + self._backward(self.score.scaled(-1.0)).start
        spread = self._slowest.start + self._fastest.start
        steepest = 1e3 * max(scores, 1e-12) / max(spread, 1e-12)
        best, kept = self.bound, 0.0
        for sign, limit in ((1.0, self.high), (-1.0, self.low)):
            if np.isinf(limit):
                continue

            def bound(price: float, sign: float = sign) -> float:
                self.price_at(sign * price)
                return self.bound

            # First its magnitude, then golden sections.
            grid = np.concatenate([[0.0], np.geomspace(1e-9 * steepest, steepest, 25)])
            place = int(np.argmin([bound(price) for price in grid]))
            left, right = float(grid[max(0, place - 1)]), float(grid[min(len(grid) - 1, place + 1)])
            one, two = left + _GOLDEN * (right - left), right - _GOLDEN * (right - left)
            values = [bound(one), bound(two)]
            for _ in range(_SECTIONS):
                if values[0] <= values[1]:
                    right, two = two, one
                    one = left + _GOLDEN * (right - left)
                    values = [bound(one), values[0]]
                else:
                    left, one = one, two
                    two = right - _GOLDEN * (right - left)
                    values = [values[1], bound(two)]
            for price, value in zip((one, two), values, strict=True):
                if value < best:
                    best, kept = value, sign * price
        self.price_at(kept)

    def solve(self, incumbent: float, most: int) -> tuple[tuple[float, float, list[tuple[int, ...]]] | None, int]:
        """Return the best score above an incumbent with its latency and lists, and how many labels that took."""
        limit = self.high if self.price > 0 else (self.low if self.price < 0 else 0.0)
        scale = _TOLERANCE * max(1.0, abs(self.bound), abs(incumbent) if np.isfinite(incumbent) else 0.0)
        greedy = self._greedy()
        floor = max([incumbent, *(item[0] for item in greedy)])
        states: dict[tuple[int, int, int], Labels] = {}
        finished: list[tuple[float, float, tuple[int, int, int], int]] = []
        used = 0
        for state, labels in self._forward(states):
            stage, depth, rank = state
            rest = self._priced.value[stage][depth, rank]
            upper = labels.score - self.price * labels.latency_ms + rest + self.price * limit
            fastest = labels.latency_ms - self._fastest.value[stage][depth, rank]
            slowest = labels.latency_ms + self._slowest.value[stage][depth, rank]
            slack = 1e-9 * max(1.0, abs(self.high) if np.isfinite(self.high) else 1.0)
            keep = (upper >= floor - scale) & (fastest <= self.high + slack) & (slowest >= self.low - slack)
            labels = chosen(labels, np.flatnonzero(keep))
            labels = chosen(
                labels, unbeaten(labels, fastest[keep] >= self.low + slack, slowest[keep] <= self.high - slack)
            )
            used += len(labels.score)
            if used > most:
                raise InputError(
                    f"the exact optimum needs more than {MAX_LABELS} partial architectures",
                    hint="widen the latency range; a lower end that binds is what makes it hard",
                )
            states[state] = labels
            if stage == len(self.latency.first) - 1 and self.allowed.end[stage][rank]:
                latency = labels.latency_ms + self.latency.end[stage][rank]
                score = labels.score + self.score.end[stage][rank]
                inside = np.flatnonzero((latency >= self.low) & (latency <= self.high))
                if len(inside):
                    place = int(inside[np.argmax(score[inside])])
                    finished.append((float(score[place]), float(latency[place]), state, place))
                    floor = max(floor, float(score[place]))
        if not finished:
            return None, used
        score, latency, state, place = max(finished, key=lambda item: item[0])
        return (score, latency, self._lists(states, state, place)), used

    def _forward(self, states: dict[tuple[int, int, int], Labels]) -> Iterator[tuple[tuple[int, int, int], Labels]]:
        """Yield each state with all labels that reach it from the states before."""
        order: list[tuple[int, int, int]] = [
            (stage, depth, rank)
            for stage in range(len(self.latency.first))
            for depth in range(self.depth)
            for rank in range(self.ranks)
        ]
        number = {state: place for place, state in enumerate(order)}
        self._order = order
        for state in order:
            stage, depth, rank = state
            parts: list[Labels] = []
            if depth:
                for before in range(rank + 1):
                    if self.allowed.following[stage][depth - 1, before, rank]:
                        step = self.latency.following[stage][depth - 1, before, rank]
                        gain = self.score.following[stage][depth - 1, before, rank]
                        origin = (stage, depth - 1, before)
                        parts.append(stepped(states[origin], step, gain, number[origin]))
            elif stage:
                for before in range(rank + 1):
                    if self.allowed.first[stage][before, rank] and self.allowed.end[stage - 1][before]:
                        step = self.latency.end[stage - 1][before], self.latency.first[stage][before, rank]
                        gain = self.score.end[stage - 1][before], self.score.first[stage][before, rank]
                        for length in range(self.depth):
                            origin = (stage - 1, length, before)
                            parts.append(stepped(states[origin], step[0] + step[1], gain[0] + gain[1], number[origin]))
            elif self.allowed.first[0][0, rank]:
                one = np.zeros(1, np.int64)
                latency = np.array([self.latency.start + self.latency.first[0][0, rank]])
                parts.append(Labels(latency, np.array([self.score.start + self.score.first[0][0, rank]]), one - 1, one))
            yield state, joined(parts)

    def _lists(
        self, states: dict[tuple[int, int, int], Labels], state: tuple[int, int, int], place: int
    ) -> list[tuple[int, ...]]:
        """Return the lists of widths of a finished label, by walking back."""
        lists: list[list[int]] = [[] for _ in self.latency.first]
        while True:
            lists[state[0]].append(self.widths[state[2]])
            labels = states[state]
            before, place = int(labels.before[place]), int(labels.parent[place])
            if before < 0:
                return [tuple(reversed(item)) for item in lists]
            state = self._order[before]

    def _greedy(self) -> list[tuple[float, float]]:
        """Return (score, latency) of members within the range that following priced completions gives."""
        found = []
        for price in (
            self.price,
            self.price * (1 + 1e-6),
            self.price * (1 - 1e-6),
            self.price * 1.05,
            self.price * 0.95,
        ):
            passes = self._backward(self.score.plus(self._usable.scaled(-price)))
            item = self._follow(passes, price)
            if item is not None and self.low <= item[1] <= self.high:
                found.append(item)
        return found

    def _follow(self, passes: _Passes, price: float) -> tuple[float, float] | None:
        """Return (score, latency) of the member that is best at a price; None if there is none."""
        if not np.isfinite(passes.start):
            return None
        score, latency, before = self.score.start, self.latency.start, 0
        for stage in range(len(self.latency.first)):
            gains = self.score.first[stage][before] - price * self._usable.first[stage][before]
            gains = np.where(self.allowed.first[stage][before], gains + passes.value[stage][0], -np.inf)
            rank = int(np.argmax(gains))
            score += self.score.first[stage][before, rank]
            latency += self.latency.first[stage][before, rank]
            for depth in range(self.depth - 1):
                gains = self.score.following[stage][depth, rank] - price * self._usable.following[stage][depth, rank]
                gains = np.where(
                    self.allowed.following[stage][depth, rank], gains + passes.value[stage][depth + 1], -np.inf
                )
                if passes.end[stage][rank] >= gains.max():
                    break
                following = int(np.argmax(gains))
                score += self.score.following[stage][depth, rank, following]
                latency += self.latency.following[stage][depth, rank, following]
                rank = following
            score += self.score.end[stage][rank]
            latency += self.latency.end[stage][rank]
            before = rank
        return float(score), float(latency)
