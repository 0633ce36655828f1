"""Shared by all tests: hypothesis without deadlines (machines are shared), and the reference data's place."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from adbd.adbd_fixture import adbd, adbd_binary, adbd_port, start_adbd  # noqa: F401  (fixtures)
from hypothesis import settings
from sshd.sshd_fixture import shared_sshd, sshd  # noqa: F401  (fixtures)

settings.register_profile("dfmobile", deadline=None)
settings.load_profile("dfmobile")

# A job that a shell starts in the background has Ctrl-C ignored, one under nohup the closed terminal, and so have all
# their children: tests that send such a signal to their own children need the default. (A handler of ours is the
# default again in a child.)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture(scope="session")
def reference() -> Path:
    """Folder of published tables that stand outside the repository; tests that need it skip without it."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "reference"
    if not folder.is_dir():
        pytest.skip("the reference tables (../shared/reference beside the repository) are not here")
    return folder
