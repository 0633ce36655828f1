"""The bottleneck, shuffle and segmentation spaces: published members, exact counts, order, keys and sums."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfmobile.architecture import Architecture, build, zoo
from dfmobile.architecture.spaces import SearchSpace, open_space
from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.architecture.spaces.decoders import DecoderChoices
from dfmobile.errors import EncodingError, InputError
from dfmobile.search.base import Evaluated
from dfmobile.search.pruning import EnumeratedPruner

NAMES = ["df", "df-bottleneck", "df-seg", "shuffle", "shuffle-seg"]
SPACES = {name: open_space(name) for name in NAMES}
SIZE = (128, 64)
PL1A = zoo.get("PL1A-Seg").architecture.text


def some_features(space: SearchSpace, count: int) -> dict[str, list[float]]:
    generator = np.random.default_rng(11)
    return {key: generator.random(count).tolist() for key in space.key_index(*SIZE)}


FEATURES = {name: some_features(space, 2) for name, space in SPACES.items()}


@pytest.mark.parametrize(
    ("space", "texts"),
    [
        ("df", [zoo.get(name).architecture.text for name in ("DF1", "DF2", "DFlite")]),
        ("df-bottleneck", [zoo.get("DF2A").architecture.text]),
        (
            "df-seg",
            [zoo.get(name).architecture.text for name in zoo.names() if name.startswith("DF") and "Seg" in name],
        ),
        ("shuffle", [PL1A.split("+")[0]]),
        ("shuffle-seg", [PL1A, f"{PL1A}:d8"]),
    ],
)
def test_published_networks_are_members_at_the_default_depth(space: str, texts: list[str]) -> None:
    assert texts
    for architecture in map(Architecture.parse, texts):
        row = SPACES[space].row(architecture)
        assert SPACES[space].architecture(row) == architecture
        assert [name for name in NAMES if architecture in SPACES[name]] == [space]


def test_exact_counts() -> None:
    assert {name: space.count() for name, space in SPACES.items()} == {
        "df": 14_056_691,
        "df-bottleneck": 2_169_530,
        "df-seg": 14_056_691 * 5**3 * 2,
        "shuffle": math.comb(7, 3) * 8**3,
        "shuffle-seg": math.comb(7, 3) * 8**3 * 4**3 * 2,
    }


def test_columns_and_options() -> None:
    assert SPACES["shuffle"].columns == ("stage3", "stage4", "stage5")
    assert SPACES["df-seg"].columns == (
        "stage3", "stage4", "stage5", "controller3", "controller4", "controller5", "output_stride",
    )  # fmt: skip
    assert SPACES["df-seg"].options["controller4"] == (19, 32, 128, 256, 512)
    assert [SPACES[name].options["output_stride"] for name in ("df-seg", "shuffle-seg")] == [(1, 8), (4, 8)]


@pytest.mark.parametrize("name", NAMES)
def test_default_input_is_the_zoo_s(name: str) -> None:
    space = SPACES[name]
    (member,) = space.sample(1, np.random.default_rng(0))
    assert space.default_input == zoo.default_input(member)


@pytest.mark.parametrize(
    ("name", "keys"), [("df-bottleneck", 57), ("df-seg", 201), ("shuffle", 86), ("shuffle-seg", 186)]
)
def test_number_of_keys_at_640x384(name: str, keys: int) -> None:
    assert len(SPACES[name].blocks(640, 384)) == keys


def test_keys_of_the_df_segmentation_space_by_kind() -> None:
    """5 widths, 5 controllers, 2 strides: controllers 3 and 4 see the backbone, 5 the pyramid, which is 512 wide."""
    kinds = [block.kind for block in SPACES["df-seg"].blocks(640, 384)]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "stem": 1,
        "basic": 80,
        "pyramid_pooling": 5,
        "channel_controller": 25 + 25 + 5,
        "fusion_node": 25 + 25,
        "score_head": 5 * 2,
    }


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NAMES), st.integers(0, 2**32 - 1), st.booleans())
def test_sums_equal_those_of_the_built_networks(name: str, seed: int, spread: bool) -> None:
    space, features, generator = SPACES[name], FEATURES[name], np.random.default_rng(seed)
    rows = space.spread_rows(3, generator) if spread else space.sample_rows(3, generator)
    for row, found in zip(rows, space.sums(rows, *SIZE, features), strict=True):
        blocks = build(space.architecture(row), *SIZE).blocks
        assert found == pytest.approx(np.sum([features[block.key] for block in blocks], axis=0))


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NAMES), st.integers(0, 2**32 - 1))
def test_columns_orders_together_are_the_order(name: str, seed: int) -> None:
    """Of two members, and of one with any columns of the other."""
    space, generator = SPACES[name], np.random.default_rng(seed)
    left, right = space.spread_rows(2, generator)
    mixed = [np.where(generator.random(len(left)) < 0.5, left, right) for _ in range(4)]
    orders = [space.stage_order(column) for column in range(len(space.columns))]
    for a, b in itertools.permutations([left, right, *mixed], 2):
        try:
            first, second = space.architecture(a), space.architecture(b)
        except EncodingError:  # a mixture of two backbones may narrow
            continue
        expected = all(bool(order[i, j]) for order, i, j in zip(orders, a, b, strict=True))
        assert space.precedes(first, second) == expected


def test_output_strides_are_not_comparable_controllers_are() -> None:
    space = SPACES["df-seg"]
    text = "df/64/64/64+seg:19,32,128"
    small, large = Architecture.parse(text), Architecture.parse(f"{text}:d8")
    assert not space.precedes(small, large)
    assert not space.precedes(large, small)
    assert space.precedes(small, Architecture.parse("df/64/64/64+seg:19,128,128"))
    assert not space.precedes(small, Architecture.parse("df/64/64/64+seg:512,19,512"))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("df/64/64/64+seg:19,32,64", "no such decoder"),
        ("df/64/64/64+seg:19,32,128:d4", "no such decoder"),
        ("df/64/64/64", "another kind of network"),
        ("df/64/64/96+seg:19,32,128", "not a member of space 'df-seg' at depth 11"),
    ],
)
def test_others_are_no_members(text: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        SPACES["df-seg"].row(Architecture.parse(text))


@pytest.mark.parametrize("row", [[0, 0, 0], [0, 0, 0, 5, 0, 0, 0], [0, 0, 0, 0, 0, 0, 2], [0, 0, 0, 0, -1, 0, 0]])
def test_rows_of_no_member_are_refused(row: list[int]) -> None:
    with pytest.raises(InputError, match="is not a row of space 'df-seg'"):
        SPACES["df-seg"].architecture(row)


def test_a_space_too_large_to_list_still_counts_samples_and_sums() -> None:
    space = SPACES["df-seg"]
    with pytest.raises(InputError, match="3514172750 architectures; at most 20000000 can be listed") as caught:
        space.rows()
    assert "--max-depth" in caught.value.hint
    assert open_space("df-seg", 3).rows().shape == (6_651 * 250, 7)


@pytest.mark.parametrize(
    ("text", "choices"),
    [
        ("df/8/8/8+seg:8,8,8", None),
        ("df/8/8/8", DecoderChoices((8,), (1,))),
        ("df/8/8/8+seg:8,8,9", DecoderChoices((8,), (1,))),
    ],
)
def test_template_and_decoders_must_fit(text: str, choices: DecoderChoices | None) -> None:
    with pytest.raises(InputError, match="does not fit the decoders"):
        ChainSpace("mine", Architecture.parse(text), (8, 16), 2, (32, 32), choices)


def test_output_strides_that_the_family_lacks_are_refused() -> None:
    with pytest.raises(EncodingError, match="output stride"):
        ChainSpace("mine", Architecture.parse("df/8/8/8+seg:8,8,8"), (8,), 2, (32, 32), DecoderChoices((8,), (1, 16)))


@pytest.mark.parametrize(
    ("controllers", "strides"), [((), (1,)), ((8,), ()), ((16, 8), (1,)), ((8, 8), (1,)), ((0,), (1,))]
)
def test_decoders_that_are_none(controllers: tuple[int, ...], strides: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="are not ascending positive numbers"):
        DecoderChoices(controllers, strides)


@pytest.mark.parametrize(("name", "depth"), [("df-seg", 1), ("shuffle-seg", 1), ("df-bottleneck", 2), ("shuffle", 3)])
def test_pruning_rules_out_exactly_what_precedes(name: str, depth: int) -> None:
    """One evaluation: all that precede it and are not faster go, and nothing else."""
    space = open_space(name, depth)
    rows = space.rows()
    latency = np.random.default_rng(5).random(len(rows))
    latency[-1] = 0.5  # the largest: all of its output stride precede it, and half of them are slower
    pruner = EnumeratedPruner(space, rows, latency)
    candidate = pruner.find(rows[-1].tolist())
    assert candidate is not None
    pruner.take(candidate)
    pruned = pruner.apply(Evaluated(0, candidate, 0.5))
    chosen = space.architecture(candidate.row)
    expected = [
        row
        for row, ms in zip(rows, latency, strict=True)
        if ms >= candidate.predicted_ms
        and tuple(row) != candidate.row
        and space.precedes(space.architecture(row), chosen)
    ]
    assert pruned == len(expected)
