"""Campaigns: deterministic, resumable, and clear about what stops them."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from search_helpers import HereExecutor, MacsPredictor, evaluate, toy_accuracy

from dfmobile.architecture.spaces import SearchSpace, open_space
from dfmobile.errors import EvaluationError, InputError, LockedError, MissingBlocksError, StorageError
from dfmobile.execution import open_executor
from dfmobile.files import FileLock
from dfmobile.search.boundary import pareto_optimal
from dfmobile.search.campaign import CampaignProgress, CampaignResult, load_campaign, run_campaign, training_folder
from dfmobile.search.explain import explain
from dfmobile.search.settings import CampaignSettings
from dfmobile.search.store import CampaignStore

SPACE = open_space("df-mini", max_depth=1)


def search(
    folder: Path,
    executor: HereExecutor,
    *,
    options: dict[str, Any] | None = None,
    predictor: MacsPredictor | None = None,
    progress: Any = None,
    **settings: Any,
) -> CampaignResult:
    return run_campaign(
        folder,
        SPACE,
        predictor or MacsPredictor(),
        "analytic",
        options or {},
        executor,
        CampaignSettings(**{"mode": "paper", **settings}),
        progress,
    )


def history(result: CampaignResult) -> list[tuple[Any, ...]]:
    return [(r.number, r.encoding, r.predicted_ms, r.accuracy, r.pruned, r.alive) for r in result.evaluations]


def test_run_to_empty_finds_the_true_boundary(tmp_path: Path) -> None:
    with HereExecutor() as executor:
        result = search(tmp_path / "run", executor)
    rows = SPACE.rows()
    latency = MacsPredictor().predict_rows(SPACE, rows, 32, 32)
    encodings = [SPACE.architecture(row).text for row in rows]
    optimal = pareto_optimal(latency.tolist(), [toy_accuracy(text) for text in encodings])
    assert {item.encoding for item in result.boundary} == {encodings[i] for i in np.flatnonzero(optimal)}
    assert result.finished == "exhausted"
    assert result.alive == 0
    assert len(result.evaluations) + result.pruned == result.total == len(rows)
    assert sum(item.pruned or 0 for item in result.evaluations) == result.pruned
    assert [item.predicted_ms for item in result.boundary] == sorted(item.predicted_ms for item in result.boundary)


@pytest.mark.parametrize("lookahead", [1, 3])
def test_the_result_does_not_depend_on_timing_or_workers(tmp_path: Path, lookahead: int) -> None:
    histories = []
    for number, workers in enumerate((1, 2, 4)):
        generator, lock = np.random.default_rng(number), threading.Lock()

        def delay_s(generator: np.random.Generator = generator, lock: threading.Lock = lock) -> float:
            with lock:
                return float(generator.uniform(0, 0.01))

        with HereExecutor(workers=workers, delay_s=delay_s) as executor:
            histories.append(history(search(tmp_path / str(number), executor, budget=12, lookahead=lookahead)))
    assert histories[0] == histories[1] == histories[2]
    assert len(histories[0]) == 12


def test_another_seed_draws_other_architectures(tmp_path: Path) -> None:
    with HereExecutor() as executor:
        first = search(tmp_path / "a", executor, budget=6, seed=0)
        second = search(tmp_path / "b", executor, budget=6, seed=1)
    assert [item.encoding for item in first.evaluations] != [item.encoding for item in second.evaluations]


def test_a_raised_budget_goes_on_as_if_it_had_been_so_from_the_start(tmp_path: Path) -> None:
    with HereExecutor() as executor:
        search(tmp_path / "a", executor, budget=4)
        executor.submitted.clear()
        grown = search(tmp_path / "a", executor, budget=10)
        assert len(executor.submitted) == 6
        once = search(tmp_path / "b", executor, budget=10)
    assert history(grown) == history(once)


def test_a_finished_campaign_run_again_evaluates_nothing(tmp_path: Path) -> None:
    with HereExecutor() as executor:
        first = search(tmp_path / "run", executor, budget=5)
        executor.submitted.clear()
        assert history(search(tmp_path / "run", executor, budget=5)) == history(first)
        assert executor.submitted == []


def test_an_architecture_ruled_out_in_flight_keeps_its_result(tmp_path: Path) -> None:
    with HereExecutor() as executor:
        result = search(tmp_path / "run", executor, lookahead=20)
    assert all(item.accuracy is not None for item in result.evaluations)
    assert len({item.encoding for item in result.evaluations}) == len(result.evaluations)
    assert len(result.evaluations) + result.pruned == result.total


def test_a_failed_evaluation_stops_the_campaign_and_is_tried_again(tmp_path: Path) -> None:
    with HereExecutor() as executor:
        unbroken = search(tmp_path / "unbroken", executor, budget=6)
    unlucky, failing = unbroken.evaluations[2].encoding, True

    def sometimes(payload: dict[str, Any]) -> dict[str, Any]:
        if failing and payload["encoding"] == unlucky:
            raise EvaluationError("the loss is not a number", hint="lower the learning rate")
        return evaluate(payload)

    folder = tmp_path / "run"
    with HereExecutor(sometimes, workers=1) as executor:
        for attempt in (1, 2):
            with pytest.raises(EvaluationError, match="the loss is not a number") as caught:
                search(folder, executor, budget=6)
            with CampaignStore(folder / "campaign.sqlite") as store:
                assert [item["encoding"] for item in store.failures()] == [unlucky] * attempt
                # What was under way beside it may have ended well, and is kept.
                assert {1, 2} <= {item.number for item in store.evaluations()}
            assert unlucky in str(caught.value)
            assert str(training_folder(folder, unlucky)) in str(caught.value)
            assert "lower the learning rate" in caught.value.hint
        assert "attempt 2" in str(caught.value)
        failing = False
        mended = search(folder, executor, budget=6)
    assert history(mended) == history(unbroken)


def test_an_evaluator_with_a_defect_is_named_too(tmp_path: Path) -> None:
    def broken(payload: dict[str, Any]) -> dict[str, Any]:
        raise KeyError("width")

    with HereExecutor(broken) as executor, pytest.raises(EvaluationError, match="evaluation 1, of df,"):
        search(tmp_path / "run", executor, budget=3)


def test_ctrl_c_leaves_a_campaign_that_goes_on(tmp_path: Path) -> None:
    def interrupt(step: CampaignProgress) -> None:
        if step.event == "evaluated" and step.evaluated == 4:
            raise KeyboardInterrupt

    with HereExecutor() as executor:
        with pytest.raises(KeyboardInterrupt):
            search(tmp_path / "a", executor, budget=9, progress=interrupt)
        resumed = search(tmp_path / "a", executor, budget=9)
        unbroken = search(tmp_path / "b", executor, budget=9)
    assert history(resumed) == history(unbroken)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 5}, "seed: 0 there, 5 now"),
        ({"lookahead": 3}, "lookahead: 2 there, 3 now"),
        ({"latency_range": (None, 50.0)}, "latency range ms"),
        ({"input_size": (64, 64)}, r"input: \[32, 32\] there, \[64, 64\] now"),
        ({"options": {"noise": 0.1}}, r"evaluator.options.noise: null there, 0.1 now"),
        ({"predictor": MacsPredictor(0.5)}, "the latencies that the table predicts"),
    ],
)
def test_a_folder_of_another_campaign_is_refused_saying_what_differs(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with HereExecutor() as executor:
        search(tmp_path, executor, budget=3)
        with pytest.raises(InputError, match=message):
            search(tmp_path, executor, **{"budget": 3, **change})


def test_a_budget_below_what_is_drawn_is_refused(tmp_path: Path) -> None:
    with HereExecutor() as executor:
        search(tmp_path, executor, budget=5)
        with pytest.raises(InputError, match="drawn 5 architectures"):
            search(tmp_path, executor, budget=3)


def test_a_second_process_is_refused_with_the_holders_pid(tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / "campaign.sqlite", "searching in"),
        HereExecutor() as executor,
        pytest.raises(LockedError, match="is already searching in") as caught,
    ):
        search(tmp_path, executor, budget=3)
    assert caught.value.holder_pid is not None


def test_an_unknown_mode_or_option_says_what_there_is(tmp_path: Path) -> None:
    with HereExecutor() as executor:
        with pytest.raises(InputError, match="'annealing' is not available in this version") as caught:
            search(tmp_path, executor, mode="annealing")
        assert "budget" in caught.value.hint
        with pytest.raises(InputError, match="'paper' has no option 'margin'"):
            search(tmp_path, executor, mode="paper", mode_options={"margin": 1.0})
        with pytest.raises(InputError, match=r"margin of -1\.0"):
            search(tmp_path, executor, mode="certified", mode_options={"margin": -1.0})
    assert not tmp_path.joinpath("campaign.sqlite").exists()


def test_a_table_with_skipped_blocks_serves_latency_ranges_below_what_it_skipped(tmp_path: Path) -> None:
    partial = MacsPredictor(skipped_above_ms=1.0)
    with HereExecutor() as executor:
        with pytest.raises(MissingBlocksError):
            search(tmp_path / "a", executor, predictor=partial, latency_range=(None, 1.5))
        with pytest.raises(MissingBlocksError):
            search(tmp_path / "a", executor, predictor=partial)
        result = search(tmp_path / "a", executor, predictor=partial, latency_range=(None, 1.0))
        whole = search(tmp_path / "b", executor, latency_range=(None, 1.0))
    assert history(result) == history(whole)
    load_campaign(tmp_path / "a").store.close()


@pytest.mark.parametrize(
    "settings",
    [{"latency_range": (3.0, 1.0)}, {"latency_range": (-1.0, None)}, {"budget": 0}, {"seed": -1}, {"lookahead": 0}],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        CampaignSettings(**{"mode": "paper", **settings})


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with HereExecutor() as executor, pytest.raises(StorageError):
        search(tmp_path / "file", executor, budget=3)


def test_weights_inside_the_run_folder_are_stored_relative_to_it(tmp_path: Path) -> None:
    def with_weights(payload: dict[str, Any]) -> dict[str, Any]:
        return {**evaluate(payload), "weights": f"{payload['folder']}/weights.npz", "curve": [{"epoch": 1}]}

    with HereExecutor(with_weights) as executor:
        result = search(tmp_path / "run", executor, budget=2)
    first = result.evaluations[0]
    assert first.weights is not None
    assert tmp_path / "run" / first.weights == training_folder(tmp_path / "run", first.encoding) / "weights.npz"
    assert first.curve == [{"epoch": 1}]


def test_progress_tells_of_every_draw_and_every_result(tmp_path: Path) -> None:
    steps: list[CampaignProgress] = []
    with HereExecutor() as executor:
        search(tmp_path, executor, budget=3, progress=steps.append)
        assert [step.event for step in steps].count("drawn") == 3
        assert [step.evaluated for step in steps if step.event == "evaluated"] == [1, 2, 3]
        assert steps[0].event == "started"
        steps.clear()
        search(tmp_path, executor, budget=4, progress=steps.append)
    # Result 3 is applied anew, after draw 4, which the old budget had held back.
    assert [step.event for step in steps] == ["resumed", "drawn", "evaluated", "evaluated"]


def test_a_campaign_can_be_looked_at_without_its_table(tmp_path: Path) -> None:
    with HereExecutor() as executor:
        result = search(tmp_path, executor, budget=8)
    campaign = load_campaign(tmp_path)
    with campaign.store:
        assert campaign.result() == result


def test_what_the_evaluator_cannot_evaluate_is_no_candidate(tmp_path: Path) -> None:
    known = [SPACE.architecture(row).text for row in SPACE.rows()[::3]]
    table = tmp_path / "table.csv"
    lines = [f'"{text}",{toy_accuracy(text):.6f}' for text in [*known, "df/64/64/64"]]  # one is of another space
    table.write_text("\n".join(["encoding,accuracy_1", *lines, ""]))
    options = {"table": str(table)}

    def look(folder: Path, space: SearchSpace) -> CampaignResult:
        settings = CampaignSettings()
        with open_executor("local", workers=1) as executor:
            return run_campaign(folder, space, MacsPredictor(), "tabular", options, executor, settings)

    result = look(tmp_path / "run", SPACE)
    assert result.total == len(known)
    assert {item.encoding for item in result.evaluations} <= set(known)
    assert len(result.evaluations) + result.pruned == len(known)
    campaign = load_campaign(tmp_path / "run")
    with campaign.store:
        other = explain(campaign, SPACE.architecture(SPACE.rows()[1]))
        assert "none of the 12 that the evaluator can evaluate" in other.text
        assert explain(campaign, SPACE.architecture(SPACE.rows()[0])).status in ("evaluated", "ruled out")
    with pytest.raises(InputError, match="knows 13 architectures, none of them in space 'shuffle'"):
        look(tmp_path / "other", open_space("shuffle", max_depth=1))
    assert not (tmp_path / "other").exists()
