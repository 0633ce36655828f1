"""What a worker runs for a campaign: JSON in, JSON out. Knows one evaluation, nothing of the campaign."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dfmobile.accuracy.base import EvaluationRequest, open_evaluator


def describe(payload: dict[str, Any]) -> dict[str, Any]:
    """Say what an evaluator is, as it describes itself.

    Args:
        payload: ``evaluator`` (name) and ``options`` (its keyword options).

    Raises:
        PluginError: if there is no such evaluator.
        InputError: if it does not take these options.
    """
    return {"description": open_evaluator(payload["evaluator"], **payload["options"]).describe()}


def evaluate(payload: dict[str, Any]) -> dict[str, Any]:
    """Determine the accuracy of one architecture.

    Args:
        payload: ``evaluator``, ``options``, ``encoding``, ``seed``, ``folder`` (made if absent; the evaluator
            continues there what an earlier, interrupted call left).

    Returns:
        ``accuracy``, ``seconds``, ``details``, ``curve``, ``weights`` (path or None).

    Raises:
        EvaluationError: if the accuracy cannot be determined, or is not in [0, 1].
    """
    evaluator = open_evaluator(payload["evaluator"], **payload["options"])
    request = EvaluationRequest(payload["encoding"], payload["seed"], Path(payload["folder"]))
    return evaluator.evaluate(request).to_json()
