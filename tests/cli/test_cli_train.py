"""``dfmobile train``: which evaluator trains what, and what is left in the folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from dfmobile.accuracy.segmentation_options import SegmentationOptions
from dfmobile.cli.main import app
from dfmobile.cli.train import point_text

pytest.importorskip("torch", reason="torch is not installed")

TINY = "shuffle/1x24/1x24/1x24+seg:24,24,24"
SMALL = ("image_size=64x32", "validation_images=2", "batch_size=2", "auxiliary=0")
DOCS = Path(__file__).resolve().parents[2] / "docs"


def train(*arguments: str | Path, options: tuple[str, ...] = SMALL) -> Result:
    more = [part for option in options for part in ("--option", option)]
    return CliRunner().invoke(app, ["train", *(str(argument) for argument in arguments), *more])


def test_a_network_with_a_decoder_is_trained_on_scenes(tmp_path: Path) -> None:
    result = train(TINY, "--data", "scenes:4", "--epochs", "1", "-o", tmp_path / "run", "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert document["evaluator"]["name"] == "segmentation"
    assert document["accuracy"] == document["details"]["miou"]
    assert len(document["curve"][0]["validation_iou"]) == 19
    assert json.loads((tmp_path / "run" / "result.json").read_text()) == document
    assert "validation_accuracy" in result.stderr
    assert "validation_iou" not in result.stderr
    again = train(TINY, "--data", "scenes:4", "--epochs", "1", "-o", tmp_path / "run")
    assert again.exit_code == 0
    assert again.stdout.startswith(f"mIoU {document['accuracy']:.4f} of {TINY}")


def test_data_of_the_other_kind_are_refused(tmp_path: Path) -> None:
    result = train(TINY, "--data", "mnist-5k", "-o", tmp_path / "run")
    assert result.exit_code == 1
    assert "error: data 'mnist-5k' is neither 'scenes' nor a folder" in result.stderr
    result = train("df/64/64/64", "--data", "scenes", "-o", tmp_path / "run", options=())
    assert result.exit_code == 1
    assert "error: data 'scenes' is neither 'mnist-5k' nor a folder" in result.stderr
    assert not (tmp_path / "run").exists()


def test_an_option_of_the_other_evaluator_is_refused(tmp_path: Path) -> None:
    result = train(TINY, "-o", tmp_path / "run", options=("label_smoothing=0.1",))
    assert result.exit_code == 1
    assert "segmentation has no option 'label_smoothing'" in result.stderr


def test_a_point_is_a_line() -> None:
    assert point_text({"epoch": 1, "loss": 0.5, "iou": {"road": 0.5}}) == "epoch 1  loss 0.5"


def test_the_how_to_names_every_option() -> None:
    page = (DOCS / "how-to" / "train-segmentation.md").read_text(encoding="utf-8")
    for option in dataclasses.fields(SegmentationOptions):
        assert f"`{option.name}`" in page or f"--option {option.name}=" in page or f"--{option.name} " in page, (
            option.name
        )
