"""ncnn on the CPU (extra ``ncnn``), float32 arithmetic. A model is two files: text param and bin."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.errors import BackendError, import_extra
from dfmobile.files import read_bytes, storage_error
from dfmobile.runtimes.base import MODEL_LIMIT_BYTES, Array, ModelRunner, check_inputs, model_name

_MAGIC = "7767517"
# Arithmetic in 16 bits is what ncnn does where it can; results here are those of float32.
_OFF = (
    "use_fp16_packed",
    "use_fp16_storage",
    "use_fp16_arithmetic",
    "use_bf16_packed",
    "use_bf16_storage",
    "use_vulkan_compute",
)


@dataclass(frozen=True)
class NcnnModel:
    """An ncnn model in memory.

    Attributes:
        param: text param file.
        binary: bin file.
    """

    param: str
    binary: bytes


def bin_path(param: Path) -> Path:
    """Return where the weights of a param file are: beside it, with the ending ``.bin``."""
    return param.with_suffix(".bin")


def runtime_version() -> str:
    """Return the version of ncnn, e.g. ``"1.0.20240410"``.

    Raises:
        MissingExtraError: if it is not installed.
    """
    return str(import_extra("ncnn", "ncnn", "ncnn").__version__)


class NcnnRunner(ModelRunner):
    """An ncnn model with text param, as ``dfmobile export --format ncnn`` writes it. Batch 1.

    Args:
        model: the param file (its bin file lies beside it), or both in memory.
        threads: how many threads one layer may use.

    Raises:
        BackendError: if a file is damaged, or ncnn does not know one of its layers.
        FileFormatError: if a file is too large.
        MissingExtraError: if ncnn is not installed.
        StorageError: if a file cannot be read.
    """

    def __init__(self, model: NcnnModel | Path, threads: int = 1) -> None:
        ncnn = import_extra("ncnn", "ncnn", "running ncnn files")
        self._name = model_name(model) if isinstance(model, Path) else "the model"
        if isinstance(model, Path):
            param = read_bytes(model, MODEL_LIMIT_BYTES).decode("ascii", "replace")
            model = NcnnModel(param, read_bytes(bin_path(model), MODEL_LIMIT_BYTES))
        inputs = _inputs(model.param, self._name)
        self._check_layers(ncnn, model.param)
        net = ncnn.Net()
        net.opt.num_threads = threads
        for name in _OFF:
            if hasattr(net.opt, name):  # older versions have fewer
                setattr(net.opt, name, False)
        self._load(net, model)
        self._ncnn, self._net = ncnn, net
        self._input_names = [name for name, _ in inputs]
        self.input_shapes = [shape for _, shape in inputs]
        self._output_names = list(net.output_names())
        self._held: list[Any] = []
        self._results: list[Any] = []

    def _check_layers(self, ncnn: Any, param: str) -> None:
        # Some versions end the process where they do not know a layer.
        for line in param.splitlines()[2:]:
            kind = line.split()[0] if line.strip() else "Noop"
            if ncnn.layer_to_index(kind) < 0:
                raise BackendError(f"{self._name} has a layer {kind[:40]!r}, which ncnn {ncnn.__version__} lacks")

    def _load(self, net: Any, model: NcnnModel) -> None:
        # Its Python module takes weights from files only.
        try:
            with tempfile.TemporaryDirectory(prefix="dfmobile-ncnn-") as folder:
                param, binary = Path(folder) / "m.param", Path(folder) / "m.bin"
                param.write_text(model.param)
                binary.write_bytes(model.binary)
                failed = net.load_param(str(param)) != 0 or net.load_model(str(binary)) != 0
        except OSError as error:
            raise storage_error(error, error.filename or tempfile.gettempdir(), "write") from error
        if failed:
            raise BackendError(f"ncnn cannot load {self._name}", hint="are param and bin whole, and of one export?")

    def set_inputs(self, inputs: Sequence[npt.NDArray[np.float32]]) -> None:
        """See base class."""
        self._open()
        check_inputs(inputs, self.input_shapes)
        # Copies of its own: a matrix over foreign memory must not be what a layer works on in place.
        self._held = [self._ncnn.Mat(np.ascontiguousarray(array[0])).clone() for array in inputs]

    def invoke(self) -> None:
        """See base class."""
        extractor = self._open().create_extractor()
        for name, matrix in zip(self._input_names, self._held, strict=True):
            if extractor.input(name, matrix) != 0:
                raise BackendError(f"ncnn does not take input {name!r} of {self._name}")
        self._results = []
        for name in self._output_names:
            status, matrix = extractor.extract(name)
            if status != 0:
                raise BackendError(f"ncnn cannot run {self._name}: layer of output {name!r} returns {status}")
            self._results.append(matrix)

    def outputs(self) -> list[Array]:
        """See base class."""
        self._open()
        return [np.array(matrix, np.float32)[None] for matrix in self._results]

    def close(self) -> None:
        """See base class."""
        self._results, self._held, self._net = [], [], None

    def _open(self) -> Any:
        if self._net is None:
            raise BackendError("this model was closed")
        return self._net


def _inputs(param: str, name: str) -> list[tuple[str, tuple[int, ...]]]:
    """Return name and shape, ``[1, C, H, W]`` or ``[1, C]``, of each input that a text param file names."""
    lines = param.splitlines()
    if lines[:1] != [_MAGIC]:
        raise BackendError(f"{name} is no text param file of ncnn", hint="export it again")
    found = []
    for line in lines:
        fields = line.split()
        if fields[:1] != ["Input"]:
            continue
        try:
            values = dict(field.split("=") for field in fields[5:])
            width, height, channels = (int(values.get(number, "0")) for number in "012")
            shape: tuple[int, ...] = (1, channels, height, width) if channels else (1, width)
            found.append((fields[4], shape))
        except (ValueError, IndexError) as error:
            raise BackendError(f"an input of {name} is not readable: {line[:80]!r}") from error
    if not found or any(min(shape) < 1 for _, shape in found):
        raise BackendError(f"{name} does not name the size of its inputs", hint="export it with fixed input sizes")
    return found
