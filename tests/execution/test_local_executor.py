"""The local pool: the contract, and what only processes of this machine can show."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from dfmobile.errors import ExecutionError, InputError, PluginError
from dfmobile.execution import open_executor
from dfmobile.execution.local import LocalExecutor
from dfmobile.testing.executor_contract import FUNCTIONS, ExecutorContract


class TestLocalExecutor(ExecutorContract):
    @pytest.fixture
    def executor(self) -> Iterator[LocalExecutor]:
        with LocalExecutor(workers=2) as executor:
            yield executor


def wait_for_pid(file: Path) -> int:
    for _ in range(600):
        if file.exists() and file.read_text():
            return int(file.read_text())
        time.sleep(0.05)
    raise AssertionError("the worker did not begin")


def assert_ends(pid: int) -> None:
    for _ in range(200):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return
        # An orphan that has ended stays as a zombie where nobody reaps it.
        stat = Path(f"/proc/{pid}/stat")
        if stat.exists() and stat.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.05)
    raise AssertionError(f"worker {pid} outlived its pool")


def test_two_workers_work_at_the_same_time(tmp_path: Path) -> None:
    with LocalExecutor(workers=2) as executor:
        futures = [
            executor.submit(f"{FUNCTIONS}:work", {"file": str(tmp_path / name), "seconds": 0.3}) for name in "ab"
        ]
        assert wait_for_pid(tmp_path / "a") != wait_for_pid(tmp_path / "b")
        for future in futures:
            assert future.result() == {}


def test_leaving_the_block_waits_for_what_was_submitted() -> None:
    with LocalExecutor(workers=1) as executor:
        futures = [executor.submit(f"{FUNCTIONS}:echo", {"number": number}) for number in range(3)]
    assert [future.result()["number"] for future in futures] == [0, 1, 2]


def test_an_exception_stops_the_workers_at_once(tmp_path: Path) -> None:
    executor = LocalExecutor(workers=1)
    running = executor.submit(f"{FUNCTIONS}:work", {"file": str(tmp_path / "pid"), "seconds": 600})
    queued = executor.submit(f"{FUNCTIONS}:echo", {})
    pid = wait_for_pid(tmp_path / "pid")
    with pytest.raises(KeyboardInterrupt), executor:
        raise KeyboardInterrupt
    assert_ends(pid)
    assert queued.cancelled()
    with pytest.raises(ExecutionError, match="was stopped: the worker pool was closed"):
        running.result()


POOL = """
import sys
from dfmobile.execution.local import LocalExecutor
with LocalExecutor(workers=1) as executor:
    executor.submit(sys.argv[1], {"file": sys.argv[2], "seconds": 600}).result()
"""


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_workers_end_when_their_pool_is_killed(tmp_path: Path, end: signal.Signals) -> None:
    parent = subprocess.Popen(
        [sys.executable, "-c", POOL, f"{FUNCTIONS}:work", str(tmp_path / "pid")], stderr=subprocess.DEVNULL
    )
    pid = wait_for_pid(tmp_path / "pid")
    parent.send_signal(end)
    parent.wait(30)
    assert_ends(pid)


def test_workers_see_the_modules_that_the_pool_sees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_plugin.py").write_text("def double(payload):\n    return {'value': 2 * payload['value']}\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with open_executor("local", workers=1) as executor:
        assert executor.submit("my_plugin:double", {"value": 21}).result() == {"value": 42}


def test_files_in_the_current_folder_do_not_shadow_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "queue.py").write_text("raise RuntimeError('not the standard library')\n")
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry])
    monkeypatch.chdir(tmp_path)
    with open_executor("local", workers=1) as executor:
        assert executor.submit(f"{FUNCTIONS}:echo", {"a": 1}).result() == {"a": 1}


@pytest.mark.parametrize("workers", [0, -1, 1.5, True])
def test_a_pool_without_workers_is_refused(workers: int) -> None:
    with pytest.raises(InputError, match="at least 1 worker"):
        open_executor("local", workers=workers)


def test_unknown_options_and_executors_are_named() -> None:
    with pytest.raises(InputError, match="colour"):
        open_executor("local", colour="red")
    with pytest.raises(PluginError, match="nowhere"):
        open_executor("nowhere")


def test_the_caller_may_change_the_payload_afterwards() -> None:
    payload = {"value": 1}
    with LocalExecutor(workers=1) as executor:
        future = executor.submit(f"{FUNCTIONS}:echo", payload)
        payload["value"] = 2
        assert future.result() == {"value": 1}
