"""What a batch run survives: killed hosts and drivers, restarts of the device, lost connections, full storage."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from batch_far_sides import (
    SHELLS,
    FarSide,
    driver_pid,
    kill_driver,
    processes_below,
    script,
    settings_for,
    tool_folder,
    wait_for,
)
from batch_process import COUNT, items_for
from test_batch import phone_tree

from dfmobile.devices.batch import Batch, BatchDamagedError, BatchItem, BatchProgress, PhoneLockedError
from dfmobile.devices.batch import connection as connection_module
from dfmobile.devices.batch.manifest import ALONE_BYTES
from dfmobile.devices.transport.base import AnotherDeviceError, CommandResult, ConnectionLostError, UnauthorizedError
from dfmobile.devices.transport.local import LocalTransport
from dfmobile.errors import DeviceError, InputError

HERE = Path(__file__).parent


@pytest.fixture(params=SHELLS)
def far(request: pytest.FixtureRequest, tmp_path: Path) -> FarSide:
    return FarSide(tool_folder(request.param, tmp_path / "tools"))


@pytest.fixture
def local() -> FarSide:
    return FarSide()


@pytest.fixture(autouse=True)
def _nothing_runs_on(tmp_path: Path) -> Iterator[None]:
    """Stop what a test that failed left."""
    yield
    for path in tmp_path.glob("far/runs/*"):
        Batch(LocalTransport(), settings_for(tmp_path), run_id=path.name).clean_up()


def ran(folder: Path) -> list[str]:
    """Which items ran, in order."""
    return (folder / "ran").read_text().split()


def test_a_killed_host_loses_nothing_and_doubles_nothing(tmp_path: Path) -> None:
    command = [sys.executable, str(HERE / "batch_process.py"), str(tmp_path), "killed"]
    taken: list[str] = []
    for number in range(3):
        host = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert host.stdout is not None
        for _ in range(1 + 4 * number):
            taken.append(host.stdout.readline().decode().strip())
        host.send_signal(signal.SIGKILL)
        host.communicate()
    results = list(Batch(LocalTransport(), settings_for(tmp_path), run_id="killed").run(items_for(tmp_path)))
    assert [result.log for result in results] == [b"result %d\n" % number for number in range(COUNT)]
    assert ran(tmp_path) == [str(number) for number in range(COUNT)]
    assert set(taken) <= {result.id for result in results}


def test_the_run_goes_on_without_its_host(far: FarSide, tmp_path: Path) -> None:
    items = [script(f"item{number}", f"sleep 0.2; echo {number} >> {tmp_path}/ran") for number in range(5)]
    first = Batch(far, settings_for(tmp_path, push_first=True), run_id="alone")
    next(iter(first.run(items)))
    asked = len(far.commands)
    wait_for(lambda: len(ran(tmp_path)) == 5)
    assert len(far.commands) == asked
    wait_for(lambda: (tmp_path / "far/runs/alone/state").read_text() == "finished\n")
    second = Batch(far, settings_for(tmp_path, push_first=True), run_id="alone")
    assert [result.id for result in second.run(items)] == [item.id for item in items]
    assert second.counters.starts == 0
    assert len(ran(tmp_path)) == 5


def test_two_hosts_at_once_one_is_told_who_has_it(far: FarSide, tmp_path: Path) -> None:
    first = Batch(far, settings_for(tmp_path), run_id="first")
    running = first.run([script("a", "exit 0"), script("b", "sleep 2; echo b")])
    assert next(running).id == "a"
    second = Batch(far, settings_for(tmp_path), run_id="second")
    with pytest.raises(PhoneLockedError, match=r"local is in use: \S+@\S+ started the run first \d+ s ago") as caught:
        list(second.run([script("c", "exit 0")]))
    assert "--run first" in caught.value.hint
    assert [result.log for result in running] == [b"b\n"]
    # Now it is free.
    assert [result.id for result in second.run([script("c", "exit 0")])] == ["c"]


def test_only_one_of_many_gets_the_lock(tmp_path: Path) -> None:
    """All start at once over a stale lock; one runs, the others are told."""
    lock = tmp_path / "far" / "lock"
    lock.mkdir(parents=True)
    lock.parent.chmod(0o700)
    (lock / "owner").write_text("999999 1 some-other-boot dead 100 someone@gone\n")
    ended: list[str] = []

    def host(number: int) -> None:
        batch = Batch(FarSide(), settings_for(tmp_path), run_id=f"host{number}")
        try:
            list(batch.run([script("one", f"echo {number} >> {tmp_path}/ran; sleep 1.5")]))
            ended.append("ran")
        except PhoneLockedError:
            ended.append("locked")

    threads = [threading.Thread(target=host, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(ended)[0] == "locked"
    assert ended.count("ran") == len(ran(tmp_path))


@pytest.mark.parametrize("owner", ["", "garbage\n", "1 2 3\n", "x y z w v u\n", "\0\xff\n", "999999 1 b r 1 s\n"])
def test_a_stale_or_damaged_lock_blocks_nobody(local: FarSide, tmp_path: Path, owner: str) -> None:
    lock = tmp_path / "far" / "lock"
    lock.mkdir(parents=True)
    lock.parent.chmod(0o700)
    if owner:
        (lock / "owner").write_text(owner, encoding="latin-1")
    assert len(list(Batch(local, settings_for(tmp_path)).run([script("one", "exit 0")]))) == 1
    assert not lock.exists()


def test_a_host_killed_while_it_removed_a_stale_lock_blocks_nobody(far: FarSide, tmp_path: Path) -> None:
    (tmp_path / "far" / "lock").mkdir(parents=True)
    (tmp_path / "far").chmod(0o700)
    (tmp_path / "far" / "lock" / "owner").write_text("1 2 3\n")
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    (tmp_path / "far" / f"lock.break.{boot}").mkdir()
    assert len(list(Batch(far, settings_for(tmp_path)).run([script("one", "exit 0")]))) == 1
    assert not list((tmp_path / "far").glob("lock*"))


def test_nothing_that_others_put_in_the_way_is_followed(local: FarSide, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir(mode=0o755)
    (tmp_path / "far").symlink_to("precious")
    (tmp_path / ".write-test").symlink_to("precious/file")
    (tmp_path / "precious" / "file").write_text("content")
    with pytest.raises(DeviceError, match="is a link") as caught:
        list(Batch(local, settings_for(tmp_path)).run([script("one", "exit 0")]))
    assert "remove it" in caught.value.hint
    assert (tmp_path / "precious").stat().st_mode & 0o777 == 0o755
    assert [path.name for path in (tmp_path / "precious").iterdir()] == ["file"]
    assert (tmp_path / "precious" / "file").read_text() == "content"


def test_a_killed_driver_is_started_again(far: FarSide, tmp_path: Path) -> None:
    items = [
        script(f"item{number}", f"echo {number} >> {tmp_path}/ran; sleep 0.3; echo {number}") for number in range(4)
    ]
    batch = Batch(far, settings_for(tmp_path), run_id="killed")
    running = batch.run(items)
    results = [next(running), next(running)]
    kill_driver(tmp_path, "killed")
    results += running
    assert [result.log for result in results] == [b"0\n", b"1\n", b"2\n", b"3\n"]
    assert batch.counters.starts == 2
    # Only what was cut off began again.
    assert ran(tmp_path)[:2] == ["0", "1"]
    assert len(ran(tmp_path)) <= 5


def test_a_driver_killed_alone_leaves_no_item_running_beside_its_successor(far: FarSide, tmp_path: Path) -> None:
    text = f"[ -e {tmp_path}/once ] || {{ : > {tmp_path}/once; sleep 300; }}; echo second"
    batch = Batch(far, settings_for(tmp_path), run_id="orphan")
    running = batch.run([script("one", text), script("two", "exit 0")])
    thread = threading.Thread(
        target=lambda: (
            wait_for((tmp_path / "once").exists),  # type: ignore[func-returns-value]
            os.kill(driver_pid(tmp_path, "orphan"), signal.SIGKILL),
        )
    )
    thread.start()
    results = list(running)
    thread.join()
    assert [result.log for result in results] == [b"second\n", b""]
    assert results[0].conditions_before["attempt"] == 2
    wait_for(lambda: not processes_below(tmp_path))


def test_an_item_that_takes_the_driver_down_is_given_up(far: FarSide, tmp_path: Path) -> None:
    # As one that crashes the phone each time.
    text = "read -r pid rest < ../../pid; kill -KILL $pid; sleep 9"
    batch = Batch(far, settings_for(tmp_path, max_attempts=2))
    results = list(batch.run([script("bad", text), script("good", "echo fine")]))
    assert [(result.exit_code, result.log) for result in results] == [(125, b""), (0, b"fine\n")]
    assert results[0].conditions_after["attempts_failed"] is True
    assert batch.counters.starts == 3


def restart(folder: Path, tree: Path, run_id: str, boot: str) -> None:
    """Do to a run what a restart of the device does."""
    kill_driver(folder, run_id)
    (tree / "proc/sys/kernel/random/boot_id").write_text(boot + "\n")


def test_after_a_restart_the_rest_is_run(far: FarSide, tmp_path: Path) -> None:
    tree = phone_tree(tmp_path / "phone", {})
    (tmp_path / "model").write_bytes(b"weights")
    items = [
        BatchItem(
            f"item{number}",
            ("sh", "-c", f"echo {number} >> {tmp_path}/ran; sleep 0.3; cat model"),
            ((tmp_path / "model", "model"),),
        )
        for number in range(4)
    ]
    told: list[BatchProgress] = []
    batch = Batch(far, settings_for(tmp_path, system_root=str(tree)), run_id="restart")
    running = batch.run(items, told.append)
    results = [next(running)]
    # What was not written through to the storage is damaged then.
    restart(tmp_path, tree, "restart", "22222222-bbbb")
    for path in (tmp_path / "far/runs/restart/files").iterdir():
        path.write_bytes(b"")
    results += running
    assert [result.log for result in results] == [b"weights"] * 4
    assert batch.counters.reboots == 1
    assert any("the device restarted" in entry.message for entry in told)
    assert ran(tmp_path)[0] == "0"
    assert ran(tmp_path).count("0") == 1


def test_a_restart_with_a_large_file_still_to_send(local: FarSide, tmp_path: Path) -> None:
    """It goes by itself into a folder that the restart's reset cleared."""
    tree = phone_tree(tmp_path / "phone", {})
    (tmp_path / "large").write_bytes(b"x" * (ALONE_BYTES + 1))
    items = [
        script("small", "exit 0"),
        BatchItem("large", ("sh", "-c", "wc -c <large"), ((tmp_path / "large", "large"),)),
    ]
    settings = settings_for(tmp_path, system_root=str(tree))
    batch = Batch(local, settings, run_id="large")
    pushed = local.push
    pushes = 0

    def push(source: Path, target: str, **options: Any) -> Any:
        nonlocal pushes
        if "/files/" in target:
            assert Path(target).parent.is_dir()  # the local transport makes it, a phone's does not
            pushes += 1
            if pushes == 1:
                wait_for((tmp_path / "far/runs/large/results/small.done").exists)
                restart(tmp_path, tree, "large", "44444444-dddd")
                raise ConnectionLostError("the device restarts")
        return pushed(source, target, **options)

    local.push = push  # type: ignore[method-assign]
    (result,) = [result for result in batch.run(items) if result.id == "large"]
    assert int(result.log) == ALONE_BYTES + 1
    assert batch.counters.reboots == 1
    assert pushes == 2


def test_a_restart_while_no_host_looks(local: FarSide, tmp_path: Path) -> None:
    tree = phone_tree(tmp_path / "phone", {})
    settings = settings_for(tmp_path, system_root=str(tree))
    items = [script(f"item{number}", f"echo {number} >> {tmp_path}/ran; sleep 0.3") for number in range(4)]
    next(iter(Batch(local, settings, run_id="away").run(items)))
    restart(tmp_path, tree, "away", "33333333-cccc")
    batch = Batch(local, settings, run_id="away")
    assert len(list(batch.run(items))) == 4
    assert batch.counters.reboots == 1
    assert ran(tmp_path).count("0") == 1


class Flaky(FarSide):
    """Loses the connection at every third command; reconnects at the second try."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0
        self.lost = False
        self.tries = 0
        self.before = self.lose
        self.after = self.lose_answer

    def lose(self, argv: list[str]) -> None:
        self.count += 1
        if self.lost or self.count % 5 == 0:
            self.lost = True
            raise ConnectionLostError("the cable is out")

    def lose_answer(self, argv: list[str], result: CommandResult) -> CommandResult:
        # Done there, not heard of here.
        if self.count % 7 == 0:
            self.lost = True
            raise ConnectionLostError("the cable is out")
        return result

    def reconnect(self) -> None:
        self.tries += 1
        if self.tries % 2:
            raise DeviceError("not there yet")
        self.lost = False


def test_lost_connections_lose_nothing(tmp_path: Path) -> None:
    flaky = Flaky()
    items = [script(f"item{number:02}", f"echo {number} >> {tmp_path}/ran; echo {number}") for number in range(40)]
    batch = Batch(flaky, settings_for(tmp_path))
    results = list(batch.run(items))
    assert [result.log for result in results] == [b"%d\n" % number for number in range(40)]
    assert ran(tmp_path) == [str(number) for number in range(40)]
    assert batch.counters.reconnects > 2


def test_a_connection_that_stays_away_is_one_clear_line(local: FarSide, tmp_path: Path) -> None:
    batch = Batch(local, settings_for(tmp_path, reconnect_s=0.5), run_id="gone")
    running = batch.run([script("a", "exit 0"), script("b", f"sleep 1; echo b > {tmp_path}/b")])
    next(running)

    def out(argv: list[str]) -> None:
        raise ConnectionLostError("no route")

    local.before = out
    with pytest.raises(ConnectionLostError, match="did not come back in 0 s: no route") as caught:
        next(running)
    assert "gone" in caught.value.hint
    local.before = lambda argv: None
    again = Batch(local, settings_for(tmp_path), run_id="gone")
    assert [result.id for result in again.run([script("a", "exit 0"), script("b", f"sleep 1; echo b > {tmp_path}/b")])]


def test_another_item_of_the_same_name_is_refused(local: FarSide, tmp_path: Path) -> None:
    next(Batch(local, settings_for(tmp_path), run_id="same").run([script("a", "exit 0"), script("b", "sleep 5")]))
    with pytest.raises(InputError, match="another item called a"):
        list(Batch(local, settings_for(tmp_path), run_id="same").run([script("a", "exit 1")]))


def test_a_run_can_be_taken_up_with_more_items(far: FarSide, tmp_path: Path) -> None:
    items = [script(f"item{number}", f"echo {number} >> {tmp_path}/ran; sleep 0.2") for number in range(6)]
    next(Batch(far, settings_for(tmp_path), run_id="more").run(items[:3]))
    results = list(Batch(far, settings_for(tmp_path), run_id="more").run(items))
    assert [result.id for result in results] == [item.id for item in items]
    assert ran(tmp_path) == [str(number) for number in range(6)]


def test_clean_up_stops_what_runs(far: FarSide, tmp_path: Path) -> None:
    batch = Batch(far, settings_for(tmp_path))
    running = batch.run([script("a", "exit 0"), script("b", "sleep 300")])
    next(running)
    assert [(run.run_id, run.state, run.total) for run in Batch.runs(far, f"{tmp_path}/far")] == [
        (batch.run_id, "running", 2)
    ]
    batch.clean_up()
    assert Batch.runs(far, f"{tmp_path}/far") == []
    assert not (tmp_path / "far" / "lock").exists()
    wait_for(lambda: not processes_below(tmp_path))
    batch.clean_up()


def damage_done(folder: Path) -> None:
    (path,) = folder.glob("far/runs/*/results/one.done")
    path.write_bytes(path.read_bytes()[:-9])


def damage_log(folder: Path) -> None:
    (path,) = folder.glob("far/runs/*/results/one.log")
    path.write_bytes(path.read_bytes()[:-1])


def change_log(folder: Path) -> None:
    (path,) = folder.glob("far/runs/*/results/one.log")
    path.write_bytes(path.read_bytes().replace(b"n", b"m"))


def empty_record(folder: Path) -> None:
    (path,) = folder.glob("far/runs/*/results/one.rec")
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [damage_done, damage_log, change_log, empty_record])
def test_a_damaged_result_is_run_again_never_believed(local: FarSide, tmp_path: Path, damage: object) -> None:
    settings = settings_for(tmp_path, push_first=True)
    batch = Batch(local, settings, run_id="damaged")
    items = [script("zero", "exit 0"), script("one", f"echo x >> {tmp_path}/ran; echo one"), script("two", "sleep 0.5")]
    next(batch.run(items))
    wait_for(lambda: list(tmp_path.glob("far/runs/*/results/one.done")))
    damage(tmp_path)  # type: ignore[operator]
    results = {result.id: result for result in Batch(local, settings, run_id="damaged").run(items)}
    assert results["one"].log == b"one\n"
    assert len(ran(tmp_path)) == 2


def test_answers_that_are_damaged_on_the_way_are_asked_for_again(local: FarSide, tmp_path: Path) -> None:
    count = 0

    def cut(argv: list[str], result: CommandResult) -> CommandResult:
        nonlocal count
        if len(argv) > 2 and argv[2] == "poll":
            count += 1
            if count % 3 == 1:
                return CommandResult(result.argv, result.exit_code, result.stdout[: -5 * count], b"", 0.0)
        return result

    local.after = cut
    items = [script(f"i{number:02}", f"echo {number} >> {tmp_path}/ran; echo {number}") for number in range(20)]
    results = {result.id: result.log for result in Batch(local, settings_for(tmp_path)).run(items)}
    assert results == {f"i{number:02}": b"%d\n" % number for number in range(20)}
    assert ran(tmp_path) == [str(number) for number in range(20)]


def test_answers_that_are_always_damaged_end(local: FarSide, tmp_path: Path) -> None:
    local.after = lambda argv, result: (
        CommandResult(result.argv, 0, b"dfmobile-poll 1\nnoise", b"", 0.0) if "poll" in argv[2:3] else result
    )
    with pytest.raises(BatchDamagedError):
        list(Batch(local, settings_for(tmp_path)).run([script("one", "exit 0")]))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "far"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)]
    if os.getuid() != 0 or subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("skipped: a small file system can only be mounted by root")
    yield place
    for path in place.glob("runs/*"):
        Batch(LocalTransport(), settings_for(tmp_path), run_id=path.name).clean_up()
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_no_space_for_what_is_sent(far: FarSide, tmp_path: Path, small_disk: Path) -> None:
    (tmp_path / "big").write_bytes(os.urandom(3_000_000))
    (tmp_path / "many").write_bytes(os.urandom(900_000))
    for name in ("big", "many"):
        with pytest.raises(DeviceError, match=r"no space left on the device: 0\.\d MiB free") as caught:
            list(
                Batch(far, settings_for(tmp_path), run_id=name).run(
                    [BatchItem("one", ("true",), ((tmp_path / name, "model"),))]
                )
            )
        assert "what is done is kept" in caught.value.hint
        # The device is free for others.
        wait_for(lambda: not (small_disk / "lock").exists())
        Batch(far, settings_for(tmp_path), run_id=name).clean_up()


def test_no_space_for_results_keeps_what_is_done(far: FarSide, tmp_path: Path, small_disk: Path) -> None:
    def fill() -> None:
        with (small_disk / "other").open("wb", buffering=0) as stream:
            while True:
                stream.write(bytes(4096))

    items = [
        script(f"item{number}", f"echo {number} >> {tmp_path}/ran; sleep 0.5; echo {number}") for number in range(4)
    ]
    running = Batch(far, settings_for(tmp_path), run_id="full").run(items)
    done = [next(running)]
    with pytest.raises(OSError, match="No space"):
        fill()
    with pytest.raises(DeviceError, match="no space left on the device"):
        done += running
    (small_disk / "other").unlink()
    results = list(Batch(far, settings_for(tmp_path), run_id="full").run(items))
    assert [result.log for result in results] == [b"0\n", b"1\n", b"2\n", b"3\n"]
    assert ran(tmp_path).count("0") == 1


def test_read_only_storage(local: FarSide, tmp_path: Path, small_disk: Path) -> None:
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    try:
        with pytest.raises(DeviceError, match=r"read-only"):
            list(Batch(local, settings_for(tmp_path)).run([script("one", "exit 0")]))
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)


@pytest.mark.parametrize(
    ("error", "most_s"), [(AnotherDeviceError("another"), 0.0), (UnauthorizedError("unauthorized"), 75.0)]
)
def test_what_does_not_pass_by_itself_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch, error: DeviceError, most_s: float
) -> None:
    class Refusing(LocalTransport):
        def reconnect(self) -> None:
            raise error

    now_s = [1000.0]

    def sleep(seconds: float) -> None:
        now_s[0] += seconds

    monkeypatch.setattr(connection_module, "time", SimpleNamespace(monotonic=lambda: now_s[0], sleep=sleep))
    with pytest.raises(type(error)) as caught:
        connection_module.Connection(Refusing(), 300.0, lambda text: None, "x").recover(DeviceError("lost"))
    assert caught.value is error
    assert now_s[0] - 1000.0 <= most_s


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_transport_that_was_closed_is_not_opened_again(when: str) -> None:
    class Closing(LocalTransport):
        tries = 0

        def reconnect(self) -> None:
            Closing.tries += 1
            self.close()
            raise DeviceError("closed meanwhile")

    transport = Closing()
    if when == "before":
        transport.close()
    with pytest.raises(DeviceError, match="lost" if when == "before" else "closed meanwhile"):
        connection_module.Connection(transport, 300.0, lambda text: None, "x").recover(DeviceError("lost"))
    assert Closing.tries == (when == "meanwhile")


def test_why_a_connection_does_not_come_back_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone(LocalTransport):
        tries = 0

        def reconnect(self) -> None:
            Gone.tries += 1
            if Gone.tries < 9:
                raise DeviceError("the phone has not accepted this computer's key", hint="accept it")

    now_s = [0.0]

    def sleep(seconds: float) -> None:
        now_s[0] += seconds

    monkeypatch.setattr(connection_module, "time", SimpleNamespace(monotonic=lambda: now_s[0], sleep=sleep))
    said: list[str] = []
    connection_module.Connection(Gone(), 300.0, said.append, "x").recover(DeviceError("lost"))
    assert said[1:] == [
        "not back yet: the phone has not accepted this computer's key (accept it)",
        "the connection is back",
    ]
