"""In which order passes are measured, and how long that will take."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence

import numpy as np

from dfmobile.architecture import PlacedBlock
from dfmobile.errors import BackendError
from dfmobile.latency.backends.base import Backend, MeasureJob
from dfmobile.latency.entries import TableEntry
from dfmobile.latency.measurement import Protocol
from dfmobile.latency.models import ModelFolder

_LEAST_RUN_MS = 0.01
_OVERHEAD_MS = 15.0  # of a pass beyond its runs: interpreter, inputs, eviction, recording
_LOAD_BYTES_PER_MS = 5e5  # making, writing, loading and packing weights: measured about 0.5 GB/s


def interleave(blocks: Sequence[PlacedBlock], passes: int, seed: int) -> list[tuple[PlacedBlock, int]]:
    """Return every (block, pass index), so that a slow phase of the machine never hits all passes of a block.

    Each round has one pass of every block. Blocks are drawn into two halves once; each round shuffles both, the
    first half always first. So between two passes of a block there are passes of about half of all blocks at
    least, which a full shuffle would not promise (last of one round, first of the next).

    Args:
        blocks: distinct by key.
        passes: rounds.
        seed: equal seeds give equal orders for equal keys, whatever order the blocks come in.
    """
    generator = np.random.default_rng(seed)
    ordered = sorted(blocks, key=lambda block: block.key)
    drawn = [ordered[position] for position in generator.permutation(len(ordered))]
    halves = (drawn[: len(drawn) // 2], drawn[len(drawn) // 2 :])
    return [
        (half[position], round_index)
        for round_index in range(passes)
        for half in halves
        for position in generator.permutation(len(half))
    ]


def shuffled(passes: Sequence[tuple[PlacedBlock, int]], seed: Sequence[int]) -> list[tuple[PlacedBlock, int]]:
    """Return one more round of some blocks in a random order, in the two halves that their keys tell.

    So one block is not measured last in a round and first in the next one here either.
    """
    generator = np.random.default_rng(seed)
    halves: tuple[list[tuple[PlacedBlock, int]], ...] = ([], [])
    for item in sorted(passes, key=lambda item: (item[0].key, item[1])):
        halves[int(item[0].digest, 16) % 2].append(item)
    return [half[position] for half in halves for position in generator.permutation(len(half))]


class TimeModel:
    """Estimates how long passes take, from multiply-accumulates and one rate.

    Args:
        ms_per_mac: of the device.
    """

    def __init__(self, ms_per_mac: float) -> None:
        self.ms_per_mac = ms_per_mac

    @classmethod
    def of_entries(cls, entries: Sequence[TableEntry]) -> TimeModel | None:
        """Return the model that rows of a table give; None where there are none to go by."""
        counted = [entry for entry in entries if entry.macs]
        total = sum(entry.macs for entry in counted)
        return cls(math.fsum(entry.hot_ms for entry in counted) / total) if total else None

    @classmethod
    def of_probe(
        cls, blocks: Sequence[PlacedBlock], backend: Backend, models: ModelFolder, protocol: Protocol
    ) -> TimeModel:
        """Return the model that three runs of one block of median size give; nothing of them is recorded."""
        block = sorted(blocks, key=lambda item: (item.macs, item.key))[len(blocks) // 2]
        quick = dataclasses.replace(
            protocol, passes=1, runs=1, min_runs=1, cold_runs=0, min_warm_up_runs=2, warm_up_ms=0.0, stop_above_ms=None
        )
        job = MeasureJob("probe", models.model(block).path, quick)
        for _, result in backend.measure([job]):
            return cls(result.hot_ms[0] / max(1, block.macs))
        raise BackendError(f"backend {backend.name} gave no result for a model that it was to measure")

    def pass_seconds(self, block: PlacedBlock, protocol: Protocol) -> float:
        """Return about how long one pass of a block takes."""
        run_ms = max(_LEAST_RUN_MS, block.macs * self.ms_per_mac)
        overhead_ms = _OVERHEAD_MS + 4 * block.params / _LOAD_BYTES_PER_MS
        return protocol.estimated_pass_ms(run_ms, overhead_ms) / 1000


class Remaining:
    """Tells how long the rest takes: the estimate, corrected by how long the part that is done really took."""

    def __init__(self, estimates_s: Sequence[float]) -> None:
        self.total_s = math.fsum(estimates_s)
        self._left_s = self.total_s
        self._start = time.monotonic()

    def add(self, estimates_s: Sequence[float]) -> None:
        """Take note that there is more to do."""
        self.total_s += math.fsum(estimates_s)
        self._left_s += math.fsum(estimates_s)

    def done(self, estimate_s: float) -> float:
        """Take note that a pass is done, and return about how many seconds are left."""
        self._left_s = max(0.0, self._left_s - estimate_s)
        estimated_s = self.total_s - self._left_s
        pace = (time.monotonic() - self._start) / estimated_s if estimated_s > 0 else 1.0
        return self._left_s * pace
