"""Logs of ``benchmark_model`` from 2018 to 2025: each gives the right numbers, or fails for the right reason."""

from __future__ import annotations

import dataclasses
import re
import time
from pathlib import Path
from typing import Any

import benchmark_model_logs as logs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dfmobile.errors import BackendError, DfmobileError
from dfmobile.latency.benchmark_model_log import MAX_LOG_CHARS, BenchmarkLog, DelegateUse, parse_benchmark_log

WHOLE_GPU = DelegateUse("GPU", "whole")


def close(found: BenchmarkLog, **expected: Any) -> None:
    """Check the fields that are named, and that every other one is None or empty."""
    default = BenchmarkLog(average_ms=0.0)
    for field in dataclasses.fields(found):
        value, wanted = getattr(found, field.name), expected.get(field.name, getattr(default, field.name))
        if isinstance(wanted, float):
            assert value == pytest.approx(wanted, rel=1e-9), field.name
        else:
            assert value == wanted, field.name


MI11 = {  # by its order in the file: sections of one README
    0: {"runs": 50, "average_ms": 249.684, "min_ms": 247.067, "max_ms": 254.474, "std_ms": 1.442, "init_ms": 16.242,
        "first_ms": 360.262, "warm_up_ms": 304.586, "peak_memory_bytes": round(138.809 * 2**20)},
    1: {"runs": 50, "average_ms": 156.669, "min_ms": 149.738, "max_ms": 161.935, "std_ms": 2.352, "init_ms": 404.292,
        "first_ms": 188.086, "warm_up_ms": 175.313, "peak_memory_bytes": round(61.0078 * 2**20)},
    2: {"runs": 50, "average_ms": 92.5712, "min_ms": 89.745, "max_ms": 96.719, "std_ms": 1.638, "init_ms": 365.972,
        "first_ms": 120.877, "warm_up_ms": 108.605, "peak_memory_bytes": round(61.0547 * 2**20)},
    3: "has no line of timings",  # operators' sums in a profile are no run's time
    4: {"runs": 50, "average_ms": 95.7883, "min_ms": 93.066, "max_ms": 99.490, "std_ms": 1.284, "init_ms": 1.779,
        "first_ms": 152.949, "warm_up_ms": 110.690, "peak_memory_bytes": round(36.9883 * 2**20)},
    5: "the delegate NNAPI could not be applied .*OP_FAILED at line 3779",
    6: "the delegate NNAPI could not be applied .*BAD_DATA at line 1068",
}  # fmt: skip

REFERENCE: dict[str, Any] = {
    "2018_tf1.12_warrior_sample.txt": {
        "runs": 50, "average_ms": 137.722, "min_ms": 137.079, "max_ms": 143.416, "std_ms": 0.896, "init_ms": 4.452,
        "first_ms": 146.161, "warm_up_ms": 146.161, "warm_up_runs": 1,
    },
    "2019_06_phone_opprofile_head.txt": {
        "runs": 50, "average_ms": 115.062, "min_ms": 88.216, "max_ms": 129.193, "std_ms": 7.678, "init_ms": 1.892,
        "first_ms": 91.810, "warm_up_ms": 86.1843, "warm_up_runs": 6,
    },
    "2019_10_maxsecs_requirefull.txt": {
        "runs": 50, "average_ms": 747.733, "min_ms": 747.331, "max_ms": 748.577, "std_ms": 0.293, "init_ms": 21.039,
        "first_ms": 751.932, "warm_up_ms": 751.932, "warm_up_runs": 1,
    },
    "2019_phone_yuenshome77.txt": "the log stops in the timed runs.*Running benchmark for at least 10 iterations",
    "2020_phone_gpu_tf43541.txt": {
        "runs": 50, "average_ms": 119.375, "min_ms": 113.737, "max_ms": 124.776, "std_ms": 1.948, "init_ms": 870.557,
        "first_ms": 130.565, "warm_up_ms": 122.373, "warm_up_runs": 4, "delegates": (WHOLE_GPU,),
    },
    "2020_phone_mi11_yolov5s_tf2.4_many.txt": "several runs",
    "2022_phone_logcat_gpu_unsupported_tf56301.txt": "UNPACK: Operation is not supported",
    "2022_phone_logcat_nnapi_tf56301.txt": {
        "runs": 75, "average_ms": 12.1676, "min_ms": 11.787, "max_ms": 13.649, "std_ms": 0.325, "init_ms": 126.059,
        "first_ms": 32.942, "warm_up_ms": 12.5819, "warm_up_runs": 40,
        "delegates": (DelegateUse("NNAPI", "partial", partitions=44),),
    },
    "2025_percentiles_fragment.txt": {
        "runs": 25, "average_ms": 145.528, "min_ms": 140.071, "max_ms": 195.121, "std_ms": 13.583, "p5_ms": 140.545,
        "median_ms": 141.253, "p95_ms": 187.533, "init_ms": 92.318, "first_ms": 187.533, "warm_up_ms": 211.669,
        "init_memory_bytes": round(54.2852 * 2**20), "memory_bytes": round(73.4102 * 2**20),
    },
    "2025_phone_dm1q_qnn_tf83344.txt": r"EXTERNAL took nothing of the graph \(0 of 31 nodes",
    "fail_2020_phone_hwbkk_notexec_tf42956.txt": "not executable: 64-bit ELF file",
    "fail_2020_phone_pixel4_segv_iree3472.txt": "Segmentation fault; it does not know the flags -use-gpu=true",
    "fail_2024_gpu_opencl_build_tf62753.txt": r"Failed to build program executable - Build program failure\(97",
}  # fmt: skip


class TestReferenceLogs:
    """Published logs; the numbers were read by a person."""

    @pytest.fixture
    def folder(self, reference: Path) -> Path:
        found = reference / "android" / "benchmark_model_logs"
        if not found.is_dir():
            pytest.skip("the reference logs (android/benchmark_model_logs) are not here")
        return found

    def test_every_log_is_expected(self, folder: Path) -> None:
        assert {path.name for path in folder.glob("*.txt")} == set(REFERENCE)

    @pytest.mark.parametrize("name", sorted(REFERENCE))
    def test_it_says_what_the_log_says(self, folder: Path, name: str) -> None:
        expect((folder / name).read_text(encoding="utf-8"), REFERENCE[name])

    def test_a_readme_of_several_runs_gives_each(self, folder: Path) -> None:
        text = (folder / "2020_phone_mi11_yolov5s_tf2.4_many.txt").read_text(encoding="utf-8")
        fences = re.split(r"^```.*$", text, flags=re.MULTILINE)[1::2]
        runs = [block for block in fences if "adb shell" not in block and "bazel" not in block]
        found = [block for block in runs if "count=" in block or "STARTING" in block]
        assert len(found) == len(MI11)
        for number, block in enumerate(found):
            expect(block, MI11[number])


def expect(text: str, expected: Any) -> None:
    """Check a log's numbers, or why it fails."""
    if isinstance(expected, str):
        with pytest.raises(BackendError, match=expected) as caught:
            parse_benchmark_log(text)
        assert caught.value.hint
    else:
        close(parse_benchmark_log(text), **expected)


def test_2018() -> None:
    close(
        parse_benchmark_log(logs.OLD),
        runs=5, average_ms=2.08, min_ms=2.0, max_ms=2.2, std_ms=0.07, init_ms=1.5, first_ms=2.5, warm_up_ms=2.5,
        warm_up_runs=1,
    )  # fmt: skip


def test_2025_with_quantiles_memory_and_xnnpack() -> None:
    found = parse_benchmark_log(logs.NEW)
    close(
        found,
        runs=7, average_ms=150.32, min_ms=150.0, max_ms=151.0, std_ms=0.3, p5_ms=150.05, median_ms=150.21,
        p95_ms=150.95, init_ms=12.5, first_ms=200.0, warm_up_ms=162.525, warm_up_runs=4,
        init_memory_bytes=round(2.5 * 2**20), memory_bytes=4 * 2**20, peak_memory_bytes=round(8.5 * 2**20),
        delegates=(DelegateUse("XNNPACK", "whole", 5, 5, 1),),
    )  # fmt: skip
    assert (found.statistic, found.typical_ms) == ("median", 150.21)
    assert found.delegated_fraction == 1.0


def test_scientific_notation() -> None:
    found = parse_benchmark_log(logs.SCIENTIFIC)
    assert found.average_ms == pytest.approx(1497.12)
    assert found.warm_up_ms == pytest.approx(1530.248)
    assert (found.runs, found.warm_up_runs) == (50, 1)


def test_all_runs_the_same() -> None:
    found = parse_benchmark_log(logs.ALL_SAME)
    close(
        found,
        runs=50, average_ms=0.064, min_ms=0.064, max_ms=0.064, std_ms=0.0, p5_ms=0.064, median_ms=0.064, p95_ms=0.064,
        init_ms=0.9, first_ms=0.07, warm_up_ms=0.07, warm_up_runs=30,
    )  # fmt: skip


def test_a_single_run() -> None:
    found = parse_benchmark_log(logs.ONE_RUN)
    assert (found.runs, found.average_ms, found.std_ms) == (1, 880.0, 0.0)


def test_litert() -> None:
    close(
        parse_benchmark_log(logs.LITERT),
        runs=50, average_ms=2.43, min_ms=2.31, max_ms=3.02, std_ms=0.11, init_ms=45.32, first_ms=3.10, warm_up_ms=2.60,
        warm_up_runs=180, init_memory_bytes=round(25.5 * 2**20), memory_bytes=32 * 2**20,
        peak_memory_bytes=round(35.25 * 2**20), delegates=(DelegateUse("TfLiteXNNPackDelegate", "whole", 31, 31, 1),),
    )  # fmt: skip


def test_litert_in_one_line() -> None:
    found = parse_benchmark_log("Inference (avg): 2.43 ms (50 runs)")
    close(found, average_ms=2.43, runs=50)


@pytest.mark.parametrize("text", [logs.GPU_PARTIAL, logs.LOGCAT])
def test_a_part_on_the_gpu(text: str) -> None:
    found = parse_benchmark_log(text)
    verdict = found.delegates[-1]
    assert (verdict.name, verdict.outcome, verdict.nodes, verdict.total) == ("GPU", "partial", 12, 16)
    assert found.delegated_fraction == 0.75
    assert [item.partition(":")[0] for item in found.unsupported_ops] == ["UNPACK", "ARG_MAX"]
    assert found.average_ms == pytest.approx(2.02)


def test_the_whole_graph_on_the_gpu() -> None:
    assert parse_benchmark_log(logs.GPU_WHOLE).delegates == (DelegateUse("GPU", "whole", 16, 16, 1),)


def test_hexagon_in_an_old_log() -> None:
    found = parse_benchmark_log(logs.HEXAGON)
    assert found.delegates == (DelegateUse("Hexagon", "partial", 28, 31),)
    assert found.runs == 50


def test_profiles_of_operators_are_not_the_result() -> None:
    found = parse_benchmark_log(logs.PROFILED)
    assert (found.runs, found.average_ms) == (50, 2.02)


def test_the_stand_in_says_what_it_is() -> None:
    greeting = "dfmobile host stand-in for benchmark_model, LiteRT 2.1"
    assert parse_benchmark_log(f"{greeting}\n{logs.NEW}").version == greeting
    assert parse_benchmark_log(logs.NEW).version is None


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no line of timings; it ended with: nothing"),
        (logs.CRASHED, "Segmentation fault; it does not know the flags -use-gpu=true; it ended with: Initialized"),
        (logs.FAILED_DELEGATE, r"NNAPI could not be applied \(NN API returned error ANEURALNETWORKS_BAD_DATA"),
        (logs.NEW.partition("INFO: count=7")[0], "stops in the timed runs"),
        (logs.NEW.partition("INFO: count=4")[0], "stops in the warm-up"),
        (logs.NEW + "INFO: Benchmarking failed.", "Benchmarking failed"),
        (logs.NEW + logs.NEW, "several runs"),
        (logs.LITERT + logs.LITERT, "several runs"),
        (logs.NEW.replace("Inference (avg): 150320", "Inference (avg): 99000"), "contradicts itself"),
        (logs.NEW.replace("min=150000 max=151000", "min=151000 max=150000"), "contradicts itself"),
        ("Inference timings in us: Init: 1, Inference (avg): 0", "shorter than its clock can tell"),
        ("Inference timings in us: Init: 1, Inference (avg): 1e300", "longer than an hour"),
        ("Inference timings in us: Init: 1, Inference (avg): nan", "no line of timings"),
        ("Inference timings in us: Init: 1, Inference (avg): -5", "no line of timings"),
        ("INFO: count=0\nINFO: count=0\n", "no line of timings"),
    ],
)
def test_no_result_and_why(text: str, reason: str) -> None:
    with pytest.raises(BackendError, match=reason):
        parse_benchmark_log(text)


def test_control_characters_go_to_no_terminal() -> None:
    log = logs.NEW.replace("INFO: count=7", "ERROR: \x1b[2Jred \x07alert\nINFO: count=7")
    assert parse_benchmark_log(log).errors == ("[2Jred  alert",)


def test_short_runs_are_told_by_their_average() -> None:
    """A median in whole microseconds is coarse there."""
    line = "count=9000 first=4 curr=2 min=2 max=60 avg=2.4 std=1 p5=2 median=2 p95=4\n"
    found = parse_benchmark_log(line + "Inference timings in us: Init: 1, First inference: 9, Inference (avg): 2.4")
    assert (found.statistic, found.typical_ms) == ("average", pytest.approx(0.0024))
    drawn = line.replace("avg=2.4", "avg=9.5")
    found = parse_benchmark_log(drawn + "Inference timings in us: Init: 1, First inference: 9, Inference (avg): 9.5")
    assert (found.statistic, found.typical_ms) == ("median", pytest.approx(0.002))


def test_a_log_has_a_bound() -> None:
    with pytest.raises(BackendError, match="more than"):
        parse_benchmark_log("x" * (MAX_LOG_CHARS + 1))


@pytest.mark.parametrize(
    "piece",
    [
        "count=1 ",
        "Replacing 1 ",
        "Failed to apply ",
        "1 operations will run ",
        "a delegate: ",
        "Inference timings in us: ",
        "Warmup (avg):" + " " * 5000,
        "[a" * 50 + ":1] ",
        "05-30 15:16:44.857  3380  3380 I tflite" + " " * 3000,
        "9" * 5000,
    ],
)
def test_hostile_repetition_takes_no_longer_than_its_length(piece: str) -> None:
    """Twice the text takes about twice the time; what is quadratic would take hours here."""
    text = piece * (2_000_000 // len(piece))
    started = time.monotonic()
    for variant in (text, "\n".join(text[start : start + 3000] for start in range(0, len(text), 3000))):
        with pytest.raises(BackendError):
            parse_benchmark_log(variant)
    assert time.monotonic() - started < 30


ODD_TEXTS = st.sampled_from(["9" * 40, "1e999", "-", "."])
KNOWN = [value for name, value in vars(logs).items() if name.isupper()]


@given(st.text(max_size=3000))
def test_any_text_gives_a_result_or_an_error_of_ours(text: str) -> None:
    parse_or_refuse(text)


@given(st.lists(st.sampled_from([line for log in KNOWN for line in log.splitlines()]), max_size=40))
def test_lines_in_any_order_give_a_result_or_an_error_of_ours(lines: list[str]) -> None:
    parse_or_refuse("\n".join(lines))


@settings(max_examples=300)
@given(
    st.sampled_from(KNOWN),
    st.lists(
        st.tuples(st.integers(0, 4000), st.integers(0, 30), st.text(max_size=12) | ODD_TEXTS),
        min_size=1,
        max_size=6,
    ),
)  # fmt: skip
def test_mutated_logs_give_a_result_or_an_error_of_ours(log: str, edits: list[tuple[int, int, str]]) -> None:
    for place, length, text in edits:
        start = place % (len(log) + 1)
        log = log[:start] + text + log[start + length :]
    parse_or_refuse(log)


def parse_or_refuse(text: str) -> None:
    """Parse: whatever comes out can be stored, or is an error of ours with something to read."""
    try:
        found = parse_benchmark_log(text)
    except DfmobileError:
        return
    assert 0 < found.average_ms <= 3.6e6
    assert 0 < found.typical_ms <= 3.6e6
    assert all(use.fraction is None or 0 <= use.fraction <= 1 for use in found.delegates)
    assert len(found.errors) <= 20
