"""What a log of TensorFlow Lite's benchmark tools says about delegates: which, how much of the graph they took.

Delegates say it in two ways that belong together: how many nodes they replaced, and whether the tool finds that the
graph runs in them whole, in part, or not at all. Untrusted text, as in ``benchmark_model_lines``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Literal

MAX_DELEGATES = 100
MAX_REMARKS = 20
_REMARK_CHARS = 300

Outcome = Literal["whole", "partial", "none", "failed", "unknown"]

_NAME = r"([\w .+-]{1,60}?)"
_INT = r"([0-9]{1,9})"
_EXPLICIT = re.compile(
    r"(?:Explicitly applied|Applied) "
    + _NAME
    + r" delegate(?:, and the model graph will be (completely|partially) executed(?:[^0-9]{1,40}"
    + _INT
    + r" delegate kernels)?)?"
)
_NOT_EXECUTED = re.compile(r"Though " + _NAME + r" delegate is explicitly applied, ")
_FAILED = re.compile(r"Failed to apply " + _NAME + r" delegate")
_REPLACING = re.compile(
    r"Replacing " + _INT + r"(?: out of " + _INT + r")? node\(s\) with delegate \(([\w .+-]{1,60})\) node"
    r"(?:, yielding " + _INT + r" partitions)?"
)
_DELEGATED = re.compile(
    r"(?:\[[\w ]{1,40}\] )?" + _NAME + r" ?delegate: " + _INT + r" nodes delegated out of " + _INT + r" nodes"
    r"(?: with " + _INT + r" partitions)?",
    re.IGNORECASE,
)
_GPU_SPLIT = re.compile(
    _INT + r" operations will run on the GPU, and the remaining " + _INT + r" operations will run on the CPU"
)
_GPU_NOTHING = re.compile(r"No operations will run on the GPU, and all " + _INT + r" operations will run on the CPU")
_CREATED = re.compile(r"Created TensorFlow Lite " + _NAME + r" delegate for CPU")
_UNSUPPORTED = re.compile(r"(?:Following|These) operations are not supported by " + _NAME + r" delegate")
_UNSUPPORTED_OP = re.compile(r"[A-Z][A-Z0-9_]{1,60}: ")


@dataclass(frozen=True)
class DelegateUse:
    """A delegate, and how much it took.

    Attributes:
        name: as the tool calls it, e.g. ``GPU``, ``NNAPI``, ``XNNPACK``, ``EXTERNAL``.
        outcome: of the graph: ``whole``, ``partial``, ``none``; ``failed``: it could not be applied; ``unknown``.
        nodes: that it replaced; None where the log does not tell.
        total: nodes of the graph; None likewise.
        partitions: into which it cut what it took, or delegate kernels; None likewise.
    """

    name: str
    outcome: Outcome = "unknown"
    nodes: int | None = None
    total: int | None = None
    partitions: int | None = None

    @property
    def fraction(self) -> float | None:
        """Share of the nodes that it took, 0 to 1; None where the log does not tell."""
        if self.nodes is not None and self.total:
            return min(1.0, self.nodes / self.total)
        return {"whole": 1.0, "none": 0.0, "failed": 0.0}.get(self.outcome)

    @property
    def text(self) -> str:
        """For people, e.g. ``NNAPI took a part of the graph (12 of 31 nodes, 3 partitions)``."""
        took = {
            "whole": "took the whole graph",
            "partial": "took a part of the graph",
            "none": "took nothing of the graph",
            "failed": "could not be applied",
            "unknown": "was created",
        }[self.outcome]
        known = []
        if self.nodes is not None:
            known.append(f"{self.nodes} of {self.total} nodes" if self.total is not None else f"{self.nodes} nodes")
        if self.partitions is not None:
            known.append(f"{self.partitions} partition{'' if self.partitions == 1 else 's'}")
        return f"{self.name} {took}" + (f" ({', '.join(known)})" if known else "")


class DelegateReader:
    """Collects what the lines of one log say about delegates.

    Attributes:
        uses: delegates, in the order of the log, at most ``MAX_DELEGATES``.
        unsupported: what a delegate says it cannot do, e.g. ``UNPACK: Operation is not supported.``
    """

    def __init__(self) -> None:
        self.uses: list[DelegateUse] = []
        self.unsupported: list[str] = []
        self._listing = False

    def read(self, text: str) -> bool:
        """Take a line, without its prefixes, and tell whether it was about delegates."""
        if self._listing and _UNSUPPORTED_OP.match(text):
            if len(self.unsupported) < MAX_REMARKS:
                self.unsupported.append(text[:_REMARK_CHARS])
            return True
        self._listing = _UNSUPPORTED.match(text) is not None
        if self._listing:
            return True
        use = _use(text)
        if use is None:
            return False
        last = self.uses[-1] if self.uses else None
        if last is not None and _belong_together(last, use):
            self.uses[-1] = _joined(last, use)
        elif len(self.uses) < MAX_DELEGATES:
            self.uses.append(use)
        return True


def _use(text: str) -> DelegateUse | None:
    if found := _REPLACING.match(text):
        nodes, total = int(found[1]), _integer(found[2])
        return DelegateUse(found[3].strip(), _outcome(nodes, total), nodes, total, _integer(found[4]))
    if found := _DELEGATED.match(text):
        nodes, total = int(found[2]), int(found[3])
        return DelegateUse(found[1].strip(), _outcome(nodes, total), nodes, total, _integer(found[4]))
    if found := _GPU_SPLIT.match(text):
        nodes, rest = int(found[1]), int(found[2])
        return DelegateUse("GPU", _outcome(nodes, nodes + rest), nodes, nodes + rest)
    if found := _GPU_NOTHING.match(text):
        return DelegateUse("GPU", "none", 0, int(found[1]))
    if found := _EXPLICIT.match(text):
        outcome: Outcome = {"completely": "whole", "partially": "partial"}.get(found[2], "unknown")  # type: ignore[assignment]
        return DelegateUse(found[1].strip(), outcome, partitions=_integer(found[3]))
    if found := _NOT_EXECUTED.match(text):
        return DelegateUse(found[1].strip(), "none")
    if found := _FAILED.match(text):
        return DelegateUse(found[1].strip(), "failed")
    if found := _CREATED.match(text):
        return DelegateUse(found[1].strip())
    return None


def _outcome(nodes: int, total: int | None) -> Outcome:
    if nodes == 0:
        return "none"
    if total is None:
        return "unknown"
    return "whole" if nodes >= total else "partial"


def _key(name: str) -> str:
    """Return what the class ``TfLiteGpuDelegateV2`` and the name ``GPU`` have in common."""
    return re.sub(r"tflite|delegate|v2|\W|_", "", name.lower())


def _belong_together(last: DelegateUse, use: DelegateUse) -> bool:
    """Tell whether a line goes on about the delegate of the one before it."""
    counts_then_verdict = use.nodes is None and use.outcome != "unknown"
    if last.nodes is None and last.outcome == "unknown":  # "Created …", then what it took
        return _key(last.name) == _key(use.name)
    return counts_then_verdict and (_key(last.name) == _key(use.name) or use.name.upper() == "EXTERNAL")


def _joined(last: DelegateUse, use: DelegateUse) -> DelegateUse:
    name = use.name if use.nodes is None or last.nodes is not None else last.name
    return replace(
        last,
        name=name,
        # The tool's verdict counts kernels and leftovers itself, so it goes over what the node counts suggest.
        outcome=use.outcome if use.outcome != "unknown" else last.outcome,
        nodes=last.nodes if use.nodes is None else use.nodes,
        total=last.total if use.total is None else use.total,
        partitions=last.partitions if last.partitions is not None else use.partitions,
    )


def _integer(text: str | None) -> int | None:
    return None if text is None else int(text)
