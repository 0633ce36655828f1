"""PL1A-Seg with its authors' weights: the deployed ncnn files, imported, give the masks that ncnn gives, everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dfmobile.architecture import build, zoo
from dfmobile.data.input_preprocessing import Preprocessing
from dfmobile.errors import InputError
from dfmobile.export.importers import import_weights
from dfmobile.export.importers.about import about_weights
from dfmobile.export.importers.ncnn_param import NcnnLayer, read_param
from dfmobile.export.ncnn import ncnn_model
from dfmobile.export.network_weights import network_weights
from dfmobile.export.onnx import onnx_bytes
from dfmobile.export.tflite import tflite_bytes
from dfmobile.export.weights import save_weights
from dfmobile.graph import reference as numpy_reference
from dfmobile.runtimes import ModelRunner

FRAMES = ("frame_1", "frame_300")
NETWORK = build(zoo.get("PL1A-Seg").architecture, 640, 384)
SCORES_BLOB = "217"  # of the original: what its own argmax reads, but for a softmax
LOGITS_WITHIN, PIXELS_EQUAL = 2e-4, 0.999


@pytest.fixture(scope="module")
def folder(reference: Path) -> Path:
    return reference / "pl1a"


@pytest.fixture(scope="module")
def weights_file(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    files = [folder / "pl1a_new.param.bin", folder / "pl1a_new.bin"]
    found = import_weights(NETWORK.architecture, (640, 384), files)
    assert sum(values.size for values in found.weights.values()) == 362_417
    assert found.fixed == ("fusion4.upsample", "fusion3.upsample", "score.upsample")
    assert [item.elements for item in found.unused] == [4864, 76]  # the heads at other strides
    path = tmp_path_factory.mktemp("pl1a") / "w.npz"
    save_weights(path, found.weights, about_weights(NETWORK.architecture, found, ["files"], None)[0])
    return path


@pytest.fixture(scope="module")
def loaded(weights_file: Path) -> Any:
    return network_weights(NETWORK, weights_file)


@pytest.fixture(scope="module")
def images(folder: Path, loaded: Any) -> dict[str, np.ndarray]:
    preprocessing = Preprocessing.of_weights(loaded[2])
    assert preprocessing.channels == "BGR"
    found = {}
    for name in FRAMES:
        pixels = np.asarray(Image.open(folder / f"{name}.png").convert("RGB")).transpose(2, 0, 1)
        found[name] = preprocessing.apply(pixels)[None]
    return found


@pytest.fixture(scope="module")
def expected(loaded: Any, images: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    graph, weights, _ = loaded
    return {
        name: next(iter(numpy_reference.run(graph, weights, {"image": image}).values()))
        for name, image in images.items()
    }


def assert_same_masks(folder: Path, name: str, scores: np.ndarray, expected: np.ndarray) -> None:
    labels = np.asarray(Image.open(folder / f"{name}_labels.png"))
    assert scores.shape == (1, 19, *labels.shape)
    assert np.abs(scores - expected).max() < LOGITS_WITHIN
    assert np.mean(scores[0].argmax(axis=0) == labels) >= PIXELS_EQUAL


def by_litert(graph: Any, weights: Any) -> ModelRunner:
    from dfmobile.runtimes.litert import LiteRTRunner

    return LiteRTRunner(tflite_bytes(graph, weights))


def by_onnx_runtime(graph: Any, weights: Any) -> ModelRunner:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    from dfmobile.runtimes.onnxruntime import OnnxRuntimeRunner

    return OnnxRuntimeRunner(onnx_bytes(graph, weights))


def by_ncnn(graph: Any, weights: Any) -> ModelRunner:
    pytest.importorskip("ncnn")
    from dfmobile.runtimes.ncnn import NcnnRunner

    return NcnnRunner(ncnn_model(graph, weights))


@pytest.mark.parametrize("open_runner", [by_litert, by_onnx_runtime, by_ncnn])
def test_every_runtime_gives_the_masks_of_the_phone(
    folder: Path, loaded: Any, images: Any, expected: Any, open_runner: Any
) -> None:
    with open_runner(*loaded[:2]) as runner:
        for name in FRAMES:
            assert_same_masks(folder, name, runner.run([images[name]])[0], expected[name])


def test_torch_gives_the_masks_of_the_phone(folder: Path, loaded: Any, images: Any, expected: Any) -> None:
    torch = pytest.importorskip("torch")
    from dfmobile.export.torch_module import torch_module

    torch.set_num_threads(1)
    module = torch_module(*loaded[:2]).eval()
    for name in FRAMES:
        with torch.no_grad():
            scores = module(torch.from_numpy(images[name])).numpy()
        assert_same_masks(folder, name, scores, expected[name])


def test_the_reference_gives_the_masks_of_the_phone(folder: Path, expected: Any) -> None:
    for name in FRAMES:
        assert_same_masks(folder, name, expected[name], expected[name])


def text_param(layers: list[NcnnLayer]) -> Iterator[str]:
    """Yield the lines of a text param file; of slices the first parameter is an array."""
    for layer in layers:
        fields = [layer.type, layer.name, str(len(layer.bottoms)), str(len(layer.tops)), *layer.bottoms, *layer.tops]
        sizes = layer.parameters.integers(0)
        if layer.type == "Slice":
            fields.append(f"-23300={len(sizes)},{','.join(map(str, sizes))}")
        for number in range(layer.type == "Slice", 32):
            value = layer.parameters.integers(number)
            fields += [f"{number}={item}" for item in value]  # no layer of it has a float
        yield " ".join(fields)


def test_the_original_files_in_ncnn_agree(
    folder: Path, tmp_path: Path, loaded: Any, images: Any, expected: Any
) -> None:
    ncnn = pytest.importorskip("ncnn")
    # The wheel has no ArgMax: the original without its last layers, which have no weights, so that its bin fits.
    layers = [
        layer
        for layer in read_param((folder / "pl1a_new.param.bin").read_bytes(), "original")
        if layer.type not in ("ArgMax", "Softmax")
    ]
    blobs = sum(len(layer.tops) for layer in layers)
    (tmp_path / "o.param").write_text("\n".join(["7767517", f"{len(layers)} {blobs}", *text_param(layers)]) + "\n")
    net = ncnn.Net()
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage"):
        setattr(net.opt, name, False)
    assert net.load_param(str(tmp_path / "o.param")) == 0
    assert net.load_model(str(folder / "pl1a_new.bin")) == 0
    for name in FRAMES:
        extractor = net.create_extractor()
        assert extractor.input("0", ncnn.Mat(np.ascontiguousarray(images[name][0])).clone()) == 0
        status, scores = extractor.extract(SCORES_BLOB)
        assert status == 0
        assert_same_masks(folder, name, np.array(scores)[None], expected[name])


def test_weights_of_other_sizes_and_networks(folder: Path, loaded: Any, weights_file: Path) -> None:
    files = [folder / "pl1a_new.bin", folder / "pl1a_new.param.bin"]
    found = import_weights(NETWORK.architecture, (320, 192), files)  # the file's size counts
    assert all(np.array_equal(values, loaded[1][name]) for name, values in found.weights.items())
    with pytest.raises(InputError, match="is not this network"):
        import_weights(zoo.get("DF1-Seg").architecture, (640, 384), files)
    other = build(zoo.get("PL1A-Seg").architecture, 1024, 512)
    graph, weights, _ = network_weights(other, weights_file)
    graph.check_weights(weights)
