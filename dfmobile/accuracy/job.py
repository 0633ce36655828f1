"""Evaluate in a worker of any executor: JSON in, JSON out."""

from __future__ import annotations

import json
from concurrent.futures import Future
from functools import lru_cache
from pathlib import Path
from typing import Any

from dfmobile.accuracy.base import Evaluation, EvaluationRequest, Evaluator, open_evaluator
from dfmobile.execution import Executor

FUNCTION = "dfmobile.accuracy.job:run"


@lru_cache(maxsize=1)
def _evaluator(name: str, options: str) -> Evaluator:
    """Keep the evaluator between calls: it may hold decoded data."""
    return open_evaluator(name, **json.loads(options))


def run(payload: dict[str, Any]) -> dict[str, Any]:
    """Evaluate one architecture; this is what runs in the worker.

    Args:
        payload: ``evaluator``, ``options``, ``encoding``, ``seed``, ``folder``.

    Returns:
        ``Evaluation.to_json()``.
    """
    evaluator = _evaluator(payload["evaluator"], json.dumps(payload["options"], sort_keys=True))
    request = EvaluationRequest(payload["encoding"], payload["seed"], Path(payload["folder"]))
    return evaluator.evaluate(request).to_json()


def submit(
    executor: Executor, evaluator: str, options: dict[str, Any], request: EvaluationRequest
) -> Future[dict[str, Any]]:
    """Queue one evaluation.

    Args:
        executor: where it runs.
        evaluator: its registered name.
        options: its options, JSON-able.
        request: what to evaluate; its folder must be reachable from the worker.

    Returns:
        A future of ``Evaluation.to_json()``; read it with ``result``.
    """
    payload = {
        "evaluator": evaluator,
        "options": options,
        "encoding": request.encoding,
        "seed": request.seed,
        "folder": str(request.folder.absolute()),
    }
    return executor.submit(FUNCTION, payload)


def result(future: Future[dict[str, Any]]) -> Evaluation:
    """Wait for an evaluation that ``submit`` queued.

    Raises:
        DfmobileError: what the evaluator raised.
        ExecutionError: if the worker died.
    """
    return Evaluation.from_json(future.result())
