"""Mode ``certified``: sound whatever the order of results, complete when run to empty, and checked by other code."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from search_helpers import (
    HereExecutor,
    MacsPredictor,
    StageMacsPredictor,
    evaluate,
    monotone_accuracy,
    precedence,
    toy_accuracy,
)

from dfmobile.architecture import Architecture
from dfmobile.architecture.spaces import open_space
from dfmobile.errors import FileFormatError, InputError
from dfmobile.search import campaign as campaigns
from dfmobile.search.base import Candidate, Covered, Evaluated, Reason
from dfmobile.search.boundary import pareto_optimal
from dfmobile.search.campaign import load_campaign, run_campaign
from dfmobile.search.certificate import CERTIFICATE_NAME, certificate_digest, violations
from dfmobile.search.engine import REPEATS
from dfmobile.search.explain import explain
from dfmobile.search.margin_pruning import MarginPruner
from dfmobile.search.noise import pooled_deviation
from dfmobile.search.settings import CampaignSettings
from dfmobile.search.verify import verify

SPACE = open_space("df-mini", max_depth=1)
ROWS = SPACE.rows()
BELOW = precedence(SPACE, ROWS)


class World:
    """Random latencies, with ties, that do not follow the order, and a random monotone accuracy."""

    def __init__(self, seed: int, levels: int, margin: float = 0.0, half_ms: float | None = None) -> None:
        generator = np.random.default_rng(seed)
        self.latency = generator.integers(1, 20, size=len(ROWS)) / 4.0
        self.accuracy = monotone_accuracy(BELOW, generator, levels)
        differences = None if half_ms is None else Constant(half_ms)
        self.pruner = MarginPruner(SPACE, ROWS, self.latency, margin=margin, sigma=1.0, differences=differences)

    def candidate(self, index: int) -> Candidate:
        return Candidate(tuple(int(item) for item in ROWS[index]), float(self.latency[index]))

    def alive(self) -> set[int]:
        return {index for index in range(len(ROWS)) if self.pruner.is_alive(self.candidate(index))}


class Constant:
    """Every latency difference is known to within the same half width; equal architectures differ by nothing."""

    def __init__(self, half_ms: float) -> None:
        self.half_ms = half_ms

    def half_widths_ms(self, left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.where((left == right).all(axis=1), 0.0, self.half_ms)


@given(
    st.integers(0, 10**6),
    st.sampled_from([3, 10**9]),
    st.permutations(list(range(len(ROWS)))),
    st.sampled_from([0.0, 0.1]),
    st.sampled_from([None, 0.4]),
)
@settings(max_examples=60, deadline=None)
def test_nothing_of_the_true_boundary_is_lost_whatever_the_order_of_results(
    seed: int, levels: int, order: list[int], margin: float, half_ms: float | None
) -> None:
    """At every step, and what is ruled out is exactly what the rules say."""
    world = World(seed, levels, margin, half_ms)
    latency, accuracy, slack = world.latency, world.accuracy, half_ms or 0.0
    front = pareto_optimal(latency.tolist(), accuracy.tolist())
    points = {(latency[index], accuracy[index]) for index in np.flatnonzero(front)}
    evaluated: list[int] = []
    for index in order:
        if not world.pruner.is_alive(world.candidate(index)):
            continue
        world.pruner.take(world.candidate(index))
        evaluated.append(index)
        world.pruner.apply(Evaluated(len(evaluated), world.candidate(index), float(accuracy[index])))
        alive = world.alive()
        kept = alive | set(evaluated)
        assert points <= {(latency[item], accuracy[item]) for item in kept}
        for s in set(range(len(ROWS))) - set(evaluated):
            by_table = any(BELOW[s, y] and y != s and latency[y] - latency[s] + slack <= 0 for y in range(len(ROWS)))
            by_results = any(
                BELOW[s, w] and accuracy[z] >= accuracy[w] + margin and latency[z] - latency[s] + slack <= 0
                for w in evaluated
                for z in evaluated
            )
            assert (s not in alive) == (by_table or by_results)
            reason = world.pruner.why(world.candidate(s))
            assert (reason is None) == (s in alive)
            if isinstance(reason, Covered):
                assert SPACE.precedes(SPACE.architecture(ROWS[s]), SPACE.architecture(reason.larger.row))
                assert reason.larger.predicted_ms <= latency[s]
            elif isinstance(reason, Reason):
                assert reason.better.accuracy >= reason.larger.accuracy + margin
    assert world.pruner.alive_count == 0
    assert len(evaluated) + world.pruner.pruned_count == len(ROWS)


def test_a_margin_keeps_what_a_small_difference_would_rule_out() -> None:
    small, large, quick = ((128, 128, 128), (256, 256, 256), (64, 64, 1024))
    space = open_space("df", max_depth=1)
    rows = space.rows()
    by_widths = {
        widths: tuple(int(item) for item in space.row(Architecture.parse("df/" + "/".join(map(str, widths)))))
        for widths in (small, large, quick)
    }
    latency = np.full(len(rows), 100.0)
    for widths, value in ((small, 1.0), (large, 3.0), (quick, 0.5)):
        latency[(by_widths[widths] == rows).all(axis=1)] = value
    for accuracy, alive in ((0.61, True), (0.62, False)):
        pruner = MarginPruner(space, rows, latency, margin=2.0, sigma=0.01)
        for number, (widths, value, seen) in enumerate(((large, 3.0, 0.6), (quick, 0.5, accuracy)), 1):
            pruner.take(Candidate(by_widths[widths], value))
            pruner.apply(Evaluated(number, Candidate(by_widths[widths], value), seen))
        assert pruner.is_alive(Candidate(by_widths[small], 1.0)) is alive


def test_until_the_noise_is_known_results_rule_out_nothing() -> None:
    latency = np.arange(1.0, len(ROWS) + 1)
    pruner = MarginPruner(SPACE, ROWS, latency, margin=2.0, sigma=None, repeated=2)
    largest = pruner.find([int(item) for item in ROWS[-1]])
    assert largest is not None
    assert pruner.noise is None
    for number, (candidate, repeats) in enumerate(
        ((largest, (0.5,)), (Candidate(tuple(ROWS[0].tolist()), 1.0), (0.9,))), 1
    ):
        pruner.take(candidate)
        ruled_out = pruner.apply(Evaluated(number, candidate, 0.5 if number == 1 else 0.9, repeats))
    assert ruled_out > 0
    assert pruner.noise is not None
    assert (pruner.noise.sigma, pruner.noise.freedom) == (0.0, 2)


def test_pooled_deviation() -> None:
    sigma, freedom = pooled_deviation([(0.5, 0.6), (0.7, 0.7, 0.7)])
    assert freedom == 3
    assert sigma == pytest.approx(np.sqrt((0.05**2 * 2) / 3))
    with pytest.raises(ValueError, match="two seeds"):
        pooled_deviation([(0.5,)])


def test_violations_are_counted_among_comparable_pairs() -> None:
    items = [
        Evaluated(1, Candidate(tuple(ROWS[0].tolist()), 1.0), 0.9),
        Evaluated(2, Candidate(tuple(ROWS[-1].tolist()), 2.0), 0.8),
    ]
    assert violations(SPACE, items, 0.05) == {
        "pairs": 1, "fell": 1, "beyond_margin": 1, "largest": pytest.approx(0.1)
    }  # fmt: skip


def noisy(payload: dict[str, Any]) -> dict[str, Any]:
    shift = 0.0002 * np.random.default_rng([payload["seed"], len(payload["encoding"])]).standard_normal()
    return {**evaluate(payload), "accuracy": toy_accuracy(payload["encoding"]) + float(shift)}


SAID: dict[Path, list[str]] = {}
"""What each run told its user."""


def certified(folder: Path, answer: Callable[[dict[str, Any]], dict[str, Any]] = evaluate, **options: Any) -> Path:
    said = SAID.setdefault(folder, [])
    with HereExecutor(answer) as executor:
        result = run_campaign(
            folder,
            SPACE,
            MacsPredictor(),
            "analytic",
            {},
            executor,
            CampaignSettings(mode="certified", mode_options=options),
            tell=said.append,
        )
    assert result.finished == "exhausted"
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certified(tmp_path_factory.mktemp("certified"), noisy, margin=1.0)


def test_the_certificate_of_a_run_holds(run: Path) -> None:
    found = verify(run)
    assert found.problems == []
    assert not any("gave equal accuracies" in line for line in SAID[run])
    assert "not predicted anew" in found.notes[0]
    document = json.loads((run / CERTIFICATE_NAME).read_text())
    assert document["margin"]["degrees_of_freedom"] == 8
    assert 0 < document["margin"]["sigma"] < 0.01
    assert document["margin"]["accuracy"] == document["margin"]["sigma"]
    counts = document["counts"]
    assert counts["candidates"] == SPACE.count() == sum(value for key, value in counts.items() if key != "candidates")
    assert len(found.facts["conditions"]) == 3


def test_where_too_few_candidates_tell_the_noise_the_certificate_holds_without_a_margin(tmp_path: Path) -> None:
    fastest = np.sort(MacsPredictor().predict_rows(SPACE, ROWS, 32, 32))
    settings_ = CampaignSettings(mode="certified", latency_range=(None, float(fastest[1])))
    with HereExecutor(noisy) as executor:
        run_campaign(tmp_path, SPACE, MacsPredictor(), "analytic", {}, executor, settings_)
    document = json.loads((tmp_path / CERTIFICATE_NAME).read_text())
    assert document["margin"]["sigma"] is None
    assert len(document["conditions"]) == 2  # nothing is said of noise: no result ruled anything out
    found = verify(tmp_path)
    assert found.problems == []
    assert found.facts["ruled_out_by_results"] == 0


def test_conditions_that_the_results_contradict_are_said(tmp_path: Path) -> None:
    def falling(payload: dict[str, Any]) -> dict[str, Any]:
        return {**evaluate(payload), "accuracy": 1.0 - toy_accuracy(payload["encoding"])}

    certified(tmp_path, falling, sigma=0.001)
    found = verify(tmp_path)
    assert found.problems == []
    assert found.facts["violations"]["beyond_margin"] > 0
    assert any("the conditions are not met" in note for note in found.notes)


def test_that_intervals_are_not_used_is_said_before_the_search(tmp_path: Path) -> None:
    said: dict[str, list[str]] = {"certified": [], "paper": []}
    for mode, lines in said.items():
        with HereExecutor() as executor:
            settings_ = CampaignSettings(mode=mode, budget=1)
            run_campaign(
                tmp_path / mode, SPACE, MacsPredictor(), "analytic", {}, executor, settings_, tell=lines.append
            )
    assert said["paper"] == []
    assert len(said["certified"]) == 1
    assert "no intervals of differences" in said["certified"][0]


def test_a_large_space_with_few_candidates_is_certified_by_them_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The space's other architectures are never written down; latencies by stage are the table's but for rounding."""
    monkeypatch.setattr(campaigns, "MAX_ENUMERATED", 500)
    space = open_space("df-mini", max_depth=2)
    predictor = StageMacsPredictor()
    fastest = np.sort(predictor.predict_rows(space, space.rows(), 32, 32))
    settings_ = CampaignSettings(mode="certified", latency_range=(None, float(fastest[30]) + 1e-9))
    with HereExecutor() as executor:
        run_campaign(tmp_path, space, predictor, "analytic", {}, executor, settings_)
    assert (tmp_path / "predicted_ms.npz").exists()
    made: list[str] = []
    original = type(space).architecture
    monkeypatch.setattr(
        type(space), "architecture", lambda self, row: made.append(found := original(self, row)) or found
    )
    found = verify(tmp_path)
    assert found.problems == []
    assert found.facts["candidates"] == 31
    assert len(made) < 200


def test_the_verifier_agrees_with_the_pruner(run: Path) -> None:
    campaign = load_campaign(run)
    with campaign.store:
        reasons = [campaign.state.pruner.why(item) for row in ROWS if (item := campaign.state.pruner.find(row))]
        evaluated = {item.candidate.row for item in campaign.state.evaluated}
    facts = verify(run).facts
    assert facts["evaluated"] == len(evaluated)
    assert facts["candidates"] == len(reasons)
    assert facts["ruled_out_by_results"] + facts["ruled_out_by_table"] == len(ROWS) - len(evaluated)


def test_a_noiseless_run_finds_the_whole_boundary(tmp_path: Path) -> None:
    certified(tmp_path)
    document = json.loads((tmp_path / CERTIFICATE_NAME).read_text())
    assert document["margin"]["accuracy"] == 0.0  # the repeated seeds agree
    assert any("gave equal accuracies" in line for line in SAID[tmp_path])
    latency = MacsPredictor().predict_rows(SPACE, ROWS, 32, 32)
    accuracy = [toy_accuracy(SPACE.architecture(row).text) for row in ROWS]
    front = np.flatnonzero(pareto_optimal(latency.tolist(), accuracy))
    assert set(document["boundary"]) == {SPACE.architecture(ROWS[index]).text for index in front}
    assert verify(tmp_path).holds


def change_certificate(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    document = json.loads((folder / CERTIFICATE_NAME).read_text())
    change(document)
    document["sha256"] = certificate_digest(document)  # a careful forger
    (folder / CERTIFICATE_NAME).write_text(json.dumps(document))


def change_store(folder: Path, sql: str) -> None:
    with sqlite3.connect(folder / "campaign.sqlite") as connection:
        connection.execute(sql)
    connection.close()


def drop_last(document: dict[str, Any]) -> None:
    document["evaluated"].pop()


FORGERIES = {
    "accuracy": lambda document: document["evaluated"][5].update(accuracy=0.99),
    "latency": lambda document: document["evaluated"][5].update(predicted_ms=0.01),
    "missing row": drop_last,
    "margin in sigmas": lambda document: document["margin"].update(sigmas=0.0, accuracy=0.0),
    "margin": lambda document: document["margin"].update(accuracy=0.0),
    "sigma": lambda document: document["margin"].update(sigma=1e-6, accuracy=1e-6),
    "repeats": lambda document: document["evaluated"][0].update(repeats=[0.5, 0.5]),
    "table": lambda document: document["latency"].update(table_sha256="0" * 64),
    "predictions": lambda document: document["latency"].update(predictions_sha256="0" * 64),
    "range": lambda document: document.update(latency_range_ms=[0, 1]),
    "space": lambda document: document["space"].update(candidates_sha256="0" * 64),
    "boundary": lambda document: document["boundary"].pop(),
    "violations": lambda document: document["violations"].update(fell=-1),
    "rule": lambda document: document.update(rule="anything goes"),
    "claim": lambda document: document.update(claim="all is well"),
    "conditions": lambda document: document.update(conditions=[]),
    "counts": lambda document: document["counts"].update(evaluated=1),
    "violations beyond the margin": lambda document: document["violations"].update(beyond_margin=99),
    "largest violation": lambda document: document["violations"].update(largest=0.5),
    "where sigma comes from": lambda document: document["margin"].update(sigma_source="given"),
}


@pytest.mark.parametrize("name", FORGERIES)
def test_a_changed_certificate_is_rejected(run: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "copy"))
    change_certificate(folder, FORGERIES[name])  # type: ignore[arg-type]
    assert not verify(folder).holds


def test_a_digest_that_does_not_fit_is_rejected(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "copy"))
    document = json.loads((folder / CERTIFICATE_NAME).read_text())
    document["created_utc"] = "2020-01-01"
    (folder / CERTIFICATE_NAME).write_text(json.dumps(document))
    assert "digest" in verify(folder).problems[0]


def test_results_changed_everywhere_leave_architectures_without_a_reason(tmp_path: Path) -> None:
    """Certificate and store agree, but what was ruled out does not follow: no accuracy is above another."""
    certified(tmp_path, sigma=0.001, margin=1.0)
    assert verify(tmp_path).holds
    change_store(tmp_path, "UPDATE evaluations SET accuracy = 0.5")

    def change(document: dict[str, Any]) -> None:
        for item in document["evaluated"]:
            item.update(accuracy=0.5)

    change_certificate(tmp_path, change)
    assert any("nothing rules out" in line for line in verify(tmp_path).problems)


def test_other_predictions_are_rejected(run: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(run, tmp_path / "copy"))
    latency = np.load(folder / "predicted_ms.npy")
    np.save(folder / "predicted_ms.npy", latency * 1.01)
    assert not verify(folder).holds


def test_what_is_no_certificate_says_so(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        verify(tmp_path)
    folder = Path(shutil.copytree(run, tmp_path / "copy"))
    for text in (
        "{",
        "[]",
        '{"format": "dfmobile certificate 1"}',
        '{"format": "dfmobile certificate 1", "sha256": 3}',
    ):
        (folder / CERTIFICATE_NAME).write_text(text)
        with pytest.raises(FileFormatError):
            verify(folder)
    document = json.loads((run / CERTIFICATE_NAME).read_text())
    for key in document:
        broken = {**document, key: None}
        (folder / CERTIFICATE_NAME).write_text(json.dumps(broken))
        try:
            assert not verify(folder).holds
        except FileFormatError:
            continue


def test_repeats_are_evaluated_with_other_seeds_and_kept(run: Path) -> None:
    campaign = load_campaign(run)
    with campaign.store as store:
        records = store.evaluations()
    assert [len(record.details.get(REPEATS, ())) for record in records[:6]] == [2, 2, 2, 2, 0, 0]
    assert [item["seed"] for item in records[0].details[REPEATS]] == [1, 2]
    assert all(len(item.repeats) == (2 if item.number <= 4 else 0) for item in campaign.state.evaluated)


def test_why_has_a_reason_for_everything_that_is_ruled_out(run: Path) -> None:
    campaign = load_campaign(run)
    with campaign.store:
        found = [explain(campaign, SPACE.architecture(row)) for row in ROWS]
        pruner = campaign.state.pruner
    assert {item.status for item in found} == {"evaluated", "ruled out"}
    by_results = [item for item in found if "better" in item.facts]
    by_table = [item for item in found if item.status == "ruled out" and "better" not in item.facts]
    assert isinstance(pruner, MarginPruner)
    assert len(by_table) == pruner.covered_count
    assert len(by_results) + len(by_table) == pruner.pruned_count
    assert all("more than the margin" in item.text for item in by_results)
    assert all("no training is needed" in item.text for item in by_table)


@pytest.mark.slow
@pytest.mark.timeout(1200)  # 100 s of CPU time, and more on a busy machine
def test_6651_architectures_need_a_quarter_of_the_trainings_and_get_a_certificate(tmp_path: Path) -> None:
    space = open_space("df", max_depth=3)
    settings_ = CampaignSettings(mode="certified", mode_options={"sigma": 0.0})
    with HereExecutor() as executor:
        result = run_campaign(tmp_path, space, MacsPredictor(), "analytic", {}, executor, settings_)
    assert result.total == 6651
    assert len(result.evaluations) <= 0.26 * result.total
    rows = space.rows()
    latency = MacsPredictor().predict_rows(space, rows, *space.default_input)
    texts = [space.architecture(row).text for row in rows]
    front = np.flatnonzero(pareto_optimal(latency.tolist(), [toy_accuracy(text) for text in texts]))
    assert {item.encoding for item in result.boundary} == {texts[index] for index in front}
    assert verify(tmp_path).holds
