"""Jetsons and plain hosts are described in one round trip; what cannot be read is said, never guessed."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from dfmobile.cli.main import app
from dfmobile.devices import device
from dfmobile.devices.board_conditions import (
    clocks_not_locked,
    read_board_conditions,
    throttled_between,
)
from dfmobile.devices.board_files import read_board
from dfmobile.devices.jetson import probe_linux_board, with_board_facts
from dfmobile.devices.power_trace import energy_per_inference_mj, gpu_clock_range_khz
from dfmobile.devices.probe import probe_local, profile_from_files
from dfmobile.devices.profile import DeviceProfile, dump_profile, fingerprint, load_profile, parse_profile, summary
from dfmobile.devices.system_files import RecordedFiles
from dfmobile.devices.tegrastats_monitor import TegrastatsMonitor
from dfmobile.devices.transport.base import CommandResult
from dfmobile.devices.transport.local import LocalTransport
from dfmobile.devices.uri import parse_device
from dfmobile.testing.virtual_jetson import BOARDS, VirtualJetson, plant_jetson

every_board = pytest.mark.parametrize("name", BOARDS)


def probe(board: VirtualJetson) -> DeviceProfile:
    return probe_linux_board(LocalTransport(), root=str(board.root))


def missing(profile: DeviceProfile) -> dict[str, str]:
    return {item.what: item.reason for item in profile.unreadable}


@every_board
def test_a_board(tmp_path: Path, name: str) -> None:
    board = plant_jetson(tmp_path, name)
    profile, spec = probe(board), board.spec
    assert (profile.kind, profile.known_profile) == ("jetson", f"jetson-{name}")
    assert (profile.model, profile.soc) == (spec.model, spec.compatible[-1].partition(",")[2])
    assert profile.core_count == len(spec.cores)
    assert profile.abi == "arm64-v8a"
    assert profile.memory_bytes == spec.memory_kb * 1024
    assert profile.gpu is not None
    assert profile.gpu.max_frequency_khz == spec.gpu[1][-1]
    found = profile.jetson
    assert found is not None
    assert found.power_mode == spec.power_mode
    assert [rail.name for rail in found.rails] == list(spec.rails)
    assert found.input_rails
    assert found.l4t == profile.os.version
    assert profile.nvidia is not None
    assert profile.nvidia.tensorrt == spec.packages[0].split()[1].partition("-")[0]
    assert parse_profile(dump_profile(profile).encode(), "x") == profile
    assert summary(profile)


def test_details(tmp_path: Path) -> None:
    profile = probe(plant_jetson(tmp_path, "orin-nano"))
    assert profile.gpu is not None
    assert (profile.gpu.name, profile.gpu.compute_capability) == ("NVIDIA Ampere (GA10B)", "8.7")
    assert profile.jetson is not None
    assert (profile.jetson.part, profile.jetson.jetpack, profile.jetson.l4t) == ("p3767-0005", "6.2.1", "36.4.7")
    assert profile.jetson.module == "Jetson Orin Nano 8GB (developer kit)"
    assert profile.jetson.rails[0].path == "/sys/class/hwmon/hwmon1"
    assert profile.sources["jetson.jetpack"] == "by the L4T version"
    assert profile.sources["nvidia.tensorrt"] == "package libnvinfer10"
    assert profile.observed is not None
    assert "cv0-thermal" not in str(profile.observed["temperature_c"])  # without power
    assert [zone.type for zone in profile.thermal_zones][2] == "cv0-thermal"
    assert profile.caches  # of the packaged profile
    assert profile.sources["caches"].startswith("packaged profile jetson-orin-nano")
    assert missing(profile)["nvidia.cuda"].startswith("/usr/local/cuda/version.json: no such file")
    assert missing(profile)["nvidia.trtexec"] == "neither on PATH nor in /usr/src/tensorrt/bin"


def test_one_round_trip(tmp_path: Path) -> None:
    board = plant_jetson(tmp_path, "agx-orin")
    commands = []

    class Counting(LocalTransport):
        def run(self, argv: Sequence[str], **options: Any) -> CommandResult:
            commands.append(sum(map(len, argv)))
            return super().run(argv, **options)

    probe_linux_board(Counting(), root=str(board.root))
    read_board_conditions(Counting(), root=str(board.root))
    assert len(commands) == 2
    assert max(commands) < 16_000


def test_without_rights_what_needs_them_is_unreadable(tmp_path: Path) -> None:
    board = plant_jetson(tmp_path, "xavier-nx", sudo=False)
    profile = probe(board)
    assert profile.jetson is not None
    assert profile.jetson.power_mode == "MODE_15W_6CORE"  # needs none
    assert profile.observed is not None
    assert "emc_locked" not in profile.observed
    assert "a password is required" in missing(profile)["observed.emc_locked"]
    assert (profile.observed["cpu_locked"], profile.observed["gpu_locked"]) == (False, False)  # from files


def test_a_power_mode_that_needs_rights(tmp_path: Path) -> None:
    board = plant_jetson(tmp_path, "tx2")
    board.add_tool(
        "nvpmodel",
        '[ "$VIRTUAL_ROOT" = 1 ] && echo "NV Power Mode: MAXQ" && exit\necho "NVPM ERROR: not root"\nexit 255',
    )
    board.remove_tool("jetson_clocks")
    by_sudo = probe(board)
    assert by_sudo.jetson is not None
    assert by_sudo.jetson.power_mode == "MAXQ"
    board.remove_tool("sudo")
    profile = probe(board)
    assert profile.jetson is not None
    assert profile.jetson.power_mode is None
    assert missing(profile)["observed.power_mode"] == "nvpmodel ended with 255: NVPM ERROR: not root"
    assert missing(profile)["observed.emc_locked"] == "jetson_clocks: no such program"


@pytest.mark.slow
def test_a_tool_that_hangs_is_given_up(tmp_path: Path) -> None:
    board = plant_jetson(tmp_path, "nano")
    board.add_tool("nvpmodel", "sleep 60")
    board.remove_tool("jetson_clocks")
    profile = probe(board)
    assert missing(profile)["observed.power_mode"] == "nvpmodel did not end within 10 s"


def test_tools_that_rave(tmp_path: Path) -> None:
    board = plant_jetson(tmp_path, "nano")
    board.add_tool("nvpmodel", "head -c 3000000 /dev/zero | tr '\\0' x")
    board.add_tool("jetson_clocks", "printf '\\377\\001\\nend\\nf 4 /etc\\n'; kill -9 $$")
    board.add_tool("dpkg-query", "exit 0")
    profile = probe(board)
    assert profile.jetson is not None
    assert profile.jetson.power_mode is None
    assert profile.nvidia is not None
    assert profile.nvidia.tensorrt is None
    assert "jetson_clocks ended with 137" in missing(profile)["observed.emc_locked"]
    assert missing(profile)["observed.power_mode"] == "nvpmodel wrote more than what is read of it"


def test_tensorrt_from_the_header_and_from_trtexec(tmp_path: Path) -> None:
    board = plant_jetson(tmp_path, "agx-orin")
    board.remove_tool("dpkg-query")
    banner = "echo '&&&& RUNNING TensorRT.trtexec [TensorRT v100300] [b30] # trtexec --help'"
    board.add_tool("trtexec", banner, folder="/usr/src/tensorrt/bin")
    profile = probe(board)
    assert profile.nvidia is not None
    assert (profile.nvidia.tensorrt, profile.nvidia.trtexec) == ("10.3.0", "/usr/src/tensorrt/bin/trtexec")
    assert profile.sources["nvidia.tensorrt"] == "first line of trtexec"
    header = "#define NV_TENSORRT_MAJOR 10\n#define NV_TENSORRT_MINOR 3\n#define NV_TENSORRT_PATCH 0\n"
    board.write("/usr/include/aarch64-linux-gnu/NvInferVersion.h", header)
    board.write("/usr/local/cuda/version.json", json.dumps({"cuda": {"version": "12.6.11"}}))
    profile = probe(board)
    assert profile.sources["nvidia.tensorrt"] == "/usr/include/aarch64-linux-gnu/NvInferVersion.h"
    assert profile.nvidia is not None
    assert (profile.nvidia.tensorrt, profile.nvidia.cuda) == ("10.3.0", "12.6.11")


def test_an_empty_folder_is_a_host_of_which_nothing_is_known(tmp_path: Path) -> None:
    profile = probe_linux_board(LocalTransport(), root=str(tmp_path))
    assert (profile.kind, profile.nvidia, profile.jetson, profile.gpu) == ("host", None, None, None)
    assert "cpu" in missing(profile)


def test_a_host_with_an_nvidia_card(tmp_path: Path) -> None:
    board = VirtualJetson(tmp_path, BOARDS["nano"])
    board.write("/proc/driver/nvidia/gpus/0000:01:00.0/information", "Model: \t\t NVIDIA RTX A2000\n")
    board.add_tool("nvidia-smi", "echo 'NVIDIA RTX A2000, 535.54.03, 8.6'")
    profile = probe(board)
    assert (profile.kind, profile.jetson) == ("host", None)
    assert profile.gpu is not None
    assert (profile.gpu.name, profile.gpu.compute_capability) == ("NVIDIA RTX A2000", "8.6")
    assert profile.nvidia is not None
    assert profile.nvidia.driver == "535.54.03"


def test_this_machine_is_the_same_as_by_the_local_probe() -> None:
    here = LocalTransport()
    profile = probe_linux_board(here)
    assert fingerprint(profile) == fingerprint(probe_local()) == fingerprint(here.probe())
    assert profile.kind == "host"


@pytest.mark.parametrize("name", ["tx2", "orin-nano"])
def test_a_jetson_is_the_same_by_the_local_probe(tmp_path: Path, name: str) -> None:
    board = plant_jetson(tmp_path, name)
    local = with_board_facts(probe_local(tmp_path), read_board(LocalTransport(), root=str(tmp_path)))
    assert fingerprint(local) == fingerprint(probe(board))
    assert local.jetson == probe(board).jetson


def test_the_fingerprint_knows_the_power_mode_and_not_the_clocks(tmp_path: Path) -> None:
    board = plant_jetson(tmp_path / "a", "orin-nano")
    locked = plant_jetson(tmp_path / "b", "orin-nano", locked=True)
    assert fingerprint(probe(board)) == fingerprint(probe(locked))
    board.add_tool("nvpmodel", "echo 'NV Power Mode: 15W'")
    assert fingerprint(probe(board)) != fingerprint(probe(locked))


# --- conditions -----------------------------------------------------------------------------------------------------


@every_board
@pytest.mark.parametrize("locked", [False, True])
def test_locked_clocks(tmp_path: Path, name: str, locked: bool) -> None:
    board = plant_jetson(tmp_path, name, locked=locked)
    observed = probe(board).observed
    assert observed is not None
    assert [observed[f"{what}_locked"] for what in ("cpu", "gpu", "emc")] == [locked] * 3
    conditions = read_board_conditions(LocalTransport(), tools=False, root=str(board.root))
    assert (conditions.cpu_locked, conditions.gpu_locked, conditions.emc_locked) == (locked, locked, None)
    assert conditions.power_mode is None
    assert conditions.gpu_khz == board.spec.gpu[1][-1]
    told = clocks_not_locked(conditions)
    assert (told is None) == locked
    if told is not None:
        assert told[0] == "the CPU and GPU clocks of the board are not locked: latencies will move with them"
        assert "sudo jetson_clocks" in told[1]


def test_conditions_with_tools(tmp_path: Path) -> None:
    board = plant_jetson(tmp_path, "orin-nano")
    conditions = read_board_conditions(LocalTransport(), root=str(board.root))
    assert (conditions.power_mode, conditions.emc_khz, conditions.emc_locked) == ("MAXN_SUPER", 1600000, False)
    told = clocks_not_locked(conditions)
    assert told is not None
    assert told[0].startswith("the CPU, GPU and memory clocks of the board are not locked")
    assert conditions.gpu_range_khz == (306000, 1020000)
    here = read_board_conditions(LocalTransport())  # this machine, which is no board
    assert (here.power_mode, here.emc_locked, here.gpu_khz) == (None, None, None)


def test_throttling(tmp_path: Path) -> None:
    board = plant_jetson(tmp_path, "agx-orin")
    before = read_board_conditions(LocalTransport(), root=str(board.root))
    assert throttled_between(before, before) == []
    board.write("/sys/class/hwmon/hwmon0/oc1_event_cnt", "3\n")
    board.write("/sys/class/thermal/cooling_device0/cur_state", "1\n")
    after = read_board_conditions(LocalTransport(), root=str(board.root))
    assert throttled_between(before, after) == ["gpu-throttle-alert", "oc1_event_cnt"]
    assert after.to_dict()["throttling"] == ["gpu-throttle-alert"]
    assert json.dumps(after.to_dict())


@every_board
def test_tegrastats_of_a_board_beside_a_command(tmp_path: Path, name: str) -> None:
    board = plant_jetson(tmp_path / "root", name)
    here = LocalTransport()
    watch = TegrastatsMonitor(here, 20, str(tmp_path), tegrastats=board.tegrastats, root=str(board.root))
    assert here.run(watch.wrap(["sleep", "0.3"]), timeout_s=20).exit_code == 0
    trace = watch.read()
    energy = energy_per_inference_mj(trace, 50, 250, 10)
    profile = probe(board)
    assert profile.jetson is not None
    assert list(energy.input_rails) == profile.jetson.input_rails
    assert energy.input_mj == pytest.approx(sum(board.spec.rails[rail] for rail in energy.input_rails) * 0.2 / 10)
    assert gpu_clock_range_khz(trace, 0, 300) == (board.spec.gpu[1][-1],) * 2
    assert trace.temperatures_c(0)


FILES = {
    "/sys/devices/system/cpu/online": "0-1",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": "1",
    "/sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1",
    "/sys/class/devfreq/17000000.gpu/min_freq": "306000000",
    "/sys/class/devfreq/17000000.gpu/max_freq": "306000000",
    "/sys/class/devfreq/17000000.gpu/available_frequencies": "306000000 612000000",
    "/sys/class/thermal/cooling_device0/type": "cpu-throttle-alert",
    "/sys/class/thermal/cooling_device0/cur_state": "1",
    "/sys/class/hwmon/hwmon0/oc1_event_cnt": "1",
    "/sys/class/hwmon/hwmon1/name": "ina3221",
    "/sys/class/hwmon/hwmon1/in1_label": "VDD_IN",
    "/sys/bus/i2c/drivers/ina3221x/0-0040/iio:device0/rail_name_0": "VDD_IN",
    "/proc/device-tree/compatible": "nvidia,p3767-0005\0nvidia,tegra234",
    "/etc/nv_tegra_release": "# R36 (release), REVISION: 4.7",
    "/dfmobile-tools/nvpmodel": "NV Power Mode: X\nexit 0",
    "/dfmobile-tools/jetson_clocks": "GPU MinFreq=1 MaxFreq=2 CurrentFreq=3\nexit 0",
    "/dfmobile-tools/packages": "ii  libnvinfer8 8.2\nexit 1",
    "/dfmobile-tools/trtexec-path": "/usr/src/tensorrt/bin/trtexec",
    "/dfmobile-tools/nvidia-smi": "Orin, 540.4, 8.7\nexit 0",
    "/usr/local/cuda/version.json": '{"cuda": {"version": "12.6"}}',
}


ODD = ("", "-1", "0", "9" * 40, "\x1b[31m", "exit 0", "x" * 2000, "0-4000", "NC")


@pytest.mark.parametrize("path", sorted(FILES))
def test_one_damaged_file_never_breaks_the_probe(path: str) -> None:
    for text in ODD:
        view = RecordedFiles({**FILES, path: text})
        profile = with_board_facts(profile_from_files(view), view)
        assert parse_profile(dump_profile(profile).encode(), "x") == profile


@settings(max_examples=60)
@given(st.data())
def test_damaged_files_never_break_the_probe(data: st.DataObject) -> None:
    files = dict(FILES)
    odd = st.sampled_from(ODD) | st.text(max_size=40)
    for path in data.draw(st.lists(st.sampled_from(sorted(FILES)), max_size=8)):
        files[path] = data.draw(odd | st.text(max_size=40))
    view = RecordedFiles(files)
    profile = with_board_facts(profile_from_files(view), view)
    assert parse_profile(dump_profile(profile).encode(), "x") == profile


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_profile_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    board = plant_jetson(tmp_path / "root", "orin-nano")

    class Board(LocalTransport):
        def probe(self) -> DeviceProfile:
            return probe_linux_board(self, root=str(board.root))

    monkeypatch.setattr(device, "open_device", lambda text: device.Device(parse_device(text), Board()))
    done = CliRunner().invoke(app, ["profile", "--device", "ssh:me@board", "-o", str(tmp_path / "x.yaml"), "--json"])
    assert done.exit_code == 0, done.output
    document = json.loads(done.stdout)
    assert document["jetson"]["power_mode"] == "MAXN_SUPER"
    assert load_profile(tmp_path / "x.yaml").jetson is not None
    done = CliRunner().invoke(app, ["profile", "--device", "ssh:me@board"])
    assert "power_mode: MAXN_SUPER" in done.stdout


def test_shellcheck() -> None:
    if shutil.which("shellcheck") is None:
        pytest.skip("shellcheck is not installed")
    around = 'root="" most="" left="" skip="" tools=""\ntell() { :; }\nplain() { :; }\n'
    script = around + resources.files("dfmobile.devices").joinpath("board_tools.sh").read_text()
    done = subprocess.run(["shellcheck", "-s", "sh", "-"], input=script.encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode()
