"""Everything that may be wrong with a phone, through the command line: one clear line, one hint, exit 1.

Phones are virtual ones, or a made-up libusb for direct USB; nothing here was verified on hardware.
"""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

pytest.importorskip("adb_shell", reason="adb-shell is not installed (dfmobile[adb])")
pytest.importorskip("adbutils", reason="adbutils is not installed (dfmobile[adb])")

from devices.adb_servers import adb_server, ask

from dfmobile.cli.main import app
from dfmobile.devices.transport import adb_server as server_module
from dfmobile.devices.transport import adb_usb_pipe
from dfmobile.devices.transport.adb_tcp import AdbTcpTransport
from dfmobile.latency.backends.benchmark_model import BenchmarkModelBackend
from dfmobile.latency.table import LatencyTable
from dfmobile.testing.virtual_phone import Faults, VirtualPhone

MINI = "df,stem=8s1,classes=10,channels=1/8/8,16/16"
# Prints what the tool prints, at once: larger models take longer, and its numbers mean nothing.
TOOL = """#!/bin/sh
[ $1 != --help ] || { echo --graph=; exit 1; }
sleep 0.05
us=$((100 + $(wc -c <"${1#--graph=}") / 1000))
cat <<END
INFO: STARTING!
INFO: Explicitly applied XNNPACK delegate, and the model graph will be completely executed by the delegate.
INFO: Initialized session in 1.5ms.
INFO: count=1 curr=$us
INFO: count=5 first=$us curr=$us min=$us max=$us avg=$us std=0 p5=$us median=$us p95=$us
INFO: Inference timings in us: Init: 1500, First inference: $us, Warmup (avg): $us, Inference (avg): $us
END
"""


@pytest.fixture(autouse=True)
def quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use no key of the user's, and wait shorter than a user would want."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setitem(AdbTcpTransport.__init__.__kwdefaults__, "accept_s", 0.5)  # type: ignore[arg-type]
    monkeypatch.setitem(AdbTcpTransport.__init__.__kwdefaults__, "connect_s", 2.0)  # type: ignore[arg-type]
    monkeypatch.setattr(server_module, "_SETTLE_S", 1.0)
    monkeypatch.setattr(BenchmarkModelBackend, "poll_s", 0.05)


@pytest.fixture(scope="module")
def server_port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with adb_server(tmp_path_factory.mktemp("adb")) as port:
        yield port


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    path = tmp_path / "benchmark_model"
    path.write_text(TOOL)
    path.chmod(0o755)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.tflite"
    path.write_bytes(bytes(3_000_000))
    return path


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def tcp(phone: VirtualPhone) -> str:
    return f"adb+tcp:127.0.0.1:{phone.port}"


def by_tool(tool: Path, **options: str) -> list[str]:
    # The phone runs on this machine's cores, whose numbers are others.
    given = {"binary": str(tool), "cluster": "none", **options}
    return ["--backend", "benchmark_model", *(f"--backend-option={name}={value}" for name, value in given.items())]


def refused(result: Result, line: str, hint: str, *, said: bool = False) -> None:
    """Check that a command ended with exit 1, one error line and one hint line that say this.

    Args:
        result: of the command.
        line: what the error says, in part.
        hint: what the hint says, in part.
        said: lines about its progress may come before.
    """
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    lines = result.stderr.splitlines()
    assert "Traceback" not in result.stderr
    assert said or len(lines) == 2, result.stderr
    assert lines[-2].startswith("error: "), result.stderr
    assert line in lines[-2]
    assert lines[-1].startswith("hint: "), result.stderr
    assert hint in lines[-1]


# The phone is not ready


@pytest.mark.parametrize("command", ["profile", "bench"])
@pytest.mark.parametrize(
    ("state", "line", "hint"),
    [
        ("unauthorized", "the phone has not accepted this computer's key", "accept the key on the phone's screen"),
        ("offline", "does not answer", "it may be offline: check the cable"),
    ],
)
def test_not_ready(tmp_path: Path, tool: Path, model: Path, command: str, state: Any, line: str, hint: str) -> None:
    with VirtualPhone(tmp_path / "phone", state=state) as phone:
        more: list[str | Path] = [model, *by_tool(tool)] if command == "bench" else []
        refused(run(command, *more, "--device", tcp(phone)), line, hint)


def known_to_server(port: int, phone: VirtualPhone, state: str) -> None:
    """Have the server know a phone, in a state."""
    serial = f"127.0.0.1:{phone.port}"
    ask(port, f"host:connect:{serial}")
    deadline = time.monotonic() + 30
    while f"{serial}\t{state}" not in ask(port, "host:devices"):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_unauthorized_by_the_server(tmp_path: Path, server_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server_port))
    with VirtualPhone(tmp_path / "phone", state="unauthorized") as phone:
        known_to_server(server_port, phone, "unauthorized")
        shown = run("profile", "--device", f"adb:127.0.0.1:{phone.port}")
        refused(shown, "is not ready: unauthorized", "accept the key on the phone's screen")
        ask(server_port, f"host:disconnect:127.0.0.1:{phone.port}")


def test_two_phones_and_no_serial(
    tmp_path: Path, server_port: int, tool: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server_port))
    with VirtualPhone(tmp_path / "a") as one, VirtualPhone(tmp_path / "b") as two:
        for phone in (one, two):
            known_to_server(server_port, phone, "device")
        for command in (["profile"], ["bench", model, *by_tool(tool)]):
            shown = run(*command, "--device", "adb:")
            refused(shown, "names no phone: the serial is missing", "connected are: ")
            assert all(f"adb:127.0.0.1:{phone.port}" in shown.stderr for phone in (one, two))
        for phone in (one, two):
            ask(server_port, f"host:disconnect:127.0.0.1:{phone.port}")


def test_no_phone_at_all(server_port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(server_port))
    refused(run("profile", "--device", "adb:"), "names no phone, and none is connected", "switch on USB debugging")
    refused(run("profile", "--device", "adb:0123"), "adb:0123 is not connected to the adb server", "USB debugging")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("device", ["adb:", "adb:0123"])
def test_no_adb_server(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ANDROID_ADB_SERVER_PORT", str(free_port()))
    refused(run("profile", "--device", device), "no adb server answers on 127.0.0.1 port", "adb start-server")


def test_nobody_listens() -> None:
    refused(run("profile", "--device", f"adb+tcp:127.0.0.1:{free_port()}"), "Connection refused", "adb tcpip 5555")


def test_busy_usb(monkeypatch: pytest.MonkeyPatch) -> None:
    usb1 = pytest.importorskip("usb1", reason="libusb1 is not installed (dfmobile[adb])")

    class Handle:
        def claimInterface(self, number: int) -> None:  # noqa: N802 - libusb1's names
            raise usb1.USBErrorBusy

        def close(self) -> None: ...

    class Phone:
        def getSerialNumber(self) -> str:  # noqa: N802
            return "0123"

        def open(self) -> Handle:
            return Handle()

        def getNumber(self) -> int:  # noqa: N802 - it is its own setting
            return 3

    phone = Phone()
    monkeypatch.setattr(adb_usb_pipe, "_adb_interfaces", lambda context: iter([(phone, phone)]))
    refused(run("profile", "--device", "adb+usb:0123"), "adb+usb:0123 is busy", "use adb:0123, or stop the server")


@pytest.mark.parametrize(
    ("device", "missing"), [("adb:0123", "adbutils"), ("adb+tcp:127.0.0.1:5555", "adb_shell"), ("adb+usb:1", "usb1")]
)
def test_the_extra_is_not_installed(device: str, missing: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    refused(run("profile", "--device", device), missing, "pip install 'dfmobile[adb]'")


# What drives it


def test_a_phone_needs_a_backend_that_drives_it(tmp_path: Path, model: Path) -> None:
    with VirtualPhone(tmp_path / "phone") as phone:
        line, hint = (
            f"runs on this machine only, not on {tcp(phone)}",
            "--backend benchmark_model --backend-option binary=",
        )
        refused(run("bench", model, "--device", tcp(phone)), line, hint)
        table = tmp_path / "t.sqlite"
        refused(run("lut", "build", "--space", "df-mini", "--device", tcp(phone), "-o", table), line, hint)
        assert not table.exists()


def test_the_tool_is_not_named_or_not_there(tmp_path: Path, model: Path) -> None:
    with VirtualPhone(tmp_path / "phone") as phone:
        base: list[str | Path] = ["bench", model, "--device", tcp(phone)]
        refused(run(*base, "--backend", "benchmark_model"), "needs the option binary", "--backend-option binary=")
        refused(run(*base, *by_tool(tmp_path / "nothing")), "there is no file", "binary=FILE")
        refused(run(*base, *by_tool(Path("device:/data/local/tmp/x"))), "there is no file /data/local/tmp/x", "push it")


# Its storage, and its cable


def test_read_only(tmp_path: Path, tool: Path, model: Path) -> None:
    with VirtualPhone(tmp_path / "phone", faults=Faults(read_only=True)) as phone:
        shown = run("bench", model, "--device", tcp(phone), *by_tool(tool))
        refused(shown, "/data/local/tmp/dfmobile on the device is read-only", "restart the device")


def test_no_space(tmp_path: Path, tool: Path, model: Path) -> None:
    with VirtualPhone(tmp_path / "phone", data_bytes=2_000_000) as phone:
        shown = run("bench", model, "--device", tcp(phone), *by_tool(tool))
        refused(shown, "no space left on the device", "free some space (`dfmobile devices clean`")


def test_cores_that_are_not_there(tmp_path: Path, tool: Path, model: Path) -> None:
    with VirtualPhone(tmp_path / "phone", programs={"taskset": "#!/bin/sh\nexit 1\n"}) as phone:
        shown = run("bench", model, "--device", tcp(phone), *by_tool(tool, cluster="big"))
        refused(shown, "taskset f0: this device has no such cores", "cluster=none")


def unplugged(phone: VirtualPhone, when: Callable[[], bool]) -> threading.Thread:
    """Switch the phone off, in a thread, as soon as something is so."""

    def watch() -> None:
        deadline = time.monotonic() + 60
        while not when() and time.monotonic() < deadline:
            time.sleep(0.02)
        phone.stop()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def test_gone_in_mid_run(tmp_path: Path, tool: Path) -> None:
    table = tmp_path / "t.sqlite"
    base: list[str | Path] = ["lut", "build", "--network", MINI, "--input", "32x32", "--passes", "1", "-o", table]
    base += by_tool(tool, **{"reconnect-secs": "1"})

    def some_rows() -> bool:
        with LatencyTable.open(table) as opened:
            return len(opened.recorded()) >= 2

    with VirtualPhone(tmp_path / "phone") as phone:
        tool.write_text(tool.read_text().replace("sleep 0.05", "sleep 0.2"))
        watcher = unplugged(phone, lambda: table.exists() and some_rows())
        shown = run(*base, "--device", tcp(phone))
        watcher.join()
    refused(shown, "did not come back in 1 s", "connect it and run the same command again", said=True)
    assert "is lost" in shown.stderr
    with LatencyTable.open(table) as opened:
        kept = opened.recorded()
    assert len(kept) >= 2
    with VirtualPhone(tmp_path / "phone") as phone:
        again = run(*base, "--device", tcp(phone))
        assert again.exit_code == 0, again.output
    with LatencyTable.open(table) as opened:
        assert opened.recorded() > kept
