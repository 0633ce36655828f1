"""What the tests of tables over a real adbd share: the tool on the far side, the command line, and the rows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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


def stand_in(folder: Path) -> Path:
    """Write the tool that the far side runs; return its path."""
    return write_stand_in(folder / "benchmark_model", *interpreter())


def device_arguments(port: int, binary: Path) -> list[str]:
    """Return the arguments that choose the device and the backend."""
    options = {"binary": str(binary), "cluster": "none", "warm-up-secs": "0.01"}
    chosen = ["--device", f"adb+tcp:127.0.0.1:{port}", "--backend", "benchmark_model"]
    return [*chosen, *(f"--backend-option={name}={value}" for name, value in options.items())]


def rows(path: Path) -> dict[tuple[str, int], str]:
    """Return every pass as text: equal rows were measured once."""
    with LatencyTable.open(path) as table:
        return {
            (key, number): json.dumps(result.to_dict())
            for key, passes in table.passes().items()
            for number, result in passes
        }
