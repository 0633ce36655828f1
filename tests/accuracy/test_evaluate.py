"""Evaluation: mIoU at the label map's size by either rule, accuracy of classifiers by folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from small_networks import CLASSIFIER, class_texts, picture, small_network, weights_file

from dfmobile.accuracy.evaluate import chosen, evaluate_classification, evaluate_segmentation, find_class_folders
from dfmobile.accuracy.inference import InferenceModel, model_of_weights
from dfmobile.accuracy.segment import labels_at, labels_of, nearest_labels_at, scores_of
from dfmobile.data.cityscapes import CLASS_NAMES, CityscapesTree
from dfmobile.data.preprocessing import read_image
from dfmobile.errors import FileFormatError, InputError

SIZE = (256, 128)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> InferenceModel:
    network = small_network()
    return model_of_weights(network, weights_file(tmp_path_factory.mktemp("w") / "w.npz", network), "litert")


def tree(root: Path, model: InferenceModel, rule: str, wrong: float = 0.0, images: int = 3) -> CityscapesTree:
    """Write a tree whose labels are what the model says by one rule, a share of the pixels rolled to another class."""
    for number in range(images):
        image = picture(root / "leftImg8bit" / "val" / "city" / f"x{number}_leftImg8bit.png", SIZE, number)
        with model.open(1) as runner:
            scores = scores_of(model, runner, model.pixels(read_image(image)))
        labels = np.array(labels_at(scores, SIZE) if rule == "scores" else nearest_labels_at(labels_of(scores), SIZE))
        labels[: round(wrong * SIZE[1])] = (labels[: round(wrong * SIZE[1])] + 1) % 19
        labels[-4:] = 255
        path = root / "gtFine" / "val" / "city" / f"x{number}_gtFine_labelTrainIds.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels).save(path)
    return CityscapesTree(root, "val")


@pytest.mark.parametrize("rule", ["scores", "labels"])
def test_labels_by_the_same_rule_are_all_right(rule: str, model: InferenceModel, tmp_path: Path) -> None:
    found = evaluate_segmentation(model, tree(tmp_path, model, rule), upsampling=rule, jobs=2)
    assert (found["miou"], found["pixel_accuracy"]) == (1.0, 1.0)
    assert found["pixels"] == 3 * SIZE[0] * (SIZE[1] - 4)
    assert list(found["iou"]) == list(CLASS_NAMES)
    assert rule in found["rule"]


def test_the_rules_differ_and_ignored_pixels_do_not_count(model: InferenceModel, tmp_path: Path) -> None:
    written = tree(tmp_path, model, "scores", wrong=0.25)
    found = evaluate_segmentation(model, written)
    assert found["pixel_accuracy"] == pytest.approx(1 - 0.25 * SIZE[1] / (SIZE[1] - 4), abs=1e-6)
    other = evaluate_segmentation(model, written, upsampling="labels")
    assert other["pixel_accuracy"] != found["pixel_accuracy"]


def test_a_limit_takes_images_evenly(model: InferenceModel, tmp_path: Path) -> None:
    assert chosen(10, 3) == [0, 4, 9]
    assert chosen(3, 10) == chosen(3, None) == [0, 1, 2]
    steps: list[tuple[int, int]] = []
    found = evaluate_segmentation(
        model, tree(tmp_path, model, "scores"), limit=2, progress=lambda done, total: steps.append((done, total))
    )
    assert (found["images"], found["of_images"], steps) == (2, 3, [(1, 2), (2, 2)])


def test_a_damaged_image_ends_it(model: InferenceModel, tmp_path: Path) -> None:
    written = tree(tmp_path, model, "scores", images=1)
    written.items[0].image.write_bytes(b"nothing")
    with pytest.raises(FileFormatError, match="x0_leftImg8bit"):
        evaluate_segmentation(model, written)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> InferenceModel:
    network = small_network(CLASSIFIER, (32, 32))
    path = weights_file(tmp_path_factory.mktemp("w") / "w.npz", network, **class_texts("cat", "bird", "dog"))
    return model_of_weights(network, path, "litert")


def sorted_pictures(model: InferenceModel, root: Path, count: int = 12) -> dict[str, int]:
    """Write pictures into the folder of the class that the model says; return how many each has."""
    found = dict.fromkeys(model.classes, 0)
    for number in range(count):
        path = picture(root / "all.png", (40, 30), number)
        with model.open(1) as runner:
            name = model.classes[int(scores_of(model, runner, model.pixels(read_image(path))).argmax())]
        found[name] += 1
        (root / "val" / name).mkdir(parents=True, exist_ok=True)
        path.rename(root / "val" / name / f"{number}.png")
    for name, number in found.items():
        if not number:
            picture(root / "val" / name / "other.png")
    return found


def test_classification_by_folders_named_as_the_classes(classifier: InferenceModel, tmp_path: Path) -> None:
    counts = sorted_pictures(classifier, tmp_path)
    found = evaluate_classification(classifier, find_class_folders(tmp_path, "val"))
    strangers = sum(number == 0 for number in counts.values())
    assert found["images"] == 12 + strangers
    assert found["accuracy"] == pytest.approx(12 / (12 + strangers))
    assert found["top5"] is None
    assert set(found["by_class"]) == {"cat", "bird", "dog"}
    assert all(found["by_class"][name] == 1.0 for name, number in counts.items() if number)
    # Without a folder of that split, the folder itself has the classes.
    assert find_class_folders(tmp_path / "val", "val") == tmp_path / "val"


def test_folders_of_other_classes_are_refused(classifier: InferenceModel, tmp_path: Path) -> None:
    for name in ("cat", "bird", "fish"):
        picture(tmp_path / name / "a.png")
    with pytest.raises(InputError, match="'fish'"):
        evaluate_classification(classifier, tmp_path)
    picture(tmp_path / "dog" / "a.png")
    with pytest.raises(InputError, match="4 class folders, the network 3"):
        evaluate_classification(classifier, tmp_path)


def test_the_data_must_fit_the_network(model: InferenceModel, classifier: InferenceModel, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="labels pixels"):
        evaluate_classification(model, tmp_path)
    with pytest.raises(InputError, match="classifies whole images"):
        evaluate_segmentation(classifier, tree(tmp_path, model, "scores", images=1))
    with pytest.raises(InputError, match="unknown"):
        evaluate_segmentation(model, CityscapesTree(tmp_path, "val"), upsampling="cubic")
    with pytest.raises(InputError, match="no such folder"):
        find_class_folders(tmp_path / "none", "val")
