"""How fast the zoo's networks run here, in one run: PL1A-Seg on three runtimes, DF1 and DF2 against ResNets.

Everything runs in one process on one thread, in rounds; in each round every file runs three times, in a new random
order, and the faster of the second and third run counts, by the CPU time of the thread. Ratios are medians over rounds
of the ratio within a round.

- PL1A-Seg at 640x384 from its original ncnn files (``--pl1a PARAM BIN``: the authors' ``pl1a_new.param.bin``
  and ``pl1a_new.bin``), beside LiteRT and ONNX Runtime files that dfmobile writes, fp32. ncnn's Python package has to
  be installed (``pip install ncnn``). Without the files or the package ncnn is left out, and the output says so. The
  weights of ncnn's files are the trained ones, the others' are random: that does not change how long they take.
- DF1 against ResNet-18 and DF2 against ResNet-50 at 224x224, LiteRT: fp32, fp16 (weights stored as float16; the
  arithmetic stays float32), int8 (static; ``pip install 'dfmobile[quantize]'``).

Run: ``python benchmarks/zoo_speed.py [--rounds 25] [--pl1a PARAM BIN]``. Takes about 4 minutes.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.util
import os
import platform
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from export_rewrites import all_stay

from dfmobile.architecture import build, zoo
from dfmobile.devices.device import open_device
from dfmobile.devices.profile import summary
from dfmobile.errors import BackendError, InputError
from dfmobile.export.exporter import model_bytes
from dfmobile.files import read_bytes
from dfmobile.graph import initialise
from dfmobile.graph.fold import fold_batch_norm
from dfmobile.latency.models import timing_model
from dfmobile.runtimes.litert import LiteRTRunner
from dfmobile.runtimes.onnxruntime import OnnxRuntimeRunner

RUNS = 3
NCNN_ARGMAX, NCNN_END, NCNN_ARRAY = 1, -233, -23300
PL1A_SCORES = 217  # the blob before softmax and argmax: 19x96x160
PAPER_RATIOS = {"DF1 / ResNet-18": 0.57, "DF2 / ResNet-50": 0.47}
LIMIT_BYTES = 64 * 2**20


def without_argmax(content: bytes) -> bytes:
    """Return a binary ncnn param file without its ArgMax layers.

    The published files end in the authors' own per-pixel ArgMax, under the number of ncnn's stock layer, which ncnn's
    Python package does not have; it has no weights, and what is compared are the scores before it.

    Raises:
        InputError: if the file is no such file.
    """
    values = np.frombuffer(content[: len(content) // 4 * 4], "<i4").tolist()
    position, kept = 3, []
    try:
        for _ in range(values[1]):
            start = position
            kind, inputs, outputs = values[position : position + 3]
            position += 3 + inputs + outputs
            while values[position] != NCNN_END:
                position += 2 + (values[position + 1] if values[position] <= NCNN_ARRAY else 0)
            position += 1
            if kind != NCNN_ARGMAX:
                kept.append(values[start:position])
    except (IndexError, ValueError) as error:
        raise InputError("the param file is not a whole binary ncnn param file") from error
    body = [item for layer in kept for item in layer]
    return np.array([values[0], len(kept), values[2], *body], "<i4").tobytes()


def ncnn_runner(param: Path, weights: Path, image: np.ndarray[Any, Any]) -> Callable[[], Any]:
    """Return what runs PL1A-Seg's original files in ncnn once, to the scores at stride 4.

    Raises:
        BackendError: if ncnn does not load them.
    """
    import ncnn  # type: ignore[import-not-found,unused-ignore]

    net = ncnn.Net()
    net.opt.num_threads = 1
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scores.param.bin"
        path.write_bytes(without_argmax(read_bytes(param, LIMIT_BYTES)))
        if net.load_param_bin(str(path)) or net.load_model(str(weights)):
            raise BackendError(f"ncnn cannot load {param} and {weights}")
    given = ncnn.Mat(np.ascontiguousarray(image[0])).clone()
    entry = net.input_indexes()[0]

    def run() -> Any:
        extractor = net.create_extractor()
        extractor.input(entry, given)
        return extractor.extract(PL1A_SCORES)

    status, scores = run()
    if status or np.array(scores).shape != (19, 96, 160):
        raise BackendError(f"ncnn's scores of {param} are {np.array(scores).shape}, not (19, 96, 160)")
    return run


def rounds_of(actions: dict[str, Callable[[], Any]], rounds: int) -> dict[str, list[float]]:
    """Return for each action one time a round in ms, by the CPU time of the thread."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    names = list(actions)
    generator = random.Random(0)
    for _ in range(rounds):
        generator.shuffle(names)
        for name in names:
            samples = []
            for _ in range(RUNS):
                start = time.thread_time_ns()
                actions[name]()
                samples.append((time.thread_time_ns() - start) / 1e6)
            times[name].append(min(samples[1:]))
    return times


def ratio(first: Sequence[float], second: Sequence[float]) -> str:
    """Return the median and quartiles of a ratio within rounds."""
    ratios = [a / b for a, b in zip(first, second, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def pl1a(rounds: int, files: Sequence[Path] | None) -> None:
    """Print PL1A-Seg's table."""
    entry = zoo.get("PL1A-Seg")
    graph = build(entry.architecture, entry.width, entry.height).graph
    weights = initialise(graph)
    image = np.random.default_rng(0).standard_normal(graph.inputs[0][1], np.float32)
    litert = LiteRTRunner(model_bytes(graph, weights, "tflite"))
    onnx = OnnxRuntimeRunner(model_bytes(graph, weights, "onnx"))
    with all_stay():  # op for op as in the network, as converters write it
        plain = OnnxRuntimeRunner(model_bytes(graph, weights, "onnx"))
    outputs = [runner.run([image])[0] for runner in (litert, onnx, plain)]
    actions: dict[str, Callable[[], Any]] = {
        "LiteRT": litert.invoke,
        "ONNX Runtime": onnx.invoke,
        "ONNX Runtime, file without rewrites": plain.invoke,
    }
    print(f"\nPL1A-Seg at {entry.width}x{entry.height}, fp32\n")
    if files is None:
        print("ncnn: left out, its files were not given (--pl1a PARAM BIN)\n")
    elif importlib.util.find_spec("ncnn") is None:
        print("ncnn: left out, its Python package is not installed (pip install ncnn)\n")
    else:
        actions["ncnn"] = ncnn_runner(files[0], files[1], image)
    times = rounds_of(actions, rounds)
    print("| runtime | ms | LiteRT over it |\n|---|---|---|")
    for name, samples in times.items():
        print(f"| {name} | {statistics.median(samples):.2f} | {ratio(times['LiteRT'], samples)} |")
    difference = np.abs(outputs[0] - outputs[1]).max() / outputs[0].std()
    agreement = np.mean(outputs[0].argmax(1) == outputs[1].argmax(1))
    print(f"\nLiteRT and ONNX Runtime: {difference:.1e} of the scores' standard deviation apart at most, ", end="")
    print(f"{100 * agreement:.3f} % of the pixels have the same class")


def pairs(rounds: int) -> None:
    """Print DF1 against ResNet-18 and DF2 against ResNet-50."""
    print("\n224x224, LiteRT; in parentheses quartiles\n")
    print("| pair | precision | ms | ms | ratio | paper, TX2 |\n|---|---|---|---|---|---|")
    for pair, paper in PAPER_RATIOS.items():
        names = pair.split(" / ")
        for precision in ("fp32", "fp16", "int8"):
            runners = {}
            for name in names:
                entry = zoo.get(name)
                network = build(entry.architecture, 224, 224)
                runners[name] = LiteRTRunner(timing_model(fold_batch_norm(network.graph), "tflite", precision))
                runners[name].set_inputs([np.random.default_rng(0).standard_normal(network.input_shape, np.float32)])
            times = rounds_of({name: runner.invoke for name, runner in runners.items()}, rounds)
            for runner in runners.values():
                runner.close()
            first, second = (times[name] for name in names)
            middles = f"{statistics.median(first):.1f} | {statistics.median(second):.1f}"
            print(f"| {pair} | {precision} | {middles} | {ratio(first, second)} | {paper} |", flush=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=25, help="PL1A-Seg, being short, has three times as many")
    parser.add_argument("--pl1a", type=Path, nargs=2, metavar=("PARAM", "BIN"), help="PL1A-Seg's original ncnn files")
    options = parser.parse_args()
    start = time.perf_counter()
    print(f"{datetime.datetime.now(datetime.timezone.utc):%Y-%m-%d %H:%M} UTC, {summary(open_device('local').profile)}")
    print(f"{platform.platform()}, load {os.getloadavg()[0]:.2f}; one thread, CPU time of the thread")
    pl1a(3 * options.rounds, options.pl1a)
    pairs(options.rounds)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
