"""Check a certificate without the search: from the encodings, the table's copy and the stored results.

Nothing here uses the pruners. What the certificate states is compared with what the campaign recorded; then
``evidence`` looks for the reason of every candidate.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from dfmobile.architecture.spaces import SearchSpace
from dfmobile.architecture.spaces.base import reopen_space
from dfmobile.errors import FileFormatError, InputError
from dfmobile.files import read_json
from dfmobile.search.campaign import STORE_NAME
from dfmobile.search.certificate import CERTIFICATE_NAME, CLAIM, FORMAT, RULE, certificate_digest, conditions
from dfmobile.search.certified_mode import REPEATED
from dfmobile.search.evidence import SHOWN, Evidence, Verification
from dfmobile.search.noise import pooled_deviation
from dfmobile.search.store import CampaignStore, EvaluationRecord

__all__ = ["SHOWN", "Verification", "verify"]


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
        margin = _check_margin(document, meta["identity"]["mode"]["options"]["sigma"], found)
        if document["conditions"] != conditions(document["latency"]["comparison"], margin):
            found.problems.append("the conditions are not those of the rule")
        if not found.problems:  # what follows would only repeat them
            if space is None:
                stated = document["space"]
                space = reopen_space(stated["name"], stated["max_depth"], stated.get("document"))
            Evidence(folder, document, space, margin, meta["identity"].get("evaluable"), found).check()
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
        "claim": (document["claim"], CLAIM),
        "space": ({k: v for k, v in document["space"].items() if k != "candidates_sha256"}, identity["space"]),
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


def _check_margin(document: dict[str, Any], given: float | None, found: Verification) -> float | None:
    """Work the margin out again; return it, in units of accuracy.

    Args:
        document: the certificate.
        given: the standard deviation that the campaign was given; None: it is that of the repeated seeds.
        found: takes the problems.
    """
    stated = document["margin"]
    groups = [(item["accuracy"], *item["repeats"]) for item in document["evaluated"] if item["repeats"]]
    sigma, source, freedom = given, "given", 0
    if given is None and len(groups) < REPEATED:
        source = "not known"
    elif given is None:
        sigma, freedom = pooled_deviation(groups)
        source = f"estimated from {len(groups)} architectures"
    same = stated["sigma"] == sigma or (
        sigma is not None
        and stated["sigma"] is not None
        and math.isclose(sigma, stated["sigma"], rel_tol=1e-9, abs_tol=1e-12)
    )
    if not same:
        seen = "not known" if sigma is None else f"{sigma:.6g}"
        found.problems.append(f"sigma is stated as {stated['sigma']}, but the campaign says {seen}")
    if (source, freedom) != (stated["sigma_source"], stated["degrees_of_freedom"]):
        found.problems.append("where sigma comes from is not what the campaign recorded")
    margin = None if stated["sigma"] is None else float(stated["sigmas"]) * float(stated["sigma"])
    if margin != stated["accuracy"]:
        found.problems.append(f"the margin is stated as {stated['accuracy']}, but it is {margin}")
    return margin
