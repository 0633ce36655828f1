"""What TensorRT this machine has: every way in which it can be missing or broken is one line and a hint."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
from pathlib import Path

import pytest
from tensorrt_stubs import ABORTS, NO_DRIVER_8_5_3, SEGFAULTS, WORKS, install
from typer.testing import CliRunner

from dfmobile.cli.main import app
from dfmobile.latency.tensorrt import availability as module_under_test
from dfmobile.latency.tensorrt import availability_probe as probe
from dfmobile.latency.tensorrt.availability import Availability, Module, availability, describe_missing, summary

NO_GPU = "no CUDA driver: libcuda.so.1 is not installed"
HERE = availability()

without_gpu = pytest.mark.skipif(bool(HERE.gpus), reason="this machine has an NVIDIA GPU")


def lines(found: Availability) -> str:
    missing = describe_missing(found)
    assert missing is not None
    text, hint = missing
    assert text
    assert hint
    assert "\n" not in text + hint
    return text + " / " + hint


def test_nothing_installed() -> None:
    text = lines(Availability(gpu_error=NO_GPU))
    assert "no NVIDIA GPU" in text
    assert "no Python module tensorrt" in text
    assert "ssh:USER@HOST" in text


def test_tensorrt_rtx_without_a_gpu() -> None:
    found = Availability({"tensorrt_rtx": Module("tensorrt_rtx", "1.7.1.116")}, gpu_error=NO_GPU)
    text = lines(found)
    assert "TensorRT-RTX 1.7.1.116 is installed" in text
    assert "can build engines on this machine and run none" in text


@without_gpu
@pytest.mark.skipif("tensorrt_rtx" not in HERE.modules, reason="the extra tensorrt-rtx is not installed")
def test_the_real_tensorrt_rtx_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_under_test, "MODULES", ("tensorrt_rtx",))
    monkeypatch.setattr(module_under_test, "find_trtexec", lambda: None)
    found = availability()
    assert found.modules["tensorrt_rtx"].error == ""
    assert found.python_runner is None
    assert "can build engines on this machine and run none" in lines(found)


@without_gpu
@pytest.mark.skipif(importlib.util.find_spec("tensorrt_lean") is None, reason="tensorrt_lean is not installed")
def test_the_real_lean_runtime_here() -> None:
    assert "CUDA" in HERE.modules["tensorrt_lean"].error


@without_gpu
@pytest.mark.parametrize(
    ("version", "body", "words"),
    [
        ("8.5.3.1", NO_DRIVER_8_5_3, ("CUDA initialization failure with error: 35",)),
        ("10.3.0", ABORTS, ("it crashed (signal 6 (SIGABRT))", "nvinfer1::CudaError")),
        ("11.4.0.106", SEGFAULTS, ("it crashed (signal 11 (SIGSEGV))",)),
    ],
)
def test_tensorrt_that_fails_without_a_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, body: str, words: tuple[str, ...]
) -> None:
    install(tmp_path / "site", monkeypatch, version, body)
    monkeypatch.setattr(module_under_test, "MODULES", ("tensorrt",))
    found = availability()
    assert found.modules["tensorrt"].version == version
    text = lines(found)
    for word in (f"TensorRT {version} cannot run on this machine", "no NVIDIA GPU", *words):
        assert word in text


def test_a_module_that_does_not_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", monkeypatch, "10.0", "raise OSError('libnvinfer.so.10: cannot open shared object file')")
    monkeypatch.setattr(module_under_test, "MODULES", ("tensorrt",))
    found = availability().modules["tensorrt"]
    assert found.version is None
    assert found.error == "OSError: libnvinfer.so.10: cannot open shared object file"


GPU = ("Orin (compute capability 8.7)",)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (Availability(gpus=GPU), ("Orin", "no TensorRT", "JetPack")),
        (Availability({"tensorrt": Module("tensorrt", "8.5.2")}, gpus=GPU), ("needs 10 or newer", "no trtexec")),
        (Availability({"tensorrt_lean": Module("tensorrt_lean", "11.4")}, gpus=GPU), ("builds none", "no trtexec")),
        (
            Availability({"tensorrt": Module("tensorrt", "10.3", "Builder: out of memory")}, gpus=GPU),
            ("out of memory",),
        ),
        (Availability(trtexec=Path("/usr/bin/trtexec"), gpu_error=NO_GPU), ("trtexec (/usr/bin/trtexec) cannot run",)),
    ],
)
def test_a_gpu_without_usable_tensorrt_and_the_reverse(found: Availability, words: tuple[str, ...]) -> None:
    text = lines(found)
    for word in words:
        assert word in text


@pytest.mark.parametrize(
    ("found", "runner"),
    [
        (Availability({"tensorrt": Module("tensorrt", "10.3.0")}, gpus=GPU), "tensorrt"),
        (Availability({"tensorrt_rtx": Module("tensorrt_rtx", "1.7")}, gpus=GPU), "tensorrt_rtx"),
        (Availability({"tensorrt": Module("tensorrt", "8.5.2")}, trtexec=Path("/x/trtexec"), gpus=GPU), None),
    ],
)
def test_what_can_run(found: Availability, runner: str | None) -> None:
    assert describe_missing(found) is None
    assert found.python_runner == runner
    assert "Orin" in summary(found)


DRIVER = r"""
int cuInit(unsigned flags) { return INIT; }
int cuDriverGetVersion(int *version) { *version = 12060; return 0; }
int cuDeviceGetCount(int *count) { *count = 2; return 0; }
int cuDeviceGet(int *device, int index) { *device = index; return index == 1 ? 101 : 0; }
int cuDeviceGetName(char *name, int length, int device) { name[0] = 'O'; name[1] = 'r'; name[2] = 0; return 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { *value = attribute == 75 ? 8 : 7; return 0; }
int cuGetErrorName(int code, const char **name) { *name = "CUDA_ERROR_X"; return 0; }
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
def test_the_driver_interface(tmp_path: Path) -> None:
    """Against a library with the driver's functions and signatures, not against a driver."""

    def build(init: int) -> str:
        source, library = tmp_path / "cuda.c", tmp_path / f"libcuda{init}.so"
        source.write_text(DRIVER)
        subprocess.run(["gcc", "-shared", "-fPIC", f"-DINIT={init}", "-o", library, source], check=True)
        return str(library)

    found = probe.driver({"library": build(0)})
    assert found["version"] == "12.6"
    assert found["devices"] == ["Or (compute capability 8.7)", "GPU 1: CUDA_ERROR_X (101)"]
    found = probe.driver({"library": build(100)})
    assert found == {
        "version": "12.6",
        "devices": [],
        "error": "the CUDA driver finds no GPU: cuInit gives CUDA_ERROR_X (100)",
    }


def test_a_working_module_has_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path / "site", monkeypatch, "10.3.0", WORKS)
    monkeypatch.setattr(module_under_test, "MODULES", ("tensorrt",))
    assert availability().modules == {"tensorrt": Module("tensorrt", "10.3.0")}


def test_doctor_says_it() -> None:
    result = CliRunner().invoke(app, ["doctor"])
    assert result.exit_code == 0, result.output
    assert "tensorrt " in result.stdout
