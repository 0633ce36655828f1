"""Encodings read and write as text and JSON, and refuse everything else in one clear line."""

from __future__ import annotations

import json
from typing import Any

import pytest
from architecture_strategies import architectures
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.architecture import Architecture, Decoder, Stage
from dfmobile.errors import EncodingError

DF1 = "df/64,64,64/128,128,128/256,256,256,512"


def assert_one_clear_line(error: EncodingError) -> None:
    assert "\n" not in str(error)
    assert "\n" not in error.hint
    assert 5 < len(str(error)) < 400


class TestRoundTrip:
    @given(architectures())
    def test_text(self, architecture: Architecture) -> None:
        parsed = Architecture.parse(architecture.text)
        assert parsed == architecture
        assert hash(parsed) == hash(architecture)
        assert parsed.text == architecture.text == str(architecture)

    @given(architectures())
    def test_json(self, architecture: Architecture) -> None:
        document = json.loads(json.dumps(architecture.to_json()))
        assert Architecture.from_json(document) == architecture
        assert Architecture.from_json({"encoding": architecture.text}) == architecture

    @given(architectures(max_width=9, max_depth=2), architectures(max_width=9, max_depth=2))
    def test_two_architectures_never_share_a_text(self, one: Architecture, other: Architecture) -> None:
        assert (one == other) == (one.text == other.text)

    @given(architectures(), st.data())
    def test_a_text_with_one_character_changed_is_read_back_or_refused(
        self, architecture: Architecture, data: st.DataObject
    ) -> None:
        text = architecture.text
        place = data.draw(st.integers(0, len(text)))
        length = data.draw(st.sampled_from((0, 1)))
        inserted = data.draw(st.one_of(st.sampled_from("0123456789/,x-+:=sd \n"), st.characters(), st.just("")))
        changed = text[:place] + inserted + text[place + length :]
        try:
            parsed = Architecture.parse(changed)
        except EncodingError as error:
            assert_one_clear_line(error)
        else:
            assert Architecture.parse(parsed.text) == parsed

    @given(st.text(max_size=60))
    def test_any_text_is_refused_politely(self, text: str) -> None:
        with pytest.raises(EncodingError) as caught:
            Architecture.parse(text)
        assert_one_clear_line(caught.value)


@pytest.mark.parametrize(
    ("written", "canonical"),
    [
        ("df/64x3/128x3/256x3,512", DF1),
        ("df/064,64,64/128,128,128/256,256,256,512", DF1),
        ("df,stem=32s2-64s2,classes=1000,channels=3/64x3/128x3/256x3,512", DF1),
        ("df,channels=1,classes=10,stem=8s1/8/8/8", "df,stem=8s1,classes=10,channels=1/8/8/8"),
        ("df/8/8/8+seg:4,4,4:d1", "df/8/8/8+seg:4,4,4"),
        ("df,classes=19/8/8/8+seg:4,4,4:d8", "df/8/8/8+seg:4,4,4:d8"),
        ("df,classes=1000/8/8/8+seg:4,4,4", "df,classes=1000/8/8/8+seg:4,4,4"),
        ("df,classes=19/8/8/8", "df,classes=19/8/8/8"),
        ("shuffle/4x48/8x96/4x192+seg:48,96,192:d4", "shuffle/4x48/8x96/4x192+seg:48,96,192"),
        ("shuffle,stem=8s2-24s2/1x2/1x2/1x2", "shuffle/1x2/1x2/1x2"),
        ("dfb/64,64,128/128,128,256/256x1,512x2", "dfb/64,64,128/128x2,256/256,512x2"),
        ("resnet/64,64/128,128/256,256/512,512", "resnet/64x2/128x2/256x2/512x2"),
    ],
)
def test_other_spellings_have_one_canonical_text(written: str, canonical: str) -> None:
    assert Architecture.parse(written).text == canonical


def test_the_json_form_spells_everything_out() -> None:
    assert Architecture.parse("shuffle/1x2/2x4/1x4+seg:3,5,7").to_json() == {
        "encoding": "shuffle/1x2/2x4/1x4+seg:3,5,7",
        "family": "shuffle",
        "stem": [{"width": 8, "stride": 2}, {"width": 24, "stride": 2}],
        "stages": [
            {"kind": "shuffle", "widths": [2]},
            {"kind": "shuffle", "widths": [4, 4]},
            {"kind": "shuffle", "widths": [4]},
        ],
        "decoder": {"controllers": [3, 5, 7], "output_stride": 4},
        "classes": 19,
        "channels": 3,
    }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not with a family"),
        ("DF1", "not with a family"),
        ("DF/64/64/64", "not with a family"),
        (" df/64/64/64", "not with a family"),
        ("mobilenet/64/64/64", "not with a family"),
        ("df", "has 3 stages, got 0"),
        ("df/64/64", "has 3 stages, got 2"),
        ("df/64/64/64/64", "has 3 stages, got 4"),
        ("df/64/64/64/", "has 3 stages, got 4"),
        ("resnet/64/64/64", "has 4 stages, got 3"),
        ("df//64/64", "'' is not a number (width)"),
        ("df/64,/64/64", "'' is not a number (width)"),
        ("df/64 /64/64", "'64 ' is not a number"),
        ("df/64;64/64/64", "'64;64' is not a number"),
        ("df/-64/64/64", "'-64' is not a number"),
        ("df/+64/64/64", "has 3 stages, got 1"),  # everything after the plus is a decoder
        ("df/6_4/64/64", "'6_4' is not a number"),
        ("df/64.0/64/64", "'64.0' is not a number"),
        ("df/1e2/64/64", "'1e2' is not a number"),
        ("df/64x/64/64", "'' is not a number (repeats)"),
        ("df/64x0/64/64", "repeats 0 is outside 1 to 512"),
        ("df/64x2x2/64/64", "'2x2' is not a number"),
        ("df/0/64/64", "width 0 is outside 1 to 8192"),
        ("df/64/64/8193", "width 8193 is outside 1 to 8192"),
        ("df/64/64/64x511", "513 blocks, at most 512"),
        ("df/128/64/64", "widths narrow from 128 to 64"),
        ("df/64/128,64/128", "widths narrow from 128 to 64"),
        ("resnetb/64/128/64/128", "widths narrow from 128 to 64"),
        ("shuffle/4x96/4x48/4x48", "widths narrow from 96 to 48"),
        ("shuffle/48/48/48", "'48' is not depth x width"),
        ("shuffle/4x47/4x48/4x48", "widths must be even"),
        ("shuffle/0x48/4x48/4x48", "depth 0 is outside"),
        ("shuffle/4x48,4x48/4x48/4x48", "'48,4x48' is not a number"),
        ("df,/64/64/64", "unknown or doubled option ''"),
        ("df,depth=3/64/64/64", "unknown or doubled option 'depth=3'"),
        ("df,classes/64/64/64", "unknown or doubled option 'classes'"),
        ("df,classes=2,classes=2/64/64/64", "unknown or doubled option 'classes=2'"),
        ("df,classes=0/64/64/64", "0 classes are outside"),
        ("df,classes=100001/64/64/64", "100001 classes are outside"),
        ("df,channels=0/64/64/64", "0 input channels are outside"),
        ("df,channels=65/64/64/64", "65 input channels are outside"),
        ("df,stem=/64/64/64", "stem conv '' is not width s stride"),
        ("df,stem=32/64/64/64", "stem conv '32' is not width s stride"),
        ("df,stem=32s3/64/64/64", "stem stride 3"),
        ("df,stem=32s4/64/64/64", "stem stride 4"),
        ("df,stem=0s2/64/64/64", "width 0 is outside"),
        ("df,stem=8s1-8s1-8s1-8s1-8s1-8s1-8s1-8s1-8s1/64/64/64", "one to eight convs"),
        ("shuffle,stem=8s2/1x2/1x2/1x2", "has two widths"),
        ("resnet,stem=64s2/64/64/64/64", "the stem of a ResNet is fixed"),
        ("df/64/64/64+", "is not a decoder"),
        ("df/64/64/64+seg", "is not a decoder"),
        ("df/64/64/64+seg:", "'' is not a number (controller width)"),
        ("df/64/64/64+seg:8,8", "three controller widths (stages 3, 4, 5), got 2"),
        ("df/64/64/64+seg:8,8,8,8", "three controller widths (stages 3, 4, 5), got 4"),
        ("df/64/64/64+seg:8,8,0", "width 0 is outside"),
        ("df/64/64/64+seg:8,8,8:8", "'8' is not an output stride"),
        ("df/64/64/64+seg:8,8,8:d", "'' is not a number (output stride)"),
        ("df/64/64/64+seg:8,8,8:d3", "output stride 3"),
        ("df/64/64/64+seg:8,8,8:d8:d8", "is not a decoder"),
        ("df/64/64/64+seg:8,8,8+seg:8,8,8", "'8+seg' is not a number"),
        ("df,stem=8s1/8/8/8+seg:8,8,8:d4", "scores at stride 4, but the decoder's last map is at stride 2"),
        ("resnet/64/64/64/64+seg:8,8,8", "has no segmentation decoder"),
        # Other scripts' digits, full-width and superscript: int() would take some of them.
        ("df/٦٤/64/64", "is not a number"),
        ("df/６４/64/64", "is not a number"),
        ("df/6²/64/64", "is not a number"),
        ("df/64\n/64/64", "is not a number"),
        ("df/64/64/64\0", "is not a number"),
        ("df/64/64/64\udc80", "is not a number"),
        ("df/9999999999/64/64", "is not a number"),
        ("df/999999999/64/64", "is outside 1 to 8192"),
        ("df/64x999999999/64/64", "is outside 1 to 512"),
        ("shuffle/999999999x2/1x2/1x2", "is outside 1 to 512"),
    ],
)
def test_malformed_encodings_say_what_is_wrong(text: str, says: str) -> None:
    with pytest.raises(EncodingError) as caught:
        Architecture.parse(text)
    assert says in str(caught.value)
    assert_one_clear_line(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "df/" + "9" * 4000 + "/64/64",
        "x" * 1_000_000,
        "df/" + "64," * 333_333,
        "/" * 1_000_000,
        "df" + ",classes=1" * 400 + "/1/1/1",
        "df/" + ",".join(["1x512"] * 600) + "/1/1",
        "df/1/1/1+seg:" + "1," * 2000,
        "df/1/1/1+" + "+" * 4000,
    ],
    ids=lambda text: f"{text[:12]}-{len(text)}",
)
def test_hostile_texts_are_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(EncodingError) as caught:
        Architecture.parse(text)
    assert_one_clear_line(caught.value)


@pytest.mark.parametrize(
    "document",
    [
        None,
        True,
        "df/64/64/64",
        [],
        {},
        {"encoding": None},
        {"encoding": ["df/64/64/64"]},
        {"encoding": "df/64/64"},
        {"encoding": "df/64/64/64", "family": "dfb"},
        {"encoding": "df/64/64/64", "classes": 10},
        {"encoding": "df/64/64/64", "classes": float("nan")},
        {"encoding": "df/64/64/64", "classes": 10**4000},
        {"encoding": "df/64/64/64", "decoder": {"controllers": [1, 1, 1], "output_stride": 1}},
        {"encoding": "df/64/64/64", "stages": []},
    ],
)
def test_json_that_is_no_architecture_is_refused(document: Any) -> None:
    with pytest.raises(EncodingError) as caught:
        Architecture.from_json(document)
    assert_one_clear_line(caught.value)


def test_json_with_a_field_nested_without_end_is_refused() -> None:
    nested: Any = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(EncodingError, match="'stages' contradicts"):
        Architecture.from_json({"encoding": DF1, "stages": nested})


def stages(*lists: tuple[int, ...], kind: str = "basic") -> tuple[Stage, ...]:
    return tuple(Stage(kind, widths) for widths in lists)


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ({"family": "vgg"}, "unknown family 'vgg'"),
        ({"stages": stages((8,), (8,))}, "has 3 stages"),
        ({"stages": stages((8,), (8,), (8,), kind="bottleneck")}, "has 3 stages (basic, basic, basic), got 3"),
        ({"stages": stages((8,), (), (8,))}, "a stage without blocks"),
        ({"stages": stages((8,), (9, 8), (9,))}, "widths narrow from 9 to 8"),
        ({"stem": ()}, "one to eight convs"),
        ({"stem": ((64, 4),)}, "one to eight convs of stride 1 or 2"),
        ({"decoder": Decoder((8, 8, 8), 16)}, "output stride 16"),
        ({"stem": ((8, 1),), "decoder": Decoder((8, 8, 8), 4)}, "scores at stride 4"),
        (
            {"family": "shuffle", "stages": stages((8, 10), (10,), (10,), kind="shuffle"), "stem": ((8, 2), (24, 2))},
            "has one width",
        ),
    ],
)
def test_parts_that_no_text_can_write_make_no_architecture(parts: dict[str, Any], says: str) -> None:
    whole: dict[str, Any] = {"family": "df", "stages": stages((8,), (8,), (8,)), "stem": ((32, 2), (64, 2))}
    with pytest.raises(EncodingError) as caught:
        Architecture(**{**whole, **parts})
    assert says in str(caught.value)
    assert_one_clear_line(caught.value)


@pytest.mark.parametrize(
    ("text", "total", "decoder"),
    [
        (DF1, 32, 8),
        ("df,stem=8s1/8/8/8", 8, 2),
        ("df,stem=8s2-8s2-8s2/8/8/8", 64, 16),
        ("shuffle/1x2/1x2/1x2", 32, 8),
        ("resnet/64x2/128x2/256x2/512x2", 32, 8),
    ],
)
def test_strides(text: str, total: int, decoder: int) -> None:
    architecture = Architecture.parse(text)
    assert (architecture.total_stride, architecture.decoder_stride) == (total, decoder)
