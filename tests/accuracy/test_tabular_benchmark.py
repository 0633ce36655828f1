"""The scripts that make the tabular benchmark: what they read is untrusted, what they write survives."""

from __future__ import annotations

import importlib
import io
import tarfile
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from dfmobile.errors import FileFormatError, InputError, StorageError

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> tuple[ModuleType, ModuleType]:
    if not BENCHMARKS.is_dir():
        pytest.skip("no benchmarks/ here: an installed package")
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("tabular_train"), importlib.import_module("tabular_data")


def jpeg(size: tuple[int, int] = (32, 32), seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    return stream.getvalue()


def tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


SOUND = {
    f"{side}/{name}/{n}.jpg": jpeg(seed=n) for side in ("train", "test") for name in ("cat", "ant") for n in (0, 1)
}


def test_the_tar_is_decoded_once(tmp_path: Path, scripts: tuple[ModuleType, ModuleType]) -> None:
    _, data = scripts
    source, cache = tar(tmp_path / "d.tar", SOUND), tmp_path / "c.npz"
    data.cache_data(source, cache)
    found = data.load_cache(cache)
    assert found.train.class_names == ("ant", "cat")
    assert found.train.labels.tolist() == found.validation.labels.tolist() == [0, 0, 1, 1]
    assert found.train.images.shape == (4, 3, 32, 32)
    assert data.fingerprint(found) == data.fingerprint(data.decode_tar(source))
    source.unlink()
    data.cache_data(source, cache)  # not read again


@pytest.mark.parametrize(
    ("files", "word"),
    [
        ({**SOUND, "../evil.jpg": jpeg()}, "evil.jpg"),
        ({**SOUND, "/train/cat/9.jpg": jpeg()}, "is not a small file"),
        ({**SOUND, "train/cat/9.jpg": jpeg((64, 32))}, "64x32"),
        ({**SOUND, "train/cat/9.jpg": jpeg()[:200]}, "train/cat/9.jpg cannot be read"),
        ({**SOUND, "train/cat/9.jpg": b"GIF89a"}, "train/cat/9.jpg cannot be read"),
        ({**SOUND, "train/cat/9.jpg": bytes(2**20 + 1)}, "is not a small file"),
        ({name: content for name, content in SOUND.items() if "test/cat" not in name}, "same classes"),
        ({}, "same classes"),
    ],
)
def test_bad_members_are_named(
    files: dict[str, bytes], word: str, tmp_path: Path, scripts: tuple[ModuleType, ModuleType]
) -> None:
    with pytest.raises(FileFormatError, match=word):
        scripts[1].cache_data(tar(tmp_path / "d.tar", files), tmp_path / "c.npz")
    assert [path.name for path in tmp_path.iterdir()] == ["d.tar"]


def test_links_and_other_files_are_refused(tmp_path: Path, scripts: tuple[ModuleType, ModuleType]) -> None:
    with tarfile.open(tmp_path / "d.tar", "w") as archive:
        member = tarfile.TarInfo("train/cat/0.jpg")
        member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
        archive.addfile(member)
    with pytest.raises(FileFormatError, match="is not a small file"):
        scripts[1].decode_tar(tmp_path / "d.tar")
    (tmp_path / "e.tar").write_bytes(b"not a tar" * 100)
    with pytest.raises(FileFormatError, match="not a sound tar"):
        scripts[1].decode_tar(tmp_path / "e.tar")
    with pytest.raises(StorageError):
        scripts[1].decode_tar(tmp_path / "none.tar")
    (tmp_path / "c.npz").write_bytes(b"PK\3\4 torn")
    with pytest.raises(FileFormatError, match="damaged"):
        scripts[1].load_cache(tmp_path / "c.npz")


def made_up_row(
    train: ModuleType, encoding: str, seed: int = 0, accuracy: float = 0.5, macs: int = 1
) -> dict[str, str]:
    row = dict.fromkeys(train.COLUMNS, "1.0")
    row |= {f"accuracy_{epoch}": f"{accuracy:.4f}" for epoch in train.EPOCHS}
    return row | {"encoding": encoding, "seed": str(seed), "macs": str(macs), "params": "2"}


def test_a_torn_row_is_trained_again(tmp_path: Path, scripts: tuple[ModuleType, ModuleType]) -> None:
    train, _ = scripts
    path = tmp_path / "results.csv"
    first, second = (made_up_row(train, text) for text, _ in train.plan([])[:2])
    train.ResultFile(path).append(first)
    whole = path.read_bytes()
    path.write_bytes(whole + b'"df,stem=8s2,cl')
    assert train.read_results(path) == [first]
    train.ResultFile(path).append(second)
    assert train.read_results(path) == [first, second]
    assert path.read_bytes().startswith(whole)
    path.write_text("encoding,other\n")
    with pytest.raises(InputError, match="other columns"):
        train.read_results(path)


def test_the_plan_is_all_once_then_the_front_again(scripts: tuple[ModuleType, ModuleType]) -> None:
    train, _ = scripts
    todo = train.plan([])
    assert len(set(todo)) == 833
    assert todo == train.plan([])
    # The more accurate the higher its number: the first 400 have the fewest MACs, so they are the front.
    rows = [
        made_up_row(train, text, accuracy=0.3 + n / 10_000 if n < 400 else 0.1, macs=n)
        for n, (text, _) in enumerate(todo)
    ]
    assert train.plan(rows[1:]) == todo[:1]
    more = train.plan(rows)
    assert {seed for _, seed in more} == {1, 2}
    assert len(more) == 80
    assert {text for text, _ in more} == {text for text, _ in todo[:40]}
    done = [made_up_row(train, text, seed) for text, seed in more]
    assert train.plan([*rows, *done[:79]]) == more[79:]
    assert train.plan([*rows, *done]) == []


def test_packing_is_reproducible(tmp_path: Path, scripts: tuple[ModuleType, ModuleType]) -> None:
    train, _ = scripts
    rows = [made_up_row(train, text, macs=n) for n, (text, _) in enumerate(train.plan([])[:5])]
    train.pack(rows, tmp_path / "a.csv.gz")
    assert "5 architectures" in train.pack(rows[::-1], tmp_path / "b.csv.gz")
    assert (tmp_path / "a.csv.gz").read_bytes() == (tmp_path / "b.csv.gz").read_bytes()
    with pytest.raises(InputError, match="no training"):
        train.pack([], tmp_path / "c.csv.gz")
