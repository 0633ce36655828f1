"""What every model file says of itself: encoding, preprocessing, names of classes, where its numbers are from."""

from __future__ import annotations

from collections.abc import Mapping

from dfmobile import __version__
from dfmobile.architecture import Network
from dfmobile.data.class_names import METADATA_KEY as CLASSES_KEY
from dfmobile.data.class_names import class_names
from dfmobile.data.input_preprocessing import LEGACY_KEY, METADATA_KEY, Preprocessing


def model_texts(
    network: Network, about: Mapping[str, str], *, given: bool, precision: str, calibrated: str | None = None
) -> dict[str, str]:
    """Return the metadata of a model file.

    Args:
        network: what the file computes.
        about: the weights file's metadata.
        given: whether the weights are of a file, not random.
        precision: of the model file.
        calibrated: int8: what the ranges are from.

    Raises:
        FileFormatError: if what the weights file says is damaged, or it names another number of classes.
    """
    texts = {
        "encoding": network.architecture.text,
        "input": f"{network.width}x{network.height}",
        "weights": "given" if given else "random",
        "precision": precision,
        "tool": f"dfmobile {__version__}",
    }
    # Damaged texts are refused here, not by the application that reads the model file.
    segmentation = network.architecture.decoder is not None
    class_names(about, network.output_shape[1], segmentation=segmentation)
    if CLASSES_KEY in about:
        texts[CLASSES_KEY] = about[CLASSES_KEY]
    if METADATA_KEY in about or LEGACY_KEY in about:
        texts.update(Preprocessing.of_weights(about).metadata())
    if calibrated is not None:
        texts["calibration"] = calibrated
    return texts
