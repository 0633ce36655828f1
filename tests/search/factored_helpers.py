"""Small spaces with additive latencies for the tests of the factored engine."""

from __future__ import annotations

import importlib.util
from functools import lru_cache

import numpy as np
import pytest

from dfmobile.architecture.spaces import SearchSpace, open_space
from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.architecture.spaces.stage_tables import StageTables
from dfmobile.search.base import Candidate, Evaluated
from dfmobile.search.factored import FactoredPruner

HAS_NUMBA = importlib.util.find_spec("numba") is not None
ENGINES = [
    "numpy",
    pytest.param("numba", marks=pytest.mark.skipif(not HAS_NUMBA, reason="numba (extra fast) is not installed")),
]
# Small members of every registered kind: about 800 to 20,000 architectures.
SMALL = [("df", 3), ("df-bottleneck", 3), ("df-mini", 2), ("shuffle", 3), ("df-seg", 1), ("shuffle-seg", 1)]


@lru_cache(maxsize=16)
def chain_space(name: str, depth: int) -> ChainSpace:
    space = open_space(name, depth)
    assert isinstance(space, ChainSpace)
    return space


def tables_of(space: ChainSpace, seed: int, levels: int | None = None) -> StageTables:
    """Random latencies of blocks; with levels, multiples of 1/4, so that ties are common and sums are exact."""
    generator = np.random.default_rng(seed)
    size = (space.total_stride, space.total_stride)

    def number() -> float:
        return float(generator.random()) if levels is None else float(generator.integers(1, levels + 1)) / 4

    return space.stage_tables(*size, {key: [number()] for key in space.key_index(*size)})[0]


@lru_cache(maxsize=16)
def rows_of(name: str, depth: int) -> np.ndarray:  # type: ignore[type-arg]
    return chain_space(name, depth).rows()


def scores_of(space: SearchSpace, rows: np.ndarray, seed: int) -> np.ndarray:  # type: ignore[type-arg]
    """Accuracies that grow along the order, with ties: weights of each column's id, never negative, rounded."""
    generator = np.random.default_rng(seed)
    total = np.zeros(len(rows))
    for column in range(rows.shape[1]):
        order = space.stage_order(column)
        weights = generator.random(len(order))
        total += (order * weights[:, None]).sum(axis=0)[rows[:, column]] / len(order)
    return np.asarray(np.round(total, 2))


def search(pruner: FactoredPruner, accuracy: dict[tuple[int, ...], float], steps: int, seed: int) -> list[Evaluated]:
    """Draw, take and apply some candidates; return what was evaluated."""
    generator, found = np.random.default_rng(seed), []
    while pruner.alive_count and len(found) < steps:
        candidate = pruner.draw(generator)
        pruner.take(candidate)
        found.append(Evaluated(len(found) + 1, candidate, accuracy[candidate.row]))
        pruner.apply(found[-1])
    return found


def candidates(rows: np.ndarray, tables: StageTables) -> list[Candidate]:  # type: ignore[type-arg]
    return [
        Candidate(tuple(row), value) for row, value in zip(rows.tolist(), tables.values(rows).tolist(), strict=True)
    ]
