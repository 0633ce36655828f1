"""What makes a campaign the campaign it is: its settings and identity, and how two identities differ."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.errors import InputError


@dataclass(frozen=True)
class CampaignSettings:
    """Settings of a campaign. All but the budget are fixed once it has begun.

    Attributes:
        mode: search strategy; see ``dfmobile.search.modes``.
        latency_range: lowest and highest predicted latency (ms) of a candidate, ends included; None: open.
        budget: stop after this many evaluations; None: go on until every candidate is evaluated or ruled out. A
            later run may raise it.
        seed: of the draws and of the evaluations.
        lookahead: L; draw n is made when exactly the results of draws 1 … n − L are applied, so that up to L
            evaluations run at a time and the campaign does not depend on which of them ends first.
        input_size: width and height; None: the space's default.
        mode_options: of the mode; what is not given has its default.
    """

    mode: str = "budget"
    latency_range: tuple[float | None, float | None] = (None, None)
    budget: int | None = None
    seed: int = 0
    lookahead: int = 2
    input_size: tuple[int, int] | None = None
    mode_options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        low, high = self.latency_range
        for end in (low, high):
            if end is not None and not (np.isfinite(end) and end >= 0):
                raise InputError(f"latency range: {end} is not a number of milliseconds", hint="--latency LO:HI")
        if low is not None and high is not None and low > high:
            raise InputError(f"latency range: {low:g} is above {high:g}", hint="--latency LO:HI, the lower end first")
        if self.budget is not None and self.budget < 1:
            raise InputError(f"a budget of {self.budget} evaluations leaves nothing to do", hint="give 1 or more")
        if not 0 <= self.seed < 2**32:
            raise InputError(f"seed {self.seed} is outside 0 to {2**32 - 1}")
        if self.lookahead < 1:
            raise InputError(f"a look-ahead of {self.lookahead} leaves nothing to do", hint="give 1 or more")


def as_json(value: Any, what: str) -> Any:
    """Return a value as it reads back from JSON (tuples become lists).

    Raises:
        InputError: if it is not JSON.
    """
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{what}: {error}", hint="only JSON values (text, numbers, true/false, lists, objects)"
        ) from error


def fingerprint(predicted_ms: npt.NDArray[np.float64]) -> str:
    """Return the SHA-256 of predicted latencies: the same table, rule, space and input give the same."""
    return hashlib.sha256(np.ascontiguousarray(predicted_ms, dtype="<f8").tobytes()).hexdigest()


_NAMES = {
    "predictions.sha256": "the latencies that the table predicts (another table, more measurements, or another rule)"
}


def differences(stored: Any, given: Any, path: str = "") -> list[str]:
    """Say where two identities differ, one line a difference.

    Args:
        stored: what the run folder has.
        given: what was asked for now.
        path: dotted path of the two values.
    """
    if isinstance(stored, Mapping) and isinstance(given, Mapping):
        lines: list[str] = []
        for key in sorted({*stored, *given}):
            lines += differences(stored.get(key), given.get(key), f"{path}.{key}" if path else key)
        return lines
    if stored == given:
        return []
    if path in _NAMES:
        return [_NAMES[path]]
    return [f"{path.replace('_', ' ')}: {json.dumps(stored)} there, {json.dumps(given)} now"]
