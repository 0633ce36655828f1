"""A small world to search in: a table made of MACs, a monotone accuracy, executors that run in this process."""

from __future__ import annotations

import importlib
import json
import math
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dfmobile.accuracy.job import DESCRIBE, EVALUATE
from dfmobile.architecture import Architecture
from dfmobile.architecture.spaces import SearchSpace
from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.architecture.spaces.stage_tables import StageTables
from dfmobile.errors import MissingBlocksError
from dfmobile.execution.base import Executor


class MacsPredictor:
    """Predicts latency as if every block ran at one speed, plus a fixed part a block."""

    def __init__(self, per_block_ms: float = 0.02, skipped_above_ms: float = math.inf) -> None:
        self.per_block_ms = per_block_ms
        self.skipped_above_ms = skipped_above_ms

    def predict_rows(
        self,
        space: SearchSpace,
        rows: npt.NDArray[np.int32],
        width: int,
        height: int,
        *,
        skipped: Literal["error", "infinite"] = "error",
    ) -> npt.NDArray[np.float64]:
        features = {block.key: [block.macs * 1e-6 + self.per_block_ms] for block in space.blocks(width, height)}
        slow = {key for key, (latency,) in features.items() if latency > self.skipped_above_ms}
        if slow and skipped == "error":
            raise MissingBlocksError("blocks are missing", keys=tuple(slow))
        # The second feature counts the skipped blocks.
        counted = {key: [value[0], float(key in slow)] for key, value in features.items()}
        sums = space.sums(rows, width, height, counted)
        return np.where(sums[:, 1] > 0, math.inf, sums[:, 0])


class StageMacsPredictor(MacsPredictor):
    """As MacsPredictor, and additive."""

    additive = True

    def is_additive(self, space: SearchSpace, width: int, height: int) -> bool:
        return self.additive

    def rule_for(self, space: SearchSpace, width: int, height: int) -> str:
        return "sum" if self.additive else "cache-aware"

    def stage_latencies(
        self, space: ChainSpace, width: int, height: int, *, skipped: Literal["error", "infinite"] = "error"
    ) -> StageTables:
        blocks = space.blocks(width, height)
        features = {block.key: [block.macs * 1e-6 + self.per_block_ms] for block in blocks}
        return space.stage_tables(width, height, features)[0]


def precedence(space: SearchSpace, rows: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """[N, N]: whether row i precedes row j, by the definition."""
    result = np.ones((len(rows), len(rows)), dtype=bool)
    for stage in range(rows.shape[1]):
        result &= space.stage_order(stage)[np.ix_(rows[:, stage], rows[:, stage])]
    return result


def monotone_accuracy(
    below: npt.NDArray[np.bool_], generator: np.random.Generator, levels: int
) -> npt.NDArray[np.float64]:
    """A random accuracy that never falls along the order, with ties: the best random value at or below each."""
    values = generator.integers(levels, size=len(below)) / levels
    return np.array([values[below[:, j]].max() for j in range(len(below))])


def toy_accuracy(encoding: str) -> float:
    """More width and more blocks help, with falling returns; never falls along the order."""
    widths = [width for stage in Architecture.parse(encoding).stages for width in stage.widths]
    return 1.0 - 1.0 / (1.0 + sum(np.log2(width) ** 2 for width in widths) / 60.0)


def evaluate(payload: dict[str, Any]) -> dict[str, Any]:
    accuracy = toy_accuracy(payload["encoding"])
    return {"accuracy": accuracy, "seconds": 0.0, "details": {"label": "toy"}, "curve": [], "weights": None}


class HereExecutor(Executor):
    """Runs tasks in threads of this process; the evaluator's tasks are replaced by functions of the test."""

    name = "here"

    def __init__(
        self,
        evaluate: Callable[[dict[str, Any]], dict[str, Any]] = evaluate,
        workers: int = 2,
        delay_s: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._evaluate = evaluate
        self._delay_s = delay_s
        self._workers = workers
        self._pool = ThreadPoolExecutor(workers)
        self._lock = threading.Lock()
        self.submitted: list[str] = []

    @property
    def workers(self) -> int:
        return self._workers

    def submit(self, function: str, payload: dict[str, Any]) -> Future[dict[str, Any]]:
        return self._pool.submit(self._call, function, json.loads(json.dumps(payload)))

    def _call(self, function: str, payload: dict[str, Any]) -> dict[str, Any]:
        if function == DESCRIBE:
            return {"description": {"label": "toy", **payload["options"]}}
        if function == EVALUATE:
            with self._lock:
                self.submitted.append(payload["encoding"])
            time.sleep(self._delay_s())
            return dict(json.loads(json.dumps(self._evaluate(payload))))
        module, _, name = function.partition(":")
        return dict(getattr(importlib.import_module(module), name)(payload))

    def close(self, *, wait: bool = False) -> None:
        self._pool.shutdown(wait=True, cancel_futures=not wait)
