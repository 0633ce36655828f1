"""How a campaign compares latencies: by the predictions, or by the intervals of their differences.

Intervals need the table, also when the campaign is looked at later: the run folder then keeps a copy of it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.spaces import SearchSpace
from dfmobile.errors import DfmobileError, FileFormatError, StorageError
from dfmobile.files import atomic_path, sha256_hex
from dfmobile.latency.predictor import Predictor
from dfmobile.latency.table import LatencyTable
from dfmobile.search.base import Mode
from dfmobile.search.certified_mode import CertifiedMode
from dfmobile.search.modes import open_mode
from dfmobile.search.settings import CampaignSettings

TABLE_NAME = "table.sqlite"


class TableDifferences:
    """Intervals of differences by a latency table.

    Args:
        predictor: of that table.
        space: the search space.
        size: width and height of the input image, pixels.
    """

    def __init__(self, predictor: Predictor, space: SearchSpace, size: tuple[int, int]) -> None:
        self._predictor, self._space, self._size = predictor, space, size

    def half_widths_ms(self, left: npt.NDArray[np.int32], right: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
        """Return half of the 95 % interval of latency(left) - latency(right), ``[R]``; NaN where nothing is known."""
        return self._predictor.difference_rows(self._space, left, right, *self._size)[1]


def mode_of(
    settings: CampaignSettings, predictor: object, space: SearchSpace, size: tuple[int, int], *, table: bool
) -> Mode:
    """Make the mode of new settings; ``certified`` compares by intervals where the table has them for this space.

    Args:
        settings: mode and its options.
        predictor: predicts latencies; intervals come from a ``Predictor`` only.
        space: the search space.
        size: of the input image.
        table: whether the table's file can be copied into the run folder.

    Raises:
        InputError: if there is no such mode or option.
    """
    mode = open_mode(settings.mode, settings.mode_options)
    if not isinstance(mode, CertifiedMode) or not (table and isinstance(predictor, Predictor)):
        return mode
    differences = TableDifferences(predictor, space, size)
    if mode.comparison != "interval" and not _known(differences, space):
        return mode
    certified = CertifiedMode(**{**mode.options(), "comparison": "interval"})
    certified.differences = differences
    return certified


def _known(differences: TableDifferences, space: SearchSpace) -> bool:
    """Tell whether the table gives intervals of differences for a space, by a few of its architectures."""
    rows = space.sample_rows(32, np.random.default_rng(0))
    try:
        return bool(np.isfinite(differences.half_widths_ms(rows[:16], rows[16:])).all())
    except DfmobileError:  # the rule has no intervals, or blocks were skipped as too slow
        return False


def reopened_mode(identity: Mapping[str, Any], folder: Path, space: SearchSpace, rule: str | None) -> Mode:
    """Make the mode of a campaign that is there, with the copy of its table where it needs one.

    Args:
        identity: of the campaign.
        folder: its run folder.
        space: the search space.
        rule: by which it predicted.

    Raises:
        FileFormatError: if the copy is damaged.
        StorageError: if it cannot be read.
    """
    mode = open_mode(identity["mode"]["name"], identity["mode"]["options"])
    if isinstance(mode, CertifiedMode) and mode.comparison == "interval":
        with LatencyTable.open(folder / TABLE_NAME) as table:
            width, height = identity["input"]
            mode.differences = TableDifferences(Predictor(table, rule), space, (width, height))
    return mode


def copy_table(table: Path, folder: Path) -> str:
    """Copy a table into a run folder, whole or not at all; return the SHA-256 of the copy.

    Raises:
        FileFormatError: if the table cannot be copied.
        StorageError: if the folder cannot be written.
    """
    target = folder / TABLE_NAME
    with atomic_path(target) as temporary:
        try:
            with (
                contextlib.closing(sqlite3.connect(table)) as source,
                contextlib.closing(sqlite3.connect(temporary)) as copy,
            ):
                source.backup(copy)
        except sqlite3.OperationalError as error:
            raise StorageError(f"cannot copy {table} to {target}: {error}", hint="is there enough space?") from error
        except sqlite3.DatabaseError as error:
            raise FileFormatError(f"{table} is damaged: {error}", hint="restore it from a copy") from error
    return sha256_hex(target)
