"""Runs one slow campaign as a process of its own, to be killed by test_campaign_resume.py: FOLDER BUDGET DELAY_S."""

import sys

from search_helpers import HereExecutor, MacsPredictor

from dfmobile.architecture.spaces import open_space
from dfmobile.search.campaign import run_campaign
from dfmobile.search.settings import CampaignSettings

if __name__ == "__main__":
    folder, budget, delay_s = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    with HereExecutor(delay_s=lambda: delay_s) as executor:
        run_campaign(
            folder,
            open_space("df-mini", max_depth=2),
            MacsPredictor(),
            "analytic",
            {},
            executor,
            CampaignSettings(mode="paper", budget=budget, seed=7),
            lambda step: print(step.event, step.evaluated, flush=True),
        )
