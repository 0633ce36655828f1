"""Recorded per-layer logs: the same layer has the same key in every network, and coverage is always said."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from latency_helpers import build_mini

from dfmobile.architecture import Network, build, resolve
from dfmobile.errors import FileFormatError, InputError, MissingBlocksError
from dfmobile.graph import GraphBuilder
from dfmobile.graph.fold import fold_batch_norm
from dfmobile.latency.coverage import table_document
from dfmobile.latency.layer_predictor import LayerPrediction, LayerPredictor
from dfmobile.latency.layers import Fusion, layers_of
from dfmobile.latency.merge import merge_tables
from dfmobile.latency.predictor import Predictor
from dfmobile.latency.recorded import import_recorded
from dfmobile.latency.table import LatencyTable

HEADER = (
    "network,resolution_HxW,output,index,fused_layer,base_layer,fused_ops,in_shape_CHW,out_shape_CHW,kernel,stride,"
    "groups,macs,ms"
)
ROWS = (
    "N,64x96,y,0,a + a/relu,a,conv+relu,3x64x96,8x32x48,3,2,1,331776,0.25",
    "N,64x96,y,1,b + sum,b,conv+add+relu,8x32x48,8x32x48,3,1,1,884736,0.5",
    "N,64x96,y,2,c + c/relu,c,conv+relu,8x32x48,8x32x48,3,1,1,884736,0.125",
    "N,64x96,y,3,d + d/relu,d,conv+relu,8x32x48,8x32x48,3,1,1,884736,0.375",
)


def log(path: Path, *rows: str) -> Path:
    path.write_text("\n".join((HEADER, *rows)) + "\n")
    return path


def small() -> Network:
    """Return a network; only its shapes matter."""
    return build(resolve("DF1"), 64, 64)


def test_a_fused_log_becomes_a_table_of_layers(tmp_path: Path) -> None:
    content = import_recorded(
        log(tmp_path / "l.csv", *ROWS), tmp_path / "t.sqlite", device="Board", runtime="Engine 1.2"
    )
    assert (content.header.granularity, content.header.backend) == ("layer", "recorded")
    assert (content.header.runtime, content.header.runtime_version) == ("Engine", "1.2")
    with LatencyTable.open(tmp_path / "t.sqlite") as table:
        document = table_document(table)
        row = table.provenance(table.entries()[0].key)[0]
    times = [(entry["kind"], entry["hot_ms"], entry["n"]) for entry in document["entries"]]
    assert times == [("conv+relu", 0.25, 1), ("conv+add+relu", 0.5, 1), ("conv+relu", 0.25, 2)]
    assert {entry["half_width"] for entry in document["entries"]} == {None}
    assert (row["session"]["recorded"], row["extra"]["recorded"], row["session"]["log"]) == (True, True, "l.csv")
    assert len(row["session"]["log_sha256"]) == 64


def test_keys_are_those_of_the_network_that_was_logged(tmp_path: Path) -> None:
    builder = GraphBuilder()
    image = builder.input("image", (1, 3, 64, 96))
    first = builder.relu(builder.conv(image, 8, 3, stride=2, padding=1, bias=True, name="any"))
    total = builder.add(first, builder.conv(first, 8, 3, padding=1, bias=True))
    keys = [layer.key for layer in layers_of(builder.build(builder.relu(total)), "fused")]
    content = import_recorded(log(tmp_path / "l.csv", *ROWS), tmp_path / "t.sqlite", device="B", runtime="E 1")
    assert keys == [block.key for block in content.blocks[:2]]


@pytest.mark.parametrize("fusion", ["fused", "unfused"])
@pytest.mark.parametrize("name", ["DF1", "DF2A", "PL1A-Seg", "DF1-Seg"])
def test_layers_hold_all_the_work_of_a_network(name: str, fusion: Fusion) -> None:
    network = build(resolve(name), 256, 256)
    layers = layers_of(fold_batch_norm(network.graph), fusion)
    assert sum(layer.macs for layer in layers) == network.cost.macs


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("N,64x96,y,0,a,a,conv,3x64x96,8x32x48,3,2,1,5,0.25", "says 8x32x48, 5 MACs"),
        ("N,64x96,y,0,a,a,conv,3x64x96,8x30x48,3,2,1,331776,0.25", "says 8x30x48"),
        ("N,64x96,y,0,a,a,conv,3x64x96,8x32x48,3,2,2,331776,0.25", "2 groups"),
        ("N,64x96,y,0,a,a,fft,3x64x96,8x32x48,3,2,1,331776,0.25", "unknown fused ops"),
        ("N,64x96,y,0,a,a,conv+tanh,3x64x96,8x32x48,3,2,1,331776,0.25", "unknown fused ops"),
        ("N,64x96,y,0,a,a,conv,3x64x96,8x32x48,3,2,1,331776,nan", "no time"),
        ("N,64x96,y,0,a,a,conv,3x64x96,8x32x48,3,2,1,331776,-1", "no time"),
        ("N,64x96,y,0,a,a,conv,3x64x,8x32x48,3,2,1,331776,1", "no shape"),
        ("N,64x96,y,0,a,a,conv,3x64x96,8x32x48,0,2,1,331776,1", "positive"),
        ("N,64x96,y,0,a,a,conv,3x64x96,8x32x48,3,2,1,331776", "columns"),
    ],
)
def test_a_row_that_cannot_be_is_refused(tmp_path: Path, row: str, words: str) -> None:
    with pytest.raises(FileFormatError, match=words) as caught:
        import_recorded(log(tmp_path / "l.csv", row), tmp_path / "t.sqlite", device="B", runtime="E 1")
    assert "line 2" in str(caught.value)
    assert not (tmp_path / "t.sqlite").exists()


def test_another_csv_is_refused(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("a,b\n1,2\n")
    with pytest.raises(FileFormatError, match="not a per-layer log"):
        import_recorded(tmp_path / "l.csv", tmp_path / "t.sqlite", device="B", runtime="E 1")


def test_an_unfused_log_needs_the_layers_of_its_network(tmp_path: Path) -> None:
    (tmp_path / "l.csv").write_text("network,index,layer,type,out_shape_NCHW,ms_forward\nN,0,a,Input,1x3x8x8,0.1\n")
    with pytest.raises(InputError, match="must be described") as caught:
        import_recorded(tmp_path / "l.csv", tmp_path / "t.sqlite", device="B", runtime="E 1")
    assert "--layers" in caught.value.hint


def test_a_recorded_table_never_mixes_with_a_measured_one(tmp_path: Path) -> None:
    import_recorded(log(tmp_path / "l.csv", *ROWS), tmp_path / "t.sqlite", device="B", runtime="E 1")
    build_mini(tmp_path / "m.sqlite")
    with LatencyTable.open(tmp_path / "t.sqlite") as recorded, LatencyTable.open(tmp_path / "m.sqlite") as measured:
        with pytest.raises(InputError, match="table of layers"):
            Predictor(recorded)
        with pytest.raises(InputError, match="table of blocks"):
            LayerPredictor(measured)
    with pytest.raises(InputError, match="granularity"):
        merge_tables([tmp_path / "m.sqlite", tmp_path / "t.sqlite"], tmp_path / "x.sqlite")


def test_what_is_not_covered_is_named_and_never_substituted(tmp_path: Path) -> None:
    import_recorded(log(tmp_path / "l.csv", *ROWS), tmp_path / "t.sqlite", device="B", runtime="E 1")
    with LatencyTable.open(tmp_path / "t.sqlite") as table:
        predictor = LayerPredictor(table)
    with pytest.raises(MissingBlocksError, match=r"0 of \d+ layers, 0.0 % of the MACs") as caught:
        predictor.predict(small())
    assert len(caught.value.keys) > 0
    partial = predictor.predict(small(), allow_partial=True)
    assert (partial.covered_ms, partial.complete, partial.to_dict()["latency_ms"]) == (0.0, False, None)


# Published logs. Totals are sums of the same layers: this tests keys and import, nothing about additivity.

LOGS = {
    "fused": ("gtx1080ti_tensorrt_layers.csv", "ms", "GTX 1080 Ti", "TensorRT 3.0.4"),
    "unfused": ("titanx_caffe_layers.csv", "ms_forward", "Titan X", "Caffe"),
}


def recorded_times(folder: Path, fusion: Fusion, network: str) -> list[float]:
    """Return the recorded times of a network at 2048x1024, in the order of the log."""
    name, column, *_ = LOGS[fusion]
    with (folder / name).open(newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["network"] == network]
    return [float(row[column]) for row in rows if row.get("resolution_HxW", "1024x2048") == "1024x2048"]


def predicted(folder: Path, path: Path, fusion: Fusion, table: str, network: str) -> LayerPrediction:
    """Predict one network from another's log."""
    log_name, _, device, runtime = LOGS[fusion]
    if not path.exists():
        import_recorded(
            folder / log_name,
            path,
            device=device,
            runtime=runtime,
            network=table,
            size=(2048, 1024),
            documents=[] if fusion == "fused" else [folder / f"{table}.json"],
        )
    with LatencyTable.open(path) as opened:
        return LayerPredictor(opened).predict(build(resolve(network), 2048, 1024), allow_partial=True)


@pytest.mark.parametrize("fusion", ["fused", "unfused"])
@pytest.mark.parametrize("name", ["DF1-Seg", "DFlite-Seg", "DF1-Seg-d8", "DFlite-Seg-d8"])
def test_a_published_log_predicts_its_own_network(reference: Path, tmp_path: Path, fusion: Fusion, name: str) -> None:
    prediction = predicted(reference / "df", tmp_path / "t.sqlite", fusion, name, name)
    times = recorded_times(reference / "df", fusion, name)
    assert prediction.complete
    assert len(prediction.layers) == len(times)
    # Layers that occur several times get the median of their times.
    assert prediction.covered_ms == pytest.approx(sum(times), rel=1e-3)


@pytest.mark.parametrize(
    ("fusion", "covered", "layers", "allowed"), [("fused", 40, 48, 0.011), ("unfused", 75, 85, 0.005)]
)
def test_the_log_of_one_network_predicts_what_it_covers_of_another(
    reference: Path, tmp_path: Path, fusion: Fusion, covered: int, layers: int, allowed: float
) -> None:
    prediction = predicted(reference / "df", tmp_path / "t.sqlite", fusion, "DF1-Seg", "DFlite-Seg")
    times = recorded_times(reference / "df", fusion, "DFlite-Seg")
    assert (len(prediction.layers) - len(prediction.uncovered), len(prediction.layers)) == (covered, layers)
    pairs = zip(prediction.layers, times, strict=True)
    truth = sum(time_ms for layer, time_ms in pairs if layer.latency_ms is not None)
    assert prediction.covered_ms == pytest.approx(truth, rel=allowed)
    assert 0.95 < prediction.macs_share < 0.96
