"""A virtual Jetson behind a real sshd: probe, conditions, tegrastats beside a command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dfmobile.devices.board_conditions import read_board_conditions
from dfmobile.devices.jetson import probe_linux_board
from dfmobile.devices.power_trace import mean_power_mw
from dfmobile.devices.tegrastats_monitor import TegrastatsMonitor
from dfmobile.devices.transport.base import CommandTimeoutError
from dfmobile.testing.virtual_jetson import plant_jetson

ssh_boards = pytest.importorskip("ssh_boards", reason="the tests' sshd is not in this version")


def test_a_board_behind_sshd(sshd: Any, tmp_path: Path) -> None:
    board = plant_jetson(tmp_path / "root", "agx-orin")
    root = str(board.root)
    with ssh_boards.opened(sshd) as transport, transport.scratch_folder() as folder:
        profile = probe_linux_board(transport, root=root)
        assert profile.known_profile == "jetson-agx-orin"
        assert profile.jetson is not None
        assert profile.jetson.power_mode == "MODE_30W"
        assert read_board_conditions(transport, root=root).gpu_khz == board.spec.gpu[1][-1]
        watch = TegrastatsMonitor(transport, 50, folder, tegrastats=board.tegrastats, root=root)
        assert transport.run(watch.wrap(["sh", "-c", "sleep 0.5; exit 4"]), timeout_s=30).exit_code == 4
        assert mean_power_mw(watch.read(), 50, 450)["VDD_GPU_SOC"] == 5000
        with pytest.raises(CommandTimeoutError):
            transport.run(watch.wrap(["sleep", "60"], "cut.log"), timeout_s=1)
        ssh_boards.wait_for(lambda: not ssh_boards.runs(sshd, "tegrastats"), limit_s=20)
        assert watch.read("cut.log").duration_ms is None
        assert transport.probe().kind == "host"  # this machine, whatever the folder says
