"""A command that is told to end stops what it runs, keeps what is finished, and goes on later: as after Ctrl-C."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

MINI = "df,stem=8s1,classes=10,channels=1/8/8/8"
DFMOBILE = "from dfmobile.cli.main import main; main()"
INTERRUPTED = "interrupted: what was finished is kept; run the same command to continue\n"
WAITING = """
import sys, time
import typer
from dfmobile.cli.common import end_in_order_when_terminated, handled

@handled
def wait() -> None:
    try:
        print("ready", file=sys.stderr, flush=True)
        time.sleep(60)
    finally:
        print("cleaned up", file=sys.stderr)

end_in_order_when_terminated()
typer.run(wait)
"""
CHILD = """
import os, signal, sys
from dfmobile.cli.common import end_in_order_when_terminated
end_in_order_when_terminated()
assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
child = os.fork()
if child == 0:
    os._exit(7 if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL else 1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
IGNORED = """
import signal
signal.signal(signal.SIGHUP, signal.SIG_IGN)
from dfmobile.cli.common import end_in_order_when_terminated
end_in_order_when_terminated()
signal.raise_signal(signal.SIGHUP)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_a_command_that_is_told_to_end_cleans_up(number: signal.Signals) -> None:
    with subprocess.Popen([sys.executable, "-c", WAITING], stderr=subprocess.PIPE, text=True) as command:
        assert command.stderr is not None
        assert command.stderr.readline() == "ready\n"
        command.send_signal(number)
        assert command.stderr.read() == f"cleaned up\n{INTERRUPTED}"
        assert command.wait(60) == 128 + number


@pytest.mark.slow
def test_a_build_that_is_told_to_end_keeps_what_is_finished(tmp_path: Path) -> None:
    table = tmp_path / "t.sqlite"
    words = ["lut", "build", "--network", MINI, "--input", "32x32", "--passes", "20", "-o", str(table)]
    with subprocess.Popen(
        [sys.executable, "-c", DFMOBILE, *words],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as command:  # fmt: skip
        assert command.stderr is not None
        seen = []
        for line in command.stderr:
            seen.append(line)
            if re.match(r"measuring [1-9]", line):  # past what is imported late: imports may swallow an interrupt
                command.send_signal(signal.SIGTERM)
                command.send_signal(signal.SIGTERM)  # as timeout does
                break
        seen += command.stderr.readlines()
        code = command.wait(60)
    assert code == 143, "".join(seen)
    assert seen[-1] == INTERRUPTED
    assert not [line for line in seen if "Traceback" in line]
    assert table.exists()


def test_children_made_by_fork_end_the_usual_way() -> None:
    assert subprocess.run([sys.executable, "-c", CHILD], check=False).returncode == 7


def test_what_is_ignored_stays_ignored() -> None:
    assert subprocess.run([sys.executable, "-c", IGNORED], check=False).returncode == os.EX_OK
