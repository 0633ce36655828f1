"""Every mode: deterministic, resumable, never twice the same; and better than chance where it claims so."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from search_helpers import HereExecutor, MacsPredictor, toy_accuracy

from dfmobile.architecture.spaces import open_space
from dfmobile.search.base import Evaluated, SearchState
from dfmobile.search.baselines import KeepingPruner, neighbours
from dfmobile.search.boundary import hypervolume
from dfmobile.search.campaign import CampaignProgress, load_campaign, run_campaign
from dfmobile.search.latencies import Latencies
from dfmobile.search.modes import mode_names, open_mode
from dfmobile.search.settings import CampaignSettings

SPACE = open_space("df-mini", max_depth=1)
PRUNING = ("budget", "certified", "paper")
MODES = [pytest.param(name, marks=pytest.mark.filterwarnings("ignore::Warning:optuna.*")) for name in mode_names()]


def settings_of(mode: str, **more: Any) -> CampaignSettings:
    options = {"sigma": 0.0} if mode == "certified" else {}
    return CampaignSettings(mode=mode, mode_options=options, **more)


def skip_without_optuna(mode: str) -> None:
    if mode in ("nsga2", "tpe"):
        pytest.importorskip("optuna")


@pytest.mark.parametrize("mode", MODES)
def test_interrupted_often_it_ends_like_an_unbroken_run(tmp_path: Path, mode: str) -> None:
    skip_without_optuna(mode)
    # Evolution and the Optuna modes begin with 20 stratified draws; the others cost more a draw.
    settings = settings_of(mode, budget=14 if mode in ("budget", "certified") else 23, seed=3)

    class StopError(Exception):
        pass

    histories = []
    with HereExecutor() as executor:
        for folder, every in ((tmp_path / "a", None), (tmp_path / "b", 13)):
            for _ in itertools.count():
                counter = itertools.count(1)

                def stop(step: CampaignProgress, counter: Any = counter, every: int | None = every) -> None:
                    if every and next(counter) % every == 0:
                        raise StopError

                try:
                    result = run_campaign(folder, SPACE, MacsPredictor(), "analytic", {}, executor, settings, stop)
                    break
                except StopError:
                    continue
            histories.append([(r.encoding, r.accuracy, r.pruned, r.alive) for r in result.evaluations])
    assert histories[0] == histories[1]
    assert len({item[0] for item in histories[0]}) == len(histories[0])
    campaign = load_campaign(tmp_path / "b")
    campaign.store.close()
    assert len(campaign.state.evaluated) == len(histories[0])


@pytest.mark.parametrize("mode", [name for name in mode_names() if name not in PRUNING])
@pytest.mark.filterwarnings("ignore::Warning:optuna.*")
def test_baselines_rule_nothing_out(tmp_path: Path, mode: str) -> None:
    skip_without_optuna(mode)
    with HereExecutor() as executor:
        result = run_campaign(tmp_path, SPACE, MacsPredictor(), "analytic", {}, executor, settings_of(mode))
    assert len(result.evaluations) == result.total == SPACE.count()
    assert result.pruned == 0


def test_budget_reaches_more_area_than_uniform_draws() -> None:
    space = open_space("df-mini", max_depth=2)
    rows = space.rows()
    latency = MacsPredictor().predict_rows(space, rows, 32, 32)
    accuracy = {tuple(row): toy_accuracy(space.architecture(row).text) for row in rows.tolist()}

    def area(name: str, seed: int) -> float:
        mode = open_mode(name)
        state = SearchState(mode.pruner(space, Latencies(rows_ms=latency), (None, None)))
        for number in range(1, 16):
            candidate = mode.choose(state, np.random.default_rng([seed, number]))
            state.pruner.take(candidate)
            item = Evaluated(number, candidate, accuracy[candidate.row])
            state.pruner.apply(item)
            state.evaluated.append(item)
        found = state.evaluated
        return hypervolume(
            np.log([item.candidate.predicted_ms for item in found]).tolist(),
            [item.accuracy for item in found],
            float(np.log(latency.max())),
            min(accuracy.values()),
        )

    areas = {name: [area(name, seed) for seed in range(2)] for name in ("budget", "paper")}
    assert min(areas["budget"]) > max(areas["paper"])


def test_neighbours_are_one_step_of_the_order_away() -> None:
    order = np.array([[a <= b for b in range(4)] for a in range(4)])
    assert [found.tolist() for found in neighbours(order)] == [[1], [0, 2], [1, 3], [2]]


def test_a_sample_of_the_alive_is_of_the_alive_and_repeatable() -> None:
    rows = SPACE.rows()
    pruner = KeepingPruner(SPACE, rows, np.arange(1.0, len(rows) + 1))
    whole = pruner.alive(100, np.random.default_rng(0))
    assert sorted(map(tuple, whole.rows.tolist())) == sorted(map(tuple, rows.tolist()))
    pruner.take(whole.candidate(3))
    some = [pruner.alive(10, np.random.default_rng(1)) for _ in range(2)]
    assert (some[0].rows == some[1].rows).all()
    assert len(some[0].rows) == 10
    assert all(pruner.is_alive(some[0].candidate(index)) for index in range(10))
    assert pruner.latency_span() == (1.0, float(len(rows)))


def test_a_pruner_that_cannot_list_draws_the_alive() -> None:
    """The default of the contract, for pruners of spaces beyond enumeration."""
    from dfmobile.search.base import Pruner

    rows = SPACE.rows()
    pruner = KeepingPruner(SPACE, rows, np.arange(1.0, len(rows) + 1))
    found = Pruner.alive(pruner, 20, np.random.default_rng(0))
    assert 1 < len(found.rows) <= 20
    assert len({tuple(row) for row in found.rows.tolist()}) == len(found.rows)
    assert pruner.find(found.rows[0].tolist()) == found.candidate(0)
