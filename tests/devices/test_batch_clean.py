"""What runs left on a device is listed with its age, and removed on request."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from batch_far_sides import FarSide, script, settings_for
from typer.testing import CliRunner

from dfmobile.cli.main import app
from dfmobile.devices.batch import Batch, clean_device, runs_on_device
from dfmobile.devices.batch.remote import RemoteDriver
from dfmobile.devices.transport.base import Transport
from dfmobile.devices.transport.local import LocalTransport
from dfmobile.errors import InputError


@pytest.fixture
def local() -> FarSide:
    return FarSide()


def leave(local: FarSide, folder: Path, run_id: str) -> None:
    """Leave a run as a killed host does."""
    next(Batch(local, settings_for(folder, push_first=True), run_id=run_id).run([script("a", "exit 0")] * 1))


def test_leftovers_are_listed_and_removed(local: FarSide, tmp_path: Path) -> None:
    folder = f"{tmp_path}/far"
    assert runs_on_device(local, folder) == []
    leave(local, tmp_path, "one")
    running = Batch(local, settings_for(tmp_path), run_id="two").run([script("a", "exit 0"), script("b", "sleep 60")])
    next(running)
    found = {run.run_id: run for run in runs_on_device(local, folder)}
    assert (found["one"].state, found["one"].done, found["one"].total) == ("finished", 1, 1)
    assert (found["two"].state, found["two"].total) == ("running", 2)
    assert "@" in found["one"].owner
    assert found["one"].age_s is not None
    assert 0 <= found["one"].age_s < 300
    assert [entry.removed for entry in clean_device(local, folder=folder, dry_run=True)] == [False, False]
    kept = {entry.run.run_id: entry.removed for entry in clean_device(local, folder=folder)}
    assert kept == {"one": True, "two": False}
    assert [entry.removed for entry in clean_device(local, folder=folder, stop=True)] == [True]
    assert not (tmp_path / "far").exists()
    assert clean_device(local, folder=folder) == []


def test_one_run_is_removed_by_name(local: FarSide, tmp_path: Path) -> None:
    folder = f"{tmp_path}/far"
    leave(local, tmp_path, "one")
    leave(local, tmp_path, "two")
    with pytest.raises(InputError, match="no run three"):
        clean_device(local, folder=folder, run_id="three")
    assert [entry.run.run_id for entry in clean_device(local, folder=folder, run_id="one")] == ["one"]
    assert [run.run_id for run in runs_on_device(local, folder)] == ["two"]


def test_a_run_that_begins_meanwhile_is_kept(local: FarSide, tmp_path: Path) -> None:
    """Another host's, between the look and the removal."""
    leave(local, tmp_path, "one")
    newer = tmp_path / "far" / "runs" / "two"

    def begin(argv: list[str]) -> None:
        if argv[:2] == ["sh", "-c"] and "rmdir" in argv[2]:
            newer.mkdir()

    local.before = begin
    assert [entry.removed for entry in clean_device(local, folder=f"{tmp_path}/far", stop=True)] == [True]
    assert newer.is_dir()
    assert (tmp_path / "far" / "store").is_dir()


def test_the_store_of_a_command_between_two_runs_is_kept(local: FarSide, tmp_path: Path) -> None:
    folder = f"{tmp_path}/far"
    (result,) = Batch(local, settings_for(tmp_path), run_id="first").run([script("a", "exit 0")])
    assert result.exit_code == 0
    assert clean_device(local, folder=folder) == []
    assert list((tmp_path / "far" / "store").iterdir())
    used = tmp_path / "far" / "store" / "used"
    os.utime(used, (used.stat().st_atime, used.stat().st_mtime - 700))
    assert clean_device(local, folder=folder) == []
    assert not (tmp_path / "far").exists()
    list(Batch(local, settings_for(tmp_path), run_id="second").run([script("a", "exit 0")]))
    assert clean_device(local, folder=folder, stop=True) == []
    assert not (tmp_path / "far").exists()


@pytest.mark.parametrize("there", ["owner", ""])
def test_the_age_of_a_run_that_never_started(local: FarSide, tmp_path: Path, there: str) -> None:
    leave(local, tmp_path, "one")
    run = tmp_path / "far" / "runs" / "two"
    run.mkdir()
    if there:
        (run / there).write_text("me@here\n")
    os.utime(run / there, (time.time() - 5000,) * 2)
    (found,) = [found for found in runs_on_device(local, f"{tmp_path}/far") if found.run_id == "two"]
    assert found.age_s == pytest.approx(5000, abs=100)


def test_an_owner_that_would_write_to_the_terminal(local: FarSide, tmp_path: Path) -> None:
    leave(local, tmp_path, "one")
    (tmp_path / "far" / "runs" / "one" / "owner").write_text("me\x1b[2J@here\n")
    assert [run.owner for run in runs_on_device(local, f"{tmp_path}/far")] == ["me[2J@here"]


def test_users_of_one_machine_do_not_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalTransport, "scratch_root", f"{tmp_path}/")
    folders = []
    for user in (1000, 1001):
        monkeypatch.setattr(os, "getuid", lambda user=user: user)
        folders.append(RemoteDriver(LocalTransport(), "none").base)
    assert folders == [f"{tmp_path}/dfmobile-1000", f"{tmp_path}/dfmobile-1001"]
    assert RemoteDriver(LocalTransport(), "none", "/elsewhere/").base == "/elsewhere"
    # A phone's shell is one user, whoever is at the other end.
    monkeypatch.setattr(LocalTransport, "scratch_name", Transport.scratch_name)
    assert RemoteDriver(LocalTransport(), "none").base == f"{tmp_path}/dfmobile"


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalTransport, "scratch_root", str(tmp_path))
    settings = settings_for(tmp_path, folder=f"{tmp_path}/dfmobile-{os.getuid()}")
    next(Batch(LocalTransport(), settings, run_id="left").run([script("a", "exit 0"), script("b", "sleep 60")]))
    runner = CliRunner()
    shown = runner.invoke(app, ["devices", "clean", "--device", "local", "--json"])
    assert shown.exit_code == 0
    (entry,) = json.loads(shown.stdout)
    assert (entry["run_id"], entry["state"], entry["removed"]) == ("left", "running", False)
    shown = runner.invoke(app, ["devices", "clean", "--device", "local", "--run", "left", "--stop"])
    assert "left: running" in shown.stderr
    assert shown.stderr.rstrip().endswith("removed")
    shown = runner.invoke(app, ["devices", "clean", "--device", "local", "--run", "left"])
    assert shown.exit_code == 1
    assert "error: local has no run left" in shown.stderr
    shown = runner.invoke(app, ["devices", "clean", "--device", "local"])
    assert "no batch run is there" in shown.stderr
    assert "programs and engines stored there: kept (in use, or used in the last ten minutes" in shown.stderr
    shown = runner.invoke(app, ["devices", "clean", "--device", "local", "--stop"])
    assert "programs and engines stored there: removed" in shown.stderr
    assert "stored there" not in runner.invoke(app, ["devices", "clean", "--device", "local"]).stderr
    assert "local" in runner.invoke(app, ["devices"]).stdout
    assert json.loads(runner.invoke(app, ["devices", "--json"]).stdout)[0]["uri"] == "local"
