"""Spaces predicted from a recorded table: as far as it covers, and what it does not cover is never estimated."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from dfmobile.architecture import build, resolve
from dfmobile.architecture.spaces import open_space
from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.errors import InputError, MissingBlocksError
from dfmobile.latency.layer_predictor import LayerPredictor
from dfmobile.latency.recorded import import_recorded
from dfmobile.latency.recorded_predictor import RULE, RecordedPredictor, open_predictor
from dfmobile.latency.table import LatencyTable

SIZE = (2048, 1024)


@pytest.fixture(scope="module")
def table(reference: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LatencyTable]:
    path = tmp_path_factory.mktemp("recorded") / "gtx.sqlite"
    log = reference / "df" / "gtx1080ti_tensorrt_layers.csv"
    import_recorded(log, path, device="GTX 1080 Ti", runtime="TensorRT 3.0.4", size=SIZE)
    with LatencyTable.open(path) as opened:
        yield opened


@pytest.mark.parametrize("name", ["DF1-Seg", "DF1-Seg-d8", "DFlite-Seg", "DFlite-Seg-d8"])
def test_a_networks_blocks_add_up_to_its_layers(table: LatencyTable, name: str) -> None:
    network = build(resolve(name), *SIZE)
    found = RecordedPredictor(table).predict(network)
    assert found.latency_ms == pytest.approx(LayerPredictor(table).predict(network).covered_ms, rel=1e-9)
    assert found.interval_ms is None
    assert found.rule == RULE


def test_only_members_with_every_layer_have_a_latency(table: LatencyTable) -> None:
    space, predictor = open_space("df-seg", 3), RecordedPredictor(table)
    assert predictor.coverage(space, *SIZE) == (24, 201)
    rows = space.sample_rows(2000, np.random.default_rng(0))
    known = np.array([space.row(resolve(name)) for name in ("DFlite-Seg", "DFlite-Seg-d8")], rows.dtype)
    found = predictor.predict_rows(space, np.concatenate([known, rows]), *SIZE)
    assert np.isfinite(found[:2]).all()
    assert np.isinf(found).any()
    assert found[0] == pytest.approx(predictor.predict(build(resolve("DFlite-Seg"), *SIZE)).latency_ms)
    assert isinstance(space, ChainSpace)
    by_stage = predictor.stage_latencies(space, *SIZE).values(np.concatenate([known, rows]))
    np.testing.assert_allclose(by_stage, found, rtol=1e-9)
    for row in rows[np.isfinite(found[2:])][:5]:
        predictor.predict(build(space.architecture(row), *SIZE))
    for row in rows[np.isinf(found[2:])][:5]:
        with pytest.raises(MissingBlocksError):
            predictor.predict(build(space.architecture(row), *SIZE))


def test_a_user_must_say_that_a_part_is_enough(table: LatencyTable) -> None:
    space = open_space("df-seg", 2)
    with pytest.raises(MissingBlocksError, match=r"covers .* of 201 blocks") as caught:
        open_predictor(table).predict_rows(space, space.rows()[:1], *SIZE)
    assert "--covered-only" in caught.value.hint
    open_predictor(table, covered_only=True).predict_rows(space, space.rows()[:1], *SIZE)
    with pytest.raises(InputError, match="is recorded: rule 'sum'"):
        open_predictor(table, "sum")


def test_what_the_log_covers_of_df_seg_is_what_the_page_says(table: LatencyTable) -> None:
    space = open_space("df-seg")
    assert isinstance(space, ChainSpace)
    tables = RecordedPredictor(table).stage_latencies(space, *SIZE)
    low, high = tables.span()
    assert (f"{low:.2f}", f"{high:.2f}") == ("5.36", "17.14")
    page = (Path(__file__).resolve().parents[2] / "docs" / "how-to" / "recorded-tables.md").read_text()
    assert "24 of 201 blocks" in page
    assert "from 5.36 to 17.14 ms" in page
    assert f"of {space.count():,} architectures" in page
    # Any depth of stages 3 and 4, of stage 5 without its last block one less; eight decoders.
    depth = space.max_depth
    assert f"{depth * depth * (depth - 1) * 8:,} of" in page
    finite = sum(np.isfinite(part[0]).any() for part in map(tables.variant, range(tables.decoders)))
    assert finite == 8
