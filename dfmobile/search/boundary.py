"""The boundary: the Pareto-optimal evaluated architectures, latency down and accuracy up."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import moocore
import numpy as np
import numpy.typing as npt

from dfmobile.search.base import Evaluated


def pareto_optimal(latencies_ms: Sequence[float], accuracies: Sequence[float]) -> npt.NDArray[np.bool_]:
    """Tell which points no other point beats.

    A point is beaten by one that is no slower and no less accurate, and better in one of the two. Points equal
    in both do not beat each other: all of them count.

    Args:
        latencies_ms: [n], smaller is better.
        accuracies: [n], larger is better.

    Returns:
        bool [n].
    """
    if len(latencies_ms) == 0:
        return np.zeros(0, dtype=bool)
    points = np.column_stack([np.asarray(latencies_ms, float), np.asarray(accuracies, float)])
    return np.asarray(moocore.is_nondominated(points, maximise=[False, True], keep_weakly=True), dtype=bool)


def hypervolume(
    latencies_ms: Sequence[float], accuracies: Sequence[float], worst_ms: float, worst_accuracy: float = 0.0
) -> float:
    """Return the area (ms x accuracy) that the points dominate, up to a worst corner.

    Args:
        latencies_ms: [n].
        accuracies: [n].
        worst_ms: latency of the worst corner; slower points add nothing.
        worst_accuracy: accuracy of the worst corner; less accurate points add nothing.
    """
    if len(latencies_ms) == 0:
        return 0.0
    points = np.column_stack([np.asarray(latencies_ms, float), np.asarray(accuracies, float)])
    return float(moocore.hypervolume(points, ref=[worst_ms, worst_accuracy], maximise=[False, True]))


class Boundary:
    """The Pareto-optimal evaluations among those added so far.

    Args:
        evaluated: the first evaluations.
    """

    def __init__(self, evaluated: Iterable[Evaluated] = ()) -> None:
        self._members: list[Evaluated] = []
        for item in evaluated:
            self.add(item)

    @property
    def members(self) -> tuple[Evaluated, ...]:
        """The boundary, fastest first; equal latencies by draw number."""
        return tuple(self._members)

    def add(self, evaluated: Evaluated) -> bool:
        """Add an evaluation; return whether it is on the boundary now."""
        members = [*self._members, evaluated]
        optimal = pareto_optimal([item.candidate.predicted_ms for item in members], [item.accuracy for item in members])
        if not optimal[-1]:
            return False
        kept = [item for item, keep in zip(members, optimal, strict=True) if keep]
        self._members = sorted(kept, key=lambda item: (item.candidate.predicted_ms, item.number))
        return True

    def cheapest(self, accuracy: float) -> Evaluated | None:
        """Return the fastest evaluation that is at least this accurate; None if there is none.

        It is always on the boundary: whatever dominates an accurate enough architecture is accurate enough too.
        """
        return next((item for item in self._members if item.accuracy >= accuracy), None)

    def hypervolume(self, worst_ms: float, worst_accuracy: float = 0.0) -> float:
        """Return the area (ms x accuracy) that the boundary dominates; see :func:`hypervolume`."""
        return hypervolume(
            [item.candidate.predicted_ms for item in self._members],
            [item.accuracy for item in self._members],
            worst_ms,
            worst_accuracy,
        )
