"""A worker process of ``LocalExecutor`` (started by ``process``; by hand: ``python -m dfmobile.execution.worker``).

Reads calls from standard input and writes answers to what was standard output when it started. It ends when
its standard input ends, in the middle of a call too: the kernel closes that pipe however the parent ends,
``kill -9`` included, so no worker outlives its pool.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import sys
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

from dfmobile.errors import PluginError
from dfmobile.execution import wire
from dfmobile.execution.base import split_function


def take_streams() -> tuple[BinaryIO, BinaryIO]:
    """Move the protocol to private descriptors; return (calls, answers).

    Afterwards whatever a function prints, from Python or from C, goes to standard error, and whatever it reads
    from standard input is empty. Private descriptors are not inherited by programs that a function starts.
    """
    calls = os.fdopen(os.dup(0), "rb")
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return calls, answers


def read_calls(calls: BinaryIO, received: queue.SimpleQueue[bytes]) -> None:
    """Queue each line; end the process when there are no more (runs in a thread of its own)."""
    for line in calls:
        received.put(line)
    # Not sys.exit: the main thread may be deep in a training, which nobody waits for any more.
    os._exit(0)


def find_function(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """Import ``"package.module:function"``.

    Raises:
        PluginError: if it cannot be imported or is not callable.
    """
    module, attribute = split_function(name)
    try:
        found: Any = importlib.import_module(module)
        for part in attribute.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise PluginError(
            f"the worker cannot import {name}: {error}",
            hint="install the package that has it in the worker's environment",
        ) from error
    if not callable(found):
        raise PluginError(f"{name} is not a function")
    function: Callable[[dict[str, Any]], dict[str, Any]] = found
    return function


def answer(call: dict[str, Any]) -> bytes:
    """Run one call and return the line that answers it."""
    try:
        result = find_function(call["function"])(call["payload"])
        if not isinstance(result, dict):
            raise TypeError(f"it returned {type(result).__name__}, not a JSON object")  # noqa: TRY301
        return wire.encode({"result": result})
    except (Exception, SystemExit) as error:  # the answer carries it to whoever waits for the result
        return wire.encode({"error": wire.error_to_json(error)})


def main() -> None:
    """Serve calls until standard input ends."""
    calls, answers = take_streams()
    received: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=read_calls, args=(calls, received), name="calls", daemon=True).start()
    answers.write(wire.encode({"ready": os.getpid()}))
    while True:
        line = memoryview(answer(json.loads(received.get())))
        sys.stdout.flush()
        sys.stderr.flush()
        while line:  # a raw write to a pipe may be partial
            line = line[answers.write(line) :]


def serve() -> None:
    """Run ``main`` until the pool is gone."""
    try:
        main()
    except BrokenPipeError:
        os._exit(0)


if __name__ == "__main__":
    serve()
