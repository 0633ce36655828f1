"""Labels of partial architectures: what ``separable`` keeps for each state, and which of them others beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.spaces.stage_tables import Array

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Labels:
    """Partial architectures that end in one state.

    Attributes:
        latency_ms: so far, ``[N]``.
        score: so far, ``[N]``.
        before: index of the state before.
        parent: number of the label there.
    """

    latency_ms: Array
    score: Array
    before: Ints
    parent: Ints


def stepped(labels: Labels, latency_ms: float, score: float, before: int) -> Labels:
    """Return labels one step on, each with its origin."""
    count = len(labels.score)
    return Labels(labels.latency_ms + latency_ms, labels.score + score, np.full(count, before), np.arange(count))


def joined(parts: list[Labels]) -> Labels:
    """Return the labels of several origins."""
    if not parts:
        return Labels(np.zeros(0), np.zeros(0), np.zeros(0, np.int64), np.zeros(0, np.int64))
    return Labels(
        np.concatenate([part.latency_ms for part in parts]),
        np.concatenate([part.score for part in parts]),
        np.concatenate([part.before for part in parts]),
        np.concatenate([part.parent for part in parts]),
    )


def chosen(labels: Labels, places: Ints) -> Labels:
    """Return some of the labels."""
    return Labels(labels.latency_ms[places], labels.score[places], labels.before[places], labels.parent[places])


def unbeaten(labels: Labels, not_below: npt.NDArray[np.bool_], not_above: npt.NDArray[np.bool_]) -> Ints:
    """Return the labels of one state that no other one beats; of equal ones the first.

    A label beats slower ones of no higher score if it cannot end below the range, and faster ones of no higher score
    if it cannot end above it.

    Args:
        labels: of one state.
        not_below: whether a label surely reaches the lower end of the range.
        not_above: whether a label surely stays below the upper end.
    """
    kept = np.arange(len(labels.score))
    for sign, safe in ((1.0, not_below), (-1.0, not_above)):
        order = kept[np.lexsort((-labels.score[kept], sign * labels.latency_ms[kept]))]
        if not len(order):
            return order
        score, latency = labels.score[order], labels.latency_ms[order]
        sure = np.where(safe[order], score, -np.inf)
        highest = np.concatenate([[-np.inf], np.maximum.accumulate(sure)[:-1]])
        same = np.concatenate([[False], latency[1:] == latency[:-1]])
        kept = order[(score > highest) & ~same]
    return kept
