"""Intersection over union and pixel accuracy."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from dfmobile.accuracy.metrics import ConfusionMatrix
from dfmobile.errors import InputError


def test_by_hand() -> None:
    matrix = ConfusionMatrix(3)
    matrix.add(np.array([[0, 0, 1, 255]], np.uint8), np.array([[0, 1, 1, 2]], np.int32))
    assert matrix.iou()[:2] == pytest.approx([0.5, 0.5])
    assert math.isnan(matrix.iou()[2])
    assert matrix.miou == 0.5
    assert matrix.pixel_accuracy == pytest.approx(2 / 3)
    assert matrix.describe(["a", "b", "c"])["iou"] == {"a": 0.5, "b": 0.5, "c": None}


LABELS = arrays(np.uint8, (3, 4, 5), elements=st.sampled_from([0, 1, 2, 255]))


@given(LABELS, arrays(np.uint8, (3, 4, 5), elements=st.integers(0, 2)))
def test_it_is_the_definition_whatever_the_batches(labels: np.ndarray, predictions: np.ndarray) -> None:
    whole, parts = ConfusionMatrix(3), ConfusionMatrix(3)
    whole.add(labels, predictions)
    for one, other in zip(labels, predictions, strict=True):
        parts.add(one, other)
    assert np.array_equal(whole.counts, parts.counts)
    for number, found in enumerate(whole.iou()):
        true, predicted = (labels == number), (predictions == number) & (labels != 255)
        union = (true | predicted).sum()
        assert math.isnan(found) if not union else found == pytest.approx((true & predicted).sum() / union)


@given(arrays(np.uint8, (4, 5), elements=st.integers(0, 2)))
def test_a_perfect_map_has_all(labels: np.ndarray) -> None:
    matrix = ConfusionMatrix(3)
    matrix.add(labels, labels)
    assert matrix.miou == matrix.pixel_accuracy == 1.0


def test_what_is_no_class_is_refused() -> None:
    matrix = ConfusionMatrix(3)
    with pytest.raises(InputError, match="prediction 3 is none of the 3 classes"):
        matrix.add(np.zeros((1, 1), np.uint8), np.full((1, 1), 3))
    with pytest.raises(InputError, match="label 200"):
        matrix.add(np.full((1, 1), 200, np.uint8), np.zeros((1, 1)))
    with pytest.raises(InputError, match="labels are"):
        matrix.add(np.zeros((1, 2)), np.zeros((2, 1)))
    assert math.isnan(matrix.miou)
    assert matrix.describe(["a", "b", "c"])["pixel_accuracy"] is None
