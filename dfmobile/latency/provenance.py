"""What all passes of one process share: who measured, with what, how. Stored once a session."""

from __future__ import annotations

import dataclasses
import datetime
import platform
from typing import Any

import numpy as np

from dfmobile import __version__
from dfmobile.latency.backends.base import Backend
from dfmobile.latency.measurement import Protocol


def utc_now() -> str:
    """Return the time, ISO 8601, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def session_provenance(backend: Backend, protocol: Protocol, order_seed: int) -> dict[str, Any]:
    """Return the provenance of a session, JSON values."""
    return {
        "dfmobile": __version__,
        "python": platform.python_version(),
        "numpy": np.__version__,
        "started_utc": utc_now(),
        "device": str(backend.device.uri),
        "backend": backend.name,
        "runtime": dataclasses.asdict(backend.identity()),
        "threads": backend.threads,
        "precision": backend.precision,
        "affinity": backend.affinity(),
        "protocol": protocol.to_dict(),
        "order_seed": order_seed,
        "evidence": backend.evidence(),
    }
