"""``dfmobile segment``: a label map, an overlay and the shares of the classes for each picture."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from dfmobile.accuracy.inference import InferenceModel
from dfmobile.accuracy.segment import RunnerPool, labels_at, labels_of, scores_of, shares_of
from dfmobile.data.class_names import class_colours
from dfmobile.data.dataset import UInt8Array
from dfmobile.data.overlay import legend, overlay
from dfmobile.data.pictures import Picture, PictureFile
from dfmobile.errors import DfmobileError, FileFormatError, InputError, StorageError
from dfmobile.files import atomic_write, atomic_write_json, atomic_write_together, read_json, storage_error
from dfmobile.runtimes.base import ModelRunner

SUMMARY, LEGEND = "segment-summary.json", "segment-legend.png"
LABELS_END, OVERLAY_END, SHARES_END = "_labels.png", "_overlay.png", ".json"
_LISTED_FAILURES = 1000
OVERLAY_RULE = "scores resized to the picture bilinearly with half-pixel centres, then the highest"


@dataclass(frozen=True)
class Segmented:
    """What came of one picture.

    Attributes:
        picture: its path, and frame.
        shares: of the classes at the network's output size, float64 ``[classes]``; None where it failed.
        error: why it failed, None where it did not.
        reused: whether an earlier run had made the same.
    """

    picture: str
    shares: npt.NDArray[np.float64] | None
    error: DfmobileError | None = None
    reused: bool = False


def check_outputs(files: Sequence[PictureFile], output: Path) -> None:
    """Check that what will be written are files of their own, and none of the pictures.

    Raises:
        InputError: saying which.
    """
    sources = {file.path.resolve() for file in files}
    taken: dict[Path, str] = {output / SUMMARY: "the summary", output / LEGEND: "the legend"}
    for file in files:
        made = [output / file.name] if file.is_video else list(_targets(output, file.name))
        for target in made:
            if target in taken:
                raise InputError(f"{file.path} and {taken[target]} would both be written as {target}")
            taken[target] = str(file.path)
            if target.parent.resolve() / target.name in sources:
                raise InputError(f"{target} is a picture to read, and would be overwritten", hint="choose another -o")


def segment_pictures(
    model: InferenceModel,
    pictures: Iterable[Picture],
    output: Path,
    *,
    threads: int = 1,
    jobs: int | None = None,
    resume: bool = False,
    done: Callable[[Segmented], None] | None = None,
) -> dict[str, Any]:
    """Write ``NAME_labels.png``, ``NAME_overlay.png`` and ``NAME.json`` for each picture, a legend and a summary.

    A picture that cannot be read is told in the result; the others go on.

    Args:
        model: segmentation.
        pictures: what to label.
        output: folder; made where it is missing. Older files of these names are replaced.
        threads: of each runner.
        jobs: runners at once; None: as many as there are cores for.
        resume: leave pictures alone that an earlier run finished with the same model and the same pixels.
        done: called with each picture's result, in order.

    Returns:
        The summary, JSON-able: the model, ``pictures`` (finished), ``failed``, mean ``shares`` by class.

    Raises:
        InputError: if the network classifies images, or a file would be written outside ``output``.
        StorageError: if a file cannot be written.
        BackendError: if the runtime fails.
    """
    if not model.is_segmentation:
        raise InputError("the network classifies whole images: it has no label maps", hint="see `dfmobile evaluate`")
    colours = class_colours(len(model.classes))
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, output, "write") from error
    work = _Work(model, output, output.resolve(), colours, resume)
    atomic_write(output / LEGEND, _png(legend(model.classes, colours)))
    totals = np.zeros(len(model.classes))
    finished = reused = failed = 0
    failures: list[dict[str, str]] = []
    with RunnerPool(model, threads, jobs) as pool:
        for result in pool.map(work.one, pictures):
            if result.shares is not None:
                totals += result.shares
                finished += 1
                reused += result.reused
            else:
                failed += 1
                if len(failures) < _LISTED_FAILURES:
                    hint = result.error.hint if result.error else ""
                    failures.append({"picture": result.picture, "error": str(result.error), "hint": hint})
            if done is not None:
                done(result)
        jobs_used = pool.jobs
    summary = {
        **model.describe(),
        "threads": threads,
        "jobs": jobs_used,
        "labels": "trainIds, the class of the highest score, at the network's output size",
        "overlay": OVERLAY_RULE,
        "pictures": finished,
        "reused": reused,
        "failed": failed,
        "failures": failures,
        "shares": _named(totals / finished, model.classes) if finished else None,
    }
    atomic_write_json(output / SUMMARY, summary)
    return summary


@dataclass(frozen=True)
class _Work:
    model: InferenceModel
    output: Path
    root: Path
    colours: UInt8Array
    resume: bool

    def one(self, runner: ModelRunner, picture: Picture) -> Segmented:
        """Label one picture; runs on a thread of the pool."""
        try:
            image = picture.load()
            pixels = self.model.pixels(image)
        except (FileFormatError, StorageError, InputError) as error:
            return Segmented(str(picture), None, error)
        digest = hashlib.sha256(self.model.identity.encode() + np.asarray(image).tobytes())
        identity = digest.hexdigest()
        targets = _targets(self.output, picture.name)
        known = self._known(targets, identity) if self.resume else None
        if known is not None:
            return Segmented(str(picture), known, reused=True)
        scores = scores_of(self.model, runner, pixels)
        labels = labels_of(scores)
        shares = shares_of(labels, len(self.model.classes))
        painted = overlay(image, labels_at(scores, image.size), self.colours)
        document = {
            "picture": str(picture.path),
            "frame": picture.frame,
            "size": list(image.size),
            "labels_size": [labels.shape[1], labels.shape[0]],
            "encoding": self.model.encoding,
            "runtime": self.model.runtime,
            "precision": self.model.precision,
            "shares": _named(shares, self.model.classes),
            "identity": identity,
        }
        self._make_folder(targets[0].parent)
        contents = (_png(Image.fromarray(labels)), _png(painted), _json(document))
        atomic_write_together(dict(zip(targets, contents, strict=True)))
        return Segmented(str(picture), shares)

    def _known(self, targets: Sequence[Path], identity: str) -> npt.NDArray[np.float64] | None:
        """Return the shares of an earlier run's result, None where it is not there, not whole or of another model."""
        if not all(target.is_file() for target in targets):
            return None
        try:
            document = read_json(targets[-1])
            if document["identity"] != identity:
                return None
            return np.array([float(document["shares"][name]) for name in self.model.classes])
        except (FileFormatError, KeyError, TypeError, ValueError):
            return None  # it is made again

    def _make_folder(self, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, folder, "write") from error
        # A link in the output folder must not lead what is written out of it.
        if not folder.resolve().is_relative_to(self.root):
            raise InputError(f"{folder} leads out of {self.output}", hint="remove the link, or choose another -o")


def _targets(output: Path, name: Any) -> tuple[Path, Path, Path]:
    base = output / name
    labels, overlaid, shares = (base.with_name(base.name + end) for end in (LABELS_END, OVERLAY_END, SHARES_END))
    return labels, overlaid, shares


def _named(shares: npt.NDArray[np.float64], names: Sequence[str]) -> dict[str, float]:
    return {name: round(float(share), 6) for name, share in zip(names, shares, strict=True)}


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, "PNG", compress_level=1)  # half the time of the default, a tenth more bytes
    return stream.getvalue()


def _json(document: Any) -> bytes:
    return (json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()
