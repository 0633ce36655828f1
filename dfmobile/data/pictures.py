"""The pictures that a command works on: files, folders and videos, and the name of what is made of each."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from dfmobile.data.preprocessing import IMAGE_SUFFIXES, read_image
from dfmobile.data.video import VIDEO_SUFFIXES, read_frames
from dfmobile.errors import DfmobileError, InputError
from dfmobile.files import storage_error


@dataclass(frozen=True)
class PictureFile:
    """An image or video file.

    Attributes:
        path: where it is.
        name: of what is made of it, below the output folder, without an ending: relative, no ``..`` in it.
    """

    path: Path
    name: PurePosixPath

    @property
    def is_video(self) -> bool:
        """Whether it is a video, by its suffix."""
        return self.path.suffix.lower() in VIDEO_SUFFIXES


@dataclass(frozen=True)
class Picture:
    """One image, or one frame of a video.

    Attributes:
        path: the file.
        frame: its number in the video, from 0; None for an image.
        name: of what is made of it; see ``PictureFile``.
        load: decodes it, mode ``L`` or ``RGB``; raises ``FileFormatError`` or ``StorageError``.
    """

    path: Path
    frame: int | None
    name: PurePosixPath
    load: Callable[[], Image.Image]

    def __str__(self) -> str:
        return str(self.path) if self.frame is None else f"{self.path}, frame {self.frame}"


def find_pictures(paths: Sequence[Path], output: Path) -> list[PictureFile]:
    """List the images and videos that are meant, each with a name of its own.

    Files of a folder are named by their place in it. Files that would get one name keep their endings (``a.jpg`` and
    ``a.png``). In folders, hidden files, files that are neither image nor video by their endings, and what lies below
    ``output`` are left out; links to folders are not followed.

    Args:
        paths: files and folders.
        output: folder of what will be made.

    Raises:
        InputError: if a path does not exist, a folder has nothing to take or is ``output`` itself, or two files of
            one name come from different folders.
        StorageError: if a folder cannot be read.
    """
    found: dict[Path, PurePosixPath] = {}
    for path in paths:
        if path.is_dir():
            _check_output(path, output)
            inside = _walk(path, output)
            if not inside:
                raise InputError(
                    f"{path} has neither images nor videos",
                    hint=f"they end in {', '.join(sorted(IMAGE_SUFFIXES | VIDEO_SUFFIXES))}",
                )
            for item in inside:
                found.setdefault(item, PurePosixPath(item.relative_to(path).as_posix()))
        elif path.is_file():
            found.setdefault(path, PurePosixPath(path.name))
        elif path.exists():
            raise InputError(f"{path} is neither a file nor a folder", hint="pipes and devices are not read")
        else:
            raise InputError(f"{path}: no such file or folder", hint="check the path")
    stems = Counter(name.with_suffix("") for name in found.values())
    files = [
        PictureFile(path, name if stems[name.with_suffix("")] > 1 else name.with_suffix(""))
        for path, name in found.items()
    ]
    first: dict[PurePosixPath, Path] = {}
    for file in files:
        if file.name in first:
            raise InputError(
                f"{first[file.name]} and {file.path} would both be written as {file.name}",
                hint="give the folder above them, or run the command once for each",
            )
        first[file.name] = file.path
    return files


def _check_output(folder: Path, output: Path) -> None:
    if folder.resolve() == output.resolve():
        raise InputError(
            f"{output} is where the pictures come from", hint="write to another folder, for example one inside it"
        )


def _walk(folder: Path, output: Path) -> list[Path]:
    made = output.resolve()

    def failed(error: OSError) -> None:
        raise storage_error(error, error.filename or folder, "read") from error

    found = []
    for parent, folders, names in os.walk(folder, onerror=failed):
        folders[:] = sorted(item for item in folders if item[0] != "." and (Path(parent) / item).resolve() != made)
        found += [Path(parent) / name for name in names if name[0] != "."]
    known = IMAGE_SUFFIXES | VIDEO_SUFFIXES
    return sorted(path for path in found if path.suffix.lower() in known)


def pictures(files: Sequence[PictureFile], every: int = 1, limit: int | None = None) -> Iterator[Picture]:
    """Yield images, and frames of videos, in order.

    A video that fails is a picture that fails when it is loaded, so that the others are not lost.

    Args:
        files: of ``find_pictures``.
        every: each n-th frame of a video is taken.
        limit: of frames of each video; None: all.
    """
    for file in files:
        if not file.is_video:
            yield Picture(file.path, None, file.name, lambda path=file.path: read_image(path))  # type: ignore[misc]
            continue
        try:
            for number, image in read_frames(file.path, every, limit):
                yield Picture(file.path, number, file.name / f"{number:06d}", lambda image=image: image)  # type: ignore[misc]
        except DfmobileError as error:
            yield Picture(file.path, None, file.name / "damaged", _raising(error))


def _raising(error: DfmobileError) -> Callable[[], Image.Image]:
    def load() -> Image.Image:
        raise error

    return load
