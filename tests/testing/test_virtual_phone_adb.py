"""Google's own ``adb`` program works with a virtual phone, modern and old."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from adb_program import AdbProgram

from dfmobile.testing.virtual_phone import Faults, VirtualPhone

Start = Callable[..., VirtualPhone]


def said(result: subprocess.CompletedProcess[bytes]) -> bytes:
    """What adb wrote: its errors go to stdout or stderr by its own rules."""
    return result.stdout + result.stderr


def test_shell_of_a_modern_phone(start_phone: Start, adb: AdbProgram) -> None:
    name = adb.connect(start_phone())
    for script, code in (
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -KILL $$", 137),
        ("kill -SEGV $$", 139),
        ("no-such", 127),
    ):
        assert adb("-s", name, "shell", script).returncode == code
    result = adb("-s", name, "shell", "cat; echo out; echo err >&2", stdin=b"typed\n")
    assert (result.stdout, result.stderr) == (b"typed\nout\n", b"err\n")
    listing = adb("devices", "-l").stdout
    assert b"product:virtual model:Virtual_Phone device:virtual" in listing


def test_shell_of_an_old_phone(start_phone: Start, adb: AdbProgram) -> None:
    name = adb.connect(start_phone(mode="old"))
    result = adb("-s", name, "shell", "echo out; echo err >&2; exit 7")
    assert result.returncode == 0  # an old phone does not tell
    assert result.stdout == b"out\r\nerr\r\n"
    assert adb("-s", name, "exec-out", r"printf 'a\nb'").stdout == b"a\nb"
    assert adb("-s", name, "features").stdout.strip() == b""


@pytest.mark.parametrize("mode", ["modern", "old"])
def test_push_and_pull(start_phone: Start, adb: AdbProgram, tmp_path: Path, mode: str) -> None:
    phone = start_phone(mode=mode)
    name = adb.connect(phone)
    content = bytes(range(256)) * 12_000 + b"end"
    (tmp_path / "file").write_bytes(content)
    assert adb("-s", name, "push", str(tmp_path / "file"), "/data/local/tmp/new/folder/file").returncode == 0
    assert phone.host_path("/data/local/tmp/new/folder/file").read_bytes() == content
    assert adb("-s", name, "pull", "/data/local/tmp/new/folder/file", str(tmp_path / "back")).returncode == 0
    assert (tmp_path / "back").read_bytes() == content
    missing = adb("-s", name, "pull", "/data/local/tmp/missing", str(tmp_path / "none"))
    assert missing.returncode == 1
    assert b"No such file" in said(missing) or b"does not exist" in said(missing)
    refused = adb("-s", name, "push", str(tmp_path / "file"), "/system/file")
    assert refused.returncode == 1
    assert b"Permission denied" in said(refused)
    # A folder with all that is in it, and a listing.
    (tmp_path / "many").mkdir()
    for number in range(20):
        (tmp_path / "many" / str(number)).write_text(f"{number}\n" * number)
    assert adb("-s", name, "push", str(tmp_path / "many"), "/data/local/tmp/many").returncode == 0
    assert adb("-s", name, "pull", "/data/local/tmp/many", str(tmp_path / "many back")).returncode == 0
    for number in range(20):
        assert (tmp_path / "many back" / str(number)).read_text() == f"{number}\n" * number
    assert len(adb("-s", name, "ls", "/data/local/tmp/many").stdout.splitlines()) == 22


def test_it_looks_like_a_phone(start_phone: Start, adb: AdbProgram, tmp_path: Path) -> None:
    name = adb.connect(start_phone(properties={"ro.product.model": "Own Model", "own.name": "a b"}))

    def shell(script: str) -> str:
        return adb("-s", name, "shell", script).stdout.decode()

    assert shell("getprop ro.product.model") == "Own Model\n"
    assert shell("getprop no.such; getprop no.such fallback; getprop own.name") == "\nfallback\na b\n"
    assert "[ro.board.platform]: [sdm845]\n" in shell("getprop")
    assert shell("grep -c ^processor /proc/cpuinfo; grep Hardware /proc/cpuinfo") == (
        "8\nHardware\t: Qualcomm Technologies, Inc SDM845\n"
    )
    assert shell("cat /sys/devices/system/cpu/cpu[47]/cpufreq/cpuinfo_max_freq") == "2803200\n2803200\n"
    assert shell("cat /dev/cpuset/background/cpus") == "0-1\n"
    assert "level: 82" in shell("dumpsys battery")
    assert shell("command -v sh; command -v settaskprofile") == "/system/bin/sh\n/system/bin/settaskprofile\n"
    assert shell("command -v python3 gcc || echo none") == "none\n"
    assert shell("pwd; echo $TMPDIR; cd /data/local/tmp && pwd") == "/\n/data/local/tmp\n/data/local/tmp\n"
    adb("-s", name, "pull", "/proc/cpuinfo", str(tmp_path / "cpuinfo"))
    assert (tmp_path / "cpuinfo").read_text().count("CPU part\t: 0x803") == 4


def test_links_lead_where_they_lead_on_the_phone(start_phone: Start, adb: AdbProgram, tmp_path: Path) -> None:
    name = adb.connect(start_phone())
    script = "cd /data/local/tmp; echo there >f; ln -s /data/local/tmp/f absolute; ln -s f relative; ln -s loop loop"
    adb("-s", name, "shell", script)
    for link in ("absolute", "relative"):
        assert adb("-s", name, "pull", f"/data/local/tmp/{link}", str(tmp_path / link)).returncode == 0
        assert (tmp_path / link).read_text() == "there\n"
    assert adb("-s", name, "pull", "/data/local/tmp/loop", str(tmp_path / "loop")).returncode == 1


def test_unauthorized_and_offline(start_phone: Start, adb: AdbProgram) -> None:
    locked = start_phone("locked", state="unauthorized")
    names = [adb.connect(locked), adb.connect(start_phone("silent", state="offline"))]
    deadline = time.monotonic() + 60
    while adb.states().get(names[0]) != "unauthorized" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert [adb.states().get(name) for name in names] == ["unauthorized", "offline"]
    refused = adb("-s", names[0], "shell", "echo in")
    assert refused.returncode == 1
    assert b"unauthorized" in refused.stderr
    assert locked.settings.offered_keys


def test_a_key_is_asked_for_and_remembered(start_phone: Start, adb: AdbProgram) -> None:
    phone = start_phone(public_keys=[], accept_new_keys=True)
    name = adb.connect(phone)
    deadline = time.monotonic() + 60
    while adb.states().get(name) != "device" and time.monotonic() < deadline:
        time.sleep(0.2)
    assert adb("-s", name, "shell", "echo in").stdout == b"in\n"
    assert len(phone.settings.offered_keys) == 1
    adb("disconnect", name)
    adb.connect(phone)  # now by signature
    assert adb("-s", name, "shell", "echo in").stdout == b"in\n"
    assert len(phone.settings.offered_keys) == 1


def test_reboot(start_phone: Start, adb: AdbProgram) -> None:
    phone = start_phone()
    name = adb.connect(phone)
    boot = adb("-s", name, "shell", "cat /proc/sys/kernel/random/boot_id").stdout
    adb("-s", name, "shell", "setsid sleep 600 >/dev/null 2>&1 </dev/null & echo kept >/data/local/tmp/kept")
    assert b"sleep" in adb("-s", name, "shell", "ps -e").stdout
    adb("-s", name, "reboot")
    deadline = time.monotonic() + 60
    again = b""
    while again in (b"", boot) and time.monotonic() < deadline:
        adb.connect(phone)
        again = adb("-s", name, "shell", "cat /proc/sys/kernel/random/boot_id").stdout
    assert len(again) == len(boot)
    assert again != boot
    assert b"sleep" not in adb("-s", name, "shell", "ps -e").stdout
    assert adb("-s", name, "shell", "cat /data/local/tmp/kept").stdout == b"kept\n"


def test_no_space_and_read_only(start_phone: Start, adb: AdbProgram, tmp_path: Path) -> None:
    phone = start_phone(faults=Faults(disk_full_after_bytes=100_000))
    name = adb.connect(phone)
    (tmp_path / "file").write_bytes(bytes(1_000_000))
    full = adb("-s", name, "push", str(tmp_path / "file"), "/data/local/tmp/file")
    assert full.returncode == 1
    assert b"No space left on device" in said(full)
    assert not phone.host_path("/data/local/tmp/file").exists()
    phone.faults = Faults(read_only=True)
    refused = adb("-s", name, "push", str(tmp_path / "file"), "/data/local/tmp/file")
    assert b"Read-only file system" in said(refused)
    assert b"Read-only file system" in adb("-s", name, "shell", "echo x >/data/local/tmp/x").stderr
    phone.faults = Faults()
    assert adb("-s", name, "push", str(tmp_path / "file"), "/data/local/tmp/file").returncode == 0
    assert adb("-s", name, "shell", "echo x >/data/local/tmp/x").returncode == 0
