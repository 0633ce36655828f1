"""A table over a real adbd while the cable is pulled again and again, and the building process is killed."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("adb_shell", reason="adb-shell is not installed (dfmobile[adb])")

from adbd.adbd_fixture import Adbd
from adbd.adbd_tables import device_arguments, rows, stand_in

from dfmobile.architecture.spaces import open_space
from dfmobile.devices.batch import runs_on_device
from dfmobile.devices.device import open_device
from dfmobile.errors import DfmobileError
from dfmobile.latency.rejected import rejected_passes
from dfmobile.latency.table import LatencyTable

SPACE = ["--space", "df-mini", "--max-depth", "1", "--input", "32x32", "--passes", "1"]
CUTS = 10
LIMIT_S = 600.0

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.fixture
def own_adbd(start_adbd: Callable[..., Adbd]) -> Iterator[Adbd]:
    """A daemon that this test may cut."""
    adbd = start_adbd()
    yield adbd
    adbd.kill()


class Host:
    """The command line in a process of its own, as a user starts it."""

    def __init__(self, adbd: Adbd, folder: Path, table: Path) -> None:
        binary = stand_in(folder)
        program = "from dfmobile.cli.main import main; main()"
        arguments = ["lut", "build", *SPACE, *device_arguments(adbd.port, binary), "-o", str(table)]
        self.errors = folder / f"{table.stem}.errors"
        with self.errors.open("ab") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-c", program, *arguments],
                env={**os.environ, "HOME": str(folder)}, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream,
            )  # fmt: skip

    def wait(self) -> str:
        """Return what it said, once it ended well."""
        code = self.process.wait(LIMIT_S)
        said = self.errors.read_text()
        assert code == 0, said[-3000:]
        return said

    def wait_for_rows(self, table: Path, count: int) -> None:
        """Wait until so many passes are recorded."""
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.errors.read_text()[-3000:]
            with contextlib.suppress(DfmobileError):
                if len(rows(table)) >= count:
                    return
            time.sleep(0.2)
        raise AssertionError(f"no {count} passes after {LIMIT_S:.0f} s: {self.errors.read_text()[-3000:]}")

    def wait_for_words(self, words: str) -> None:
        """Wait until it says something."""
        deadline = time.monotonic() + LIMIT_S
        while words not in self.errors.read_text():
            assert self.process.poll() is None, self.errors.read_text()[-3000:]
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def kill(self) -> None:
        """Kill it as the kernel does when memory is short."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Cutter:
    """Cuts the connection at random moments, a number of times, in a thread of its own."""

    def __init__(self, adbd: Adbd, chance: random.Random) -> None:
        self.cuts = 0
        self._adbd, self._chance, self._done = adbd, chance, threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while self.cuts < CUTS and not self._done.wait(0.3 + 3 * self._chance.random()):
            self._adbd.cut()
            time.sleep(self._chance.random())
            self._adbd.start()
            self.cuts += 1

    def __enter__(self) -> Cutter:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()


def test_no_row_is_lost_and_none_doubled(own_adbd: Adbd, tmp_path: Path) -> None:
    calm, rough = tmp_path / "calm.sqlite", tmp_path / "rough.sqlite"
    Host(own_adbd, tmp_path, calm).wait()
    expected = {(key, 0) for key in open_space("df-mini", 1).key_index(32, 32)}
    assert len(expected) >= 20
    assert set(rows(calm)) == expected

    first = Host(own_adbd, tmp_path, rough)
    first.wait_for_rows(rough, 1)
    first.kill()
    kept = rows(rough)
    second = Host(own_adbd, tmp_path, rough)
    second.wait_for_words("the process that started it is gone")  # the killed one's run makes way
    with Cutter(own_adbd, random.Random(11)) as cutter:
        said = second.wait()
    assert cutter.cuts == CUTS
    assert "is lost" in said
    assert "the connection is back" in said
    found = rows(rough)
    assert set(found) == set(rows(calm))
    # What the killed process had recorded is there as it was, unless a guard has withdrawn it since, and said so.
    with LatencyTable.open(rough) as table:
        withdrawn = {(item.key, item.pass_index) for item in rejected_passes(table)}
    assert {place: row for place, row in kept.items() if place not in withdrawn}.items() <= found.items()
    # One start of a process is one row, however often the line broke while it came.
    assert len(set(found.values())) == len(found)
    left = sorted(path.name for path in tmp_path.glob("*rough*"))
    assert left == ["rough.errors", "rough.sqlite", "rough.sqlite.lock"]
    with open_device(f"adb+tcp:127.0.0.1:{own_adbd.port}") as device:
        assert runs_on_device(device.transport) == []
