"""What travels between a pool and a worker: one JSON document a line, UTF-8.

========================  ==========================================================================
pool to worker            ``{"function": …, "payload": {…}}`` each call
worker to pool            ``{"ready": pid}`` once, then ``{"result": {…}}`` or ``{"error": {…}}`` each call
========================  ==========================================================================
"""

from __future__ import annotations

import json
import traceback
from typing import Any

from dfmobile import errors
from dfmobile.errors import DfmobileError, ExecutionError

TRACEBACK_LIMIT = 16_000
"""Characters of a worker's traceback that travel."""


class WorkerTracebackError(Exception):
    """Carries the text of a traceback that happened in a worker."""


def encode(message: dict[str, Any]) -> bytes:
    """Return one line.

    Raises:
        TypeError: if a value has no JSON form.
        ValueError: if a number is NaN or infinite, or an object contains itself.
    """
    return json.dumps(message, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def error_to_json(error: BaseException) -> dict[str, Any]:
    """Describe an exception so that ``error_from_json`` can make it again in another process."""
    return {
        "types": [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__],
        "class": type(error).__name__,
        "message": str(error),
        "hint": getattr(error, "hint", "") if isinstance(error, DfmobileError) else "",
        "traceback": "".join(traceback.format_exception(error))[-TRACEBACK_LIMIT:],
    }


def error_from_json(document: dict[str, Any], function: str) -> DfmobileError:
    """Make the exception that a worker described.

    A ``DfmobileError`` keeps its nearest class in ``dfmobile.errors``, message and hint; anything else becomes
    an ``ExecutionError`` naming the function. The worker's traceback is its cause, for ``--debug``.
    """
    known = [getattr(errors, name, None) for name in document["types"]]
    kind = next((found for found in known if isinstance(found, type) and issubclass(found, DfmobileError)), None)
    if kind is not None:
        result: DfmobileError = kind(document["message"], document["hint"])
    else:
        result = ExecutionError(
            f"{function} failed in its worker: {document['class']}: {document['message']}",
            hint="run again with --debug to see the worker's traceback",
        )
    result.__cause__ = WorkerTracebackError(document["traceback"])
    return result
