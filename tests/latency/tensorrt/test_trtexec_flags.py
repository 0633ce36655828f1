"""Flags of trtexec by version."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from dfmobile.errors import FileFormatError, InputError
from dfmobile.latency.tensorrt.flags import (
    _FLAGS,
    BuildRequest,
    TimingRequest,
    build_flags,
    has_flag,
    profile_flags,
    timing_choices,
    timing_flags,
)
from dfmobile.latency.tensorrt.versions import TensorRTVersion

BUILD = BuildRequest(onnx="a.onnx", engine="a.engine", precision="fp32")
TIMING = TimingRequest("a.engine", "t.json", 200, 100, 3.5, cuda_graph=False, spin_wait=False, transfers=True)
ALL = ["7.1.3", "7.2.1", "8.0.1", "8.2.1", "8.4.1", "8.5.2", "8.6.1", "9.1.0", "10.0.0", "10.3.0", "10.16.1", "11.0.0",
       "11.1.0"]  # fmt: skip


def v(text: str) -> TensorRTVersion:
    return TensorRTVersion.parse(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8.2.1", (8, 2, 1)), ("8.2.1.8", (8, 2, 1)), ("v8201", (8, 2, 1)), ("8503", (8, 5, 3)),
        ("v101601", (10, 16, 1)),
        ("v100300", (10, 3, 0)), ("v110000", (11, 0, 0)), ("10.16", (10, 16, 0)), (" 8.5.2 ", (8, 5, 2)),
        ("8.2.1-1+cuda10.2", (8, 2, 1)), ("7.1.3-1+cuda10.2", (7, 1, 3)), ("10.3.0.30-1+cuda12.5", (10, 3, 0)),
    ],
)  # fmt: skip
def test_versions_are_read(text: str, expected: tuple[int, int, int]) -> None:
    version = TensorRTVersion.parse(text)
    assert (version.major, version.minor, version.patch) == expected
    assert TensorRTVersion.parse(version.text) == version


@pytest.mark.parametrize(
    "text", ["", "8", "v82", "v10300", "8.x", "8.2.1.2.3", "1e3", "８.2.1", "8..2", "v8201 x", "-8.2"]
)
def test_other_texts_are_no_versions(text: str) -> None:
    with pytest.raises(FileFormatError, match="no version of TensorRT"):
        TensorRTVersion.parse(text)


def test_versions_are_ordered() -> None:
    assert [item.text for item in sorted(map(v, reversed(ALL)))] == ALL


@pytest.mark.parametrize(
    ("version", "opset"),
    [("7.1.3", 11), ("8.0.1", 13), ("8.2.1", 13), ("8.4.1", 17), ("8.5.2", 17), ("8.6.1", 17), ("9.1.0", 19),
     ("10.3.0", 20), ("10.13.0", 20), ("10.16.1", 24), ("11.1.0", 24)],
)  # fmt: skip
def test_opsets(version: str, opset: int) -> None:
    assert v(version).max_onnx_opset == opset


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("7.1.3", "--onnx=a.onnx --saveEngine=a.engine --explicitBatch --buildOnly --fp16 --noTF32 --workspace=64"),
        ("8.2.1", "--onnx=a.onnx --saveEngine=a.engine --buildOnly --fp16 --noTF32 --workspace=64"),
        ("8.4.1", "--onnx=a.onnx --saveEngine=a.engine --buildOnly --fp16 --noTF32 --memPoolSize=workspace:64"),
        ("8.6.1", "--onnx=a.onnx --saveEngine=a.engine --skipInference --fp16 --noTF32 --memPoolSize=workspace:64"),
        ("10.3.0", "--onnx=a.onnx --saveEngine=a.engine --skipInference --fp16 --noTF32 --memPoolSize=workspace:64"),
    ],
)
def test_a_build(version: str, expected: str) -> None:
    assert build_flags(v(version), replace(BUILD, precision="fp16", workspace_mib=64)) == expected.split()


def test_all_that_a_build_can_ask_for() -> None:
    request = BuildRequest(
        onnx="a b.onnx", engine="e", precision="int8", timing_cache="c", calibration_cache="k",
        input_formats="fp16:chw", output_formats="fp16:chw16+hwc8,int8:chw32", tf32=True,
    )  # fmt: skip
    assert build_flags(v("8.5.2"), request) == [
        "--onnx=a b.onnx", "--saveEngine=e", "--buildOnly", "--int8", "--calib=k", "--timingCacheFile=c",
        "--inputIOFormats=fp16:chw", "--outputIOFormats=fp16:chw16+hwc8,int8:chw32",
    ]  # fmt: skip


def test_strongly_typed() -> None:
    typed = replace(BUILD, precision="fp16", strongly_typed=True)
    assert "--stronglyTyped" in build_flags(v("10.3.0"), typed)
    assert "--fp16" not in build_flags(v("10.3.0"), typed)
    assert not {"--stronglyTyped", "--fp16"} & set(build_flags(v("11.0.0"), typed))
    with pytest.raises(InputError, match=r"8\.5\.2 has no --stronglyTyped"):
        build_flags(v("8.5.2"), typed)


@pytest.mark.parametrize(
    ("version", "request_", "message", "hint"),
    [
        ("11.0.0", replace(BUILD, precision="fp16"), "11.0.0 has no --fp16", "fp16 tensors, strongly typed"),
        ("11.0.0", replace(BUILD, precision="int8"), "11.0.0 has no --int8", "quantize and dequantize"),
        ("7.1.3", replace(BUILD, timing_cache="c"), "7.1.3 has no --timingCacheFile", "without one"),
        ("8.2.1", replace(BUILD, calibration_cache="k"), "fp32 takes no calibration", "leave"),
        ("10.3.0", replace(BUILD, precision="int8", calibration_cache="k", strongly_typed=True), "typed", "leave"),
        ("8.2.1", replace(BUILD, workspace_mib=0), "workspace cannot be 0 MiB", "at least 1"),
        ("8.2.1", replace(BUILD, input_formats="fp16"), "inputIOFormats cannot be 'fp16'", "fp16:chw"),
        ("8.2.1", replace(BUILD, onnx=""), "--onnx cannot name ''", "path"),
        ("8.2.1", replace(BUILD, engine="a\nb"), "--saveEngine cannot name", "control"),
        ("6.0.1", BUILD, "older than 7.1.0", "JetPack"),
    ],
)
def test_what_a_version_cannot_do_is_refused(version: str, request_: BuildRequest, message: str, hint: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        build_flags(v(version), request_)
    assert hint in caught.value.hint


FIXED = "--loadEngine=a.engine --exportTimes=t.json --warmUp=200 --iterations=100 --duration="


@pytest.mark.parametrize(
    ("version", "graph", "spin", "transfers", "expected"),
    [
        ("8.0.1", False, False, True, "--streams=1"),
        ("8.2.1", True, True, False, "--streams=1 --useCudaGraph --useSpinWait --noDataTransfers"),
        ("8.6.1", True, False, False, "--infStreams=1 --useCudaGraph --noDataTransfers"),
        ("10.16.1", False, True, True, "--infStreams=1 --useSpinWait"),
        ("11.0.0", True, True, False, "--infStreams=1"),
        ("11.0.0", False, False, True, "--infStreams=1 --noCudaGraph --noSpinWait --includeDataTransfers"),
    ],
)
def test_a_timing(version: str, graph: bool, spin: bool, transfers: bool, expected: str) -> None:
    request = replace(TIMING, cuda_graph=graph, spin_wait=spin, transfers=transfers)
    duration = "4" if v(version) < v("8.4.0") else "3.5"
    assert timing_flags(v(version), request) == f"{FIXED}{duration} {expected}".split()
    assert timing_choices(request) == {"cuda_graph": graph, "spin_wait": spin, "transfers": transfers, "streams": 1}


@pytest.mark.parametrize(
    ("version", "seconds", "expected"),
    [("8.2.1", 0.5, "1"), ("8.2.1", 1.0, "1"), ("8.2.1", 0.0, "0"), ("8.4.1", 0.5, "0.5"), ("10.3.0", 0.25, "0.25")],
)
def test_no_version_times_for_less_than_asked(version: str, seconds: float, expected: str) -> None:
    """Up to 8.2 a duration is read as a whole number, so that 0.5 would be no time at all."""
    flags = timing_flags(v(version), replace(TIMING, duration_s=seconds))
    assert f"--duration={expected}" in flags


@pytest.mark.parametrize(
    ("version", "request_", "message"),
    [
        ("7.1.3", TIMING, "profiles every layer"),
        ("7.2.1", replace(TIMING, transfers=False), "no --noDataTransfers"),
        ("8.2.1", replace(TIMING, iterations=0), "iterations cannot be 0"),
        ("8.2.1", replace(TIMING, warm_up_ms=-1), "warm-up cannot be -1"),
        ("8.2.1", replace(TIMING, duration_s=float("nan")), "cannot last nan"),
    ],
)
def test_timings_that_cannot_be(version: str, request_: TimingRequest, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        timing_flags(v(version), request_)
    assert caught.value.hint


def test_a_profile_never_uses_cuda_graphs() -> None:
    assert profile_flags(v("8.2.1"), "e", "p") == ["--loadEngine=e", "--exportProfile=p", "--streams=1"]
    assert "--noCudaGraph" in profile_flags(v("11.1.0"), "e", "p")
    assert "--dumpProfile" in profile_flags(v("7.1.3"), "e", "p")


def test_unknown_flags_are_an_error() -> None:
    with pytest.raises(InputError, match="--bogus"):
        has_flag(v("8.2.1"), "--bogus")


# The strings are in 11's sources, but belong to other programs than trtexec.
OF_OTHER_PROGRAMS = {("--int8", "11.0"), ("--int8", "11.1")}


def test_the_table_agrees_with_the_reference(reference: Path) -> None:
    lines = (reference / "tensorrt" / "trtexec_flags_by_version.txt").read_text(encoding="utf-8").splitlines()
    versions = lines[1].split()[1:]
    checked = set()
    for line in lines[2:]:
        flag, marks = line[:28].strip().rstrip("."), line[28:].split()
        if flag not in _FLAGS or len(marks) != len(versions):
            continue
        checked.add(flag)
        for version, mark in zip(versions, marks, strict=True):
            if (flag, version) not in OF_OTHER_PROGRAMS:
                assert has_flag(v(version), flag) == (mark == "x"), (flag, version)
    # The sources have these, the reference does not list them.
    assert set(_FLAGS) - checked == {"--outputIOFormats", "--noCudaGraph", "--noSpinWait", "--includeDataTransfers"}


def test_a_real_help_knows_the_flags_of_its_version(reference: Path) -> None:
    text = (reference / "tensorrt" / "trtexec_8.5.3_no_gpu" / "help.log").read_text(encoding="utf-8")
    for flag in _FLAGS:
        listed = any(line.startswith(f"  {flag}") and line[2 + len(flag)] in "= " for line in text.splitlines())
        if flag != "--explicitBatch":  # still taken, no longer in the help
            assert listed == has_flag(v("8.5.3"), flag), flag
