"""``adb+tcp`` against a real adbd: the contract of transports, and what is ADB's own."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from adbd.adbd_fixture import Adbd

pytest.importorskip("adb_shell", reason="adb-shell is not installed (dfmobile[adb])")

from dfmobile.devices.device import open_device
from dfmobile.devices.transport.adb_keys import load_or_make_key
from dfmobile.devices.transport.adb_tcp import AdbTcpTransport
from dfmobile.devices.transport.base import ConnectionLostError, Transport
from dfmobile.devices.uri import parse_device
from dfmobile.errors import DeviceError, InputError
from dfmobile.testing.transport_contract import TransportContract

LIMIT_S = 60.0


def connect(adbd: Adbd, key: Path, accept_s: float = 10.0) -> AdbTcpTransport:
    return AdbTcpTransport(parse_device(f"adb+tcp:127.0.0.1:{adbd.port}"), key=key, accept_s=accept_s)


@pytest.fixture(scope="session")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("android") / "adbkey"


@pytest.fixture
def transport(adbd: Adbd, key: Path) -> Iterator[Transport]:
    with connect(adbd, key) as opened:
        yield opened


class TestContractOnAdbd(TransportContract):
    @pytest.fixture
    def transport(self, adbd: Adbd, key: Path) -> Iterator[Transport]:
        with connect(adbd, key) as opened:
            yield opened


def test_the_scratch_folder_is_the_devices(transport: Transport, adbd: Adbd) -> None:
    assert transport.scratch_root == str(adbd.scratch_root)


@pytest.mark.parametrize("size", [5_000, 200_000])
def test_a_command_too_long_for_one_line(transport: Transport, size: int) -> None:
    arguments = ["it's " + "x" * 50_000] * (size // 50_000) + ["y" * (size % 50_000)]
    result = transport.run(["sh", "-c", 'printf "%s|" "$@"', "sh", *arguments], timeout_s=LIMIT_S)
    assert result.stdout.decode() == "|".join([*arguments, ""])
    assert transport.list_folder(transport.scratch_root) == []


def test_output_without_end_ends_with_its_time(transport: Transport) -> None:
    with pytest.raises(DeviceError):
        transport.run(["yes"], timeout_s=2)
    assert transport.run(["echo", "still here"], timeout_s=LIMIT_S).text == "still here"


def test_a_session_of_its_own_lives_on_and_holds_nobody_up(transport: Transport) -> None:
    result = transport.run(["sh", "-c", "setsid sleep 30 & echo $!"], timeout_s=20)
    assert result.wall_ms < 15_000  # although the sleep holds stdout open
    assert transport.run(["kill", result.text], timeout_s=LIMIT_S).exit_code == 0


def test_no_such_folder_is_said(transport: Transport) -> None:
    with pytest.raises(DeviceError, match=r"cannot run echo in /no/where: there is no such folder"):
        transport.run(["echo"], timeout_s=LIMIT_S, folder="/no/where")
    with pytest.raises(InputError):
        transport.run(["echo"], timeout_s=LIMIT_S, folder="relative")
    with pytest.raises(InputError):
        transport.run(["echo"], timeout_s=LIMIT_S, environment={"a b": ""})


def test_a_forbidden_folder_is_said(transport: Transport) -> None:
    transport.run(["mkdir", "-p", "-m", "0", f"{transport.scratch_root}/closed"], timeout_s=LIMIT_S).check("making")
    with pytest.raises(DeviceError, match="closed"):
        transport.list_folder(f"{transport.scratch_root}/closed")
    with pytest.raises(DeviceError, match="Permission denied"):
        transport.stat(f"{transport.scratch_root}/closed/file")
    transport.run(["rmdir", f"{transport.scratch_root}/closed"], timeout_s=LIMIT_S).check("removing")


def test_a_thousand_small_commands_leave_no_descriptor(transport: Transport) -> None:
    transport.run(["true"], timeout_s=LIMIT_S)
    before = len(os.listdir("/proc/self/fd"))
    for number in range(1000):
        assert transport.run(["echo", str(number)], timeout_s=LIMIT_S).text == str(number)
    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.slow
def test_200_megabytes_there_and_back(transport: Transport, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(1 << 20) * 200)
    with transport.scratch_folder() as folder:
        sent = transport.push(tmp_path / "big", f"{folder}/big")
        received = transport.pull(f"{folder}/big", tmp_path / "back")
    assert sent.size_bytes == received.size_bytes == 200 << 20
    assert sent.sha256 == received.sha256


def test_a_sparse_file_above_4_gigabytes_has_its_size(transport: Transport) -> None:
    with transport.scratch_folder() as folder:
        transport.run(["truncate", "-s", "5000000000", f"{folder}/huge"], timeout_s=LIMIT_S).check("making")
        stat = transport.stat(f"{folder}/huge")
        assert stat is not None
        assert stat.size_bytes == 5_000_000_000
        assert transport.list_folder(folder)[0].size_bytes == 5_000_000_000
        transport._connected().features -= {"stat_v2", "ls_v2"}  # type: ignore[attr-defined]
        assert transport.stat(f"{folder}/huge") == stat
        assert transport.list_folder(folder)[0].size_bytes == 5_000_000_000
        assert transport.stat(f"{folder}/nothing") is None


class TestWithoutShellV2(TransportContract):
    """The old daemon's way over a new daemon: one stream, marks, scratch files."""

    @pytest.fixture
    def transport(self, adbd: Adbd, key: Path) -> Iterator[Transport]:
        with connect(adbd, key) as opened:
            opened._connected().features = frozenset()
            yield opened
            assert opened._closed or opened.list_folder(opened.scratch_root) == []


def test_keys(start_adbd: Callable[..., Adbd], tmp_path: Path) -> None:
    ours = load_or_make_key(tmp_path / "new" / "adbkey")
    asking = start_adbd(public_keys=ours.public_text().decode() + "\n")
    with connect(asking, tmp_path / "new" / "adbkey") as transport:
        assert transport.run(["echo", "in"], timeout_s=LIMIT_S).text == "in"
    with pytest.raises(DeviceError, match="has not accepted this computer's key") as caught:
        connect(asking, tmp_path / "other" / "adbkey", accept_s=1.0)
    assert caught.value.hint == "accept the key on the phone's screen, then run again"


def test_a_lost_connection_is_said_and_mended_only_when_asked(
    start_adbd: Callable[..., Adbd], key: Path, tmp_path: Path
) -> None:
    adbd = start_adbd()
    with connect(adbd, key) as transport:
        adbd.kill()
        with pytest.raises(ConnectionLostError, match=f"adb\\+tcp:127.0.0.1:{adbd.port}"):
            transport.run(["echo"], timeout_s=LIMIT_S)
        adbd.start()
        with pytest.raises(ConnectionLostError, match="is lost"):
            transport.stat("/")
        transport.reconnect()
        assert transport.run(["echo", "again"], timeout_s=LIMIT_S).text == "again"


def test_a_broken_connection_stops_the_command_on_the_device(transport: Transport, adbd: Adbd, key: Path) -> None:
    seen: list[bytes] = []

    def cut(_: str, data: bytes) -> None:
        seen.append(data)
        transport._connected()._pipe.close()  # type: ignore[attr-defined]

    with connect(adbd, key) as second, second.scratch_folder() as folder:
        script = f"while :; do echo beat >> {folder}/heartbeat; echo beat; sleep 0.1; done"
        with pytest.raises(ConnectionLostError):
            transport.run(["sh", "-c", script], timeout_s=LIMIT_S, on_output=cut)
        assert seen
        TransportContract().assert_quiet(second, f"{folder}/heartbeat")


def test_nobody_there() -> None:
    with pytest.raises(DeviceError, match=r"cannot connect to 127\.0\.0\.1 port 1: Connection refused") as caught:
        open_device("adb+tcp:127.0.0.1:1")
    assert "adb tcpip" in caught.value.hint


def test_ctrl_c_stops_the_command_on_the_device(transport: Transport, adbd: Adbd, key: Path) -> None:
    with connect(adbd, key) as second, second.scratch_folder() as folder:
        beat = f"while :; do echo beat >> {folder}/heartbeat; sleep 0.1; done"
        timer = threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT))
        timer.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                transport.run(["sh", "-c", f"{beat} & {beat}"], timeout_s=LIMIT_S)
        finally:
            timer.join()
        TransportContract().assert_quiet(second, f"{folder}/heartbeat")
    assert transport.run(["echo", "usable"], timeout_s=LIMIT_S).text == "usable"


def test_input_that_nobody_reads_takes_no_output_with_it(transport: Transport) -> None:
    for _ in range(30):
        result = transport.run(["sh", "-c", "seq 3000; exit 3"], timeout_s=LIMIT_S, stdin=bytes(1 << 20))
        assert (result.exit_code, len(result.stdout.splitlines())) == (3, 3000)
