"""The loop of a campaign: draw, evaluate, apply in draw order, until the budget or the candidates are used up.

The result depends on the space, the table, the evaluator and the settings alone, never on timing: draw n is made
when exactly the results of draws 1 … n − L are applied, by a generator seeded with (seed, n), and results are
applied in draw order. Resuming is the same loop fed with what the store already has.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from dfmobile.accuracy.job import EVALUATE
from dfmobile.architecture.spaces import SearchSpace
from dfmobile.errors import DfmobileError, EvaluationError, FileFormatError
from dfmobile.execution.base import Executor
from dfmobile.search.base import Candidate, Evaluated, Mode, Pruner, SearchState
from dfmobile.search.settings import CampaignSettings
from dfmobile.search.store import CampaignStore, EvaluationRecord, encoding_digest, utc_now

REPEATS = "repeats"
"""In the details of an evaluation: its repeats with other seeds, objects of ``seed``, ``accuracy``, ``seconds``."""
_CHANGED = "the file was changed, or written by another version; search into a new folder"


@dataclass(frozen=True)
class CampaignProgress:
    """One step of a campaign.

    Attributes:
        event: ``started``, ``resumed``, ``drawn``, ``evaluated`` (its result is applied).
        record: the architecture, for ``drawn`` and ``evaluated``.
        evaluated: results applied by now.
        total: candidates within the latency range.
        alive: candidates neither drawn nor ruled out.
        budget: the campaign's budget, None if it has none.
    """

    event: str
    record: EvaluationRecord | None
    evaluated: int
    total: int
    alive: int
    budget: int | None


Report = Callable[[CampaignProgress], None]
"""Told of each step."""


@dataclass(frozen=True)
class CampaignResult:
    """What a campaign found.

    Attributes:
        folder: the run folder.
        evaluations: in draw order.
        boundary: Pareto-optimal ones, fastest first (predicted latency).
        total: candidates within the latency range.
        alive: candidates neither evaluated nor ruled out.
        pruned: candidates ruled out without an evaluation.
        finished: ``exhausted`` (nothing is alive) or ``budget``.
    """

    folder: Path
    evaluations: list[EvaluationRecord]
    boundary: list[EvaluationRecord]
    total: int
    alive: int
    pruned: int
    finished: str


def training_folder(folder: Path, encoding: str, repeat: int = 0) -> Path:
    """Return where the evaluation of an architecture keeps its files: ``RUN/trainings/<digest>``.

    Args:
        folder: the run folder.
        encoding: of the architecture.
        repeat: 0 for the evaluation whose accuracy counts; others have ``-repeat<N>`` behind the digest.
    """
    return folder / "trainings" / (encoding_digest(encoding) + (f"-repeat{repeat}" if repeat else ""))


@dataclass(frozen=True)
class _Job:
    """One evaluation that runs: of a draw, with its seed (repeat 0) or another one."""

    record: EvaluationRecord
    repeat: int


class Campaign:
    """The state of a campaign, replayed from its store.

    Args:
        folder: the run folder.
        store: its open store.
        space: the search space.
        mode: the strategy.
        pruner: fresh, of that strategy.
        settings: as stored.
        read_only: never write to the store (to look at a campaign, which another process may be running).

    Raises:
        FileFormatError: if the store cannot come from these settings.
    """

    def __init__(
        self,
        folder: Path,
        store: CampaignStore,
        space: SearchSpace,
        mode: Mode,
        pruner: Pruner,
        settings: CampaignSettings,
        *,
        read_only: bool = True,
    ) -> None:
        self.folder = folder
        self.store = store
        self.space = space
        self.settings = settings
        self.state = SearchState(pruner)
        self._mode = mode
        self._read_only = read_only
        self._records = {record.number: record for record in store.draws()}
        self._drawn = 0
        self._answers: dict[int, dict[int, dict[str, Any]]] = {}
        self._advance(None)

    def _draw_due(self) -> bool:
        number, settings = self._drawn + 1, self.settings
        within_budget = settings.budget is None or number <= settings.budget
        in_turn = number - settings.lookahead <= len(self.state.evaluated)
        return within_budget and in_turn and self.state.pruner.alive_count > 0

    def _advance(self, submit: Callable[[EvaluationRecord], None] | None, progress: Report | None = None) -> None:
        """Draw and apply as far as the results at hand allow; always draw before applying the next result.

        Args:
            submit: starts an evaluation; None: only replay what the store has.
            progress: told of what is new.
        """
        while True:
            if self._draw_due():
                record = self._records.get(self._drawn + 1)
                if record is None and submit is None:
                    return
                if record is None:
                    record = self._draw()
                    self._report("drawn", record, progress)
                else:
                    self._redraw(record)
                self._drawn += 1
                if record.accuracy is None and submit is not None:
                    submit(record)
                continue
            following = self._records.get(len(self.state.evaluated) + 1)
            if following is None or following.accuracy is None or following.number > self._drawn:
                return
            self._apply(following, progress)

    def _draw(self) -> EvaluationRecord:
        number = self._drawn + 1
        candidate = self._mode.choose(self.state, np.random.default_rng([self.settings.seed, number]))
        encoding = self.space.architecture(candidate.row).text
        self.state.pruner.take(candidate)
        self.state.in_flight.append(candidate)
        self.store.add_draw(number, encoding, candidate.row, candidate.predicted_ms)
        record = EvaluationRecord(
            number, encoding, candidate.row, candidate.predicted_ms, utc_now(),
            None, None, {}, [], None, None, None, None,
        )  # fmt: skip
        self._records[number] = record
        return record

    def _redraw(self, record: EvaluationRecord) -> None:
        candidate = Candidate(record.row, record.predicted_ms)
        try:
            self.state.pruner.take(candidate)
        except LookupError as error:
            raise FileFormatError(
                f"{self.store.path}: draw {record.number} ({record.encoding}) was not possible at its turn",
                hint=_CHANGED,
            ) from error
        self.state.in_flight.append(candidate)

    def _apply(self, record: EvaluationRecord, progress: Report | None) -> None:
        candidate = self.state.in_flight.pop(0)
        repeats = tuple(float(item["accuracy"]) for item in record.details.get(REPEATS, ()))
        evaluated = Evaluated(record.number, candidate, float(record.accuracy or 0.0), repeats)
        pruned = self.state.pruner.apply(evaluated)
        self.state.evaluated.append(evaluated)
        alive = self.state.pruner.alive_count
        if record.pruned is None:
            if not self._read_only:
                self.store.add_applied(record.number, pruned, alive)
        elif (record.pruned, record.alive) != (pruned, alive):
            raise FileFormatError(
                f"{self.store.path}: result {record.number} ruled out {record.pruned} architectures when it was "
                f"applied, and {pruned} now",
                hint=_CHANGED,
            )
        self._report("evaluated", record, progress)

    def _report(self, event: str, record: EvaluationRecord | None, progress: Report | None) -> None:
        if progress is not None:
            pruner = self.state.pruner
            progress(
                CampaignProgress(
                    event, record, len(self.state.evaluated), pruner.total, pruner.alive_count, self.settings.budget
                )
            )

    def run(
        self,
        executor: Executor,
        evaluator_name: str,
        evaluator_options: Mapping[str, Any],
        progress: Report | None = None,
    ) -> CampaignResult:
        """Go on until the budget is used up or nothing is alive.

        Raises:
            EvaluationError: if an evaluation fails; everything is kept, and the next run tries it once more.
        """
        pending: dict[Future[dict[str, Any]], _Job] = {}

        def submit(record: EvaluationRecord) -> None:
            for repeat in range(self._mode.repeats(record.number)):
                payload = {
                    "evaluator": evaluator_name,
                    "options": dict(evaluator_options),
                    "encoding": record.encoding,
                    "seed": self._seed(repeat),
                    "folder": str(training_folder(self.folder, record.encoding, repeat).resolve()),
                }
                pending[executor.submit(EVALUATE, payload)] = _Job(record, repeat)

        self._report("resumed" if self._records else "started", None, progress)
        try:
            for number in range(1, self._drawn + 1):  # drawn by an earlier run, which ended before the result came
                if self._records[number].accuracy is None:
                    submit(self._records[number])
            self._advance(submit, progress)
            while pending:
                finished, _ = wait(pending, return_when=FIRST_COMPLETED)
                in_order = sorted(
                    ((pending.pop(future), future) for future in finished),
                    key=lambda item: (item[0].record.number, item[0].repeat),
                )
                errors = [self._failed(*item) for item in in_order if not self._receive(*item)]
                if errors:
                    raise errors[0]
                self._advance(submit, progress)
        finally:
            for future in pending:
                future.cancel()
        return self.result()

    def _seed(self, repeat: int) -> int:
        return (self.settings.seed + repeat) % 2**32

    def _receive(self, job: _Job, future: Future[dict[str, Any]]) -> bool:
        """Store a result at once, whatever its turn, or with its last repeat; return False if there is none."""
        if future.cancelled() or future.exception() is not None:
            return False
        record = job.record
        answers = self._answers.setdefault(record.number, {})
        answers[job.repeat] = future.result()
        if len(answers) < self._mode.repeats(record.number):
            return True
        del self._answers[record.number]
        answer = answers.pop(0)
        weights, details = answer["weights"], dict(answer["details"])
        if answers:
            details[REPEATS] = [
                {"seed": self._seed(repeat), "accuracy": item["accuracy"], "seconds": item["seconds"]}
                for repeat, item in sorted(answers.items())
            ]
        root = self.folder.resolve()
        if weights is not None and Path(weights).resolve().is_relative_to(root):
            weights = str(Path(weights).resolve().relative_to(root))
        self.store.add_result(record.number, answer["accuracy"], answer["seconds"], details, answer["curve"], weights)
        self._records[record.number] = replace(
            record,
            accuracy=answer["accuracy"],
            seconds=answer["seconds"],
            details=details,
            curve=answer["curve"],
            weights=weights,
            received_utc=utc_now(),
        )
        return True

    def _failed(self, job: _Job, future: Future[dict[str, Any]]) -> EvaluationError:
        """Record a failed evaluation; return the error that stops the campaign."""
        record = job.record
        cause = None if future.cancelled() else future.exception()
        if cause is not None and not isinstance(cause, Exception):
            raise cause  # KeyboardInterrupt and its like are no failures of the evaluation
        text = "it was cancelled" if cause is None else str(cause) or type(cause).__name__
        hint = cause.hint if isinstance(cause, DfmobileError) else ""
        times = self.store.add_failure(record.number, text, hint)
        where = training_folder(self.folder, record.encoding, job.repeat)
        again = "" if times == 1 else f" (attempt {times})"
        error = EvaluationError(
            f"evaluation {record.number}, of {record.encoding}, failed{again}: {text}; its files are in {where}",
            hint=(f"{hint}; " if hint else "") + "everything is kept: the same command tries it once more and goes on",
        )
        error.__cause__ = cause
        return error

    def result(self) -> CampaignResult:
        """Return what the campaign has found by now."""
        pruner = self.state.pruner
        return CampaignResult(
            folder=self.folder,
            evaluations=self.store.evaluations(),
            boundary=self.store.boundary(),
            total=pruner.total,
            alive=pruner.alive_count,
            pruned=pruner.total - pruner.alive_count - self._drawn,
            finished="exhausted" if pruner.alive_count == 0 else "budget",
        )
