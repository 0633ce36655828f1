"""Small networks with weights in files, and pictures, for tests of inference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from dfmobile.architecture import Network, build, resolve
from dfmobile.data.input_preprocessing import Preprocessing
from dfmobile.export.weights import save_weights
from dfmobile.graph import initialise

SEGMENTATION = "shuffle/2x16/2x32/2x64+seg:16,32,64"
CLASSIFIER = "df,stem=8s1,classes=3/8/8/16"
BGR = Preprocessing("BGR", (104.0, 117.0, 123.0), (0.008, 0.008, 0.008), "a test")


def small_network(encoding: str = SEGMENTATION, size: tuple[int, int] = (128, 64)) -> Network:
    return build(resolve(encoding), *size)


def weights_file(path: Path, network: Network, **metadata: str) -> Path:
    save_weights(
        path, initialise(network.graph, 1), {"encoding": network.architecture.text, **BGR.metadata(), **metadata}
    )
    return path


def class_texts(*names: str) -> dict[str, str]:
    return {"classes": json.dumps(names)}


def picture(path: Path, size: tuple[int, int] = (128, 64), seed: int = 0, grey: bool = False) -> Path:
    """Write a smooth random picture: noise has no label map that survives a resize."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8) if grey else (6, 8, 3), np.uint8)
    Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).save(path)
    return path
