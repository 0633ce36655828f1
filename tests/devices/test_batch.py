"""Batch runs on this machine, with the shells and tools of others: items, results, conditions, cleaning up."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from batch_far_sides import (
    SHELLS,
    FarSide,
    check_script,
    processes_below,
    script,
    settings_for,
    shellcheck,
    tool_folder,
    wait_for,
)

from dfmobile.devices.batch import Batch, BatchItem, BatchProgress, BatchSettings, CoolDown
from dfmobile.devices.batch import batch as batch_module
from dfmobile.devices.batch.remote import driver_script
from dfmobile.errors import DeviceError, InputError, StorageError


@pytest.fixture(params=SHELLS)
def far(request: pytest.FixtureRequest, tmp_path: Path) -> FarSide:
    return FarSide(tool_folder(request.param, tmp_path / "tools"))


@pytest.fixture
def local() -> FarSide:
    return FarSide()


def test_driver_is_portable() -> None:
    assert check_script(shellcheck(), driver_script()) == ""


def test_items_run_in_order_and_bring_what_they_did(far: FarSide, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(bytes(range(256)))
    items = [
        script("first", "echo out; echo err >&2; exit 3"),
        BatchItem("file", ("sh", "-c", "cat model; cat {item}/model; pwd"), ((tmp_path / "model", "model"),)),
        script("segv", "kill -SEGV $$; sleep 9"),
        script("kill", "kill -KILL $$; sleep 9"),
        BatchItem("missing", ("/no/such/program",)),
        script("input", "cat; echo end of input"),
        script("silent", "exit 0"),
    ]
    seen: list[BatchProgress] = []
    batch = Batch(far, settings_for(tmp_path))
    results = list(batch.run(items, seen.append))
    assert [result.id for result in results] == [item.id for item in items]
    assert [result.exit_code for result in results] == [3, 0, 139, 137, 127, 0, 0]
    assert results[0].log == b"out\nerr\n"
    content, _, place = results[1].log.rpartition(bytes(range(256)))
    assert content == bytes(range(256))
    assert place.decode().rstrip().endswith(f"/runs/{batch.run_id}/items/file")
    assert b"/no/such/program" in results[4].log
    assert results[5].log == b"end of input\n"
    assert results[6].log == b""
    assert (seen[-1].done, seen[-1].total) == (7, 7)
    assert [entry.done for entry in seen] == sorted(entry.done for entry in seen)


def test_nothing_is_left_after_success(far: FarSide, tmp_path: Path) -> None:
    list(Batch(far, settings_for(tmp_path)).run([script("one", "exit 0")]))
    assert sorted(path.name for path in (tmp_path / "far").iterdir()) == ["runs", "store"]
    assert list((tmp_path / "far" / "runs").iterdir()) == []
    wait_for(lambda: not processes_below(tmp_path))


def test_timeout_stops_the_item_with_its_children(far: FarSide, tmp_path: Path) -> None:
    beat = f"while :; do echo beat >> {tmp_path}/beat; sleep 0.1; done"
    items = [
        script("hangs", f"echo before; ({beat}) & trap '' TERM; {beat}", timeout_s=1.0),
        script("after", "exit 5"),
    ]
    results = list(Batch(far, settings_for(tmp_path)).run(items))
    assert [result.exit_code for result in results] == [124, 5]
    assert results[0].log.startswith(b"before\n")  # mksh adds "Terminated"
    assert [result.conditions_after["timed_out"] for result in results] == [True, False]
    size = (tmp_path / "beat").stat().st_size
    wait_for(lambda: not processes_below(tmp_path))
    assert (tmp_path / "beat").stat().st_size == size


def test_an_items_own_124_is_not_a_timeout(local: FarSide, tmp_path: Path) -> None:
    (result,) = Batch(local, settings_for(tmp_path)).run([script("one", "exit 124")])
    assert (result.exit_code, result.conditions_after["timed_out"]) == (124, False)


def test_what_an_item_leaves_behind_is_stopped(far: FarSide, tmp_path: Path) -> None:
    items = [script("parent", "sleep 300 & echo started"), script("after", "exit 0")]
    assert [result.exit_code for result in Batch(far, settings_for(tmp_path)).run(items)] == [0, 0]
    wait_for(lambda: not processes_below(tmp_path))


def test_a_log_that_grows_without_end_is_stopped(far: FarSide, tmp_path: Path) -> None:
    (tmp_path / "big").write_bytes(b"x" * 500_000)
    items = [
        BatchItem("big", ("cat", "big"), ((tmp_path / "big", "big"),)),
        script("after", "echo fine"),
    ]
    big, after = Batch(far, settings_for(tmp_path, log_limit_bytes=65536)).run(items)
    assert big.exit_code != 0
    assert big.log == b"x" * 65536
    assert (after.exit_code, after.log) == (0, b"fine\n")


def test_arguments_arrive_as_they_are(far: FarSide, tmp_path: Path) -> None:
    words = ["a b", "", "'\"", "$HOME `id` $(id)", "*", "-n", "\\", "ü\n;&|<>#~!", "\ttab", "\udcff\udc81\udc88", "%s"]
    program = "import os, sys; os.write(1, b'\\0'.join(map(os.fsencode, sys.argv[1:])))"
    (result,) = Batch(far, settings_for(tmp_path)).run([BatchItem("words", (sys.executable, "-c", program, *words))])
    assert result.log.split(b"\0") == [word.encode("utf-8", "surrogateescape") for word in words]


def test_same_content_is_sent_once(local: FarSide, tmp_path: Path) -> None:
    content = b"m" * 3_000_000
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(content)
    sent: list[str] = []
    push = local.push
    local.push = lambda source, target, **options: (sent.append(target), push(source, target, **options))[1]  # type: ignore[method-assign,assignment]
    items = [
        BatchItem(f"item{number}", ("sha256sum", "{item}/model"), ((tmp_path / "ab"[number % 2], "model"),))
        for number in range(6)
    ]
    results = list(Batch(local, settings_for(tmp_path)).run(items))
    digest = hashlib.sha256(content).hexdigest()
    assert all(result.log.startswith(digest.encode()) for result in results)
    assert len([target for target in sent if digest in target]) == 1


def test_shared_files_stay_for_later_runs(far: FarSide, tmp_path: Path) -> None:
    (tmp_path / "program").write_text("echo version $1\n")
    settings = settings_for(tmp_path, shared_files=((tmp_path / "program", "program"),))
    for _ in range(2):
        before = len(far.requests())
        (result,) = Batch(far, settings).run([BatchItem("one", ("sh", "{run}/program", "7"))])
        assert result.log == b"version 7\n"
        assert before < len(far.requests())
    digest = hashlib.sha256((tmp_path / "program").read_bytes()).hexdigest()
    stored = tmp_path / "far" / "store" / digest
    # Damaged there: it is brought again, not used.
    stored.write_text("echo wrong\n")
    (result,) = Batch(far, settings).run([BatchItem("one", ("sh", "{run}/program", "8"))])
    assert result.log == b"version 8\n"


def test_many_items_take_few_commands(local: FarSide, tmp_path: Path) -> None:
    items = [script(f"item-{number:03}", f"echo {number}") for number in range(300)]
    results = list(Batch(local, settings_for(tmp_path, push_first=True, poll_s=0.5)).run(items))
    assert [result.log for result in results] == [b"%d\n" % number for number in range(300)]
    assert len(local.commands) < 60


def test_push_first_sends_all_before_the_first_runs(far: FarSide, tmp_path: Path) -> None:
    items = [script(f"item{number}", "ls ../ | sort | tail -n 1") for number in range(100, 200)]
    (first, *_) = Batch(far, settings_for(tmp_path, push_first=True)).run(items)
    assert first.log == b"item199\n"


def phone_tree(folder: Path, zones: dict[str, str], boot: str = "11111111-aaaa") -> Path:
    """Make the kernel's files of a phone."""
    for core, khz in enumerate(("1766400", "2803200")):
        path = folder / f"sys/devices/system/cpu/cpu{core}/cpufreq"
        path.mkdir(parents=True)
        (path / "scaling_cur_freq").write_text(khz + "\n")
    for number, (name, value) in enumerate(zones.items()):
        path = folder / f"sys/class/thermal/thermal_zone{number}"
        path.mkdir(parents=True)
        (path / "type").write_text(name.rstrip("+") + "\n")
        (path / "temp").write_text(value + "\n")
    battery = folder / "sys/class/power_supply/battery"
    battery.mkdir(parents=True)
    (battery / "status").write_text("Not charging\n")
    (folder / "proc/sys/kernel/random").mkdir(parents=True)
    (folder / "proc/sys/kernel/random/boot_id").write_text(boot + "\n")
    return folder


def test_conditions_are_those_of_the_moment(far: FarSide, tmp_path: Path) -> None:
    zones = {
        "cpu-1-0-usr": "45000",
        "cpu-1-0-usr+": "46000",
        "battery": "-3500",
        "odd": "n/a; rm -rf /",
        "two words": "1",
    }
    tree = phone_tree(tmp_path / "phone", zones)
    frequency = tree / "sys/devices/system/cpu/cpu1/cpufreq/scaling_cur_freq"
    items = [script("one", f"echo 825600 > {frequency}; sleep 0.1")]
    (result,) = Batch(far, settings_for(tmp_path, system_root=str(tree))).run(items)
    before, after = result.conditions_before, result.conditions_after
    assert before["frequency_khz"] == {0: 1766400, 1: 2803200}
    assert after["frequency_khz"] == {0: 1766400, 1: 825600}
    assert before["temperature_mc"] == {"cpu-1-0-usr": 45000, "cpu-1-0-usr#1": 46000, "battery": -3500, "zone4": 1}
    assert before["charger"] == {"battery": "Not charging"}
    assert after["uptime_s"] >= before["uptime_s"] + 0.09
    assert before["time_utc"] < after["time_utc"]
    assert before["attempt"] == 1
    assert "task_profile" not in before


def test_only_the_zones_asked_for(local: FarSide, tmp_path: Path) -> None:
    tree = phone_tree(tmp_path / "phone", {"a": "1000", "b": "2000"})
    settings = settings_for(tmp_path, system_root=str(tree), zones=("b",))
    (result,) = Batch(local, settings).run([script("one", "exit 0")])
    assert result.conditions_before["temperature_mc"] == {"b": 2000}


def test_cool_down_waits_for_the_limit_but_not_forever(far: FarSide, tmp_path: Path) -> None:
    tree = phone_tree(tmp_path / "phone", {"cpu": "60000", "skin": "90000"})
    settings = settings_for(tmp_path, system_root=str(tree), cool_down=CoolDown(("cpu",), 50_000, longest_wait_s=1.0))
    temperature = tree / "sys/class/thermal/thermal_zone0/temp"
    items = [script("hot", f"echo 40000 > {temperature}"), script("cool", "exit 0")]
    hot, cool = Batch(far, settings).run(items)
    assert hot.conditions_before["cool_down"]["reached"] is False
    assert hot.conditions_before["cool_down"]["waited_s"] >= 1.0
    assert hot.conditions_before["cool_down"]["hottest_mc"] == 60_000
    assert cool.conditions_before["cool_down"]["reached"] is True
    assert cool.conditions_before["cool_down"]["waited_s"] < hot.conditions_before["cool_down"]["waited_s"]


def test_cool_down_of_an_unknown_zone_is_refused(local: FarSide, tmp_path: Path) -> None:
    tree = phone_tree(tmp_path / "phone", {"cpu": "60000"})
    settings = settings_for(tmp_path, system_root=str(tree), cool_down=CoolDown(("gpu",), 50_000))
    with pytest.raises(DeviceError, match="no thermal zone called gpu can be read; there are: cpu"):
        list(Batch(local, settings).run([script("one", "exit 0")]))


def test_affinity_and_spin_up(far: FarSide, tmp_path: Path) -> None:
    items = [
        script("one", "while read -r key value; do [ $key != Cpus_allowed: ] || echo $value; done </proc/$$/status")
    ]
    settings = settings_for(tmp_path, affinity_mask="1", spin_up_ms=200)
    (result,) = Batch(far, settings).run(items)
    assert int(result.log.replace(b",", b""), 16) == 1
    spent = result.conditions_after["uptime_s"] - result.conditions_before["uptime_s"]
    assert spent >= 0.19


def test_a_mask_without_cores_is_refused(far: FarSide, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, affinity_mask="f" + "0" * 15)
    with pytest.raises(DeviceError, match="no such cores") as caught:
        list(Batch(far, settings).run([script("one", "exit 0")]))
    assert "--backend-option cluster=NAME" in caught.value.hint
    assert not (tmp_path / "far" / "lock").exists()


def test_task_profile_is_used_where_there_is_one(local: FarSide, tmp_path: Path) -> None:
    settings = settings_for(tmp_path, task_profile="MaxPerformance")
    (result,) = Batch(local, settings).run([script("one", "exit 0")])
    assert result.conditions_before["task_profile"] == "MaxPerformance absent"


def test_bad_items_are_refused_here(local: FarSide, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one id"):
        Batch(local, settings_for(tmp_path)).run([script("a", "exit 0"), script("a", "exit 1")])
    with pytest.raises(StorageError):
        Batch(local, settings_for(tmp_path)).run([BatchItem("a", ("true",), ((tmp_path / "absent", "x"),))])
    assert local.commands == []


@pytest.mark.parametrize(
    "values",
    [
        {"id": "../a"},
        {"id": ""},
        {"id": "a b"},
        {"argv": ()},
        {"argv": ("a\0",)},
        {"argv": ("-c",)},
        {"timeout_s": 0},
        {"files": ((Path("x"), "../x"),)},
        {"files": ((Path("x"), "item.sh"),)},
        {"files": ((Path("x"), "a"), (Path("y"), "a"))},
    ],
)
def test_impossible_items(values: dict[str, object]) -> None:
    with pytest.raises(InputError):
        BatchItem(**{"id": "a", "argv": ("true",), **values})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [
        {"affinity_mask": "0xf"},
        {"affinity_mask": "0"},
        {"task_profile": "a;b"},
        {"spin_up_ms": -1},
        {"folder": "relative"},
        {"poll_s": 0},
        {"zones": ("a b",)},
        {"shared_files": ((Path("x"), "a/b"),)},
        {"shared_files": ((Path("x"), "current"),)},
        {"shared_files": ((Path("x"), "stop"),)},
        {"shared_files": ((Path("x"), "answer.x"),)},
        {"shared_files": ((Path("x"), "pid.part"),)},
    ],
)
def test_impossible_settings(values: dict[str, object]) -> None:
    with pytest.raises(InputError):
        BatchSettings(**values)  # type: ignore[arg-type]


def test_no_items_is_no_run(local: FarSide, tmp_path: Path) -> None:
    assert list(Batch(local, settings_for(tmp_path)).run([])) == []


def test_python_items_run_too(local: FarSide, tmp_path: Path) -> None:
    (result,) = Batch(local, settings_for(tmp_path)).run([BatchItem("py", (sys.executable, "-c", "print(6 * 7)"))])
    assert result.log == b"42\n"


def test_long_transfers_are_told_and_short_ones_are_not(
    local: FarSide, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [100.0]
    monkeypatch.setattr(batch_module, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    batch = Batch(local, settings_for(tmp_path))
    said: list[str] = []
    batch._tell = lambda step: said.append(step.message)

    def send(seconds: int, total: int) -> list[str]:
        said.clear()
        tell = batch._sending("model.tflite")
        for step in range(seconds + 1):
            tell(total * step // seconds, total)
            now_s[0] += 1.0
        return list(said)

    assert send(1, 200 * 2**20) == []
    assert send(3, 8 * 2**20) == ["sending model.tflite: 66 % of 8 MiB"]
    assert len(send(100, 100 * 2**20)) == 6  # after 2, 4, 8, 16, 32, 64 seconds
    assert send(100, 2**20 - 1) == []
