"""A table over a real adbd: the far side is this host, under another user, and its tool is the stand-in."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from dfmobile.cli.main import app
from dfmobile.latency.table import LatencyTable
from dfmobile.testing.benchmark_model import write_stand_in

SYSTEM_PYTHON = "/usr/bin/python3"


def open_to_all(path: Path) -> bool:
    """Tell whether every user may reach a file and run or read it."""
    places = [path.resolve(), *path.resolve().parents]
    return all(place.stat().st_mode & 0o005 == 0o005 for place in places)


def interpreter() -> tuple[str, list[str]]:
    """Return a Python that the daemon's user may run, and where it finds what the stand-in imports."""
    paths = [entry for entry in sys.path if entry and Path(entry).is_dir() and open_to_all(Path(entry))]
    root = str(Path(__file__).resolve().parents[2])
    for candidate in (sys.executable, SYSTEM_PYTHON):
        if not Path(candidate).exists() or not open_to_all(Path(candidate)):
            continue
        environment = {**os.environ, "PYTHONPATH": ":".join([root, *paths])}
        check = [candidate, "-c", "import dfmobile.testing.benchmark_model"]
        if subprocess.run(check, env=environment, capture_output=True, check=False).returncode == 0:
            return candidate, [root, *paths]
    pytest.skip("no Python here that another user may run and that finds LiteRT")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_table_over_a_real_adbd(adbd_port: int, tmp_path: Path) -> None:
    binary = write_stand_in(tmp_path / "benchmark_model", *interpreter())
    table = tmp_path / "t.sqlite"
    arguments = ["lut", "build", "--network", "df,stem=8s1,classes=10,channels=1/8/8,16/16", "--input", "32x32"]
    arguments += ["--device", f"adb+tcp:127.0.0.1:{adbd_port}", "--backend", "benchmark_model", "--passes", "2"]
    options = {"binary": str(binary), "cluster": "none", "warm-up-secs": "0.01"}
    arguments += [f"--backend-option={name}={value}" for name, value in options.items()]
    result = CliRunner().invoke(app, [*arguments, "-o", str(table), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["coverage"]["fraction"] == 1.0
    assert report["unchecked_blocks"] == 0
    with LatencyTable.open(table) as opened:
        assert opened.header.runtime_version.startswith("dfmobile host stand-in")
        assert all(result.aggregate for found in opened.passes().values() for _, result in found)
