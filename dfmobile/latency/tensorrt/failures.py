"""Why a run of trtexec gave no result, from how it ended and what it printed.

Exit codes: without a driver trtexec aborts (134) and never prints FAILED; an unknown flag and whatever else it notices
is 1; a kill for memory is 137 and only "Killed" is printed, by the shell; 255 is ssh's own, or the remote was killed by
a signal; 127 is the shell's. Texts seen in real logs: no driver (8.5.3, 8.6), unknown flag (8.5.3), parse errors (7.1,
8.0, 10.3), no implementation (8.6), out of memory (8.x, 10.3), incompatible engine (10.0), shapes (8.6). The others are
written after NVIDIA's sources or the shell's and the loader's well-known words.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dfmobile.errors import BackendError, quoted
from dfmobile.latency.tensorrt.log import TrtexecLog
from dfmobile.latency.tensorrt.log_lines import lines_of
from dfmobile.latency.tensorrt.versions import TensorRTVersion

_MAX_SHOWN = 240


@dataclass(frozen=True)
class _Kind:
    """One way to fail.

    Attributes:
        marks: any of these words in a line that complains gives it away; lower case.
        means: what it is, after the colon of the message.
        hint: what to do.
        quotes: the telling line is worth quoting.
    """

    marks: tuple[str, ...]
    means: str
    hint: str
    quotes: bool = True


# In the order in which they are tried: causes before consequences.
_KINDS: dict[str, _Kind] = {
    "missing library": _Kind(
        ("error while loading shared libraries",),
        "a library that trtexec needs is missing on the device",
        "install TensorRT's packages with JetPack, or set LD_LIBRARY_PATH of the device's shell",
    ),
    "no driver": _Kind(
        (
            "cuda driver version is insufficient", "no cuda-capable device", "cannot find any available devices",
            "cuda initialization failure", "libcuda.so", "unable to determine the device handle",
        ),
        "the device has no usable CUDA driver or GPU",
        "run it on a machine with an NVIDIA GPU and its driver (nvidia-smi, or tegrastats on a Jetson, must work)",
    ),
    "unsupported gpu": _Kind(
        (
            "no kernel image is available", "is not supported by this tensorrt release", "unsupported sm",
            "target gpu sm", "unsupported gpu",
        ),
        "this TensorRT does not support the GPU",
        "use a TensorRT version that still supports this GPU (Nano and TX2: 8.2.1 at most)",
    ),
    "unknown flag": _Kind(
        ("unknown option:", "unknown option"),
        "trtexec does not know a flag",
        "its version is not the one that was detected: check which trtexec the device's PATH finds",
    ),
    "disk full": _Kind(
        ("no space left on device",), "the device's disk is full", "free space on the device, then run it again"
    ),
    "incompatible engine": _Kind(
        (
            "kplan_magic_tag", "incompatible serialization version", "plan file is not compatible",
            "version tag does not match", "serialization version is not supported", "incompatible device",
            "serialization assertion", "serialized engine version",
        ),
        "the engine was built by another TensorRT version, or for another GPU",
        "build the engine on this device with this TensorRT; engines are not portable",
    ),
    "missing file": _Kind(
        (
            "error opening engine file", "error loading engine file", "could not open file",
            "could not open input file", "cannot open engine file", "failed to open file",
        ),
        "trtexec cannot open a file",
        "check that the file was copied to the device and that its folder can be read and written",
    ),
    "missing calibration": _Kind(
        (
            "can not open provided calibration cache", "calibration failure occurred", "no scaling factors detected",
            "calibrator is not", "missing scale and zero-point", "calibration table does not match",
        ),
        "INT8 scales are missing, or are of another network",
        "give a calibration cache made for this network, or an ONNX file with quantize and dequantize nodes",
    ),
    "out of gpu memory": _Kind(
        (
            "out of memory", "outofmemory", "could not be allocated", "cudaerrormemoryallocation",
            "device memory is insufficient", "insuficient memory", "insufficient memory", "allocator error",
        ),
        "the GPU's memory is used up",
        "close what else runs on the device, use a smaller input, or give a smaller workspace",
    ),
    "bad onnx": _Kind(
        (
            "error parsing message of type", "protobuf parsing failed", "failed to parse onnx model from file",
            "invalid protobuf", "failed to parse onnx model", "modelproto",
        ),
        "the ONNX file is damaged, or is none",
        "export it again with dfmobile export --format onnx",
    ),
    "unsupported onnx": _Kind(
        (
            "no importer registered", "while parsing node number", "unsupported_node", "invalid node -",
            "invalid_node", "unsupported datatype", "failed to parse onnx file", "plugin not found",
            "parsing model failed", "unsupported_graph",
        ),
        "its ONNX parser cannot take the network",
        "export with an opset that this TensorRT knows, or leave out the block with this operator",
    ),
    "workspace": _Kind(
        (
            "increasing the workspace", "workspace size", "insufficient workspace", "could not find any implementation",
            "no implementation obeys",
        ),
        "no kernel fits in the builder's workspace, or none exists for a layer",
        "give a larger workspace; if that does not help, this TensorRT has no kernel for the layer",
    ),
    "shape mismatch": _Kind(
        ("static dimension mismatch", "static model does not take explicit shapes"),
        "the shapes do not fit the engine",
        "build the engine again from this ONNX file",
    ),
}  # fmt: skip
# Exit codes that say what happened even where the text does not: kind, meaning, hint.
_CODES: dict[int, tuple[str, str, str]] = {
    255: (
        "ssh",
        "ssh failed, or the process on the device was killed by a signal",
        "check the connection with ssh, then run it again: finished blocks are kept",
    ),
    124: (
        "timeout",
        "it did not end in the time it was given",
        "give it more time, or look at the device: other work on it, or a hanging driver",
    ),
    126: ("not executable", "trtexec may not be executed there", "check its permissions, and that it is for this CPU"),
    127: (
        "missing trtexec",
        "the device has no trtexec where it was looked for",
        "install TensorRT with JetPack; trtexec is /usr/src/tensorrt/bin/trtexec there",
    ),
    137: (
        "killed for memory",
        "it was killed from outside, as the kernel does when the memory is used up",
        "add swap, close what else runs on the device, or use a smaller input or workspace",
    ),
    143: ("stopped", "it was stopped from outside", "run it again"),
    134: ("aborted", "it aborted", "run the same command in a shell of the device to see all that it prints"),
    139: (
        "crashed",
        "it crashed (segmentation fault)",
        "run the same command in a shell of the device; an engine of another version or a full memory can do that",
    ),
    135: ("crashed", "it crashed (bus error)", "check the device's memory and disk"),
    132: ("crashed", "it crashed (illegal instruction)", "use the trtexec that was made for this CPU"),
}
_NODE_NUMBER = re.compile(r"While parsing node number ([0-9]{1,9}) \[(\S{1,100})(?: -> \"([^\"]{0,200})\")?")
_NODE = re.compile(r"In node (-?[0-9]{1,9})(?: with name: (.{0,200}?) and operator: (\S{1,100}))? \(")
_INVALID = re.compile(r"Invalid Node - (.{1,200})")
_UNREGISTERED = re.compile(r"No importer registered for op: (\S{1,100}?)\.?(?:\s|$)")


def failure_kind(exit_code: int, log: TrtexecLog, text: str) -> str:
    """Return what went wrong in a word or two.

    Returns:
        One of ``missing library``, ``no driver``, ``unsupported gpu``, ``unknown flag``, ``disk full``,
        ``incompatible engine``, ``missing file``, ``missing calibration``, ``out of gpu memory``, ``bad onnx``,
        ``unsupported onnx``, ``workspace``, ``shape mismatch``, ``ssh``, ``timeout``, ``not executable``,
        ``missing trtexec``, ``killed for memory``, ``stopped``, ``aborted``, ``crashed``, ``no result`` (it ended well
        and has no result), ``unknown``.
    """
    return _find(_shell_code(exit_code), log, text)[0]


def failure(exit_code: int, log: TrtexecLog, text: str, *, what: str, version: TensorRTVersion | None) -> BackendError:
    """Return the error that says why a run of trtexec gave no result, with a hint.

    Args:
        exit_code: of trtexec, the shell or ssh; a local process that a signal ended may have the signal, negative.
        log: of ``text``.
        text: all that it printed.
        what: what was being done, as the subject of the message, e.g. ``"building block.onnx"``.
        version: of TensorRT, where it is known better than the log tells.
    """
    exit_code = _shell_code(exit_code)
    kind, line = _find(exit_code, log, text)
    version = version or log.version
    tool = f"trtexec {version.text}" if version is not None else "trtexec"
    if kind in _KINDS:
        means, hint = _KINDS[kind].means, _KINDS[kind].hint
        if kind == "unsupported onnx":
            means, hint = _about_onnx(log, text, version, means, hint)
        detail = f" ({quoted(line, _MAX_SHOWN)})" if line else ""
    else:
        means, hint = _by_code(exit_code, kind)
        detail = f"; it ended with {quoted(line, _MAX_SHOWN)}" if line else ""
    ended = f"failed with exit code {exit_code}" if exit_code else "gave no result, with exit code 0"
    return BackendError(f"{what}: {tool} {ended}: {means}{detail}", hint=hint)


def _shell_code(exit_code: int) -> int:
    """Return an exit code as a shell has it: 134 for a process that signal 6 ended, where Python has -6."""
    return 128 - exit_code if exit_code < 0 else exit_code


def _by_code(exit_code: int, kind: str) -> tuple[str, str]:
    for code, (name, means, hint) in _CODES.items():
        if code == exit_code and name == kind:
            return means, hint
    if kind == "no result":
        return "it ended well and printed none", "its output was cut off: run it again"
    return "it gave no reason that is known here", "run the same command in a shell of the device to see all it prints"


def _find(exit_code: int, log: TrtexecLog, text: str) -> tuple[str, str]:
    """Return the kind and the line that tells."""
    started = log.version is not None or log.passed is not None or "&&&& RUNNING" in text
    by_code = exit_code in (255, 124) or (exit_code in (137, 143) and log.passed is None)
    if by_code or (exit_code in (126, 127) and not started):
        loader = _telling_line("missing library", log)
        if loader is not None and exit_code == 127:
            return "missing library", loader
        return _CODES[exit_code][0], _last_complaint(log)
    for kind in _KINDS:
        line = _telling_line(kind, log)
        if line is not None:
            return kind, line
    if exit_code in _CODES:
        return _CODES[exit_code][0], _last_complaint(log)
    if exit_code == 0 and log.passed is not False:
        return "no result", log.last_line
    if any(mark in log.last_line.lower() for mark in _KINDS["disk full"].marks):  # a shell or a tool around it says so
        return "disk full", log.last_line
    return "unknown", _last_complaint(log)


def _telling_line(kind: str, log: TrtexecLog) -> str | None:
    """Return the first complaint that gives the kind away: errors, and for memory warnings, too."""
    texts = log.errors + log.warnings if kind in ("out of gpu memory", "no driver") else log.errors
    for text in texts:
        lower = text.lower()
        if any(mark in lower for mark in _KINDS[kind].marks):
            return text
    return None


def _last_complaint(log: TrtexecLog) -> str:
    return log.errors[-1] if log.errors else log.last_line


def _about_onnx(log: TrtexecLog, text: str, version: TensorRTVersion | None, means: str, hint: str) -> tuple[str, str]:
    """Name the node, its operator and the opset as far as the log does."""
    node, op = _node_of(text)
    if node or op:
        means += f": node {quoted(node or '?')}, operator {op or '?'}"
    if log.opset is not None:
        means += f", opset {log.opset}"
        if version is not None and log.opset > version.max_onnx_opset:
            means += f" (this TensorRT knows opsets to {version.max_onnx_opset})"
            hint = f"export it with opset {version.max_onnx_opset}"
    return means, hint


def _node_of(text: str) -> tuple[str, str]:
    name = op = ""
    for line in _bounded(text):
        if found := _NODE_NUMBER.search(line):
            name, op = name or found[3] or f"number {found[1]}", op or found[2]
        elif found := _NODE.search(line):
            name, op = name or found[2] or f"number {found[1]}", op or found[3] or ""
        elif found := _UNREGISTERED.search(line):
            op = op or found[1]
        elif found := _INVALID.search(line):
            return found[1], op
    return name, op


def _bounded(text: str) -> Iterator[str]:
    for line in lines_of(text):
        if "node" in line.text.lower() or "importer" in line.text:
            yield line.text
