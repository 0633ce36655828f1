"""tegrastats beside a command: the real wrapper, run by real shells, with a small program in place of tegrastats."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from importlib import resources
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.devices.power_trace import (
    PowerSample,
    PowerTrace,
    energy_per_inference_mj,
    gpu_clock_range_khz,
    mean_power_mw,
    placed,
)
from dfmobile.devices.tegrastats import RailPower, TegrastatsSample
from dfmobile.devices.tegrastats_monitor import MAX_LINES, TegrastatsMonitor, parse_log
from dfmobile.devices.transport.base import CommandTimeoutError
from dfmobile.devices.transport.local import LocalTransport
from dfmobile.errors import DeviceError, FileFormatError, InputError

LINE = "RAM 1/2MB CPU [1%@729] GR3D_FREQ 5%@[305] cpu@40C VDD_IN 2000mW/2000mW"


def program(folder: Path, body: str) -> str:
    """Write a program that stands for tegrastats; its argument is --interval MS."""
    path = folder / "tegrastats"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def steady(folder: Path, line: str = LINE) -> str:
    return program(folder, f"echo $$ >{folder}/pid\nwhile :; do echo '{line}'; sleep 0.02; done")


def alive(folder: Path) -> bool:
    """Whether the stand-in of tegrastats still runs; it is given a moment to end."""
    pid = int((folder / "pid").read_text())
    for _ in range(40):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True


def monitor(folder: Path, tool: str, interval_ms: int = 20, root: str = "") -> TegrastatsMonitor:
    return TegrastatsMonitor(LocalTransport(), interval_ms, str(folder), tegrastats=tool, root=root)


def test_a_command_with_tegrastats_beside_it(tmp_path: Path) -> None:
    watch = monitor(tmp_path, steady(tmp_path))
    command = ["sh", "-c", "cat; echo two >&2; sleep 0.5; exit 7"]
    result = LocalTransport().run(watch.wrap(command, "one.log"), timeout_s=20, stdin=b"one")
    assert (result.exit_code, result.stdout, result.stderr) == (7, b"one", b"two\n")
    assert not alive(tmp_path)
    trace = watch.read("one.log")
    assert trace.exit_code == 7
    assert trace.duration_ms is not None
    assert trace.duration_ms >= 490
    assert trace.problems == ()
    assert len(trace.samples) > 5
    assert trace.samples[0].stats.rails == {"VDD_IN": RailPower(2000, 2000)}
    assert mean_power_mw(trace, 50, 450) == {"VDD_IN": 2000.0}
    assert trace.temperatures_c(0) == {"cpu": 40.0}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.log", "pid", "tegrastats"]
    watch.remove("one.log")
    assert not (tmp_path / "one.log").exists()


@pytest.mark.parametrize("shell", ["dash", "bash", "busybox", "mksh"])
def test_in_the_shells_of_boards(tmp_path: Path, shell: str) -> None:
    path = shutil.which(shell)
    if path is None:
        pytest.skip(f"{shell} is not installed")
    argv = monitor(tmp_path, steady(tmp_path)).wrap(["sh", "-c", "sleep 0.2; exit 3"])
    argv[:1] = [path, "sh"] if shell == "busybox" else [path]
    assert subprocess.run(argv, check=False, timeout=20).returncode == 3
    assert not alive(tmp_path)
    assert len(monitor(tmp_path, "x").read().samples) > 2


def test_the_gpus_clock_from_sysfs(tmp_path: Path) -> None:
    root = tmp_path / "root"
    for name, hertz in (("17000000.gpu", "918000000"), ("15340000.vic", "1")):
        (root / "sys/class/devfreq" / name).mkdir(parents=True)
        (root / "sys/class/devfreq" / name / "cur_freq").write_text(f"{hertz}\n")
    watch = monitor(tmp_path, steady(tmp_path), root=str(root))
    LocalTransport().run(watch.wrap(["sleep", "0.2"]), timeout_s=20)
    trace = watch.read()
    assert trace.samples[0].time_ms <= 0  # one before the command began
    assert {sample.gpu_khz for sample in trace.samples} == {918000}
    assert gpu_clock_range_khz(trace, -1000, 1000) == (918000, 918000)


def test_a_command_that_is_stopped_takes_tegrastats_with_it(tmp_path: Path) -> None:
    watch = monitor(tmp_path, steady(tmp_path))
    with pytest.raises(CommandTimeoutError):
        LocalTransport().run(watch.wrap(["sleep", "30"]), timeout_s=0.5)
    assert not alive(tmp_path)
    trace = watch.read()
    assert (trace.duration_ms, trace.exit_code) == (None, None)
    assert trace.samples


def test_a_wrapper_that_is_killed_alone_leaves_no_tegrastats(tmp_path: Path) -> None:
    argv = monitor(tmp_path, steady(tmp_path)).wrap(["sleep", "1"])
    with subprocess.Popen(argv, start_new_session=True) as process:
        for _ in range(100):
            if (tmp_path / "pid").exists():
                break
            time.sleep(0.05)
        process.kill()
    assert not alive(tmp_path)


def test_a_tegrastats_that_does_not_listen_ends_too(tmp_path: Path) -> None:
    tool = program(
        tmp_path, f"trap '' TERM\necho $$ >{tmp_path}/pid\nwhile :; do echo '{LINE}' || exit; sleep 0.05; done"
    )
    result = LocalTransport().run(monitor(tmp_path, tool).wrap(["sleep", "0.2"]), timeout_s=20)
    assert result.exit_code == 0
    assert not alive(tmp_path)


def test_a_killed_command(tmp_path: Path) -> None:
    watch = monitor(tmp_path, steady(tmp_path))
    result = LocalTransport().run(watch.wrap(["sh", "-c", "kill -9 $$"]), timeout_s=20)
    assert result.exit_code == 137
    assert watch.read().exit_code == 137


def test_without_tegrastats_the_command_runs_all_the_same(tmp_path: Path) -> None:
    watch = monitor(tmp_path, "no-such-tegrastats")
    assert LocalTransport().run(watch.wrap(["true"]), timeout_s=20).exit_code == 0
    trace = watch.read()
    assert trace.samples == ()
    assert "not found" in trace.problems[0]
    with pytest.raises(DeviceError, match=r"0 samples .*, 3 are needed; tegrastats wrote: .*not found"):
        mean_power_mw(trace, 0, 100)


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    watch = monitor(tmp_path / "missing", steady(tmp_path))
    assert LocalTransport().run(watch.wrap(["true"]), timeout_s=20).exit_code == 125
    with pytest.raises(DeviceError, match=r"tegrastats\.log"):
        watch.read()


def test_arguments_are_checked(tmp_path: Path) -> None:
    for interval in (0, 9, 60_001):
        with pytest.raises(InputError, match="cannot sample every"):
            monitor(tmp_path, "x", interval)
    with pytest.raises(InputError, match="not an absolute path"):
        TegrastatsMonitor(LocalTransport(), 100, "here")
    for name in ("", "../x", "a b", "-x", "x" * 101):
        with pytest.raises(InputError, match="not a name"):
            monitor(tmp_path, "x").wrap(["true"], name)
    with pytest.raises(InputError, match="needs a program"):
        monitor(tmp_path, "x").wrap([])


def test_shellcheck() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    script = resources.files("dfmobile.devices").joinpath("tegrastats_monitor.sh").read_bytes()
    # SC2317: older versions do not see that a trap calls what looks unreachable.
    done = subprocess.run(
        ["shellcheck", "-s", "sh", "-e", "SC2317", "-"], input=script, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stdout.decode()


# --- the log --------------------------------------------------------------------------------------------------------

LOG = "dfmobile-tegrastats 1 100\nstart 10.50\n" + "".join(
    f"s {10.4 + 0.1 * number:.2f} - {LINE}\n" for number in range(12)
)


def test_log() -> None:
    trace = parse_log(LOG + "s 11.60 1000 tegrastats: oops\nend 11.75 0\nwhat\nfull\n")
    assert trace.timing == "arrival"
    assert [round(sample.time_ms) for sample in trace.samples][:3] == [-100, 0, 100]
    assert trace.duration_ms == pytest.approx(1250)
    assert trace.problems == (
        "tegrastats: oops",
        "not understood: what",
        f"more than {MAX_LINES} samples; the later ones were left out",
    )


def test_lines_that_came_in_bursts_are_placed_by_their_number() -> None:
    text = "dfmobile-tegrastats 1 100\nstart 10.00\n" + f"s 11.00 - {LINE}\n" * 10
    trace = parse_log(text)
    assert trace.timing == "index"
    assert [sample.time_ms for sample in trace.samples] == pytest.approx([100 * number for number in range(1, 11)])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "no",
        "dfmobile-tegrastats 1 5\nstart 1\n",
        "dfmobile-tegrastats 1 100\n",
        "dfmobile-tegrastats 2 100\nstart 1",
    ],
)
def test_what_is_no_log(text: str) -> None:
    with pytest.raises(FileFormatError, match="log of tegrastats"):
        parse_log(text)


def test_an_end_before_the_start() -> None:
    with pytest.raises(FileFormatError, match="ended before it began"):
        parse_log("dfmobile-tegrastats 1 100\nstart 5\nend 4 0\n")


@given(st.data())
def test_a_damaged_log_is_a_trace_or_an_error(data: st.DataObject) -> None:
    letters = list(LOG + "end 11.75 0\n")
    for _ in range(data.draw(st.integers(1, 10))):
        place = data.draw(st.integers(0, len(letters) - 1))
        letters[place] = data.draw(st.sampled_from(["", " ", "\n", "-", "9", ".", "s", "end 1 2\n", "\0", "\r", "٣"]))
    try:
        trace = parse_log("".join(letters))
    except FileFormatError:
        return
    assert len(trace.problems) <= 20


@given(st.lists(st.floats(-1e6, 1e6), max_size=30), st.integers(10, 60_000))
def test_placing_keeps_the_order(arrivals: list[float], interval_ms: int) -> None:
    times, timing = placed(arrivals, interval_ms)
    assert len(times) == len(arrivals)
    assert times == sorted(times)
    assert timing == "index" or times == arrivals


# --- energy and clocks ----------------------------------------------------------------------------------------------


def made(
    powers_mw: list[int], interval_ms: int = 100, clocks_khz: list[int | None] | None = None, rail: str = "VDD_IN"
) -> PowerTrace:
    clocks = clocks_khz or [None] * len(powers_mw)
    samples = [
        PowerSample(
            float(interval_ms * number),
            TegrastatsSample(rails={rail: RailPower(power, 0)}, temperature_c={"tj": 40.0 + number}),
            clock,
        )
        for number, (power, clock) in enumerate(zip(powers_mw, clocks, strict=True))
    ]
    return PowerTrace(tuple(samples), interval_ms, "arrival", 1000.0, 0)


def test_energy_of_a_steady_second() -> None:
    energy = energy_per_inference_mj(made([5000] * 11), 0, 1000, 100)
    assert energy.rails_mj == {"VDD_IN": pytest.approx(50.0)}  # 5 W for 1 s is 5 J, a hundred times
    assert energy.input_mj == pytest.approx(50.0)
    assert (energy.input_rails, energy.samples, energy.window_ms) == (("VDD_IN",), 11, 1000)


def test_energy_of_a_ramp_and_of_an_unknown_board() -> None:
    trace = made([0, 1000, 2000, 3000, 4000], rail="VDD_MYSTERY")
    energy = energy_per_inference_mj(trace, 50, 350, 1)
    assert energy.mean_power_mw["VDD_MYSTERY"] == pytest.approx(2000)
    assert energy.rails_mj["VDD_MYSTERY"] == pytest.approx(600)
    assert (energy.input_rails, energy.input_mj) == ((), None)


@given(st.lists(st.integers(0, 60_000), min_size=5, max_size=40), st.integers(1, 1000))
def test_energy_lies_between_the_least_and_the_most_power(powers_mw: list[int], inferences: int) -> None:
    end_ms = 100.0 * (len(powers_mw) - 1)
    energy = energy_per_inference_mj(made(powers_mw), 0, end_ms, inferences).rails_mj["VDD_IN"]
    seconds = end_ms / 1000 / inferences
    assert min(powers_mw) * seconds <= energy * (1 + 1e-9) + 1e-9
    assert energy <= max(powers_mw) * seconds * (1 + 1e-9) + 1e-9


@given(st.lists(st.integers(0, 60_000), min_size=9, max_size=40), st.integers(3, 5))
def test_energy_of_two_windows_is_the_energy_of_both(powers_mw: list[int], cut: int) -> None:
    trace, end_ms = made(powers_mw), 100.0 * (len(powers_mw) - 1)

    def energy(start_ms: float, stop_ms: float) -> float:
        return energy_per_inference_mj(trace, start_ms, stop_ms, 1).rails_mj["VDD_IN"]

    assert energy(0, 100 * cut) + energy(100 * cut, end_ms) == pytest.approx(energy(0, end_ms))


def test_windows_that_say_nothing() -> None:
    trace = made([1000] * 11)
    with pytest.raises(DeviceError, match="2 samples of tegrastats in it, 3 are needed"):
        mean_power_mw(trace, 10, 210)
    with pytest.raises(DeviceError, match="do not reach over it"):
        mean_power_mw(trace, 0, 5000)
    with pytest.raises(InputError, match="has no length"):
        mean_power_mw(trace, 10, 10)
    with pytest.raises(InputError, match="energy of 0 inferences"):
        energy_per_inference_mj(trace, 0, 1000, 0)
    bare = PowerTrace(tuple(PowerSample(s.time_ms, TegrastatsSample()) for s in trace.samples), 100, "arrival", 1.0, 0)
    with pytest.raises(DeviceError, match="no rails"):
        mean_power_mw(bare, 0, 1000)
    assert gpu_clock_range_khz(bare, 0, 1000) is None
    assert PowerTrace((), 100, "arrival", None, None).temperatures_c(0) == {}


def test_the_range_of_a_clock() -> None:
    dropped = made([1] * 5, clocks_khz=[306000, 918000, 918000, 612000, 918000])
    assert gpu_clock_range_khz(dropped, 100, 200) == (918000, 918000)  # the warm-up is left out
    assert gpu_clock_range_khz(dropped, 100, 400) == (612000, 918000)
    assert dropped.temperatures_c(390) == {"tj": 44.0}
