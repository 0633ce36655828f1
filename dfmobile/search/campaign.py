"""One search run in a folder: begin it, go on with it, or look at it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from dfmobile import __version__
from dfmobile.accuracy.job import DESCRIBE
from dfmobile.architecture.spaces import SearchSpace, open_space
from dfmobile.errors import FileFormatError, InputError
from dfmobile.execution.base import Executor
from dfmobile.files import FileLock, atomic_path, storage_error
from dfmobile.search.certificate import write_certificate
from dfmobile.search.certified_mode import CertifiedMode
from dfmobile.search.comparison import copy_table, mode_of, reopened_mode
from dfmobile.search.engine import Campaign, CampaignProgress, CampaignResult, Report, training_folder
from dfmobile.search.settings import CampaignSettings, as_json, differences, fingerprint
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
PREDICTIONS_NAME = "predicted_ms.npy"


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


def _predict(predictor: RowPredictor, space: SearchSpace, settings: CampaignSettings) -> npt.NDArray[np.float64]:
    """Predict every architecture; those that are surely above the latency range may have blocks that were skipped."""
    width, height = settings.input_size or space.default_input
    high = settings.latency_range[1]
    surely_above = high is not None and high <= predictor.skipped_above_ms
    skipped: Literal["error", "infinite"] = "infinite" if surely_above else "error"
    return np.asarray(predictor.predict_rows(space, space.rows(), width, height, skipped=skipped), dtype=np.float64)


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

    Raises:
        InputError: if no architecture is within the latency range, the mode is unknown, or the folder has a campaign
            of other settings, space, table or evaluator (the message says what differs).
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
    described = executor.submit(DESCRIBE, {"evaluator": evaluator_name, "options": options}).result()
    predicted_ms = _predict(predictor, space, settings)
    pruner = mode.pruner(space, predicted_ms, settings.latency_range)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, folder, "write") from error
    with FileLock(folder / STORE_NAME, "searching in"), CampaignStore(folder / STORE_NAME, create=True) as store:
        identity = as_json(
            {
                "space": {"name": space.name, "max_depth": space.max_depth, "architectures": len(predicted_ms)},
                "input": [width, height],
                "predictions": {"sha256": fingerprint(predicted_ms)},
                "evaluator": {"name": evaluator_name, "options": options, "description": described["description"]},
                "mode": {"name": mode.name, "options": mode.options()},
                "latency_range_ms": list(settings.latency_range),
                "seed": settings.seed,
                "lookahead": settings.lookahead,
            },
            "the campaign's settings",
        )
        stored = store.meta()
        if "identity" in stored:
            _check_same(folder, store, stored, identity, settings)
        else:
            with atomic_path(folder / PREDICTIONS_NAME) as temporary, temporary.open("wb") as stream:
                np.save(stream, predicted_ms, allow_pickle=False)
            certified = isinstance(mode, CertifiedMode) and table_file is not None
            store.set_meta(
                table_sha256=copy_table(table_file, folder) if certified and table_file else None,
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
    path = folder / PREDICTIONS_NAME
    try:
        predicted_ms = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise FileFormatError(f"{path} cannot be read: {error}", hint="search into a new folder") from error
    if fingerprint(predicted_ms) != identity["predictions"]["sha256"]:
        raise FileFormatError(f"{path} is not the file that the campaign wrote", hint="search into a new folder")
    if space is None:
        space = open_space(identity["space"]["name"], max_depth=identity["space"]["max_depth"])
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
    mode = reopened_mode(identity, folder, space)
    return Campaign(folder, store, space, mode, mode.pruner(space, predicted_ms, (low, high)), settings)
