"""One search run in a folder: begin it, go on with it, or look at it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

from dfmobile import __version__
from dfmobile.accuracy.job import DESCRIBE, ENCODINGS
from dfmobile.architecture import Architecture
from dfmobile.architecture.spaces import SearchSpace
from dfmobile.architecture.spaces.base import reopen_space
from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.architecture.spaces.stage_tables import StageTables
from dfmobile.errors import InputError
from dfmobile.execution.base import Executor
from dfmobile.files import FileLock, storage_error
from dfmobile.search.certificate import write_certificate
from dfmobile.search.certified_mode import CertifiedMode
from dfmobile.search.comparison import copy_table, mode_of, reopened_mode
from dfmobile.search.engine import Campaign, CampaignProgress, CampaignResult, Report, training_folder
from dfmobile.search.latencies import MAX_ENUMERATED, Latencies, refuse_unlisted
from dfmobile.search.margin_pruning import MarginPruner
from dfmobile.search.settings import CampaignSettings, as_json, differences
from dfmobile.search.store import CampaignStore, utc_now

__all__ = [
    "Campaign",
    "CampaignProgress",
    "CampaignResult",
    "CampaignSettings",
    "load_campaign",
    "run_campaign",
    "training_folder",
]

STORE_NAME = "campaign.sqlite"
_CHUNK = 1 << 20  # rows that are predicted at once


class RowPredictor(Protocol):
    """What the search needs of a latency predictor (``dfmobile.latency.predictor.Predictor`` is one)."""

    @property
    def skipped_above_ms(self) -> float:
        """Every architecture with a block that the table skipped as too slow is slower than this; else infinite."""

    def predict_rows(
        self,
        space: SearchSpace,
        rows: npt.NDArray[np.int32],
        width: int,
        height: int,
        *,
        skipped: Literal["error", "infinite"] = "error",
    ) -> npt.NDArray[np.float64]:
        """Return the latency (ms) of each row, float64 [len(rows)].

        Args:
            space: search space.
            rows: list ids.
            width: of the input image, pixels.
            height: of the input image, pixels.
            skipped: whether architectures with skipped blocks are an error or infinitely slow.

        Raises:
            MissingBlocksError: if blocks lack.
        """


@runtime_checkable
class StagePredictor(Protocol):
    """What the search needs besides for spaces too large to store a latency for each architecture."""

    def is_additive(self, space: SearchSpace, width: int, height: int) -> bool:
        """Tell whether a latency is a sum over blocks."""

    def stage_latencies(
        self, space: ChainSpace, width: int, height: int, *, skipped: Literal["error", "infinite"] = "error"
    ) -> StageTables:
        """Return all latencies (ms) as tables by stage; arguments and errors are those of ``predict_rows``."""

    def rule_for(self, space: SearchSpace, width: int, height: int) -> str:
        """Return the name of the rule that predicts a space."""


def predict_space(predictor: RowPredictor, space: SearchSpace, settings: CampaignSettings) -> Latencies:
    """Predict every architecture; those that are surely above the latency range may have blocks that were skipped.

    Args:
        predictor: by a table.
        space: up to ``MAX_ENUMERATED`` architectures are predicted one by one; more, where latencies are sums over
            blocks, by stage.
        settings: input size and latency range.

    Raises:
        MissingBlocksError: if the table lacks blocks of the space.
        InputError: if the space is too large to be predicted one by one, and has to be.
    """
    width, height = settings.input_size or space.default_input
    high = settings.latency_range[1]
    surely_above = high is not None and high <= predictor.skipped_above_ms
    skipped: Literal["error", "infinite"] = "infinite" if surely_above else "error"
    if space.count() > MAX_ENUMERATED and isinstance(predictor, StagePredictor):
        if isinstance(space, ChainSpace) and predictor.is_additive(space, width, height):
            return Latencies(stages=predictor.stage_latencies(space, width, height, skipped=skipped))
        refuse_unlisted(space, predictor.rule_for(space, width, height))
    rows = space.rows()
    found = np.empty(len(rows))
    for start in range(0, len(rows), _CHUNK):
        part = slice(start, start + _CHUNK)
        found[part] = predictor.predict_rows(space, rows[part], width, height, skipped=skipped)
    return Latencies(rows_ms=found)


def _only_evaluable(
    predicted_ms: npt.NDArray[np.float64], space: SearchSpace, known: list[str], evaluator: str
) -> npt.NDArray[np.float64]:
    """Make what the evaluator cannot evaluate no candidate: infinitely slow.

    Args:
        predicted_ms: of each row of the space, float64 [N].
        space: the search space.
        known: the evaluator's architectures.
        evaluator: its name, for the message.

    Raises:
        InputError: if it has none of the space.
    """
    members = [architecture for text in known if (architecture := Architecture.parse(text)) in space]
    chosen: list[int] = []
    if members:  # else a large space need not be listed
        rows = space.rows()
        wanted = {space.row(architecture).astype(rows.dtype).tobytes() for architecture in members}
        chosen = [number for number, row in enumerate(rows) if row.tobytes() in wanted]
    if not chosen:
        raise InputError(
            f"evaluator {evaluator!r} knows {len(known)} architectures, none of them in space {space.name!r}",
            hint=f"they are like {known[0]}" if known else "choose another evaluator",
        )
    only = np.full_like(predicted_ms, np.inf)
    only[chosen] = predicted_ms[chosen]
    return only


def run_campaign(
    folder: str | Path,
    space: SearchSpace,
    predictor: RowPredictor,
    evaluator_name: str,
    evaluator_options: Mapping[str, Any],
    executor: Executor,
    settings: CampaignSettings,
    progress: Report | None = None,
    *,
    table: Mapping[str, Any] | None = None,
    table_file: Path | None = None,
    tell: Callable[[str], None] | None = None,
) -> CampaignResult:
    """Begin a campaign in a folder, or go on with the one that is there.

    Args:
        folder: the run folder; made if absent.
        space: the search space.
        predictor: predicts latencies by a table.
        evaluator_name: an entry point of ``dfmobile.evaluators``.
        evaluator_options: its keyword options, JSON values.
        executor: runs the evaluations.
        settings: see :class:`CampaignSettings`.
        progress: told of each step.
        table: what to record about the latency table (path, device, backend, …); JSON-able.
        table_file: the predictor's table; mode ``certified`` keeps a copy, for the certificate and for the intervals
            of latency differences, which it needs the table for.
        tell: told a line where the search falls short of what its mode can do.

    Raises:
        InputError: if no architecture is within the latency range, the evaluator can evaluate none of the space, the
            mode is unknown, or the folder has a campaign of other settings, space, table or evaluator (the message
            says what differs).
        LockedError: if another process searches in this folder.
        MissingBlocksError: if the table lacks blocks of the space.
        EvaluationError: if an evaluation fails.
        FileFormatError: if the folder's campaign is damaged.
        StorageError: if the folder cannot be written.
    """
    folder = Path(folder)
    size = settings.input_size or space.default_input
    mode = mode_of(settings, predictor, space, size, table=table_file is not None)
    options = as_json(dict(evaluator_options), f"options of evaluator {evaluator_name!r}")
    width, height = size
    # All that can be refused is found out before the folder is touched: a refused search leaves nothing behind.
    asked = {"evaluator": evaluator_name, "options": options}
    described = executor.submit(DESCRIBE, asked).result()
    known = executor.submit(ENCODINGS, asked).result()["encodings"]
    latencies = predict_space(predictor, space, settings)
    if known is not None:
        only = _only_evaluable(latencies.by_row(space), space, known, evaluator_name)
        latencies = Latencies(rows_ms=only)
    pruner = mode.pruner(space, latencies, settings.latency_range)
    if tell is not None and isinstance(mode, CertifiedMode) and mode.comparison == "prediction":
        tell(
            "note: latencies are compared by their predictions alone, as if these were exact: the table gives no "
            "intervals of differences for this space and rule (lut build with --passes 2 or more, no block skipped)"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder, "write") from error
    with FileLock(folder / STORE_NAME, "searching in"), CampaignStore(folder / STORE_NAME, create=True) as store:
        identity = as_json(
            {
                "space": {
                    "name": space.name,
                    "max_depth": space.max_depth,
                    "architectures": latencies.count,
                    # So that a campaign can be looked at without the file that its space was read from.
                    **({} if space.document is None else {"document": space.document}),
                },
                "input": [width, height],
                "predictions": {"sha256": latencies.sha256()},
                "evaluator": {"name": evaluator_name, "options": options, "description": described["description"]},
                "mode": {"name": mode.name, "options": mode.options()},
                "latency_range_ms": list(settings.latency_range),
                "seed": settings.seed,
                "lookahead": settings.lookahead,
            },
            "the campaign's settings",
        )
        if known is not None:
            identity["evaluable"] = int(np.isfinite(latencies.by_row(space)).sum())
        stored = store.meta()
        if "identity" in stored:
            _check_same(folder, store, stored, identity, settings)
        else:
            latencies.save(folder)
            certified = isinstance(mode, CertifiedMode) and table_file is not None
            store.set_meta(
                table_sha256=copy_table(table_file, folder) if certified and table_file else None,
                # The copy is asked by the rule that the search used, whatever a later version takes for the best.
                rule=predictor.rule_for(space, width, height) if isinstance(predictor, StagePredictor) else None,
                identity=identity,
                budget=settings.budget,
                table=as_json(dict(table or {}), "the table's description"),
                tool_version=__version__,
                created_utc=utc_now(),
            )
        campaign = Campaign(folder, store, space, mode, pruner, settings, read_only=False)
        result = campaign.run(executor, evaluator_name, options, progress)
        if isinstance(mode, CertifiedMode) and result.finished == "exhausted":
            write_certificate(campaign, mode)
            quiet = mode.sigma is None and isinstance(pruner, MarginPruner) and pruner.margin == 0
            if tell is not None and quiet and mode.margin:
                tell(
                    "note: all repeated seeds gave equal accuracies, so the certificate takes accuracies to have no "
                    "noise; if the evaluator only ignores the seed, search again with --sigma"
                )
        return result


def _check_same(
    folder: Path, store: CampaignStore, stored: dict[str, Any], identity: dict[str, Any], settings: CampaignSettings
) -> None:
    """Check that the folder's campaign is the one asked for, and take over a changed budget."""
    different = differences(stored["identity"], identity)
    if different:
        raise InputError(
            f"{folder} has a campaign of other settings: {'; '.join(different)}",
            hint="give the same settings to go on with it, or another output folder",
        )
    drawn = len(store.draws())
    if settings.budget is not None and settings.budget < drawn:
        raise InputError(
            f"the campaign in {folder} has drawn {drawn} architectures, more than the budget of {settings.budget}",
            hint=f"give a budget of {drawn} or more, or another output folder",
        )
    if settings.budget != stored["budget"]:
        store.set_budget(settings.budget, settings.lookahead)


def load_campaign(folder: str | Path, space: SearchSpace | None = None) -> Campaign:
    """Replay a campaign from its folder alone, to look at it; the table is not needed. Close its ``store``.

    Args:
        folder: the run folder; it may be in use by a running search.
        space: the space, where it is not one that can be opened by name.

    Raises:
        InputError: if the folder has no campaign.
        FileFormatError: if it is damaged.
    """
    folder = Path(folder)
    store = CampaignStore(folder / STORE_NAME)
    try:
        return _replay(folder, store, space)
    except BaseException:
        store.close()
        raise


def _replay(folder: Path, store: CampaignStore, space: SearchSpace | None) -> Campaign:
    stored = store.meta()
    if "identity" not in stored:
        raise InputError(f"the campaign in {folder} has not begun yet", hint="run dfmobile search … again")
    identity = stored["identity"]
    latencies = Latencies.load(folder, identity["predictions"]["sha256"])
    if space is None:
        known = identity["space"]
        space = reopen_space(known["name"], known["max_depth"], known.get("document"))
    low, high = identity["latency_range_ms"]
    width, height = identity["input"]
    settings = CampaignSettings(
        mode=identity["mode"]["name"],
        latency_range=(low, high),
        budget=stored["budget"],
        seed=identity["seed"],
        lookahead=identity["lookahead"],
        input_size=(width, height),
        mode_options=identity["mode"]["options"],
    )
    mode = reopened_mode(identity, folder, space, stored.get("rule"))
    return Campaign(folder, store, space, mode, mode.pruner(space, latencies, (low, high)), settings)
