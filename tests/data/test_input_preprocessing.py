"""What a network takes is kept with its weights, and read back as untrusted text."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.data.input_preprocessing import Preprocessing
from dfmobile.errors import FileFormatError, InputError

CAFFE = Preprocessing("BGR", (104.0, 117.0, 123.0), (0.008, 0.008, 0.008), "the authors'")


def test_channels_are_put_in_the_networks_order() -> None:
    red = np.zeros((1, 3, 2, 2), np.uint8)
    red[:, 0] = 255
    values = CAFFE.apply(red)
    assert values.shape == (1, 3, 2, 2)
    assert values[0, :, 0, 0] == pytest.approx([-104 * 0.008, -117 * 0.008, (255 - 123) * 0.008])


def test_a_normalisation_is_in_units_of_pixels() -> None:
    rule = Preprocessing.normalised((0.5, 0.25, 0.0), (0.5, 0.25, 1.0), "a test")
    values = rule.apply(np.full((3, 1, 1), 255, np.uint8))
    assert values[:, 0, 0] == pytest.approx([1.0, 3.0, 1.0], rel=1e-6)


def test_it_survives_the_metadata() -> None:
    assert Preprocessing.of_weights(CAFFE.metadata()) == CAFFE


def test_weights_of_earlier_versions_are_understood() -> None:
    text = json.dumps({"formula": "(pixel / 255 - mean) / std", "mean": [0.1], "std": [0.5]})
    rule = Preprocessing.of_weights({"normalisation": text})
    assert (rule.channels, rule.mean, rule.scale) == ("L", (25.5,), (1 / 127.5,))
    assert "ImageNet" in Preprocessing.of_weights({}).source


@pytest.mark.parametrize(
    "damaged", ["", "[1]", '{"mean": [0.1], "std": [0]}', '{"mean": [], "std": []}', '{"mean": ["a"], "std": [1]}']
)
def test_a_damaged_normalisation_is_refused(damaged: str) -> None:
    with pytest.raises(FileFormatError, match="normalisation"):
        Preprocessing.of_weights({"normalisation": damaged})


@given(st.text() | st.recursive(st.none() | st.floats() | st.text(), lambda item: st.lists(item)).map(json.dumps))
def test_any_text_is_a_rule_or_a_clear_error(text: str) -> None:
    with contextlib.suppress(FileFormatError):
        Preprocessing.of_weights({"preprocessing": text})


def test_channels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="takes 3 channels"):
        CAFFE.apply(np.zeros((1, 4, 4), np.uint8))
    with pytest.raises(InputError, match="channel order"):
        Preprocessing("CMY", (0.0,) * 3, (1.0,) * 3, "")  # type: ignore[arg-type]
