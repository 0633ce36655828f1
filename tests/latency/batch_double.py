"""A double of ``dfmobile.devices.batch.Batch`` that runs items at once through a transport, or answers by a table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath
from typing import Any, ClassVar

from dfmobile.devices.batch import BatchItem, BatchResult, BatchSettings
from dfmobile.devices.transport.base import Transport

Answer = Callable[[BatchItem], "tuple[int, str] | tuple[int, str, dict[str, Any]]"]


class RecordingBatch:
    """Answers each item by ``answer`` and remembers what it was asked.

    Attributes:
        answer: gives (exit code, log) or (exit code, log, conditions) of an item.
        items: all items of all batches since ``reset``.
        settings: of the last batch.
        cleaned: how many batches were cleaned up.
    """

    answer: ClassVar[Answer]
    items: ClassVar[list[BatchItem]] = []
    settings: ClassVar[list[BatchSettings]] = []
    cleaned: ClassVar[int] = 0
    contents: ClassVar[dict[str, bytes]] = {}

    def __init__(self, transport: Transport, settings: BatchSettings, *, run_id: str | None = None) -> None:
        type(self).settings.append(settings)
        self.run_id = run_id

    @classmethod
    def reset(cls, answer: Answer) -> None:
        """Forget everything, and answer by ``answer`` from now on."""
        cls.answer = staticmethod(answer)
        cls.items, cls.settings, cls.cleaned, cls.contents = [], [], 0, {}

    def run(self, items: Sequence[BatchItem], on_progress: Any = None) -> Iterator[BatchResult]:
        """Answer each item; last ones first, since results may come in any order."""
        for item in reversed(items):
            type(self).items.append(item)
            for source, name in item.files:
                type(self).contents[f"{item.id}/{name}"] = source.read_bytes()
            code, log, *more = type(self).answer(item)
            conditions: dict[str, Any] = more[0] if more else {}
            yield BatchResult(item.id, code, log.encode(), conditions, conditions)

    @staticmethod
    def runs(transport: Transport, folder: str | None = None) -> list[Any]:
        """There are none."""
        return []

    def clean_up(self) -> None:
        """Count it."""
        type(self).cleaned += 1


class LocalBatch:
    """Runs items one after another through the transport itself, each in a folder of its own."""

    def __init__(self, transport: Transport, settings: BatchSettings, *, run_id: str | None = None) -> None:
        self._transport, self._settings = transport, settings
        self._folder = str(PurePosixPath(transport.scratch_root) / f"double-{run_id}")

    def run(self, items: Sequence[BatchItem], on_progress: Any = None) -> Iterator[BatchResult]:
        """Push, run, and yield."""
        self._transport.make_folder(self._folder)
        for source, name in self._settings.shared_files:
            self._transport.push(source, f"{self._folder}/{name}", mode=0o755)
        for item in items:
            folder = f"{self._folder}/{item.id}"
            self._transport.make_folder(folder)
            for source, name in item.files:
                self._transport.push(source, f"{folder}/{name}")
            argv = [part.replace("{item}", folder).replace("{run}", self._folder) for part in item.argv]
            done = self._transport.run(argv, timeout_s=item.timeout_s, folder=folder)
            yield BatchResult(item.id, done.exit_code, done.stdout + done.stderr, {}, {})

    @staticmethod
    def runs(transport: Transport, folder: str | None = None) -> list[Any]:
        """There are none."""
        return []

    def clean_up(self) -> None:
        """Remove it all."""
        self._transport.remove(self._folder)
