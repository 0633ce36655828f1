"""Check a certificate without the search: from the encodings, the table's copy and the stored results.

Nothing here uses the pruners. The partial order is taken from the encodings themselves (blocks and widths, place by
place), latencies are predicted anew from the copy of the table, and for every candidate of the space one of the
rules has to be found that the certificate states.
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
from dfmobile.architecture.spaces.base import reopen_space
from dfmobile.errors import FileFormatError, InputError
from dfmobile.files import read_json, sha256_hex
from dfmobile.latency.predictor import Predictor
from dfmobile.latency.table import LatencyTable
from dfmobile.search.campaign import STORE_NAME
from dfmobile.search.certificate import CERTIFICATE_NAME, FORMAT, RULE, certificate_digest, space_digest
from dfmobile.search.comparison import TABLE_NAME
from dfmobile.search.encoding_order import EncodingOrder
from dfmobile.search.latencies import Latencies
from dfmobile.search.noise import pooled_deviation
from dfmobile.search.store import CampaignStore, EvaluationRecord

Array = npt.NDArray[np.float64]
SHOWN = 5


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


def verify(folder: str | Path, space: SearchSpace | None = None) -> Verification:
    """Check ``RUN/certificate.json`` against the run folder.

    Args:
        folder: the run folder.
        space: the space, where it is not one that can be opened by name.

    Raises:
        InputError: if there is no certificate.
        FileFormatError: if a file is not what it should be.
        StorageError: if a file cannot be read.
    """
    folder = Path(folder)
    path = folder / CERTIFICATE_NAME
    if not path.exists():
        raise InputError(
            f"{path} does not exist",
            hint="mode certified writes it when no candidate is left: dfmobile search --mode certified … -o RUN/",
        )
    document = read_json(path)
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise FileFormatError(f"{path} is not a certificate that this version reads", hint=f"format {FORMAT!r}")
    with CampaignStore(folder / STORE_NAME) as store:
        meta, records = store.meta(), store.draws()
    found = Verification()
    try:
        if document["sha256"] != certificate_digest(document):
            found.problems.append("the certificate was changed: its digest is not that of its content")
        _check_settings(document, meta, found)
        _check_results(document, records, found)
        margin = _check_margin(document, found)
        if space is None:
            stated = document["space"]
            space = reopen_space(stated["name"], stated["max_depth"], stated.get("document"))
        if (space.count(), space_digest(space)) != (document["space"]["architectures"], document["space"]["sha256"]):
            found.problems.append("the space is not the one of the certificate")
        if not found.problems:  # what follows would only repeat them
            _Evidence(folder, document, space, margin, meta["identity"].get("evaluable"), found).check()
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise FileFormatError(
            f"{path} or the campaign is malformed: {error!r}", hint="restore it from a copy"
        ) from error
    return found


def _check_settings(document: dict[str, Any], meta: dict[str, Any], found: Verification) -> None:
    """Compare what the certificate states of the search with what the campaign recorded."""
    identity = meta["identity"]
    options = identity["mode"]["options"]
    pairs = {
        "rule": (document["rule"], RULE),
        "space": ({k: v for k, v in document["space"].items() if k != "sha256"}, identity["space"]),
        "input": (document["input"], identity["input"]),
        "latency range": (document["latency_range_ms"], identity["latency_range_ms"]),
        "table": (document["latency"]["table_sha256"], meta.get("table_sha256")),
        "prediction rule": (document["latency"]["rule"], meta.get("rule")),
        "predictions": (document["latency"]["predictions_sha256"], identity["predictions"]["sha256"]),
        "comparison of latencies": (document["latency"]["comparison"], options["comparison"]),
        "evaluator": (document["evaluator"], identity["evaluator"]),
        "seed": (document["seed"], identity["seed"]),
        "margin": (document["margin"]["sigmas"], options["margin"]),
    }
    found.problems += [
        f"{name}: the certificate does not say what the campaign recorded"
        for name, (stated, recorded) in pairs.items()
        if stated != recorded
    ]
    given = options["sigma"]
    if given is not None and given != document["margin"]["sigma"]:
        found.problems.append("sigma: the certificate does not say what the campaign was given")


def _check_results(document: dict[str, Any], records: list[EvaluationRecord], found: Verification) -> None:
    stated = {item["number"]: item for item in document["evaluated"]}
    if len(stated) != len(document["evaluated"]) or set(stated) != {record.number for record in records}:
        found.problems.append(
            f"the certificate has {len(document['evaluated'])} evaluations, the campaign {len(records)}: not the same"
        )
    for record in records:
        item = stated.get(record.number)
        recorded = {
            "number": record.number,
            "encoding": record.encoding,
            "predicted_ms": record.predicted_ms,
            "accuracy": record.accuracy,
            "repeats": [repeat["accuracy"] for repeat in record.details.get("repeats", ())],
        }
        if item is not None and item != recorded:
            names = [name for name, value in recorded.items() if item.get(name) != value]
            found.problems.append(f"evaluation {record.number}: {', '.join(names)} not as the campaign recorded")


def _check_margin(document: dict[str, Any], found: Verification) -> float | None:
    """Work the margin out again; return it, in units of accuracy."""
    stated = document["margin"]
    groups = [(item["accuracy"], *item["repeats"]) for item in document["evaluated"] if item["repeats"]]
    sigma = stated["sigma"]
    if groups:
        sigma, freedom = pooled_deviation(groups)
        if not math.isclose(sigma, stated["sigma"], rel_tol=1e-9, abs_tol=1e-12) or (
            freedom != stated["degrees_of_freedom"]
        ):
            found.problems.append(f"sigma is {stated['sigma']}, but the repeated seeds give {sigma:.6g}")
    margin = None if sigma is None else float(stated["sigmas"]) * float(stated["sigma"])
    if margin != stated["accuracy"]:
        found.problems.append(f"the margin is stated as {stated['accuracy']}, but it is {margin}")
    return margin


class _Evidence:
    """Looks for the reason of every candidate."""

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
        self._rows = space.rows()
        self._members = [space.architecture(row) for row in self._rows]
        self._predictor: Predictor | None = None
        self._size: tuple[int, int] = (int(document["input"][0]), int(document["input"][1]))
        self._latency = self._predict()
        place = {member.text: index for index, member in enumerate(self._members)}
        self._evaluated = np.array([place[item["encoding"]] for item in document["evaluated"]], np.int64)
        self._accuracy = np.array([item["accuracy"] for item in document["evaluated"]], np.float64)
        self._order = EncodingOrder(space, self._members)

    def _predict(self) -> Array:
        """Predict all latencies anew from the copy of the table, and compare them with those of the search.

        What the search took for no candidate, because its evaluator cannot evaluate it, is infinite among these.
        """
        stated, found = self._document["latency"], self._found
        try:
            searched = Latencies.load(self._folder, stated["predictions_sha256"]).by_row(self._space)
        except FileFormatError as error:
            found.problems.append(str(error))
            return np.full(len(self._rows), np.inf)
        if len(searched) != len(self._rows):
            found.problems.append("the stored latencies are those of another space")
            return np.full(len(self._rows), np.inf)
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
        latency = self._predictor.predict_rows(self._space, self._rows, *self._size, skipped=skipped)
        left_out = np.isinf(searched) & np.isfinite(latency)
        if left_out.any():
            found.notes.append(f"{left_out.sum()} architectures were no candidates: the evaluator has none of them")
            if self._evaluable != int(np.isfinite(searched).sum()):
                found.problems.append(f"{left_out.sum()} architectures were left out, and nothing says why")
            latency[left_out] = np.inf
        if not np.array_equal(latency, searched):
            found.problems.append("the latencies that the table predicts are not those of the search")
        return latency

    def check(self) -> None:
        """Look for the reason of every candidate; note what is missing."""
        found, document = self._found, self._document
        low, high = document["latency_range_ms"]
        candidate = np.isfinite(self._latency)
        candidate &= self._latency >= (-math.inf if low is None else low)
        candidate &= self._latency <= (math.inf if high is None else high)
        stated_ms = np.array([item["predicted_ms"] for item in document["evaluated"]])
        wrong = np.flatnonzero(stated_ms != self._latency[self._evaluated])
        found.problems += [
            f"evaluation {document['evaluated'][index]['number']}: the table predicts "
            f"{self._latency[self._evaluated[index]]:.6g} ms, not {stated_ms[index]:.6g}"
            for index in wrong[:SHOWN]
        ]
        remaining = candidate.copy()
        remaining[self._evaluated] = False
        by_results = self._by_results(np.flatnonzero(remaining))
        remaining[by_results] = False
        by_table = self._by_table(np.flatnonzero(remaining), candidate)
        remaining[by_table] = False
        lost = np.flatnonzero(remaining)
        found.problems += [f"nothing rules out {self._members[index].text}" for index in lost[:SHOWN]]
        if len(lost) > SHOWN:
            found.problems.append(f"nothing rules out {len(lost) - SHOWN} more architectures")
        boundary = sorted(document["evaluated"][index]["encoding"] for index in self._optimal())
        if boundary != sorted(document["boundary"]):
            found.problems.append("the boundary is not that of the evaluations")
        if int(candidate.sum()) != document["counts"]["candidates"]:
            found.problems.append("the number of candidates is not that of the certificate")
        falls = self._falls()
        stated = document["violations"]
        if (falls["pairs"], falls["fell"]) != (stated["pairs"], stated["fell"]):
            found.problems.append("the violations of the order are not those of the evaluations")
        found.facts |= {
            "candidates": int(candidate.sum()),
            "evaluated": len(self._evaluated),
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

    def _by_table(self, candidates: npt.NDArray[np.int64], allowed: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
        """Return those that precede another candidate which is no slower."""
        ruled: list[int] = []
        open_pairs: list[Iterator[tuple[int, int]]] = []
        for candidate in candidates:
            faster = np.flatnonzero(allowed & (self._latency <= self._latency[candidate]))
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

    def _falls(self) -> dict[str, int]:
        pairs = fell = 0
        for index, accuracy in zip(self._evaluated, self._accuracy, strict=True):
            below = self._order.precedes(self._evaluated, int(index)) & (self._evaluated != index)
            pairs += int(below.sum())
            fell += int((self._accuracy[below] > accuracy).sum())
        return {"pairs": pairs, "fell": fell}
