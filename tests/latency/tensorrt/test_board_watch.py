"""What a Jetson says of its clocks and alerts around a batch."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from latency.tensorrt.replays import conv_model, one_pass, replay_backend, scratch

from dfmobile.devices.device import Device, open_device
from dfmobile.devices.jetson import probe_linux_board
from dfmobile.devices.transport.local import LocalTransport
from dfmobile.errors import DeviceError
from dfmobile.latency.tensorrt.board_watch import BoardWatch
from dfmobile.testing.virtual_jetson import plant_jetson

__all__ = ["scratch"]


def watched(board: Any, told: list[str], transport: Any = None) -> BoardWatch:
    profile = probe_linux_board(LocalTransport(), root=str(board.root))
    device = SimpleNamespace(uri="ssh:me@board", profile=profile, transport=transport or LocalTransport())
    return BoardWatch(cast(Device, device), told.append, root=str(board.root))


@pytest.mark.parametrize("locked", [False, True])
def test_free_clocks_are_told_once_and_kept_with_rows(tmp_path: Path, locked: bool) -> None:
    told: list[str] = []
    watch = watched(plant_jetson(tmp_path, "agx-orin", locked=locked), told)
    kept = watch.before()
    watch.after()
    assert watch.before() == kept
    assert kept is not None
    assert (kept["gpu_locked"], kept["power_mode"]) == (locked, "MODE_30W")
    assert len(told) == (0 if locked else 1)
    assert locked or "sudo jetson_clocks" in told[0]


def test_a_board_that_slows_down_is_told(tmp_path: Path) -> None:
    told: list[str] = []
    board = plant_jetson(tmp_path, "agx-orin", locked=True)
    watch = watched(board, told)
    watch.before()
    board.write("/sys/class/thermal/cooling_device0/cur_state", "1\n")
    watch.after()
    assert len(told) == 1
    assert "ssh:me@board slowed itself down while it measured (gpu-throttle-alert)" in told[0]


def test_a_board_that_is_away_is_the_batchs_matter(tmp_path: Path) -> None:
    class Away:
        def run(self, *_: Any, **__: Any) -> Any:
            raise DeviceError("it is away")

    watch = watched(plant_jetson(tmp_path, "agx-orin"), [], Away())
    assert watch.before() is None
    watch.after()


def test_other_devices_are_not_looked_at() -> None:
    told: list[str] = []
    watch = BoardWatch(open_device("local"), told.append)
    assert watch.before() is None
    watch.after()
    assert told == []


def test_rows_keep_what_was_seen(tmp_path: Path, scratch: Path) -> None:
    told: list[str] = []
    backend = replay_backend(tmp_path)
    backend.trtexec._watch = watched(plant_jetson(tmp_path / "root", "orin-nano"), told)
    found = one_pass(backend, conv_model(backend, tmp_path / "m.onnx"))
    assert found.extra["engines"]["isolated"]["board"]["power_mode"] == "MAXN_SUPER"
    assert "not locked" in told[0]
