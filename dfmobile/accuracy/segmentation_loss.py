"""The loss of a segmentation training: cross entropy with class weights, hard examples, a teacher. Imports torch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from dfmobile.accuracy.segmentation_options import SegmentationOptions
from dfmobile.data.cityscapes import IGNORED
from dfmobile.data.segmentation import SegmentationData

_LARGEST_MEDIAN_WEIGHT = 50.0


def class_weights(data: SegmentationData, kind: str) -> torch.Tensor | None:
    """Return the weight of each class, float32 ``[classes]``, None where all count the same.

    ``enet``: ``1 / ln(1.02 + share)`` (Paszke et al., ENet, 2016). ``median``: median frequency balancing, where a
    class's frequency is its share of the pixels of images that have it (Eigen and Fergus, ICCV 2015), at most 50.
    Classes that are not there have weight 1 before the weights are scaled to a mean of 1.
    """
    if kind == "none":
        return None
    there = data.pixels > 0
    weights = np.ones(len(data.pixels))
    if kind == "enet":
        shares = data.pixels[there] / data.pixels.sum()
        weights[there] = [1.0 / math.log(1.02 + share) for share in shares]
    else:
        frequencies = data.pixels[there] / data.pixels_where_present[there]
        weights[there] = np.minimum(np.median(frequencies) / frequencies, _LARGEST_MEDIAN_WEIGHT)
    return torch.from_numpy((weights / weights[there].mean()).astype(np.float32))


def labels_at(labels: torch.Tensor, stride: int) -> torch.Tensor:
    """Take the label in the middle of each cell: ``[N, H, W]`` to ``[N, H / stride, W / stride]``."""
    return labels[..., stride // 2 :: stride, stride // 2 :: stride]


class SegmentationLoss:
    """Mean loss of labelled pixels.

    Args:
        data: for the shares of the classes.
        options: of the training.
        device: where the loss is computed.
    """

    def __init__(self, data: SegmentationData, options: SegmentationOptions, device: torch.device) -> None:
        self._options = options
        weights = class_weights(data, options.class_weights)
        self._weights = None if weights is None else weights.to(device)

    def __call__(self, scores: torch.Tensor, labels: torch.Tensor, teacher: torch.Tensor | None = None) -> torch.Tensor:
        """Compute it.

        Args:
            scores: float ``[N, classes, h, w]``.
            labels: int64 ``[N, planes, H, W]``, H a multiple of h; the second plane is a teacher's masks.
            teacher: a teacher network's scores, float ``[N, classes, ., .]``.

        Returns:
            A scalar; 0 where no pixel has a label.
        """
        scores = scores.float()
        stride = labels.shape[-1] // scores.shape[-1]
        if self._options.loss_at == "image" and stride > 1:
            scores = functional.interpolate(scores, labels.shape[-2:], mode="bilinear", align_corners=False)
        elif stride > 1:
            labels = labels_at(labels, stride)
        loss = self._cross_entropy(scores, labels[:, 0])
        share = self._options.teacher_share
        if teacher is not None:
            return (1.0 - share) * loss + share * self._distillation(scores, teacher)
        if labels.shape[1] > 1:
            return (1.0 - share) * loss + share * self._cross_entropy(scores, labels[:, 1])
        return loss

    def _cross_entropy(self, scores: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        losses = functional.cross_entropy(scores, labels, self._weights, ignore_index=IGNORED, reduction="none")
        kept = labels != IGNORED
        if self._options.ohem is not None:
            kept = self._hard(scores, labels, kept)
        if self._weights is None:
            weights = kept.float()
        else:
            weights = self._weights[torch.where(labels == IGNORED, 0, labels)] * kept
        # Not the built-in mean: that is 0 / 0 where no pixel has a label.
        return (losses * kept).sum() / weights.sum().clamp(min=1e-6)

    def _hard(self, scores: torch.Tensor, labels: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Online hard example mining (Shrivastava et al., CVPR 2016): pixels whose class is improbable so far."""
        with torch.no_grad():
            index = torch.where(kept, labels, 0)[:, None]
            sure = functional.softmax(scores, dim=1).gather(1, index)[:, 0]
            sure = torch.where(kept, sure, 2.0)
            least = max(1, int(self._options.ohem_keep * labels.numel()))
            threshold = max(float(self._options.ohem or 0.0), float(sure.flatten().kthvalue(least).values))
            return kept & (sure <= threshold)

    def _distillation(self, scores: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
        """Cross entropy against the teacher's softened scores (Hinton et al., 2015), on every pixel."""
        teacher = teacher.float()
        if teacher.shape[-2:] != scores.shape[-2:]:
            teacher = functional.interpolate(teacher, scores.shape[-2:], mode="bilinear", align_corners=False)
        temperature = self._options.temperature
        wanted = functional.softmax(teacher / temperature, dim=1)
        given = functional.log_softmax(scores / temperature, dim=1)
        divergence: Any = functional.kl_div(given, wanted, reduction="none").sum(1).mean()
        return divergence * temperature**2
