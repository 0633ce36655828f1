"""One worker process seen from its pool: limits, rubbish on the pipe, how a death is told."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from dfmobile.errors import ExecutionError
from dfmobile.execution.process import WorkerDeathError, WorkerProcess
from dfmobile.testing.executor_contract import FUNCTIONS

HERE = f"{__name__}:"


@pytest.fixture
def worker() -> Iterator[WorkerProcess]:
    process = WorkerProcess(60)
    yield process
    process.discard()


def test_a_call_within_its_limit(worker: WorkerProcess) -> None:
    for number in range(3):
        assert worker.call(f"{FUNCTIONS}:echo", {"number": number}, 60) == {"number": number}
    assert worker.alive


def test_a_call_beyond_its_limit_ends_the_process(worker: WorkerProcess, tmp_path: Any) -> None:
    with pytest.raises(WorkerDeathError) as caught:
        worker.call(f"{FUNCTIONS}:work", {"file": str(tmp_path / "pid"), "seconds": 600}, 0.3)
    assert caught.value.timed_out
    assert caught.value.reason == "no answer within 0.3 s"
    assert not worker.alive


def test_a_death_has_its_reason_and_the_last_lines(worker: WorkerProcess) -> None:
    with pytest.raises(WorkerDeathError, match="SIGSEGV") as caught:
        worker.call(f"{FUNCTIONS}:die", {"word": "the last word", "signal": int(signal.SIGSEGV)}, 60)
    assert caught.value.reason == "signal 11 (SIGSEGV)"
    assert caught.value.last_lines == ("the last word",)
    assert not caught.value.timed_out


def write_rubbish(payload: dict[str, Any]) -> dict[str, Any]:
    """Write to every descriptor that is open, as a library that has the wrong one does."""
    for descriptor in range(3, 20):
        try:
            os.write(descriptor, payload["text"].encode())
        except OSError:
            continue
    return {}


@pytest.mark.parametrize(
    "text",
    [
        "[I] not an answer\n",
        "[1]\n",
        '{"result": 3}\n',
        '{"ready": 1}\n',
        '{"error": {"class": 1}}\n',
        '{"error": {"class": "a", "message": "b", "hint": "c", "traceback": "d", "types": 3}}\n',
        "[" * 5000 + "\n",
        "\x00\xff\n",
    ],
)
def test_rubbish_is_no_answer(worker: WorkerProcess, text: str) -> None:
    with pytest.raises(ExecutionError, match="which is no answer") as caught:
        worker.call(f"{HERE}write_rubbish", {"text": text}, 60)
    assert "\n" not in str(caught.value)
    assert not worker.alive
