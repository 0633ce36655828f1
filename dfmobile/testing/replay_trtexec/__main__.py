"""The program: ``python -m replay_trtexec FLAGS``, as ``install_replay`` has it run."""

import os
import sys
from pathlib import Path

from . import configure_replay, read_settings
from .play import Replay


def main() -> int:
    """Run once; return the exit code."""
    home = Path(os.environ.get("DFMOBILE_REPLAY", "."))
    settings = read_settings(home / "settings.json")
    replay = Replay(sys.argv, settings)
    if replay.will_fail and settings["failures_left"] > 0:
        configure_replay(home.parent, failures_left=settings["failures_left"] - 1)
    return replay.run()


if __name__ == "__main__":
    sys.exit(main())
