"""Names and colours of classes: of the file, Cityscapes', or made; and the pictures that they paint."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dfmobile.data.cityscapes import CLASS_NAMES, PALETTE
from dfmobile.data.class_names import class_colours, class_names
from dfmobile.data.overlay import legend, overlay
from dfmobile.errors import FileFormatError, InputError


def test_names_are_the_files_then_cityscapes_then_numbers() -> None:
    assert class_names({"classes": '["a", "b"]'}, 2, segmentation=True) == ("a", "b")
    assert class_names({}, 19, segmentation=True) == CLASS_NAMES
    assert class_names({}, 19, segmentation=False)[3] == "class 3"


@pytest.mark.parametrize("text", ["[", "{}", '["a"]', '["a", "a"]', '["a", 1]', '["a", ""]', "[" * 5000])
def test_damaged_names_are_refused(text: str) -> None:
    with pytest.raises(FileFormatError):
        class_names({"classes": text}, 2, segmentation=True)


@given(st.lists(st.text(min_size=1), min_size=1, max_size=5, unique=True))
def test_names_are_one_short_line(names: list[str]) -> None:
    for name in class_names({"classes": json.dumps(names)}, len(names), segmentation=False):
        assert len(name) <= 100
        assert name.isprintable()


@pytest.mark.parametrize("count", [1, 2, 19, 150, 255])
def test_colours_differ(count: int) -> None:
    colours = class_colours(count)
    assert (colours.shape, colours.dtype) == ((count, 3), np.uint8)
    assert len(np.unique(colours, axis=0)) == count
    with pytest.raises(InputError, match="8-bit"):
        class_colours(256)


def test_an_overlay_mixes_half_and_half_and_leaves_what_has_no_class() -> None:
    image = Image.new("RGB", (4, 2), (100, 100, 100))
    labels = np.array([[0, 0, 1, 1], [255, 255, 1, 1]], np.uint8)
    painted = np.asarray(overlay(image, labels, PALETTE))
    np.testing.assert_allclose(painted[0, 0], (np.array([128, 64, 128]) + 100) // 2, atol=1)
    np.testing.assert_array_equal(painted[1, 0], [100, 100, 100])
    with pytest.raises(InputError, match="labels are 4x2"):
        overlay(Image.new("L", (5, 2)), labels, PALETTE)


def test_a_legend_shows_every_colour() -> None:
    pixels = np.asarray(legend(["road", "日本"], class_colours(2)))
    for colour in class_colours(2):
        assert (pixels == colour).all(axis=2).sum() > 100
