"""The DF spaces (Li et al., CVPR 2019): backbones of basic or bottleneck blocks, mini ones, and segmentation."""

from __future__ import annotations

from dfmobile.architecture import zoo
from dfmobile.architecture.encoding import Architecture
from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.architecture.spaces.decoders import DecoderChoices

DF_WIDTHS = (64, 128, 256, 512, 1024)
# Wider mids would make no wider blocks: out = min(4·mid, 1024).
BOTTLENECK_WIDTHS = (64, 128, 256, 512)
MINI_WIDTHS = (8, 16, 24, 40, 64)
# Deep enough for every published DF backbone: the stages 4 of DF2 and DF2A have 11 blocks.
DF_MAX_DEPTH = 11
MINI_MAX_DEPTH = 2
# All that the published DF-Seg networks have.
DF_DECODERS = DecoderChoices(controllers=(19, 32, 128, 256, 512), output_strides=(1, 8))


def df_space(max_depth: int | None = None) -> ChainSpace:
    """The paper's space: widths 64 to 1024, stem of two stride-2 convs, 1000 classes, 224x224 by default."""
    return _space("df", "df/64/64/64", DF_WIDTHS, max_depth, None)


def df_bottleneck_space(max_depth: int | None = None) -> ChainSpace:
    """DF2A's kind: stage 3 basic, stages 4 and 5 bottleneck; widths (there: mid widths) 64 to 512."""
    return _space("df-bottleneck", "dfb/64/64/64", BOTTLENECK_WIDTHS, max_depth, None)


def df_seg_space(max_depth: int | None = None) -> ChainSpace:
    """The ``df`` backbones with DF-Seg's decoder: controllers of 19 to 512, scores at stride 1 or 8, 19 classes."""
    return _space("df-seg", "df/64/64/64+seg:19,19,19", DF_WIDTHS, max_depth, DF_DECODERS)


def df_mini_space(max_depth: int | None = None) -> ChainSpace:
    """The same shape for thumbnails: widths 8 to 64, one stride-1 stem conv, 10 classes, grey 32x32.

    Small enough to train in seconds on a CPU, so that the network that is trained is the one that is measured and
    exported.
    """
    depth = MINI_MAX_DEPTH if max_depth is None else max_depth
    return _space("df-mini", "df,stem=8s1,classes=10,channels=1/8/8/8", MINI_WIDTHS, depth, None)


def df_cifar_space(max_depth: int | None = None) -> ChainSpace:
    """``df-mini`` for colour images, its stem conv with stride 2: what the evaluator ``tabular`` knows at depth 2."""
    depth = MINI_MAX_DEPTH if max_depth is None else max_depth
    return _space("df-cifar", "df,stem=8s2,classes=10/8/8/8", MINI_WIDTHS, depth, None)


def _space(
    name: str, text: str, widths: tuple[int, ...], max_depth: int | None, decoders: DecoderChoices | None
) -> ChainSpace:
    template = Architecture.parse(text)
    depth = DF_MAX_DEPTH if max_depth is None else max_depth
    return ChainSpace(name, template, widths, depth, zoo.default_input(template), decoders)
