"""A campaign survives ``kill -9`` at any moment and ends as if nothing had happened."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from search_helpers import HereExecutor, MacsPredictor

from dfmobile.architecture.spaces import open_space
from dfmobile.search.campaign import run_campaign
from dfmobile.search.settings import CampaignSettings
from dfmobile.search.store import CampaignStore

HERE = Path(__file__).parent


def test_killed_campaigns_end_like_an_unbroken_one(tmp_path: Path) -> None:
    folder = tmp_path / "killed"
    kept = 0
    for line_to_kill_at in (2, 6, 9):
        command = [sys.executable, str(HERE / "campaign_process.py"), str(folder), "14", "0.05"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=HERE)
        assert process.stdout is not None
        for _ in range(line_to_kill_at):
            assert process.stdout.readline(), "the campaign ended before it could be killed"
        os.kill(process.pid, signal.SIGKILL)
        process.wait(60)
        process.stdout.close()
        assert process.returncode == -signal.SIGKILL
        with CampaignStore(folder / "campaign.sqlite") as store:
            evaluated = len(store.evaluations())
        assert kept <= evaluated < 14
        kept = evaluated
    assert kept > 0
    space, settings = open_space("df-mini", max_depth=2), CampaignSettings(mode="paper", budget=14, seed=7)
    with HereExecutor() as executor:
        resumed = run_campaign(folder, space, MacsPredictor(), "analytic", {}, executor, settings)
        assert len(executor.submitted) == 14 - kept  # nothing that was committed is evaluated again
        unbroken = run_campaign(tmp_path / "unbroken", space, MacsPredictor(), "analytic", {}, executor, settings)
    columns = [
        [(r.number, r.encoding, r.predicted_ms, r.accuracy, r.pruned, r.alive) for r in result.evaluations]
        for result in (resumed, unbroken)
    ]
    assert columns[0] == columns[1]
    assert [r.encoding for r in resumed.boundary] == [r.encoding for r in unbroken.boundary]


@pytest.mark.parametrize("lookahead", [1, 3])
def test_interrupted_after_every_single_event(tmp_path: Path, lookahead: int) -> None:
    """Stopped at each event in turn, in one folder: the end is the same."""
    space = open_space("df-mini", max_depth=1)
    settings = CampaignSettings(mode="paper", budget=8, seed=3, lookahead=lookahead)

    class StopError(Exception):
        pass

    def stop_at_second(counter: list[int]) -> None:
        counter[0] += 1
        if counter[0] == 2:
            raise StopError

    with HereExecutor() as executor:
        unbroken = run_campaign(tmp_path / "a", space, MacsPredictor(), "analytic", {}, executor, settings)
        for _ in range(40):
            counter = [0]
            try:
                broken = run_campaign(
                    tmp_path / "b", space, MacsPredictor(), "analytic", {}, executor, settings,
                    lambda _, counter=counter: stop_at_second(counter),
                )  # fmt: skip
                break
            except StopError:
                continue
        else:
            pytest.fail("the campaign did not end")
    assert [(r.encoding, r.accuracy, r.pruned, r.alive) for r in broken.evaluations] == [
        (r.encoding, r.accuracy, r.pruned, r.alive) for r in unbroken.evaluations
    ]
