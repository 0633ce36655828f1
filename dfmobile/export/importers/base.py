"""What an import returns, and the checks that every format shares. Files are untrusted: sizes first, memory after."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.errors import FileFormatError, InputError
from dfmobile.graph import Graph, Weights, ops
from dfmobile.graph.reference import bilinear_kernel

FloatArray = npt.NDArray[np.float32]
LIMIT_BYTES = 2**31 - 1
"""Of one file: what protobuf allows, and more than any network here has."""
WRONG_FILE = "is it the right file, and whole?"
_KERNEL_TOLERANCE = 1e-6  # a float32 kernel of quarters is exact; a float16 one of sixteenths nearly


@dataclass(frozen=True)
class UnusedBlob:
    """A weight tensor of the file that the network does not need.

    Attributes:
        name: of its layer in the file.
        elements: how many numbers it has.
        reason: why it is not needed.
    """

    name: str
    elements: int
    reason: str


@dataclass(frozen=True)
class ImportedWeights:
    """Weights that fit a network exactly.

    Attributes:
        weights: by ``<node>.<role>``, complete for ``form``.
        form: ``"training"`` (with batch norms) or ``"deployed"`` (batch norms folded before the file was written).
        format: of the file: ``"ncnn"``, ``"caffe"``, ``"safetensors"`` or ``"npz"``.
        fixed: layers with fixed bilinear kernels, that were found to have exactly those.
        unused: what else the file holds.
        metadata: what the file says about itself.
    """

    weights: Weights
    form: str
    format: str
    fixed: tuple[str, ...] = ()
    unused: tuple[UnusedBlob, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)


def damaged(path: str, reason: str) -> FileFormatError:
    """Return the error for a file that is not what it should be."""
    return FileFormatError(f"{path} is not a readable weights file: {reason}", hint=WRONG_FILE)


def is_bilinear(kernel: FloatArray, scale: int) -> bool:
    """Return whether every channel of a depthwise kernel ``[C, 1, 2·scale, 2·scale]`` is the fixed bilinear one."""
    expected = bilinear_kernel(scale)
    return kernel.shape[1:] == (1, *expected.shape) and bool(np.all(np.abs(kernel - expected) <= _KERNEL_TOLERANCE))


def check_complete(graph: Graph, weights: Weights, what: str) -> None:
    """Check that imported weights are exactly what a graph needs, and are numbers.

    Args:
        graph: the form that they are for.
        weights: by ``<node>.<role>``.
        what: the file, for the message.

    Raises:
        InputError: naming all that is missing or misshapen.
        FileFormatError: if a weight is not finite.
    """
    expected = graph.parameters()
    missing = [name for name in expected if name not in weights]
    if missing:
        raise InputError(
            f"{what} lacks {len(missing)} of {len(expected)} weights: {some(missing)}",
            hint="is it the file of this network? partial weights are not imported",
        )
    wrong = [
        f"{name} {list(weights[name].shape)} instead of {list(parameter.shape)}"
        for name, parameter in expected.items()
        if tuple(weights[name].shape) != parameter.shape
    ]
    if wrong:
        raise InputError(f"{what} has weights of other shapes: {some(wrong)}", hint="is it the file of this network?")
    for name, values in weights.items():
        if not np.isfinite(values).all():
            raise damaged(what, f"{name} has values that are not finite")


def some(names: list[str], limit: int = 3) -> str:
    """Return the first few names, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def fixed_layers(graph: Graph) -> tuple[str, ...]:
    """Return the names of a graph's fixed bilinear layers."""
    return tuple(node.name for node in graph.nodes if isinstance(node.op, ops.BilinearUpsample))


def one_line(text: Any, limit: int = 80) -> str:
    """Return a text of an untrusted file for a message: one line, short, printable."""
    return "".join(letter if letter.isprintable() else "?" for letter in str(text)[:limit])
