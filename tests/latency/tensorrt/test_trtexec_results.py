"""What comes back from a board in one log, taken apart: untrusted, and never a crash."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.devices.batch import BatchResult
from dfmobile.errors import BackendError
from dfmobile.latency.tensorrt.trtexec_results import elapsed_ms, read_log, read_trace, split_marked

NAMES = (b"dfmobile-times", b"dfmobile-trace")


def marked(name: bytes, content: bytes) -> bytes:
    return b"\n" + name + b"-begin\n" + content + b"\n" + name + b"-end\n"


def test_files_come_apart_from_the_log() -> None:
    log = b"[I] a line" + marked(NAMES[0], b"[{}]") + marked(NAMES[1], b"start 1")
    assert split_marked(log, NAMES) == {b"": b"[I] a line", NAMES[0]: b"[{}]\n", NAMES[1]: b"start 1\n"}


def test_a_file_that_is_cut_off_is_none() -> None:
    log = b"[I] a line" + marked(NAMES[0], b"[{}]")[:-3]
    assert split_marked(log, NAMES) == {b"": b"[I] a line"}


@given(st.lists(st.sampled_from([b"x", b"\n", *(m for n in NAMES for m in (n + b"-begin\n", n + b"-end\n"))])))
def test_any_order_of_marks_is_taken_apart(parts: list[bytes]) -> None:
    found = split_marked(b"".join(parts), NAMES)
    assert set(found) <= {b"", *NAMES}


@given(st.binary(max_size=300))
def test_rubbish_is_no_trace_and_an_error_that_names_it(content: bytes) -> None:
    trace, why = read_trace(content)
    assert trace is None
    assert why
    try:
        read_log(content.decode("utf-8", "replace"), "timing m.onnx")
    except BackendError as error:
        assert str(error).startswith("timing m.onnx: ")  # noqa: PT017 - most rubbish is a log that says nothing


def test_no_trace_is_none_and_says_so() -> None:
    assert read_trace(None) == (None, "tegrastats left no log")


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        (("2026-01-01T00:00:00+00:00", "2026-01-01T00:00:02+00:00"), 2000.0),
        (("2026-01-01T00:00:02+00:00", "2026-01-01T00:00:00+00:00"), 0.0),  # the board's clock was set
        (("2026-01-01T00:00:00+00:00", "2026-01-01T00:00:02"), None),
        (("2026-01-01T00:00:00+00:00", None), None),
    ],
)
def test_a_time_between_dates_that_cannot_be_compared_is_unknown(
    times: tuple[object, object], expected: float | None
) -> None:
    before, after = ({"time_utc": text} for text in times)
    assert elapsed_ms(BatchResult("b", 0, b"", before, after)) == expected


def test_two_runs_in_one_log_are_refused() -> None:
    banner = "&&&& RUNNING TensorRT.trtexec [TensorRT v8502] # trtexec\n"
    with pytest.raises(BackendError, match=r"timing m\.onnx"):
        read_log(banner + banner, "timing m.onnx")
