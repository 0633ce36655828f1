"""Real segmentation trainings on tiny scenes: contract, resume to the bit, records, teachers, errors."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from dfmobile.accuracy import EvaluationRequest, open_evaluator
from dfmobile.accuracy.metrics import ConfusionMatrix
from dfmobile.accuracy.segmentation import SegmentationEvaluator
from dfmobile.accuracy.training_folder import CHECKPOINT, CURVE, RESULT, WEIGHTS
from dfmobile.architecture import Architecture, build
from dfmobile.data.cityscapes import CLASS_NAMES
from dfmobile.errors import EncodingError, EvaluationError, FileFormatError, InputError, MissingExtraError
from dfmobile.export.network_weights import network_weights
from dfmobile.export.weights import load_weights_file
from dfmobile.testing.evaluator_contract import EvaluatorContract, without_times
from dfmobile.testing.street_tree import write_masks, write_tree

pytest.importorskip("torch", reason="torch is not installed")

TINY = "shuffle/1x24/1x24/1x24+seg:24,24,24"
OPTIONS: dict[str, Any] = {
    "data": "scenes:8",
    "image_size": [64, 32],
    "validation_images": 4,
    "epochs": 2,
    "batch_size": 4,
    "learning_rate": 0.05,
}


def request_for(folder: Path, encoding: str = TINY, seed: int = 0) -> EvaluationRequest:
    return EvaluationRequest(encoding, seed, folder)


class TestSegmentation(EvaluatorContract):
    name = "segmentation"
    options: ClassVar[dict[str, Any]] = {**OPTIONS, "epochs": 1}
    encoding = TINY


def test_it_learns(tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    evaluator = SegmentationEvaluator(**{**OPTIONS, "data": "scenes:16", "epochs": 6, "learning_rate": 0.1})
    result = evaluator.evaluate(request_for(tmp_path / "run"), progress=seen.append)
    assert result.curve == seen
    assert result.curve[-1]["train_loss"] < 0.8 * result.curve[0]["train_loss"]
    assert result.accuracy == result.details["miou"] > result.curve[0]["validation_accuracy"]
    assert result.details["pixel_accuracy"] > 0.3
    assert list(result.details["iou"]) == list(CLASS_NAMES)
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [CURVE, RESULT, WEIGHTS]


def test_weights_are_of_the_network_alone_and_give_the_miou(tmp_path: Path) -> None:
    from PIL import Image

    from dfmobile.data.input_preprocessing import Preprocessing
    from dfmobile.graph import reference

    encoding = f"{TINY}:d8"
    evaluator = SegmentationEvaluator(**{**OPTIONS, "epochs": 3})
    result = evaluator.evaluate(request_for(tmp_path, encoding))
    assert result.weights is not None
    graph, weights, metadata = network_weights(build(Architecture.parse(encoding), 64, 32, batch=4), result.weights)
    assert json.loads(metadata["classes"]) == list(CLASS_NAMES)
    images, labels = evaluator.data().validation.read(np.arange(4))
    inputs = Preprocessing.of_weights(metadata).apply(images)
    scores = next(iter(reference.run(graph, weights, {"image": inputs}).values()))
    confusion = ConfusionMatrix(19)
    for score, label in zip(scores, labels, strict=True):
        planes = [
            Image.fromarray(plane.astype(np.float32)).resize((64, 32), Image.Resampling.BILINEAR) for plane in score
        ]
        confusion.add(label[0], np.stack([np.asarray(plane) for plane in planes]).argmax(0))
    assert confusion.pixel_accuracy == pytest.approx(result.details["pixel_accuracy"], abs=0.002)
    assert confusion.miou == pytest.approx(result.accuracy, abs=0.01)


class StoppedError(Exception):
    """Stands for Ctrl-C after an epoch."""


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"crop_size": [32, 32], "scales": [0.75, 1.5], "loss_at": "image", "ohem": 0.7, "class_weights": "median"},
        {"mixed_precision": "bfloat16", "auxiliary": 0.0, "class_weights": "none"},
    ],
)
def test_interrupted_and_resumed_is_uninterrupted_to_the_bit(changes: dict[str, Any], tmp_path: Path) -> None:
    def stop(point: dict[str, Any]) -> None:
        if point["epoch"] == 1:
            raise StoppedError

    options = {**OPTIONS, "epochs": 3, **changes}
    whole = SegmentationEvaluator(**options).evaluate(request_for(tmp_path / "whole"))
    with pytest.raises(StoppedError):
        SegmentationEvaluator(**options).evaluate(request_for(tmp_path / "parts"), progress=stop)
    assert (tmp_path / "parts" / CHECKPOINT).exists()
    parts = SegmentationEvaluator(**options).evaluate(request_for(tmp_path / "parts"))
    assert without_times(parts) == without_times(whole)
    assert (tmp_path / "parts" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_a_tree_is_trained_on_the_same_to_the_bit_though_it_is_read_ahead(tmp_path: Path) -> None:
    options = {**OPTIONS, "data": str(write_tree(tmp_path / "streets", train=9)), "image_size": None, "batch_size": 2}
    first, second = (
        SegmentationEvaluator(**options).evaluate(request_for(tmp_path / name)) for name in ("first", "second")
    )
    assert without_times(first) == without_times(second)
    assert first.details["input"] == "64x32"


def test_the_auxiliary_head_changes_no_starting_weight() -> None:
    from dfmobile.accuracy.auxiliary import with_auxiliary_head, without_auxiliary_head
    from dfmobile.accuracy.initialise import initial_weights

    for encoding in (TINY, "df/64/64/64+seg:19,32,64"):
        network = build(Architecture.parse(encoding), 128, 64)
        graph = with_auxiliary_head(network, 4)
        assert graph.shapes[graph.outputs[0]] == network.output_shape
        assert graph.shapes[graph.outputs[1]] == (1, 19, 4, 8)
        plain, more = initial_weights(network.graph, 3), initial_weights(graph, 3)
        assert len(more) > len(plain)
        kept = without_auxiliary_head(more)
        assert list(kept) == list(plain)
        assert all(np.array_equal(kept[name], plain[name]) for name in plain)


def test_a_teacher_network_teaches(tmp_path: Path) -> None:
    taught = SegmentationEvaluator(**OPTIONS).evaluate(request_for(tmp_path / "teacher"))
    teacher = str(taught.weights)
    results = {}
    for share in (0.0, 0.9):
        evaluator = SegmentationEvaluator(**OPTIONS, teacher=teacher, teacher_share=share)
        results[share] = evaluator.evaluate(request_for(tmp_path / str(share)))
    plain = SegmentationEvaluator(**OPTIONS).evaluate(request_for(tmp_path / "plain"))
    assert results[0.0].curve[-1]["train_loss"] == pytest.approx(plain.curve[-1]["train_loss"], rel=1e-4)
    assert results[0.9].curve[-1]["train_loss"] != pytest.approx(plain.curve[-1]["train_loss"], rel=1e-2)
    assert len(evaluator.describe()["teacher"]["weights_sha256"]) == 64


def test_a_folder_of_masks_teaches(tmp_path: Path) -> None:
    tree = write_tree(tmp_path / "streets")
    masks = write_masks(tree, tmp_path / "masks")
    options = {**OPTIONS, "data": str(tree), "teacher": str(masks), "teacher_share": 1.0, "epochs": 8, "batch_size": 2}
    evaluator = SegmentationEvaluator(**options)
    result = evaluator.evaluate(request_for(tmp_path / "run"))
    # The masks say wall everywhere, and that is what is learnt.
    assert result.details["pixel_accuracy"] < 0.3
    assert result.curve[-1]["train_loss"] < 0.7 * result.curve[0]["train_loss"]
    assert len(evaluator.describe()["teacher"]["masks_sha256"]) == 64


def test_teachers_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    from dfmobile.export.weights import save_weights
    from dfmobile.graph import initialise

    graph = build(Architecture.parse("df/64/64/64"), 64, 64).graph
    save_weights(tmp_path / "classifier.npz", initialise(graph), {"encoding": "df/64/64/64"})
    save_weights(tmp_path / "nameless.npz", initialise(graph), {})
    with pytest.raises(InputError, match="gives no scores of 19 classes"):
        evaluate_with(tmp_path, teacher=str(tmp_path / "classifier.npz"))
    with pytest.raises(InputError, match="does not say which architecture"):
        evaluate_with(tmp_path, teacher=str(tmp_path / "nameless.npz"))
    with pytest.raises(InputError, match="does not fit"):
        evaluate_with(tmp_path, teacher=str(tmp_path / "classifier.npz"), teacher_architecture=TINY)


def evaluate_with(folder: Path, encoding: str = TINY, **changes: Any) -> Any:
    return SegmentationEvaluator(**{**OPTIONS, **changes}).evaluate(request_for(folder / "run", encoding))


def test_a_classifier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a classifier") as caught:
        evaluate_with(tmp_path, "df/64/64/64")
    assert "+seg" in caught.value.hint


def test_other_classes_and_sizes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has 7 classes, the data have 19"):
        evaluate_with(tmp_path, "shuffle,classes=7/1x24/1x24/1x24+seg:24,24,24")
    with pytest.raises(InputError, match="not a multiple of 32"):
        evaluate_with(tmp_path, image_size=[80, 48])
    with pytest.raises(InputError, match="not a multiple of 32"):
        evaluate_with(tmp_path, crop_size=[48, 32])
    with pytest.raises(InputError, match="fewer than a batch of 16"):
        evaluate_with(tmp_path, batch_size=16)
    assert not (tmp_path / "run").exists()


def test_a_diverging_training_names_the_epoch(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r"diverged in epoch \d"):
        evaluate_with(tmp_path, learning_rate=1e30, warm_up=0.0)


def test_a_folder_of_another_training_is_refused(tmp_path: Path) -> None:
    evaluate_with(tmp_path, epochs=1)
    with pytest.raises(InputError, match="another architecture, seed, data or options"):
        evaluate_with(tmp_path, epochs=2)


def test_a_damaged_checkpoint_is_named(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / CHECKPOINT).write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(FileFormatError, match=r"checkpoint\.npz is not a readable checkpoint"):
        evaluate_with(tmp_path)


def test_trees_without_labels_are_refused(tmp_path: Path) -> None:
    from PIL import Image

    tree = write_tree(tmp_path / "streets")
    for split, message in (("val", "no validation image"), ("train", "no training image")):
        for path in (tree / "gtFine" / split).glob("*/*.png"):
            Image.new("L", (64, 32), 255).save(path)
        with pytest.raises((InputError, EvaluationError), match=f"{message} has a labelled pixel"):
            evaluate_with(tmp_path / split, data=str(tree), image_size=None, batch_size=2)


def test_no_gpu_is_said_so(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match="torch finds no GPU"):
        evaluate_with(tmp_path, device="cuda")
    with pytest.raises(InputError, match="float16 needs a GPU"):
        evaluate_with(tmp_path, mixed_precision="float16")


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"batch_size": 1},
        {"learning_rate": float("nan")},
        {"momentum": 1.0},
        {"warm_up": True},
        {"power": -1},
        {"scales": [1.5, 1.0]},
        {"scales": 2},
        {"flip": 1},
        {"image_size": [64]},
        {"crop_size": "64"},
        {"class_weights": "inverse"},
        {"loss_at": "both"},
        {"ohem": 1.5},
        {"auxiliary": -0.1},
        {"auxiliary_stage": 2},
        {"teacher": ""},
        {"teacher_architecture": "PL1A-Seg"},
        {"teacher_share": 1.5},
        {"temperature": 0},
        {"mixed_precision": "int8"},
        {"device": "tpu"},
        {"validation_images": 0},
        {"scene_seed": -1},
        {"preset": "slow"},
        {"threads": 0},
        {"data": 5},
    ],
)
def test_options_out_of_range_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        open_evaluator("segmentation", **wrong)


def test_a_preset_gives_way_to_options() -> None:
    quick = SegmentationEvaluator(preset="quick", epochs=1).options
    assert (quick.epochs, quick.image_size) == (1, (192, 96))
    assert SegmentationEvaluator(image_size="96x64").options.image_size == (96, 64)


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match="training needs torch"):
        open_evaluator("segmentation")


def test_a_malformed_encoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EncodingError):
        evaluate_with(tmp_path, "shuffle/1x24+seg")


def torchrun(folder: Path, processes: int) -> dict[str, Any]:
    arguments = [f"{name}={json.dumps(value)}" for name, value in OPTIONS.items() if name not in ("data", "epochs")]
    script = "from dfmobile.cli.main import main; main()"
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command += ["--no-python", sys.executable, "-c", script]
    command += ["train", TINY, "--data", "scenes:8", "--epochs", "2", "-o", str(folder)]
    for argument in arguments:
        command += ["--option", argument]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=280, check=False, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )
    assert done.returncode == 0, done.stderr[-3000:]
    document: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return document


@pytest.mark.slow
def test_two_processes_of_torchrun_train_one_network(tmp_path: Path) -> None:
    two = torchrun(tmp_path / "two", 2)
    assert two["details"]["processes"] == 2
    assert [point["epoch"] for point in two["curve"]] == [1, 2]
    assert two["curve"][1]["train_loss"] < two["curve"][0]["train_loss"]
    weights, _ = load_weights_file(two["weights"])
    build(Architecture.parse(TINY), 64, 32).graph.check_weights(weights)
    # Without batch norm's statistics, which each process has of its own images, it would be the same as alone.
    alone = SegmentationEvaluator(**OPTIONS).evaluate(request_for(tmp_path / "one"))
    assert two["curve"][0]["train_loss"] == pytest.approx(alone.curve[0]["train_loss"], rel=0.3)
    again = torchrun(tmp_path / "again", 2)
    assert [p["validation_accuracy"] for p in again["curve"]] == [p["validation_accuracy"] for p in two["curve"]]


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_small_network_learns_the_scenes(tmp_path: Path) -> None:
    # The setting of benchmarks/scene_training.py: about two and a half minutes of one core.
    evaluator = SegmentationEvaluator(data="scenes:400", epochs=24, learning_rate=0.15)
    result = evaluator.evaluate(request_for(tmp_path, "shuffle/2x24/4x48/2x96+seg:24,48,48"))
    assert result.accuracy > 0.5
    assert all(value is not None for value in result.details["iou"].values())
