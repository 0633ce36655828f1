"""Augmentation: every image is a shifted, maybe mirrored, copy of itself, and a function of the generator."""

from __future__ import annotations

import numpy as np
import pytest

from dfmobile.data.augment import augment

IMAGES = np.random.default_rng(0).integers(1, 256, (40, 3, 32, 24), dtype=np.uint8)  # never black


@pytest.mark.parametrize("kind", ["shift", "shift-flip"])
def test_each_image_is_a_window_of_itself(kind: str) -> None:
    before = IMAGES.copy()
    found = augment(IMAGES, kind, np.random.default_rng(1))
    assert found.shape == IMAGES.shape
    assert found.dtype == np.uint8
    assert found.flags.c_contiguous
    assert np.array_equal(IMAGES, before)
    reach = 2  # 1/16 of 24, rounded
    seen = set()
    for image, result in zip(IMAGES, found, strict=True):
        padded = np.pad(image, ((0, 0), (reach, reach), (reach, reach)))
        windows = {
            (top, left, mirrored): padded[:, top : top + 32, left : left + 24][:, :, :: -1 if mirrored else 1]
            for top in range(2 * reach + 1)
            for left in range(2 * reach + 1)
            for mirrored in (False, True)
        }
        fitting = [place for place, window in windows.items() if np.array_equal(window, result)]
        assert len(fitting) == 1
        seen.add(fitting[0])
    assert len({place[:2] for place in seen}) > 10
    assert {place[2] for place in seen} == ({False} if kind == "shift" else {False, True})


def test_equal_seeds_make_equal_images() -> None:
    first, second, other = (augment(IMAGES, "shift-flip", np.random.default_rng(seed)) for seed in (5, 5, 6))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, other)
    assert augment(IMAGES, "none", np.random.default_rng(0)) is IMAGES
