"""Tables from a board behind a real sshd, its trtexec the replay: flags by version, cuts, and nothing left behind."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from latency.latency_helpers import mini_network
from latency.tensorrt.replays import FAST, QuickBackend, conv_model, one_pass
from sshd.sshd_fixture import Sshd, running_sshd

from dfmobile.devices.device import Device, open_device
from dfmobile.errors import DfmobileError, InputError
from dfmobile.latency.builder import BuildProgress, BuildReport, build_table
from dfmobile.latency.measurement import Protocol
from dfmobile.latency.predictor import Predictor
from dfmobile.latency.table import LatencyTable
from dfmobile.testing.backend_contract import BackendContract
from dfmobile.testing.replay_trtexec import VERSIONS, configure_replay, install_replay

PROTOCOL = Protocol(passes=3, runs=4)


@pytest.fixture
def board(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A real sshd whose scratch folder is the test's own, and through which devices are opened."""
    scratch = tmp_path / "far"
    scratch.mkdir()
    with running_sshd(tmp_path, environment={"TMPDIR": str(scratch)}) as server:
        monkeypatch.setenv("DFMOBILE_SSH_CONFIG", str(server.config_file))
        yield server


def backend_on(device: Device, program: Path, **options: str) -> QuickBackend:
    return QuickBackend(device, options={**FAST, "trtexec": str(program), "reconnect-secs": "60", **options})


@pytest.mark.slow
class TestContractOverSsh(BackendContract):
    @pytest.fixture
    def backend(self, board: Sshd, tmp_path: Path) -> Any:
        with open_device(board.uri) as device:
            yield backend_on(device, install_replay(tmp_path / "tool", "8.2.1", sys.executable))


def built(board: Sshd, table: Path, program: Path, **options: Any) -> BuildReport:
    network = mini_network()
    with open_device(board.uri) as device:
        backend = backend_on(device, program)
        return build_table(table, network, network.width, network.height, device, backend, PROTOCOL, **options)


def test_a_pass_over_ssh_leaves_nothing_running(board: Sshd, tmp_path: Path) -> None:
    with open_device(board.uri) as device:
        backend = backend_on(device, install_replay(tmp_path / "tool", "8.2.1"))
        assert one_pass(backend, conv_model(backend, tmp_path / "m.onnx")).hot_ms
    assert board.wait_until_quiet() == {}


@pytest.mark.slow
@pytest.mark.parametrize("version", VERSIONS)
def test_a_table_of_each_version_through_five_cuts(version: str, board: Sshd, tmp_path: Path) -> None:
    program = install_replay(tmp_path / "tool", version)  # refuses flags and opsets that its version lacks
    cuts = iter((1, 3, 5, 7, 9))
    next_cut = [next(cuts)]

    def progress(step: BuildProgress) -> None:
        if next_cut and step.done >= next_cut[0]:
            board.drop_connections()
            next_cut[:] = [at for at in [next(cuts, None)] if at is not None]

    table = tmp_path / "t.sqlite"
    report = built(board, table, program, progress=progress)
    assert not next_cut
    assert report.coverage.fraction == 1.0
    assert board.wait_until_quiet() == {}
    with LatencyTable.open(table) as opened:
        assert opened.header.replay
        assert opened.header.runtime_version == version
        assert opened.header.flags["opset"] == (13 if version == "8.2.1" else 17)
        entries = opened.entries()
        assert {entry.measure for entry in entries} == {"marginal"}
        assert all(entry.hot.passes == 3 and entry.between_builds_ms is not None for entry in entries)
        assert all(row.extra["replay"] is True for rows in opened.passes().values() for _, row in rows)
        with pytest.raises(InputError, match="not a measurement"):
            Predictor(opened)
        assert Predictor(opened, allow_replay=True).predict(mini_network()).latency_ms > 0


@pytest.mark.slow
def test_a_build_that_lost_its_board_goes_on_by_the_same_command(board: Sshd, tmp_path: Path) -> None:
    program, table = install_replay(tmp_path / "tool", "8.5.2"), tmp_path / "t.sqlite"

    def power_cut(step: BuildProgress) -> None:
        if step.done == 3:
            board.kill()

    network = mini_network()
    with open_device(board.uri) as device:
        backend = backend_on(device, program, **{"reconnect-secs": "1"})
        with pytest.raises(DfmobileError) as caught:
            build_table(table, network, 32, 32, device, backend, PROTOCOL, progress=power_cut)
    assert "\n" not in str(caught.value)
    assert board.processes() == {}
    board.start()
    assert built(board, table, program).coverage.fraction == 1.0
    assert board.wait_until_quiet() == {}


@pytest.mark.slow
def test_a_killed_trtexec_is_named_and_what_was_measured_stays(board: Sshd, tmp_path: Path) -> None:
    program, table = install_replay(tmp_path / "tool", "8.2.1"), tmp_path / "t.sqlite"

    def fail(step: BuildProgress) -> None:
        if step.done == 4:
            configure_replay(tmp_path / "tool", failure="killed")

    with pytest.raises(DfmobileError, match="killed") as caught:
        built(board, table, program, progress=fail)
    assert caught.value.hint
    configure_replay(tmp_path / "tool", failure="")
    assert built(board, table, program).passes < 3 * len(mini_network().blocks)
    assert board.wait_until_quiet() == {}
