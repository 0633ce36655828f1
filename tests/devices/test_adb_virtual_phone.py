"""The ADB transports against virtual phones, new and old, and against everything that a cable does."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("adb_shell", reason="adb-shell is not installed (dfmobile[adb])")
pytest.importorskip("adbutils", reason="adbutils is not installed (dfmobile[adb])")

from adb_servers import adb_server, ask

from dfmobile.devices.device import open_device
from dfmobile.devices.transport.adb_server import AdbServerTransport
from dfmobile.devices.transport.adb_tcp import AdbTcpTransport
from dfmobile.devices.transport.base import (
    AnotherDeviceError,
    CommandTimeoutError,
    ConnectionLostError,
    TransferError,
    Transport,
)
from dfmobile.devices.uri import parse_device
from dfmobile.errors import DeviceError
from dfmobile.testing.transport_contract import TransportContract
from dfmobile.testing.virtual_phone import Faults, VirtualPhone

LIMIT_S = 60.0


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("android") / "adbkey"


@pytest.fixture(scope="module")
def server_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with adb_server(tmp_path_factory.mktemp("adb")) as port:
        yield port


def by_tcp(phone: VirtualPhone, key: Path, **times: float) -> AdbTcpTransport:
    return AdbTcpTransport(parse_device(f"adb+tcp:127.0.0.1:{phone.port}"), key=key, **times)


@contextlib.contextmanager
def by_server(phone: VirtualPhone, port: int, patch: pytest.MonkeyPatch) -> Iterator[Transport]:
    patch.setenv("ANDROID_ADB_SERVER_PORT", str(port))
    assert "connected to" in ask(port, f"host:connect:127.0.0.1:{phone.port}")
    with AdbServerTransport(parse_device(f"adb:127.0.0.1:{phone.port}")) as transport:
        yield transport
    ask(port, f"host:disconnect:127.0.0.1:{phone.port}")


class TestNewPhoneOverTcp(TransportContract):
    @pytest.fixture
    def transport(self, tmp_path_factory: pytest.TempPathFactory, key: Path) -> Iterator[Transport]:
        with VirtualPhone(tmp_path_factory.mktemp("phone"), mode="modern") as phone, by_tcp(phone, key) as opened:
            yield opened


class TestOldPhoneOverTcp(TransportContract):
    @pytest.fixture
    def transport(self, tmp_path_factory: pytest.TempPathFactory, key: Path) -> Iterator[Transport]:
        with VirtualPhone(tmp_path_factory.mktemp("phone"), mode="old") as phone, by_tcp(phone, key) as opened:
            assert opened._connected().features == frozenset()
            assert opened._shell.returns
            yield opened


class TestNewPhoneByServer(TransportContract):
    @pytest.fixture
    def transport(
        self, tmp_path_factory: pytest.TempPathFactory, server_port: int, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Transport]:
        phone = VirtualPhone(tmp_path_factory.mktemp("phone"), mode="modern")
        with phone, by_server(phone, server_port, monkeypatch) as opened:
            yield opened


class TestOldPhoneByServer(TransportContract):
    @pytest.fixture
    def transport(
        self, tmp_path_factory: pytest.TempPathFactory, server_port: int, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[Transport]:
        phone = VirtualPhone(tmp_path_factory.mktemp("phone"), mode="old")
        with phone, by_server(phone, server_port, monkeypatch) as opened:
            yield opened


# What a cable does


def test_unauthorized_and_offline(tmp_path: Path, key: Path) -> None:
    with VirtualPhone(tmp_path / "a", state="unauthorized") as phone:
        with pytest.raises(DeviceError, match="the phone has not accepted this computer's key") as caught:
            by_tcp(phone, key, accept_s=0.5)
        assert caught.value.hint == "accept the key on the phone's screen, then run again"
    with VirtualPhone(tmp_path / "b", state="offline") as phone:
        with pytest.raises(DeviceError, match="does not answer") as caught:
            by_tcp(phone, key, connect_s=0.5)
        assert "offline" in caught.value.hint


def test_unauthorized_and_offline_by_server(tmp_path: Path, server_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server_port))
    monkeypatch.setattr("dfmobile.devices.transport.adb_server._SETTLE_S", 1.0)
    with VirtualPhone(tmp_path / "a", state="unauthorized") as phone:
        ask(server_port, f"host:connect:127.0.0.1:{phone.port}")
        uri = f"adb:127.0.0.1:{phone.port}"
        deadline = time.monotonic() + 30
        while [item.state for item in AdbServerTransport.enumerate() if item.uri == uri] != ["unauthorized"]:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (listed,) = [item for item in AdbServerTransport.enumerate() if item.uri == uri]
        assert listed.hint == "accept the key on the phone's screen, then run again"
        with pytest.raises(DeviceError, match="is not ready: unauthorized"):
            open_device(uri)
        ask(server_port, f"host:disconnect:127.0.0.1:{phone.port}")


def test_a_new_key_is_accepted_on_the_screen(tmp_path: Path) -> None:
    with VirtualPhone(tmp_path, public_keys=[], accept_new_keys=True) as phone:
        for _ in range(2):  # asked once, known afterwards
            with by_tcp(phone, tmp_path / "keys" / "adbkey") as transport:
                assert transport.run(["echo", "in"], timeout_s=LIMIT_S).text == "in"


@pytest.mark.parametrize("mode", ["modern", "old"])
@pytest.mark.parametrize("way", ["tcp", "server"])
def test_a_connection_that_breaks_in_a_transfer(
    tmp_path: Path, key: Path, server_port: int, monkeypatch: pytest.MonkeyPatch, mode: str, way: str
) -> None:
    source = tmp_path / "file"
    source.write_bytes(bytes(range(256)) * 4096)
    faults = Faults(drop_after_bytes=300_000, drops=1)
    with contextlib.ExitStack() as stack:
        phone = stack.enter_context(VirtualPhone(tmp_path / "phone", mode=mode, faults=faults))  # type: ignore[arg-type]
        opening = by_tcp(phone, key) if way == "tcp" else by_server(phone, server_port, monkeypatch)
        transport = stack.enter_context(opening)
        target = f"{transport.scratch_root}/file"
        with pytest.raises(DeviceError) as caught:
            transport.push(source, target)
        assert isinstance(caught.value, ConnectionLostError)
        if way == "server":
            ask(server_port, f"host:disconnect:127.0.0.1:{phone.port}")
            ask(server_port, f"host:connect:127.0.0.1:{phone.port}")
        transport.reconnect()
        assert transport.stat(target) is None
        assert transport.push(source, target).size_bytes == 1 << 20
        (tmp_path / "kept").write_text("older")
        phone.settings.counter.faults.drops = 2
        phone.settings.counter.faults.drop_after_bytes = 1_100_000
        with contextlib.suppress(ConnectionLostError):
            transport.pull(target, tmp_path / "kept")
        assert (tmp_path / "kept").read_bytes() in (b"older", source.read_bytes())


def test_another_phone_at_the_same_address_is_noticed(tmp_path: Path, key: Path) -> None:
    """As when a router gives an address to another phone: even one of the same model, with the same system."""
    with contextlib.ExitStack() as stack:
        phones = [
            stack.enter_context(VirtualPhone(tmp_path / name, properties={"ro.serialno": name})) for name in ("a", "b")
        ]
        transport = stack.enter_context(by_tcp(phones[0], key))
        transport.reconnect()
        monkeypatch = stack.enter_context(pytest.MonkeyPatch.context())
        monkeypatch.setattr(transport, "uri", parse_device(f"adb+tcp:127.0.0.1:{phones[1].port}"))
        for _ in range(2):
            with pytest.raises(AnotherDeviceError, match="another device than before"):
                transport.reconnect()
            with pytest.raises(ConnectionLostError):
                transport.run(["true"], timeout_s=LIMIT_S)


@pytest.mark.parametrize("mode", ["modern", "old"])
def test_partial_reads(tmp_path: Path, key: Path, mode: str) -> None:
    with VirtualPhone(tmp_path, mode=mode, faults=Faults(chunk_bytes=7)) as phone, by_tcp(phone, key) as transport:  # type: ignore[arg-type]
        result = transport.run(["sh", "-c", "cat; echo err >&2; exit 5"], timeout_s=LIMIT_S, stdin=b"x" * 5000)
        assert (result.exit_code, result.stdout, result.stderr) == (5, b"x" * 5000, b"err\n")


def test_bytes_that_change_on_the_way(tmp_path: Path, key: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(bytes(1 << 18))
    faults = Faults(corrupt_after_bytes=1000)
    with VirtualPhone(tmp_path / "phone", faults=faults) as phone, by_tcp(phone, key) as transport:
        with pytest.raises(TransferError, match="SHA-256 differs"):
            transport.push(source, f"{transport.scratch_root}/file")
        assert transport.list_folder(transport.scratch_root) == []
        assert transport.push(source, f"{transport.scratch_root}/file").size_bytes == 1 << 18


@pytest.mark.parametrize("place", [100, 1000, 1013, 5000])
def test_a_garbled_protocol_is_noticed(tmp_path: Path, key: Path, place: int) -> None:
    with contextlib.ExitStack() as stack:
        phone = stack.enter_context(VirtualPhone(tmp_path, faults=Faults(garble_after_bytes=place)))
        stack.enter_context(contextlib.suppress(DeviceError))
        transport = stack.enter_context(by_tcp(phone, key, connect_s=1.0))
        result = transport.run(["seq", "2000"], timeout_s=5)
        assert result.stdout.split() == [b"%d" % number for number in range(1, 2001)]


def test_no_space(tmp_path: Path, key: Path) -> None:
    source = tmp_path / "file"
    source.write_bytes(bytes(1 << 20))
    faults = Faults(disk_full_after_bytes=100_000)
    with VirtualPhone(tmp_path / "phone", faults=faults) as phone, by_tcp(phone, key) as transport:
        with pytest.raises(DeviceError, match="No space left on device") as caught:
            transport.push(source, f"{transport.scratch_root}/file")
        assert "free space" in caught.value.hint
        assert transport.list_folder(transport.scratch_root) == []


def test_read_only(tmp_path: Path, key: Path) -> None:
    (tmp_path / "file").write_text("x")
    with VirtualPhone(tmp_path / "a", faults=Faults(read_only=True)) as phone, by_tcp(phone, key) as transport:
        assert transport.run(["echo", "still"], timeout_s=LIMIT_S).text == "still"
        assert transport.scratch_root == "/data/local/tmp"
        with pytest.raises(DeviceError, match="Read-only file system"), transport.scratch_folder():
            pass
        with pytest.raises(DeviceError, match="Read-only file system") as caught:
            transport.push(tmp_path / "file", f"{transport.scratch_root}/file")
        assert "reboot" in caught.value.hint
    faults = Faults(read_only=True)
    with VirtualPhone(tmp_path / "b", mode="old", faults=faults) as phone, by_tcp(phone, key) as transport:
        with pytest.raises(DeviceError, match=r"cannot run echo .* /data/local/tmp cannot be written") as caught:
            transport.run(["echo"], timeout_s=LIMIT_S)
        assert "read-only" in caught.value.hint


def test_a_phone_that_stalls_is_not_waited_for(tmp_path: Path, key: Path) -> None:
    with VirtualPhone(tmp_path) as phone, by_tcp(phone, key) as transport:
        phone.settings.counter.faults.stall_s = 3.0
        assert transport.run(["echo", "late"], timeout_s=LIMIT_S).text == "late"


def test_a_reboot_in_a_command(tmp_path: Path, key: Path) -> None:
    with VirtualPhone(tmp_path) as phone, by_tcp(phone, key) as transport:

        def reboot(_: str, data: bytes) -> None:
            phone.reboot()

        with pytest.raises(ConnectionLostError):
            transport.run(["sh", "-c", "echo up; sleep 60"], timeout_s=LIMIT_S, on_output=reboot)
        transport.reconnect()
        assert transport.run(["echo", "again"], timeout_s=LIMIT_S).text == "again"


@pytest.mark.parametrize("first", [None, KeyboardInterrupt()])
def test_a_phone_that_goes_for_good_in_a_command(tmp_path: Path, key: Path, first: BaseException | None) -> None:
    """The command cannot be stopped any more; what went wrong first is what is told."""
    with VirtualPhone(tmp_path) as phone, by_tcp(phone, key) as transport:

        def switch_off(_: str, data: bytes) -> None:
            phone.stop()
            if first is not None:
                raise first

        with pytest.raises(ConnectionLostError if first is None else KeyboardInterrupt):
            transport.run(["sh", "-c", "echo up; sleep 60"], timeout_s=LIMIT_S, on_output=switch_off)


def test_a_phone_that_goes_while_a_command_is_stopped(tmp_path: Path, key: Path) -> None:
    with VirtualPhone(tmp_path) as phone, by_tcp(phone, key) as transport:
        timer = threading.Timer(0.5, phone.stop)
        timer.start()
        with pytest.raises((ConnectionLostError, CommandTimeoutError)):  # the latter where this machine is slow
            transport.run(["sh", "-c", "trap '' TERM; sleep 60"], timeout_s=0.45)
        timer.join()


def test_a_profile_of_the_phone(tmp_path: Path, key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ADB_VENDOR_KEYS", str(key))
    with VirtualPhone(tmp_path) as phone, open_device(f"adb+tcp:127.0.0.1:{phone.port}") as device:
        assert device.profile.core_count == 8
        assert device.transport.properties()["ro.board.platform"] == "sdm845"
