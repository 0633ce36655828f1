"""Procedural scenes: the same bits everywhere, every class there, sensible streets."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from dfmobile.data.cityscapes import CLASS_NAMES
from dfmobile.data.scene_series import FIRST_VALIDATION, open_scenes, paint_series, scene_count
from dfmobile.data.scenes import labels, render_scene
from dfmobile.errors import FileFormatError, InputError

LEAST_SHARE = 0.003
GOLDEN = ["51cbb6b46c59b83c", "a6ca03e3afc69277"]


def digest(seed: int, index: int, width: int, height: int) -> str:
    image, label_map = render_scene(seed, index, width, height)
    return hashlib.sha256(image.tobytes() + label_map.tobytes()).hexdigest()[:16]


def test_a_scene_is_an_image_and_a_class_for_every_pixel() -> None:
    image, label_map = render_scene(0, 0, 160, 96)
    assert (image.shape, image.dtype) == ((3, 96, 160), np.uint8)
    assert (label_map.shape, label_map.dtype) == ((96, 160), np.uint8)
    assert label_map.max() < len(CLASS_NAMES)
    assert image.std() > 20


def test_scenes_have_the_same_bits_on_every_machine() -> None:
    # Recorded once. Another digest is another generator: raise dfmobile.data.scenes.VERSION with it.
    assert [digest(0, 0, 128, 64), digest(7, 3, 256, 128)] == GOLDEN


def test_seed_and_index_make_the_scene() -> None:
    found = {digest(seed, index, 64, 32) for seed in range(3) for index in range(3)}
    assert len(found) == 9
    assert digest(1, 2, 64, 32) == digest(1, 2, 64, 32)


def test_every_class_has_its_share_of_pixels() -> None:
    _, label_maps = paint_series(0, 0, 150, 128, 64)
    shares = np.bincount(label_maps.ravel(), minlength=len(CLASS_NAMES)) / label_maps.size
    assert len(shares) == len(CLASS_NAMES)
    for name, share in zip(CLASS_NAMES, shares, strict=True):
        assert share >= LEAST_SHARE, f"{name} has {share:.2%} of the pixels"


def test_streets_are_streets() -> None:
    _, label_maps = paint_series(0, 0, 60, 128, 64)
    bottom = label_maps[:, 0, -2:]
    top = label_maps[:, 0, :4]
    assert (bottom == labels.ROAD).mean() > 0.6
    assert not np.isin(top, (labels.ROAD, labels.SIDEWALK, labels.TERRAIN)).any()
    assert not (bottom == labels.SKY).any()


def test_another_size_is_the_same_street() -> None:
    small, large = (render_scene(0, 5, width, width // 2)[1] for width in (128, 256))
    assert (large[1::2, 1::2] == small).mean() > 0.9


@pytest.mark.parametrize(("width", "height"), [(31, 64), (64, 16), (2048, 512), (1024, 513)])
def test_absurd_sizes_are_refused(width: int, height: int) -> None:
    with pytest.raises(InputError, match=f"scenes of {width}x{height} are not painted"):
        render_scene(0, 0, width, height)


def test_extreme_sizes_are_painted() -> None:
    for width, height in ((32, 32), (1024, 32), (32, 512), (1024, 512)):
        image, label_map = render_scene(0, 1, width, height)
        assert image.shape[1:] == label_map.shape == (height, width)


def test_held_out_scenes_are_others() -> None:
    data = open_scenes("scenes:4", (64, 32), 3, 0, None)
    assert (len(data.train), len(data.validation)) == (4, 3)
    held_out, _ = data.validation.read(np.array([0]))
    assert np.array_equal(held_out[0], render_scene(0, FIRST_VALIDATION, 64, 32)[0])
    assert data.describe()["origin"].startswith("procedural")
    assert "synthetic" in data.describe()["origin"]


@pytest.mark.parametrize("name", ["scenes:", "scenes:1", "scenes:-5", "scenes:x", "scenes:9999999", "scenes:100001"])
def test_numbers_of_scenes_out_of_range_are_refused(name: str) -> None:
    with pytest.raises(InputError, match="no number of scenes"):
        scene_count(name)


def test_more_scenes_than_memory_are_refused() -> None:
    with pytest.raises(InputError, match="do not fit into memory"):
        open_scenes("scenes:100000", (1024, 512), 3, 0, None)


def test_the_cache_gives_the_same_scenes(tmp_path: Path) -> None:
    fresh = open_scenes("scenes:3", (64, 32), 2, 5, None)
    written = open_scenes("scenes:3", (64, 32), 2, 5, tmp_path / "cache")
    assert len(list((tmp_path / "cache").iterdir())) == 2
    from dfmobile.data import scene_series

    scene_series._open.cache_clear()
    read = open_scenes("scenes:3", (64, 32), 2, 5, tmp_path / "cache")
    for data in (written, read):
        for side in ("train", "validation"):
            for ours, theirs in zip(
                getattr(data, side).read(np.array([1])), getattr(fresh, side).read(np.array([1])), strict=True
            ):
                assert np.array_equal(ours, theirs)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"\x93NUMPY"])
def test_a_damaged_cache_is_named(tmp_path: Path, content: bytes) -> None:
    open_scenes("scenes:2", (32, 32), 2, 6, tmp_path)
    from dfmobile.data import scene_series

    scene_series._open.cache_clear()
    for path in tmp_path.iterdir():
        path.write_bytes(content)
    with pytest.raises(FileFormatError, match=r"scenes-v\d+-seed6"):
        open_scenes("scenes:2", (32, 32), 2, 6, tmp_path)
