"""What the Python modules ``tensorrt`` and ``tensorrt_rtx`` share: a logger that keeps messages, and reading ONNX.

Called in worker processes only, since either module may abort or segfault. The module itself is an argument: this
one imports neither.
"""

from __future__ import annotations

import importlib
import sys
from collections import deque
from dataclasses import dataclass
from typing import Any

from dfmobile.errors import BackendError, ExportError, FileFormatError, InputError, quoted

PROTOCOL = 1
"""Of payloads and answers of worker processes; both sides check it."""
KEPT_MESSAGES = 200
MESSAGE_CHARACTERS = 400
_QUIET = ("VERBOSE",)
_SERIOUS = ("ERROR", "INTERNAL_ERROR")
_EMPTY_NODE = -1
LABELS = {"tensorrt": "TensorRT", "tensorrt_rtx": "TensorRT-RTX"}


class KeptMessages:
    """What TensorRT told its logger, oldest first: the last of them, shortened; nothing of the level VERBOSE."""

    def __init__(self) -> None:
        self._kept: deque[tuple[str, str]] = deque(maxlen=KEPT_MESSAGES)

    def add(self, severity: str, text: str) -> None:
        """Keep one message; errors go to standard error as well, where they outlive a crash of this process."""
        if severity in _QUIET:
            return
        line = one_line(text, MESSAGE_CHARACTERS)
        self._kept.append((severity, line))
        if severity in _SERIOUS:
            print(f"{severity}: {line}", file=sys.stderr, flush=True)

    def lines(self) -> list[str]:
        """Return all that are kept, each ``SEVERITY: text``."""
        return [f"{severity}: {text}" for severity, text in self._kept]

    def serious(self) -> list[str]:
        """Return the texts of errors."""
        return [text for severity, text in self._kept if severity in _SERIOUS]

    def cause(self, otherwise: str = "it gives no reason") -> str:
        """Return the first error: later ones are mostly its consequences."""
        return next(iter(self.serious()), otherwise)

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()


def one_line(text: object, limit: int = MESSAGE_CHARACTERS) -> str:
    """Return a text of TensorRT in one line, shortened."""
    line = " ".join(str(text).split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def make_logger(trt: Any, kept: KeptMessages) -> Any:
    """Return an ``ILogger`` of a module that keeps its messages.

    Args:
        trt: the module ``tensorrt`` or ``tensorrt_rtx``.
        kept: where to.
    """

    class _Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)  # pybind11 asks for this form

        def log(self, severity: Any, msg: str) -> None:
            kept.add(str(severity).rpartition(".")[2], msg)

    return _Logger()


def load_module(payload: dict[str, Any]) -> Any:
    """Import the module that a payload names.

    Raises:
        BackendError: if it does not load, or the payload is of another protocol.
    """
    if payload.get("protocol") != PROTOCOL:
        raise BackendError(f"this worker has protocol {PROTOCOL}, not {payload.get('protocol')!r}")
    name = str(payload["module"])
    try:
        found = importlib.import_module(name)
        str(found.__version__)  # a folder of that name on the path is a module, too
        return found  # noqa: TRY300
    except Exception as error:  # a library of NVIDIA's may raise anything
        raise BackendError(
            f"the Python module {name} does not load: {one_line(f'{type(error).__name__}: {error}')}",
            hint=f"python -m pip install 'dfmobile[{name.replace('_', '-')}]'; on a Jetson: JetPack's tensorrt",
        ) from error


def label(trt: Any) -> str:
    """Return a module's product name and version, e.g. ``"TensorRT-RTX 1.7.1.116"``."""
    name = str(trt.__name__)
    return f"{LABELS.get(name, name)} {trt.__version__}"


def make_builder(trt: Any, logger: Any, kept: KeptMessages) -> Any:
    """Return a module's ``Builder``.

    Raises:
        BackendError: if it cannot be made, as without a driver; with the cause, which only the logger is told.
    """
    try:
        return trt.Builder(logger)
    except (AttributeError, TypeError, RuntimeError) as error:
        raise BackendError(
            f"{label(trt)} cannot make a builder: {kept.cause(one_line(error))}",
            hint="is there a GPU with NVIDIA's driver? see: dfmobile doctor",
        ) from error


def set_compute_capability(trt: Any, config: Any, name: str) -> None:
    """Build for a GPU that need not be here (TensorRT-RTX only).

    Args:
        trt: the module.
        config: its builder configuration.
        name: e.g. ``"SM80"``.

    Raises:
        InputError: if the module does not build for it.
    """
    known = getattr(trt, "ComputeCapability", None)
    members = [] if known is None else [member for member in known.__members__ if member.startswith("SM")]
    if name not in members:
        raise InputError(
            f"{label(trt)} does not build for compute capability {quoted(name)}",
            hint=f"one of: {', '.join(members)}" if members else "it builds for the GPU of this machine",
        )
    config.num_compute_capabilities = 1
    config.set_compute_capability(getattr(known, name), 0)


@dataclass(frozen=True)
class Problem:
    """What a parser has against a model.

    Attributes:
        node: its position in the file; -1 where it is about the whole file.
        name: of the node, may be empty.
        op: of the node, e.g. ``"Conv"``; empty where it is about the whole file.
        code: e.g. ``"UNSUPPORTED_NODE"``.
        text: one line.
    """

    node: int
    name: str
    op: str
    code: str
    text: str

    @property
    def line(self) -> str:
        """For people."""
        where = f"node {self.node} {self.name!r} (op {self.op}): " if self.node != _EMPTY_NODE else ""
        return f"{where}{self.code}: {self.text}"


def problems(parser: Any) -> list[Problem]:
    """Return a parser's error objects."""
    found = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        # Before 10 an error has no name and no operator of its node.
        found.append(
            Problem(
                int(error.node()),
                one_line(getattr(error, "node_name", str)()),
                one_line(getattr(error, "node_operator", str)()) or "unknown",
                str(error.code()).rpartition(".")[2],
                # What stands in further lines are the logger's messages, a missing driver's among them.
                one_line("; ".join(str(error.desc()).splitlines()[:2]), 300),
            )
        )
    return found


def read_onnx(
    trt: Any, builder: Any, logger: Any, kept: KeptMessages, content: bytes, name: str, *, typed: bool = False
) -> tuple[Any, Any]:
    """Parse an ONNX file.

    Args:
        trt: the module.
        builder: its builder.
        logger: its logger.
        kept: what the logger was told.
        content: the file.
        name: of the file, for messages.
        typed: compute in the types of the file; otherwise TensorRT before 11 may choose by its flags.

    Returns:
        The network definition, and the parser, which owns the weights and must live as long.

    Raises:
        FileFormatError: if it is no whole ONNX file.
        ExportError: if TensorRT has something against a node, with node, op and version.
    """
    network = builder.create_network(network_flags(trt, typed=typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(content):
        found = problems(parser) or [Problem(_EMPTY_NODE, "", "", "UNKNOWN", kept.cause())]
        if found[0].code == "MODEL_DESERIALIZE_FAILED":
            raise FileFormatError(
                f"{label(trt)} cannot read {name}: it is not a whole ONNX file ({found[0].line})",
                hint="it may be truncated: export it again",
            )
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise ExportError(
            f"{label(trt)} rejects {name}{_opset(kept)}: {found[0].line}{more}",
            hint="its parser does not take this node: another --opset may help; else report it with the architecture",
        )
    if network.num_outputs == 0:  # zero bytes are a valid protobuf message
        raise FileFormatError(f"{label(trt)} cannot read {name}: it has no outputs", hint="export it again")
    return network, parser


def network_flags(trt: Any, *, typed: bool) -> int:
    """Return the flags of a new network: typed or not, and explicit batch where that is still a choice (before 11)."""
    names = ["EXPLICIT_BATCH", *(["STRONGLY_TYPED"] if typed else [])]
    flags = [getattr(trt.NetworkDefinitionCreationFlag, name, None) for name in names]
    return sum(1 << int(flag) for flag in flags if flag is not None)


def _opset(kept: KeptMessages) -> str:
    """Return the opset that the parser read, as ``" (opset 17)"``."""
    for line in kept.lines():
        _, found, text = line.partition("Opset version:")
        if found and text.strip().isdigit():
            return f" (opset {text.strip()})"
    return ""
