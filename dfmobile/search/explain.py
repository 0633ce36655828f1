"""Why an architecture of a campaign is alive, evaluated or ruled out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dfmobile.architecture import Architecture
from dfmobile.search.base import Covered, Evaluated
from dfmobile.search.campaign import Campaign


@dataclass(frozen=True)
class Explanation:
    """The state of one architecture in a campaign.

    Attributes:
        encoding: the architecture.
        status: ``evaluated``, ``in flight``, ``ruled out``, ``alive``, ``outside the latency range`` or
            ``not in the space``.
        text: the reason, for people.
        facts: the numbers behind it, JSON-able.
    """

    encoding: str
    status: str
    text: str
    facts: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return a JSON-able document."""
        return {"encoding": self.encoding, "status": self.status, "reason": self.text, **self.facts}


def explain(campaign: Campaign, architecture: Architecture) -> Explanation:
    """Say why an architecture is alive, evaluated or ruled out.

    Args:
        campaign: from ``load_campaign``.
        architecture: any architecture; one that is not of the space is said to be so.
    """
    space, pruner, name = campaign.space, campaign.state.pruner, architecture.text
    if architecture not in space:
        depth = "" if space.max_depth is None else f" with at most {space.max_depth} blocks a stage"
        return Explanation(name, "not in the space", f"it is not in the space {space.name}{depth}")
    candidate = pruner.find([int(item) for item in space.row(architecture)])
    if candidate is None:
        low, high = campaign.settings.latency_range
        ends = f"{'0' if low is None else f'{low:g}'} to {'any' if high is None else f'{high:g}'} ms"
        return Explanation(
            name,
            "outside the latency range",
            f"its predicted latency is not within {ends}{_evaluable_text(campaign)}",
            {"latency_range_ms": [low, high]},
        )
    facts: dict[str, Any] = {"predicted_ms": candidate.predicted_ms}
    record = next((item for item in campaign.store.draws() if item.row == candidate.row), None)
    if record is not None and record.accuracy is None:
        text = f"it was drawn as number {record.number}; its result has not come yet"
        return Explanation(name, "in flight", text, {**facts, "number": record.number})
    if record is not None:
        optimal = record.number in {item.number for item in campaign.store.boundary()}
        text = (
            f"evaluated as number {record.number}: accuracy {record.accuracy:.4f}, predicted "
            f"{record.predicted_ms:.4f} ms; {'on' if optimal else 'not on'} the boundary"
        )
        facts |= {"number": record.number, "accuracy": record.accuracy, "on_boundary": optimal}
        return Explanation(name, "evaluated", text, facts)
    reason = pruner.why(candidate)
    if reason is None:
        text = f"no result rules it out yet; it is one of {pruner.alive_count} that can be drawn"
        return Explanation(name, "alive", text, {**facts, "alive": pruner.alive_count})
    if isinstance(reason, Covered):
        larger = {
            "encoding": space.architecture(reason.larger.row).text,
            "predicted_ms": reason.larger.predicted_ms,
        }
        text = (
            f"it is below {larger['encoding']} in the partial order, which is predicted at "
            f"{larger['predicted_ms']:.4f} ms, no slower than the {candidate.predicted_ms:.4f} ms predicted for this "
            "one: no training is needed to see that it adds nothing"
        )
        return Explanation(name, "ruled out", text, {**facts, "larger": larger})
    larger, better = _facts(campaign, reason.larger), _facts(campaign, reason.better)
    beyond = f", more than the margin of {reason.margin:.4f} above that," if reason.margin else ""
    text = (
        f"it is below {larger['encoding']} in the partial order, so its accuracy is assumed to be at most "
        f"{larger['accuracy']:.4f}; {'that architecture' if larger == better else better['encoding']} has accuracy "
        f"{better['accuracy']:.4f}{beyond} and is predicted at {better['predicted_ms']:.4f} ms, no slower than the "
        f"{candidate.predicted_ms:.4f} ms predicted for this one"
    )
    found = {**facts, "larger": larger, "better": better, "margin": reason.margin}
    return Explanation(name, "ruled out", text, found)


def _evaluable_text(campaign: Campaign) -> str:
    count = campaign.store.meta()["identity"].get("evaluable")
    return "" if count is None else f", or it is none of the {count} that the evaluator can evaluate"


def _facts(campaign: Campaign, evaluated: Evaluated) -> dict[str, Any]:
    return {
        "encoding": campaign.space.architecture(evaluated.candidate.row).text,
        "number": evaluated.number,
        "accuracy": evaluated.accuracy,
        "predicted_ms": evaluated.candidate.predicted_ms,
    }
