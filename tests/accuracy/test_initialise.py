"""Starting weights."""

from __future__ import annotations

import numpy as np
import pytest

from dfmobile.accuracy.initialise import initial_weights, last_scales
from dfmobile.architecture import Architecture, build
from dfmobile.graph import Graph


def graph(encoding: str) -> Graph:
    return build(Architecture.parse(encoding), 64, 64).graph


def test_the_last_scale_of_each_residual_block_is_zero() -> None:
    network = graph("dfb/64,64,128/128x2,256/256")
    zero = last_scales(network)
    assert zero == [
        *(f"stage3.block{number}.conv2.bn.scale" for number in (1, 2, 3)),
        *(f"stage4.block{number}.conv3.bn.scale" for number in (1, 2, 3)),
        "stage5.block1.conv3.bn.scale",
    ]
    weights = initial_weights(network, seed=0)
    scales = {name for name in weights if name.endswith(".scale")}
    assert {name for name in scales if not weights[name].any()} == set(zero)
    assert all((weights[name] == 1).all() for name in scales - set(zero))


@pytest.mark.parametrize("encoding", ["shuffle/4x48/8x96/4x192", "df/64/64/64+seg:19,32,128"])
def test_only_adds_of_residual_blocks_count(encoding: str) -> None:
    assert all("conv2.bn" in name for name in last_scales(graph(encoding)))


def test_weights_are_a_function_of_the_seed() -> None:
    network = graph("df/64/64/64")
    weights = initial_weights(network, 3)
    network.check_weights(weights)
    again, other = initial_weights(network, 3), initial_weights(network, 4)
    assert all(np.array_equal(weights[name], again[name]) for name in weights)
    assert not np.array_equal(weights["stem.conv1.weight"], other["stem.conv1.weight"])
    assert np.std(weights["stage3.block1.conv2.weight"]) == pytest.approx(np.sqrt(2 / (9 * 64)), rel=0.05)
