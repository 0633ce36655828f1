"""The host's side of a batch run. (Signatures first; the body follows.)"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from dfmobile.devices.batch.base import BatchItem, BatchProgress, BatchResult, BatchSettings, RunOnDevice
from dfmobile.devices.transport.base import Transport

DEFAULT_SETTINGS = BatchSettings()


class Batch:
    """A list of programs that a device runs by itself."""

    def __init__(
        self, transport: Transport, settings: BatchSettings = DEFAULT_SETTINGS, *, run_id: str | None = None
    ) -> None:
        raise NotImplementedError

    run_id: str

    def run(
        self, items: Sequence[BatchItem], on_progress: Callable[[BatchProgress], None] | None = None
    ) -> Iterator[BatchResult]:
        """Run the items that have not run yet, and yield the results of all."""
        raise NotImplementedError

    def clean_up(self) -> None:
        """Stop the run and remove it from the device."""
        raise NotImplementedError

    @staticmethod
    def runs(transport: Transport, folder: str | None = None) -> list[RunOnDevice]:
        """Return the runs that a device still holds."""
        raise NotImplementedError
