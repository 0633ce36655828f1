"""Bundles: complete, runnable without dfmobile, honest about latencies, whole or absent."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dfmobile.architecture import Network, build, resolve
from dfmobile.data.cityscapes import CLASS_NAMES
from dfmobile.data.input_preprocessing import Preprocessing
from dfmobile.data.preprocessing import read_image
from dfmobile.devices.device import open_device
from dfmobile.devices.profile import known_profiles, load_profile
from dfmobile.errors import ExportError, InputError, MissingBlocksError
from dfmobile.export.weights import save_weights
from dfmobile.graph import initialise
from dfmobile.latency.backends.base import open_backend
from dfmobile.latency.header import TableHeader
from dfmobile.latency.measurement import PassResult
from dfmobile.latency.table import LatencyTable
from dfmobile.search.bundle import BundleLatency, BundleRequest, write_bundle

ENCODING = "shuffle/2x16/2x32/2x64+seg:16,32,64"
has_quantiser = importlib.util.find_spec("ai_edge_quantizer") is not None


@pytest.fixture(scope="module")
def network() -> Network:
    return build(resolve(ENCODING), 128, 64)


@pytest.fixture(scope="module")
def request_(network: Network, tmp_path_factory: pytest.TempPathFactory) -> BundleRequest:
    folder = tmp_path_factory.mktemp("bundle")
    pixels = Preprocessing("BGR", (104.0, 117.0, 123.0), (0.008, 0.008, 0.008), "a test")
    save_weights(folder / "w.npz", initialise(network.graph, 1), pixels.metadata())
    images = folder / "images"
    images.mkdir()
    for number in range(3):
        coarse = np.random.default_rng(number).integers(0, 256, (6, 8, 3), np.uint8)
        Image.fromarray(coarse).resize((200, 100), Image.Resampling.BICUBIC).save(images / f"{number}.png")
    return BundleRequest("small net", network, folder / "w.npz", known_profiles()["snapdragon-845"], check=images)


def table_of(path: Path, network: Network | None, **changes: Any) -> Path:
    """Write a table of this host, in which each block of a network takes 0.25 ms."""
    timed = PassResult(
        hot_ms=[0.25, 0.25],
        cold_ms=[0.5],
        clock="thread-cpu",
        warm_up_ms=[0.25],
        warm_up_runs=1,
        steady=True,
        init_ms=1.0,
        kernel_ms=1.0,
        kernel_wall_ms=1.0,
        cpu_wall_ratio=1.0,
        involuntary_switches=0,
        started_utc="2026-01-01T00:00:00+00:00",
        conditions_before={},
        conditions_after={},
    )
    with open_device("local") as device:
        header = TableHeader.of(open_backend("litert", device))
    with LatencyTable.create(path, header.model_copy(update=changes)) as table:
        session = table.start_session({})
        for block in {block.key: block for block in (network.blocks if network else ())}.values():
            for number in range(2):
                table.record_pass(block, number, timed, session=session, model_sha256="ab" * 32)
    return path


def test_a_bundle_has_everything_and_says_what_it_has_not(request_: BundleRequest, tmp_path: Path) -> None:
    told: list[str] = []
    manifest = write_bundle(request_, tmp_path / "b", told.append)
    made = {path.relative_to(tmp_path / "b").as_posix() for path in (tmp_path / "b").rglob("*") if path.is_file()}
    models = {"models/small-net.tflite", "models/small-net.fp16.tflite"}
    others = {"labels.txt", "preprocessing.json", "palette.json", "palette.png", "device.yaml", "example.py"}
    assert made == {*models, *others, "latencies.json", "README.md", "bundle.json"}
    assert json.loads((tmp_path / "b" / "bundle.json").read_text()) == manifest
    for item in manifest["models"]:
        data = (tmp_path / "b" / item["path"]).read_bytes()
        assert (item["bytes"], item["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
        assert item["argmax_agreement"] > 0.95
        assert item["checked_on"] == "3 of images"
    assert (tmp_path / "b" / "labels.txt").read_text().splitlines() == list(CLASS_NAMES)
    assert json.loads((tmp_path / "b" / "palette.json").read_text())["road"] == [128, 64, 128]
    assert load_profile(tmp_path / "b" / "device.yaml") == request_.profile
    assert json.loads((tmp_path / "b" / "latencies.json").read_text()) == []
    page = (tmp_path / "b" / "README.md").read_text()
    for text in ("BGR", "128x64", "example.py", "int8: it needs images to calibrate with", "no device to measure on"):
        assert text in page
    assert len(told) == 2
    assert not list(tmp_path.glob(".*"))


@pytest.mark.skipif(not has_quantiser, reason="the extra quantize is not installed")
def test_the_example_runs_every_precision_alone(request_: BundleRequest, tmp_path: Path) -> None:
    assert request_.check is not None
    write_bundle(replace(request_, calibration=request_.check), tmp_path / "b")
    image = request_.check / "0.png"
    maps = []
    for name in ("small-net.tflite", "small-net.fp16.tflite", "small-net.int8.tflite"):
        command = [
            sys.executable,
            "-W",
            "ignore",
            "example.py",
            f"models/{name}",
            str(image),
            str(tmp_path / f"{name}.png"),
        ]
        done = subprocess.run(command, cwd=tmp_path / "b", capture_output=True, text=True, timeout=120, check=True)
        assert any(line.endswith(tuple(CLASS_NAMES)) for line in done.stdout.splitlines())
        maps.append(np.array(read_image(tmp_path / f"{name}.png")))
    assert maps[0].shape == (16, 32)
    assert np.mean(maps[0] == maps[1]) > 0.98
    assert np.mean(maps[0] == maps[2]) > 0.5


def test_latencies_are_measured_where_the_device_is(request_: BundleRequest, tmp_path: Path) -> None:
    with open_device("local") as device:
        manifest = write_bundle(replace(request_, profile=device.profile, device=device), tmp_path / "b")
    assert [(item["kind"], item["precision"]) for item in manifest["latencies"]] == [("measured", "fp32")] * 2
    assert all(item["latency_ms"] > 0 for item in manifest["latencies"])
    assert "**measured**" in (tmp_path / "b" / "README.md").read_text()


def test_latencies_are_predicted_from_a_table_of_the_device(
    request_: BundleRequest, network: Network, tmp_path: Path
) -> None:
    table = table_of(tmp_path / "t.sqlite", network)
    # A packaged profile stands for every device that it fits.
    with open_device("local") as device:
        profiles = [device.profile]
    if profiles[0].abi == "x86_64":
        profiles.append(known_profiles()["generic-x86-64"])
    for number, profile in enumerate(profiles):
        manifest = write_bundle(replace(request_, profile=profile, tables=(table,)), tmp_path / f"b{number}")
        found = manifest["latencies"]
        assert [(item["kind"], item["model"]) for item in found] == [
            ("predicted", "models/small-net.tflite"),
            ("predicted", "models/small-net.fp16.tflite"),
        ]
        assert found[0]["latency_ms"] == pytest.approx(0.25 * len(network.blocks))
        assert "t.sqlite" in found[0]["note"]
        assert not any("latencies of" in text for text in manifest["absent"])
    int8 = table_of(tmp_path / "i.sqlite", network, precision="int8")
    with pytest.raises(InputError, match="of which the bundle has no model") as caught:
        write_bundle(replace(request_, profile=profiles[0], tables=(int8,)), tmp_path / "c")
    assert "--calibration" in caught.value.hint


def test_tables_of_other_devices_or_without_the_blocks_are_refused(request_: BundleRequest, tmp_path: Path) -> None:
    table = table_of(tmp_path / "t.sqlite", None)
    with pytest.raises(InputError, match="not on snapdragon-845"):
        write_bundle(replace(request_, tables=(table,)), tmp_path / "b")
    with open_device("local") as device:
        host = device.profile
    with pytest.raises(MissingBlocksError):
        write_bundle(replace(request_, profile=host, tables=(table,)), tmp_path / "b")
    layers = table_of(tmp_path / "l.sqlite", None, granularity="layer")
    with pytest.raises(InputError, match="recorded layers"):
        write_bundle(replace(request_, profile=host, tables=(layers,)), tmp_path / "b")
    assert not (tmp_path / "b").exists()
    assert not list(tmp_path.glob(".b*"))


def test_a_bundle_that_fails_leaves_nothing(
    request_: BundleRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ExportError("no")

    monkeypatch.setattr("dfmobile.search.bundle.bundle.export", fails)
    with pytest.raises(ExportError):
        write_bundle(request_, tmp_path / "deep" / "b")
    assert list((tmp_path / "deep").iterdir()) == []


def test_folders_that_are_in_use_are_left_alone(request_: BundleRequest, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "mine").write_text("x")
    with pytest.raises(InputError, match="not an empty folder"):
        write_bundle(request_, tmp_path / "b")
    assert (tmp_path / "b" / "mine").read_text() == "x"
    with pytest.raises(InputError, match="format 'caffe' is unknown"):
        write_bundle(replace(request_, formats=("caffe",)), tmp_path / "c")
    (tmp_path / "empty").mkdir()
    write_bundle(request_, tmp_path / "empty")
    assert (tmp_path / "empty" / "bundle.json").is_file()


def test_formats_beside_tflite(request_: BundleRequest, tmp_path: Path) -> None:
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    pytest.importorskip("ncnn")
    assert request_.check is not None
    request = replace(
        request_, formats=("onnx", "ncnn"), calibration=request_.check, profile=known_profiles()["jetson-orin-nano"]
    )
    manifest = write_bundle(request, tmp_path / "b")
    paths = [(item["format"], item["precision"]) for item in manifest["models"]]
    assert paths == [("onnx", "fp32"), ("onnx", "fp16"), ("onnx", "int8"), ("ncnn", "fp32"), ("ncnn", "fp16")]
    for item in manifest["models"]:
        for name in (item["path"], *item["companions"]):
            assert (tmp_path / "b" / name).is_file()


def test_a_latency_says_how_it_is_known() -> None:
    latency = BundleLatency("predicted", "m", 1.5, (1.0, 2.0), "fp32", "litert", "LiteRT 2", 1, "a phone", "table t")
    assert latency.to_dict()["kind"] == "predicted"
    assert latency.to_dict()["interval_ms"] == [1.0, 2.0]
