"""Networks: input sizes, block names, keys, and blocks that together are exactly the network."""

from __future__ import annotations

import numpy as np
import pytest
from architecture_strategies import architectures
from hypothesis import given, settings
from hypothesis import strategies as st

from dfmobile.architecture import Architecture, build
from dfmobile.errors import InputError
from dfmobile.graph import cost, initialise
from dfmobile.graph.exported import exported_form
from dfmobile.graph.fold import fold_batch_norm
from dfmobile.graph.reference import run

TINY = [
    "df/4,6/8/8,10",
    "df,stem=4s1,channels=1,classes=10/4/6/8,8",
    "df/4/6/8+seg:4,6,8",
    "df/4/6/8+seg:4,6,8:d8",
    "dfb/4/4,6/8",
    "shuffle/2x8/1x12/2x16+seg:4,6,8",
    "resnet/4/6,6/8/8",
    "resnetb/4,4/6/8/8",
]


@pytest.mark.parametrize(
    ("width", "height"),
    [(0, 0), (-32, 32), (1, 1), (33, 32), (32, 33), (224, 200), (16, 16), (640, 360), (2048, 1023)],
)
def test_other_sizes_than_multiples_of_32_are_refused_with_the_nearest(width: int, height: int) -> None:
    with pytest.raises(InputError, match="is not a multiple of 32") as caught:
        build(Architecture.parse("df/8/8/8"), width, height)
    good_width, good_height = caught.value.hint.rpartition(" ")[2].split("x")
    build(Architecture.parse("df/8/8/8"), int(good_width), int(good_height))


def test_the_multiple_follows_from_the_stem() -> None:
    mini = Architecture.parse("df,stem=8s1/8/8/8")
    assert build(mini, 8, 40).blocks[-1].input_shapes == ((1, 8, 5, 1),)
    with pytest.raises(InputError, match=r"input 12x8 .* is not a multiple of 8"):
        build(mini, 12, 8)


@pytest.mark.parametrize("size", [(8224, 32), (32, 8224), (10**30, 32), (32, 10**5000)])
def test_absurd_sizes_are_refused(size: tuple[int, int]) -> None:
    with pytest.raises(InputError, match="larger than 8192"):
        build(Architecture.parse("df/8/8/8"), *size)


@pytest.mark.parametrize("text", TINY)
def test_blocks_together_compute_what_the_network_computes(text: str) -> None:
    """A latency table's blocks, run one after another, are the whole network: nothing missing, nothing twice."""
    network = build(Architecture.parse(text), 64, 32)
    weights = initialise(network.graph, seed=7)
    image = np.random.default_rng(1).normal(size=network.input_shape)
    expected = run(network.graph, weights, {"image": image})[network.graph.outputs[0]]

    exported = exported_form(network.graph).weights(weights)  # carries the order of channels from block to block
    values = {"image": image}
    for block in network.blocks:
        own = {
            "block" + name.removeprefix(block.name): weight
            for name, weight in exported.items()
            if name.startswith(f"{block.name}.")
        }
        inputs = {f"input{number}": values[source] for number, source in enumerate(block.sources)}
        values[block.name] = run(block.graph, own, inputs)[block.graph.outputs[0]]
        assert values[block.name].shape == block.output_shape
    assert np.allclose(values[network.blocks[-1].name], expected, rtol=0, atol=1e-4 * expected.std())


@settings(max_examples=50)
@given(architectures(max_width=64, max_depth=3), st.integers(1, 3), st.integers(1, 3), st.integers(1, 2))
def test_costs_and_shapes_of_blocks_add_up_to_the_network(
    architecture: Architecture, columns: int, rows: int, batch: int
) -> None:
    stride = architecture.total_stride
    network = build(architecture, columns * stride, rows * stride, batch)
    assert network.input_shape == (batch, architecture.in_channels, rows * stride, columns * stride)
    assert sum(block.macs for block in network.blocks) == network.cost.macs
    assert sum(block.params for block in network.blocks) == network.cost.params
    assert sum(cost.params(block.graph) for block in network.blocks) == network.cost.params_deployed
    assert network.cost.params_deployed == cost.params(fold_batch_norm(network.graph))
    assert network.blocks[-1].output_shape == network.output_shape
    if architecture.decoder is None:
        assert network.output_shape == (batch, architecture.classes)
    else:
        scores = (rows * stride // architecture.decoder.output_stride, columns * stride)
        assert network.output_shape[:3] == (batch, architecture.classes, scores[0])
        assert network.output_shape[3] == scores[1] // architecture.decoder.output_stride


def test_block_names_and_sources() -> None:
    network = build(Architecture.parse("df/8,8/8/8+seg:8,8,8"), 64, 64)
    assert [(block.name, block.kind, block.sources) for block in network.blocks] == [
        ("stem", "stem", ("image",)),
        ("stage3.block1", "basic", ("stem",)),
        ("stage3.block2", "basic", ("stage3.block1",)),
        ("stage4.block1", "basic", ("stage3.block2",)),
        ("stage5.block1", "basic", ("stage4.block1",)),
        ("pyramid", "pyramid_pooling", ("stage5.block1",)),
        ("controller3", "channel_controller", ("stage3.block2",)),
        ("controller4", "channel_controller", ("stage4.block1",)),
        ("controller5", "channel_controller", ("pyramid",)),
        ("fusion4", "fusion_node", ("controller4", "controller5")),
        ("fusion3", "fusion_node", ("controller3", "fusion4")),
        ("score", "score_head", ("fusion3",)),
    ]


class TestKeys:
    def test_equal_blocks_share_a_key_wherever_they_stand(self) -> None:
        one = build(Architecture.parse("df/8,8,8/8/8"), 64, 64)
        other = build(Architecture.parse("df/8,8/16/16"), 64, 64)
        assert one.blocks[2].key == one.blocks[3].key == other.blocks[2].key
        assert one.blocks[1].key != one.blocks[2].key  # stride 2 and a projection

    def test_a_key_has_shapes_and_no_names(self) -> None:
        block = build(Architecture.parse("df/8/8/8"), 64, 64).blocks[1]
        assert block.key.startswith("f32 1x64x16x16 | conv(out_channels=8,kernel=3x3,stride=2x2,padding=1x1,bias=1)")
        assert "stage" not in block.key
        assert "batch_norm" not in block.key

    def test_input_size_and_batch_are_in_the_key(self) -> None:
        architecture = Architecture.parse("df/8/8/8")
        keys = {build(architecture, width, 64, batch).blocks[1].key for width, batch in ((64, 1), (96, 1), (64, 2))}
        assert len(keys) == 3

    def test_epsilon_is_not_in_the_key(self) -> None:
        """It is folded away: a ResNet's basic block and DF's take the same time."""
        df = build(Architecture.parse("df/64/64,64/64"), 64, 64)
        resnet = build(Architecture.parse("resnet/64x2/64x2/64x2/64x2"), 64, 64)
        identity = next(block for block in df.blocks if block.name == "stage4.block2")
        assert identity.key in {block.key for block in resnet.blocks}

    def test_text_for_people(self) -> None:
        block = build(Architecture.parse("df/8/8/8"), 64, 64).blocks[1]
        assert block.text == f"basic 64x16x16 -> 8x8x8 ({block.digest})"
        assert len(block.digest) == 12
