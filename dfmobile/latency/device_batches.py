"""Batches of one tool on one device, one at a time; what killed processes of this machine left there makes way.

Knows devices and batches, no tools, no models and no measurements.
"""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
from collections.abc import Callable, Generator, Sequence
from hashlib import sha256

from dfmobile.devices.batch import Batch, BatchItem, BatchProgress, BatchResult, BatchSettings, PhoneLockedError
from dfmobile.devices.batch.connection import Connection
from dfmobile.devices.device import Device
from dfmobile.errors import BackendError, DeviceError

_ACTIVE: set[str] = set()  # ids of the runs that this process is taking results of


class DeviceBatches:
    """Runs batches on a device.

    Args:
        device: any.
        prefix: of the names of its runs there, letters.
        settings: of each batch, asked for when one begins.
        tell: told what people should know.
        batch_class: ``Batch``, or a double in tests.

    Attributes:
        busy: a batch is on the device: nothing else may run there, and would disturb.
    """

    def __init__(
        self,
        device: Device,
        prefix: str,
        settings: Callable[[], BatchSettings],
        tell: Callable[[str], None],
        batch_class: type[Batch] = Batch,
    ) -> None:
        self.busy = False
        self._device, self._prefix, self._settings, self._tell = device, prefix, settings, tell
        self._batch_class = batch_class
        self._looked = False  # for what killed processes left on the device

    def run_one(self, item: BatchItem) -> BatchResult:
        """Run one item on the device; see ``run``."""
        results = list(self.run([item]))  # to its end: the run is removed from the device with its last result
        if len(results) != 1:
            raise BackendError(f"{self._device.uri} returned {len(results)} results for one item")
        return results[0]

    def run(self, items: Sequence[BatchItem]) -> Generator[BatchResult]:
        """Run items on the device; what ends early, however that is, is removed from there.

        Raises:
            PhoneLockedError: if someone else's run is there; one of ours whose process is gone makes way.
            DeviceError: see ``Batch.run``.
        """
        if self.busy:
            raise BackendError("this backend is measuring already", hint="take all results of one call first")
        if not self._looked:
            self._looked = True
            with contextlib.suppress(DeviceError):  # the batch meets it too, and can do something about it
                self._remove_orphans()
        for last_try in (False, True):
            run_id = f"{self._prefix}-{host_mark()}-{os.getpid()}-{secrets.token_hex(4)}"
            settings = self._settings()
            batch = self._batch_class(self._device.transport, settings, run_id=run_id)
            _ACTIVE.add(run_id)
            self.busy = True
            try:
                yield from batch.run(items, self._progress)
            except PhoneLockedError:
                line = Connection(self._device.transport, settings.reconnect_s, self._tell, run_id)
                with contextlib.suppress(DeviceError):  # that it is locked is what to tell
                    line.steadily(batch.clean_up)  # what was sent before the lock was seen
                if last_try or not line.steadily(self._remove_orphans):
                    raise
            except BaseException:
                with contextlib.suppress(DeviceError):  # the first error is the one to tell
                    batch.clean_up()
                raise
            else:
                return
            finally:
                self.busy = False
                _ACTIVE.discard(run_id)

    def _progress(self, step: BatchProgress) -> None:
        if step.message:
            self._tell(step.message)

    def _remove_orphans(self) -> bool:
        """Remove runs of this machine and user whose process is gone: they fill the device, or hold its lock.

        Returns:
            Whether there were any.
        """
        found = False
        for run in self._batch_class.runs(self._device.transport):
            parts = run.run_id.split("-")
            if len(parts) != 4 or parts[:2] != [self._prefix, host_mark()] or not parts[2].isdigit():
                continue
            mine = int(parts[2]) == os.getpid()
            if run.run_id not in _ACTIVE if mine else not _alive(int(parts[2])):
                self._tell(f"removing the run {run.run_id} from the device: the process that started it is gone")
                self._batch_class(self._device.transport, self._settings(), run_id=run.run_id).clean_up()
                found = True
        return found


def host_mark() -> str:
    """Return what stands for this machine and user; a container counts process ids by itself, so it is another."""
    counts_by = ""
    with contextlib.suppress(OSError):
        counts_by = os.readlink("/proc/self/ns/pid")
    user = os.getuid() if hasattr(os, "getuid") else 0
    return sha256(f"{platform.node()} {user} {counts_by}".encode()).hexdigest()[:8]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True
