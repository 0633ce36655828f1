"""Other networks beside a boundary: what the same table predicts for them, or which of their blocks it lacks."""

from __future__ import annotations

from collections.abc import Sequence

from dfmobile.architecture import Architecture, build, resolve, zoo
from dfmobile.errors import DfmobileError, InputError, MissingBlocksError
from dfmobile.latency.predictor import Predictor
from dfmobile.latency.recorded_predictor import RecordedPredictor, open_predictor
from dfmobile.latency.table import LatencyTable
from dfmobile.report.data import ReferencePoint

MAX_REFERENCES = 50
_SHOWN = 3


def published_segmentation() -> list[str]:
    """Return the zoo's segmentation networks."""
    return [name for name in zoo.names() if zoo.get(name).architecture.decoder is not None]


def reference_points(
    names: Sequence[str], table: LatencyTable | None, rule: str | None, width: int, height: int
) -> list[ReferencePoint]:
    """Predict reference networks from a table.

    Args:
        names: zoo names or encodings.
        table: block-granular; None where it was not found.
        rule: that predicts; None for the best that the table has.
        width: of the image, pixels.
        height: of the image, pixels.

    Raises:
        InputError: if a name is of no network, or there are too many.
        FileFormatError: if the table is damaged.
    """
    if len(names) > MAX_REFERENCES:
        raise InputError(f"{len(names)} references are too many to show", hint=f"{MAX_REFERENCES} at most")
    predictor = None if table is None or not names else open_predictor(table, rule)
    return [_point(name, predictor, width, height) for name in names]


def _point(name: str, predictor: Predictor | RecordedPredictor | None, width: int, height: int) -> ReferencePoint:
    architecture = resolve(name)
    found = zoo.find(name)
    shown = found or architecture.text
    published = "" if found is None else _published(found)
    if predictor is None:
        return ReferencePoint(shown, architecture.text, published=published, missing="the table was not found")
    try:
        network = build(architecture, width, height)
        prediction = predictor.predict(network)
    except MissingBlocksError as error:
        return ReferencePoint(
            shown, architecture.text, published=published, missing=_missing(architecture, error.keys, width, height)
        )
    except DfmobileError as error:  # the input does not fit it, or the rule cannot predict it
        return ReferencePoint(shown, architecture.text, published=published, missing=str(error))
    return ReferencePoint(shown, architecture.text, prediction.latency_ms, prediction.interval_ms, published)


def _missing(architecture: Architecture, keys: Sequence[str], width: int, height: int) -> str:
    lacking = [block.name for block in build(architecture, width, height).blocks if block.key in set(keys)]
    more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
    return f"the table lacks {', '.join(lacking[:_SHOWN])}{more}"


def _published(name: str) -> str:
    facts = [item for item in zoo.get(name).published if item.metric.startswith(("mIoU", "top-1"))]
    return "; ".join(f"{item.metric} {item.value:g} {item.unit} at {item.input}" for item in facts)
