"""``dfmobile variants``: the whole chain on a tiny space; it goes on where it was, and refuses what makes no sense."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from dfmobile.architecture.spaces import SearchSpace, open_space
from dfmobile.cli.main import app
from dfmobile.devices.profile import DeviceProfile, fingerprint
from dfmobile.graph.exported import EXPORT_VERSION
from dfmobile.latency.header import Build, TableHeader
from dfmobile.latency.measurement import PassResult, Protocol
from dfmobile.latency.table import LatencyTable
from dfmobile.search.store import CampaignStore

DOCUMENT: dict[str, Any] = {
    "schema_version": 1,
    "name": "tiny",
    "family": "shuffle",
    "widths": [8, 16],
    "max_depth": 2,
    "default_input": {"width": 64, "height": 32},
    "decoders": {"controllers": [8, 16], "output_strides": [4, 8]},
}
PROFILE = DeviceProfile(name="made-up", kind="host", soc="Made-up CPU")
MEMBER = "shuffle/1x8/1x8/1x16+seg:8,8,8:d8"


def make_table(path: Path, space: SearchSpace) -> None:
    """Write a table of this host whose times are made up from MACs."""
    header = TableHeader(
        granularity="block", device="local", device_fingerprint=fingerprint(PROFILE), device_summary="Made-up CPU",
        device_profile=PROFILE.model_dump(mode="json"), backend="litert", runtime="LiteRT", runtime_version="0",
        library_sha256="ab" * 32, flags={}, precision="fp32", threads=1, affinity="1", created_by="test",
        export_version=EXPORT_VERSION,
    )  # fmt: skip
    width, height = space.default_input
    protocol = Protocol(passes=2)
    with LatencyTable.create(path, header) as table:
        session = table.start_session({"protocol": protocol.to_dict()})
        table.note_build(
            Build(space=space.name, network=None, width=width, height=height, passes=2, latency_max_ms=None,
                  keys=space.key_index(width, height))
        )  # fmt: skip
        for block in space.blocks(width, height):
            for index in range(2):
                hot = (0.002 + block.macs / 5e6) * (1 + 0.01 * index)
                result = PassResult(
                    hot_ms=[hot, hot], cold_ms=[1.5 * hot], clock="thread-cpu", warm_up_ms=[hot], warm_up_runs=1,
                    steady=True, init_ms=1.0, kernel_ms=4 * hot, kernel_wall_ms=4 * hot, cpu_wall_ratio=1.0,
                    involuntary_switches=0, started_utc="2026-01-01T00:00:00+00:00", conditions_before={},
                )  # fmt: skip
                table.record_pass(block, index, result, session=session, model_sha256="cd" * 32)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(DOCUMENT))
    make_table(folder / "table.sqlite", open_space(str(folder / "tiny.yaml")))
    return folder


@pytest.fixture
def space_file(made: Path, tmp_path: Path) -> Path:
    for name in ("tiny.yaml", "table.sqlite"):
        shutil.copyfile(made / name, tmp_path / name)
    return tmp_path / "tiny.yaml"


def command(space_file: Path, *more: str) -> list[str]:
    folder = space_file.parent
    table = ["--lut", str(folder / "table.sqlite")]
    budget = ["--backbones", "5", "--decoders", "5", "--keep", "2", "--workers", "1"]
    start = ["variants", "--space", str(space_file), *table, "--latency-target", "1", "--evaluator", "analytic"]
    return [*start, *budget, "-o", str(folder / "run"), *more]


def test_from_a_space_to_a_report_and_again(space_file: Path) -> None:
    first = CliRunner().invoke(app, command(space_file, "--reference", MEMBER, "--reference", "DF1-Seg", "--json"))
    assert first.exit_code == 0, first.stderr
    run = space_file.parent / "run"
    found = json.loads(first.stdout)
    winners = [item["encoding"] for item in found["boundary"]]
    assert 1 <= len(winners) <= found["evaluated"] <= 2
    for item in found["boundary"]:
        assert item["predicted_ms"] <= 1
        assert item["measured_ms"] > 0
        assert (run / "3-variants" / item["files"]["tflite"]["path"]).is_file()

    with CampaignStore(run / "1-backbones" / "campaign.sqlite") as store:
        decoders = {item.encoding.partition("+")[2] for item in store.evaluations()}
        backbones = {item.encoding.partition("+")[0] for item in store.evaluations()}
    assert decoders == {"seg:8,8,8:d8"}  # backbones are compared with one decoder
    with CampaignStore(run / "2-decoders" / "campaign.sqlite") as store:
        searched = [item.encoding.partition("+") for item in store.evaluations()]
    assert {backbone for backbone, _, _ in searched} <= backbones
    assert len({decoder for _, _, decoder in searched}) > 1

    page = (run / "report.html").read_text()
    assert "Other networks at the same input" in page
    assert 'class="reference"' in page
    assert "none: the table lacks stem, stage3.block1" in page  # DF1-Seg: not in this table, said so
    assert (run / "backbones.html").is_file()
    assert (run / "decoders.html").is_file()

    boundary = (run / "3-variants" / "boundary.json").read_bytes()
    again = CliRunner().invoke(app, command(space_file, "--reference", MEMBER, "--reference", "DF1-Seg", "--json"))
    assert again.exit_code == 0, again.stderr
    assert json.loads(again.stdout)["boundary"] == found["boundary"]
    assert "measuring end to end" not in again.stderr  # what was measured is kept
    assert (run / "3-variants" / "boundary.json").read_bytes() == boundary


def test_an_interrupted_run_goes_on_to_the_same_variants(space_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("dfmobile.search.variants.variant_space", interrupted)
        stopped = CliRunner().invoke(app, command(space_file, "--reference", MEMBER))
    assert stopped.exit_code == 130
    run = space_file.parent / "run"
    assert (run / "2-decoders" / "campaign.sqlite").is_file()
    assert not (run / "3-variants").exists()
    resumed = CliRunner().invoke(app, command(space_file, "--reference", MEMBER, "--json"))
    whole = CliRunner().invoke(app, command(space_file, "--reference", MEMBER, "--json", "-o", f"{run}-whole"))
    assert resumed.exit_code == whole.exit_code == 0
    found = [
        [(item["encoding"], item["accuracy"], item["predicted_ms"]) for item in json.loads(result.stdout)["boundary"]]
        for result in (resumed, whole)
    ]
    assert found[0] == found[1]


def test_a_report_shows_further_references(space_file: Path) -> None:
    assert CliRunner().invoke(app, command(space_file, "--reference", MEMBER)).exit_code == 0
    run = space_file.parent / "run"
    done = CliRunner().invoke(
        app, ["report", str(run / "2-decoders"), "-o", str(run / "x.html"), "--reference", "PL1A-Seg"]
    )
    assert done.exit_code == 0, done.stderr
    assert "PL1A-Seg" in (run / "x.html").read_text()
    wrong = CliRunner().invoke(app, ["report", str(run / "2-decoders"), "-o", str(run / "y.html"), "--reference", "no"])
    assert wrong.exit_code == 1
    assert wrong.stderr.startswith("error: ")
    assert not (run / "y.html").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--latency-target", "0.001"], "is predicted to run in 0.001 ms: the fastest takes"),
        (["--latency-target", "0"], "a latency target of 0 ms leaves nothing"),
        (["--latency-target", "inf"], "a latency target of inf ms leaves nothing"),
        (["--option", "nois=1"], "unexpected keyword argument 'nois'"),
        (["--final-epochs", "3"], "unexpected keyword argument 'epochs'"),
        (["--reference", "nothing"], "unknown network 'nothing'"),
        (["--input", "50x50"], "not a multiple of"),
        (["--space", "df-mini"], "has no decoders to choose from"),
        (["--covered-only"], "is not recorded: what it lacks can be measured"),
        (["--input", "128x64"], "lacks"),
        (["--lut", "absent.sqlite"], "absent.sqlite"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_evaluated(
    space_file: Path, more: list[str], said: str
) -> None:
    result = CliRunner().invoke(app, command(space_file, *more))
    assert result.exit_code == 1
    lines = [line for line in result.stderr.splitlines() if not line.startswith("1/6")]
    assert lines[0].startswith("error: ")
    assert said in lines[0]
    assert not (space_file.parent / "run" / "1-backbones").exists()


def test_another_run_in_the_same_folder_is_refused(space_file: Path) -> None:
    assert CliRunner().invoke(app, command(space_file, "--reference", MEMBER)).exit_code == 0
    other = CliRunner().invoke(app, command(space_file, "--reference", MEMBER, "--latency-target", "0.9"))
    assert other.exit_code == 1
    assert "has a campaign of other settings: latency range ms" in other.stderr


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_with_a_table_of_this_host_and_trainings(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(DOCUMENT | {"max_depth": 1}))
    options = [f"--option={item}" for item in ("data=scenes:16", "image_size=64x32", "validation_images=4", "epochs=1")]
    budget = ["--backbones", "2", "--decoders", "2", "--keep", "2", "--passes", "1", "--final-epochs", "2"]
    done = CliRunner().invoke(
        app, ["variants", "--space", str(path), "--latency-target", "5", *budget, *options, "--reference", MEMBER,
              "-o", str(tmp_path / "run"), "--json"],
    )  # fmt: skip
    assert done.exit_code == 0, done.stderr
    for item in json.loads(done.stdout)["boundary"]:
        assert item["weights"] == "trained"
        assert item["measured_ms"] > 0
    with CampaignStore(tmp_path / "run" / "3-variants" / "campaign.sqlite") as store:
        assert {item.details["epochs"] for item in store.evaluations()} == {2}
