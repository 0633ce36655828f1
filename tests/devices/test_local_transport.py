"""The local transport passes the contract of transports; and what is particular to it."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dfmobile.devices.transport.base import CommandResult, FileStat, TransferError, Transport
from dfmobile.devices.transport.local import LocalTransport
from dfmobile.devices.transport.process import run_process
from dfmobile.errors import DeviceError, InputError
from dfmobile.testing.transport_contract import TransportContract


class TestLocalTransport(TransportContract):
    @pytest.fixture
    def transport(self) -> Iterator[Transport]:
        with LocalTransport() as transport:
            yield transport


@pytest.fixture
def local() -> LocalTransport:
    return LocalTransport()


def test_a_program_that_cannot_be_run_is_126(local: LocalTransport, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no program")
    result = local.run([str(tmp_path / "text")], timeout_s=10)
    assert result.exit_code == 126
    assert b"ermission denied" in result.stderr


def test_no_descriptor_leaks(local: LocalTransport) -> None:
    local.run(["true"], timeout_s=10)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(100):
        local.run(["true"], timeout_s=10)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_command_that_ignores_term_is_killed(local: LocalTransport) -> None:
    with pytest.raises(DeviceError, match=r"longer than 0\.5 s"):
        local.run(["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"], timeout_s=0.5)


def test_a_command_that_closes_its_output_is_still_waited_for(local: LocalTransport) -> None:
    assert local.run(["sh", "-c", "exec >&- 2>&-; sleep 0.3; exit 5"], timeout_s=10).exit_code == 5
    with pytest.raises(DeviceError, match="was stopped"):
        local.run(["sh", "-c", "exec >&- 2>&-; sleep 60"], timeout_s=0.3)


def test_what_takes_a_session_of_its_own_lives_on(local: LocalTransport, tmp_path: Path) -> None:
    """So that a batch of measurements can outlive the connection that started it."""
    script = f"setsid sh -c 'sleep 0.5; echo $$ > {tmp_path}/alive' > /dev/null 2>&1 < /dev/null &"
    local.run(["sh", "-c", script + " sleep 0.2"], timeout_s=10)
    for _ in range(200):
        if (tmp_path / "alive").exists():
            return
        time.sleep(0.05)
    pytest.fail("the detached process did not live on")


def test_interrupt_leaves_nothing_running(tmp_path: Path) -> None:
    """Ctrl-C reaches only us: the command is in a session of its own, so we must stop it."""
    program = (
        "from dfmobile.devices.transport.local import LocalTransport\n"
        "LocalTransport().run(['sh', '-c', 'while :; do echo x >> beat; sleep 0.1; done'], timeout_s=60)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path, stderr=subprocess.PIPE)
    beat = tmp_path / "beat"
    for _ in range(400):
        if beat.exists():
            break
        time.sleep(0.05)
    child.send_signal(2)
    assert b"KeyboardInterrupt" in child.communicate(timeout=30)[1]
    size = beat.stat().st_size
    time.sleep(0.5)
    assert beat.stat().st_size == size


def test_damage_on_the_way_is_seen_and_nothing_is_left(tmp_path: Path) -> None:
    class Damaging(LocalTransport):
        def _send(self, source: Path, target: str, mode: int, on_progress: object) -> None:
            Path(target).write_bytes(source.read_bytes()[:-1] + b"?")

        def _receive(self, source: str, target: Path, limit_bytes: int, on_progress: object) -> None:
            target.write_bytes(Path(source).read_bytes() + b"?")

    (tmp_path / "file").write_text("content")
    (tmp_path / "back").write_text("older")
    with pytest.raises(TransferError, match="SHA-256"):
        Damaging().push(tmp_path / "file", f"{tmp_path}/there")
    with pytest.raises(TransferError, match="SHA-256"):
        Damaging().pull(f"{tmp_path}/file", tmp_path / "back")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["back", "file"]
    assert (tmp_path / "back").read_text() == "older"


def test_a_file_that_brings_more_than_it_said_is_not_taken(tmp_path: Path) -> None:
    class Lying(LocalTransport):
        def stat(self, path: str) -> FileStat | None:
            there = super().stat(path)
            return there and dataclasses.replace(there, size_bytes=10)

    (tmp_path / "file").write_bytes(bytes(1 << 20))
    with pytest.raises(TransferError, match="grew"):
        Lying().pull(f"{tmp_path}/file", tmp_path / "back")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("size", "limit_s"), [(0, 60.0), (10**9, 260.0), (2**63, 3600.0)])
def test_hashing_a_large_file_may_take_longer(size: int, limit_s: float) -> None:
    class Noting(LocalTransport):
        times: ClassVar[list[float]] = []

        def run(self, argv: Sequence[str], *, timeout_s: float, **options: Any) -> CommandResult:
            self.times.append(timeout_s)
            return CommandResult(tuple(argv), 0, b"0" * 64 + b"  file\n", b"", 1.0)

    assert Transport.sha256(Noting(), "/file", size) == "0" * 64
    assert Noting.times == [limit_s]


def test_lost_bytes_are_counted(tmp_path: Path) -> None:
    class Losing(LocalTransport):
        def _send(self, source: Path, target: str, mode: int, on_progress: object) -> None:
            Path(target).write_bytes(source.read_bytes()[:3])

    (tmp_path / "file").write_text("content")
    with pytest.raises(TransferError, match="3 of 7 bytes") as caught:
        Losing().push(tmp_path / "file", f"{tmp_path}/there")
    assert caught.value.hint


def test_relative_paths_are_refused(local: LocalTransport) -> None:
    with pytest.raises(InputError, match="absolute"):
        local.stat("etc")


def test_missing_working_folder(local: LocalTransport) -> None:
    with pytest.raises(DeviceError, match="no such folder"):
        local.run(["true"], timeout_s=10, folder="/no/such/folder")


def test_process_outcome_of_a_program_that_does_not_exist() -> None:
    with pytest.raises(FileNotFoundError):
        run_process(
            ["/no/such"],
            timeout_s=1,
            stdin=b"",
            environment={},
            folder=None,
            on_output=None,
            output_limit_bytes=10,
        )
