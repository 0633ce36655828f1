"""Which spaces ``dfmobile variants`` searches one after the other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from dfmobile.architecture.encoding import Decoder
from dfmobile.architecture.spaces import SearchSpace, open_space
from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.errors import InputError
from dfmobile.search.campaign import STORE_NAME
from dfmobile.search.store import CampaignStore
from dfmobile.search.variants import (
    backbone_space,
    check_target,
    decoder_space,
    finalists,
    longer_options,
    searchable,
    spread,
    variant_space,
)

SIZE = (64, 32)


class MacsPredictor:
    """A latency of 1 ms a million MACs; blocks of kinds that are not covered are infinitely slow."""

    skipped_above_ms = float("inf")

    def __init__(self, uncovered: str = "") -> None:
        self.uncovered = uncovered

    def predict_rows(
        self, space: SearchSpace, rows: npt.NDArray[np.int32], width: int, height: int, **_: Any
    ) -> npt.NDArray[np.float64]:
        features = {
            block.key: (block.macs / 1e6, float(bool(self.uncovered) and self.uncovered in block.text))
            for block in space.blocks(width, height)
        }
        sums = space.sums(rows, width, height, features)
        return np.asarray(np.where(sums[:, 1] > 0, np.inf, sums[:, 0]))


def shuffle_seg() -> ChainSpace:
    return searchable(open_space("shuffle-seg", 2))


def record(folder: Path, *results: tuple[str, float, float]) -> Path:
    folder.mkdir()
    with CampaignStore(folder / STORE_NAME, create=True) as store:
        for number, (encoding, latency_ms, accuracy) in enumerate(results, 1):
            store.add_draw(number, encoding, (number,), latency_ms)
            store.add_result(number, accuracy, 1.0, {}, [], None)
    return folder


def test_backbones_have_the_smallest_decoder() -> None:
    backbones = backbone_space(shuffle_seg(), MacsPredictor(), SIZE, 1000.0)
    assert backbones.count() == open_space("shuffle", 2).count()
    assert {backbones.architecture(row).decoder for row in backbones.rows()} == {Decoder((24, 24, 24), 8)}
    assert backbones.source == "shuffle-seg"  # what a command to complete the table names


def test_a_decoder_that_a_table_does_not_cover_is_passed_over() -> None:
    # No controller of 24 on the first stage that it reads: 8x4 maps at 64x32 are those of stage 3.
    backbones = backbone_space(shuffle_seg(), MacsPredictor("-> 24x4x8"), SIZE, 1000.0)
    choices = backbones.options
    assert choices["controller3"] == (48,)
    assert choices["controller4"] == choices["controller5"] == (24,)
    with pytest.raises(InputError, match="covers no network"):
        backbone_space(shuffle_seg(), MacsPredictor("stem"), SIZE, 1000.0)


def test_decoders_are_searched_on_the_backbones_given() -> None:
    backbones = ["shuffle/1x24/2x48/1x96+seg:24,24,24:d8", "shuffle/2x24/1x24/1x24+seg:24,24,24:d8"]
    part = decoder_space(shuffle_seg(), [*backbones, backbones[0]])
    assert part.count() == 2 * 4**3 * 2
    texts = {part.architecture(row).text.partition("+")[0] for row in part.rows()}
    assert texts == {text.partition("+")[0] for text in backbones}
    exact = variant_space(shuffle_seg(), backbones)
    assert sorted(exact.architecture(row).text for row in exact.rows()) == sorted(backbones)


def test_finalists_are_the_boundary_of_all_searches_then_what_comes_next(tmp_path: Path) -> None:
    first = record(tmp_path / "a", ("a", 1.0, 0.5), ("b", 2.0, 0.4), ("c", 3.0, 0.3))
    second = record(tmp_path / "b", ("d", 4.0, 0.7), ("a", 1.0, 0.5))
    assert [item.encoding for item in finalists([first, second], 1)] == ["d"]
    assert [item.encoding for item in finalists([first, second], 2)] == ["a", "d"]
    assert [item.encoding for item in finalists([first, second], 3)] == ["a", "b", "d"]
    assert [item.encoding for item in finalists([first, second], 9)] == ["a", "b", "c", "d"]


def test_spread_keeps_the_last_one() -> None:
    assert spread([1, 2, 3, 4, 5], 3) == [1, 3, 5]
    assert spread([1, 2, 3, 4, 5], 1) == [5]
    assert spread([1, 2], 5) == [1, 2]


def test_the_last_trainings_are_longer() -> None:
    pytest.importorskip("torch")
    assert longer_options("segmentation", {"preset": "quick"}, None)["epochs"] == 36
    assert longer_options("segmentation", {"epochs": 4}, None)["epochs"] == 12
    assert longer_options("segmentation", {"epochs": 4}, 5)["epochs"] == 5
    assert longer_options("analytic", {}, None) == {}
    with pytest.raises(InputError):
        longer_options("analytic", {}, 5)


def test_a_target_below_the_fastest_network_is_refused() -> None:
    space = backbone_space(shuffle_seg(), MacsPredictor(), SIZE, 1000.0)
    check_target(MacsPredictor(), space, SIZE, 1000.0)
    with pytest.raises(InputError, match="the fastest takes"):
        check_target(MacsPredictor(), space, SIZE, 0.01)


def test_a_space_without_decoders_is_refused() -> None:
    with pytest.raises(InputError, match="no decoders"):
        searchable(open_space("df-mini"))
