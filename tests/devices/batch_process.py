"""A host process for tests that kill it: runs a batch and prints the id of each result as it takes it.

Run: ``python batch_process.py FOLDER RUN_ID``; the items are those of ``items_for``.
"""

from __future__ import annotations

import sys
from pathlib import Path

from batch_far_sides import script, settings_for

from dfmobile.devices.batch import Batch, BatchItem
from dfmobile.devices.transport.local import LocalTransport

COUNT = 30


def items_for(folder: Path) -> list[BatchItem]:
    """Return items that leave a line in a file each time they run."""
    return [
        script(f"item{number:02}", f"echo {number} >> {folder}/ran; sleep 0.1; echo result {number}")
        for number in range(COUNT)
    ]


def main() -> None:
    """Run it."""
    folder = Path(sys.argv[1])
    batch = Batch(LocalTransport(), settings_for(folder), run_id=sys.argv[2])
    for result in batch.run(items_for(folder)):
        print(result.id, flush=True)


if __name__ == "__main__":
    main()
