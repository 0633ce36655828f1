"""PL1A-Seg with its authors' weights gives its authors' label maps, on every runtime and in every precision."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from dfmobile.cli.main import app
from dfmobile.data.preprocessing import read_image

FRAMES = ("frame_1", "frame_300")
needs = {"litert": "numpy", "onnxruntime": "onnxruntime", "torch": "torch", "ncnn": "ncnn"}


def run(*arguments: object) -> dict[str, Any]:
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout))


@pytest.fixture(scope="module")
def pl1a(reference: Path) -> Path:
    folder = reference / "pl1a"
    if not (folder / "pl1a_new.bin").is_file():
        pytest.skip("PL1A-Seg's files (../shared/reference/pl1a) are not here")
    return folder


@pytest.fixture(scope="module")
def weights(pl1a: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pl1a") / "w.npz"
    run("weights", "import", "PL1A-Seg", pl1a / "pl1a_new.param.bin", pl1a / "pl1a_new.bin", "-o", path)
    return path


def agreement(pl1a: Path, output: Path, frame: str) -> float:
    expected = np.array(read_image(pl1a / f"{frame}_labels.png"))
    labels = np.array(read_image(output / f"{frame}_labels.png"))
    assert labels.shape == (96, 160)
    return float(np.mean(labels == expected))


@pytest.mark.parametrize("runtime", needs)
def test_label_maps_are_the_published_ones(runtime: str, pl1a: Path, weights: Path, tmp_path: Path) -> None:
    pytest.importorskip(needs[runtime])
    paths = [pl1a / f"{frame}.png" for frame in FRAMES]
    summary = run(
        "segment", *paths, "--arch", "PL1A-Seg", "--weights", weights, "--runtime", runtime, "-o", tmp_path / "out"
    )
    assert summary["pictures"] == 2
    for frame in FRAMES:
        assert agreement(pl1a, tmp_path / "out", frame) >= 0.999


@pytest.mark.parametrize("file", ["m.tflite", pytest.param("m.onnx", marks=pytest.mark.slow)])
def test_static_int8_of_one_frame_labels_the_other(file: str, pl1a: Path, weights: Path, tmp_path: Path) -> None:
    package = "ai_edge_quantizer" if file == "m.tflite" else "onnxruntime"
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{package} is not installed")
    for frame in FRAMES:
        (tmp_path / frame).mkdir()
        (tmp_path / frame / f"{frame}.png").write_bytes((pl1a / f"{frame}.png").read_bytes())
    known, unseen = (tmp_path / frame for frame in FRAMES)
    target = tmp_path / file
    found = run(
        *("export", "PL1A-Seg", "--weights", weights, "--format", target.suffix[1:], "--precision", "int8"),
        *("--calibration", known, "--check", unseen, "-o", target),
    )
    assert found["argmax_agreement"] >= 0.95
    assert found["checked_on"] == f"1 of {unseen}"
    run("segment", unseen, "--model", target, "-o", tmp_path / "out")
    assert agreement(pl1a, tmp_path / "out", FRAMES[1]) == pytest.approx(found["argmax_agreement"], abs=0.001)
