"""What a certificate rests on: for every candidate of the space, one of the rules that the certificate states.

The partial order is taken from the encodings themselves (blocks and widths, place by place), latencies are predicted
anew from the copy of the table.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.spaces import SearchSpace
from dfmobile.errors import FileFormatError
from dfmobile.files import sha256_hex
from dfmobile.latency.predictor import Predictor
from dfmobile.latency.table import LatencyTable
from dfmobile.search.certificate import candidates_digest
from dfmobile.search.comparison import TABLE_NAME
from dfmobile.search.encoding_order import EncodingOrder
from dfmobile.search.latencies import Latencies

Array = npt.NDArray[np.float64]
SHOWN = 5
_CHUNK = 1 << 20  # rows that are predicted at once


@dataclass
class Verification:
    """What a check found.

    Attributes:
        problems: why the certificate does not hold, one line each; empty: it holds.
        notes: what could not be checked, and other things to know.
        facts: numbers, JSON-able.
    """

    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def holds(self) -> bool:
        """Whether nothing speaks against the certificate."""
        return not self.problems


class Evidence:
    """Looks for the reason of every candidate; nothing of it comes from the pruners.

    Args:
        folder: the run folder.
        document: the certificate, whose statements about the campaign are checked already.
        space: the search space.
        margin: of the rule, in units of accuracy; None: results rule nothing out.
        evaluable: how many architectures the evaluator has; None: all.
        found: takes problems, notes and facts.
    """

    def __init__(
        self,
        folder: Path,
        document: dict[str, Any],
        space: SearchSpace,
        margin: float | None,
        evaluable: int | None,
        found: Verification,
    ) -> None:
        self._folder, self._document, self._space = folder, document, space
        self._margin, self._evaluable, self._found = margin, evaluable, found
        self._predictor: Predictor | None = None
        self._size: tuple[int, int] = (int(document["input"][0]), int(document["input"][1]))
        rows = space.rows()
        latency = self._predict(rows)
        # All that is not a candidate is left behind here: a space can be far larger than its latency range.
        low, high = document["latency_range_ms"]
        inside = np.isfinite(latency)
        inside &= latency >= (-math.inf if low is None else low)
        inside &= latency <= (math.inf if high is None else high)
        self._rows, self._latency = rows[inside], latency[inside]
        self._members = [space.architecture(row) for row in self._rows]

    def _predict(self, rows: npt.NDArray[np.int32]) -> Array:
        """Predict all latencies anew from the copy of the table, and compare them with those of the search.

        They are compared to within rounding: sums by stage add up in another order. The search's are returned.

        What the search took for no candidate, because its evaluator cannot evaluate it, is infinite among these.
        """
        stated, found = self._document["latency"], self._found
        try:
            searched = Latencies.load(self._folder, stated["predictions_sha256"]).by_row(self._space)
        except FileFormatError as error:
            found.problems.append(str(error))
            return np.full(len(rows), np.inf)
        if len(searched) != len(rows):
            found.problems.append("the stored latencies are those of another space")
            return np.full(len(rows), np.inf)
        if stated["table_sha256"] is None:
            found.notes.append("latencies are not predicted anew: the run was made without a table file")
            return searched
        path = self._folder / TABLE_NAME
        if sha256_hex(path) != stated["table_sha256"]:
            found.problems.append(f"{path} is not the table that the search was made with")
        with LatencyTable.open(path) as table:
            self._predictor = Predictor(table, stated["rule"])
        high = self._document["latency_range_ms"][1]
        above = high is not None and high <= self._predictor.skipped_above_ms
        skipped: Literal["error", "infinite"] = "infinite" if above else "error"
        latency = np.empty(len(rows))
        for start in range(0, len(rows), _CHUNK):
            part = slice(start, start + _CHUNK)
            latency[part] = self._predictor.predict_rows(self._space, rows[part], *self._size, skipped=skipped)
        left_out = np.isinf(searched) & np.isfinite(latency)
        if left_out.any():
            found.notes.append(f"{left_out.sum()} architectures were no candidates: the evaluator has none of them")
            if self._evaluable != int(np.isfinite(searched).sum()):
                found.problems.append(f"{left_out.sum()} architectures were left out, and nothing says why")
            latency[left_out] = np.inf
        if not np.allclose(latency, searched, rtol=1e-12, atol=0.0):
            found.problems.append("the latencies that the table predicts are not those of the search")
        return searched

    def check(self) -> None:
        """Look for the reason of every candidate; note what is missing."""
        found, document = self._found, self._document
        if self._space.count() != document["space"]["architectures"] or (
            candidates_digest(self._space, self._rows) != document["space"]["candidates_sha256"]
        ):
            found.problems.append("the space, or its candidates, are not those of the certificate")
            return
        place = {member.text: index for index, member in enumerate(self._members)}
        strangers = [item["encoding"] for item in document["evaluated"] if item["encoding"] not in place]
        if strangers:
            found.problems += [f"{text} was evaluated, but is no candidate" for text in strangers[:SHOWN]]
            return
        self._evaluated = np.array([place[item["encoding"]] for item in document["evaluated"]], np.int64)
        self._accuracy = np.array([item["accuracy"] for item in document["evaluated"]], np.float64)
        self._order = EncodingOrder(self._space, self._members)
        stated_ms = np.array([item["predicted_ms"] for item in document["evaluated"]])
        wrong = np.flatnonzero(stated_ms != self._latency[self._evaluated])
        found.problems += [
            f"evaluation {document['evaluated'][index]['number']}: the table predicts "
            f"{self._latency[self._evaluated[index]]:.6g} ms, not {stated_ms[index]:.6g}"
            for index in wrong[:SHOWN]
        ]
        remaining = np.ones(len(self._members), bool)
        remaining[self._evaluated] = False
        by_results = self._by_results(np.flatnonzero(remaining))
        remaining[by_results] = False
        by_table = self._by_table(np.flatnonzero(remaining))
        remaining[by_table] = False
        lost = np.flatnonzero(remaining)
        found.problems += [f"nothing rules out {self._members[index].text}" for index in lost[:SHOWN]]
        if len(lost) > SHOWN:
            found.problems.append(f"nothing rules out {len(lost) - SHOWN} more architectures")
        boundary = sorted(document["evaluated"][index]["encoding"] for index in self._optimal())
        if boundary != sorted(document["boundary"]):
            found.problems.append("the boundary is not that of the evaluations")
        counts = document["counts"]
        ruled_out = counts["ruled_out_by_table"] + counts["ruled_out_by_results"]
        evaluated, total = len(self._evaluated), len(self._members)
        if (counts["candidates"], counts["evaluated"], ruled_out) != (total, evaluated, total - evaluated):
            found.problems.append("the counts are not those of the candidates and the evaluations")
        falls = self._falls()
        if falls != document["violations"]:
            found.problems.append("the violations of the order are not those of the evaluations")
        if falls["beyond_margin"]:
            found.notes.append(
                f"the conditions are not met among the evaluated themselves: accuracy falls along the order in "
                f"{falls['beyond_margin']} of {falls['pairs']} pairs by more than the margin, at most by "
                f"{falls['largest']:.4f}; the boundary may have gaps"
            )
        found.facts |= {
            "candidates": total,
            "evaluated": evaluated,
            "ruled_out_by_results": len(by_results),
            "ruled_out_by_table": len(by_table),
            "boundary": len(boundary),
            "margin": self._margin,
            "violations": falls,
            "conditions": document["conditions"],
        }

    def _by_results(self, candidates: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return those that a pair (w, z) of evaluated architectures rules out."""
        if self._margin is None or not len(candidates):
            return candidates[:0]
        ceiling = np.full(len(candidates), np.inf)
        for index, accuracy in zip(self._evaluated, self._accuracy, strict=True):
            below = self._order.precedes(candidates, int(index))
            ceiling[below] = np.minimum(ceiling[below], accuracy)
        known_ms = self._latency[self._evaluated]
        fastest = np.argsort(known_ms, kind="stable")
        ruled: list[int] = []
        open_pairs: list[Iterator[tuple[int, int]]] = []
        for candidate, top in zip(candidates, ceiling, strict=True):
            good = fastest[self._accuracy[fastest] >= top + self._margin]
            usable = good[known_ms[good] <= self._latency[candidate]]
            if len(usable) and self._document["latency"]["comparison"] == "prediction":
                ruled.append(int(candidate))
            elif len(usable):
                open_pairs.append(iter([(int(candidate), int(self._evaluated[item])) for item in usable]))
        return np.array(sorted(ruled + self._first_sure(open_pairs)), np.int64)

    def _by_table(self, candidates: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return those that precede another candidate which is no slower."""
        ruled: list[int] = []
        open_pairs: list[Iterator[tuple[int, int]]] = []
        for candidate in candidates:
            faster = np.flatnonzero(self._latency <= self._latency[candidate])
            above = faster[self._order.follows(faster, int(candidate)) & (faster != candidate)]
            if len(above) and self._document["latency"]["comparison"] == "prediction":
                ruled.append(int(candidate))
            elif len(above):
                above = above[np.argsort(self._latency[above], kind="stable")][:SHOWN]
                open_pairs.append(iter([(int(candidate), int(item)) for item in above]))
        return np.array(sorted(ruled + self._first_sure(open_pairs)), np.int64)

    def _first_sure(self, pairs: list[Iterator[tuple[int, int]]]) -> list[int]:
        """Return the candidates of which one pair (candidate, other) has an other that surely is no slower."""
        sure: list[int] = []
        while pairs:
            tried = [(source, pair) for source in pairs if (pair := next(source, None)) is not None]
            if not tried or self._predictor is None:
                break
            slow, fast = (self._rows[[pair[side] for _, pair in tried]] for side in (0, 1))
            middle, half = self._predictor.difference_rows(self._space, fast, slow, *self._size)
            holds = middle + half <= 0
            sure += [pair[0] for (_, pair), keep in zip(tried, holds, strict=True) if keep]
            pairs = [source for (source, _), keep in zip(tried, holds, strict=True) if not keep]
        return sure

    def _optimal(self) -> list[int]:
        """Return the evaluations that no other beats, straight from the definition."""
        best, kept = -math.inf, []
        latency = self._latency[self._evaluated]
        order = sorted(range(len(latency)), key=lambda item: (latency[item], -self._accuracy[item]))
        for _, group in itertools.groupby(order, key=lambda item: latency[item]):
            members = list(group)
            top = self._accuracy[members[0]]
            if top > best:
                kept += [item for item in members if self._accuracy[item] == top]
                best = top
        return kept

    def _falls(self) -> dict[str, Any]:
        """Count the evaluated pairs along the order in which accuracy falls, and by how much at most."""
        pairs, falls = 0, []
        for index, accuracy in zip(self._evaluated, self._accuracy, strict=True):
            below = self._order.precedes(self._evaluated, int(index)) & (self._evaluated != index)
            pairs += int(below.sum())
            falls += (self._accuracy[below] - accuracy)[self._accuracy[below] > accuracy].tolist()
        margin = self._margin or 0.0
        return {
            "pairs": pairs,
            "fell": len(falls),
            "beyond_margin": sum(fall > margin for fall in falls),
            "largest": max(falls, default=0.0),
        }
