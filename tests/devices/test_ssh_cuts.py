"""Connections that are cut and clients that are killed: an error each time, and nothing is left on the far side."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from ssh_boards import opened, runs, wait_for
from sshd.sshd_fixture import Sshd

from dfmobile.devices.transport.base import CommandTimeoutError, ConnectionLostError
from dfmobile.errors import DeviceError

LIMIT_S = 60.0
# Children in two ways, one that does not listen to TERM, and one that closes its output.
STUBBORN = "trap '' TERM; (sleep 600; :) & sh -c 'exec >&- 2>&-; sleep 600; :' & echo up; sleep 600; echo down"


@pytest.mark.parametrize("cuts", [1, pytest.param(5, marks=pytest.mark.slow)])
def test_cuts(sshd: Sshd, cuts: int) -> None:
    with opened(sshd) as transport:
        for number in range(cuts):
            with pytest.raises(ConnectionLostError, match="broke while sh ran") as caught:
                transport.run(["sh", "-c", STUBBORN], timeout_s=LIMIT_S, on_output=lambda *_: sshd.drop_connections())
            assert caught.value.hint
            with pytest.raises(ConnectionLostError, match="is lost"):
                transport.run(["true"], timeout_s=LIMIT_S)
            assert sshd.wait_until_quiet() == {}
            transport.reconnect()
            assert transport.run(["echo", str(number)], timeout_s=LIMIT_S).text == str(number)
    assert sshd.line.connections == cuts + 1
    assert sshd.wait_until_quiet() == {}


def test_a_cut_between_commands(sshd: Sshd) -> None:
    with opened(sshd) as transport:
        sshd.drop_connections()
        with pytest.raises(ConnectionLostError) as caught:
            transport.run(["true"], timeout_s=LIMIT_S)
        assert sshd.uri in str(caught.value)
        sshd.stop()
        with pytest.raises(DeviceError):
            transport.reconnect()
        sshd.start()
        transport.reconnect()
        assert transport.run(["echo", "x"], timeout_s=LIMIT_S).text == "x"


def test_cut_transfers_are_whole_or_absent(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(bytes(range(256)) * (1 << 15))

    def cut(done: int, total: int) -> None:
        if done > total // 2:
            sshd.drop_connections()

    with opened(sshd) as transport:
        folder = f"{transport.scratch_root}/{tmp_path.name}"
        transport.make_folder(folder)
        transport.push(tmp_path / "file", f"{folder}/there")
        for action in (
            lambda: transport.push(tmp_path / "file", f"{folder}/new", on_progress=cut),
            lambda: transport.pull(f"{folder}/there", tmp_path / "back", on_progress=cut),
        ):
            with pytest.raises(ConnectionLostError):
                action()
            assert sshd.wait_until_quiet() == {}
            transport.reconnect()
        assert [entry.path for entry in transport.list_folder(folder)] == ["there"]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "sshd"]
        transport.remove(folder)


def test_what_took_a_session_of_its_own_lives_on(sshd: Sshd) -> None:
    with opened(sshd) as transport:
        script = "setsid sleep 600 >/dev/null 2>&1 </dev/null & echo up; sleep 500"
        with pytest.raises(ConnectionLostError):
            transport.run(["sh", "-c", script], timeout_s=LIMIT_S, on_output=lambda *_: sshd.drop_connections())
        wait_for(lambda: not runs(sshd, "sleep 500"))
        assert runs(sshd, "sleep 600")


def test_a_session_that_holds_the_output_open_is_not_waited_for(sshd: Sshd) -> None:
    with opened(sshd) as transport:
        result = transport.run(["sh", "-c", "setsid sleep 600 & sleep 0.2; echo done"], timeout_s=20)
        assert (result.exit_code, result.text) == (0, "done")
        assert runs(sshd, "sleep 600")


def test_a_timeout_kills_the_stubborn(sshd: Sshd) -> None:
    with opened(sshd) as transport:
        with pytest.raises(CommandTimeoutError) as caught:
            transport.run(["sh", "-c", STUBBORN], timeout_s=2)
        assert caught.value.stdout == b"up\n"
        assert not runs(sshd, "sleep 600")  # at once: the far side has said so
        assert transport.run(["echo", "x"], timeout_s=LIMIT_S).text == "x"


@pytest.mark.parametrize("size", [pytest.param(0, marks=pytest.mark.slow), 10, 3_000_000])
def test_a_timeout_or_a_cut_at_any_moment(sshd: Sshd, size: int) -> None:
    chance = random.Random(size)
    with opened(sshd) as transport:
        with pytest.raises(CommandTimeoutError):
            transport.run(["sh", "-c", STUBBORN], timeout_s=chance.random() / 2, stdin=bytes(size))
        assert not runs(sshd, "sleep 600")
        cutter = threading.Timer(chance.random() / 2, sshd.drop_connections)
        cutter.start()
        with pytest.raises(ConnectionLostError):
            transport.run(["sh", "-c", STUBBORN], timeout_s=LIMIT_S, stdin=bytes(size))
        cutter.join()
        assert sshd.wait_until_quiet() == {}
    assert list(sshd.scratch_root.iterdir()) == []


def test_a_script_that_comes_in_part_does_nothing(sshd: Sshd, tmp_path: Path) -> None:
    """The connection may break anywhere; what has come of the script must not run without its watcher."""
    from dfmobile.devices.transport.ssh_script import bootstrap, command_script

    beat = tmp_path / "beat"
    argv = ["sh", "-c", f"while :; do echo x >> {beat}; sleep 0.1; done"]
    script = command_script("token", argv, environment={}, folder=None, input_bytes=0, scratch=None).encode()
    for size in range(0, len(script) - 2, 20):
        command = ["sh", "-c", bootstrap(script)]
        result = subprocess.run(command, input=script[:size], capture_output=True, timeout=LIMIT_S, check=False)
        assert b"token p" not in result.stdout
    assert not beat.exists()


PROGRAM = """
import sys
from pathlib import Path
from dfmobile.devices.transport.ssh import SshTransport
from dfmobile.devices.uri import parse_device
transport = SshTransport(parse_device(sys.argv[1]), Path(sys.argv[2]))
transport.run(["sh", "-c", sys.argv[3]], timeout_s=600, on_output=lambda *_: print("up", flush=True))
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_client_leaves_nothing_running(sshd: Sshd, number: signal.Signals) -> None:
    arguments = [sys.executable, "-c", PROGRAM, sshd.uri, str(sshd.config_file), STUBBORN]
    child = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"up\n"
    assert runs(sshd, "sleep 600")
    child.send_signal(number)
    _, errors = child.communicate(timeout=LIMIT_S)
    if number == signal.SIGINT:
        assert b"KeyboardInterrupt" in errors
        assert not runs(sshd, "sleep 600")  # it waits for that
    assert sshd.wait_until_quiet() == {}
    wait_for(lambda: not local_clients(sshd))


def local_clients(server: Sshd) -> list[Path]:
    """Processes of ssh on this machine that talk to the server."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0] == b"ssh" and str(server.config_file).encode() in words:
                found.append(entry)
    return found
