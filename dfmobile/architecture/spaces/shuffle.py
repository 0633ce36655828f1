"""The shuffle spaces: ShuffleNetV2 units as PL1A-Seg has them, one width and one depth a stage."""

from __future__ import annotations

from dfmobile.architecture import zoo
from dfmobile.architecture.encoding import Architecture
from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.architecture.spaces.decoders import DecoderChoices

# From the stem's 24 on by doubling: PL1A's 48, 96, 192 and one step to either side.
SHUFFLE_WIDTHS = (24, 48, 96, 192, 384)
# PL1A's stage 4 has 8 blocks.
SHUFFLE_MAX_DEPTH = 8
SHUFFLE_DECODERS = DecoderChoices(controllers=(24, 48, 96, 192), output_strides=(4, 8))


def shuffle_space(max_depth: int | None = None) -> ChainSpace:
    """Backbones with PL1A's stem: each stage a width of 24 to 384 and a depth, 1000 classes."""
    return _space("shuffle", "shuffle/1x24/1x24/1x24", max_depth, None)


def shuffle_seg_space(max_depth: int | None = None) -> ChainSpace:
    """The same backbones with PL1A's decoder: controllers of 24 to 192, scores at stride 4 or 8, 19 classes."""
    return _space("shuffle-seg", "shuffle/1x24/1x24/1x24+seg:24,24,24", max_depth, SHUFFLE_DECODERS)


def _space(name: str, text: str, max_depth: int | None, decoders: DecoderChoices | None) -> ChainSpace:
    template = Architecture.parse(text)
    depth = SHUFFLE_MAX_DEPTH if max_depth is None else max_depth
    return ChainSpace(name, template, SHUFFLE_WIDTHS, depth, zoo.default_input(template), decoders)
