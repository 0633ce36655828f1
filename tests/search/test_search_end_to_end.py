"""The search with the real worker processes and the real analytic evaluator."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from search_helpers import MacsPredictor

from dfmobile.accuracy.base import EvaluationRequest, open_evaluator
from dfmobile.architecture.spaces import open_space
from dfmobile.errors import PluginError
from dfmobile.execution.local import LocalExecutor
from dfmobile.search.boundary import pareto_optimal
from dfmobile.search.campaign import load_campaign, run_campaign
from dfmobile.search.settings import CampaignSettings

SPACE = open_space("df-mini", max_depth=1)


def test_worker_processes_find_the_true_boundary_of_the_analytic_evaluator(tmp_path: Path) -> None:
    with LocalExecutor(2) as executor:
        result = run_campaign(
            tmp_path / "run", SPACE, MacsPredictor(), "analytic", {}, executor, CampaignSettings(mode="paper")
        )
    evaluator = open_evaluator("analytic")
    rows = SPACE.rows()
    encodings = [SPACE.architecture(row).text for row in rows]
    accuracy = [evaluator.evaluate(EvaluationRequest(text, 0, tmp_path)).accuracy for text in encodings]
    latency = MacsPredictor().predict_rows(SPACE, rows, 32, 32)
    optimal = np.flatnonzero(pareto_optimal(latency.tolist(), accuracy))
    assert {item.encoding for item in result.boundary} == {encodings[index] for index in optimal}
    campaign = load_campaign(tmp_path / "run")
    with campaign.store as store:
        assert store.meta()["identity"]["evaluator"]["description"]["simulated"] is True


def test_an_unknown_evaluator_stops_before_anything_is_drawn(tmp_path: Path) -> None:
    with LocalExecutor(1) as executor, pytest.raises(PluginError, match="unknown name 'nothing'"):
        run_campaign(tmp_path, SPACE, MacsPredictor(), "nothing", {}, executor, CampaignSettings(mode="paper"))


def test_a_second_process_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    here = Path(__file__).parent
    command = [sys.executable, str(here / "campaign_process.py"), str(tmp_path / "run"), "100", "0.2"]
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=here)
    try:
        assert first.stdout is not None
        assert first.stdout.readline().startswith("started")
        second = subprocess.run(command, capture_output=True, text=True, cwd=here, timeout=60)
        assert second.returncode != 0
        assert f"process {first.pid} is already searching in" in second.stderr
    finally:
        os.kill(first.pid, signal.SIGINT)  # Ctrl-C: leaves resumable state
        deadline = time.monotonic() + 30
        while first.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        first.kill()
        first.wait()
        assert first.stdout is not None
        first.stdout.close()
    campaign = load_campaign(tmp_path / "run")
    with campaign.store as store:
        assert store.draws()
