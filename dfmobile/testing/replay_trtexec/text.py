"""Output and files as each version of trtexec writes them, from ``sampleReporting.cpp`` of 8.2.1, 8.5.1, 10.3, 11.0.

C++ streams print six significant digits, as ``%g`` does.
"""

import sys
import time
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

MARKER = "dfmobile replay of trtexec"


class Run(NamedTuple):
    """One run, ms: stamps since the start, and how long its parts took."""

    start: float
    enqueue: float
    h2d: float
    compute: float
    d2h: float

    @property
    def latency(self) -> float:
        """Copy in, kernels and copy out."""
        return self.h2d + self.compute + self.d2h

    @property
    def end(self) -> float:
        """When the copy out ended."""
        return self.start + self.compute + self.d2h


class Printer:
    """Prints lines with trtexec's prefixes."""

    def __init__(self, version: Tuple[int, ...], command: str) -> None:
        self.version = version
        self._command = command

    def plain(self, text: str) -> None:
        print(text, flush=True)

    def say(self, text: str, severity: str = "I", library: bool = False) -> None:
        stamp = time.strftime("[%m/%d/%Y-%H:%M:%S]", time.gmtime())
        self.plain("{} [{}] {}{}".format(stamp, severity, "[TRT] " if library else "", text))

    def error(self, text: str, library: bool = False) -> None:
        self.say(text, "E", library)

    def marker(self) -> None:
        self.plain("{} {}: no time in this output was measured".format(MARKER, ".".join(map(str, self.version))))

    def banner(self, word: str) -> None:
        major, minor, patch = self.version
        code = major * 10000 + minor * 100 + patch if major >= 10 else major * 1000 + minor * 100 + patch
        build = " [b114]" if major >= 11 else ""
        self.plain("&&&& {} TensorRT.trtexec [TensorRT v{}]{} # {}".format(word, code, build, self._command))

    def failed(self) -> int:
        self.banner("FAILED")
        self.marker()
        return 1

    def options(self, switches: Dict[str, bool], numbers: Dict[str, float]) -> None:
        streams = "Inference Streams" if self.version >= (8, 6) else "Streams"
        self.say("=== Inference Options ===")
        self.say("Batch: Explicit")
        self.say("Iterations: {:g}".format(numbers["iterations"]))
        self.say("Duration: {:g}s (+ {:g}ms warm up)".format(numbers["duration"], numbers["warmUp"]))
        self.say("{}: 1".format(streams))
        for name in ("Data transfers", "Spin-wait", "CUDA Graph"):
            self.say("{}: {}".format(name, "Enabled" if switches[name] else "Disabled"))

    def device(self) -> None:
        library = self.version[0] * 1000 + self.version[1] * 100 + self.version[2]
        self.say("=== Device Information ===")
        self.say("Selected Device: dfmobile replay (no GPU)")
        self.say("Compute Capability: 0.0")
        self.say("TensorRT version: {}".format(library if self.version < (8, 5) else ".".join(map(str, self.version))))


def summarise(printer: Printer, runs: List[Run], warm_up: List[Run], warm_up_ms: float) -> None:
    """Print trace averages and the performance summary."""
    old = printer.version < (8, 4)
    wall_ms = runs[-1].end - (runs[0].start - runs[0].h2d)
    printer.say("Warmup completed {} queries over {:g} ms".format(len(warm_up), warm_up_ms))
    printer.say("Timing trace has {} queries over {:g} s".format(len(runs), wall_ms / 1000))
    printer.say("")
    printer.say("=== Trace details ===")
    printer.say("Trace averages of 10 runs:")
    for at in range(0, min(len(runs), 200) - 9, 10):
        ten = runs[at : at + 10]
        compute = sum(run.compute for run in ten) / 10
        latency = sum(run.latency for run in ten) / 10
        enqueue = sum(run.enqueue for run in ten) / 10
        tail = (
            "end to end {:g} ms, enqueue {:g} ms".format(latency, enqueue) if old else "enqueue {:g} ms".format(enqueue)
        )
        printer.say(
            "Average on 10 runs - GPU latency: {:g} ms - Host latency: {:g} ms ({})".format(compute, latency, tail)
        )
    printer.say("")
    printer.say("=== Performance summary ===")
    printer.say("Throughput: {:g} qps".format(len(runs) / wall_ms * 1000))
    percents = (99,) if old else (90, 95, 99)
    printer.say("Latency: " + _statistics(runs, lambda run: run.latency, percents))
    if old:
        printer.say("End-to-End Host Latency: " + _statistics(runs, lambda run: run.latency, percents))
    printer.say("Enqueue Time: " + _statistics(runs, lambda run: run.enqueue, percents))
    printer.say("H2D Latency: " + _statistics(runs, lambda run: run.h2d, percents))
    printer.say("GPU Compute Time: " + _statistics(runs, lambda run: run.compute, percents))
    printer.say("D2H Latency: " + _statistics(runs, lambda run: run.d2h, percents))
    printer.say("Total Host Walltime: {:g} s".format(wall_ms / 1000))
    computes = [run.compute for run in runs]
    mean = sum(computes) / len(computes)
    printer.say("Total GPU Compute Time: {:g} s".format(sum(computes) / 1000))
    variation = (sum((value - mean) ** 2 for value in computes) / len(computes)) ** 0.5 / mean * 100
    limit = 1.0 if printer.version < (8, 6) else 2.5
    if variation > limit:
        unstable = "* GPU compute time is unstable, with coefficient of variance = {:g}%.".format(variation)
        printer.say(unstable, "W")
        printer.say("  If not already in use, locking GPU clock frequency may improve the stability.", "W")
    printer.say("Explanations of the performance metrics are printed in the verbose logs.")
    printer.say("")


def _statistics(runs: List[Run], of: Callable[[Run], float], percents: Tuple[int, ...]) -> str:
    values = sorted(of(run) for run in runs)
    half = len(values) // 2
    median = values[half] if len(values) % 2 else (values[half - 1] + values[half]) / 2
    text = "min = {:g} ms, max = {:g} ms, mean = {:g} ms, median = {:g} ms".format(
        values[0], values[-1], sum(values) / len(values), median
    )
    for percent in percents:
        at = max(len(values) - 1 - int((1 - percent / 100) * len(values)), 0)
        text += ", percentile({}%) = {:g} ms".format(percent, values[at])
    return text


def times_text(version: Tuple[int, ...], runs: List[Run], warm_up: List[Run]) -> str:
    """Return the file of ``--exportTimes``: with the warm-up up to 8.5, with ``endToEndMs`` up to 8.2."""
    rows = []
    for run in warm_up + runs if version < (8, 6) else runs:
        compute_end = run.start + run.compute
        fields = [
            ("startEnqMs", run.start - run.h2d - run.enqueue), ("endEnqMs", run.start - run.h2d),
            ("startH2dMs", run.start - run.h2d), ("endH2dMs", run.start), ("startComputeMs", run.start),
            ("endComputeMs", compute_end), ("startD2hMs", compute_end), ("endD2hMs", run.end), ("h2dMs", run.h2d),
            ("computeMs", run.compute), ("d2hMs", run.d2h), ("latencyMs", run.latency),
        ]  # fmt: skip
        if version < (8, 4):
            fields.append(("endToEndMs", run.latency))
        rows.append("{ " + ", ".join('"{}" : {:g}'.format(*field) for field in fields) + " }\n")
    return "[\n  " + ", ".join(rows) + "]\n"


Layers = List[Tuple[str, float]]


def profile_text(version: Tuple[int, ...], layers: Layers, count: int) -> str:
    """Return the file of ``--exportProfile``; names are not escaped."""
    whole = sum(ms for _, ms in layers)
    rows = ['[\n  {{ "count" : {} }}\n'.format(count)]
    for name, ms in layers:
        median = ', "medianMs" : {:g}'.format(ms) if version >= (8, 4) else ""
        rows.append(
            ', {{ "name" : "{}", "timeMs" : {:g}, "averageMs" : {:g}{}, "percentage" : {:g} }}\n'.format(
                name, ms * count, ms, median, ms / whole * 100
            )
        )
    return "".join(rows) + "]\n"


def print_profile(printer: Printer, layers: Layers, count: int) -> None:
    """Print the table of ``--dumpProfile``: the name first up to 8.5, last from 8.6 on."""
    version = printer.version
    whole = sum(ms for _, ms in layers)
    rows = [*layers, ("Total", whole)]
    width = max(len(name) for name, _ in rows) + 1
    printer.say("")
    printer.say("=== Profile ({} iterations ) ===".format(count))
    median = version >= (8, 4)
    if version >= (8, 6):
        printer.say("   Time(ms)     Avg.(ms)   Median(ms)   Time(%)   Layer")
    else:
        columns = "   Time (ms)   Avg. Time (ms)" + ("   Median Time (ms)" if median else "") + "   Time %"
        printer.say("{:>{}}{}".format("Layer", width, columns))
    for name, ms in rows:
        if version >= (8, 6):
            numbers = "{:11.2f}{:13.4f}{:13.4f}{:10.1f}".format(ms * count, ms, ms, ms / whole * 100)
            printer.say("{}   {}".format(numbers, name))
        else:
            middle = "{:19.4f}".format(ms) if median else ""
            numbers = "{:12.2f}{:17.4f}{}{:9.1f}".format(ms * count, ms, middle, ms / whole * 100)
            printer.say("{:>{}}{}".format(name, width, numbers))
    printer.say("")


def complain(text: str) -> None:
    """Print what the runtime prints without a prefix."""
    print(text, file=sys.stderr, flush=True)


Document = Dict[str, Any]
