"""Batch runs on a device that outlive the cable: a list of programs, pushed once, run there by a shell driver.

Knows transports, files and commands; no models and no measurements.
"""

from dfmobile.devices.batch.base import (
    NOT_ENDED,
    TIMED_OUT,
    BatchDamagedError,
    BatchItem,
    BatchProgress,
    BatchResult,
    BatchSettings,
    CoolDown,
    PhoneLockedError,
    RunOnDevice,
)
from dfmobile.devices.batch.batch import Batch
from dfmobile.devices.batch.leftovers import Cleaned, clean_device, holds_stored_files, runs_on_device

__all__ = [
    "NOT_ENDED",
    "TIMED_OUT",
    "Batch",
    "BatchDamagedError",
    "BatchItem",
    "BatchProgress",
    "BatchResult",
    "BatchSettings",
    "Cleaned",
    "CoolDown",
    "PhoneLockedError",
    "RunOnDevice",
    "clean_device",
    "holds_stored_files",
    "runs_on_device",
]
