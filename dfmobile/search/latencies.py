"""Predicted latencies of a whole space: as tables by stage where they are additive, else one by one.

The choice of a pruner follows from them: ``open_pruner``.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dfmobile.architecture.spaces import SearchSpace
from dfmobile.architecture.spaces.base import MAX_ROWS
from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.architecture.spaces.stage_tables import Array, StageTables
from dfmobile.errors import FileFormatError, InputError
from dfmobile.files import atomic_path
from dfmobile.search.factored import FactoredPruner
from dfmobile.search.pruning import EnumeratedPruner
from dfmobile.search.settings import fingerprint

ROWS_NAME = "predicted_ms.npy"
TABLES_NAME = "predicted_ms.npz"
MAX_ENUMERATED = 1_000_000
"""Up to here a row and a latency are stored for each architecture, also where stage tables would do."""

MAX_FILE_BYTES = 2**30
_UNREADABLE = (
    OSError, ValueError, EOFError, AttributeError, KeyError, TypeError, MemoryError, SyntaxError,
    NotImplementedError, RuntimeError, struct.error, zlib.error, zipfile.BadZipFile,
)  # fmt: skip
_HINT = "search into a new folder"


@dataclass(frozen=True)
class Latencies:
    """Latency of every architecture of a space by the table, ms. Exactly one of the two is given.

    Attributes:
        rows_ms: one by one, in the order of ``space.rows()``, float64 ``[N]``.
        stages: tables whose entries add up to them.
    """

    rows_ms: Array | None = None
    stages: StageTables | None = None

    def __post_init__(self) -> None:
        if (self.rows_ms is None) == (self.stages is None):
            raise ValueError("latencies are given one by one or as stage tables")

    @property
    def count(self) -> int:
        """How many architectures they are of."""
        if self.stages is not None:
            return self.stages.count
        return 0 if self.rows_ms is None else len(self.rows_ms)

    def by_row(self, space: SearchSpace) -> Array:
        """Return them one by one, in the order of ``space.rows()``, float64 ``[N]``.

        Raises:
            InputError: if the space is too large to list.
        """
        if self.rows_ms is not None:
            return self.rows_ms
        if self.stages is None:
            raise ValueError("no latencies")
        return self.stages.values(space.rows())

    def sha256(self) -> str:
        """Return a digest: the same table, rule, space and input give the same."""
        if self.stages is not None:
            return self.stages.fingerprint()
        if self.rows_ms is None:
            raise ValueError("no latencies")
        return fingerprint(self.rows_ms)

    def save(self, folder: Path) -> None:
        """Write them into a run folder, whole or not at all.

        Raises:
            StorageError: if the folder cannot be written.
        """
        name = ROWS_NAME if self.stages is None else TABLES_NAME
        with atomic_path(folder / name) as temporary, temporary.open("wb") as stream:
            if self.stages is not None:
                np.savez(stream, **self.stages.arrays())  # type: ignore[arg-type]
            elif self.rows_ms is not None:
                np.save(stream, self.rows_ms, allow_pickle=False)

    @classmethod
    def load(cls, folder: Path, sha256: str) -> Latencies:
        """Read what ``save`` wrote.

        Args:
            folder: run folder.
            sha256: of what was saved.

        Raises:
            FileFormatError: if it is damaged or another.
        """
        path = folder / TABLES_NAME
        tables = path.exists()
        if not tables:
            path = folder / ROWS_NAME
        try:
            with path.open("rb") as stream:
                if os.fstat(stream.fileno()).st_size > MAX_FILE_BYTES:
                    raise FileFormatError(f"{path} is larger than {MAX_FILE_BYTES} bytes", hint=_HINT)
                opened = np.load(stream, allow_pickle=False)
                if tables:
                    if sum(member.file_size for member in opened.zip.infolist()) > MAX_FILE_BYTES:
                        raise FileFormatError(f"{path} unpacks to more than {MAX_FILE_BYTES} bytes", hint=_HINT)
                    found = cls(stages=StageTables.of_arrays({name: opened[name] for name in opened.files}, str(path)))
                else:
                    found = cls(rows_ms=np.asarray(opened, np.float64))
        except _UNREADABLE as error:
            raise FileFormatError(f"{path} cannot be read: {error}", hint=_HINT) from error
        if found.sha256() != sha256:
            raise FileFormatError(f"{path} is not the file that the campaign wrote", hint=_HINT)
        return found


def open_pruner(
    space: SearchSpace,
    latencies: Latencies,
    latency_range: tuple[float | None, float | None] = (None, None),
    *,
    margin: float = 0.0,
) -> EnumeratedPruner | FactoredPruner:
    """Return the pruner for a space: what is alive is stored in the way that its size and its latencies allow.

    Additive latencies of a chain space: up to ``MAX_ENUMERATED`` architectures a row and a latency each; up to 10^8 a
    bit each; up to 5·10^9 only the constraints. Other latencies: a row and a latency each, up to ``MAX_ROWS``.

    Args:
        space: the search space.
        latencies: of all its architectures.
        latency_range: lowest and highest predicted latency of a candidate, ends included; None: open.
        margin: see ``FactoredPruner``; anything but 0 needs stage tables.

    Raises:
        InputError: if no architecture is within the range, or the space is too large.
    """
    factored = latencies.stages is not None and isinstance(space, ChainSpace)
    if factored and (latencies.count > MAX_ENUMERATED or margin):
        assert isinstance(space, ChainSpace) and latencies.stages is not None  # noqa: S101, PT018  (what factored says)
        return FactoredPruner(space, latencies.stages, latency_range, margin=margin)
    if margin:
        raise InputError(f"a margin needs additive latencies; those of {space.name} are not", hint="--rule sum")
    return EnumeratedPruner(space, space.rows(), latencies.by_row(space), latency_range)


def refuse_unlisted(space: SearchSpace, rule: str) -> None:
    """Refuse a space that is too large for latencies one by one.

    Args:
        space: the search space.
        rule: the prediction rule that is not additive.

    Raises:
        InputError: if the space has more than ``MAX_ROWS``.
    """
    if space.count() > MAX_ROWS:
        raise InputError(
            f"space {space.name!r} at depth {space.max_depth} has {space.count()} architectures; rule {rule!r} is not "
            f"a sum over blocks, so that each has to be predicted by itself, and at most {MAX_ROWS} can be",
            hint="choose a smaller --max-depth, or --rule sum, whose latencies are searched by stage",
        )
