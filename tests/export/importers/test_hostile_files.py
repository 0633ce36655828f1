"""Damaged and hostile weight files: one clear error, bounded memory, nothing written."""

from __future__ import annotations

import io
import json
import struct
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from export.importers.caffe_files import caffemodel, integer, layer, nested, trained_layers, varint
from export.importers.ncnn_files import binary_param
from hypothesis import given, settings
from hypothesis import strategies as st

from dfmobile.architecture import Architecture, build
from dfmobile.errors import DfmobileError, FileFormatError, InputError
from dfmobile.export.importers import ImportedWeights, import_weights
from dfmobile.export.importers.safetensors import read_safetensors
from dfmobile.export.ncnn import ncnn_model
from dfmobile.export.weights import save_weights
from dfmobile.graph import Weights, initialise

NETWORK = build(Architecture.parse("df,stem=4s1,classes=5/4/6/8"), 16, 16)
WEIGHTS = initialise(NETWORK.graph, 1)
MODEL = ncnn_model(NETWORK.graph, WEIGHTS)


def safetensors_file(weights: Weights, **header: object) -> bytes:
    entries: dict[str, object] = {}
    content = b""
    for name, values in weights.items():
        data = values.astype("<f4").tobytes()
        entries[name] = {
            "dtype": "F32",
            "shape": list(values.shape),
            "data_offsets": [len(content), len(content) + len(data)],
        }
        content += data
    text = json.dumps({**entries, **header}).encode()
    return struct.pack("<Q", len(text)) + text + content


def npz_file(weights: Weights) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **weights)  # type: ignore[arg-type]
    return stream.getvalue()


FILES: dict[str, list[bytes]] = {
    "ncnn, text": [MODEL.param.strip().encode(), MODEL.binary],
    "ncnn, binary": [binary_param(MODEL.param), MODEL.binary],
    "caffe, V1": [caffemodel(trained_layers(NETWORK.graph, WEIGHTS), version=1)],
    "caffe, V2": [caffemodel(trained_layers(NETWORK.graph, WEIGHTS))],
    "safetensors": [safetensors_file(WEIGHTS)],
    "npz": [npz_file(WEIGHTS)],
}


def imported(folder: Path, contents: list[bytes]) -> ImportedWeights:
    paths = [folder / f"weights{number}" for number in range(len(contents))]
    for path, data in zip(paths, contents, strict=True):
        path.write_bytes(data)
    return import_weights(NETWORK.architecture, (16, 16), paths)


@pytest.mark.parametrize("kind", FILES)
def test_whole_files_are_read(tmp_path: Path, kind: str) -> None:
    found = imported(tmp_path, FILES[kind])
    assert found.format == kind.split(",")[0]
    if found.form == "training":
        for name, values in WEIGHTS.items():
            np.testing.assert_allclose(found.weights[name], values, rtol=1e-5)


@pytest.mark.parametrize("kind", FILES)
def test_truncated_files_are_told(tmp_path_factory: pytest.TempPathFactory, kind: str) -> None:
    folder = tmp_path_factory.mktemp("cut")

    @settings(max_examples=25)
    @given(which=st.integers(0, len(FILES[kind]) - 1), share=st.floats(0, 1, exclude_max=True))
    def check(which: int, share: float) -> None:
        contents = list(FILES[kind])
        contents[which] = contents[which][: int(share * len(contents[which]))]
        with pytest.raises(DfmobileError):
            imported(folder, contents)

    check()


@pytest.mark.parametrize("kind", FILES)
def test_changed_bytes_are_told_or_only_change_weights(tmp_path_factory: pytest.TempPathFactory, kind: str) -> None:
    folder = tmp_path_factory.mktemp("flipped")
    size = sum(map(len, FILES[kind]))

    @settings(max_examples=40)
    @given(
        flips=st.lists(
            st.tuples(st.integers(0, 1), st.integers(0, 2**20), st.integers(1, 255)), min_size=1, max_size=4
        ),
        head=st.booleans(),
    )
    def check(flips: list[tuple[int, int, int]], head: bool) -> None:
        contents = [bytearray(data) for data in FILES[kind]]
        for which, position, mask in flips:
            target = contents[which % len(contents)]
            target[position % (min(len(target), 400) if head else len(target))] ^= mask
        tracemalloc.start()
        try:
            found = imported(folder, [bytes(data) for data in contents])
            assert all(np.isfinite(values).all() for values in found.weights.values())
        except DfmobileError:
            pass  # anything else would fail the test
        finally:
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert peak < 60 * size + 2**22

    check()


def _ncnn(change: Callable[[str], str]) -> list[bytes]:
    return [change(MODEL.param).encode(), MODEL.binary]


def _words(*words: int) -> bytes:
    return struct.pack(f"<{len(words)}i", *words)


def _zip_bomb() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        header = io.BytesIO()
        np.lib.format.write_array_header_1_0(header, {"descr": "<f4", "fortran_order": False, "shape": (2**24,)})
        archive.writestr("w.npy", header.getvalue() + bytes(2**26))
    return stream.getvalue()


HUGE = 2**31 - 1
HOSTILE: dict[str, list[bytes]] = {
    "ncnn: layers": _ncnn(lambda text: text.replace("7767517\n", f"7767517\n{HUGE} 1\n")),
    "ncnn: weights": _ncnn(lambda text: text.replace(" 6=", f" 6={HUGE // 4}0", 1)),
    "ncnn: outputs": _ncnn(lambda text: text.replace(" 0=4 ", f" 0={HUGE} ", 1)),
    "ncnn: input": _ncnn(lambda text: text.replace("0=16 1=16 2=3", f"0={HUGE} 1={HUGE} 2={HUGE}")),
    "ncnn: inputs of a layer": _ncnn(
        lambda text: text.replace("Convolution stem.conv1 1 1", f"Convolution c {HUGE} 1")
    ),
    "ncnn binary: layers": [_words(7767517, HUGE, HUGE), b""],
    "ncnn binary: links": [_words(7767517, 1, 1, 6, HUGE, HUGE), b""],
    "ncnn binary: array": [_words(7767517, 1, 1, 6, 0, 0, -23300, HUGE), b""],
    "ncnn binary: parameters without end": [_words(7767517, 1, 1, 6, 0, 0, *[1, 1] * 5_000), b""],
    "caffe: shape": [
        layer(2, "conv1", "Convolution", ["a"], ["b"], [nested(7, nested(1, varint(2**40) * 3)) + nested(5, b"")])
    ],
    "caffe: legacy shape": [layer(2, "conv1", "Convolution", ["a"], ["b"], [integer(1, 2**62) + nested(5, bytes(8))])],
    "caffe: length": [nested(1, "net") + varint(100 << 3 | 2) + varint(2**63)],
    "caffe: endless number": [b"\x0a" + b"\xff" * 64],
    "caffe: group": [b"\x0a\x01x\x0b\x0c" * 10],
    "caffe: values one by one": [layer(2, "c", "Convolution", ["a"], ["b"], [(varint(5 << 3 | 5) + bytes(4)) * 5000])],
    "caffe: layers": [nested(1, "x") + nested(100, b"") * 11_000],
    "caffe: name": [nested(1, "x") + nested(100, nested(1, "n" * 10**6))],
    "caffe: blobs": [nested(1, "x") + layer(2, "c", "Convolution", ["a"], ["b"], [b""] * 1000)],
    "safetensors: header": [struct.pack("<Q", 5 * 2**20) + b"{" + b" " * (5 * 2**20)],
    "safetensors: depth": [struct.pack("<Q", 200_001) + b'{"a":' + b"[" * 199_996],
    "safetensors: shape": [safetensors_file({}, a={"dtype": "F32", "shape": [2**40, 2**40], "data_offsets": [0, 0]})],
    "safetensors: offsets": [safetensors_file({}, a={"dtype": "F32", "shape": [0], "data_offsets": [2**60, 2**60]})],
    "safetensors: one place for all": [
        safetensors_file(
            {"w": np.zeros(2**18, np.float32)},
            **{f"t{n}": {"dtype": "F32", "shape": [2**18], "data_offsets": [0, 2**20]} for n in range(2000)},
        )
    ],
    "safetensors: type": [safetensors_file({}, a={"dtype": ["F32"], "shape": [0], "data_offsets": [0, 0]})],
    "npz: bomb": [_zip_bomb()],
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_sizes_take_no_memory(tmp_path: Path, case: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises((FileFormatError, InputError)) as caught:
            imported(tmp_path, HOSTILE[case])
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert caught.value.hint
    assert len(str(caught.value)) < 1200
    assert peak < 48 * 2**20


def test_files_of_no_known_kind_are_told(tmp_path: Path) -> None:
    for data, message in (
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
        (b"\x80\x02}q\x00.", "no known format"),
        (b"", "no known format"),
    ):
        with pytest.raises(InputError, match=message):
            imported(tmp_path, [data])
    with pytest.raises(InputError, match="has no weights"):
        imported(tmp_path, [MODEL.param.encode()])
    with pytest.raises(InputError, match="two files are ncnn's"):
        imported(tmp_path, [b"x", b"y"])
    with pytest.raises(InputError, match="3 files are given"):
        imported(tmp_path, [b"x"] * 3)


def test_tensors_of_our_formats_are_all_needed_and_known(tmp_path: Path) -> None:
    first = next(iter(WEIGHTS))
    with pytest.raises(InputError, match=r"1 tensors that belong to no layer: other"):
        imported(tmp_path, [safetensors_file({**WEIGHTS, "other": np.zeros(3, np.float32)})])
    with pytest.raises(InputError, match=r"lacks 1 of \d+ weights"):
        imported(tmp_path, [safetensors_file({name: values for name, values in WEIGHTS.items() if name != first})])
    with pytest.raises(InputError, match="other shapes"):
        imported(tmp_path, [safetensors_file({**WEIGHTS, first: np.zeros(3, np.float32)})])


def test_metadata_of_our_files_are_kept(tmp_path: Path) -> None:
    save_weights(tmp_path / "w.npz", WEIGHTS, {"note": "kept"})
    assert import_weights(NETWORK.architecture, (16, 16), [tmp_path / "w.npz"]).metadata == {"note": "kept"}
    data = safetensors_file(WEIGHTS, __metadata__={"note": "kept"})
    assert imported(tmp_path, [data]).metadata == {"note": "kept"}


def test_bfloat16_and_other_floats_are_read() -> None:
    values = np.array([[1.0, -2.5, 0.0078125]], np.float32)
    upper = (values.view(np.uint32) >> 16).astype("<u2").tobytes()
    for kind, data in (
        ("BF16", upper),
        ("F16", values.astype("<f2").tobytes()),
        ("F64", values.astype("<f8").tobytes()),
    ):
        text = json.dumps({"w": {"dtype": kind, "shape": [1, 3], "data_offsets": [0, len(data)]}}).encode()
        tensors, _ = read_safetensors(struct.pack("<Q", len(text)) + text + data, "x")
        np.testing.assert_array_equal(tensors["w"], values)


def test_files_of_the_safetensors_package_are_read(tmp_path: Path) -> None:
    package = pytest.importorskip("safetensors.numpy")
    package.save_file(WEIGHTS, tmp_path / "w.safetensors", {"note": "theirs"})
    found = import_weights(NETWORK.architecture, (16, 16), [tmp_path / "w.safetensors"])
    assert (found.format, found.metadata) == ("safetensors", {"note": "theirs"})
    assert all(np.array_equal(found.weights[name], values) for name, values in WEIGHTS.items())
