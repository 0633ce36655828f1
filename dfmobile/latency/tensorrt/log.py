"""What trtexec prints, TensorRT 7.1 to 11: banner, options, device, summaries of times, complaints.

Untrusted text: it is bounded, lines are cut to a length, patterns have no nested repetition, and a number is a number
only if it is finite and not negative. Formats, and which of them were seen in real logs: see the package.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from dfmobile.errors import FileFormatError
from dfmobile.latency.tensorrt.log_lines import (
    Line,
    OldSummaries,
    TrtexecSummary,
    lines_of,
    number,
    quantity,
    summary_of,
)
from dfmobile.latency.tensorrt.versions import TensorRTVersion

__all__ = ["REPLAY_MARKER", "TrtexecLog", "TrtexecSummary", "parse_trtexec_log"]

# First and last line of the replay tool: what it prints are no measurements.
REPLAY_MARKER = "dfmobile replay of trtexec"

_MAX_COMPLAINTS = 200
_SHOWN_CHARS = 400
_BANNER = re.compile(
    r"&&&& (RUNNING|PASSED|FAILED|WAIVED) TensorRT\.([\w.-]{1,64})(?: \[TensorRT (v[0-9]{4,6})\])?(?: \[b[0-9]{1,9}\])?"
    r"(?: #|$)"
)
# Headings of one-line summaries (8.0 and later), to the field that takes them.
_SUMMARIES = {
    "GPU Compute Time: ": "gpu_compute",
    "Latency: ": "latency",
    "End-to-End Host Latency: ": "end_to_end",
    "Enqueue Time: ": "enqueue",
    "H2D Latency: ": "h2d",
    "D2H Latency: ": "d2h",
}
_CHOICES = {"CUDA Graph: ": "cuda_graph", "Spin-wait: ": "spin_wait", "Data transfers: ": "transfers"}
_NO_GRAPH = (
    "The specified --useCudaGraph flag has been ignored",
    "CUDA graph capture failed",
    "Ignored --useCudaGraph flag",
    "The CUDA graph option has been disabled",
)
_SECONDS = {"Engine built in ": "build_s", "Engine loaded in ": "load_s", "Total Host Walltime: ": "walltime_s"}
_SIZES = ("Created engine with size: ", "Loaded engine with size: ", "Loaded engine size: ")
_UNSTABLE = re.compile(r"\* GPU compute time is unstable, with coefficient of variance = ([0-9.e+-]{1,30})%")
_QUERIES = re.compile(r"(Warmup completed|Timing trace has) ([0-9]{1,12}) queries over ")
# What the system, the loader, the shell or C++ says, without a severity.
_SYSTEM = (
    "Cuda failure", "Cuda error", "Killed", "Segmentation fault", "Aborted", "Bus error", "Illegal instruction",
    "terminate called", "what():", "ssh:", "ERROR: ", "Error: ", "timeout: ", "sudo: ",
)  # fmt: skip
_SHELL = (": not found", ": command not found", ": No such file or directory", ": Permission denied",
          "error while loading shared libraries", "cannot execute")  # fmt: skip


@dataclass(frozen=True)
class TrtexecLog:
    """What one run of trtexec printed; None where it does not tell.

    Attributes:
        version: of TensorRT; 7.x does not tell.
        passed: its last word; None: neither PASSED nor FAILED.
        replay: the log comes from the replay tool: no time in it was measured.
        gpu_compute: time of the GPU's kernels.
        latency: copy in + kernels + copy out, "Host Latency" in 7.x.
        end_to_end: with waiting between these, up to 8.2.
        enqueue: the host's time to enqueue.
        h2d: copy to the device.
        d2h: copy from the device.
        throughput_qps: runs a second, times the batch.
        queries: timed runs.
        warm_up_queries: runs before.
        walltime_s: from the first to the last timed run.
        build_s: of building the engine.
        load_s: of loading one.
        engine_bytes: its size, rounded as printed.
        device: the GPU's name.
        compute_capability: e.g. ``"5.3"``.
        opset: of the ONNX file that it parsed.
        choices: ``cuda_graph``, ``spin_wait``, ``transfers`` as trtexec understood its options, and what it ignored.
        unstable_clock: trtexec calls the GPU's time unstable.
        gpu_variation: coefficient of variation that it says with it, a fraction.
        warnings: texts of its warnings, at most 200.
        errors: texts of errors, its own and the system's, at most 200.
        last_line: the last line that says anything.
    """

    version: TensorRTVersion | None = None
    passed: bool | None = None
    replay: bool = False
    gpu_compute: TrtexecSummary | None = None
    latency: TrtexecSummary | None = None
    end_to_end: TrtexecSummary | None = None
    enqueue: TrtexecSummary | None = None
    h2d: TrtexecSummary | None = None
    d2h: TrtexecSummary | None = None
    throughput_qps: float | None = None
    queries: int | None = None
    warm_up_queries: int | None = None
    walltime_s: float | None = None
    build_s: float | None = None
    load_s: float | None = None
    engine_bytes: int | None = None
    device: str | None = None
    compute_capability: str | None = None
    opset: int | None = None
    choices: dict[str, bool] = field(default_factory=dict)
    unstable_clock: bool = False
    gpu_variation: float | None = None
    warnings: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    last_line: str = ""


def parse_trtexec_log(text: str) -> TrtexecLog:
    """Read what one run of trtexec printed, standard output and error together.

    Raises:
        FileFormatError: if it holds several runs or summaries, a summary is damaged, or it is too long.
    """
    reader = _Reader()
    for line in lines_of(text):
        reader.read(line)
    return reader.result()


class _Reader:
    """Takes the lines of one log, one by one."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {"choices": {}}
        self._old = OldSummaries()
        self._errors: list[str] = []
        self._warnings: list[str] = []
        self._banners: dict[str, TensorRTVersion] = {}
        self._runs = 0

    def read(self, line: Line) -> None:
        text = line.text.strip()
        if not text:
            return
        self._found["last_line"] = text[:_SHOWN_CHARS]
        if REPLAY_MARKER in text:
            self._found["replay"] = True
        if text.startswith("&&&& "):
            self._banner(text)
        elif line.severity in ("E", "F") or (not line.severity and self._is_complaint(text)):
            self._note(self._errors, text)
        elif line.severity == "W":
            self._warning(text)
        else:
            self._fact(text)

    def result(self) -> TrtexecLog:
        for heading, name in (("GPU Compute", "gpu_compute"), ("Host Latency", "latency"), ("Enqueue Time", "enqueue")):
            summary = self._old.summary(heading)
            if summary is not None:
                self._summary(name, summary)
        # The banner has what trtexec was compiled with; up to 8.4 the other line has the library that did the work.
        banner, library = self._banners.get("version"), self._found.pop("library", None)
        if banner is not None and library not in (None, banner):
            self._note(self._warnings, f"trtexec of {banner.text} runs with the library of {library.text}")
        self._found["version"] = library or banner
        return TrtexecLog(warnings=tuple(self._warnings), errors=tuple(self._errors), **self._found)

    def _banner(self, text: str) -> None:
        found = _BANNER.match(text)
        if found is None:
            return
        if found[1] == "RUNNING":
            self._runs += 1
            if self._runs > 1:
                raise FileFormatError("this is the output of several runs of trtexec", hint="give that of one run")
        if found[3] is not None:
            version = TensorRTVersion.parse(found[3])
            if self._banners.setdefault("version", version) != version:
                raise FileFormatError(f"trtexec's log is of {self._banners['version'].text} and of {version.text}")
        if found[1] in ("PASSED", "FAILED"):
            self._found["passed"] = found[1] == "PASSED" and self._found.get("passed") is not False

    def _warning(self, text: str) -> None:
        self._note(self._warnings, text)
        if any(item in text for item in _NO_GRAPH):
            self._found["choices"]["cuda_graph"] = False
        if found := _UNSTABLE.match(text):
            self._found["unstable_clock"] = True
            percent = number(found[1].rstrip("."))
            self._found["gpu_variation"] = None if percent is None else percent / 100

    def _fact(self, text: str) -> None:
        for heading, name in _SUMMARIES.items():
            if text.startswith(heading + "min = "):
                self._summary(name, summary_of(text[len(heading) :], heading.rstrip(": ")))
                return
        if self._old.read(text):
            return
        for heading, name in _CHOICES.items():
            if text in (heading + "Enabled", heading + "Disabled"):
                self._found["choices"].setdefault(name, text.endswith("Enabled"))
                return
        for heading, name in _SECONDS.items():
            if text.startswith(heading):
                value = quantity(text[len(heading) :], "sec" if name != "walltime_s" else "s")
                if value is not None:
                    self._found.setdefault(name, value)
                return
        if text.startswith(("Throughput: ", "throughput: ")):
            self._found["throughput_qps"] = quantity(text[len("Throughput: ") :], "qps")
        elif text.startswith("walltime: "):
            self._found["walltime_s"] = quantity(text[len("walltime: ") :], "s")
        elif found := _QUERIES.match(text):
            self._found["warm_up_queries" if found[1].startswith("Warmup") else "queries"] = int(found[2])
        else:
            self._about_device_and_files(text)

    def _about_device_and_files(self, text: str) -> None:
        name, separator, value = text.partition(": ")
        value = value.strip()
        if not separator or not value:
            return
        if name == "Selected Device":
            self._found.setdefault("device", value[:100])
        elif name == "Compute Capability" and re.fullmatch(r"[0-9]{1,2}\.[0-9]{1,2}", value):
            self._found.setdefault("compute_capability", value)
        elif name == "Opset version" and re.fullmatch(r"[0-9]{1,4}", value):
            self._found.setdefault("opset", int(value))
        elif name == "TensorRT version" and re.fullmatch(r"[0-9]{4,6}|[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}", value):
            self._found.setdefault("library", TensorRTVersion.parse(value))
        elif name + ": " in _SIZES and (mib := quantity(value, "MiB")) is not None and mib < 2**30:
            self._found.setdefault("engine_bytes", round(mib * 2**20))

    def _summary(self, name: str, summary: TrtexecSummary) -> None:
        if name in self._found:
            raise FileFormatError(f"trtexec's log has two summaries of its {name}: it is not one run's")
        self._found[name] = summary

    @staticmethod
    def _is_complaint(text: str) -> bool:
        return text.startswith(_SYSTEM) or any(item in text for item in _SHELL)

    @staticmethod
    def _note(kept: list[str], text: str) -> None:
        if len(kept) < _MAX_COMPLAINTS:
            kept.append(text[:_SHOWN_CHARS])
