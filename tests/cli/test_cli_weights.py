"""``dfmobile weights import`` and ``export --format ncnn``: one JSON document, clear lines, nothing half-written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dfmobile.architecture import Architecture, build
from dfmobile.cli.main import app
from dfmobile.export.ncnn import ncnn_model
from dfmobile.export.weights import load_weights_file, save_weights
from dfmobile.graph import initialise

ENCODING = "df,stem=4s1,classes=5/4/6/8"
NETWORK = build(Architecture.parse(ENCODING), 32, 32)


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    model = ncnn_model(NETWORK.graph, initialise(NETWORK.graph))
    (tmp_path / "m.param").write_text(model.param)
    (tmp_path / "m.bin").write_bytes(model.binary)
    return [str(tmp_path / "m.param"), str(tmp_path / "m.bin")]


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_an_import_says_what_it_found(tmp_path: Path, files: list[str]) -> None:
    output = tmp_path / "w.npz"
    arguments = ("weights", "import", ENCODING, *files, "-o", str(output), "--preprocessing", "BGR:1,2,3:0.5")
    status, stdout, stderr = run(*arguments, "--json")
    assert status == 0, stderr
    document = json.loads(stdout)
    assert document["form"] == "deployed"
    assert document["unused"] == []
    assert document["tensors"] == len(load_weights_file(output)[0])
    metadata = load_weights_file(output)[1]
    assert json.loads(metadata["preprocessing"])["scale"] == [0.5, 0.5, 0.5]
    assert metadata["imported"] == "ncnn: m.param, m.bin"
    status, stdout, _ = run(*arguments)
    assert status == 0
    assert "batch norms folded" in stdout
    assert "BGR, (pixel - [1,2,3]) x [0.5,0.5,0.5]" in stdout


def test_imported_weights_are_exported(tmp_path: Path, files: list[str]) -> None:
    pytest.importorskip("ncnn")
    output = tmp_path / "w.npz"
    assert run("weights", "import", ENCODING, *files, "-o", str(output), "--preprocessing", "pl1a")[0] == 0
    again = tmp_path / "again.param"
    export = ("export", ENCODING, "--input", "32x32", "--weights", str(output), "--format", "ncnn", "-o", str(again))
    status, stdout, stderr = run(*export, "--json")
    assert status == 0, stderr
    assert [Path(name).name for name in json.loads(stdout)["companions"]] == ["again.bin", "again.json"]
    assert again.with_suffix(".bin").read_bytes() == Path(files[1]).read_bytes()
    assert json.loads(again.with_suffix(".json").read_text())["preprocessing"]["channels"] == "BGR"


def test_preprocessing_that_nobody_knows_must_be_given(tmp_path: Path, files: list[str]) -> None:
    output = tmp_path / "w.npz"
    status, _, stderr = run("weights", "import", ENCODING, *files, "-o", str(output))
    assert status == 1
    assert "do not say how pixels become the network's input" in stderr
    assert "hint: give --preprocessing" in stderr
    status, _, stderr = run("weights", "import", ENCODING, *files, "-o", str(output), "--preprocessing", "BGR:1")
    assert (status, stderr.splitlines()[0]) == (1, "error: 'BGR:1' is no preprocessing")
    assert not output.exists()
    save_weights(tmp_path / "ours.npz", initialise(NETWORK.graph), {})
    status, stdout, stderr = run("weights", "import", ENCODING, str(tmp_path / "ours.npz"), "-o", str(output))
    assert status == 0
    assert "preprocessing: not known" in stdout
    assert "note: the file says nothing" in stderr


def test_damaged_files_leave_nothing_behind(tmp_path: Path, files: list[str]) -> None:
    output = tmp_path / "out" / "w.npz"
    for position in range(2):
        path = Path(files[position])
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        status, stdout, stderr = run(
            "weights", "import", ENCODING, *files, "-o", str(output), "--preprocessing", "pl1a"
        )
        path.write_bytes(data)
        assert (status, stdout) == (1, "")
        assert [line.partition(":")[0] for line in stderr.splitlines()] == ["error", "hint"]
    assert not output.parent.exists()
    status, _, stderr = run("weights", "import", ENCODING, str(tmp_path / "absent.npz"), "-o", str(output))
    assert status == 1
    assert "no such file" in stderr
