"""The DF spaces: backbones of basic blocks (Li et al., CVPR 2019), full-size and mini."""

from __future__ import annotations

from dfmobile.architecture.encoding import Architecture
from dfmobile.architecture.spaces.chains import ChainSpace

DF_WIDTHS = (64, 128, 256, 512, 1024)
MINI_WIDTHS = (8, 16, 24, 40, 64)
# Deep enough for every published DF backbone: DF2's stage 4 has 11 blocks.
DF_MAX_DEPTH = 11
MINI_MAX_DEPTH = 2


def df_space(max_depth: int | None = None) -> ChainSpace:
    """The paper's space: widths 64 to 1024, stem of two stride-2 convs, 1000 classes, 224x224 by default."""
    template = Architecture.parse("df/64/64/64")
    return ChainSpace("df", template, DF_WIDTHS, DF_MAX_DEPTH if max_depth is None else max_depth, (224, 224))


def df_mini_space(max_depth: int | None = None) -> ChainSpace:
    """The same shape for thumbnails: widths 8 to 64, one stride-1 stem conv, 10 classes, grey 32x32.

    Small enough to train in seconds on a CPU, so that the network that is trained is the one that is measured and
    exported.
    """
    template = Architecture.parse("df,stem=8s1,classes=10,channels=1/8/8/8")
    return ChainSpace("df-mini", template, MINI_WIDTHS, MINI_MAX_DEPTH if max_depth is None else max_depth, (32, 32))
