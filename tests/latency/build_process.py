"""Builds a table of a small space in a process of its own: what the tests of killing and of locking start.

Arguments: path of the table; how many passes to record before saying so on standard output and waiting (0: never).
"""

from __future__ import annotations

import sys
import time

from latency_helpers import QUICK

from dfmobile.architecture.spaces import open_space
from dfmobile.devices.device import open_device
from dfmobile.latency.builder import BuildProgress, build_table


def main() -> None:
    """Build, and stop for the parent's signal where it asked for that."""
    path, stop_at = sys.argv[1], int(sys.argv[2])

    def progress(step: BuildProgress) -> None:
        if stop_at and step.done == stop_at:
            print("waiting", flush=True)
            time.sleep(600)

    build_table(path, open_space("df-mini", 1), 32, 32, open_device("local"), "litert", QUICK, progress=progress)
    print("done", flush=True)


if __name__ == "__main__":
    main()
