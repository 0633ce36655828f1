"""A trained network that another one learns from. Imports torch when it is used."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from dfmobile.architecture import build, resolve
from dfmobile.data.dataset import UInt8Array
from dfmobile.data.input_preprocessing import Preprocessing
from dfmobile.data.tree_images import MASK_END
from dfmobile.errors import InputError, import_extra
from dfmobile.export.network_weights import network_weights
from dfmobile.export.torch_module import torch_module
from dfmobile.export.weights import load_weights_file
from dfmobile.files import sha256_hex


class Teacher:
    """A teacher network at one input size.

    Args:
        path: its weights file.
        architecture: zoo name, encoding or .json file; None: as the weights file says.
        size: width and height of the images that it is shown.
        classes: that it must have.

    Raises:
        InputError: if it has other classes, cannot take images of that size, or the file is of another network.
        StorageError, FileFormatError: if the file cannot be read or is damaged.
    """

    def __init__(self, path: Path, architecture: str | None, size: tuple[int, int], classes: int) -> None:
        if architecture is None:
            _, metadata = load_weights_file(path)
            architecture = metadata.get("encoding")
            if architecture is None:
                raise InputError(
                    f"{path} does not say which architecture it is of", hint="give teacher_architecture, e.g. PL1A-Seg"
                )
        self.architecture = resolve(architecture)
        if self.architecture.decoder is None or self.architecture.classes != classes:
            raise InputError(
                f"the teacher {self.architecture} gives no scores of {classes} classes for each pixel",
                hint=f"take a segmentation network with {classes} classes",
            )
        graph, weights, metadata = network_weights(build(self.architecture, *size), path)
        self.preprocessing = Preprocessing.of_weights(metadata)
        self._module: Any = torch_module(graph, weights)
        self._module.eval()

    def scores(self, images: UInt8Array, device: Any) -> Any:
        """Return its scores of images, uint8 ``[N, 3, H, W]`` RGB, as a tensor ``[N, classes, ., .]``."""
        torch = import_extra("torch", "train", "training")
        inputs = torch.from_numpy(np.ascontiguousarray(self.preprocessing.apply(images)))
        with torch.no_grad():
            return self._module.to(device)(inputs.to(device))


def describe_teacher(path: Path) -> dict[str, Any]:
    """Return what a record says of a teacher: a digest of its weights, or of the label maps that a folder has.

    Raises:
        StorageError: if a file cannot be read.
    """
    if not path.is_dir():
        return {"weights_sha256": sha256_hex(path)}
    digest = hashlib.sha256()
    for mask in sorted(path.glob(f"*{MASK_END}")):
        digest.update(f"{mask.name} {sha256_hex(mask)}\n".encode())
    return {"masks_sha256": digest.hexdigest()}
