"""Folders of images: layouts, options, and every way in which they can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dfmobile.data import open_data, preprocessing
from dfmobile.errors import FileFormatError, InputError

CIFAR = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "cifar10_subset.tar"


def write_image(path: Path, value: int = 0, size: tuple[int, int] = (6, 4), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = value if mode == "L" else (value, 0, 255)
    Image.new(mode, size, colour).save(path)


def make_tree(root: Path, sides: tuple[str, ...] = ("train", "val"), mode: str = "RGB") -> Path:
    for side in sides:
        for value, name in enumerate(("cat", "dog")):
            for number in range(4):
                write_image(root / side / name / f"{number}.png", 10 * value + number, mode=mode)
    return root


def test_a_tree_with_train_and_val(tmp_path: Path) -> None:
    data = open_data(str(make_tree(tmp_path)))
    assert data.train.class_names == ("cat", "dog")
    assert (len(data.train), len(data.validation), data.channels, data.size) == (8, 8, 3, (6, 4))
    assert data.train.images[5, :, 0, 0].tolist() == [11, 0, 255]
    assert data.train.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert data.describe()["split"] == "folders train and val"


def test_test_is_used_where_there_is_no_val(tmp_path: Path) -> None:
    assert open_data(str(make_tree(tmp_path, ("train", "test")))).describe()["split"] == "folders train and test"


def test_a_tree_of_classes_alone_is_split(tmp_path: Path) -> None:
    make_tree(tmp_path, (".",))
    data = open_data(str(tmp_path), train_fraction=0.75, split_seed=3)
    assert data.train.class_counts().tolist() == [3, 3]
    assert data.validation.class_counts().tolist() == [1, 1]
    assert data.describe()["split_seed"] == 3


def test_grey_images_have_one_channel_unless_asked(tmp_path: Path) -> None:
    make_tree(tmp_path, mode="L")
    assert open_data(str(tmp_path)).channels == 1
    assert open_data(str(tmp_path), channels=3).channels == 3
    write_image(tmp_path / "train" / "dog" / "colour.png")
    assert open_data(str(tmp_path)).channels == 3
    assert open_data(str(tmp_path), channels=1).channels == 1


def test_images_are_resized_where_a_size_is_given(tmp_path: Path) -> None:
    make_tree(tmp_path)
    write_image(tmp_path / "val" / "dog" / "large.png", size=(60, 40))
    with pytest.raises(InputError, match=r"large\.png is 60x40, the images before it are 6x4"):
        open_data(str(tmp_path))
    data = open_data(str(tmp_path), image_size=(16, 8))
    assert data.size == (16, 8)
    assert data.describe()["preprocessing"] == "bilinear resize to 16x8"


def test_opening_again_decodes_once_until_a_file_changes(tmp_path: Path) -> None:
    make_tree(tmp_path)
    first = open_data(str(tmp_path))
    assert open_data(str(tmp_path)) is first
    write_image(tmp_path / "train" / "dog" / "new.png", 200)
    again = open_data(str(tmp_path))
    assert len(again.train) == 9
    assert again.describe()["fingerprint"] != first.describe()["fingerprint"]


def test_the_record_does_not_depend_on_where_the_tree_is(tmp_path: Path) -> None:
    records = [open_data(str(make_tree(tmp_path / name / "pets"))).describe() for name in "ab"]
    assert records[0] == records[1]


def test_other_files_are_counted_and_hidden_ones_skipped(tmp_path: Path) -> None:
    make_tree(tmp_path)
    (tmp_path / "train" / "dog" / "notes.txt").write_text("x")
    (tmp_path / "train" / "dog" / ".DS_Store").write_text("x")
    (tmp_path / "train" / ".cache").mkdir()
    assert open_data(str(tmp_path)).describe()["ignored_files"] == 1


def test_an_empty_class_folder_is_named(tmp_path: Path) -> None:
    make_tree(tmp_path)
    (tmp_path / "train" / "bird").mkdir()
    with pytest.raises(InputError, match="bird has no images"):
        open_data(str(tmp_path))


def test_both_sides_need_the_same_classes(tmp_path: Path) -> None:
    make_tree(tmp_path)
    write_image(tmp_path / "val" / "bird" / "0.png")
    with pytest.raises(InputError, match="class 'bird' is there only to validate on"):
        open_data(str(tmp_path))


def test_trees_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither 'mnist-5k' nor a folder"):
        open_data(str(tmp_path / "missing"))
    with pytest.raises(InputError, match="0 class folders"):
        open_data(str(tmp_path))
    make_tree(tmp_path, ("train",))
    with pytest.raises(InputError, match="none of val, valid, validation, test"):
        open_data(str(tmp_path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "cannot be read as an image"), (b"not an image", "cannot be read as an image"), (None, "truncated")],
)
def test_a_damaged_image_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    make_tree(tmp_path)
    bad = tmp_path / "val" / "cat" / "bad.jpg"
    if content is None:
        noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
        Image.fromarray(noise).save(bad)
        content = bad.read_bytes()[:2000]
    bad.write_bytes(content)
    with pytest.raises(FileFormatError, match=rf"bad\.jpg.*{reason}"):
        open_data(str(tmp_path), image_size=(6, 4))


def test_a_decompression_bomb_is_refused_before_decoding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_tree(tmp_path)
    write_image(tmp_path / "val" / "cat" / "bomb.png", size=(300, 200))
    monkeypatch.setattr(preprocessing, "MAX_PIXELS", 50_000)
    with pytest.raises(FileFormatError, match=r"bomb\.png has 300x200 pixels"):
        open_data(str(tmp_path), image_size=(6, 4))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 20_000)
    with pytest.raises(FileFormatError, match=r"bomb\.png"):
        open_data(str(tmp_path), image_size=(6, 4))


def test_more_than_8_bits_are_refused(tmp_path: Path) -> None:
    make_tree(tmp_path)
    Image.fromarray(np.full((4, 6), 40_000, np.uint16)).save(tmp_path / "val" / "cat" / "deep.png")
    with pytest.raises(FileFormatError, match=r"deep\.png has more than 8 bits"):
        open_data(str(tmp_path))


def test_more_than_fits_into_memory_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfmobile.data.folder.MAX_DECODED_BYTES", 100)
    with pytest.raises(InputError, match="16 images of 6x4 need more than"):
        open_data(str(make_tree(tmp_path)))


@pytest.mark.parametrize("options", [{"image_size": (0, 4)}, {"image_size": (5, 10**6)}, {"channels": 2}])
def test_options_out_of_range(tmp_path: Path, options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        open_data(str(make_tree(tmp_path)), **options)  # type: ignore[arg-type]


@pytest.mark.skipif(not CIFAR.exists(), reason="the CIFAR-10 subset is not on this machine")
def test_a_real_tree(tmp_path: Path) -> None:
    import tarfile

    with tarfile.open(CIFAR) as archive:
        members = [member for member in archive if member.name.endswith(("/0000.jpg", "/0001.jpg"))]
        archive.extractall(tmp_path, members=members, filter="data")
    data = open_data(str(tmp_path))
    assert len(data.train.class_names) == 10
    assert data.size == (32, 32)
    assert data.channels == 3
