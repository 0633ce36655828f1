"""The real adbd that other tests use is what it says: loopback only, unprivileged, keys where asked, nothing left."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from adbd.adbd_fixture import Adbd

adb_shell = pytest.importorskip("adb_shell", reason="adb-shell is not installed (dfmobile[adb])")
from adb_shell.adb_device import AdbDeviceTcp  # noqa: E402
from adb_shell.auth.keygen import keygen  # noqa: E402
from adb_shell.auth.sign_pythonrsa import PythonRSASigner  # noqa: E402
from adb_shell.exceptions import TcpTimeoutException  # noqa: E402

pytestmark = pytest.mark.timeout(1800)  # the first test may build it


@contextlib.contextmanager
def connected(adbd: Adbd, keys: list[PythonRSASigner] | None = None) -> Iterator[AdbDeviceTcp]:
    device = AdbDeviceTcp("127.0.0.1", adbd.port, default_transport_timeout_s=30)
    try:
        device.connect(rsa_keys=keys, auth_timeout_s=3)
        yield device
    finally:
        device.close()


def test_a_second_build_is_the_cached_one(adbd_binary: Path) -> None:
    script = Path(__file__).with_name("build_adbd.sh")
    started = os.stat(adbd_binary).st_mtime_ns
    result = subprocess.run(["sh", script, adbd_binary.parent.parent], capture_output=True, text=True, check=True)
    assert Path(result.stdout.splitlines()[-1]) == adbd_binary
    assert os.stat(adbd_binary).st_mtime_ns == started


def test_it_runs_commands_as_a_user_who_may_do_nothing(adbd: Adbd) -> None:
    with connected(adbd) as device:
        assert device.shell("echo hello; pwd").split() == ["hello", str(adbd.scratch_root)]
        assert device.shell("echo $TMPDIR").strip() == str(adbd.scratch_root)
        if os.getuid() == 0:
            assert device.shell("id -un").strip() == "nobody"
            assert device.shell("grep ^CapBnd /proc/self/status").split() == ["CapBnd:", "0000000000000000"]


def test_it_listens_on_loopback_only(adbd: Adbd) -> None:
    port = f"{adbd.port:04X}"
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[1].endswith(f":{port}"):
                listening.append(fields[1])
    assert listening == [f"0100007F:{port}"]


def test_it_asks_for_a_key_where_keys_are_given(start_adbd: Callable[..., Adbd], tmp_path: Path) -> None:
    signers = []
    for name in ("known", "unknown"):
        keygen(str(tmp_path / name))
        public, private = (tmp_path / f"{name}.pub").read_text(), (tmp_path / name).read_text()
        signers.append(PythonRSASigner(public, private))
    adbd = start_adbd(public_keys=(tmp_path / "known.pub").read_text() + "\n")
    with connected(adbd, signers[:1]) as device:
        assert device.shell("echo in").strip() == "in"
    with pytest.raises(TcpTimeoutException), connected(adbd, signers[1:]):
        pass


def test_killing_it_kills_all_that_it_ran(start_adbd: Callable[..., Adbd]) -> None:
    adbd = start_adbd()
    beat = adbd.scratch_root / "beat"
    script = f"echo $$ > {beat}.new; mv {beat}.new {beat}; exec sleep 600"
    with connected(adbd) as device:
        device.shell(f"setsid sh -c '{script}' >/dev/null 2>&1 </dev/null & sleep 0.5")
    deadline = time.monotonic() + 30
    while not beat.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    pid = int(beat.read_text())
    adbd.cut()
    assert runs(pid)  # it has a session of its own: the cut does not reach it
    adbd.kill()
    assert not runs(pid)
    adbd.start()
    with connected(adbd) as device:
        assert device.shell("echo again").strip() == "again"


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"
