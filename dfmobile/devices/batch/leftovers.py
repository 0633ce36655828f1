"""What runs left on a device, and removing it."""

from __future__ import annotations

from dataclasses import dataclass

from dfmobile.devices.batch.base import RunOnDevice, check_run_id
from dfmobile.devices.batch.remote import RemoteDriver
from dfmobile.devices.transport.base import Transport
from dfmobile.errors import DeviceError, InputError

_UNUSED_S = 600  # longer than a build needs from one batch to the next


def holds_stored_files(transport: Transport, folder: str | None = None) -> bool:
    """Return whether programs or engines are stored on a device, or runs.

    Raises:
        DeviceError: if the device cannot be asked.
    """
    return transport.stat(RemoteDriver(transport, "none", folder).base) is not None


@dataclass(frozen=True)
class Cleaned:
    """A run that was found, and what became of it.

    Attributes:
        run: as it was found.
        removed: it is gone now.
    """

    run: RunOnDevice
    removed: bool


def runs_on_device(transport: Transport, folder: str | None = None) -> list[RunOnDevice]:
    """Return the runs that a device still holds, oldest first.

    Raises:
        DeviceError: if the device cannot be asked.
    """
    driver = RemoteDriver(transport, "none", folder)
    if transport.stat(driver.base) is None:
        return []
    driver.prepare(only_look=True)
    return driver.runs()


def clean_device(
    transport: Transport,
    *,
    run_id: str | None = None,
    stop: bool = False,
    dry_run: bool = False,
    folder: str | None = None,
) -> list[Cleaned]:
    """Remove runs from a device; where none is left, the stored programs and the lock too.

    The stored programs stay where a run was begun or ended in the last ten minutes, unless ``stop``: the command that
    did so may be between two runs.

    Args:
        transport: to the device.
        run_id: only this run; None: all.
        stop: also those that run; they are stopped. And the stored programs, however new.
        dry_run: only look.
        folder: as in ``BatchSettings``.

    Raises:
        InputError: if the run is not there.
        DeviceError: if the device cannot be asked or refuses.
    """
    if run_id is not None:
        check_run_id(run_id)
    try:
        found = runs_on_device(transport, folder)
    except DeviceError as error:
        raise RemoteDriver(transport, "none", folder).diagnose(error) from error
    wanted = [run for run in found if run_id in (None, run.run_id)]
    if run_id is not None and not wanted:
        raise InputError(
            f"{transport.uri} has no run {run_id}",
            hint=f"there are: {', '.join(run.run_id for run in found)}" if found else "there is none",
        )
    cleaned = []
    for run in wanted:
        removed = not dry_run and (stop or run.state != "running")
        if removed:
            RemoteDriver(transport, run.run_id, folder).remove()
        cleaned.append(Cleaned(run, removed))
    if run_id is None and not dry_run and all(entry.removed for entry in cleaned):
        RemoteDriver(transport, "none", folder).remove_all(0 if stop else _UNUSED_S)
    return cleaned
