"""From the architecture that was asked for to the network that is trained."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.accuracy.scaling import describe_scaling, parse_width_scale, trained_architecture
from dfmobile.architecture import Architecture
from dfmobile.architecture.order import precedes
from dfmobile.errors import InputError


def trained(encoding: str, size: int = 32, classes: int = 10, channels: int = 3, scale: object = "auto") -> str:
    architecture, _ = trained_architecture(
        Architecture.parse(encoding),
        size=(size, size),
        classes=classes,
        channels=channels,
        scale=parse_width_scale(scale),
    )
    return architecture.text


def test_a_df_network_is_scaled_for_small_images() -> None:
    assert trained("df/64,128/256/512,1024") == "df,stem=8s1,classes=10/8,16/24/40,64"
    assert trained("df/64/64/64", channels=1) == "df,stem=8s1,classes=10,channels=1/8/8/8"
    assert trained("dfb/64/128x2/256").startswith("dfb,stem=8s1,classes=10/8/16x2/24")


def test_the_record_says_so() -> None:
    _, line = trained_architecture(
        Architecture.parse("df/64/64/64"), size=(32, 32), classes=10, channels=3, scale="auto"
    )
    assert "10 classes and 3 channels as the data" in line
    assert "scaled for 32x32 images: stem 8 at stride 1, widths 64 to 8, 128 to 16" in line
    assert "64 to 8, 128 to 16, 256 to 24, 512 to 40, 1024 to 64" in describe_scaling("auto")


def test_a_network_that_is_small_already_is_trained_as_it_is() -> None:
    text = "df,stem=8s1,classes=10,channels=1/8,8/16/24,40"
    architecture, line = trained_architecture(
        Architecture.parse(text), size=(32, 32), classes=10, channels=1, scale="auto"
    )
    assert architecture.text == text
    assert line == "none: trained as encoded"


def test_large_images_leave_the_network_as_it_is() -> None:
    assert trained("df/64,128/256/512", size=224) == "df,classes=10/64,128/256/512"


def test_a_table_of_widths() -> None:
    assert trained("df/64/96/128", scale={"64": 4, "96": 6, "128": 8}) == "df,stem=4s1,classes=10/4/6/8"
    with pytest.raises(InputError, match=r"width 96 .* is not in the scaling table"):
        trained("df/64/96/128")


@pytest.mark.parametrize("scale", ["some", 3, {}, {"a": 1}, {"64": 8, "128": 8}, {"64": 0}, {"-1": 4}, None])
def test_tables_that_are_none(scale: object) -> None:
    with pytest.raises(InputError, match="width_scale"):
        parse_width_scale(scale)


WIDTHS = st.lists(st.sampled_from([64, 128, 256, 512, 1024]), min_size=3, max_size=6).map(sorted)


@given(x=WIDTHS, y=WIDTHS)
def test_scaling_keeps_the_order(x: list[int], y: list[int]) -> None:
    texts = ["df/" + "/".join([str(w[0]), str(w[1]), ",".join(map(str, w[2:]))]) for w in (x, y)]
    before = precedes(*(Architecture.parse(text) for text in texts))
    after = precedes(*(Architecture.parse(trained(text)) for text in texts))
    assert before == after


@pytest.mark.parametrize(
    ("encoding", "size", "message"),
    [
        ("df,classes=7/64/64/64", 32, "has 7 classes, the data have 10"),
        ("df,channels=1/64/64/64", 32, "has 1 channels, the data have 3"),
        ("df/64/64/64+seg:19,32,128", 32, "is a segmentation network"),
        ("shuffle/4x48/8x96/4x192", 32, "no scaled form of family 'shuffle'"),
        ("df/64/64/64", 28, "28x28 are not a multiple of the network's stride 8"),
        ("df/64/64/64", 4, "4x4 are not a multiple of the network's stride 8"),
        ("df/64/64/64", 100, "100x100 are not a multiple of the network's stride 32"),
    ],
)
def test_what_cannot_be_trained(encoding: str, size: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        trained(encoding, size=size)


def test_a_wrong_size_comes_with_the_right_one() -> None:
    with pytest.raises(InputError) as caught:
        trained("df/64/64/64", size=30)
    assert caught.value.hint == "give image_size 32x32"
