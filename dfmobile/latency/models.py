"""Model files of blocks, made once a build: random weights, cheaply, and the same ones every time.

What weights hold does not change how fast a dense kernel runs, as long as they are ordinary numbers (denormal
ones are slow on some CPUs), so tensors are cut from one pool of random values.
"""

from __future__ import annotations

import hashlib
import math
import re
import shutil
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Protocol

import numpy as np

from dfmobile.errors import StorageError
from dfmobile.export.exporter import model_bytes
from dfmobile.files import storage_error
from dfmobile.graph import Graph, Weights
from dfmobile.latency.inprocess import random_inputs, random_pool

MAX_KEPT_BYTES = 4 * 2**30


def cheap_weights(graph: Graph) -> Weights:
    """Return weights for a deployed graph, He-scaled, tiled from a pool of normal values: about 10 ms for 10 M."""
    pool = random_pool(seed=0)
    weights: Weights = {}
    for number, (name, parameter) in enumerate(graph.parameters().items()):
        fan_in = max(1, parameter.size // parameter.shape[0])
        scale = math.sqrt(2.0 / fan_in) if name.endswith(".weight") else 0.2
        start = 9973 * number % (pool.size // 2)
        values = pool[start : start + parameter.size] * np.float32(scale)
        weights[name] = np.resize(values, parameter.shape)
    return weights


def timing_model(graph: Graph, model_format: str, precision: str = "fp32", opset: int | None = None) -> bytes:
    """Return a deployed graph with cheap weights as the content of a model file: for timing, not for its results.

    Args:
        graph: deployed form.
        model_format: of the file.
        precision: of the file (``Backend.file_precision``); int8 is calibrated on the random inputs of a timing.
        opset: of an .onnx file; None: the default.

    Raises:
        InputError: if dfmobile cannot write that format, or not in that precision.
        MissingExtraError: if what the format needs is not installed.
    """
    calibration = [random_inputs([shape for _, shape in graph.inputs])] if precision == "int8" else ()
    return model_bytes(
        graph, cheap_weights(graph), model_format, opset=opset, precision=precision, calibration=calibration
    )


class Deployable(Protocol):
    """What a model file is made of: a placed block, or anything else with a deployed graph."""

    @property
    def key(self) -> str:
        """Which model it is."""

    @property
    def digest(self) -> str:
        """Short name of the key, 12 hexadecimal digits."""

    @property
    def graph(self) -> Graph:
        """Deployed graph."""


@dataclass(frozen=True)
class BlockModel:
    """A block's model file.

    Attributes:
        path: where it lies.
        sha256: of its content.
        size_bytes: of the file.
    """

    path: Path
    sha256: str
    size_bytes: int


class ModelFolder:
    """A private folder for the model files of one build; emptied at the start and removed at the end.

    Files beyond ``max_bytes`` (or half of the free space) are made again for every pass, instead of kept.

    Args:
        folder: made, emptied, removed; nothing else may live there.
        model_format: the backend's.
        precision: of the files, the backend's ``file_precision``.
        max_bytes: how much to keep.
        opset: of .onnx files; None: the default.
    """

    def __init__(
        self,
        folder: Path,
        model_format: str,
        precision: str = "fp32",
        max_bytes: int = MAX_KEPT_BYTES,
        opset: int | None = None,
    ) -> None:
        self._folder = folder
        self._opset = opset
        self._format = model_format
        self._precision = precision
        self._max_bytes = max_bytes
        self._models: dict[str, BlockModel] = {}

    def __enter__(self) -> ModelFolder:
        """Make the folder.

        Raises:
            StorageError: if it cannot be made.
        """
        self._remove()  # left behind by a build that was killed
        try:
            self._folder.mkdir(parents=True)
            self._max_bytes = min(self._max_bytes, shutil.disk_usage(self._folder).free // 2)
        except OSError as error:
            raise storage_error(error, self._folder, "write") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the folder with all model files.

        Raises:
            StorageError: if that fails, unless another error is already on its way.
        """
        try:
            self._remove()
        except StorageError:
            if value is None:
                raise

    def model(self, block: Deployable) -> BlockModel:
        """Return a block's model file, made if it is not there.

        Raises:
            StorageError: if it cannot be written.
            ExportError: if the block cannot be written in the backend's format.
        """
        known = self._models.get(block.key)
        if known is not None and known.path.exists():
            return known
        content = timing_model(block.graph, self._format, self._precision, self._opset)
        path = self._folder / f"{block.digest}.{self._format}"
        try:
            path.write_bytes(content)  # no fsync: nobody needs it after a power cut
        except OSError as error:
            raise storage_error(error, path, "write") from error
        sha256 = hashlib.sha256(content).hexdigest() if known is None else known.sha256
        self._models[block.key] = BlockModel(path, sha256, len(content))
        return self._models[block.key]

    def release(self, block: Deployable, *, last: bool) -> None:
        """Take note that a pass is done; drop the file where it was the last, or where too much is kept."""
        model = self._models.get(block.key)
        if model is None:
            return
        kept = sum(item.size_bytes for item in self._models.values() if item.path.exists())
        if last or kept > self._max_bytes:
            try:
                model.path.unlink(missing_ok=True)
            except OSError as error:
                raise storage_error(error, model.path, "remove") from error

    def _remove(self) -> None:
        """Remove what such a folder holds, and nothing else that may have been put there."""
        try:
            for path in list(self._folder.iterdir()):
                if re.fullmatch(r"[0-9a-f]{12}\.\w+", path.name):
                    path.unlink()
            self._folder.rmdir()
        except FileNotFoundError:
            return
        except OSError as error:
            raise storage_error(error, self._folder, "remove") from error
