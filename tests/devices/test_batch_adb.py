"""Batch runs over ADB: a real adbd, and virtual phones of today and of long ago, with everything a cable does."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from adbd.adbd_fixture import Adbd

pytest.importorskip("adb_shell", reason="adb-shell is not installed (dfmobile[adb])")

from batch_far_sides import script, wait_for

from dfmobile.devices.batch import Batch, BatchItem, BatchProgress, BatchSettings, CoolDown, runs_on_device
from dfmobile.devices.transport.adb_tcp import AdbTcpTransport
from dfmobile.devices.transport.base import Transport
from dfmobile.devices.uri import parse_device
from dfmobile.errors import DeviceError
from dfmobile.testing.virtual_phone import Faults, VirtualPhone

QUICK = BatchSettings(poll_s=0.1, reconnect_s=30.0)


def connect(port: int) -> AdbTcpTransport:
    return AdbTcpTransport(parse_device(f"adb+tcp:127.0.0.1:{port}"))


@pytest.fixture(autouse=True)
def _own_key(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use no key of the user's."""
    monkeypatch.setenv("HOME", str(tmp_path_factory.mktemp("home")))


@pytest.fixture
def own_adbd(start_adbd: Callable[..., Adbd]) -> Iterator[Adbd]:
    """A daemon that this test may cut."""
    adbd = start_adbd()
    yield adbd
    adbd.kill()


@pytest.fixture(params=["adbd", "modern", "old"])
def transport(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Transport]:
    if request.param == "adbd":
        with connect(request.getfixturevalue("adbd_port")) as opened:
            yield opened
        return
    with VirtualPhone(tmp_path / "phone", mode=request.param) as phone, connect(phone.port) as opened:
        yield opened


def items_for(count: int, seconds: float = 0.1) -> list[BatchItem]:
    """Return items that leave a line in a file of the run each time they run."""
    return [
        script(f"item{number:02}", f"echo {number} >>../../ran; sleep {seconds}; echo result {number}")
        for number in range(count)
    ]


def expected(count: int) -> dict[str, bytes]:
    """What they say."""
    return {f"item{number:02}": b"result %d\n" % number for number in range(count)}


def test_items_run_over_adb(transport: Transport, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(bytes(range(256)) * 10_000)
    items = [
        script("out", "echo out; echo err >&2; exit 3"),
        BatchItem("model", ("cksum", "model"), ((tmp_path / "model", "model"),)),
        script("segv", "kill -SEGV $$; sleep 9"),
        script("kill", "kill -KILL $$; sleep 9"),
        script("slow", "sleep 60", timeout_s=0.5),
        BatchItem("missing", ("/no/such/program",)),
        BatchItem("words", ("sh", "-c", 'for a; do echo "<$a>"; done', "sh", "it's", "", "$x", "\udcff\n*")),
    ]
    batch = Batch(transport, QUICK)
    results = list(batch.run(items))
    assert [result.exit_code for result in results] == [3, 0, 139, 137, 124, 127, 0]
    assert results[0].log == b"out\nerr\n"
    assert results[1].log.split()[1] == b"2560000"
    assert results[6].log == b"<it's>\n<>\n<$x>\n<\xff\n*>\n"
    assert runs_on_device(transport) == []


def test_a_cut_connection_does_not_stop_the_driver(own_adbd: Adbd) -> None:
    with connect(own_adbd.port) as transport:
        batch = Batch(transport, QUICK, run_id="cut")
        running = batch.run(items_for(12, 0.3))
        results = [next(running)]
        ran = own_adbd.scratch_root / "dfmobile/runs/cut/ran"
        wait_for(lambda: batch._waiting == [] and len(ran.read_text().split()) >= 2)
        own_adbd.cut()
        before = len(ran.read_text().split())
        # Nobody is connected, nobody can be: it goes on.
        wait_for(lambda: len(ran.read_text().split()) >= before + 3)
        own_adbd.start()
        results += running
    assert {result.id: result.log for result in results} == expected(12)
    assert batch.counters.starts == 1
    assert batch.counters.reconnects >= 1
    assert all(result.conditions_before["attempt"] == 1 for result in results)


def test_a_connection_cut_many_times_loses_nothing(own_adbd: Adbd) -> None:
    done = threading.Event()
    chance = random.Random(7)
    cuts = 0

    def cut_often() -> None:
        nonlocal cuts
        while cuts < 10 and not done.is_set():
            time.sleep(0.2 + chance.random())
            own_adbd.cut()
            time.sleep(chance.random() * 0.3)
            own_adbd.start()
            cuts += 1

    with connect(own_adbd.port) as transport:
        batch = Batch(transport, QUICK, run_id="often")
        thread = threading.Thread(target=cut_often)
        thread.start()
        try:
            results = list(batch.run(items_for(60, 0.2)))
        finally:
            done.set()
            thread.join()
    assert [result.id for result in results] == list(expected(60))
    assert {result.id: result.log for result in results} == expected(60)
    assert all(result.conditions_before["attempt"] == 1 for result in results)
    assert cuts >= 5


def test_a_killed_host_is_followed_by_another(own_adbd: Adbd) -> None:
    program = (
        "import sys; sys.path[:0] = sys.argv[2:]\n"
        "from test_batch_adb import *\n"
        "for result in Batch(connect(int(sys.argv[1])), QUICK, run_id='host').run(items_for(20)):\n"
        "    print(result.id, flush=True)\n"
    )
    here = Path(__file__).parent
    command = [sys.executable, "-c", program, str(own_adbd.port), str(here), str(here.parent)]
    host = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert host.stdout is not None
    assert host.stdout.readline() == b"item00\n"
    host.kill()
    host.communicate()
    with connect(own_adbd.port) as transport:
        batch = Batch(transport, QUICK, run_id="host")
        results = list(batch.run(items_for(20)))
    assert {result.id: result.log for result in results} == expected(20)
    assert all(result.conditions_before["attempt"] == 1 for result in results)


@pytest.mark.parametrize("mode", ["modern", "old"])
def test_a_phone_that_restarts_runs_the_rest(tmp_path: Path, mode: str) -> None:
    told: list[BatchProgress] = []
    with VirtualPhone(tmp_path / "phone", mode=mode) as phone, connect(phone.port) as transport:  # type: ignore[arg-type]
        batch = Batch(transport, QUICK, run_id="restart")
        running = batch.run(items_for(6, 0.3), told.append)
        results = [next(running), next(running)]
        phone.reboot(down_s=0.5)
        results += running
    assert {result.id: result.log for result in results} == expected(6)
    assert batch.counters.reboots == 1
    assert any("the device restarted" in entry.message for entry in told)
    # What was done was not run again.
    assert [result.conditions_before["attempt"] for result in results[:2]] == [1, 1]


def test_the_phones_protocol_is_recorded(tmp_path: Path) -> None:
    with VirtualPhone(tmp_path / "phone") as phone, connect(phone.port) as transport:
        zone = next(iter(phone.system.root.glob("sys/class/thermal/thermal_zone*/type"))).read_text().strip()
        settings = BatchSettings(
            poll_s=0.1, task_profile="MaxPerformance", spin_up_ms=50, cool_down=CoolDown((zone,), 150_000),
            affinity_mask="1",
        )  # fmt: skip
        (result,) = Batch(transport, settings).run([script("one", "echo hello")])
    assert (result.exit_code, result.log) == (0, b"hello\n")
    before = result.conditions_before
    assert before["task_profile"] == "MaxPerformance exit 0"
    assert before["cool_down"]["reached"] is True
    assert zone in before["temperature_mc"]
    assert set(before["frequency_khz"]) == set(range(8))
    assert result.conditions_after["frequency_khz"]


def test_a_read_only_phone_is_one_clear_line(tmp_path: Path) -> None:
    with (
        VirtualPhone(tmp_path / "phone", faults=Faults(read_only=True)) as phone,
        connect(phone.port) as transport,
        pytest.raises(DeviceError) as caught,
    ):
        # Said where it is: a transport may find another folder to write to.
        list(Batch(transport, replace(QUICK, folder="/data/local/tmp/dfmobile")).run(items_for(1)))
    assert "read-only" in str(caught.value) + caught.value.hint


def test_a_full_phone_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(bytes(3_000_000))
    items = [BatchItem("one", ("true",), ((tmp_path / "model", "model"),))]
    with (
        VirtualPhone(tmp_path / "phone", faults=Faults(disk_full_after_bytes=1_000_000)) as phone,
        connect(phone.port) as transport,
        pytest.raises(DeviceError, match="no space left on the device") as caught,
    ):
        list(Batch(transport, QUICK).run(items))
    assert "free some space" in caught.value.hint


@pytest.mark.parametrize("mode", ["modern", "old"])
def test_a_stalled_or_broken_line_loses_nothing(tmp_path: Path, mode: str) -> None:
    faults = Faults(drop_after_bytes=30_000, drops=8, chunk_bytes=500)
    (tmp_path / "model").write_bytes(bytes(range(250)) * 100)
    items = [
        BatchItem(f"item{number:02}", ("cksum", "model"), ((tmp_path / "model", "model"),)) for number in range(30)
    ]
    with VirtualPhone(tmp_path / "phone", mode=mode, faults=faults) as phone, connect(phone.port) as transport:  # type: ignore[arg-type]
        batch = Batch(transport, QUICK)
        results = list(batch.run(items))
    assert [result.log.split()[1] for result in results] == [b"25000"] * 30
    assert all(result.conditions_before["attempt"] == 1 for result in results)
