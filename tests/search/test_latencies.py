"""Which pruner a space gets, how latencies are kept with a run, and a campaign over stage tables."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from factored_helpers import chain_space, rows_of, tables_of
from search_helpers import HereExecutor, StageMacsPredictor

from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.errors import FileFormatError, InputError
from dfmobile.search import campaign as campaigns
from dfmobile.search import factored, latencies
from dfmobile.search.campaign import load_campaign, run_campaign
from dfmobile.search.factored import FactoredPruner
from dfmobile.search.latencies import Latencies, open_pruner
from dfmobile.search.pruning import EnumeratedPruner
from dfmobile.search.settings import CampaignSettings


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every space is too large for rows, and those above 3,000 architectures for bits."""
    for module in (latencies, campaigns):
        monkeypatch.setattr(module, "MAX_ENUMERATED", 500)
    monkeypatch.setattr(factored, "MAX_BITS", 3_000)


def test_the_size_and_the_latencies_choose_the_pruner(small_limits: None) -> None:
    chosen = {}
    for depth in (1, 2, 3):
        space = chain_space("df", depth)
        tables = tables_of(space, depth)
        pruner = open_pruner(space, Latencies(stages=tables))
        chosen[depth] = pruner.stored if isinstance(pruner, FactoredPruner) else "rows"
        assert pruner.total == space.count()
        listed = open_pruner(space, Latencies(rows_ms=tables.values(rows_of("df", depth))))
        assert isinstance(listed, EnumeratedPruner)
        assert listed.latency_span() == pytest.approx(pruner.latency_span())
        edges = np.linspace(*pruner.latency_span(), 5)
        edges[0], edges[-1] = 0.0, 1e9
        for mine, theirs in zip(pruner.latency_histogram(edges), listed.latency_histogram(edges), strict=True):
            assert mine.tolist() == theirs.tolist()
    assert chosen == {1: "rows", 2: "bits", 3: "constraints"}
    with pytest.raises(InputError, match="margin"):
        open_pruner(space, Latencies(rows_ms=tables.values(rows_of("df", 3))), margin=0.1)


def test_latencies_are_given_in_one_way_and_by_row_in_both() -> None:
    space = chain_space("df", 2)
    tables = tables_of(space, 1)
    by_stage, by_row = Latencies(stages=tables), Latencies(rows_ms=tables.values(rows_of("df", 2)))
    assert by_stage.count == by_row.count == 833
    assert np.array_equal(by_stage.by_row(space), by_row.by_row(space))
    assert by_stage.sha256() != Latencies(stages=tables_of(space, 2)).sha256()
    with pytest.raises(ValueError, match="one by one or as stage tables"):
        Latencies()


@pytest.mark.parametrize("stages", [True, False])
def test_latencies_are_kept_with_the_run(tmp_path: Path, stages: bool) -> None:
    tables = tables_of(chain_space("df-seg", 1), 1)
    given = Latencies(stages=tables) if stages else Latencies(rows_ms=np.arange(5.0))
    given.save(tmp_path)
    assert Latencies.load(tmp_path, given.sha256()).sha256() == given.sha256()
    with pytest.raises(FileFormatError, match="not the file that the campaign wrote"):
        Latencies.load(tmp_path, "0" * 64)
    path = next(tmp_path.iterdir())
    data = path.read_bytes()
    for damaged in (b"", b"PK\x03\x04", data[: len(data) // 2], b"\x00" * 100):
        path.write_bytes(damaged)
        with pytest.raises(FileFormatError, match="predicted_ms"):
            Latencies.load(tmp_path, given.sha256())
    if stages:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr(
                "first.npy", b"\x93NUMPY\x01\x00\x76\x00{'descr': '|O', 'fortran_order': False}" + b" " * 80
            )
        with pytest.raises(FileFormatError, match="predicted_ms"):
            Latencies.load(tmp_path, given.sha256())


def test_a_file_that_unpacks_to_too_much_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given = Latencies(stages=tables_of(chain_space("df", 2), 1))
    given.save(tmp_path)
    monkeypatch.setattr(latencies, "MAX_FILE_BYTES", 20_000)
    with zipfile.ZipFile(tmp_path / "predicted_ms.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("first.npy", b"\0" * 30_000)
    with pytest.raises(FileFormatError, match="unpacks to more than"):
        Latencies.load(tmp_path, given.sha256())


def _history(result: Any) -> list[tuple[Any, ...]]:
    return [(item.number, item.encoding, item.accuracy, item.pruned, item.alive) for item in result.evaluations]


def test_a_campaign_by_stage_resumes_and_replays(tmp_path: Path, small_limits: None) -> None:
    """With bits and with constraints; an interrupted run goes on as if it had not been."""
    for name, depth, stored in (("df-mini", 2, "bits"), ("df-mini", 3, "constraints")):
        space = chain_space(name, depth)

        def go(folder: Path, budget: int, space: ChainSpace = space) -> Any:
            with HereExecutor() as executor:
                settings = CampaignSettings(budget=budget, latency_range=(None, 8.0), seed=3)
                return run_campaign(folder, space, StageMacsPredictor(), "analytic", {}, executor, settings)

        whole = go(tmp_path / f"{stored}-a", 10)
        go(tmp_path / f"{stored}-b", 4)
        assert _history(go(tmp_path / f"{stored}-b", 10)) == _history(whole)
        assert not (tmp_path / f"{stored}-a" / "predicted_ms.npy").exists()
        campaign = load_campaign(tmp_path / f"{stored}-a")
        with campaign.store:
            pruner = campaign.state.pruner
            assert isinstance(pruner, FactoredPruner)
            assert pruner.stored == stored
            assert (pruner.total, pruner.alive_count) == (whole.total, whole.alive)


def test_rules_that_are_no_sums_are_predicted_one_by_one_or_refused(
    tmp_path: Path, small_limits: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    predictor = StageMacsPredictor()
    predictor.additive = False
    space = chain_space("df-mini", 2)
    with HereExecutor() as executor:
        settings = CampaignSettings(budget=3)
        result = run_campaign(tmp_path / "a", space, predictor, "analytic", {}, executor, settings)
        assert result.total == 833
        assert (tmp_path / "a" / "predicted_ms.npy").exists()
        monkeypatch.setattr(latencies, "MAX_ROWS", 800)
        with pytest.raises(InputError, match="'cache-aware' is not a sum over blocks") as caught:
            run_campaign(tmp_path / "b", space, predictor, "analytic", {}, executor, settings)
    assert "--rule sum" in caught.value.hint
    assert not (tmp_path / "b").exists()
