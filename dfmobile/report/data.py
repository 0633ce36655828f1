"""What a report shows, as plain values: the renderers see this and nothing else, ``collect`` fills it.

``None`` always means unknown or not measured, and is shown as such; nothing here is estimated to fill a gap.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

ScaleKind = Literal["linear", "log"]
Fact = tuple[str, str]


@dataclass(frozen=True)
class CurvePoint:
    """One point of a learning curve.

    Attributes:
        epoch: passes over the training data so far.
        accuracy: in [0, 1] on the held-out data.
    """

    epoch: float
    accuracy: float


@dataclass(frozen=True)
class EvaluatedArchitecture:
    """An architecture whose accuracy is known.

    Attributes:
        number: its draw, from 1.
        encoding: canonical text.
        predicted_ms: latency by the table.
        accuracy: in [0, 1].
        seconds: what the evaluation took; None where unknown.
        pruned: architectures that its result ruled out; None where unknown.
        alive: architectures left alive after it; None where unknown.
        on_boundary: no other evaluated architecture beats it.
        curve: its learning curve; empty where there is none.
        macs: multiply-accumulates at the campaign's input; None where unknown.
        params: parameters of its training form; None where unknown.
    """

    number: int
    encoding: str
    predicted_ms: float
    accuracy: float
    seconds: float | None = None
    pruned: int | None = None
    alive: int | None = None
    on_boundary: bool = False
    curve: tuple[CurvePoint, ...] = ()
    macs: int | None = None
    params: int | None = None


@dataclass(frozen=True)
class Winner:
    """An architecture of the boundary, as it is reported.

    Attributes:
        encoding: canonical text.
        predicted_ms: latency by the table.
        interval_ms: 95 % interval of the prediction; None where the predictor gives none.
        measured_ms: end to end on the device; None where it was not re-measured.
        half_width_ms: half of the measurement's 95 % interval; None where unknown.
        accuracy: in [0, 1].
        files: names of the model files written, relative to the run folder.
        weights: what weights those files hold, in words (``trained``, ``random``, …); None where unknown.
    """

    encoding: str
    predicted_ms: float
    accuracy: float
    interval_ms: tuple[float, float] | None = None
    measured_ms: float | None = None
    half_width_ms: float | None = None
    files: tuple[str, ...] = ()
    weights: str | None = None

    @property
    def relative_error(self) -> float | None:
        """(predicted - measured) / measured; None where it was not measured."""
        return None if not self.measured_ms else (self.predicted_ms - self.measured_ms) / self.measured_ms


@dataclass(frozen=True)
class ReferencePoint:
    """A network that the search did not look for, with the latency that the same table predicts for it.

    It has no accuracy here: what its authors published is of other data.

    Attributes:
        name: as people call it.
        encoding: canonical text.
        predicted_ms: latency by the table; None where the table cannot predict it.
        interval_ms: 95 % interval of the prediction; None where the predictor gives none.
        published: its published accuracy, in words; may be empty.
        missing: why there is no prediction: the blocks that the table lacks; empty where there is one.
    """

    name: str
    encoding: str
    predicted_ms: float | None = None
    interval_ms: tuple[float, float] | None = None
    published: str = ""
    missing: str = ""


@dataclass(frozen=True)
class LatencyStrip:
    """Where the architectures without an accuracy lie along the latency axis: a histogram.

    Attributes:
        scale: bins are equally wide on this scale.
        edges_ms: ascending, one more than there are bins.
        pruned: ruled out without an evaluation, by bin.
        alive: neither evaluated nor ruled out, by bin.
    """

    scale: ScaleKind
    edges_ms: tuple[float, ...]
    pruned: tuple[int, ...]
    alive: tuple[int, ...]


@dataclass(frozen=True)
class TableBlock:
    """One row of the latency table.

    Attributes:
        kind: of block, e.g. ``basic``.
        text: a line for people: kind, shapes, short key.
        stage: number of the stage; None for the stem and heads.
        first: it is the first block of its stage (it halves the map).
        width_before: channels of the map that feeds it.
        width: channels that it makes.
        map_before: its input map, (width, height), pixels.
        map_after: its output map.
        hot_ms: median with warm caches; None where it was skipped.
        cold_ms: median with evicted caches; None where it was not measured.
        half_width_ms: half of the 95 % interval of ``hot_ms``; None where unknown.
        n: hot samples; 0 where a backend gave aggregates only.
        macs: multiply-accumulates.
        note: why it was not measured, otherwise empty.
    """

    kind: str
    text: str
    stage: int | None
    first: bool
    width_before: int
    width: int
    map_before: tuple[int, int]
    map_after: tuple[int, int]
    hot_ms: float | None
    cold_ms: float | None
    half_width_ms: float | None
    n: int
    macs: int | None
    note: str = ""


@dataclass(frozen=True)
class ReportData:
    """Everything in a report.

    Attributes:
        title: of the page.
        summary: what was done, one sentence.
        accuracy_label: what the accuracies are, in the evaluator's words (``analytic: not a training``, …).
        accuracy_is_trained: the accuracies come from real trainings.
        evaluator_facts: the evaluator as it describes itself.
        space: name of the search space.
        space_size: architectures in the space.
        candidates: architectures within the latency range.
        latency_range: (lowest, highest) ms of a candidate, None where open.
        input_size: (width, height) of the image, pixels.
        device: one line that names it.
        pruned: architectures ruled out without an evaluation; None where unknown.
        alive: architectures neither evaluated nor ruled out; None where unknown.
        in_flight: architectures drawn and without a result yet.
        evaluated: in draw order.
        winners: the boundary, fastest first.
        not_measured_reason: why winners were not re-measured; empty where all were.
        strip: the architectures without an accuracy; None where unknown.
        worst_ms: latency of the hypervolume's worst corner.
        blocks: the latency table.
        device_facts: (label, value) pairs.
        conditions: (label, value) pairs: governor, load and so on when it was measured.
        provenance: (label, value) pairs: runtime, library, protocol, tool, dates.
        commands: exact commands that make this run again.
        clock: of the measurements, in words.
        notes: further sentences that a reader must know.
        references: other networks, whose latencies are shown beside the boundary.
        recorded: the latencies are sums of layers that somebody else timed.
    """

    title: str
    summary: str
    accuracy_label: str
    accuracy_is_trained: bool
    space: str
    space_size: int
    candidates: int
    input_size: tuple[int, int]
    device: str
    evaluated: Sequence[EvaluatedArchitecture]
    winners: Sequence[Winner]
    latency_range: tuple[float | None, float | None] = (None, None)
    evaluator_facts: Sequence[Fact] = ()
    pruned: int | None = None
    alive: int | None = None
    in_flight: int = 0
    not_measured_reason: str = ""
    strip: LatencyStrip | None = None
    worst_ms: float | None = None
    blocks: Sequence[TableBlock] = ()
    device_facts: Sequence[Fact] = ()
    conditions: Sequence[Fact] = ()
    provenance: Sequence[Fact] = ()
    commands: Sequence[str] = ()
    clock: str = ""
    notes: Sequence[str] = ()
    references: Sequence[ReferencePoint] = ()
    recorded: bool = False


@dataclass(frozen=True)
class Agreement:
    """How well predictions agree with measurements.

    Attributes:
        n: pairs.
        mape: mean absolute relative error.
        bias: mean relative error; positive where predictions are too slow.
        max_error: largest absolute relative error.
        within_5: fraction of pairs within 5 %.
        within_10: fraction of pairs within 10 %.
    """

    n: int
    mape: float
    bias: float
    max_error: float
    within_5: float
    within_10: float


def agreement(winners: Sequence[Winner]) -> Agreement | None:
    """Compare predictions with measurements; None where nothing was measured."""
    errors = [item.relative_error for item in winners if item.relative_error is not None]
    if not errors:
        return None
    absolute = [abs(error) for error in errors]
    return Agreement(
        n=len(errors),
        mape=sum(absolute) / len(errors),
        bias=sum(errors) / len(errors),
        max_error=max(absolute),
        within_5=sum(error <= 0.05 for error in absolute) / len(errors),
        within_10=sum(error <= 0.10 for error in absolute) / len(errors),
    )
