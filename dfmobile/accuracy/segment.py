"""Inference on pictures: a pool of runners at full core use, and label maps of what they return."""

from __future__ import annotations

import os
import queue
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image

from dfmobile.accuracy.inference import InferenceModel
from dfmobile.data.dataset import UInt8Array
from dfmobile.errors import BackendError, InputError
from dfmobile.runtimes.base import ModelRunner

Scores = npt.NDArray[np.float32]
Item = TypeVar("Item")
Result = TypeVar("Result")


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0))


def scores_of(model: InferenceModel, runner: ModelRunner, pixels: UInt8Array) -> Scores:
    """Run one image.

    Args:
        model: that the runner runs.
        runner: of ``model.open``.
        pixels: uint8 ``[1, C, H, W]`` of ``model.pixels``.

    Returns:
        float32 ``[classes, h, w]`` (segmentation) or ``[classes]``.

    Raises:
        BackendError: if the runtime fails, or what it returns is not finite.
    """
    scores: Scores = runner.run([model.preprocessing.apply(pixels)])[0][0]
    if not np.isfinite(scores).all():
        raise BackendError(f"{model.runtime} returns values that are not finite")
    return scores


def labels_of(scores: Scores) -> UInt8Array:
    """Return the class of the highest score, the first of equal ones: ``[classes, h, w]`` to uint8 ``[h, w]``."""
    return np.asarray(scores.argmax(axis=0), np.uint8)


def labels_at(scores: Scores, size: tuple[int, int]) -> UInt8Array:
    """Return labels at another size: scores are resized, then the highest is taken.

    The resize is bilinear with half-pixel centres; where it shrinks, antialiased.

    Args:
        scores: float32 ``[classes, h, w]``.
        size: width and height.

    Returns:
        uint8 ``[height, width]``.
    """
    if size == scores.shape[:0:-1]:
        return labels_of(scores)
    labels = np.zeros(size[::-1], np.uint8)
    best: npt.NDArray[np.float32] | None = None
    for number, plane in enumerate(scores):  # one class at a time: 19 full-size planes need not be there at once
        resized = np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BILINEAR))
        if best is None:
            best = resized.copy()
            continue
        np.copyto(labels, number, where=resized > best)
        np.maximum(best, resized, out=best)
    return labels


def nearest_labels_at(labels: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    """Return a label map at another size by nearest neighbour, uint8 ``[height, width]``."""
    return np.asarray(Image.fromarray(labels).resize(size, Image.Resampling.NEAREST), np.uint8)


def shares_of(labels: UInt8Array, classes: int) -> npt.NDArray[np.float64]:
    """Return the share of pixels of each class, float64 ``[classes]``."""
    return np.bincount(labels.reshape(-1), minlength=classes)[:classes] / max(1, labels.size)


class RunnerPool:
    """Several runners of one model, each on a thread of its own.

    The runtimes, and Pillow, let go of Python's lock while they work, so threads keep all cores busy.

    Args:
        model: what runs.
        threads: of each runner.
        jobs: runners; None: as many as there are cores for.

    Raises:
        InputError: if a number is below 1.
    """

    def __init__(self, model: InferenceModel, threads: int = 1, jobs: int | None = None) -> None:
        jobs = max(1, usable_cores() // max(1, threads)) if jobs is None else jobs
        if threads < 1 or jobs < 1:
            raise InputError(f"{jobs} jobs of {threads} threads: both are at least 1")
        self.model, self.threads, self.jobs = model, threads, jobs
        self._free: queue.SimpleQueue[ModelRunner] = queue.SimpleQueue()
        self._all: list[ModelRunner] = []

    def map(self, function: Callable[[ModelRunner, Item], Result], items: Iterable[Item]) -> Iterator[Result]:
        """Yield ``function(runner, item)`` of each item, in their order; few items are held at once.

        An exception of ``function`` ends the whole.

        Args:
            function: called on several threads at once, never twice at once with one runner.
            items: read as they are needed.
        """

        def call(item: Item) -> Result:
            runner = self._free.get()
            try:
                return function(runner, item)
            finally:
                self._free.put(runner)

        pending: deque[Future[Result]] = deque()
        pool = ThreadPoolExecutor(self.jobs, "dfmobile-segment")
        try:
            for item in items:
                if len(self._all) < min(self.jobs, len(pending) + 1):
                    self._add()
                pending.append(pool.submit(call, item))
                if len(pending) > 2 * self.jobs:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _add(self) -> None:
        runner = self.model.open(self.threads)
        self._all.append(runner)
        self._free.put(runner)

    def close(self) -> None:
        """Free all runners."""
        for runner in self._all:
            runner.close()
        self._all = []

    def __enter__(self) -> RunnerPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
