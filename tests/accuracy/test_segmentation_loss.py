"""The parts of the loss against what they are defined as."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed")

from dfmobile.accuracy.segmentation_loss import SegmentationLoss, class_weights, labels_at  # noqa: E402
from dfmobile.accuracy.segmentation_options import SegmentationOptions  # noqa: E402
from dfmobile.accuracy.segmentation_trainer import poly_rate  # noqa: E402

IGNORED = 255
DATA: Any = SimpleNamespace(
    pixels=np.array([90, 9, 1, 0], np.int64), pixels_where_present=np.array([100, 50, 20, 0], np.int64)
)


def loss_of(**options: Any) -> SegmentationLoss:
    return SegmentationLoss(DATA, SegmentationOptions(**options), torch.device("cpu"))


def batch(seed: int = 0) -> tuple[Any, Any]:
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(0, 4, (2, 1, 8, 8), generator=generator)
    labels[0, 0, :2] = IGNORED
    return torch.randn(2, 4, 8, 8, generator=generator), labels


def test_class_weights_are_those_of_the_papers() -> None:
    assert class_weights(DATA, "none") is None
    enet = class_weights(DATA, "enet")
    expected = np.array([1 / math.log(1.02 + share) for share in (0.9, 0.09, 0.01)])
    assert enet is not None
    assert np.allclose(enet[:3].numpy(), expected / expected.mean())
    median = class_weights(DATA, "median")
    ratios = np.array([0.18 / 0.9, 1.0, 0.18 / 0.05])
    assert median is not None
    assert np.allclose(median[:3].numpy(), ratios / ratios.mean())


def test_it_is_torchs_cross_entropy() -> None:
    scores, labels = batch()
    for kind in ("none", "enet"):
        expected = torch.nn.functional.cross_entropy(
            scores, labels[:, 0], class_weights(DATA, kind), ignore_index=IGNORED
        )
        assert torch.allclose(loss_of(class_weights=kind)(scores, labels), expected, atol=1e-6)


def test_without_labels_it_is_zero_with_gradients_of_zero() -> None:
    scores, labels = batch()
    scores.requires_grad_()
    loss = loss_of(ohem=0.7)(scores, torch.full_like(labels, IGNORED))
    loss.backward()
    assert loss.item() == 0.0
    assert not scores.grad.any()


def test_labels_at_the_scores_resolution_are_the_cells_middles() -> None:
    labels = torch.arange(64).view(1, 1, 8, 8)
    assert labels_at(labels, 4)[0, 0].tolist() == [[18, 22], [50, 54]]
    assert labels_at(labels, 1).equal(labels)


def test_the_loss_at_the_image_upsamples_scores() -> None:
    scores = torch.randn(1, 4, 2, 2)
    labels = torch.randint(0, 4, (1, 1, 8, 8))
    larger = torch.nn.functional.interpolate(scores, (8, 8), mode="bilinear", align_corners=False)
    expected = torch.nn.functional.cross_entropy(larger, labels[:, 0])
    assert torch.allclose(loss_of(loss_at="image", class_weights="none")(scores, labels), expected, atol=1e-6)


def test_hard_examples_are_the_improbable_ones() -> None:
    scores = torch.zeros(1, 4, 1, 4)
    scores[0, 0, 0] = torch.tensor([9.0, 5.0, 0.0, -2.0])
    labels = torch.zeros(1, 1, 1, 4, dtype=torch.long)
    plain = torch.nn.functional.cross_entropy(scores, labels[:, 0], reduction="none")[0, 0]
    mined = loss_of(ohem=0.7, ohem_keep=0.25, class_weights="none")(scores, labels)
    assert torch.allclose(mined, plain[2:].mean())
    kept = loss_of(ohem=0.0, ohem_keep=0.75, class_weights="none")(scores, labels)
    assert torch.allclose(kept, plain[1:].mean())


def test_a_teachers_own_scores_are_learnt_best() -> None:
    scores, labels = batch()
    loss = loss_of(teacher_share=1.0)
    assert loss(scores, labels, scores).item() == pytest.approx(0.0, abs=1e-6)
    assert loss(scores, labels, -scores).item() > 0.1
    assert loss(scores, labels, scores[..., ::2, ::2]).item() > 0.0  # another resolution


def test_masks_are_a_second_cross_entropy() -> None:
    scores, labels = batch()
    masks = (labels + 1) % 4
    both = loss_of(teacher_share=0.25)(scores, torch.cat([labels, masks], 1))
    alone = loss_of()
    assert torch.allclose(both, 0.75 * alone(scores, labels) + 0.25 * alone(scores, masks), atol=1e-6)


def test_the_poly_schedule_rises_then_falls_to_nearly_zero() -> None:
    options = SegmentationOptions(learning_rate=1.0, warm_up=0.1, power=0.9)
    rates = [poly_rate(step, 100, options) for step in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == rates[9] == 1.0
    assert rates[:10] == sorted(rates[:10])
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert 0.0 < rates[-1] < 0.03
    without = SegmentationOptions(learning_rate=1.0, warm_up=0.0, power=1.0)
    assert poly_rate(49, 100, without) == pytest.approx(1 - 50 / 101)
