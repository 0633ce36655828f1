"""ncnn models: text and binary param, weights stored in any way, layers found by what they compute."""

from __future__ import annotations

import numpy as np
import pytest
from export.importers.ncnn_files import binary_param, stored

from dfmobile.architecture import Architecture, build
from dfmobile.errors import FileFormatError, InputError
from dfmobile.export.importers.base import ImportedWeights
from dfmobile.export.importers.ncnn import import_ncnn
from dfmobile.export.importers.ncnn_bin import read_bin
from dfmobile.export.importers.ncnn_graph import ncnn_graph
from dfmobile.export.importers.ncnn_param import read_param
from dfmobile.export.ncnn import ncnn_model
from dfmobile.graph import initialise, reference
from dfmobile.graph.fold import fold_batch_norm, fold_weights
from dfmobile.runtimes.ncnn import NcnnModel

NAMES = ("net.param", "net.bin")
# A depthwise stem, shuffles, a pyramid whose first pool leaves one row, fixed transposed convs.
NETWORK = build(Architecture.parse("shuffle/2x16/2x32/2x64+seg:16,32,64"), 128, 64)
WEIGHTS = initialise(NETWORK.graph, 2)
MODEL = ncnn_model(NETWORK.graph, WEIGHTS)
HEAD = "DeconvolutionDepthWise score.upsample "
FOLDED = fold_weights(NETWORK.graph, WEIGHTS)


def imported(param: bytes | str, binary: bytes) -> ImportedWeights:
    data = param.encode() if isinstance(param, str) else param
    return import_ncnn(NETWORK.architecture, (64, 64), data, binary, NAMES)


def assert_equal(found: ImportedWeights, tolerance: float = 0.0) -> None:
    assert found.form == "deployed"
    assert set(found.weights) == set(FOLDED)
    for name, values in FOLDED.items():
        scale = np.abs(values).max() if name.endswith("weight") else 0.0
        np.testing.assert_allclose(found.weights[name], values, rtol=0, atol=tolerance * scale)


@pytest.mark.parametrize("binary", [False, True])
def test_what_is_exported_is_imported(binary: bool) -> None:
    found = imported(binary_param(MODEL.param) if binary else MODEL.param, MODEL.binary)
    assert_equal(found)
    assert found.unused == ()
    assert found.fixed == ("fusion4.upsample", "fusion3.upsample", "score.upsample")
    assert found.metadata["input"] == "128x64"  # the file's, not what was asked for


@pytest.mark.parametrize("how", ["fp16", "scaled", "table", "int8"])
def test_every_way_to_store_weights_is_read(how: str) -> None:
    tolerance = {"fp16": 1e-3, "scaled": 0.0, "table": 1 / 200, "int8": 1 / 200}[how]
    # A table makes the fixed kernels inexact, so that they are no longer those.
    network = build(Architecture.parse("df,stem=8s1,classes=10/8/16/24"), 16, 16)
    weights = initialise(network.graph, 1)
    model = stored(ncnn_model(network.graph, weights), how)
    found = import_ncnn(network.architecture, (16, 16), model.param.encode(), model.binary, NAMES)
    for name, values in fold_weights(network.graph, weights).items():
        atol = tolerance * np.abs(values).max() if name.endswith("weight") else 0.0
        np.testing.assert_allclose(found.weights[name], values, rtol=0, atol=atol)


def test_other_heads_are_reported_and_custom_layers_passed_over() -> None:
    lines = MODEL.param.splitlines()
    layers, blobs = map(int, lines[1].split())
    # A second reader of the last features, and a layer of the program's own.
    position = next(index for index, line in enumerate(lines) if line.startswith(HEAD))
    source = lines[position].split()[4]
    lines[position] = lines[position].replace(f" {source} ", " twin/1 ", 1)
    lines.insert(position, f"Split twin 1 2 {source} twin/1 twin/2")
    lines += ["Convolution second 1 1 twin/2 second 0=2 1=1 5=1 6=38", "custom300 own 1 1 second own"]
    lines[1] = f"{layers + 3} {blobs + 4}"
    extra = np.zeros(1 + 38 + 2, np.float32).tobytes()
    found = imported("\n".join(lines), MODEL.binary + extra)
    assert_equal(found)
    assert [(item.name, item.elements) for item in found.unused] == [("second", 40)]


def test_a_network_held_twice_is_refused() -> None:
    lines = MODEL.param.splitlines()
    layers, blobs = map(int, lines[1].split())
    head = next(line for line in lines if line.startswith(HEAD))
    again = head.replace("DeconvolutionDepthWise score.upsample", "DeconvolutionDepthWise again")
    source = head.split()[4]
    position = lines.index(head)
    lines[position : position + 1] = [
        f"Split twin 1 2 {source} twin/1 twin/2",
        head.replace(f" {source} ", " twin/1 ", 1),
        again.replace(f" {source} ", " twin/2 ", 1).replace(" score.upsample ", " again ", 1),
    ]
    lines[1] = f"{layers + 2} {blobs + 3}"
    kernel = MODEL.binary[-4 * (19 * 16 + 1) :]
    with pytest.raises(InputError, match="holds the network 2 times"):
        imported("\n".join(lines), MODEL.binary + kernel)


def test_the_file_of_another_network_is_refused_naming_the_layer() -> None:
    with pytest.raises(InputError, match=r"net.param is not this network: nothing in it is stage3.block1.left.conv"):
        import_ncnn(
            Architecture.parse("shuffle/2x24/2x48/2x96+seg:16,32,64"),
            (64, 64),
            MODEL.param.encode(),
            MODEL.binary,
            NAMES,
        )
    odd = MODEL.param.replace("0=128 1=64 2=3", "0=100 1=64 2=3").encode()
    with pytest.raises(InputError, match="is for an input of 100x64"):
        import_ncnn(NETWORK.architecture, (64, 64), odd, MODEL.binary, NAMES)


def test_a_trained_upsampling_is_told() -> None:
    kernel = np.frombuffer(MODEL.binary[-4 * 19 * 16 :], "<f4") * 1.01
    changed = MODEL.binary[: -4 * 19 * 16] + kernel.astype("<f4").tobytes()
    with pytest.raises(InputError, match=r"score.upsample.*not with the fixed bilinear kernel"):
        imported(MODEL.param, changed)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("7767517", "7767518", "no param file"),
        ("Input image 0 1 image", "Input image 0 1 picture", "reads blob image, which no earlier"),
        ("Input image 0 1 image", "Input image 0 2 image image", "writes blob image again"),
        (" 6=648 ", " 6=649 ", "cut off|bytes|not this network"),
        (" 6=648 ", " 6=1.5 ", "needs .* bytes|claims"),
        (" 6=648 ", " 6=-5 ", "claims -5 weights"),
        (" 6=648 ", " six=6 ", "not readable"),
        ("ShuffleChannel", "PReLU", "whose weights are not known"),
    ],
)
def test_damaged_files_are_told(old: str, new: str, message: str) -> None:
    param = MODEL.param.replace(old, new, 1)
    if old.startswith(" 6="):
        line = next(line for line in MODEL.param.splitlines() if line.startswith("Convolution "))
        size = next(field for field in line.split() if field.startswith("6="))
        param = MODEL.param.replace(line, line.replace(f" {size} ", new.replace("649", str(int(size[2:]) + 1))), 1)
    with pytest.raises((FileFormatError, InputError), match=message):
        imported(param, MODEL.binary)


def test_a_bin_that_is_too_short_or_long_is_told() -> None:
    with pytest.raises(FileFormatError, match=r"needs .* bytes at"):
        imported(MODEL.param, MODEL.binary[:-4])
    with pytest.raises(FileFormatError, match=r"4 of .* bytes follow"):
        imported(MODEL.param, MODEL.binary + b"\0" * 4)
    nan = MODEL.binary[:8] + np.float32(np.nan).tobytes() + MODEL.binary[12:]
    with pytest.raises(FileFormatError, match="not finite"):
        imported(MODEL.param, nan)


UNFOLDED = """7767517
6 6
Input image 0 1 image 0=5 1=4 2=3
Convolution conv 1 1 image conv 0=4 1=3 4=1 6=108
BatchNorm norm 1 1 conv norm 0=4 1=0.001
Scale scale 1 1 norm scale 0=4 1=1
ReLU relu 1 1 scale relu
Pooling pool 1 1 relu pool 0=1 4=1
"""


def test_unfolded_batch_norms_are_folded_as_ncnn_computes_them() -> None:
    generator = np.random.default_rng(0)
    values = {
        "conv": generator.standard_normal(108),
        "norm": generator.uniform(0.5, 2, (4, 4)),
        "scale": [1, 2, 3, 4] * 2,
    }
    binary = b"\0\0\0\0" + b"".join(np.asarray(item, "<f4").tobytes() for item in values.values())
    layers = read_param(UNFOLDED.encode(), "p")
    found = ncnn_graph(layers, read_bin(layers, binary, "b"), (1, 3, 4, 5))
    assert found.left_out == {}
    assert found.merged == {"scale": "norm"}
    image = generator.standard_normal((1, 3, 4, 5)).astype(np.float32)
    graph, weights = fold_batch_norm(found.graph), fold_weights(found.graph, found.weights)
    (actual,) = reference.run(graph, weights, {found.graph.inputs[0][0]: image}).values()
    pytest.importorskip("ncnn")
    from dfmobile.runtimes.ncnn import NcnnRunner

    with NcnnRunner(NcnnModel(UNFOLDED, binary)) as runner:
        (expected,) = runner.run([image])
    np.testing.assert_allclose(actual.ravel(), expected.ravel(), atol=1e-5)
