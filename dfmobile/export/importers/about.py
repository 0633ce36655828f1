"""What is kept with imported weights: how pixels become inputs, what the classes are, where the weights are from."""

from __future__ import annotations

import json
from collections.abc import Sequence

from dfmobile import __version__
from dfmobile.architecture import Architecture, zoo
from dfmobile.data.cityscapes import CLASS_NAMES
from dfmobile.data.input_preprocessing import LEGACY_KEY, METADATA_KEY, Preprocessing
from dfmobile.data.known_preprocessing import KNOWN
from dfmobile.errors import InputError
from dfmobile.export.importers.base import ImportedWeights

_PL1A = "PL1A-Seg"


def about_weights(
    architecture: Architecture, found: ImportedWeights, files: Sequence[str], given: Preprocessing | None
) -> tuple[dict[str, str], Preprocessing | None]:
    """Return metadata for imported weights, and their preprocessing (None where nothing is known of it).

    Args:
        architecture: whose weights they are.
        found: the weights; what their file says of itself is kept.
        files: names of the files that they are from.
        given: preprocessing that the user named; else the file's own, else the published one.

    Raises:
        FileFormatError: if the file's own preprocessing is damaged.
        InputError: if it is not known and the format never says it.
    """
    preprocessing = given or _own(found) or _published(architecture, found.format)
    if preprocessing is None and found.format in ("ncnn", "caffe"):
        raise InputError(
            f"files of {found.format} do not say how pixels become the network's input",
            hint=f"give --preprocessing: {', '.join(KNOWN)}, or ORDER:means:scales",
        )
    metadata = {key: value for key, value in found.metadata.items() if key not in (METADATA_KEY, LEGACY_KEY)}
    if architecture.decoder is not None and architecture.classes == len(CLASS_NAMES):
        metadata.setdefault("classes", json.dumps(CLASS_NAMES))
    metadata.update(
        encoding=architecture.text,
        form=found.form,
        imported=f"{found.format}: {', '.join(files)}",
        tool=f"dfmobile {__version__}",
    )
    if preprocessing is not None:
        metadata.update(preprocessing.metadata())
    return metadata, preprocessing


def _own(found: ImportedWeights) -> Preprocessing | None:
    named = METADATA_KEY in found.metadata or LEGACY_KEY in found.metadata
    return Preprocessing.of_weights(found.metadata) if named else None


def _published(architecture: Architecture, format: str) -> Preprocessing | None:
    """Return what the authors' files of a format were trained with."""
    if format == "ncnn" and architecture == zoo.get(_PL1A).architecture:
        return KNOWN["pl1a"]
    if format == "caffe":
        return KNOWN["caffe-imagenet" if architecture.decoder is None else "caffe-cityscapes"]
    return None
