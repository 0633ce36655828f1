# ruff: noqa: E501
"""Why a run of trtexec gave no result: own texts, then every failure of the reference."""

from __future__ import annotations

from pathlib import Path

import pytest
import trtexec_texts as texts
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.errors import BackendError
from dfmobile.latency.tensorrt.failures import failure, failure_kind
from dfmobile.latency.tensorrt.log import parse_trtexec_log
from dfmobile.latency.tensorrt.versions import TensorRTVersion

STARTED = "&&&& RUNNING TensorRT.trtexec [TensorRT v8502] # trtexec --onnx=a.onnx\n"
FAILED = "&&&& FAILED TensorRT.trtexec [TensorRT v8502] # trtexec --onnx=a.onnx\n"


def explain(exit_code: int, text: str, version: TensorRTVersion | None = None) -> tuple[str, BackendError]:
    log = parse_trtexec_log(text)
    error = failure(exit_code, log, text, what="building a.onnx", version=version)
    assert error.hint
    assert "\n" not in str(error) + error.hint
    assert str(error).startswith("building a.onnx: trtexec")
    assert len(str(error)) < 700
    return failure_kind(exit_code, log, text), error


@pytest.mark.parametrize(
    ("exit_code", "text", "kind", "message"),
    [
        (134, texts.NO_DRIVER, "no driver", "no usable CUDA driver or GPU ('Cuda failure: no CUDA-capable"),
        (134, STARTED + "terminate called after throwing an instance of 'x'\n", "aborted", "terminate called"),
        (1, STARTED + "[E] Target GPU SM 53 is not supported by this TensorRT release.\n" + FAILED, "unsupported gpu", "SM 53"),
        (1, STARTED + "[E] Unknown option: --memPoolSize workspace:64\n" + FAILED, "unknown flag", "--memPoolSize"),
        (127, "sh: 1: trtexec: not found\n", "missing trtexec", "no trtexec where it was looked for"),
        (127, "bash: line 1: /usr/src/tensorrt/bin/trtexec: No such file or directory\n", "missing trtexec", "No such file"),
        (126, "sh: 1: ./trtexec: Permission denied\n", "not executable", "may not be executed"),
        (127, "trtexec: error while loading shared libraries: libnvinfer.so.8: cannot open shared object file\n",
         "missing library", "libnvinfer.so.8"),
        (137, STARTED + "[W] [TRT] Device memory is insufficient to use tactic.\nKilled\n", "killed for memory", "'Killed'"),
        (1, STARTED + "[E] Error[1]: [defaultAllocator.cpp::allocate::31] Error Code 1: Cuda Runtime (out of memory)\n"
         "[E] Error[10]: Could not find any implementation for node a.\n" + FAILED, "out of gpu memory", "out of memory"),
        (1, STARTED + "[W] [TRT] Tactic Device request: 538MB Available: 166MB. Device memory is insufficient to use tactic.\n"
         "[E] Error[10]: Could not find any implementation for node a.\n" + FAILED, "out of gpu memory", "538MB"),
        (1, STARTED + "[E] Error[10]: Could not find any implementation for node a.\n" + FAILED, "workspace", "node a"),
        (1, STARTED + "[E] [TRT] Try increasing the workspace size with IBuilderConfig::setMemoryPoolLimit()\n" + FAILED,
         "workspace", "increasing"),
        (1, STARTED + "[libprotobuf ERROR x.cc:1] Error parsing message of type 'onnx2trt_onnx.ModelProto'\n"
         "[E] [TRT] ModelImporter.cpp:688: Failed to parse ONNX model from file: a.onnx\n" + FAILED, "bad onnx", "damaged"),
        (1, STARTED + "[E] [TRT] Could not open file a.onnx\n[E] [TRT] Failed to parse ONNX model from file: a.onnx\n" + FAILED,
         "missing file", "Could not open file a.onnx"),
        (1, STARTED + "[E] Error opening engine file: a.engine\n" + FAILED, "missing file", "a.engine"),
        (1, STARTED + "[E] Cannot open engine file: a.engine (No space left on device)\n" + FAILED, "disk full", "disk is full"),
        (1, STARTED + "[E] [TRT] 6: The engine plan file is generated on an incompatible device, expecting compute 7.2 got "
         "compute 6.2, please rebuild.\n[E] Engine deserialization failed.\n" + FAILED, "incompatible engine", "compute 6.2"),
        (1, STARTED + "[E] [TRT] Can not open provided calibration cache file\n" + FAILED, "missing calibration", "INT8"),
        (-11, STARTED, "crashed", "exit code 139"),
        (139, STARTED + "Segmentation fault (core dumped)\n", "crashed", "segmentation fault"),
        (124, STARTED + "[I] Starting inference\n", "timeout", "did not end in the time"),
        (255, "ssh: connect to host nano port 22: Connection refused\n", "ssh", "Connection refused"),
        (255, STARTED, "ssh", "killed by a signal"),
        (143, STARTED + "Terminated\n", "stopped", "stopped from outside"),
        (1, STARTED + "sh: 1: printf: I/O error: No space left on device\n", "disk full", "disk is full"),
        (0, STARTED + "[I] Starting inference\n", "no result", "gave no result, with exit code 0: it ended well and printed none; it ended with 'Starting inference'"),
        (1, STARTED + "[E] something that nobody has seen\n" + FAILED, "unknown", "'something that nobody has seen'"),
        (3, "", "unknown", "gave no reason that is known"),
    ],
)  # fmt: skip
def test_a_failure(exit_code: int, text: str, kind: str, message: str) -> None:
    found, error = explain(exit_code, text)
    assert found == kind
    assert message in str(error)
    assert f"exit code {exit_code if exit_code >= 0 else 128 - exit_code}:" in str(error)


def test_an_unsupported_operator_is_named_with_its_opset() -> None:
    kind, error = explain(1, texts.PARSE_ERROR)
    assert kind == "unsupported onnx"
    assert "trtexec 8.2.1 failed" in str(error)
    assert "node 'norm_out', operator LayerNormalization, opset 17 (this TensorRT knows opsets to 13)" in str(error)
    assert error.hint == "export it with opset 13"
    _, newer = explain(1, texts.PARSE_ERROR, version=TensorRTVersion(8, 5, 2))
    assert "knows opsets" not in str(newer)


def test_pythons_form_of_a_parse_error() -> None:
    line = "[E] In node 11 with name: /dense/Grid and operator: GridSample3D (checkFallbackPluginImporter): INVALID_NODE: x"
    assert "node '/dense/Grid', operator GridSample3D" in str(explain(1, STARTED + line + "\n" + FAILED)[1])


# Title's beginning in the reference: exit code, kind, words of the message.
REFERENCE = {
    "no CUDA driver, TRT 8.5.1": (134, "no driver", "driver"),
    "no CUDA driver, older sample": (1, "no driver", "trtexec 8.6.0 failed"),
    "parse error TRT 10.3": (1, "unsupported onnx", "node '/Tile', operator Tile"),
    "TRT 7.1 Xavier unsupported": (1, "unsupported onnx", "unsupported datatype (11)"),
    "no implementation TRT 8.6": (1, "workspace", "ForeignNode"),
    "memory pressure": (1, "out of gpu memory", "538MB"),
    "engine from another version": (1, "incompatible engine", "kPLAN_MAGIC_TAG"),
    "static shape mismatch": (1, "shape mismatch", "Static dimension mismatch"),
}
# These are no failures, or only a title.
NO_FAILURES = ("kernel OOM killer on Nano", "DLA fallback", "unknown flag TRT 8.5.3")


def test_the_failures_of_the_reference(reference: Path) -> None:
    text = (reference / "tensorrt" / "trtexec_failures.txt").read_text(encoding="utf-8")
    seen = set()
    for part in text.split("### ")[1:]:
        title, _, body = part.partition("\n")
        if title.startswith("TX2, TRT 7.1.3"):
            break
        if title.startswith(NO_FAILURES):
            continue
        name = next(name for name in REFERENCE if title.startswith(name))
        exit_code, kind, message = REFERENCE[name]
        found, error = explain(exit_code, body)
        assert (found, message in str(error)) == (kind, True), (title, found, str(error))
        seen.add(name)
    assert seen == set(REFERENCE)


@pytest.mark.parametrize(
    ("name", "exit_code", "kind"),
    [
        ("loadEngine_nope_plan", 134, "no driver"),
        ("onnx_bad_onnx___useDLACore_0", 134, "no driver"),
        ("onnx_nope_onnx", 134, "no driver"),
        ("onnx_res_onnx", 134, "no driver"),
        ("onnx_res_onnx___fp16___bogus", 1, "unknown flag"),
        ("help", 0, "no result"),
    ],
)
def test_the_runs_without_a_gpu(reference: Path, name: str, exit_code: int, kind: str) -> None:
    text = (reference / "tensorrt" / "trtexec_8.5.3_no_gpu" / f"{name}.log").read_text(encoding="utf-8")
    found, error = explain(exit_code, text)
    assert found == kind
    assert f"trtexec 8.5.3 {'failed' if exit_code else 'gave no result'}" in str(error)


@given(st.integers(0, 255), st.lists(st.sampled_from([STARTED.strip(), FAILED.strip(), *texts.PARSE_ERROR.splitlines(),
       "In node", "While parsing node number 1 [", "Invalid Node - "]) | st.text(max_size=30), max_size=15))  # fmt: skip
def test_every_failure_has_a_line_and_a_hint(exit_code: int, lines: list[str]) -> None:
    text = "\n".join(line for line in lines if not line.startswith("&&&& RUNNING")).replace("v8502", "v8201")
    explain(exit_code, text)
