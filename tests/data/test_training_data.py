"""Datasets, splits and normalisation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.data.dataset import ImageDataset, TrainingData, stratified_split
from dfmobile.data.preprocessing import pad_centre
from dfmobile.errors import InputError


def dataset(count: int = 20, classes: int = 2, channels: int = 1) -> ImageDataset:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, channels, 4, 6), np.uint8)
    return ImageDataset(images, np.arange(count) % classes, tuple("abcdefgh"[:classes]))


@given(
    counts=st.lists(st.integers(2, 40), min_size=1, max_size=5),
    fraction=st.floats(0.01, 0.99),
    seed=st.integers(0, 2**31),
)
def test_a_split_is_a_partition_with_equal_shares(counts: list[int], fraction: float, seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    train, validation = stratified_split(labels, fraction, seed)
    assert sorted([*train, *validation]) == list(range(len(labels)))
    for label, count in enumerate(counts):
        assert 1 <= (labels[train] == label).sum() <= count - 1
        assert abs((labels[train] == label).sum() - fraction * count) <= 1
    again = stratified_split(labels, fraction, seed)
    assert np.array_equal(again[0], train)
    assert np.array_equal(again[1], validation)


def test_another_seed_is_another_split() -> None:
    labels = np.repeat(np.arange(2), 50)
    assert not np.array_equal(stratified_split(labels, 0.5, 0)[0], stratified_split(labels, 0.5, 1)[0])


@pytest.mark.parametrize("fraction", [0.0, 1.0, -1.0, float("nan")])
def test_a_fraction_that_leaves_a_side_empty_is_refused(fraction: float) -> None:
    with pytest.raises(InputError, match="train_fraction"):
        stratified_split(np.zeros(4, np.int64), fraction, 0)


def test_a_class_of_one_image_cannot_be_split() -> None:
    with pytest.raises(InputError, match="class 1 has a single image"):
        stratified_split(np.array([0, 0, 1]), 0.5, 0)


def test_normalised_training_images_have_mean_0_and_deviation_1() -> None:
    whole = dataset(channels=3)
    data = TrainingData.make(whole, whole, {"data": "random"})
    inputs = (whole.images / 255 - data.mean[:, None, None]) / data.std[:, None, None]
    assert np.allclose(inputs.mean((0, 2, 3)), 0, atol=1e-6)
    assert np.allclose(inputs.std((0, 2, 3)), 1, atol=1e-6)
    assert data.describe()["normalisation"]["mean"] == [round(float(value), 6) for value in data.mean]
    assert data.describe()["input"] == "6x4"


def test_a_constant_channel_does_not_divide_by_zero() -> None:
    flat = ImageDataset(np.full((4, 1, 2, 2), 7, np.uint8), np.zeros(4, np.int64), ("a",))
    assert TrainingData.make(flat, flat, {}).std == pytest.approx(1 / 255)


def test_inconsistent_arrays_are_refused() -> None:
    good = dataset()
    with pytest.raises(InputError, match="uint8"):
        ImageDataset(good.images.astype(np.float32), good.labels, good.class_names)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="labels"):
        ImageDataset(good.images, good.labels[:3], good.class_names)
    with pytest.raises(InputError, match="outside"):
        ImageDataset(good.images, good.labels, ("only one",))
    with pytest.raises(InputError, match="differ"):
        TrainingData.make(good, dataset(channels=3), {})
    with pytest.raises(InputError, match="both are needed"):
        TrainingData.make(good, good.subset(np.array([], np.int64)), {})


def test_padding_keeps_the_image_in_the_middle() -> None:
    images = dataset().images
    padded = pad_centre(images, (8, 8))
    assert padded.shape == (20, 1, 8, 8)
    assert np.array_equal(padded[:, :, 2:6, 1:7], images)
    assert padded.sum() == images.sum()
    with pytest.raises(InputError, match="6x4 do not fit into 5x8"):
        pad_centre(images, (5, 8))
