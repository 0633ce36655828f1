"""The certificate of a search that was run until no candidate was left: what it claims, and all that it rests on."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.spaces import SearchSpace
from dfmobile.files import atomic_write_json
from dfmobile.search.base import Evaluated
from dfmobile.search.certified_mode import CertifiedMode
from dfmobile.search.engine import Campaign
from dfmobile.search.margin_pruning import MarginPruner
from dfmobile.search.noise import Noise
from dfmobile.search.store import utc_now

CERTIFICATE_NAME = "certificate.json"
FORMAT = "dfmobile certificate 1"
# Not of the boundary: with noise, an evaluated architecture that another seems to beat can be the better one in truth.
CLAIM = (
    "for every candidate that is not evaluated, some evaluated architecture is no less accurate and no slower, if the "
    "conditions hold"
)
RULE = (
    "a candidate s that is not evaluated is ruled out if s precedes an evaluated w, and an evaluated z has "
    "accuracy(z) >= accuracy(w) + margin and is no slower than s; or if s precedes another candidate y that is no "
    "slower than s"
)


def write_certificate(campaign: Campaign, mode: CertifiedMode) -> Path:
    """Write ``RUN/certificate.json`` of a campaign that has no candidate left.

    Args:
        campaign: of mode ``certified``; nothing is alive, and all results are applied.
        mode: its mode.

    Raises:
        ValueError: if it is not finished.
        StorageError: if the folder cannot be written.
    """
    pruner, state = campaign.state.pruner, campaign.state
    if not isinstance(pruner, MarginPruner) or pruner.alive_count or state.in_flight:
        raise ValueError("the campaign is not finished")
    noise, margin = pruner.noise, pruner.margin
    meta = campaign.store.meta()
    identity = meta["identity"]
    records = campaign.store.evaluations()
    document: dict[str, Any] = {
        "format": FORMAT,
        "created_utc": utc_now(),
        "claim": CLAIM,
        "conditions": conditions(mode.comparison, margin),
        "rule": RULE,
        "space": {
            **identity["space"],
            "candidates_sha256": candidates_digest(campaign.space, pruner.candidates()),
        },
        "input": identity["input"],
        "latency_range_ms": identity["latency_range_ms"],
        "latency": {
            "comparison": mode.comparison,
            "rule": meta.get("rule"),
            "table_sha256": meta.get("table_sha256"),
            "predictions_sha256": identity["predictions"]["sha256"],
        },
        "evaluator": identity["evaluator"],
        "seed": identity["seed"],
        "margin": {
            "sigmas": mode.margin,
            "accuracy": margin,
            "sigma": None if noise is None else noise.sigma,
            "sigma_source": noise_source(noise),
            "degrees_of_freedom": 0 if noise is None else noise.freedom,
        },
        "counts": {
            "candidates": pruner.total,
            "evaluated": len(records),
            "ruled_out_by_table": pruner.covered_count,
            "ruled_out_by_results": pruner.total - len(records) - pruner.covered_count,
        },
        "violations": violations(campaign.space, state.evaluated, margin or 0.0),
        "boundary": [item.encoding for item in campaign.store.boundary()],
        "evaluated": [
            {
                "number": item.number,
                "encoding": item.encoding,
                "predicted_ms": item.predicted_ms,
                "accuracy": item.accuracy,
                "repeats": [repeat["accuracy"] for repeat in item.details.get("repeats", ())],
            }
            for item in records
        ],
    }
    document["sha256"] = certificate_digest(document)
    path = campaign.folder / CERTIFICATE_NAME
    atomic_write_json(path, document)
    return path


def conditions(comparison: str, margin: float | None) -> list[str]:
    """Return on what conditions the claim follows from the rule.

    Args:
        comparison: how latencies are compared: ``prediction`` or ``interval``.
        margin: in units of accuracy; None: not known, so that results ruled nothing out.
    """
    latency = (
        "the 95 % intervals of latency differences by the table hold"
        if comparison == "interval"
        else "the latencies that the table predicts are right"
    )
    order = "accuracy never falls along the partial order of the space"
    if margin is None:
        return [order, latency]
    noise = (
        f"the noise of two accuracies never hides a difference: it stays below the margin of {margin:.6g}"
        if margin
        else "accuracies have no noise"
    )
    return [order, noise, latency]


def noise_source(noise: Noise | None) -> str:
    """Return where the noise is known from, for people."""
    return "not known" if noise is None else noise.source


def candidates_digest(space: SearchSpace, rows: npt.NDArray[np.int32]) -> str:
    """Return the SHA-256 of the encodings of all candidates, sorted, one a line."""
    digest = hashlib.sha256()
    for text in sorted(space.architecture(row).text for row in rows):
        digest.update(text.encode() + b"\n")
    return digest.hexdigest()


def certificate_digest(document: dict[str, Any]) -> str:
    """Return the SHA-256 of everything in a certificate but its ``sha256``."""
    rest = {key: value for key, value in document.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, allow_nan=False).encode()).hexdigest()


def violations(space: SearchSpace, evaluated: list[Evaluated], margin: float) -> dict[str, Any]:
    """Count the evaluated pairs that contradict the assumption.

    Args:
        space: gives the order.
        evaluated: all results.
        margin: of the rule, in units of accuracy.

    Returns:
        ``pairs`` (x ≺ y, x ≠ y), ``fell`` (accuracy(x) > accuracy(y)), ``beyond_margin`` (by more than the margin),
        and ``largest``, the largest fall.
    """
    rows = np.array([item.candidate.row for item in evaluated], np.int32).reshape(-1, len(space.columns))
    accuracies = np.array([item.accuracy for item in evaluated])
    below: npt.NDArray[np.bool_] = np.ones((len(rows), len(rows)), bool)
    for column in range(rows.shape[1]):
        below &= space.stage_order(column)[np.ix_(rows[:, column], rows[:, column])]
    np.fill_diagonal(below, False)
    falls = (accuracies[:, None] - accuracies[None, :])[below]
    return {
        "pairs": len(falls),
        "fell": int((falls > 0).sum()),
        "beyond_margin": int((falls > margin).sum()),
        "largest": float(max(falls.max(initial=0.0), 0.0)),
    }
