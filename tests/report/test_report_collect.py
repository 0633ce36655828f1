"""A report of a real campaign: small, with the analytic evaluator and a table whose times are made up here."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from dfmobile.architecture.spaces import SearchSpace, open_space
from dfmobile.devices.profile import DeviceProfile, fingerprint, save_profile
from dfmobile.errors import FileFormatError, InputError, StorageError
from dfmobile.execution.local import LocalExecutor
from dfmobile.graph.exported import EXPORT_VERSION
from dfmobile.latency.header import Build, TableHeader
from dfmobile.latency.measurement import PassResult, Protocol
from dfmobile.latency.predictor import Predictor
from dfmobile.latency.table import LatencyTable
from dfmobile.report.collect import collect
from dfmobile.report.collect_device import condition_facts
from dfmobile.report.html import write_report
from dfmobile.report.standalone import write_boundary_svg
from dfmobile.search.campaign import run_campaign
from dfmobile.search.settings import CampaignSettings
from dfmobile.search.store import CampaignStore

BUDGET = 9
PROFILE = DeviceProfile(name="made-up", kind="host", soc="Made-up CPU")


def make_table(path: Path, space: SearchSpace, passes: int = 3) -> None:
    header = TableHeader(
        granularity="block", device="local", device_fingerprint=fingerprint(PROFILE), device_summary="Made-up CPU",
        device_profile=PROFILE.model_dump(mode="json"), backend="litert", runtime="LiteRT", runtime_version="0",
        library_sha256="ab" * 32, flags={}, precision="fp32", threads=1, affinity="1", created_by="test",
        export_version=EXPORT_VERSION,
    )  # fmt: skip
    width, height = space.default_input
    with LatencyTable.create(path, header) as table:
        session = table.start_session({"protocol": Protocol(passes=passes).to_dict()})
        keys = space.key_index(width, height)
        table.note_build(
            Build(
                space=space.name,
                network=None,
                width=width,
                height=height,
                passes=passes,
                latency_max_ms=None,
                keys=keys,
            )
        )
        for block in space.blocks(width, height):
            for index in range(passes):
                hot = (0.002 + block.macs / 5e6) * (1 + 0.01 * index)
                result = PassResult(
                    hot_ms=[hot, hot], cold_ms=[1.5 * hot], clock="thread-cpu", warm_up_ms=[hot], warm_up_runs=1,
                    steady=True, init_ms=1.0, kernel_ms=4 * hot, kernel_wall_ms=4 * hot, cpu_wall_ratio=1.0,
                    involuntary_switches=0, started_utc="2026-01-01T00:00:00+00:00",
                    conditions_before={"load_1min": 0.5, "frequency_khz": {"0": 2_000_000}},
                )  # fmt: skip
                table.record_pass(block, index, result, session=session, model_sha256="cd" * 32)


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("campaign")
    space = open_space("df-mini", max_depth=1)
    make_table(folder / "table.sqlite", space)
    with LatencyTable.open(folder / "table.sqlite") as table, LocalExecutor(workers=1) as executor:
        run_campaign(
            folder / "run", space, Predictor(table), "analytic", {}, executor,
            CampaignSettings(mode="paper", budget=BUDGET, seed=3),
            table={"path": str(folder / "table.sqlite"), "rule": "sum"},
        )  # fmt: skip
    save_profile(PROFILE, folder / "run" / "device.yaml")
    with CampaignStore(folder / "run" / "campaign.sqlite") as store:
        store.set_meta(command="dfmobile search --space df-mini -o run")
        first = store.boundary()[0]
        record = {
            "encoding": first.encoding, "measured_ms": 1.02 * first.predicted_ms, "status": "re-measured",
            "files": {"tflite": {"path": "models/x.tflite"}}, "weights": "random (analytic)",
            "measurement": {"half_width_ms": 0.001},
        }  # fmt: skip
        store.set_remeasured(first.encoding, record)
    return folder / "run"


def test_every_architecture_is_accounted_for(run_folder: Path) -> None:
    data = collect(run_folder)
    assert data.candidates == data.space_size == open_space("df-mini", max_depth=1).count()
    assert len(data.evaluated) == BUDGET
    assert data.pruned is not None
    assert data.alive is not None
    assert data.candidates == len(data.evaluated) + data.pruned + data.alive
    assert data.strip is not None
    assert sum(data.strip.pruned) == data.pruned > 0
    assert sum(data.strip.alive) == data.alive
    assert min(data.strip.alive) >= 0
    assert list(data.strip.edges_ms) == sorted(data.strip.edges_ms)
    assert data.worst_ms == pytest.approx(data.strip.edges_ms[-1])


def test_the_boundary_is_the_stores(run_folder: Path) -> None:
    data = collect(run_folder)
    with CampaignStore(run_folder / "campaign.sqlite") as store:
        assert [item.encoding for item in data.winners] == [item.encoding for item in store.boundary()]
    assert sum(item.on_boundary for item in data.evaluated) == len(data.winners)
    first, *others = data.winners
    assert first.relative_error == pytest.approx(1 / 1.02 - 1)
    assert first.files == ("models/x.tflite",)
    assert first.interval_ms is not None
    assert first.interval_ms[0] <= first.predicted_ms <= first.interval_ms[1]
    assert all(item.measured_ms is None for item in others)
    assert "not re-measured" in data.not_measured_reason


def test_the_table_and_its_origin_are_there(run_folder: Path) -> None:
    data = collect(run_folder)
    space = open_space("df-mini", max_depth=1)
    assert len(data.blocks) == len(space.blocks(32, 32))
    assert {block.stage for block in data.blocks} == {None, 3, 4, 5}
    assert ("runtime library SHA-256", "ab" * 32) in data.provenance
    assert ("clock", "2000\u202fMHz") in data.conditions
    assert "CPU time of the measuring thread" in data.clock
    assert any(line.startswith("dfmobile lut build --space df-mini --input 32x32") for line in data.commands)
    assert "dfmobile search --space df-mini -o run" in data.commands


def test_the_page_says_that_nothing_was_trained(run_folder: Path, tmp_path: Path) -> None:
    page = write_report(run_folder, tmp_path / "deep" / "report.html")
    text = page.read_text(encoding="utf-8")
    assert "The accuracies on this page are not from trainings" in text
    assert text.count("analytic (simulated, not trained)") >= 5
    assert not re.search(r"\b(nan|None)\b", text)
    image = write_boundary_svg(run_folder, tmp_path / "boundary.svg").read_text(encoding="utf-8")
    assert "analytic (simulated, not trained)" in image


def test_a_report_changes_nothing(run_folder: Path, tmp_path: Path) -> None:
    before = {path: path.read_bytes() for path in sorted(run_folder.rglob("*")) if path.is_file()}
    write_report(run_folder, tmp_path / "report.html")
    assert {path: path.read_bytes() for path in sorted(run_folder.rglob("*")) if path.is_file()} == before


def test_without_its_table_the_report_says_so(run_folder: Path, tmp_path: Path) -> None:
    table = run_folder.parent / "table.sqlite"
    moved = table.rename(tmp_path / "elsewhere.sqlite")
    try:
        data = collect(run_folder)
    finally:
        moved.rename(table)
    assert data.blocks == ()
    assert all(item.interval_ms is None for item in data.winners)
    assert any("latency table was not found" in note for note in data.notes)


def test_folders_that_are_no_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises((InputError, StorageError), match=r"campaign\.sqlite"):
        write_report(tmp_path, tmp_path / "report.html")
    (tmp_path / "campaign.sqlite").write_bytes(b"not a database, but long enough to look like a file of one" * 40)
    with pytest.raises(FileFormatError):
        write_report(tmp_path, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_a_table_measured_on_since_gives_no_interval(run_folder: Path, tmp_path: Path) -> None:
    """An interval belongs to its prediction; around another one it would be invented."""
    space = open_space("df-mini", max_depth=1)
    table = run_folder.parent / "table.sqlite"
    kept = table.rename(tmp_path / "kept.sqlite")
    try:
        make_table(table, space, passes=5)
        data = collect(run_folder)
    finally:
        kept.replace(table)
    assert all(item.interval_ms is None for item in data.winners)
    assert np.isfinite([item.predicted_ms for item in data.winners]).all()


def test_conditions_of_a_phone_have_battery_charger_and_screen() -> None:
    first = {"battery_percent": 80.0, "battery_temperature_c": 25.0, "charging": True, "screen_on": True}
    facts = dict(condition_facts([first, {**first, "battery_percent": 78.0, "screen_on": False}]))
    assert facts["battery"].replace("\u202f", " ") == "78 to 80 %, 25.0 °C"
    assert (facts["charger"], facts["screen"]) == ("connected", "on, then off")
    assert "battery" not in dict(condition_facts([{"load_1min": 1.0}]))
