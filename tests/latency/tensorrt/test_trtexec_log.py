# ruff: noqa: E501
"""What trtexec prints: own texts, then every reference log with values read by eye."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trtexec_texts as texts
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.errors import FileFormatError
from dfmobile.latency.tensorrt.layer_profile import parse_dump_profile
from dfmobile.latency.tensorrt.log import REPLAY_MARKER, TrtexecLog, TrtexecSummary, parse_trtexec_log
from dfmobile.latency.tensorrt.log_lines import MAX_TEXT_CHARS
from dfmobile.latency.tensorrt.versions import TensorRTVersion


def test_the_format_of_7() -> None:
    log = parse_trtexec_log(texts.V7)
    assert log.version is None  # its banner does not tell
    assert log.passed is True
    assert log.gpu_compute == TrtexecSummary(11.6, 13.4, 12, 11.9, {99: 13.3})
    assert log.latency == TrtexecSummary(12.1, 13.9, 12.5, 12.4, {99: 13.8})
    assert log.enqueue == TrtexecSummary(2.5, 3.5, None, 3)
    assert (log.throughput_qps, log.walltime_s, log.queries, log.warm_up_queries) == (80, 0.5, 40, 20)
    assert log.choices == {"spin_wait": False, "cuda_graph": False}


def test_the_format_of_10() -> None:
    log = parse_trtexec_log(texts.V10)
    assert log.version == TensorRTVersion(10, 3)
    assert log.passed is True
    assert not log.replay
    assert log.gpu_compute == TrtexecSummary(0.9, 1.5, 1.01, 1, {90: 1.1, 95: 1.2, 99: 1.4})
    assert log.h2d == log.d2h == TrtexecSummary(0, 0, 0, 0, {90: 0, 95: 0, 99: 0})
    assert log.end_to_end is None
    assert (log.device, log.compute_capability, log.engine_bytes) == ("Orin", "8.7", 6 * 2**20)
    assert log.unstable_clock
    assert log.gpu_variation == pytest.approx(0.042)
    # The flag was given and printed as enabled, and then ignored.
    assert log.choices == {"transfers": False, "spin_wait": True, "cuda_graph": False}


def test_nothing_is_no_error() -> None:
    assert parse_trtexec_log("") == TrtexecLog()


def test_a_replay_is_known_by_any_line() -> None:
    assert parse_trtexec_log(texts.V10 + REPLAY_MARKER + " 10.3.0\n").replay


def test_windows_line_ends_and_python_prefixes() -> None:
    log = parse_trtexec_log("[01/02/2025-03:04:05] [TRT] [W] careful\r\n[TRT] [E] broken\r\n[E] [TRT] too\r\n")
    assert (log.warnings, log.errors) == (("careful",), ("broken", "too"))


def test_a_library_newer_than_trtexec_is_the_version_and_a_warning() -> None:
    log = parse_trtexec_log(
        "&&&& RUNNING TensorRT.trtexec [TensorRT v8001] # trtexec\n[01/02/2025-03:04:05] [I] TensorRT version: 8201\n"
    )
    assert log.version == TensorRTVersion(8, 2, 1)
    assert "library of 8.2.1" in log.warnings[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (texts.V10 + texts.V10, "several runs"),
        (texts.V10.replace("PASSED TensorRT.trtexec [TensorRT v100300]", "PASSED TensorRT.trtexec [TensorRT v8201]"), "8.2.1"),
        (texts.V10.replace("median = 1 ms", "median = inf ms"), "damaged"),
        (texts.V10.replace("Latency: min = 0.9 ms, max = 1.5 ms, mean = 1.01 ms, ", "Latency: min = 0.9 ms, "), "lacks max, mean"),
        (texts.V10.replace("percentile(90%)", "percentile(190%)"), "190"),
        (texts.V10.replace("Enqueue Time", "Latency"), "two summaries"),
        (texts.V7.replace("mean: 12 ms", "mean: nan ms"), "lacks mean"),
        (texts.V7.replace("Enqueue Time", "GPU Compute"), "two summaries"),
    ],
)  # fmt: skip
def test_damaged_logs(text: str, message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        parse_trtexec_log(text)


def test_a_text_without_end_is_refused() -> None:
    with pytest.raises(FileFormatError, match="more than"):
        parse_trtexec_log("x" * (MAX_TEXT_CHARS + 1))


def test_complaints_are_bounded() -> None:
    log = parse_trtexec_log(("[E] " + "x" * 10_000 + "\n") * 1000)
    assert len(log.errors) == 200
    assert {len(text) for text in log.errors} == {400}


# Per file: what was read in it by eye.
REFERENCE: dict[str, dict[str, Any]] = {
    "trtexec_8.0.1_nano_excerpt.log": {
        "version": TensorRTVersion(8, 0, 1),
        "passed": True,
        "device": "NVIDIA Tegra X1",
        "compute_capability": "5.3",
        "load_s": 3.86437,
        "queries": 100,
        "warm_up_queries": 1,
        "walltime_s": 4.07195,
        "throughput_qps": 24.5583,
        "gpu_compute": TrtexecSummary(39.8569, 40.1931, 40.0027, 39.9982, {99: 40.1931}),
        "latency": TrtexecSummary(40.5005, 40.8591, 40.6326, 40.6337, {99: 40.8591}),
        "end_to_end": TrtexecSummary(40.5388, 40.9277, 40.6771, 40.6718, {99: 40.9277}),
        "enqueue": TrtexecSummary(40.2849, 40.6204, 40.4274, 40.4176, {99: 40.6204}),
        "h2d": TrtexecSummary(0.487671, 0.590698, 0.544677, 0.543213, {99: 0.590698}),
        "d2h": TrtexecSummary(0.0678711, 0.150146, 0.0852185, 0.079834, {99: 0.150146}),
        "errors": (),
        "unstable_clock": False,
    },
    "trtexec_8.5.2_xavier_profile_excerpt.log": {
        "version": TensorRTVersion(8, 5, 2),
        "passed": True,
        "device": "Xavier",
        "compute_capability": "7.2",
        "gpu_compute": None,
        "latency": None,
    },
    "trtexec_10.16.1_result_01.log": {
        "version": TensorRTVersion(10, 16, 1),
        "passed": True,
        "device": "NVIDIA H100 PCIe",
        "compute_capability": "9.0",
        "opset": 18,
        "throughput_qps": 15374.3,
        "queries": 46125,
        "gpu_compute": TrtexecSummary(
            0.0331421, 0.140381, 0.0359588, 0.0361328, {90: 0.0368652, 95: 0.0371094, 99: 0.041748}
        ),
        "unstable_clock": True,
        "choices": {"transfers": True, "spin_wait": False, "cuda_graph": False},
        "build_s": 8.09138,
        "errors": (),
    },
    "trtexec_10.16.1_result_04.log": {
        "version": TensorRTVersion(10, 16, 1),
        "passed": True,
        "build_s": 8.05109,
        "engine_bytes": round(12.5765 * 2**20),
        "gpu_compute": None,
        "opset": 18,
    },
    "trtexec_10.16.1_result_05.log": {
        "version": TensorRTVersion(10, 16, 1),
        "passed": True,
        "engine_bytes": 6 * 2**20,
        "gpu_compute": None,
        "device": "NVIDIA H100 PCIe",
    },
    "trtexec_8.5.3_no_gpu/help.log": {"version": TensorRTVersion(8, 5, 3), "passed": None, "errors": ()},
    **{
        f"trtexec_8.5.3_no_gpu/{name}.log": {
            "version": TensorRTVersion(8, 5, 3),
            "passed": None,
            "device": None,
            "errors": ("Cuda failure: CUDA driver version is insufficient for CUDA runtime version",),
        }
        for name in ("loadEngine_nope_plan", "onnx_bad_onnx___useDLACore_0", "onnx_nope_onnx", "onnx_res_onnx")
    },
    "trtexec_8.5.3_no_gpu/onnx_res_onnx___fp16___bogus.log": {
        "version": TensorRTVersion(8, 5, 3),
        "passed": False,
        "errors": ("Unknown option: --bogus",),
    },
}


@pytest.fixture
def folder(reference: Path) -> Path:
    return reference / "tensorrt"


class TestReference:
    def test_no_log_is_left_out(self, folder: Path) -> None:
        assert {str(path.relative_to(folder)) for path in folder.rglob("*.log")} == set(REFERENCE)

    @pytest.mark.parametrize("name", sorted(REFERENCE))
    def test_a_log(self, folder: Path, name: str) -> None:
        log = parse_trtexec_log((folder / name).read_text(encoding="utf-8"))
        for field, expected in REFERENCE[name].items():
            assert getattr(log, field) == expected, field
        assert not log.replay

    def test_summaries_of_other_versions(self, folder: Path) -> None:
        text = (folder / "trtexec_summaries_other_versions.txt").read_text(encoding="utf-8")
        parts = {part.partition("\n")[0][:24]: parse_trtexec_log(part) for part in text.split("### ")[1:]}
        tx2 = parts["TX2, TRT 7.1.3 (JetPack "]
        assert (tx2.version, tx2.passed, tx2.queries, tx2.gpu_compute) == (None, None, 0, None)
        assert parts["TRT 7.x 1080Ti old multi"].latency == TrtexecSummary(638.401, 646.992, 643.169, 643.202)
        nx = parts["Xavier NX, JetPack 5 bra"]
        assert nx.gpu_compute == TrtexecSummary(0.554932, 0.58374, 0.564682, 0.564087, {99: 0.578552})
        assert nx.end_to_end == TrtexecSummary(0.574707, 0.606201, 0.586663, 0.585938, {99: 0.601685})
        agx = parts["AGX Xavier TRT 8.4.0 (no"]
        assert (agx.version, agx.passed) == (TensorRTVersion(8, 4), True)
        assert agx.gpu_compute == TrtexecSummary(0.375977, 0.403564, 0.388221, 0.388443, {99: 0.393188})
        ten = parts["TRT 10.x, three percenti"].gpu_compute
        assert ten == TrtexecSummary(5.34595, 13.3388, 7.58404, 7.14139, {90: 10.2881, 95: 10.8175, 99: 12.9485})
        assert parts["noDataTransfers/spin-wai"].h2d == TrtexecSummary(0, 0, 0, 0, {99: 0})


def never_crashes(text: str) -> None:
    for parse in (parse_trtexec_log, parse_dump_profile):
        try:
            parse(text)
        except FileFormatError:
            continue


WORDS = st.sampled_from(
    [*texts.V7.splitlines(), *texts.V10.splitlines(), *texts.PROFILE_8_2.splitlines(), *texts.PROFILE_8_6.splitlines(),
     *texts.PARSE_ERROR.splitlines(), "\x1e", "&&&& FAILED TensorRT.trtexec [TensorRT v99999] # ", "[E] ", "nan", "1e999"]
)  # fmt: skip


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    never_crashes(text)


@given(st.lists(WORDS | st.text(max_size=20), max_size=40), st.sampled_from(["\n", "", " ", "\r\n"]))
def test_any_mix_of_lines_is_read_or_refused(lines: list[str], separator: str) -> None:
    never_crashes(separator.join(lines))


@given(st.data())
def test_mutated_reference_logs_are_read_or_refused(reference: Path, data: st.DataObject) -> None:
    names = [name for name in REFERENCE if "result_01" not in name and "result_04" not in name]
    text = (reference / "tensorrt" / data.draw(st.sampled_from(names))).read_text(encoding="utf-8")
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 200)))
    never_crashes(text[:start] + data.draw(st.text(max_size=10) | WORDS) + text[end:])
