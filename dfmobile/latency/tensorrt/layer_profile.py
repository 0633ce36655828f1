"""Times of an engine's layers: the file of ``--exportProfile`` and the table of ``--dumpProfile``."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ProfiledLayer:
    """One layer of an engine; its name is for people, never a key: fused, shortened in old versions, lost in new ones.

    Attributes:
        name: as TensorRT has it.
        time_ms_total: over all runs.
        average_ms: of a run.
        median_ms: of a run; None before 8.4.
        percentage: of the sum over all layers, 0 to 100.
    """

    name: str
    time_ms_total: float
    average_ms: float
    median_ms: float | None
    percentage: float


def parse_export_profile(data: bytes) -> tuple[list[ProfiledLayer], int]:
    """Read the file of ``--exportProfile``.

    Returns:
        The layers, and how many runs they were profiled over.

    Raises:
        FileFormatError: if it is none, damaged, or too large.
    """
    raise NotImplementedError


def parse_dump_profile(text: str) -> list[ProfiledLayer]:
    """Read the table that ``--dumpProfile`` prints among other lines; its row ``Total`` is checked and left out.

    Raises:
        FileFormatError: if there is none, or several, or it is damaged.
    """
    raise NotImplementedError
