"""What may happen to a build: killed in the middle, a full disk, a folder that cannot be written."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from latency_helpers import KnownBackend, build_mini

from dfmobile.architecture.spaces import open_space
from dfmobile.devices.device import open_device
from dfmobile.errors import LockedError, StorageError
from dfmobile.latency.table import LatencyTable

PROCESS = Path(__file__).with_name("build_process.py")


def start(path: Path, stop_at: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, str(PROCESS), str(path), str(stop_at)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until_it_waits(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    line = process.stdout.readline().strip()
    if line != "waiting":
        process.kill()
        pytest.fail(f"the builder said {line!r}: {process.communicate()[1]}")


def finish(path: Path) -> None:
    output, errors = start(path, 0).communicate(timeout=240)
    assert output.strip() == "done", errors


def rows(path: Path) -> dict[tuple[str, int], str]:
    """Return every pass as text: equal rows were measured once."""
    with LatencyTable.open(path) as table:
        return {
            (key, number): json.dumps(result.to_dict())
            for key, passes in table.passes().items()
            for number, result in passes
        }


def test_killed_in_the_middle_nothing_is_lost_and_nothing_is_measured_twice(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    kept: dict[tuple[str, int], str] = {}
    for stop_at in (3, 40):
        process = start(path, stop_at)
        wait_until_it_waits(process)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        found = rows(path)
        assert len(found) == stop_at
        assert found.items() >= kept.items()
        kept = found
    finish(path)
    whole = rows(path)
    assert whole.items() >= kept.items()
    keys = open_space("df-mini", 1).key_index(32, 32)
    assert set(whole) == {(key, number) for key in keys for number in range(2)}
    assert sorted(item.name for item in tmp_path.iterdir()) == ["t.sqlite", "t.sqlite.lock"]


def test_killed_at_any_moment_the_table_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    kept: dict[tuple[str, int], str] = {}
    for delay_s in (0.02, 0.11, 0.3):
        process = start(path, 0)
        deadline = time.monotonic() + 60
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(delay_s)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        found = rows(path)
        assert found.items() >= kept.items()
        kept = found
    finish(path)
    assert rows(path).items() >= kept.items()


def test_a_second_process_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    path = tmp_path / "t.sqlite"
    process = start(path, 1)
    try:
        wait_until_it_waits(process)
        with pytest.raises(LockedError, match=str(process.pid)) as caught:
            build_mini(path)
        assert caught.value.holder_pid == process.pid
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
    assert len(rows(path)) == 1


def fill_up(folder: Path) -> None:
    """Write a file ``ballast`` until no byte more fits."""
    with (folder / "ballast").open("wb", buffering=0) as stream, contextlib.suppress(OSError):
        while True:
            stream.write(b"x" * 4096)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 256 kB; skips where mounting is not permitted."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"no small file system to fill: mount cannot be started ({error})")
    if mounted.returncode:
        pytest.skip(f"no small file system to fill: mounting a tmpfs is not permitted ({mounted.stderr.strip()})")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_one_clear_line_and_keeps_what_is_recorded(mount: Path) -> None:
    path = mount / "t.sqlite"
    backend = KnownBackend(open_device("local"))

    def fill(job: object) -> None:
        if len(backend.measured) == 5:
            fill_up(mount)

    backend.before_result = fill
    with pytest.raises(StorageError) as caught:
        build_mini(path, backend)
    assert re.search(r"cannot write .*(full|no space)", str(caught.value))
    assert "\n" not in str(caught.value)
    assert "free some space" in caught.value.hint
    (mount / "ballast").unlink()
    kept = rows(path)
    assert len(kept) >= 3
    backend.before_result = lambda job: None
    assert build_mini(path, backend).coverage.fraction == 1.0
    assert rows(path).items() >= kept.items()


def test_a_disk_that_is_full_from_the_start(mount: Path) -> None:
    fill_up(mount)
    with pytest.raises(StorageError, match=r"cannot write") as caught:
        build_mini(mount / "t.sqlite")
    assert "free some space" in caught.value.hint
    assert not (mount / "t.sqlite").exists()


def test_a_read_only_folder(mount: Path) -> None:
    remount = ["mount", "-o", "remount,ro", str(mount)]
    if subprocess.run(remount, capture_output=True).returncode:
        pytest.skip("no read-only folder: remounting is not permitted")
    with pytest.raises(StorageError, match="read-only") as caught:
        build_mini(mount / "t.sqlite")
    assert "another output folder" in caught.value.hint


def test_a_folder_without_permission(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may write everywhere: test_a_read_only_folder covers it")
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(StorageError, match="permission denied"):
            build_mini(tmp_path / "t.sqlite")
    finally:
        tmp_path.chmod(0o700)


def test_a_table_in_a_read_only_folder_can_be_read(mount: Path) -> None:
    build_mini(mount / "t.sqlite")
    if subprocess.run(["mount", "-o", "remount,ro", str(mount)], capture_output=True).returncode:
        pytest.skip("no read-only folder: remounting is not permitted")
    assert rows(mount / "t.sqlite")
