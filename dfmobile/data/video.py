"""Frames of video files (extra ``video``): one after the other, bounded in size and number."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from dfmobile.data.preprocessing import MAX_PIXELS
from dfmobile.errors import FileFormatError, import_extra
from dfmobile.files import storage_error

_FFMPEG_QUIET = "-8"
VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm"})


def read_frames(path: Path, every: int = 1, limit: int | None = None) -> Iterator[tuple[int, Image.Image]]:
    """Yield number (from 0) and picture (mode ``RGB``) of a video's frames.

    Args:
        path: a file that OpenCV can decode.
        every: take each n-th frame, beginning with the first.
        limit: of frames that are taken; None: all.

    Raises:
        MissingExtraError: if OpenCV is not installed.
        StorageError: if the file cannot be read.
        FileFormatError: if it is no video, has no frame, or its frames are too large; frames before that were yielded.
    """
    # What is wrong with a file is said once, by the error below.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", _FFMPEG_QUIET)
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")
    cv2 = import_extra("cv2", "video", "reading videos")
    try:
        with path.open("rb"):
            pass
    except OSError as error:
        raise storage_error(error, path, "read") from error
    # The absolute path: OpenCV takes "%04d" names and URLs for something else. FFmpeg reads files only.
    capture = cv2.VideoCapture(str(path.resolve()), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise FileFormatError(f"{path} cannot be read as a video", hint="is it whole, of a codec that OpenCV has?")
        width, height = (int(capture.get(item)) for item in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        if width * height > MAX_PIXELS:
            raise FileFormatError(f"{path} has frames of {width}x{height} pixels, more than {MAX_PIXELS}")
        number = taken = 0
        while limit is None or taken < limit:
            if not capture.grab():
                break
            if number % every == 0:
                good, pixels = capture.retrieve()
                if not good or pixels is None or pixels.dtype != np.uint8 or pixels.ndim != 3:
                    raise FileFormatError(f"frame {number} of {path} cannot be decoded", hint="is the file damaged?")
                yield number, Image.fromarray(np.ascontiguousarray(pixels[:, :, ::-1]))
                taken += 1
            number += 1
        if number == 0:
            raise FileFormatError(f"{path} has no frame that can be decoded", hint="is it truncated?")
    finally:
        capture.release()
