"""Evaluate in a worker of any executor: JSON in, JSON out."""

from __future__ import annotations

import json
from concurrent.futures import Future
from functools import lru_cache
from pathlib import Path
from typing import Any

from dfmobile.accuracy.base import Evaluation, EvaluationRequest, Evaluator, open_evaluator
from dfmobile.execution import Executor

EVALUATE = "dfmobile.accuracy.job:run"
DESCRIBE = "dfmobile.accuracy.job:describe"
ENCODINGS = "dfmobile.accuracy.job:encodings"


@lru_cache(maxsize=1)
def _evaluator(name: str, options: str) -> Evaluator:
    """Keep the evaluator between calls: it may hold decoded data."""
    return open_evaluator(name, **json.loads(options))


def _open(payload: dict[str, Any]) -> Evaluator:
    return _evaluator(payload["evaluator"], json.dumps(payload["options"], sort_keys=True))


def describe(payload: dict[str, Any]) -> dict[str, Any]:
    """Say what an evaluator is, as it describes itself; runs in the worker, where its data are.

    Args:
        payload: ``evaluator`` (name) and ``options`` (its keyword options).

    Returns:
        ``description``.

    Raises:
        PluginError: if there is no such evaluator.
        InputError: if it does not take these options.
    """
    return {"description": _open(payload).describe()}


def encodings(payload: dict[str, Any]) -> dict[str, Any]:
    """Say which architectures an evaluator can evaluate; runs in the worker.

    Args:
        payload: as for ``describe``.

    Returns:
        ``encodings``: a sorted list, or None: any.
    """
    known = _open(payload).encodings()
    return {"encodings": None if known is None else sorted(known)}


def run(payload: dict[str, Any]) -> dict[str, Any]:
    """Evaluate one architecture; this is what runs in the worker.

    Args:
        payload: ``evaluator``, ``options``, ``encoding``, ``seed``, ``folder``.

    Returns:
        ``Evaluation.to_json()``.
    """
    request = EvaluationRequest(payload["encoding"], payload["seed"], Path(payload["folder"]))
    return _open(payload).evaluate(request).to_json()


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
    return executor.submit(EVALUATE, payload)


def result(future: Future[dict[str, Any]]) -> Evaluation:
    """Wait for an evaluation that ``submit`` queued.

    Raises:
        DfmobileError: what the evaluator raised.
        ExecutionError: if the worker died.
    """
    return Evaluation.from_json(future.result())
