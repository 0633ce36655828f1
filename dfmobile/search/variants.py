"""From a segmentation space to variants for a latency target: which spaces are searched one after the other.

As in the paper, backbones first and decoders then: (1) backbones, all with one decoder; (2) every decoder on the
backbones of that boundary; (3) the boundary of both, trained longer, because short trainings order networks badly.
Each is a campaign of its own over a part of the space; nothing here trains or measures.

Source: Li et al., Partial Order Pruning, CVPR 2019, section 4 (backbones, then decoders for them).
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dfmobile.accuracy.base import open_evaluator
from dfmobile.architecture import Architecture
from dfmobile.architecture.spaces import SearchSpace
from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.architecture.spaces.space_file import FileSpace, parse_space, space_document
from dfmobile.errors import InputError
from dfmobile.search.boundary import pareto_optimal
from dfmobile.search.campaign import STORE_NAME, RowPredictor, predict_space
from dfmobile.search.latencies import Latencies
from dfmobile.search.settings import CampaignSettings
from dfmobile.search.store import CampaignStore, EvaluationRecord

BACKBONES, DECODERS, VARIANTS = "1-backbones", "2-decoders", "3-variants"
"""Folders of the three campaigns, in a run folder."""
LONGER = 3
"""Epochs of the last trainings: this many times those of the search, where nothing else is said."""
_NAME_ROOM = 28  # characters of the space's name that are kept

T = TypeVar("T")


def searchable(space: SearchSpace) -> ChainSpace:
    """Return a segmentation space whose backbones and decoders can be searched in turn.

    Raises:
        InputError: if it has no decoders to choose from, or is no space of stages.
    """
    if not isinstance(space, ChainSpace) or space.decoders is None:
        raise InputError(
            f"space {space.name!r} has no decoders to choose from",
            hint="--space shuffle-seg, df-seg, or a FILE.yaml with decoders",
        )
    return space


def backbone_space(space: ChainSpace, predictor: RowPredictor, size: tuple[int, int], target_ms: float) -> FileSpace:
    """Return a space's backbones, each with one decoder: the smallest with which the table predicts any of them.

    Smallest is the one of the largest output stride and the least controllers' widths together. Of a table of
    measured blocks that is the first; a recorded table may cover few.

    Args:
        space: the whole.
        predictor: by the table.
        size: of the input image.
        target_ms: slower networks do not matter.

    Raises:
        InputError: if the table covers no network of the space.
        MissingBlocksError: if the table lacks blocks that could be measured.
    """
    document = _document(space, "backbones")
    third, fourth, fifth, strides = (space.options[name] for name in space.columns[len(space.stages) :])
    offered = sorted(
        itertools.product(third, fourth, fifth, strides), key=lambda item: (-item[3], sum(item[:3]), item[:3])
    )
    settings = CampaignSettings(latency_range=(None, target_ms), input_size=size)
    for *widths, stride in offered:
        document["decoders"] = {"controllers": [[width] for width in widths], "output_strides": [stride]}
        # Deeper networks have no other blocks.
        small = _part(space, {**document, "max_depth": min(2, space.max_depth)})
        if _fastest_ms(predict_space(predictor, small, settings)) is not None:
            break
    else:
        raise InputError(
            f"the table covers no network of space {space.name!r} at {size[0]}x{size[1]}",
            hint="give the table's input size, or a higher --latency-target",
        )
    return _part(space, document)


def decoder_space(space: ChainSpace, backbones: Iterable[str]) -> FileSpace:
    """Return a space's networks with certain backbones and any decoder.

    Args:
        space: the whole.
        backbones: encodings of networks with these backbones; their decoders do not count.
    """
    plain = (dataclasses.replace(Architecture.parse(text), decoder=None).text for text in backbones)
    return _part(space, {**_document(space, "decoders"), "members": list(dict.fromkeys(plain))})


def variant_space(space: ChainSpace, encodings: Iterable[str]) -> FileSpace:
    """Return just these networks of a space, as a space."""
    return _part(space, {**_document(space, "variants"), "members": list(encodings)})


def _document(space: ChainSpace, part: str) -> dict[str, Any]:
    return space_document(space, f"{space.name.partition('@')[0][:_NAME_ROOM]}-{part}")


def _part(space: ChainSpace, document: dict[str, Any]) -> FileSpace:
    # Commands that complete the table are about the whole space, which has a name or a file.
    return parse_space(document, None, f"the space {document['name']}", source=space.source)


def spread(items: Sequence[T], most: int) -> list[T]:
    """Return up to that many of a list, evenly spread, its last one always among them."""
    if len(items) <= most:
        return list(items)
    places = np.unique(np.rint(np.linspace(len(items) - 1, 0, most)).astype(int)) if most > 1 else [len(items) - 1]
    return [items[int(place)] for place in places]


def finalists(folders: Iterable[Path], most: int) -> list[EvaluationRecord]:
    """Return up to that many networks that go on from several campaigns together, fastest first.

    Those of the boundary, evenly spread where they are more, the most accurate one always among them. Where they are
    fewer, those of the boundary of the rest follow, the most accurate first, and so on: short trainings are noisy, and
    what comes second may be better.

    Args:
        folders: run folders of campaigns with the same table and evaluator.
        most: how many.

    Raises:
        InputError: if a folder has no campaign.
    """
    known: dict[str, EvaluationRecord] = {}
    for folder in folders:
        with CampaignStore(folder / STORE_NAME) as store:
            for record in store.evaluations():
                known.setdefault(record.encoding, record)
    left = sorted(known.values(), key=lambda item: (item.predicted_ms, -(item.accuracy or 0.0)))
    chosen: list[EvaluationRecord] = []
    while left and len(chosen) < most:
        optimal = pareto_optimal([item.predicted_ms for item in left], [item.accuracy or 0.0 for item in left])
        front = [item for item, keep in zip(left, optimal, strict=True) if keep]
        chosen += front[::-1][: most - len(chosen)] if chosen else spread(front, most)
        left = [item for item, keep in zip(left, optimal, strict=True) if not keep]
    return sorted(chosen, key=lambda item: (item.predicted_ms, item.encoding))


def longer_options(evaluator: str, options: dict[str, Any], epochs: int | None) -> dict[str, Any]:
    """Return the options of the last trainings.

    Args:
        evaluator: its name.
        options: those of the searches.
        epochs: of the last trainings; None: ``LONGER`` times those of the search where the evaluator is
            ``segmentation``, else as in the search.

    Raises:
        InputError: if the evaluator does not take them.
    """
    if epochs is None and evaluator == "segmentation":
        from dfmobile.accuracy.segmentation_options import SegmentationOptions

        epochs = LONGER * SegmentationOptions.make(options).epochs
    found = options if epochs is None else {**options, "epochs": epochs}
    open_evaluator(evaluator, **found)
    return found


def check_target(predictor: RowPredictor, space: SearchSpace, size: tuple[int, int], target_ms: float) -> None:
    """Check that a latency target leaves something to search.

    Raises:
        InputError: if every network of the space is predicted to be slower.
        MissingBlocksError: if the table lacks blocks of the space.
    """
    settings = CampaignSettings(latency_range=(None, target_ms), input_size=size)
    fastest = _fastest_ms(predict_space(predictor, space, settings))
    if fastest is None or fastest > target_ms:
        known = "some block of each is slower by itself" if fastest is None else f"the fastest takes {fastest:.4g} ms"
        raise InputError(
            f"no network of space {space.name.partition('@')[0]!r} at {size[0]}x{size[1]} is predicted to run in "
            f"{target_ms:g} ms: {known}",
            hint="give a higher --latency-target, a smaller --input, or a space of smaller networks",
        )


def _fastest_ms(latencies: Latencies) -> float | None:
    if latencies.stages is not None:
        low = latencies.stages.span()[0]
    else:
        low = float(np.min(latencies.rows_ms)) if latencies.rows_ms is not None else np.nan
    return low if np.isfinite(low) else None
