"""Checkpoints: arrays and JSON in one .npz, whole or absent, without pickle."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.errors import FileFormatError
from dfmobile.files import atomic_write, read_bytes

Arrays = dict[str, npt.NDArray[Any]]
_STATE = "state.json"
_LIMIT_BYTES = 8 * 2**30


@dataclass(frozen=True)
class Checkpoint:
    """Where a training stands after an epoch.

    Attributes:
        state: JSON-able.
        arrays: by name, of any dtype that is no object.
    """

    state: dict[str, Any]
    arrays: Arrays

    def save(self, path: Path) -> None:
        """Write it; an older one is replaced only by a whole new one.

        Raises:
            StorageError: if it cannot be written.
        """
        text = np.frombuffer(json.dumps(self.state, allow_nan=False).encode(), np.uint8)
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **{_STATE: text}, **self.arrays)
        atomic_write(path, buffer.getvalue())

    @classmethod
    def load(cls, path: Path) -> Checkpoint:
        """Read it.

        Raises:
            StorageError: if it cannot be read.
            FileFormatError: if it is damaged or something else.
        """
        data = read_bytes(path, _LIMIT_BYTES)
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as archive:
                arrays: Arrays = {name: archive[name] for name in archive.files}
            state = json.loads(arrays.pop(_STATE).tobytes())
        except (ValueError, KeyError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise FileFormatError(
                f"{path} is not a readable checkpoint: {error}", hint="remove it to begin that training again"
            ) from error
        if not isinstance(state, dict):
            raise FileFormatError(f"{path} is not a readable checkpoint", hint="remove it to begin that training again")
        return cls(state, arrays)
