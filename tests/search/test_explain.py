"""``search why``: every state an architecture can be in has its reason."""

import json
from collections import Counter
from pathlib import Path

import pytest
from search_helpers import HereExecutor, MacsPredictor, toy_accuracy

from dfmobile.architecture import Architecture
from dfmobile.architecture.spaces import open_space
from dfmobile.search.campaign import load_campaign, run_campaign
from dfmobile.search.explain import explain
from dfmobile.search.settings import CampaignSettings

SPACE = open_space("df-mini", max_depth=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    settings = CampaignSettings(mode="paper", budget=50, latency_range=(1.7, None))
    with HereExecutor() as executor:
        run_campaign(folder, SPACE, MacsPredictor(), "analytic", {}, executor, settings)
    return folder


def test_every_architecture_has_a_reason_that_holds(folder: Path) -> None:
    campaign = load_campaign(folder)
    statuses: Counter[str] = Counter()
    with campaign.store:
        for row in SPACE.rows():
            architecture = SPACE.architecture(row)
            found = explain(campaign, architecture)
            statuses[found.status] += 1
            document = json.loads(json.dumps(found.to_dict()))
            assert document["encoding"] == architecture.text
            if found.status != "ruled out":
                continue
            larger, better = document["larger"], document["better"]
            assert SPACE.precedes(architecture, Architecture.parse(larger["encoding"]))
            assert better["accuracy"] >= larger["accuracy"] >= toy_accuracy(architecture.text)
            assert better["predicted_ms"] <= document["predicted_ms"]
        result = campaign.result()
    assert statuses["evaluated"] == 50
    assert statuses["ruled out"] == result.pruned > 0
    assert statuses["alive"] == result.alive > 0
    assert statuses["outside the latency range"] == len(SPACE.rows()) - result.total > 0


def test_an_evaluated_architecture_says_whether_it_is_on_the_boundary(folder: Path) -> None:
    campaign = load_campaign(folder)
    with campaign.store:
        best = campaign.store.boundary()[0]
        found = explain(campaign, Architecture.parse(best.encoding))
    assert found.facts["on_boundary"]
    assert f"number {best.number}" in found.text


def test_an_architecture_of_another_space_is_said_to_be_so(folder: Path) -> None:
    campaign = load_campaign(folder)
    with campaign.store:
        found = explain(campaign, Architecture.parse("df/64/64/64"))
    assert found.status == "not in the space"
    assert "df-mini" in found.text


def test_an_architecture_in_flight(tmp_path: Path) -> None:
    def interrupt(step: object) -> None:
        if getattr(step, "event", "") == "drawn":
            raise KeyboardInterrupt

    with HereExecutor() as executor, pytest.raises(KeyboardInterrupt):
        run_campaign(
            tmp_path, SPACE, MacsPredictor(), "analytic", {}, executor, CampaignSettings(mode="paper"), interrupt
        )
    campaign = load_campaign(tmp_path)
    with campaign.store:
        (drawn,) = campaign.store.in_flight()
        assert explain(campaign, Architecture.parse(drawn.encoding)).status == "in flight"
