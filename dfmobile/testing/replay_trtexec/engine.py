"""Engines of the replay: what a network costs, which factor a build adds, and the runs that follow from both.

All of it is made up, the same for the same input. A device about as fast as a Nano: multiply-accumulates at a constant
rate, and something for each layer.
"""

import hashlib
import json
import random
from pathlib import Path
from typing import Dict, List, Tuple

from .network import Network
from .text import Document, Run

CACHE_MAGIC = "dfmobile replay timing cache"
MAX_RUNS = 20000
MACS_A_MS, LAYER_MS = 1.0e8, 0.004
SPEED = {"fp32": 1.0, "fp16": 1.8, "int8": 2.9}


def make_engine(network: Network, values: Dict[str, str], version: str, scale: float) -> Document:
    """Return what an engine file of the replay holds.

    Args:
        network: to build.
        values: of the flags.
        version: of TensorRT.
        scale: of all times.
    """
    precision = "int8" if "int8" in values else "fp16" if "fp16" in values else network.dtype
    layers: List[Tuple[str, float]] = []
    for node in network.nodes:
        ms = (node.macs / MACS_A_MS / SPEED[precision] + LAYER_MS) * scale
        # An activation is fused into the convolution before it.
        if node.op in ("Relu", "Clip") and layers:
            layers[-1] = (layers[-1][0] + " + " + (node.name or node.op), layers[-1][1])
        else:
            layers.append((node.name or node.op, ms))
    formats = [values.get("inputIOFormats", ""), values.get("outputIOFormats", "")]
    for at, where in enumerate(("Input", "Output")):
        if formats[at] and precision != "fp32":
            layers.append(("Reformatting CopyNode for {} Tensor 0".format(where), LAYER_MS))
    copies = [sum(_elements(shape) for _, shape in side) * 4 for side in (network.inputs, network.outputs)]
    return {
        "version": version,
        "onnx_sha256": network.sha256,
        "precision": precision,
        "formats": formats,
        "layers": layers or [("empty", LAYER_MS)],
        "factor": _build_factor(network.sha256, precision, values),
        "copy_bytes": copies,
    }


def _build_factor(sha256: str, precision: str, values: Dict[str, str]) -> float:
    """Return how much slower this build's kernels are: the same with the same timing cache, else another."""
    cache = values.get("timingCacheFile")
    known: Dict[str, float] = {}
    key = sha256 + precision
    if cache and Path(cache).exists():
        known = json.loads(Path(cache).read_text(encoding="utf-8").partition("\n")[2])
    if key in known:
        return known[key]
    target = Path(values.get("saveEngine", "engine"))
    earlier = hashlib.sha256(target.read_bytes()).hexdigest() if target.exists() else ""
    source = random.Random("{} {} {}".format(key, target.name, earlier))
    known[key] = 1 + abs(source.gauss(0, 0.03))
    if cache:
        Path(cache).write_text(CACHE_MAGIC + "\n" + json.dumps(known), encoding="utf-8")
    return known[key]


def make_runs(engine: Document, switches: Dict[str, bool], numbers: Dict[str, float]) -> Tuple[List[Run], List[Run]]:
    """Make up warm-up and timed runs: the engine's time, a little noise, a rare slow one; the same for one engine."""
    source = random.Random(json.dumps(engine, sort_keys=True))
    base = sum(ms for _, ms in engine["layers"]) * engine["factor"]
    base += 0.0 if switches["CUDA Graph"] else 0.001 * len(engine["layers"])
    h2d, d2h = ((size / 1.0e6 if switches["Data transfers"] else 0.0) for size in engine["copy_bytes"])
    warm_up: List[Run] = []
    runs: List[Run] = []
    now = h2d + 0.01
    while len(runs) < numbers["iterations"] or now < numbers["warmUp"] + numbers["duration"] * 1000:
        noise = abs(source.gauss(0, 0.004)) + (0.03 if source.random() < 0.01 else 0.0)
        run = Run(now, base * (0.05 if switches["CUDA Graph"] else 0.4), h2d, base * (1 + noise), d2h)
        (warm_up if now < numbers["warmUp"] else runs).append(run)
        now = run.end + h2d + 0.002
        if len(runs) + len(warm_up) >= MAX_RUNS and runs:
            break
        if len(warm_up) >= MAX_RUNS // 2 and now < numbers["warmUp"]:
            now = numbers["warmUp"] + h2d
    return warm_up, runs


def _elements(shape: List[int]) -> int:
    count = 1
    for size in shape:
        count *= max(1, min(size, 1 << 20))
    return count
