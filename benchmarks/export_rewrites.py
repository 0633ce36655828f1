"""What each rewrite of exported files gains alone, what all gain together, and whether blocks still add up.

PL1A-Seg at 640x384 is written with and without each rewrite, for LiteRT and ONNX Runtime. All files run in one
process, one thread, in rounds; in each round every file runs three times, in a new random order, and the faster of
the second and third run counts, by the CPU time of the thread. The gain of a file is the median over rounds of its
time over the base file's in the same round: what slows the machine down for a while slows both.

With ``--additivity N`` the blocks of PL1A-Seg and of N random networks of ``shuffle`` are measured alone, and the sums
are compared with the networks measured whole: from a table, built first, and in one process in common rounds.

Run: ``python benchmarks/export_rewrites.py [--rounds 60] [--additivity 10]``. Takes about 4 minutes.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

from dfmobile.architecture import Network, build, zoo
from dfmobile.architecture.spaces import open_space
from dfmobile.devices.device import open_device
from dfmobile.export import onnx as onnx_export
from dfmobile.export import tflite, tflite_conv, tflite_lowering, tflite_ops
from dfmobile.export.exporter import model_bytes
from dfmobile.graph import Graph, Node, Weights, exported, initialise, ops
from dfmobile.graph.channel_order import Reordered, natural
from dfmobile.graph.exported import exported_form
from dfmobile.graph.merge_depthwise import merge_depthwise, merge_depthwise_weights
from dfmobile.graph.reference import bilinear_kernel
from dfmobile.latency.bench import BENCH_PROTOCOL, bench_models
from dfmobile.latency.builder import build_table
from dfmobile.latency.inprocess import random_inputs
from dfmobile.latency.measurement import Protocol
from dfmobile.latency.models import cheap_weights, timing_model
from dfmobile.latency.predictor import Predictor
from dfmobile.latency.table import LatencyTable
from dfmobile.runtimes import ModelRunner
from dfmobile.runtimes.litert import LiteRTRunner
from dfmobile.runtimes.onnxruntime import OnnxRuntimeRunner

RUNS = 3
LANES = 16  # float32 values in an AVX-512 register


def no_reordering(graph: Graph, **_: Any) -> Reordered:
    """Leave a graph's shuffles where they are."""
    return Reordered(graph, tuple(natural(graph.shapes[name][1]) for name in graph.outputs), {}, {})


def shuffles_stay() -> contextlib.AbstractContextManager[Any]:
    """Write channel shuffles as they stand in the network."""
    return mock.patch.object(exported, "reorder_channels", no_reordering)


@contextlib.contextmanager
def stem_stays() -> Iterator[None]:
    """Write the stem's depthwise and 1x1 conv as two convs, in .onnx files."""
    with (
        mock.patch.object(onnx_export, "merge_depthwise", lambda graph: graph),
        mock.patch.object(onnx_export, "merge_depthwise_weights", lambda graph, weights: weights),
    ):
        yield


def transposed_conv_stays() -> contextlib.AbstractContextManager[Any]:
    """Write fixed bilinear transposed convs as ConvTranspose, in .onnx files."""

    def write(lowering: Any, node: Node, op: ops.BilinearUpsample) -> None:
        channels, size = lowering.graph.shapes[node.inputs[0]][1], 2 * op.scale
        kernel = np.broadcast_to(bilinear_kernel(op.scale).astype(np.float32), (channels, 1, size, size))
        weight = lowering.constant(f"bilinear/{channels}x{op.scale}", kernel)
        lowering.append(
            "ConvTranspose", [node.inputs[0], weight], [node.outputs[0]], node.name, group=channels,
            kernel_shape=[size] * 2, strides=[op.scale] * 2, pads=[op.scale // 2] * 4,
        )  # fmt: skip

    return mock.patch.dict(onnx_export._WRITERS, {ops.BilinearUpsample: write})


def explicit_padding() -> contextlib.AbstractContextManager[Any]:
    """Write all padding as PAD + VALID, in .tflite files."""
    window_padding = tflite_lowering.Lowering.window_padding

    def explicit(self: Any, op: Any, shape: Sequence[int]) -> tuple[int, tuple[int, int, int, int]]:
        mode, amounts = window_padding(self, op, tuple(shape))
        if mode != tflite_lowering.SAME:
            return mode, amounts
        pads: list[int] = []
        for extent, kernel, stride in zip(shape[1:3], op.kernel, op.stride, strict=True):
            pads += tflite_lowering.same_padding(extent, kernel, stride)
        return tflite_lowering.VALID, (pads[0], pads[1], pads[2], pads[3])

    return mock.patch.object(tflite_lowering.Lowering, "window_padding", explicit)


@contextlib.contextmanager
def merged_stem() -> Iterator[None]:
    """Write the stem's depthwise and 1x1 conv as one, in .tflite files too: tried, and not taken."""

    class Merged:
        def __init__(self, graph: Graph) -> None:
            self._form = exported_form(graph)
            self.graph = merge_depthwise(self._form.graph)

        def weights(self, weights: Weights) -> Weights:
            return merge_depthwise_weights(self._form.graph, self._form.weights(weights))

    with mock.patch.object(tflite, "exported_form", Merged):
        yield


def channels_padded() -> contextlib.AbstractContextManager[Any]:
    """Write 3x3 convs to 17 to 31 channels as convs to 32 and a SLICE, in .tflite files: tried, and not taken."""
    write_conv = tflite_conv.write_conv

    def padded(lowering: Any, node: Node, op: ops.Conv) -> None:
        shape = lowering.shape(node.outputs[0])
        if not LANES < shape[3] < 2 * LANES or op.kernel == (1, 1):
            write_conv(lowering, node, op)
            return
        source_shape = lowering.shape(node.inputs[0])
        padding, amounts = lowering.window_padding(op, source_shape)
        source, _ = lowering.pad_map(node, lowering.input(node), source_shape, amounts)
        weight = np.zeros((2 * LANES, *op.kernel, source_shape[3]), np.float32)
        weight[: shape[3]] = lowering.weights[f"{node.name}.weight"].transpose(0, 2, 3, 1)
        bias = np.zeros(2 * LANES, np.float32)
        bias[: shape[3]] = lowering.weights[f"{node.name}.bias"]
        wide = lowering.intermediate(node, "wide", (*shape[:3], 2 * LANES))
        options = tflite_lowering.schema.Conv2DOptionsT()
        options.padding, (options.strideH, options.strideW) = padding, op.stride
        options.fusedActivationFunction = lowering.activation(node)
        inputs = [source, lowering.parameter(f"{node.name}.weight", weight), lowering.parameter(f"{node.name}.b", bias)]
        code, kind = tflite_lowering.Code.CONV_2D, tflite_lowering.Options.Conv2DOptions
        lowering.writer.operator(code, inputs, [wide], (kind, options))
        lowering.slice(wide, lowering.output(node), (0, 0, 0, 0), shape)

    return mock.patch.dict(tflite_ops._WRITERS, {ops.Conv: padded})


@contextlib.contextmanager
def all_stay() -> Iterator[None]:
    """Write everything as before version 2."""
    with shuffles_stay(), stem_stays(), transposed_conv_stays():
        yield


Variant = tuple[str, str, Callable[[], contextlib.AbstractContextManager[Any]]]
VARIANTS: tuple[Variant, ...] = (
    ("tflite", "all rewrites", contextlib.nullcontext),
    ("tflite", "without: shuffles moved into weights", shuffles_stay),
    ("tflite", "without: SAME where it is exact", explicit_padding),
    ("tflite", "not taken: stem as one conv", merged_stem),
    ("tflite", "not taken: 3x3 convs to 17 to 31 channels padded to 32", channels_padded),
    ("onnx", "all rewrites", contextlib.nullcontext),
    ("onnx", "without: shuffles moved into weights", shuffles_stay),
    ("onnx", "without: stem as one conv", stem_stays),
    ("onnx", "without: transposed convs as resizes", transposed_conv_stays),
    ("onnx", "without any", all_stay),
)


def rounds_of(runners: dict[str, ModelRunner], rounds: int) -> dict[str, list[float]]:
    """Return for each runner one time a round in ms, by the CPU time of the thread."""
    times: dict[str, list[float]] = {name: [] for name in runners}
    names = list(runners)
    generator = random.Random(0)
    for _ in range(rounds):
        generator.shuffle(names)
        for name in names:
            samples = []
            for _ in range(RUNS):
                start = time.thread_time_ns()
                runners[name].invoke()
                samples.append((time.thread_time_ns() - start) / 1e6)
            times[name].append(min(samples[1:]))
    return times


def rewrites(rounds: int) -> None:
    """Print the table of gains."""
    entry = zoo.get("PL1A-Seg")
    graph = build(entry.architecture, entry.width, entry.height).graph
    weights = initialise(graph)
    image = np.random.default_rng(0).standard_normal(graph.inputs[0][1], np.float32)
    print(f"PL1A-Seg at {entry.width}x{entry.height}, fp32, one thread, {rounds} rounds\n")
    print("| file | | ms | over all rewrites | quartiles | largest difference |\n|---|---|---|---|---|---|")
    for format in ("tflite", "onnx"):
        runners: dict[str, ModelRunner] = {}
        outputs = {}
        for of, name, change in VARIANTS:
            if of != format:
                continue
            with change():
                content = model_bytes(graph, weights, format)
            runners[name] = LiteRTRunner(content) if format == "tflite" else OnnxRuntimeRunner(content)
            outputs[name] = runners[name].run([image])[0]
        times = rounds_of(runners, rounds)
        base = next(iter(runners))
        for name, samples in times.items():
            ratios = [value / own for value, own in zip(samples, times[base], strict=True)]
            low, _, high = statistics.quantiles(ratios, n=4)
            difference = np.abs(outputs[name] - outputs[base]).max() / outputs[base].std()
            print(
                f"| .{format} | {name} | {statistics.median(samples):.2f} | {statistics.median(ratios):.3f} "
                f"| {low:.3f} to {high:.3f} | {difference:.1e} |"
            )
        for runner in runners.values():
            runner.close()


def sum_over_whole(network: Network, whole: bytes, rounds: int = 15) -> float:
    """Return the median over rounds of the sum of a network's blocks over the whole, all in one process.

    Nothing is corrected: each block pays a call of the runtime, and finds its weights in the caches.
    """
    blocks = {block.key: block for block in network.blocks}
    runners: dict[str, ModelRunner] = {"whole": LiteRTRunner(whole)}
    for key, block in blocks.items():
        runners[key] = LiteRTRunner(timing_model(block.graph, "tflite"))
    shapes = {"whole": [network.input_shape], **{key: list(block.input_shapes) for key, block in blocks.items()}}
    for key, runner in runners.items():
        runner.set_inputs(random_inputs(shapes[key]))
    times = rounds_of(runners, rounds)
    for runner in runners.values():
        runner.close()
    sums = [sum(times[key][position] for key in network.keys) for position in range(rounds)]
    return statistics.median(total / own for total, own in zip(sums, times["whole"], strict=True))


def additivity(number: int, passes: int) -> None:
    """Build a table of the blocks of some networks only, and print sums beside the networks measured whole."""
    entry = zoo.get("PL1A-Seg")
    space = open_space("shuffle")
    members = space.sample(number, np.random.default_rng(0))
    networks: list[Network] = [build(item, entry.width, entry.height) for item in (entry.architecture, *members)]
    device = open_device("local")
    protocol = Protocol(passes=passes)
    with tempfile.TemporaryDirectory() as folder:
        table_path = Path(folder) / "blocks.sqlite"
        for network in networks:
            build_table(table_path, network, entry.width, entry.height, device, "litert", protocol, measure_caches=True)
        with LatencyTable.open(table_path) as table:
            predictor = Predictor(table)
            predicted = [predictor.predict(network) for network in networks]
        paths = []
        for position, network in enumerate(networks):
            form = exported_form(network.graph)
            paths.append(Path(folder) / f"{position}.tflite")
            paths[-1].write_bytes(tflite.tflite_bytes(form.graph, cheap_weights(form.graph)))
        found = bench_models(paths, device, "litert", BENCH_PROTOCOL)
        together = [sum_over_whole(network, path.read_bytes()) for network, path in zip(networks, paths, strict=True)]
    print(
        f"\nBlocks measured alone and summed up, rule {predicted[0].rule}, {passes} passes; networks measured whole\n"
    )
    print("| network | blocks ms | whole ms | off by | sum over whole within rounds |\n|---|---|---|---|---|")
    errors = []
    for network, prediction, report, both in zip(networks, predicted, found, together, strict=True):
        errors.append(prediction.latency_ms / report.median_ms - 1)
        name = "PL1A-Seg" if network is networks[0] else network.architecture.text
        print(
            f"| `{name}` | {prediction.latency_ms:.2f} | {report.median_ms:.2f} | {100 * errors[-1]:+.1f} % "
            f"| {both:.3f} |"
        )
    mean = statistics.mean(abs(item) for item in errors)
    print(f"\nmean absolute error {100 * mean:.1f} %, bias {100 * statistics.mean(errors):+.1f} %")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--additivity", type=int, default=10, metavar="N", help="random networks; 0: leave it out")
    parser.add_argument("--passes", type=int, default=3)
    options = parser.parse_args()
    start = time.perf_counter()
    print(f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, {platform.platform()}\n")
    rewrites(options.rounds)
    if options.additivity:
        additivity(options.additivity, options.passes)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
