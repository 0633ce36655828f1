"""CPU lists and affinity masks: two notations of one set."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.devices.cpu_list import affinity_mask, format_cpu_list, parse_cpu_list, parse_mask

CORES = st.sets(st.integers(0, 300), min_size=1)


def test_notations() -> None:
    assert parse_cpu_list("0-3,6") == parse_cpu_list("6 0 1 2 3") == [0, 1, 2, 3, 6]
    assert format_cpu_list([6, 0, 1, 2, 3]) == "0-3,6"
    assert affinity_mask([0, 1, 2, 3]) == "0f"
    assert affinity_mask([4, 5, 6, 7]) == "f0"
    assert affinity_mask([8]) == "0100"
    assert parse_cpu_list("") == []


@given(CORES)
def test_round_trips(cores: set[int]) -> None:
    assert parse_cpu_list(format_cpu_list(cores)) == sorted(cores)
    mask = affinity_mask(cores)
    assert parse_mask(mask) == parse_mask("0x" + mask.upper()) == sorted(cores)
    assert len(mask) % 2 == 0
    assert int(mask, 16) == sum(2**core for core in cores)


@given(CORES, CORES)
def test_masks_unite_as_sets_do(one: set[int], other: set[int]) -> None:
    assert int(affinity_mask(one | other), 16) == int(affinity_mask(one), 16) | int(affinity_mask(other), 16)


@pytest.mark.parametrize("text", ["a", "3-1", "-1", "1-", "0-99999", "4096", "1;2", "0-3-5", "٣"])
def test_damaged_lists(text: str) -> None:
    with pytest.raises(ValueError, match=r"core|range"):
        parse_cpu_list(text)


@pytest.mark.parametrize("text", ["", "0xg", "-1", "f" * 2000, "f f"])
def test_damaged_masks(text: str) -> None:
    with pytest.raises(ValueError, match="mask"):
        parse_mask(text)


@pytest.mark.parametrize("cores", [[], [-1], [4096]])
def test_impossible_masks(cores: list[int]) -> None:
    with pytest.raises(ValueError, match="core"):
        affinity_mask(cores)


@given(st.text(max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    for parse in (parse_cpu_list, parse_mask):
        try:
            parse(text)
        except ValueError as error:
            assert str(error)  # noqa: PT017 - both outcomes are right
