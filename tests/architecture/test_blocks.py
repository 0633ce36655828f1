"""Blocks op by op: what a reader of the published tables could miss."""

from __future__ import annotations

from typing import TypeVar

import pytest
from architecture_strategies import architectures
from hypothesis import given, settings

from dfmobile.architecture import Architecture, blocks, build
from dfmobile.architecture.blocks import Block
from dfmobile.errors import GraphError
from dfmobile.graph import Graph, GraphBuilder, Shape, ops

OpType = TypeVar("OpType", bound=ops.Op)


def graph_of(block: Block, *shapes: Shape) -> Graph:
    builder = GraphBuilder()
    inputs = [builder.input(f"input{number}", shape) for number, shape in enumerate(shapes)]
    return builder.build(block.emit(builder, "block", *inputs))


def op_of(graph: Graph, name: str, kind: type[OpType]) -> OpType:
    op = next(node.op for node in graph.nodes if node.name == name)
    assert isinstance(op, kind)
    return op


def kinds(graph: Graph) -> list[str]:
    return [node.op.kind for node in graph.nodes]


class TestResidualBlocks:
    def test_basic_has_its_relu_after_the_add(self) -> None:
        graph = graph_of(blocks.Basic(64, 1, projection=False), (1, 64, 8, 8))
        assert kinds(graph) == ["conv", "batch_norm", "relu", "conv", "batch_norm", "add", "relu"]
        assert graph.nodes[-2].inputs == ("block.conv2.bn", "input0")
        assert graph.outputs == ("block.relu",)

    def test_a_projection_is_a_strided_1x1_with_batch_norm_and_no_relu(self) -> None:
        graph = graph_of(blocks.Basic(64, 2, projection=True), (1, 32, 8, 8))
        projection = op_of(graph, "block.projection", ops.Conv)
        assert (projection.kernel, projection.stride, projection.padding) == ((1, 1), (2, 2), (0, 0))
        assert [node.op.kind for node in graph.consumers["block.projection"]] == ["batch_norm"]
        assert [node.op.kind for node in graph.consumers["block.projection.bn"]] == ["add"]
        assert graph.shapes[graph.outputs[0]] == (1, 64, 4, 4)

    def test_df_bottleneck_strides_in_its_3x3(self) -> None:
        graph = graph_of(blocks.Bottleneck(64, 256, 2, projection=True), (1, 128, 8, 8))
        strides = [op_of(graph, f"block.conv{number}", ops.Conv).stride for number in (1, 2, 3)]
        assert strides == [(1, 1), (2, 2), (1, 1)]

    def test_resnet_v1_bottleneck_strides_in_its_first_1x1(self) -> None:
        graph = build(Architecture.parse("resnetb/64/128/256/512"), 224, 224).graph
        assert op_of(graph, "stage3.block1.conv1", ops.Conv).stride == (2, 2)
        assert op_of(graph, "stage3.block1.conv2", ops.Conv).stride == (1, 1)
        assert op_of(graph, "stage2.block1.conv1", ops.Conv).stride == (1, 1)

    def test_an_identity_shortcut_of_another_width_is_refused(self) -> None:
        with pytest.raises(GraphError, match="add takes equal shapes"):
            graph_of(blocks.Basic(64, 1, projection=False), (1, 32, 8, 8))


class TestProjections:
    @settings(max_examples=50)
    @given(architectures(max_width=64, families=("df", "dfb")))
    def test_df_projects_in_first_blocks_and_where_the_width_changes(self, architecture: Architecture) -> None:
        stride = architecture.total_stride
        names = {node.name for node in build(architecture, stride, stride).graph.nodes}
        for number, stage in enumerate(architecture.stages, 3):
            before = None
            for position, width in enumerate(stage.widths, 1):
                name = f"stage{number}.block{position}.projection"
                assert (name in names) == (width != before), name
                before = width

    def test_df_projects_where_only_the_mid_width_changes(self) -> None:
        """DF2A's stage 5: 256 to 512 mid channels, 1024 channels in and out, stride 1, and still a projection."""
        network = build(Architecture.parse("dfb/64/64/256,512,512"), 224, 224)
        block = next(block for block in network.blocks if block.name == "stage5.block2")
        assert block.input_shapes == ((1, 1024, 7, 7),)
        assert block.output_shape == (1, 1024, 7, 7)
        assert block.block == blocks.Bottleneck(512, 1024, 1, projection=True)
        assert network.blocks[-2].block == blocks.Bottleneck(512, 1024, 1, projection=False)

    def test_bottleneck_width_is_four_times_the_mid_width_up_to_1024_in_df_only(self) -> None:
        df = build(Architecture.parse("dfb/8/64,128,256/512,2048"), 224, 224)
        assert [block.output_shape[1] for block in df.blocks[2:7]] == [256, 512, 1024, 1024, 1024]
        resnet = build(Architecture.parse("resnetb/64/128/256/512"), 224, 224)
        assert [block.output_shape[1] for block in resnet.blocks[1:5]] == [256, 512, 1024, 2048]

    def test_resnet_projects_where_the_shape_changes(self) -> None:
        def projecting(text: str) -> list[str]:
            graph = build(Architecture.parse(text), 224, 224).graph
            return [node.name.split(".")[0] for node in graph.nodes if node.name.endswith("projection")]

        assert projecting("resnet/64x2/128x2/256x2/512x2") == ["stage3", "stage4", "stage5"]
        assert projecting("resnetb/64x3/128x4/256x6/512x3") == ["stage2", "stage3", "stage4", "stage5"]


class TestBatchNorm:
    @pytest.mark.parametrize("text", ["df/8/8/8", "dfb/8/8/8", "df/8/8/8+seg:8,8,8"])
    def test_every_epsilon_of_df_is_1e_4(self, text: str) -> None:
        graph = build(Architecture.parse(text), 32, 32).graph
        assert {node.op.epsilon for node in graph.nodes if isinstance(node.op, ops.BatchNorm)} == {1e-4}

    @pytest.mark.parametrize("text", ["shuffle/2x8/2x8/2x8+seg:8,8,8", "resnet/8/8/8/8", "resnetb/8/8/8/8"])
    def test_the_others_have_the_usual_1e_5(self, text: str) -> None:
        graph = build(Architecture.parse(text), 32, 32).graph
        assert {node.op.epsilon for node in graph.nodes if isinstance(node.op, ops.BatchNorm)} == {1e-5}


class TestShuffle:
    def test_unit_concatenates_before_it_shuffles(self) -> None:
        graph = graph_of(blocks.ShuffleUnit(8), (1, 8, 6, 6))
        assert kinds(graph)[-2:] == ["concat", "channel_shuffle"]
        concat = graph.nodes[-2]
        assert concat.inputs == ("block.split:0", "block.conv2.relu")
        assert graph.shapes[graph.outputs[0]] == (1, 8, 6, 6)

    def test_depthwise_convs_have_no_relu(self) -> None:
        for block, channels in ((blocks.ShuffleUnit(8), 8), (blocks.ShuffleDown(8), 6)):
            graph = graph_of(block, (1, channels, 6, 6))
            for node in graph.nodes:
                if isinstance(node.op, ops.DepthwiseConv):
                    (norm,) = graph.consumers[node.outputs[0]]
                    assert [reader.op.kind for reader in graph.consumers[norm.outputs[0]]] == ["conv"]

    def test_down_unit_sends_all_channels_through_both_branches(self) -> None:
        graph = graph_of(blocks.ShuffleDown(8), (1, 6, 6, 6))
        assert graph.shapes["block.left.depthwise"] == (1, 6, 3, 3)
        assert graph.shapes["block.left.conv"] == graph.shapes["block.right.conv2"] == (1, 4, 3, 3)
        assert graph.shapes[graph.outputs[0]] == (1, 8, 3, 3)


class TestDecoders:
    def test_df_pyramid_resizes_with_aligned_corners_and_pl1a_by_half_pixels(self) -> None:
        for text, aligned in (("df/8/8/8+seg:8,8,8", True), ("shuffle/1x8/1x8/1x8+seg:8,8,8", False)):
            graph = build(Architecture.parse(text), 128, 64).graph
            resizes = [node.op for node in graph.nodes if isinstance(node.op, ops.ResizeBilinear)]
            assert [resize.align_corners for resize in resizes] == [aligned] * 4

    def test_df_pyramid_has_the_published_widths_whatever_the_backbone(self) -> None:
        graph = build(Architecture.parse("df/8/8/8+seg:8,8,8"), 128, 64).graph
        assert graph.shapes["pyramid.pool1.conv"][1] == 128
        assert graph.shapes["pyramid.concat"][1] == 8 + 4 * 128
        assert graph.shapes["pyramid.fuse"][1] == 512

    def test_pyramid_concatenates_the_input_first(self) -> None:
        graph = build(Architecture.parse("df/8/8/8+seg:8,8,8"), 128, 64).graph
        concat = next(node for node in graph.nodes if node.name == "pyramid.concat")
        assert concat.inputs == ("stage5.block1.relu", *(f"pyramid.pool{number}.resize" for number in (1, 2, 3, 4)))

    def test_fusion_concatenates_the_controller_before_the_upsampled_map(self) -> None:
        graph = build(Architecture.parse("df/8/8/8+seg:8,16,24"), 128, 64).graph
        concat = next(node for node in graph.nodes if node.name == "fusion4.concat")
        assert concat.inputs == ("controller4.conv.relu", "fusion4.upsample")
        assert op_of(graph, "fusion4.upsample", ops.BilinearUpsample).scale == 2
        # A fusion node is as wide as its controller.
        assert graph.shapes["fusion4.projection"][1] == graph.shapes["fusion4.fuse"][1] == 16
        assert graph.shapes["fusion3.projection"][1] == graph.shapes["fusion3.fuse"][1] == 8

    def test_df_scores_have_batch_norm_and_pl1a_scores_a_bias(self) -> None:
        df = build(Architecture.parse("df/8/8/8+seg:8,8,8"), 64, 64).graph
        assert not op_of(df, "score.conv", ops.Conv).bias
        assert df.nodes[-2].op.kind == "batch_norm"
        assert op_of(df, "score.upsample", ops.BilinearUpsample).scale == 8
        pl1a = build(Architecture.parse("shuffle/1x8/1x8/1x8+seg:8,8,8"), 64, 64).graph
        classifier = op_of(pl1a, "score.conv", ops.Conv)  # a full conv, not a depthwise one
        assert (classifier.kernel, classifier.bias) == ((3, 3), True)
        assert [node.op.kind for node in pl1a.consumers["score.conv"]] == ["bilinear_upsample"]

    def test_stride_8_scores_are_not_upsampled(self) -> None:
        graph = build(Architecture.parse("df/8/8/8+seg:8,8,8:d8"), 64, 64).graph
        assert graph.outputs == ("score.conv.bn",)
        assert graph.shapes["score.conv.bn"] == (1, 19, 8, 8)
