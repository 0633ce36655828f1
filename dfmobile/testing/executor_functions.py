"""Functions that executors' contract tests run in workers."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from dfmobile.errors import EvaluationError

Json = dict[str, Any]


def echo(payload: Json) -> Json:
    """Return the payload."""
    return payload


def describe(payload: Json) -> Json:
    """Return the worker's process id and thread settings."""
    del payload
    return {"pid": os.getpid(), "threads": os.environ.get("OMP_NUM_THREADS"), "path": sys.path}


def chatter(payload: Json) -> Json:
    """Write to standard output in every way there is, and read standard input, before returning."""
    print("a line on standard output", flush=True)
    os.write(1, b'{"result": {"forged": true}}\n')
    subprocess.run([sys.executable, "-c", "print('from a child')"], check=True)
    return {**payload, "read": sys.stdin.read()}


def refuse(payload: Json) -> Json:
    """Fail in the expected way."""
    raise EvaluationError(str(payload["message"]), hint=str(payload["hint"]))


def fail(payload: Json) -> Json:
    """Fail in an unexpected way."""
    raise ZeroDivisionError(str(payload["message"]))


def return_a_list(payload: Json) -> Json:
    """Return something that is not a JSON object."""
    return [payload]  # type: ignore[return-value]


def return_nan(payload: Json) -> Json:
    """Return a number that JSON does not have."""
    return {**payload, "value": float("nan")}


def die(payload: Json) -> Json:
    """End the worker by a signal or an exit code, after a last word."""
    print(payload["word"], file=sys.stderr, flush=True)
    if "signal" in payload:
        os.kill(os.getpid(), payload["signal"])
        time.sleep(60)
    os._exit(payload["code"])


def work(payload: Json) -> Json:
    """Write the process id to a file, then be busy for long."""
    Path(payload["file"]).write_text(str(os.getpid()))
    end = time.monotonic() + float(payload["seconds"])
    while time.monotonic() < end:
        sum(range(1000))
    return {}
