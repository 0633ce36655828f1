"""Batch runs over a real sshd whose connections are cut again and again: nothing is lost, nothing runs twice."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest
from batch_far_sides import script
from ssh_boards import opened
from sshd.sshd_fixture import Sshd

from dfmobile.devices.batch import Batch, BatchItem, BatchSettings, runs_on_device

CUTS = 5
ITEMS = 16
QUICK = BatchSettings(poll_s=0.1, reconnect_s=60.0)


class Cutter(threading.Thread):
    """Cuts all connections at random moments."""

    def __init__(self, server: Sshd) -> None:
        super().__init__()
        self.cuts = 0
        self.done = threading.Event()
        self._server, self._chance = server, random.Random(5)

    def run(self) -> None:
        while self.cuts < CUTS and not self.done.wait(0.5 + self._chance.random()):
            before = self._server.line.connections
            self._server.drop_connections()
            self.cuts += 1
            # The next one hits a connection, not the pause before it.
            while self._server.line.connections == before and not self.done.is_set():
                time.sleep(0.05)


@pytest.mark.slow
def test_a_connection_cut_five_times_loses_nothing(sshd: Sshd, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(bytes(range(256)) * 4096)
    items = [
        BatchItem("model", ("cksum", "model"), ((tmp_path / "model", "model"),)),
        script("segv", "kill -SEGV $$; sleep 9"),
        *(
            script(f"item{number:02}", f"echo {number} >>../../ran; sleep 0.5; echo result {number}")
            for number in range(ITEMS)
        ),
    ]
    cutter = Cutter(sshd)
    with opened(sshd) as transport:
        batch = Batch(transport, QUICK)
        cutter.start()
        try:
            results = list(batch.run(items))
        finally:
            cutter.done.set()
            cutter.join()
        transport.reconnect()
        assert runs_on_device(transport) == []
    assert [result.id for result in results] == [item.id for item in items]
    assert [result.exit_code for result in results] == [0, 139] + [0] * ITEMS
    assert results[0].log.split()[1] == b"1048576"
    assert [result.log for result in results[2:]] == [f"result {number}\n".encode() for number in range(ITEMS)]
    assert all(result.conditions_before["attempt"] == 1 for result in results)
    assert cutter.cuts == CUTS
    assert batch.counters.starts == 1
    assert batch.counters.reconnects >= 1
    assert sshd.wait_until_quiet() == {}
