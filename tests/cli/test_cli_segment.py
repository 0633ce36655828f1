"""segment, evaluate, bundle and export of real inputs through the command line: documents, exit codes, errors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import Result
from PIL import Image
from typer.testing import CliRunner

from dfmobile.architecture import build, resolve
from dfmobile.cli.main import app
from dfmobile.data.input_preprocessing import Preprocessing
from dfmobile.export.weights import save_weights
from dfmobile.graph import initialise

NET = "shuffle/2x16/2x32/2x64+seg:16,32,64"
CLASSIFIER = "df,stem=8s1,classes=2/8/8/16"
INPUT = ("--input", "128x64")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(item) for item in arguments])


def document(*arguments: object) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def error_of(result: Result) -> list[str]:
    assert result.exit_code == 1, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith(("error:", "hint:"))]
    assert len(lines) == 2, result.stderr
    return lines


def write_weights(path: Path, encoding: str, size: tuple[int, int], *, silent: bool = False) -> Path:
    network = build(resolve(encoding), *size)
    pixels = Preprocessing("BGR", (104.0, 117.0, 123.0), (0.008, 0.008, 0.008), "a test")
    save_weights(path, initialise(network.graph, 1), {} if silent else pixels.metadata())
    return path


def images(folder: Path, count: int = 2) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(coarse).resize((128, 64), Image.Resampling.BICUBIC).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return write_weights(tmp_path / "w.npz", NET, (128, 64))


def test_segment_prints_one_document_and_tells_bad_pictures(weights: Path, tmp_path: Path) -> None:
    source = images(tmp_path / "in")
    network = ("--arch", NET, "--weights", weights, *INPUT)
    found = document("segment", source, *network, "-o", tmp_path / "out")
    assert (found["pictures"], found["failed"], found["runtime"], found["precision"]) == (2, 0, "litert", "fp32")
    assert found["preprocessing"]["channels"] == "BGR"
    (source / "1.png").write_bytes(b"nothing")
    result = run("segment", source, *network, "-o", tmp_path / "again", "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["failed"] == 1
    assert "1.png cannot be read" in result.stderr
    assert (tmp_path / "again" / "0_labels.png").is_file()
    plain = run("segment", source / "0.png", *network, "-o", tmp_path / "again", "--resume")
    assert plain.exit_code == 0
    assert "1 picture labelled" in plain.stdout


def test_segment_takes_a_model_file(weights: Path, tmp_path: Path) -> None:
    source, model = images(tmp_path / "in"), tmp_path / "m.tflite"
    exported = document(
        "export", NET, *INPUT, "--weights", weights, "--format", "tflite", "-o", model, "--check", source
    )
    assert exported["checked_on"] == f"2 of {source}"
    assert exported["argmax_agreement"] > 0.999
    found = document("segment", source, "--model", model, "-o", tmp_path / "out")
    assert found["encoding"] == NET
    lines = error_of(run("segment", source, "--model", model, "--arch", NET, "-o", tmp_path / "out"))
    assert "--model and ARCH exclude one another" in lines[0]


def test_what_segment_lacks_is_said(weights: Path, tmp_path: Path) -> None:
    source = images(tmp_path / "in")
    assert "which network?" in error_of(run("segment", source, "-o", tmp_path / "o"))[0]
    network = ("--arch", NET, "--weights", weights, *INPUT, "-o", tmp_path / "o")
    assert "'mnn' is unknown" in error_of(run("segment", source, *network, "--runtime", "mnn"))[0]
    assert "--calibration DIR" in error_of(run("segment", source, *network, "--precision", "int8"))[1]
    assert "no such file" in error_of(run("segment", tmp_path / "none", *network))[0]
    silent = write_weights(tmp_path / "s.npz", NET, (128, 64), silent=True)
    result = run("segment", source, "--arch", NET, "--weights", silent, *INPUT, "-o", tmp_path / "o")
    assert result.exit_code == 0
    assert "note: the file names no preprocessing" in result.stderr


def test_evaluate_street_scenes(weights: Path, tmp_path: Path) -> None:
    for number in range(2):
        for kind, end in (("leftImg8bit", "leftImg8bit"), ("gtFine", "gtFine_labelIds")):
            folder = tmp_path / "tree" / kind / "val" / "city"
            folder.mkdir(parents=True, exist_ok=True)
            size = (64, 128, 3) if kind == "leftImg8bit" else (64, 128)
            values = np.full(size, 7 if kind == "gtFine" else 60 * number, np.uint8)
            Image.fromarray(values).save(folder / f"{number}_{end}.png")
    network = (NET, "--weights", weights, *INPUT)
    found = document("evaluate", *network, "--data", tmp_path / "tree")
    assert (found["images"], found["split"], found["upsampling"]) == (2, "val", "scores")
    assert 0 <= found["pixel_accuracy"] <= 1
    assert found["iou"]["bus"] in (None, 0.0)
    shown = run("evaluate", *network, "--data", tmp_path / "tree", "--upsampling", "labels", "--limit", 1)
    assert shown.exit_code == 0
    assert "nearest neighbour" in shown.stdout
    assert "1 of 2 images of val: mIoU" in shown.stdout
    assert "there are: val" in error_of(run("evaluate", *network, "--data", tmp_path / "tree", "--split", "test"))[1]


def test_evaluate_classes_of_images(tmp_path: Path) -> None:
    path = write_weights(tmp_path / "w.npz", CLASSIFIER, (32, 32))
    for name in ("left", "right"):
        images(tmp_path / "data" / "val" / name, 3)
    network = (CLASSIFIER, "--weights", path, "--input", "32x32", "--data", tmp_path / "data")
    found = document("evaluate", *network)
    # The same pictures in both folders: half of them are right.
    assert (found["images"], found["accuracy"], found["top5"]) == (6, 0.5, None)
    shown = run("evaluate", *network)
    assert "6 of 6 images" in shown.stdout
    assert "accuracy 50.00 %" in shown.stdout


def test_bundle_through_the_command_line(weights: Path, tmp_path: Path) -> None:
    network = (NET, "--weights", weights, *INPUT)
    shown = run("bundle", *network, "--device", "snapdragon-845", "-o", tmp_path / "b")
    assert shown.exit_code == 0, shown.output
    assert "not there: tflite in int8" in shown.stdout
    lines = error_of(run("bundle", *network, "--device", "snapdragon-845", "-o", tmp_path / "b"))
    assert "not an empty folder" in lines[0]
    lines = error_of(run("bundle", *network, "--device", "snapdragon-9000", "-o", tmp_path / "c"))
    assert "unknown device profile" in lines[0]
    assert "snapdragon-845" in lines[1]
    found = document("bundle", *network, "--device", tmp_path / "b" / "device.yaml", "-o", tmp_path / "d")
    assert found["device"] == "snapdragon-845"


def test_options_of_export_that_do_not_go_together(weights: Path, tmp_path: Path) -> None:
    export = ("export", NET, *INPUT, "--weights", weights, "-o", tmp_path / "m")
    assert "--symmetric is for" in run(*export, "--format", "tflite", "--symmetric").stderr
    assert "no such folder" in error_of(run(*export, "--format", "tflite", "--check", tmp_path / "none"))[0]
    assert not (tmp_path / "m").exists()
