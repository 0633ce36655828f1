"""Files of times and profiles that trtexec writes, and profiles that it prints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import trtexec_texts as texts
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.errors import FileFormatError
from dfmobile.latency.tensorrt import layer_profile, times
from dfmobile.latency.tensorrt.layer_profile import ProfiledLayer, parse_dump_profile, parse_export_profile
from dfmobile.latency.tensorrt.times import parse_export_times


def profile(*names: str, median: bool = True) -> bytes:
    middle = ', "medianMs" : 0.5' if median else ""
    rows = [
        f', {{ "name" : "{name}", "timeMs" : 50, "averageMs" : 0.5{middle}, "percentage" : {100 / len(names):g} }}\n'
        for name in names
    ]
    return ('[\n  { "count" : 100 }\n' + "".join(rows) + "]\n").encode()


class TestTimes:
    def test_7_swaps_copying_in_and_enqueueing(self) -> None:
        read = parse_export_times(texts.TIMES_7)
        assert (read.compute_ms.tolist(), read.latency_ms.tolist()) == ([2], [3])
        assert (read.enqueue_ms.tolist(), read.h2d_ms.tolist(), read.d2h_ms.tolist()) == ([0.25], [0.5], [0.5])
        assert read.end_to_end_ms is not None

    def test_8_2_holds_the_warm_up(self) -> None:
        read = parse_export_times(texts.TIMES_8_2)
        assert read.compute_ms.tolist() == [2, 1.9]
        np.testing.assert_allclose(read.enqueue_ms, [0.2, 0.1])
        timed = read.without_warm_up(3)
        assert timed.compute_ms.tolist() == [1.9]
        assert timed.end_to_end_ms is not None
        assert timed.end_to_end_ms.tolist() == [2.3]
        assert len(read.without_warm_up(0)) == 2
        with pytest.raises(FileFormatError, match="all 2 runs"):
            read.without_warm_up(10)

    def test_a_later_version_has_no_end_to_end(self) -> None:
        data = texts.TIMES_8_2.replace(b', "endToEndMs" : 2.4', b"").replace(b', "endToEndMs" : 2.3', b"")
        assert parse_export_times(data).end_to_end_ms is None

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "no JSON"),
            (b"\xff\xfe", "no JSON"),
            (b"[", "no JSON"),
            (b"[]", "no array of runs"),
            (b"{}", "no array of runs"),
            (b"[1]", "run 0 .* no number startComputeMs"),
            (b"[" * 100_000, "no JSON"),
            (texts.TIMES_8_2[:-40], "no JSON"),
            (texts.TIMES_8_2.replace(b'"computeMs" : 1.9', b'"computeMs" : "x"'), "run 1 .* no number computeMs"),
            (texts.TIMES_8_2.replace(b'"computeMs" : 1.9', b'"computeMs" : true'), "no number computeMs"),
            (texts.TIMES_8_2.replace(b'"computeMs" : 1.9', b'"computeMs" : -1.9'), "negative computeMs"),
            (texts.TIMES_8_2.replace(b'"computeMs" : 1.9', b'"computeMs" : NaN'), "computeMs 'nan'"),
            (texts.TIMES_8_2.replace(b'"computeMs" : 1.9', b'"computeMs" : 1e999'), "computeMs 'inf'"),
            (texts.TIMES_8_2.replace(b'"computeMs" : 1.9', b'"computeMs" : ' + b"9" * 400), "computeMs"),
            (texts.TIMES_8_2.replace(b'"computeMs" : 1.9', b'"computeMs" : ' + b"9" * 5000), "no JSON"),
            (texts.TIMES_8_2.replace(b', "endToEndMs" : 2.3', b""), "run 1 .* no number endToEndMs"),
        ],
    )
    def test_damaged_files(self, data: bytes, message: str) -> None:
        with pytest.raises(FileFormatError, match=message):
            parse_export_times(data)

    def test_a_file_too_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(times, "MAX_BYTES", 10)
        with pytest.raises(FileFormatError, match="more than 10"):
            parse_export_times(texts.TIMES_7)

    def test_a_real_file_of_an_a100(self, reference: Path) -> None:
        head = (reference / "tensorrt" / "A100_fp16_resnet.onnx.engine.timing.json.head").read_bytes()
        with pytest.raises(FileFormatError, match="no JSON"):
            parse_export_times(head)  # the reference keeps only its first 3000 bytes
        read = parse_export_times(head[: head.rindex(b"\n")] + b"]")
        assert read.compute_ms.tolist() == [
            0.873472, 0.8448, 0.843776, 0.843776, 0.843776, 0.845824, 0.843776, 0.843776, 0.842752, 0.843777, 0.8448,
        ]  # fmt: skip
        assert read.latency_ms.tolist() == read.compute_ms.tolist()  # it ran without transfers
        assert read.enqueue_ms[0] == pytest.approx(0.03389)
        assert read.end_to_end_ms is None


class TestExportedProfile:
    def test_names_are_taken_as_they_are(self) -> None:
        names = ['a "quoted" one', "back\\slash \\n", "two\nlines", "{ForeignNode[a...b]}, }", "", "\x1e", "ü"]
        layers, count = parse_export_profile(profile(*names))
        assert [layer.name for layer in layers] == names
        assert count == 100
        assert {layer.time_ms_total for layer in layers} == {50}

    def test_a_profile_without_medians(self) -> None:
        assert parse_export_profile(profile("a", median=False))[0] == [ProfiledLayer("a", 50, 0.5, None, 100)]

    @pytest.mark.parametrize(
        ("data", "message"),
        [
            (b"", "cut off"),
            (b"[\n]\n", "cut off"),
            (profile("a", "b")[:-3], "cut off"),
            (b"[\nx\n]\n", "number of runs"),
            (b'[\n  { "count" : 1 }\nnonsense\n]\n', "no entry of a layer at 'nonsense'"),
            (profile("a").replace(b'"percentage" : 100', b'"percentage" : -nan'), "no times of the layer 'a'"),
            (profile("a").replace(b'"timeMs" : 50', b'"timeMs" : -50'), "no times"),
        ],
    )
    def test_damaged_files(self, data: bytes, message: str) -> None:
        with pytest.raises(FileFormatError, match=message):
            parse_export_profile(data)

    def test_limits(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(layer_profile, "MAX_LAYERS", 2)
        with pytest.raises(FileFormatError, match="more than 2 layers"):
            parse_export_profile(profile("a", "b", "c"))
        monkeypatch.setattr(layer_profile, "MAX_BYTES", 10)
        with pytest.raises(FileFormatError, match="more than 10"):
            parse_export_profile(profile("a"))

    def test_a_real_file_of_an_a100(self, reference: Path) -> None:
        data = (reference / "tensorrt" / "A100_fp16_resnet.onnx.engine.profile.json").read_bytes()
        layers, count = parse_export_profile(data)
        assert (count, len(layers)) == (1, 36)
        assert layers[1] == ProfiledLayer("Conv_0 + Relu_1", 0.111616, 0.111616, 0.111616, 10.9768)
        assert layers[-1].name == "Reformatting CopyNode for Output Tensor 0 to reshape_after_Gemm_48"
        assert sum(layer.time_ms_total for layer in layers) == pytest.approx(1.016832)


class TestPrintedProfile:
    def test_the_name_first(self) -> None:
        assert parse_dump_profile(texts.PROFILE_8_2) == [
            ProfiledLayer("conv 1 + relu", 60, 0.6, None, 60),
            ProfiledLayer("a very long name that is (", 40, 0.4, None, 40),
        ]

    def test_the_name_last(self) -> None:
        assert parse_dump_profile("something else\n" + texts.PROFILE_8_6 + "&&&& PASSED\n") == [
            ProfiledLayer("conv 1 + relu", 60, 0.6, 0.59, 60),
            ProfiledLayer('"quoted" \\ name 7.0', 40, 0.4, 0.4, 40),
        ]

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "no profile"),
            (texts.PROFILE_8_6 + texts.PROFILE_8_6, "two profiles"),
            (texts.PROFILE_8_6[: texts.PROFILE_8_6.index("100.00")], "no row"),
            ("\n".join(texts.PROFILE_8_6.splitlines()[:4]), "cut off"),
            (texts.PROFILE_8_6.replace("Avg.(ms)", "Mean(ms)"), "columns that no known version has"),
            (texts.PROFILE_8_6.replace("0.6000", "-nan"), "no times of the layer"),
            ("\n".join(texts.PROFILE_8_6.splitlines()[:1]), "no profile"),
        ],
    )
    def test_damaged_tables(self, text: str, message: str) -> None:
        with pytest.raises(FileFormatError, match=message):
            parse_dump_profile(text)

    def test_real_tables(self, reference: Path) -> None:
        text = (reference / "tensorrt" / "trtexec_8.5.2_xavier_profile_excerpt.log").read_text(encoding="utf-8")
        assert parse_dump_profile(text) == [
            ProfiledLayer("[HostToDeviceCopy 0]", 16.77, 0.0543, 0.0285, 0.5),
            ProfiledLayer(
                "Reformatting CopyNode for Input Tensor 0 to conv1 + PWN(re_lu_clip)", 17.29, 0.056, 0.042, 0.6
            ),
            ProfiledLayer("conv1 + PWN(re_lu_clip)", 28.84, 0.0933, 0.0895, 0.9),
            ProfiledLayer("res2a_branch2b + tf_op_layer_add/add + PWN(re_lu_2_clip)", 39.88, 0.1291, 0.1253, 1.3),
            ProfiledLayer("res5a_branch1", 11.37, 0.0368, 0.0361, 0.4),
            ProfiledLayer("{ForeignNode[lstm_W...Max_reduce_min]}", 2130.62, 6.8952, 6.2962, 69.4),
        ]
        rows = parse_dump_profile(
            (reference / "tensorrt" / "trtexec_10.16.1_result_05.log").read_text(encoding="utf-8")
        )
        assert len(rows) == 15
        assert rows[0] == ProfiledLayer("__mye59_0_myl0_0", 31.4, 0.0017, 0.0018, 2.1)
        assert rows[3].name == "Reformatting CopyNode for Input Tensor 0 to {ForeignNode[node_conv2d_1...node_relu_1]}"
        assert sum(row.time_ms_total for row in rows) == pytest.approx(1529.13, abs=0.08)


@given(st.binary() | st.text().map(str.encode))
def test_any_file_is_read_or_refused(data: bytes) -> None:
    for parse in (parse_export_times, parse_export_profile):
        try:
            parse(data)
        except FileFormatError:
            continue


@given(st.sampled_from([texts.TIMES_7, texts.TIMES_8_2, profile("a", "b")]), st.data())
def test_mutated_files_are_read_or_refused(data: bytes, draw: st.DataObject) -> None:
    start = draw.draw(st.integers(0, len(data)))
    end = draw.draw(st.integers(start, min(len(data), start + 30)))
    test_any_file_is_read_or_refused.hypothesis.inner_test(data[:start] + draw.draw(st.binary(max_size=5)) + data[end:])  # type: ignore[attr-defined]


@given(st.lists(st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"])), min_size=1, max_size=5))
def test_every_name_round_trips(names: list[str]) -> None:
    # A name that imitates the end of its own entry cannot be told from one.
    assert [layer.name for layer in parse_export_profile(profile(*names))[0]] == names
