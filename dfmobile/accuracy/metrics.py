"""How good label maps are: intersection over union, and pixel accuracy, from one confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.errors import InputError

IGNORED = 255


class ConfusionMatrix:
    """Counts of pixels by true and predicted class; grows image by image.

    Args:
        classes: number of them; labels are 0 to ``classes - 1``.

    Attributes:
        counts: int64 ``[true, predicted]``.
    """

    def __init__(self, classes: int) -> None:
        if not 1 <= classes < IGNORED:
            raise InputError(f"{classes} classes are not between 1 and {IGNORED - 1}")
        self.classes = classes
        self.counts: npt.NDArray[np.int64] = np.zeros((classes, classes), np.int64)

    def add(self, labels: npt.NDArray[Any], predictions: npt.NDArray[Any], ignore: int = IGNORED) -> None:
        """Count an image, or a batch of them.

        Args:
            labels: integers of any shape; pixels with ``ignore`` are left out.
            predictions: integers of the same shape.
            ignore: label of pixels that do not count.

        Raises:
            InputError: if the shapes differ, or a label or prediction is none of the classes.
        """
        if labels.shape != predictions.shape:
            raise InputError(f"labels are {list(labels.shape)}, predictions {list(predictions.shape)}")
        kept = labels != ignore
        true, predicted = labels[kept].astype(np.int64), predictions[kept].astype(np.int64)
        for what, values in (("label", true), ("prediction", predicted)):
            if values.size and not 0 <= values.min() <= values.max() < self.classes:
                bad = values.min() if values.min() < 0 else values.max()
                raise InputError(f"{what} {bad} is none of the {self.classes} classes")
        # One histogram of pairs: far faster than indexing pixel by pixel.
        pairs = np.bincount(true * self.classes + predicted, minlength=self.classes**2)
        self.counts += pairs.reshape(self.classes, self.classes)

    def iou(self) -> npt.NDArray[np.float64]:
        """Return TP / (TP + FP + FN) of each class, float64 ``[classes]``; nan where it is neither there nor predicted.

        Source: Everingham et al., The PASCAL Visual Object Classes Challenge, IJCV 2010.
        """
        right = np.diag(self.counts).astype(np.float64)
        union = self.counts.sum(0) + self.counts.sum(1) - right
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(union > 0, right / union, np.nan)

    @property
    def miou(self) -> float:
        """Mean of ``iou`` over the classes that are there or predicted; nan where there is none."""
        known = self.iou()
        known = known[~np.isnan(known)]
        return float(known.mean()) if known.size else float("nan")

    @property
    def pixel_accuracy(self) -> float:
        """Share of pixels with the right class; nan where no pixel was counted."""
        total = int(self.counts.sum())
        return float(np.trace(self.counts)) / total if total else float("nan")

    def describe(self, names: Sequence[str]) -> dict[str, Any]:
        """Return it as JSON: ``miou``, ``pixel_accuracy``, ``pixels``, ``iou`` by name; null where there is none."""

        def number(value: float) -> float | None:
            return None if np.isnan(value) else float(value)

        return {
            "miou": number(self.miou),
            "pixel_accuracy": number(self.pixel_accuracy),
            "pixels": int(self.counts.sum()),
            "iou": {name: number(value) for name, value in zip(names, self.iou(), strict=True)},
        }
