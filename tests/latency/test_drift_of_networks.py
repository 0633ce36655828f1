"""How far a machine moves, told from how far passes scatter; and how precisely a network is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from latency_helpers import result_of

from dfmobile.architecture.spaces import open_space
from dfmobile.latency.calibration import machine_drift, round_levels
from dfmobile.latency.entries import TableEntry
from dfmobile.latency.network_runs import anchor_blocks
from dfmobile.latency.networks import MeasuredNetwork
from dfmobile.latency.statistics import quiet_latency, robust_half_width, summarise


def networks_of(
    levels: list[float], noise: float, anchors: list[float | None], count: int = 200
) -> list[MeasuredNetwork]:
    """Return networks whose passes have the level of their round, noise of their own, and anchors."""
    generator, found = np.random.default_rng(0), []
    for number in range(count):
        network = MeasuredNetwork(f"network {number}", 32, 32, {"block": 1})
        for level, anchor in zip(levels, anchors, strict=True):
            time_ms = (1 + number) * (1 + level) * math.exp(generator.normal(0, noise))
            network.add(result_of(time_ms), 1, anchor, "")
        found.append(network)
    return found


def test_noise_of_each_pass_is_no_drift() -> None:
    still = networks_of([0.0] * 6, 0.05, [None] * 6)
    assert machine_drift(still) < 0.01


def test_levels_of_rounds_are_drift() -> None:
    levels = [-0.04, -0.02, -0.01, 0.0, 0.01, 0.02, 0.04]
    found = machine_drift(networks_of(levels, 0.02, [None] * 7))
    assert found == pytest.approx(np.std(levels, ddof=1), rel=0.4)
    assert machine_drift(networks_of([*levels, 0.9], 0.02, [None] * 8)) < 1.6 * found  # one disturbed round


def test_anchors_off_their_entries_are_one_more_observation() -> None:
    off = machine_drift(networks_of([0.0] * 4, 0.0, [1.08] * 4))
    assert off == pytest.approx(0.08 / 2)  # of a longer time, against three within the run
    assert machine_drift(networks_of([0.0], 0.0, [1.08])) == pytest.approx(0.08)  # the only one there is


def test_rounds_that_only_some_networks_had_do_not_count() -> None:
    found = networks_of([0.0, 0.0, 0.5], 0.0, [None] * 3)
    del found[0].passes[2:]
    assert len(round_levels(found)) == 2
    assert machine_drift([]) == 0.0


def test_one_fast_and_one_slow_pass_do_not_move_the_latency() -> None:
    assert quiet_latency([[10.0, 11], [10.1, 30], [8.5, 8.6], [10.05, 10.1], [14.0, 15]]) == 10.05
    assert quiet_latency([[10.0], [14.0]]) == 10.0


def test_the_half_width_is_of_the_passes_that_agree() -> None:
    calm, disturbed = [10.0, 10.02, 9.98, 10.01, 9.99], [10.0, 10.02, 9.98, 10.01, 13.0]
    assert robust_half_width(disturbed) < 2.5 * robust_half_width(calm) < 0.1
    assert robust_half_width([10.0, 10.0]) == math.inf


@pytest.mark.parametrize("count", [4, 5, 8, 20])
def test_the_half_width_covers_the_median_of_normal_passes(count: int) -> None:
    generator = np.random.default_rng(count)
    held = [
        abs(float(np.median(values))) <= robust_half_width(values.tolist())
        for values in generator.normal(0, 1, (3000, count))
    ]
    assert 0.82 < np.mean(held) < 0.99


def test_one_anchor_has_the_most_weights() -> None:
    blocks = open_space("df-mini").blocks(32, 32)
    entries = [
        TableEntry(
            key=block.key,
            kind=block.kind,
            text=block.text,
            hot=summarise([[1.0 + number / 10]]),
            cold=None,
            macs=block.macs,
            weight_bytes=4 * block.params,
            input_shapes=block.input_shapes,
            output_shape=block.output_shape,
            passes=1,
        )
        for number, block in enumerate({block.key: block for block in blocks}.values())
    ]
    found = anchor_blocks(entries, blocks)
    assert len(found) == len({block.key for block in found}) == 3
    assert max(block.params for block in found) == max(block.params for block in blocks)
    assert len(anchor_blocks(entries[:2], blocks)) == 2
    assert len(anchor_blocks(entries[:1], blocks)) == 1
    assert anchor_blocks([], blocks) == []
