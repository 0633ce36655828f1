"""Make the README's picture and its caption from a finished ``make quickstart``.

Run: ``python benchmarks/quickstart_picture.py quickstart-run docs/images/quickstart-boundary.svg``. Prints the caption:
what was searched, how many were trained and ruled out, how far predictions were off, date and machine.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from dfmobile.devices.profile import load_profile, summary
from dfmobile.report.standalone import write_boundary_svg
from dfmobile.search.campaign import load_campaign


def caption(folder: Path) -> str:
    """Return the caption of a quickstart's picture."""
    campaign = load_campaign(folder / "search")
    try:
        result, measured = campaign.result(), campaign.store.remeasured()
        meta = campaign.store.meta()
    finally:
        campaign.store.close()
    errors = [
        abs(item["predicted_ms"] / item["measured_ms"] - 1)
        for item in measured.values()
        if item["measured_ms"] is not None
    ]
    evaluator = meta["identity"]["evaluator"]["name"]
    done = {"training": "were trained on MNIST-5k", "tabular": "were looked up in the table of trainings"}[evaluator]
    return (
        f"`make quickstart` on {meta['created_utc'][:10]}, {summary(load_profile(folder / 'device.yaml'))}: of "
        f"{result.total} architectures of `{campaign.space.name}`, {len(result.evaluations)} {done}, "
        f"{result.pruned} were ruled out without it, {len(result.boundary)} won. The winners' predictions "
        f"were off by {statistics.fmean(errors):.1%} on average, {max(errors):.1%} at most, when measured end to end."
    )


def main() -> None:
    """Parse, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="what make quickstart left")
    parser.add_argument("picture", type=Path, help=".svg file to write")
    arguments = parser.parse_args()
    write_boundary_svg(arguments.folder / "search", arguments.picture)
    print(caption(arguments.folder))


if __name__ == "__main__":
    main()
