"""Weights are taken in either form, and told which network they are not of."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dfmobile.architecture import Architecture, build
from dfmobile.errors import InputError
from dfmobile.export.network_weights import network_weights
from dfmobile.export.weights import save_weights
from dfmobile.graph import initialise, reference
from dfmobile.graph.fold import fold_batch_norm, fold_weights

NETWORK = build(Architecture.parse("df,stem=8s1,classes=10/8/16/24"), 16, 16)


def test_both_forms_give_the_same_network(tmp_path: Path) -> None:
    weights = initialise(NETWORK.graph, 1)
    save_weights(tmp_path / "training.npz", weights, {"encoding": "x"})
    save_weights(tmp_path / "deployed.npz", fold_weights(NETWORK.graph, weights), {})
    image = np.random.default_rng(0).standard_normal(NETWORK.input_shape, np.float32)
    outputs = []
    for name, graph in (("training", NETWORK.graph), ("deployed", fold_batch_norm(NETWORK.graph))):
        found, values, _ = network_weights(NETWORK, tmp_path / f"{name}.npz")
        assert found.key == graph.key
        outputs.extend(reference.run(found, values, {"image": image}).values())
    assert np.allclose(*outputs, atol=1e-4)


def test_those_of_another_network_are_refused(tmp_path: Path) -> None:
    other = build(Architecture.parse("df,stem=8s1,classes=10/8,8/16/24"), 16, 16)
    weights = initialise(other.graph, 1)
    save_weights(tmp_path / "w.npz", weights, {"encoding": other.architecture.text})
    with pytest.raises(InputError, match=r"w\.npz does not fit df") as caught:
        network_weights(NETWORK, tmp_path / "w.npz")
    assert other.architecture.text in str(caught.value.hint)
    save_weights(tmp_path / "w.npz", fold_weights(other.graph, weights), {})
    with pytest.raises(InputError, match="belongs to no op"):
        network_weights(NETWORK, tmp_path / "w.npz")
