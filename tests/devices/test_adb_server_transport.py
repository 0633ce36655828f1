"""``adb`` through a real adb server to a real adbd: the contract of transports, and what users do wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from adbd.adbd_fixture import Adbd

pytest.importorskip("adbutils", reason="adbutils is not installed (dfmobile[adb])")

from adb_servers import adb_server, ask

from dfmobile import registry
from dfmobile.devices.device import list_devices, open_device
from dfmobile.devices.transport.adb_server import AdbServerTransport
from dfmobile.devices.transport.adb_server_link import ServerEntry, parse_entries
from dfmobile.devices.transport.base import ConnectionLostError, Transport
from dfmobile.devices.uri import parse_device
from dfmobile.errors import DeviceError, InputError, MissingExtraError
from dfmobile.testing.transport_contract import TransportContract

LIMIT_S = 60.0


@pytest.fixture(scope="module")
def server_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with adb_server(tmp_path_factory.mktemp("adb")) as port:
        yield port


@pytest.fixture
def server(server_port: int, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server_port))
    return server_port


@pytest.fixture
def serial(server: int, adbd: Adbd) -> str:
    answer = ask(server, f"host:connect:127.0.0.1:{adbd.port}")
    assert "connected to" in answer
    return f"127.0.0.1:{adbd.port}"


@pytest.fixture
def transport(serial: str) -> Iterator[Transport]:
    with AdbServerTransport(parse_device(f"adb:{serial}")) as opened:
        yield opened


class TestContractOnAdbd(TransportContract):
    @pytest.fixture
    def transport(self, serial: str) -> Iterator[Transport]:
        with AdbServerTransport(parse_device(f"adb:{serial}")) as opened:
            yield opened


def test_listing(serial: str) -> None:
    mine = [item for item in list_devices() if item.uri == f"adb:{serial}"]
    assert [(item.state, item.hint) for item in mine] == [("ready", "")]


def test_no_serial_or_a_wrong_one(serial: str) -> None:
    with pytest.raises(InputError, match="'adb:' names no phone: the serial is missing") as caught:
        open_device(" adb: ")
    assert f"adb:{serial} (" in caught.value.hint
    with pytest.raises(DeviceError, match="adb:NOTHERE is not connected to the adb server") as wrong:
        open_device("adb:NOTHERE")
    assert f"connected are: adb:{serial} (ready)" in wrong.value.hint
    with pytest.raises(DeviceError) as network:
        open_device("adb:10.0.0.1:5555")
    assert network.value.hint.startswith("adb connect 10.0.0.1:5555")


def test_no_server_is_said_and_none_is_started(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a program was started")

    monkeypatch.setattr(subprocess, "run", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", "1")
    for attempt in (lambda: open_device("adb:X"), lambda: open_device("adb:")):
        with pytest.raises(DeviceError, match=r"no adb server answers on 127\.0\.0\.1 port 1") as caught:
            attempt()
        assert "adb start-server" in caught.value.hint
    assert [item.state for item in list_devices() if item.uri == "adb:"] == ["error"]


@pytest.mark.parametrize("port", ["x", "0", "65536", "٥"])
def test_a_wrong_port(port: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", port)
    with pytest.raises(InputError, match="ANDROID_ADB_SERVER_PORT"):
        AdbServerTransport.enumerate()


@pytest.mark.parametrize(("port", "told"), [("x", "ANDROID_ADB_SERVER_PORT is 'x'"), ("", "")])
def test_a_wrong_port_before_the_library_was_imported(port: str, told: str) -> None:
    """Which reads the variable by itself, when it is imported."""
    code = "from dfmobile.devices.device import list_devices; [print(item) for item in list_devices()]"
    environment = {**os.environ, "ANDROID_ADB_SERVER_PORT": port}
    shown = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert shown.returncode == 0, shown.stderr
    assert told in shown.stdout
    assert "ValueError" not in shown.stdout


def test_a_phone_that_cannot_be_addressed_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = ServerEntry("????????????", "no permissions", "")
    monkeypatch.setattr("dfmobile.devices.transport.adb_server_link.list_entries", lambda: [entry])
    (listed,) = AdbServerTransport.enumerate()
    assert (listed.uri, listed.state) == ("adb:", "no permissions")
    assert "udev rule" in listed.hint
    with pytest.raises(InputError, match="the serial is missing") as caught:
        open_device("adb:")
    assert "no permissions" in caught.value.hint


def test_lines_of_the_list() -> None:
    text = (
        "89KX0ABCD              device usb:1-1 product:crosshatch model:Pixel_3_XL device:crosshatch transport_id:1\n"
        "R58M123                unauthorized usb:1-2 transport_id:2\n"
        "????????????           no permissions (user in plugdev group; are your udev rules wrong?); see [http://x]\n"
        "emulator-5554          offline transport_id:3\n\nnonsense\n"
    )
    assert parse_entries(text) == [
        ServerEntry("89KX0ABCD", "device", "Pixel 3 XL, crosshatch"),
        ServerEntry("R58M123", "unauthorized", ""),
        ServerEntry("????????????", "no permissions", ""),
        ServerEntry("emulator-5554", "offline", ""),
    ]


@pytest.mark.parametrize(
    ("state", "hint"),
    [
        ("unauthorized", "accept the key on the phone's screen, then run again"),
        ("offline", "unplug the cable"),
        ("recovery", "adb -s S1 reboot"),
        ("sideload", "adb -s S1 reboot"),
        ("bootloader", "fastboot reboot"),
        ("no permissions", "udev rule"),
        ("something new", "unplug the cable"),
    ],
)
def test_a_phone_that_is_not_ready(state: str, hint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    link = "dfmobile.devices.transport.adb_server_link"
    monkeypatch.setattr("dfmobile.devices.transport.adb_server._SETTLE_S", 0.0)
    monkeypatch.setattr(f"{link}.list_entries", lambda: [ServerEntry("S1", state, "Pixel")])
    (listed,) = AdbServerTransport.enumerate()
    assert (listed.uri, listed.state, listed.description) == ("adb:S1", state, "Pixel")
    assert hint in listed.hint
    with pytest.raises(DeviceError, match=f"adb:S1 is not ready: {state}") as caught:
        open_device("adb:S1")
    assert hint in caught.value.hint


def test_none_connected(server: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dfmobile.devices.transport.adb_server_link.list_entries", list)
    with pytest.raises(DeviceError, match="'adb:' names no phone, and none is connected"):
        open_device("adb:")


def test_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "adbutils", None)
    monkeypatch.setitem(sys.modules, "adb_shell", None)
    for text in ("adb:X", "adb+tcp:127.0.0.1:1", "adb+usb:X"):
        with pytest.raises(MissingExtraError, match="cannot be imported") as caught:
            open_device(text)
        assert caught.value.hint == "python -m pip install 'dfmobile[adb]'"
    assert {"adb", "adb+tcp", "adb+usb"} <= set(registry.names("dfmobile.transports"))


def test_a_lost_device(server: int, start_adbd: Callable[..., Adbd]) -> None:
    adbd = start_adbd()
    ask(server, f"host:connect:127.0.0.1:{adbd.port}")
    with AdbServerTransport(parse_device(f"adb:127.0.0.1:{adbd.port}")) as transport:
        adbd.kill()
        with pytest.raises(ConnectionLostError):
            transport.run(["echo"], timeout_s=LIMIT_S)
        with pytest.raises(ConnectionLostError, match="is lost"):
            transport.stat("/")
        adbd.start()
        ask(server, f"host:disconnect:127.0.0.1:{adbd.port}")
        ask(server, f"host:connect:127.0.0.1:{adbd.port}")
        transport.reconnect()
        assert transport.run(["echo", "again"], timeout_s=LIMIT_S).text == "again"


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


def test_input_that_nobody_reads_takes_no_output_with_it(transport: Transport) -> None:
    for _ in range(30):
        result = transport.run(["sh", "-c", "seq 3000; exit 3"], timeout_s=LIMIT_S, stdin=bytes(1 << 20))
        assert (result.exit_code, len(result.stdout.splitlines())) == (3, 3000)
