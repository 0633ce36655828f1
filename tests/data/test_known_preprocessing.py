"""Preprocessing by name or by a short text."""

from __future__ import annotations

import pytest

from dfmobile.data.input_preprocessing import Preprocessing
from dfmobile.data.known_preprocessing import KNOWN, parse_preprocessing
from dfmobile.errors import InputError


@pytest.mark.parametrize("name", KNOWN)
def test_names_survive_a_weights_file(name: str) -> None:
    assert parse_preprocessing(name) == KNOWN[name] == Preprocessing.of_weights(KNOWN[name].metadata())


def test_a_text_has_order_means_and_scales() -> None:
    found = parse_preprocessing("RGB:1,2,3:0.1,0.2,0.3")
    assert (found.channels, found.mean, found.scale) == ("RGB", (1.0, 2.0, 3.0), (0.1, 0.2, 0.3))
    assert parse_preprocessing("L:33:0.5").scale == (0.5,)


@pytest.mark.parametrize("text", ["", "bgr", "BGR:1,2,3", "BGR:1,2:0.1", "BGR:1,2,x:1", "XYZ:1,2,3:1", "BGR:1,2,3:-1"])
def test_anything_else_is_told(text: str) -> None:
    with pytest.raises(InputError):
        parse_preprocessing(text)
