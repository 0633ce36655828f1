"""Inference on pictures: scores to labels, several runners at once, files that are whole, told apart and in place."""

from __future__ import annotations

import importlib.util
import json
import os
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from small_networks import BGR, CLASSIFIER, picture, small_network, weights_file

from dfmobile.accuracy.inference import InferenceModel, check_runtime, model_of_file, model_of_weights
from dfmobile.accuracy.segment import RunnerPool, labels_at, labels_of, nearest_labels_at, scores_of, shares_of
from dfmobile.accuracy.segment_files import LEGEND, SUMMARY, Segmented, check_outputs, segment_pictures
from dfmobile.data.pictures import Picture, find_pictures, pictures
from dfmobile.data.preprocessing import read_image
from dfmobile.errors import BackendError, FileFormatError, InputError, StorageError
from dfmobile.export.exporter import export
from dfmobile.export.model_metadata import _tflite
from dfmobile.export.model_texts import model_texts
from dfmobile.export.network_weights import network_weights
from dfmobile.export.tflite import tflite_bytes
from dfmobile.graph import GraphBuilder, reference

EXTRAS = {"litert": None, "onnxruntime": "onnxruntime", "torch": "torch", "ncnn": "ncnn"}


def runtime(name: str) -> Any:
    missing = EXTRAS[name] is not None and importlib.util.find_spec(str(EXTRAS[name])) is None
    return pytest.param(name, marks=pytest.mark.skipif(missing, reason=f"{name} is not installed"))


RUNTIMES = [runtime(name) for name in EXTRAS]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weights_file(tmp_path_factory.mktemp("weights") / "w.npz", small_network())


@pytest.fixture(scope="module")
def model(weights: Path) -> InferenceModel:
    return model_of_weights(small_network(), weights, "litert")


def run(model: InferenceModel, paths: list[Path], output: Path, **options: Any) -> dict[str, Any]:
    files = find_pictures(paths, output)
    check_outputs(files, output)
    return segment_pictures(model, pictures(files), output, **options)


@pytest.mark.parametrize("name", RUNTIMES)
def test_every_runtime_gives_the_scores_of_the_reference(name: str, weights: Path, tmp_path: Path) -> None:
    network = small_network()
    graph, values, _ = network_weights(network, weights)
    image = read_image(picture(tmp_path / "a.png"))
    model = model_of_weights(network, weights, name)
    pixels = model.pixels(image)
    expected = reference.run(graph, values, {"image": BGR.apply(pixels)})[graph.outputs[0]][0]
    with model.open(2) as runner:
        scores = scores_of(model, runner, pixels)
    np.testing.assert_allclose(scores, expected, atol=1e-4 * float(expected.std()))
    with pytest.raises(BackendError, match="closed"):
        runner.run([BGR.apply(pixels)])


@settings(max_examples=30)
@given(
    classes=st.integers(1, 5),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    factor=st.integers(1, 4),
    seed=st.integers(0, 1000),
)
def test_labels_of_resized_scores_are_those_of_all_scores_resized(
    classes: int, size: tuple[int, int], factor: int, seed: int
) -> None:
    scores = np.random.default_rng(seed).standard_normal((classes, size[1], size[0])).astype(np.float32)
    target = (size[0] * factor, size[1] * factor)
    # Half-pixel bilinear by its definition, borders clamped.
    places = [np.clip((np.arange(n * factor) + 0.5) / factor - 0.5, 0, n - 1) for n in size]
    weights = [np.maximum(0, 1 - np.abs(at[:, None] - np.arange(n))) for at, n in zip(places, size, strict=True)]
    full = np.einsum("yh,chw,xw->cyx", weights[1], scores, weights[0])
    labels = labels_at(scores, target)
    assert labels.shape == target[::-1]
    ordered = np.sort(full, axis=0)
    clear = ordered[-1] - ordered[-2] > 1e-5 if classes > 1 else np.ones(target[::-1], bool)
    np.testing.assert_array_equal(labels[clear], full.argmax(0)[clear])


def test_of_equal_scores_the_first_class_is_taken() -> None:
    scores = np.zeros((3, 2, 2), np.float32)
    scores[1:, 0] = 1
    np.testing.assert_array_equal(labels_of(scores), [[1, 1], [0, 0]])
    np.testing.assert_array_equal(labels_at(scores, (2, 4))[0], [1, 1])
    np.testing.assert_array_equal(nearest_labels_at(labels_of(scores), (4, 2)), [[1] * 4, [0] * 4])
    np.testing.assert_allclose(shares_of(labels_of(scores), 3), [0.5, 0.5, 0])


def test_a_pool_keeps_the_order_and_never_shares_a_runner(model: InferenceModel) -> None:
    busy: set[int] = set()

    def work(runner: Any, item: int) -> int:
        assert id(runner) not in busy
        busy.add(id(runner))
        runner.run([np.zeros(model.input_shape, np.float32)])
        busy.discard(id(runner))
        return item * item

    with RunnerPool(model, jobs=3) as pool:
        assert list(pool.map(work, range(20))) == [item * item for item in range(20)]
        assert list(pool.map(work, [])) == []


def test_a_pool_reads_items_only_as_they_are_needed(model: InferenceModel) -> None:
    taken = []

    def items() -> Any:
        for number in range(100):
            taken.append(number)
            yield number

    with RunnerPool(model, jobs=2) as pool:
        results = pool.map(lambda runner, item: item, items())
        assert next(results) == 0
        assert len(taken) <= 6
        results.close()  # type: ignore[attr-defined]

    with RunnerPool(model, jobs=2) as pool, pytest.raises(ZeroDivisionError):
        list(pool.map(lambda runner, item: 1 // (item - 5), range(100)))


def test_a_folder_is_labelled_by_its_places(model: InferenceModel, tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "in" / "out"
    picture(source / "a.png")
    picture(source / "sub" / "b.jpg", (300, 200), seed=1)
    picture(source / "sub" / "grey.png", (50, 40), seed=2, grey=True)
    picture(source / ".hidden.png")
    (source / "note.txt").write_text("no picture")
    seen: list[Segmented] = []
    summary = run(model, [source], output, done=seen.append)
    assert [Path(item.picture).name for item in seen] == ["a.png", "b.jpg", "grey.png"]
    assert (summary["pictures"], summary["failed"]) == (3, 0)
    made = {path.relative_to(output).as_posix() for path in output.rglob("*") if path.is_file()}
    expected = {
        f"{name}{end}" for name in ("a", "sub/b", "sub/grey") for end in ("_labels.png", "_overlay.png", ".json")
    }
    assert made == {*expected, SUMMARY, LEGEND}
    labels = read_image(output / "sub" / "b_labels.png")
    assert (labels.mode, labels.size) == ("L", (32, 16))
    assert read_image(output / "sub" / "b_overlay.png").size == (300, 200)
    document = json.loads((output / "sub" / "b.json").read_text())
    assert document["size"] == [300, 200]
    counts = np.bincount(np.array(labels).reshape(-1), minlength=19) / 512
    assert list(document["shares"].values()) == pytest.approx(counts, abs=1e-6)
    assert sum(summary["shares"].values()) == pytest.approx(1, abs=1e-4)
    # A second run does not take its own results for pictures.
    assert run(model, [source], output)["pictures"] == 3


def test_one_bad_picture_is_told_and_the_others_go_on(model: InferenceModel, tmp_path: Path) -> None:
    source = tmp_path / "in"
    for number in range(5):
        picture(source / f"{number}.png", seed=number)
    (source / "2.png").write_bytes((source / "2.png").read_bytes()[:50])
    seen: list[Segmented] = []
    summary = run(model, [source], tmp_path / "out", done=seen.append)
    assert (summary["pictures"], summary["failed"]) == (4, 1)
    assert "2.png" in summary["failures"][0]["error"]
    assert isinstance(seen[2].error, FileFormatError)
    assert not list((tmp_path / "out").glob("2*"))


def test_names_that_clash_are_told_apart_or_refused(model: InferenceModel, tmp_path: Path) -> None:
    source = tmp_path / "in"
    paths = [picture(source / "a.png"), picture(source / "a.jpg", seed=1), picture(source / "b.png", seed=2)]
    names = [str(file.name) for file in find_pictures([source], tmp_path / "out")]
    assert sorted(names) == ["a.jpg", "a.png", "b"]
    run(model, [source], tmp_path / "out")
    assert (tmp_path / "out" / "a.jpg_labels.png").is_file()
    other = picture(tmp_path / "other" / "b.png")
    with pytest.raises(InputError, match=r"both be written as b"):
        find_pictures([*paths, other], tmp_path / "out")
    assert len(find_pictures([paths[0], paths[0]], tmp_path / "out")) == 1


def test_pictures_are_never_overwritten(tmp_path: Path) -> None:
    source = tmp_path / "in"
    paths = [picture(source / "a.png"), picture(source / "a_overlay.png")]
    with pytest.raises(InputError, match="would be overwritten"):
        check_outputs(find_pictures(paths, source), source)
    with pytest.raises(InputError, match="where the pictures come from"):
        find_pictures([source], source)
    summary = picture(tmp_path / "more" / f"{SUMMARY.removesuffix('.json')}.png")
    with pytest.raises(InputError, match="the summary"):
        check_outputs(find_pictures([summary], tmp_path / "out"), tmp_path / "out")


def test_what_is_not_there_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        find_pictures([tmp_path / "none.png"], tmp_path / "out")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        find_pictures([tmp_path / "pipe.png"], tmp_path / "out")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="neither images nor videos"):
        find_pictures([tmp_path / "empty"], tmp_path / "out")


def test_a_link_does_not_lead_out_of_the_output_folder(model: InferenceModel, tmp_path: Path) -> None:
    picture(tmp_path / "in" / "sub" / "a.png")
    output, elsewhere = tmp_path / "out", tmp_path / "elsewhere"
    output.mkdir()
    elsewhere.mkdir()
    (output / "sub").symlink_to(elsewhere)
    with pytest.raises(InputError, match="leads out of"):
        run(model, [tmp_path / "in"], output)
    assert not list(elsewhere.iterdir())


def test_a_file_where_the_output_folder_should_be_is_one_clear_line(model: InferenceModel, tmp_path: Path) -> None:
    path = picture(tmp_path / "a.png")
    (tmp_path / "out").write_text("")
    with pytest.raises(StorageError):
        run(model, [path], tmp_path / "out")


def test_resuming_leaves_what_is_finished_and_makes_what_is_not(
    model: InferenceModel, weights: Path, tmp_path: Path
) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    for number in range(4):
        picture(source / f"{number}.png", seed=number)
    first = run(model, [source], output)
    times = {path: path.stat().st_mtime_ns for path in output.glob("*_labels.png")}
    picture(source / "1.png", seed=99)
    (output / "2.json").write_text("{")
    (output / "3_overlay.png").unlink()
    again = run(model, [source], output, resume=True)
    assert (again["reused"], again["pictures"]) == (1, 4)
    assert (output / "0_labels.png").stat().st_mtime_ns == times[output / "0_labels.png"]
    picture(source / "1.png", seed=1)
    assert run(model, [source], output)["shares"] == first["shares"]
    # Another size of input is another model.
    other = model_of_weights(small_network(size=(64, 64)), weights, "litert")
    assert run(other, [source], output, resume=True)["reused"] == 0


def test_a_classifier_has_no_label_maps(tmp_path: Path) -> None:
    network = small_network(CLASSIFIER, (32, 32))
    model = model_of_weights(network, weights_file(tmp_path / "w.npz", network), "litert")
    with pytest.raises(InputError, match="classifies whole images"):
        run(model, [picture(tmp_path / "a.png")], tmp_path / "out")


@pytest.mark.parametrize(
    ("suffix", "format", "package"),
    [(".tflite", "tflite", "numpy"), (".onnx", "onnx", "onnxruntime"), (".param", "ncnn", "ncnn")],
)
def test_a_model_file_says_itself_what_it_takes(
    suffix: str, format: str, package: str, model: InferenceModel, weights: Path, tmp_path: Path
) -> None:
    pytest.importorskip(package)
    network = small_network()
    graph, values, about = network_weights(network, weights)
    texts = model_texts(network, about, given=True, precision="fp32")
    export(graph, values, tmp_path / f"m{suffix}", format=format, metadata=texts)
    found = model_of_file(tmp_path / f"m{suffix}")
    assert found.preprocessing == model.preprocessing
    assert (found.input_shape, found.output_shape) == (model.input_shape, model.output_shape)
    assert (found.encoding, found.classes, found.precision) == (model.encoding, model.classes, "fp32")
    path = picture(tmp_path / "a.png")
    run(found, [path], tmp_path / "file")
    run(model, [path], tmp_path / "weights")
    left, right = (np.array(read_image(tmp_path / name / "a_labels.png")) for name in ("file", "weights"))
    assert np.mean(left == right) > 0.999


@settings(max_examples=40)
@given(position=st.integers(0, 10**9), value=st.integers(0, 255), cut=st.booleans())
def test_a_damaged_model_file_is_one_clear_line(weights: Path, position: int, value: int, cut: bool) -> None:
    builder = GraphBuilder()
    content = bytearray(
        tflite_bytes(builder.build(builder.relu(builder.input("x", (1, 3, 4, 4)))), {}, metadata={"a": "b"})
    )
    position %= len(content)
    if cut:
        del content[position:]
    else:
        content[position] = value
    try:
        _tflite(bytes(content), Path("m.tflite"))
    except FileFormatError as error:
        assert "m.tflite" in str(error)  # noqa: PT017


def test_what_cannot_run_is_refused(tmp_path: Path, weights: Path) -> None:
    with pytest.raises(InputError, match="runtime 'mnn' is unknown"):
        check_runtime("mnn")
    with pytest.raises(InputError, match="not available in torch"):
        check_runtime("torch", "fp16")
    with pytest.raises(InputError, match="calibrate"):
        model_of_weights(small_network(), weights, "litert", "int8")
    with pytest.raises(InputError, match="no model file"):
        model_of_file(tmp_path / "m.pb")
    (tmp_path / "m.tflite").write_bytes(b"no model at all")
    with pytest.raises(FileFormatError, match=r"no \.tflite"):
        model_of_file(tmp_path / "m.tflite")


@pytest.mark.parametrize("shape", [(1, 2, 8, 8), (2, 3, 8, 8)])
def test_a_model_that_takes_no_image_is_refused(shape: tuple[int, ...], tmp_path: Path) -> None:
    builder = GraphBuilder()
    graph = builder.build(builder.relu(builder.input("x", shape)))
    (tmp_path / "m.tflite").write_bytes(tflite_bytes(graph, {}))
    with pytest.raises(InputError, match=r"no image|not one image"):
        model_of_file(tmp_path / "m.tflite")


def test_frames_of_a_video(model: InferenceModel, tmp_path: Path) -> None:
    cv2 = pytest.importorskip("cv2")
    path = tmp_path / "clip.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 48))
    for number in range(7):
        writer.write(np.full((48, 64, 3), (250, 30 * number, 0), np.uint8))
    writer.release()
    files = find_pictures([path], tmp_path / "out")
    found = list(pictures(files, every=3))
    assert [item.frame for item in found] == [0, 3, 6]
    colour = np.asarray(found[2].load())[24, 32]  # OpenCV's BGR is our RGB
    assert np.abs(colour.astype(int) - (0, 180, 250)).max() < 12
    assert len(list(pictures(files, limit=2))) == 2
    summary = segment_pictures(model, pictures(files, every=3), tmp_path / "out")
    assert summary["pictures"] == 3
    assert (tmp_path / "out" / "clip" / "000003_labels.png").is_file()
    document = json.loads((tmp_path / "out" / "clip" / "000003.json").read_text())
    assert (document["frame"], document["size"]) == (3, [64, 48])


def test_a_damaged_video_is_told_and_the_others_go_on(model: InferenceModel, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    (tmp_path / "a.mp4").write_bytes(b"\0" * 1000)
    path = picture(tmp_path / "b.png")
    summary = run(model, [tmp_path / "a.mp4", path], tmp_path / "out")
    assert (summary["pictures"], summary["failed"]) == (1, 1)
    assert "a.mp4 cannot be read as a video" in summary["failures"][0]["error"]


def test_a_picture_names_its_frame() -> None:
    assert str(Picture(Path("a.mp4"), 7, PurePosixPath("a/7"), lambda: Image.new("L", (1, 1)))) == "a.mp4, frame 7"
