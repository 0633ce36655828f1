"""Worker processes on this machine: the built-in executor ``local``."""

from __future__ import annotations

import json
import queue
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import ClassVar

from dfmobile.errors import ExecutionError, InputError
from dfmobile.execution import wire
from dfmobile.execution.base import Executor, Json, split_function
from dfmobile.execution.process import WorkerProcess


@dataclass
class _Task:
    function: str
    payload: Json
    future: Future[Json]


class LocalExecutor(Executor):
    """Runs each call in one of a fixed number of worker processes, one thread each.

    Workers start when there is work for them, and end with the process that made the pool, however it ends.
    A worker that dies fails only the call it was running; another takes its place.

    Args:
        workers: number of processes, at least 1.

    Raises:
        InputError: if ``workers`` is not a positive number.
    """

    name: ClassVar[str] = "local"

    def __init__(self, workers: int = 2) -> None:
        if not isinstance(workers, int) or isinstance(workers, bool) or workers < 1:
            raise InputError(f"a pool has at least 1 worker, not {workers!r}")
        self._workers = workers
        self._tasks: queue.SimpleQueue[_Task | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._closed = False
        self._stopping = threading.Event()
        self._processes: set[WorkerProcess] = set()
        self._threads: list[threading.Thread] = []

    @property
    def workers(self) -> int:
        """See base class."""
        return self._workers

    def submit(self, function: str, payload: Json) -> Future[Json]:
        """See base class."""
        split_function(function)
        try:
            # A copy: what the caller changes later does not reach the worker.
            task = _Task(function, json.loads(wire.encode(payload)), Future())
        except (TypeError, ValueError) as error:
            raise InputError(f"the payload for {function} is not JSON: {error}") from error
        with self._lock:
            if self._closed:
                raise ExecutionError("the worker pool is closed")
            self._tasks.put(task)
            if len(self._threads) < self._workers:
                thread = threading.Thread(target=self._serve, name=f"worker {len(self._threads)}", daemon=True)
                self._threads.append(thread)
                thread.start()
        return task.future

    def close(self, *, wait: bool = False) -> None:
        """See base class."""
        with self._lock:
            first = not self._closed
            self._closed = True
        if not wait:
            self._stopping.set()
            self._cancel_queued()
            with self._lock:
                running = list(self._processes)
            for process in running:
                process.end()
        if first:
            for _ in self._threads:
                self._tasks.put(None)
        for thread in self._threads:
            thread.join()

    def _cancel_queued(self) -> None:
        kept = 0
        while True:
            try:
                task = self._tasks.get_nowait()
            except queue.Empty:
                break
            if task is None:
                kept += 1
            else:
                task.future.cancel()
        for _ in range(kept):
            self._tasks.put(None)

    def _serve(self) -> None:
        """Run tasks one after the other in a process of this thread's own."""
        process: WorkerProcess | None = None
        try:
            while True:
                task = self._tasks.get()
                if task is None:
                    return
                if not task.future.set_running_or_notify_cancel():
                    continue
                process = self._run(task, process)
        finally:
            if process is not None:
                self._drop(process)

    def _run(self, task: _Task, process: WorkerProcess | None) -> WorkerProcess | None:
        """Run one task; return the process that can take the next one, if any."""
        try:
            if process is None or not process.alive:
                if process is not None:
                    self._drop(process)
                    process = None
                process = self._start()
            result = process.call(task.function, task.payload)
        except BaseException as error:  # the future carries it to whoever waits
            stopped = ExecutionError(f"{task.function} was stopped: the worker pool was closed")
            task.future.set_exception(stopped if self._stopping.is_set() else error)
        else:
            task.future.set_result(result)
        return process

    def _start(self) -> WorkerProcess:
        process = WorkerProcess()
        with self._lock:
            self._processes.add(process)
        if self._stopping.is_set():  # close() may have looked before this process was in the set
            process.end()
        return process

    def _drop(self, process: WorkerProcess) -> None:
        with self._lock:
            self._processes.discard(process)
        process.discard()
