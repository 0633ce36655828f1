"""``dfmobile quickstart``: with the shipped table it needs no torch, and says what its model files are worth."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dfmobile.accuracy.tabular import SHIPPED, read_table
from dfmobile.cli.main import app

WITHOUT_TORCH = "import sys; sys.modules['torch'] = None; from dfmobile.cli.main import app; app()"


def test_epochs_that_the_table_lacks_are_refused_before_anything_is_measured(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["quickstart", "--epochs", "4", "-o", str(tmp_path / "run")])
    assert result.exit_code == 1
    assert result.stderr.startswith("error: df_cifar_k2.csv.gz has no accuracies after 4 epochs\nhint: epochs: 1, 3")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_whole_chain_without_torch(tmp_path: Path) -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, "quickstart", "--trainings", "6", "-o", str(tmp_path / "run")]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    assert f"the shipped table has {len(read_table(SHIPPED).rows)} of the 833 architectures of df-cifar" in done.stderr
    assert "real trainings, validation accuracy after 10 epochs" in done.stderr
    assert "random weights" in done.stdout
    boundary = json.loads((tmp_path / "run" / "search" / "boundary.json").read_text())
    items = boundary if isinstance(boundary, list) else boundary["boundary"]
    assert items
    for item in items:
        assert item["encoding"] in read_table(SHIPPED).rows
        assert item["weights"] == "random (a table has accuracies, no weights)"
        assert item["measured_ms"] > 0
    assert list((tmp_path / "run" / "search" / "models").glob("*.tflite"))
    assert "nothing was trained in this run" in (tmp_path / "run" / "report.html").read_text()
