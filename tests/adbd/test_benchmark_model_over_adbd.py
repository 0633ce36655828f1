"""A table over a real adbd: the far side is this host, under another user, and its tool is the stand-in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from adbd.adbd_tables import device_arguments, stand_in
from typer.testing import CliRunner

from dfmobile.cli.main import app
from dfmobile.latency.table import LatencyTable


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_table_over_a_real_adbd(adbd_port: int, tmp_path: Path) -> None:
    table = tmp_path / "t.sqlite"
    arguments = ["lut", "build", "--network", "df,stem=8s1,classes=10,channels=1/8/8,16/16", "--input", "32x32"]
    arguments += [*device_arguments(adbd_port, stand_in(tmp_path)), "--passes", "2"]
    result = CliRunner().invoke(app, [*arguments, "-o", str(table), "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["coverage"]["fraction"] == 1.0
    assert report["unchecked_blocks"] == 0
    with LatencyTable.open(table) as opened:
        assert opened.header.runtime_version.startswith("dfmobile host stand-in")
        assert all(result.aggregate for found in opened.passes().values() for _, result in found)
