"""A virtual phone with adb-shell, an independent client: transfers, keys, faults, and nothing left behind."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from dfmobile.testing.virtual_phone import Faults, VirtualPhone

adb_shell = pytest.importorskip("adb_shell", reason="adb-shell is not installed (dfmobile[adb])")
from adb_shell.adb_device import AdbDeviceTcp  # noqa: E402
from adb_shell.auth.keygen import keygen  # noqa: E402
from adb_shell.auth.sign_pythonrsa import PythonRSASigner  # noqa: E402

Start = Callable[..., VirtualPhone]
CONTENT = bytes(range(256)) * 8192 + b"odd"


@contextmanager
def connected(phone: VirtualPhone, signer: PythonRSASigner | None = None) -> Iterator[AdbDeviceTcp]:
    device = AdbDeviceTcp("127.0.0.1", phone.port, default_transport_timeout_s=20)
    try:
        device.connect(rsa_keys=[signer] if signer else None, auth_timeout_s=3)
        # Without it each of its packets waits 40 ms for the phone's acknowledgement.
        device._io_manager._transport._connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield device
    finally:
        device.close()


def push(device: AdbDeviceTcp, content: bytes, path: str) -> None:
    device.push(io.BytesIO(content), path)


def pull(device: AdbDeviceTcp, path: str) -> bytes:
    target = io.BytesIO()
    device.pull(path, target)
    return target.getvalue()


@pytest.mark.parametrize("mode", ["modern", "old"])
def test_an_independent_client_works(start_phone: Start, mode: str) -> None:
    phone = start_phone(mode=mode)
    with connected(phone) as device:
        assert device.shell("echo hello").strip() == "hello"
        push(device, CONTENT, "/data/local/tmp/file")
        assert pull(device, "/data/local/tmp/file") == CONTENT
        assert device.stat("/data/local/tmp/file")[1] == len(CONTENT)
        assert device.stat("/data/local/tmp/missing") == (0, 0, 0)
        assert [entry.filename for entry in device.list("/data/local/tmp")].count(b"file") == 1


@pytest.mark.parametrize("known", [True, False])
def test_keys(start_phone: Start, tmp_path: Path, known: bool) -> None:
    keygen(str(tmp_path / "key"))
    signer = PythonRSASigner((tmp_path / "key.pub").read_text(), (tmp_path / "key").read_text())
    phone = start_phone(public_keys=[(tmp_path / "key.pub").read_text()] if known else [])
    if known:
        with connected(phone, signer) as device:
            assert device.shell("echo in").strip() == "in"
    else:
        with pytest.raises(Exception, match="timed out"), connected(phone, signer):
            pass
        assert phone.settings.offered_keys == [(tmp_path / "key.pub").read_text()]


@pytest.mark.parametrize("mode", ["modern", "old"])
def test_small_pieces_change_nothing(start_phone: Start, mode: str) -> None:
    phone = start_phone(mode=mode, faults=Faults(chunk_bytes=13))
    with connected(phone) as device:
        push(device, CONTENT[:50_000], "/data/local/tmp/file")
        assert pull(device, "/data/local/tmp/file") == CONTENT[:50_000]


def test_drops_in_mid_transfer(start_phone: Start) -> None:
    phone = start_phone(faults=Faults(drop_after_bytes=600_000, drops=2))
    drops = 0
    for _ in range(10):
        try:
            with connected(phone) as device:
                device.push(io.BytesIO(CONTENT), "/data/local/tmp/file", read_timeout_s=3)
                break
        except Exception:  # adb-shell has no common error for it
            drops += 1
            assert not phone.host_path("/data/local/tmp/file").exists()
    assert drops == 2
    assert phone.host_path("/data/local/tmp/file").read_bytes() == CONTENT


def test_damage_that_only_a_digest_finds(start_phone: Start) -> None:
    phone = start_phone()
    with connected(phone) as device:
        push(device, CONTENT, "/data/local/tmp/file")
        phone.faults = Faults(corrupt_after_bytes=1_000_000)
    with connected(phone) as device:
        damaged = pull(device, "/data/local/tmp/file")
        assert len(damaged) == len(CONTENT)
        assert hashlib.sha256(damaged).digest() != hashlib.sha256(CONTENT).digest()
        assert pull(device, "/data/local/tmp/file") == CONTENT


def test_garbled_packets_are_noticed_with_checksums(start_phone: Start) -> None:
    phone = start_phone(mode="old")
    with connected(phone) as device:
        push(device, CONTENT[:100_000], "/data/local/tmp/file")
        phone.faults = Faults(garble_after_bytes=30_000)
        with pytest.raises(Exception, match=r"checksum|Unknown command|Timed|timed|Expected"):
            pull(device, "/data/local/tmp/file")


def test_a_small_disk_runs_full_for_real(start_phone: Start) -> None:
    phone = start_phone(data_bytes=1_000_000)
    with connected(phone) as device:
        push(device, CONTENT[:300_000], "/data/local/tmp/file")
        assert pull(device, "/data/local/tmp/file") == CONTENT[:300_000]
        assert phone.host_path("/data/local/tmp/file").read_bytes() == CONTENT[:300_000]
        assert "No space left on device" in device.shell("dd if=/dev/zero of=/data/local/tmp/fill 2>&1")
        # adb-shell looks for the phone's refusal only at the end, and may wait for it in vain: so with a real adbd.
        with pytest.raises(Exception, match=r"No space left on device|timed out"):
            device.push(io.BytesIO(CONTENT), "/data/local/tmp/other", read_timeout_s=2)
    with connected(phone) as device:
        assert device.shell("ls /data/local/tmp").split() == ["file", "fill"]
        assert device.shell("rm /data/local/tmp/fill; echo x >/data/local/tmp/x && echo fits").strip() == "fits"


def test_what_the_shell_may_not_read(start_phone: Start) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can give the phone a user of its own")
    with connected(start_phone()) as device:
        assert "Permission denied" in device.shell("cat /sys/class/power_supply/bms/uevent 2>&1")
        with pytest.raises(Exception, match="Permission denied"):
            pull(device, "/sys/class/power_supply/bms/uevent")


def test_stall(start_phone: Start) -> None:
    phone = start_phone()
    with connected(phone) as device:
        phone.faults = Faults(stall_s=1.0)
        started = time.monotonic()
        assert device.shell("echo late").strip() == "late"
        assert time.monotonic() - started >= 1.0


def test_commands_that_go_on_after_the_cable_is_pulled(start_phone: Start) -> None:
    phone = start_phone()
    alive = "ps -e -o args= | grep -c '[s]leep 60[01]'"
    with connected(phone) as device:
        # The shell must not end before setsid has begun: until then its child goes with it, as on a phone.
        begun = "until ps -e -o args= | grep -q '[s]leep 600'; do sleep 0.05; done"
        device.shell(f"setsid sleep 600 >/dev/null 2>&1 </dev/null & {begun}")
        waiting = threading.Thread(target=lambda: _ignore_errors(lambda: device.shell("exec sleep 601")))
        waiting.start()
        wait_for(phone, alive, "2")
        phone.drop_connections()
        waiting.join()
    wait_for(phone, alive, "1")  # the one with a session of its own lives on, the other is hung up


def _ignore_errors(action: Callable[[], object]) -> None:
    with suppress(Exception):  # the cable is pulled under it
        action()


def wait_for(phone: VirtualPhone, script: str, wanted: str) -> None:
    deadline = time.monotonic() + 60
    said = ""
    while said != wanted and time.monotonic() < deadline:
        with connected(phone) as device:
            said = device.shell(script).strip()
    assert said == wanted


def test_a_thousand_shells_leave_nothing(start_phone: Start) -> None:
    phone = start_phone()

    def descriptors() -> int:
        return len(os.listdir("/proc/self/fd"))

    with connected(phone) as device:
        device.shell("true")
        before, threads = descriptors(), threading.active_count()
        for number in range(1000):
            assert device.shell(f"echo {number}").strip() == str(number)
        deadline = time.monotonic() + 30
        while (descriptors() > before or threading.active_count() > threads) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert descriptors() <= before
        assert threading.active_count() <= threads


def test_stopping_ends_everything(start_phone: Start) -> None:
    phone = start_phone()
    with connected(phone) as device:
        device.shell("setsid sh -c 'echo $$; exec sleep 600' >/data/local/tmp/pid 2>&1 </dev/null & sleep 0.2")
        mark = f"{phone.system.root}\0"
        assert _processes_with(mark)
        phone.stop()
        phone.stop()
    assert not _processes_with(mark)
    with pytest.raises(OSError, match="refused"), connected(phone):
        pass


def _processes_with(text: str) -> list[str]:
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
            root = os.readlink(f"/proc/{pid}/root")
        except OSError:
            continue
        if text in command or root == text.rstrip("\0"):
            found.append(pid)
    return found


def test_ended_processes_that_nobody_waits_for_disappear(start_phone: Start) -> None:
    """So that a script that asks whether a process id still lives is told the truth."""
    phone = start_phone()
    with connected(phone) as device:
        pid = device.shell("(sleep 0.1 & echo $!)").strip()
    wait_for(phone, f"kill -0 {pid} 2>/dev/null || echo gone", "gone")


def test_several_clients_at_once(start_phone: Start) -> None:
    phone = start_phone()
    said: list[str] = []

    def work(number: int) -> None:
        with connected(phone) as device:
            push(device, CONTENT[: number * 1000], f"/data/local/tmp/{number}")
            assert pull(device, f"/data/local/tmp/{number}") == CONTENT[: number * 1000]
            said.append(device.shell(f"echo {number}").strip())

    workers = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(said) == [str(number) for number in range(8)]
