"""The images of the tabular benchmark: an untrusted tar of ``SIDE/CLASS/NAME.jpg``, decoded once to arrays."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import warnings
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from dfmobile.data.dataset import ImageDataset, TrainingData
from dfmobile.data.preprocessing import to_array
from dfmobile.errors import FileFormatError, InputError
from dfmobile.files import atomic_path, sha256_hex, storage_error

SIZE, MAX_IMAGES, MAX_FILE_BYTES = 32, 100_000, 2**20


def decode_tar(path: Path) -> TrainingData:
    """Read all images of a tar, in the order of their names; nothing is unpacked to the disk.

    Raises:
        FileFormatError: if it is damaged, or a member is not an image of 32x32 at ``train|test/CLASS/NAME``.
    """
    images: dict[str, list[np.ndarray]] = {"train": [], "test": []}
    classes: dict[str, list[str]] = {"train": [], "test": []}
    try:
        with tarfile.open(path, "r:") as archive:
            members = []
            for member in archive:
                members.append(member)
                if len(members) > MAX_IMAGES:
                    raise FileFormatError(f"{path} has more than {MAX_IMAGES} members", hint="is it the right file?")
            for member in sorted(members, key=lambda item: item.name):
                if member.isdir():
                    continue
                parts = member.name.removeprefix("./").split("/")
                stream = archive.extractfile(member) if member.isreg() and member.size <= MAX_FILE_BYTES else None
                if stream is None or len(parts) != 3 or parts[0] not in images:
                    raise FileFormatError(
                        f"{path}: {member.name[:80]!r} is not a small file at train|test/CLASS/NAME",
                        hint="is it the right file?",
                    )
                images[parts[0]].append(_decode(stream.read(), f"{path}: {member.name}"))
                classes[parts[0]].append(parts[1])
    except OSError as error:
        raise storage_error(error, path, "read") from error
    except tarfile.TarError as error:
        raise FileFormatError(f"{path} is not a sound tar file: {error}", hint="is it the right file?") from error
    names = tuple(sorted(set(classes["train"])))
    if not names or set(classes["test"]) != set(names):
        raise FileFormatError(f"{path} has not the same classes to train and to test", hint="is it the right file?")
    index = {name: number for number, name in enumerate(names)}
    sides = [
        ImageDataset(np.stack(images[side]), np.array([index[name] for name in classes[side]], np.int64), names)
        for side in ("train", "test")
    ]
    return TrainingData.make(sides[0], sides[1], {"data": path.name, "sha256": sha256_hex(path), "split": "its own"})


def _decode(content: bytes, where: str) -> np.ndarray:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            image: Image.Image = Image.open(io.BytesIO(content), formats=("JPEG",))
            if image.size == (SIZE, SIZE):  # from the header alone, before anything is decoded
                return to_array(image, 3, None)
    except Exception as error:  # Pillow's decoders raise nearly anything on damaged files
        raise FileFormatError(f"{where} cannot be read as a JPEG: {error}", hint="is it damaged?") from error
    raise FileFormatError(f"{where} is {image.width}x{image.height}, not {SIZE}x{SIZE}", hint="is it the right file?")


def cache_data(tar: Path, cache: Path) -> None:
    """Decode a tar into an uncompressed npz, if that is not there yet."""
    if cache.exists():
        return
    data = decode_tar(tar)
    with atomic_path(cache) as temporary, temporary.open("wb") as stream:
        np.savez(
            stream,
            train_images=data.train.images,
            train_labels=data.train.labels,
            test_images=data.validation.images,
            test_labels=data.validation.labels,
            class_names=np.array(data.train.class_names),
            source=np.array(json.dumps(data.source)),
        )


def load_cache(cache: Path) -> TrainingData:
    """Read what ``cache_data`` wrote.

    Raises:
        InputError: if it is not there.
        FileFormatError: if it is damaged.
    """
    try:
        with cache.open("rb") as stream, np.load(stream, allow_pickle=False) as arrays:
            names = tuple(str(name) for name in arrays["class_names"])
            sides = [ImageDataset(arrays[f"{s}_images"], arrays[f"{s}_labels"], names) for s in ("train", "test")]
            return TrainingData.make(sides[0], sides[1], json.loads(str(arrays["source"])))
    except FileNotFoundError as error:
        raise InputError(f"{cache} does not exist", hint="give --data TAR once") from error
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise FileFormatError(f"{cache} is damaged: {error}", hint="remove it and give --data TAR again") from error


def fingerprint(data: TrainingData) -> str:
    """Return the SHA-256 of all pixels and labels: JPEG decoders may differ in the last bit."""
    digest = hashlib.sha256()
    for side in (data.train, data.validation):
        digest.update(side.images.tobytes())
        digest.update(side.labels.tobytes())
    return digest.hexdigest()
