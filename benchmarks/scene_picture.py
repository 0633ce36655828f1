"""The picture of procedural scenes in the documentation: images on the left, their labels in Cityscapes' colours.

Run: ``python benchmarks/scene_picture.py -o docs/images/scenes.png``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

from dfmobile.data.cityscapes import PALETTE
from dfmobile.data.scenes import render_scene

SCENES = (4, 3, 9)
WIDTH, HEIGHT = 320, 160


def main() -> None:
    """Paint and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", "-o", type=Path, default=Path("docs/images/scenes.png"))
    output = parser.parse_args().output
    rows = []
    for index in SCENES:
        image, labels = render_scene(0, index, WIDTH, HEIGHT)
        rows.append(np.concatenate([np.moveaxis(image, 0, 2), PALETTE[labels]], axis=1))
    sheet = Image.fromarray(np.concatenate(rows, axis=0))
    # 256 colours: a third of the size, and no difference to see.
    sheet.quantize(256).save(output, optimize=True)


if __name__ == "__main__":
    main()
