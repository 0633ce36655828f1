"""What a model computes under ``benchmark_model``: inputs sent along, outputs brought back, compared with a CPU's.

The tool writes the outputs of its last run with ``--output_filepath`` (TensorFlow pull request 55493, merged in July
2022, so from 2.11 on; older ones say that they do not know the flag). It writes after the timing, so outputs can come
from the very process that is measured. They come back in its log, as base64: a batch brings nothing else.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from dfmobile.errors import BackendError
from dfmobile.latency.backends.base import ModelOutputs
from dfmobile.latency.inprocess import random_inputs
from dfmobile.latency.output_check import compare_outputs
from dfmobile.runtimes.interpreter import nchw

FLAG = "output_filepath"
# As base64 they share the log's bound with all else that the tool writes.
MAX_OUTPUT_BYTES = 4 * 2**20
MAX_INPUT_BYTES = 256 * 2**20
_FILE = "outputs.bin"
_BEGIN, _END = b"dfmobile-outputs-begin", b"dfmobile-outputs-end"
_NO_BASE64 = b"dfmobile-outputs-no-base64"
# $1: where the tool writes its outputs; then the tool and its arguments. Its exit code stays.
_SCRIPT = (
    'file=$1; shift; "$@"; code=$?; '
    'if [ -f "$file" ]; then if base64 </dev/null >/dev/null 2>&1; then '
    f'printf "\\n%s\\n" {_BEGIN.decode()}; base64 < "$file"; printf "\\n%s\\n" {_END.decode()}; '
    f'else printf "\\n%s\\n" {_NO_BASE64.decode()}; fi; fi; exit $code'
)

Inputs = Sequence[npt.NDArray[np.float32]]


@dataclass(frozen=True)
class OutputRequest:
    """What to add to a process, so that its outputs come back.

    Attributes:
        flags: of the tool.
        files: (file here, name in the item's folder).
    """

    flags: tuple[str, ...]
    files: tuple[tuple[Path, str], ...]

    def wrapped(self, argv: Sequence[str]) -> tuple[str, ...]:
        """Return the command that runs ``argv`` and then prints its outputs."""
        return ("sh", "-c", _SCRIPT, "sh", f"{{item}}/{_FILE}", *argv)


def output_request(model_path: Path, inputs: Inputs | None, folder: Path) -> OutputRequest | str:
    """Prepare to get a model's outputs back, or say why they cannot be had.

    Args:
        model_path: a .tflite file.
        inputs: ``[N, C, H, W]`` or ``[N, C]``; None: the ones that every backend gives.
        folder: where to write the inputs as files.
    """
    from dfmobile.runtimes.litert import LiteRTRunner

    try:
        with LiteRTRunner(model_path) as runner:
            if runner.output_bytes() > MAX_OUTPUT_BYTES:
                return f"{runner.output_bytes() / 2**20:.1f} MiB are too many to bring back, of each model"
            given = random_inputs([nchw(shape) for shape in runner.input_shapes]) if inputs is None else inputs
            stored = runner.stored_inputs(given)
    except BackendError as error:
        return str(error)  # an operator that only the device's tool has, or inputs that are no float32
    if sum(array.nbytes for array in stored) > MAX_INPUT_BYTES:
        return "its inputs are too large to send"
    files, names, shapes = [], [], []
    for number, array in enumerate(stored):
        name = f"input{number}"
        path = folder / f"{name}.bin"
        path.write_bytes(array.tobytes())
        files.append((path, path.name))
        names.append(name)
        shapes.append(",".join(map(str, array.shape)))
    return OutputRequest(
        (
            f"--input_layer={','.join(names)}",
            f"--input_layer_shape={':'.join(shapes)}",
            f"--input_layer_value_files={','.join(f'{name}:{{item}}/{name}.bin' for name in names)}",
            f"--{FLAG}={{item}}/{_FILE}",
        ),
        tuple(files),
    )


def split_log(log: bytes) -> tuple[bytes, bytes | str | None]:
    """Return a process's own log, and its outputs as the tool wrote them.

    Where they cannot be brought back, why; where the tool wrote none, None.

    Raises:
        BackendError: if they came back damaged.
    """
    text, marker, rest = log.rpartition(_BEGIN + b"\n")
    if not marker:
        text, marker, _ = log.rpartition(_NO_BASE64 + b"\n")
        return (text, "the device has no base64, by which they come back") if marker else (log, None)
    encoded, end, _ = rest.partition(_END)
    try:
        outputs = base64.b64decode(b"".join(encoded.split()), validate=True)
    except binascii.Error as error:
        raise BackendError(f"the outputs came back damaged: {error}") from error
    if not end:
        raise BackendError("the outputs came back cut short", hint="they may be too large for the log")
    return text, outputs


def read_outputs(model_path: Path, content: bytes) -> ModelOutputs:
    """Return what a model's outputs are as values.

    Raises:
        BackendError: if they are not the model's, by their size.
    """
    from dfmobile.runtimes.litert import LiteRTRunner

    with LiteRTRunner(model_path) as runner:
        return ModelOutputs(runner.read_outputs(content), runner.output_steps())


def agreement(model_path: Path, outputs: ModelOutputs, precision: str) -> str:
    """Compare a model's outputs for the usual inputs with those of this machine's CPU.

    Returns:
        How they agree, for people.

    Raises:
        BackendError: naming the model, if they differ by more than the precision explains.
    """
    from dfmobile.runtimes.litert import LiteRTRunner, runtime_version

    with LiteRTRunner(model_path) as runner:
        expected = runner.run(random_inputs([nchw(shape) for shape in runner.input_shapes]))
    against = f"LiteRT {runtime_version()} on this machine's CPU"
    texts = []
    for ours, theirs, step in zip(outputs.values, expected, outputs.steps, strict=True):
        if not ours.size:
            continue
        difference = compare_outputs(ours, theirs, step, precision)
        if difference.wrong:
            raise BackendError(
                f"{model_path}: its outputs differ from those of {against}: {difference.text}",
                hint="fast and wrong: do not deploy it so; try another precision, processor or version of the tool",
            )
        texts.append(difference.text)
    if not texts:
        return "outputs not checked: all of them are empty, there is nothing to compare"
    return f"outputs agree with {against}: {'; '.join(texts)}"
