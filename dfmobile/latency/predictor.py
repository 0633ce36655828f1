"""Predict networks from a latency table. A block that is not there is an error: never skipped, never substituted."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from shlex import quote
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from dfmobile import registry
from dfmobile.architecture import Network, PlacedBlock
from dfmobile.architecture.spaces import SearchSpace, open_space
from dfmobile.errors import InputError, MissingBlocksError
from dfmobile.latency.rules import open_rule
from dfmobile.latency.table import LatencyTable

SHOWN_BLOCKS = 3


@dataclass(frozen=True)
class BlockPrediction:
    """What a block contributes.

    Attributes:
        key: LUT key.
        kind: of block.
        name: where it stands in the network, e.g. ``stage3.block1``.
        latency_ms: its share.
    """

    key: str
    kind: str
    name: str
    latency_ms: float


@dataclass(frozen=True)
class Prediction:
    """A network's predicted latency.

    Attributes:
        latency_ms: the prediction.
        interval_ms: (low, high), 95 %, as far as the rule knows (see the rule); None where the table does not tell,
            because a block has a single pass.
        blocks: in execution order.
        rule: name of the rule that was used.
    """

    latency_ms: float
    interval_ms: tuple[float, float] | None
    blocks: tuple[BlockPrediction, ...]
    rule: str

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction as a JSON document."""
        return {
            "latency_ms": self.latency_ms,
            "interval_ms": None if self.interval_ms is None else list(self.interval_ms),
            "rule": self.rule,
            "blocks": [
                {"key": block.key, "kind": block.kind, "name": block.name, "latency_ms": block.latency_ms}
                for block in self.blocks
            ],
        }


class Predictor:
    """Predicts networks from one table by one rule. Reads the table once; later builds need a new predictor.

    Args:
        table: block-granular.
        rule: name of a registered rule.

    Raises:
        InputError: if there is no such rule, or the table is layer-granular.
        FileFormatError: if the table is damaged.
    """

    def __init__(self, table: LatencyTable, rule: str = "sum") -> None:
        if table.header.granularity != "block":
            raise InputError(
                f"{table.path} is a table of {table.header.granularity}s; networks are predicted from tables of blocks"
            )
        self._path = table.path
        entries = table.entries()
        self._entries = {entry.key: entry for entry in entries}
        self._skipped = {item.key: item for item in table.skipped() if item.key not in self._entries}
        self._spaces = list(dict.fromkeys(build.space for build in table.builds() if build.space))
        self._rule = open_rule(rule)(table, entries)
        self._features = {entry.key: self._rule.features(entry) for entry in entries}
        self._block_ms = {entry.key: self._rule.block_ms(entry) for entry in entries}

    @property
    def rule(self) -> str:
        """Name of the rule in use."""
        return self._rule.name

    def predict(self, network: Network) -> Prediction:
        """Predict one network.

        Raises:
            MissingBlocksError: naming the blocks that the table lacks, and the command that adds them.
        """
        keys = [block.key for block in network.blocks]
        missing = {key: block for key, block in zip(keys, network.blocks, strict=True) if key not in self._features}
        if missing:
            size = (network.width, network.height)
            raise self._missing(list(missing.values()), *size, _build_command(network, self._spaces, self._path))
        counts = Counter(keys)
        columns = zip(*(self._features[key] for key in keys), strict=True)
        latency_ms = float(self._rule.combine(np.array([[math.fsum(column) for column in columns]]))[0])
        known = [(self._entries[key], count) for key, count in counts.items()]
        return Prediction(
            latency_ms=latency_ms,
            interval_ms=self._rule.interval_ms(known, latency_ms),
            blocks=tuple(
                BlockPrediction(key, block.kind, block.name, self._block_ms[key])
                for key, block in zip(keys, network.blocks, strict=True)
            ),
            rule=self.rule,
        )

    def predict_rows(
        self,
        space: SearchSpace,
        rows: npt.NDArray[np.int32],
        width: int,
        height: int,
        *,
        skipped: Literal["error", "infinite"] = "error",
    ) -> npt.NDArray[np.float64]:
        """Predict many architectures of a space at once.

        Args:
            space: search space.
            rows: list ids, int32 ``[R, stages]``.
            width: of the input image, pixels.
            height: of the input image, pixels.
            skipped: what becomes of architectures with a block that the table records as skipped (alone slower than
                the build's ``--latency-max``): an error, or infinity, for callers who only look below that limit.

        Returns:
            ms, float64 ``[R]``.

        Raises:
            MissingBlocksError: naming the blocks of the space that the table lacks, and the command that adds them.
        """
        blocks = space.blocks(width, height)
        allowed = self._skipped if skipped == "infinite" else {}
        missing = [block for block in blocks if block.key not in self._features and block.key not in allowed]
        if missing:
            command = f"dfmobile lut build --space {space.name} --input {width}x{height} -o {quote(str(self._path))}"
            raise self._missing(missing, width, height, command)
        if not allowed:
            return self._rule.combine(space.sums(rows, width, height, self._features))
        size = len(next(iter(self._features.values()), (0.0,)))
        # One more feature counts the skipped blocks; what the others hold there is never used.
        features = {key: (*values, 0.0) for key, values in self._features.items()}
        features.update(dict.fromkeys(allowed, (*((0.0,) * size), 1.0)))
        sums = space.sums(rows, width, height, features)
        latency_ms = np.array(self._rule.combine(sums[:, :size]), np.float64)
        latency_ms[sums[:, size] > 0] = math.inf
        return latency_ms

    def _missing(self, blocks: Sequence[PlacedBlock], width: int, height: int, command: str) -> MissingBlocksError:
        shown = "; ".join(block.text for block in blocks[:SHOWN_BLOCKS])
        more = f"; and {len(blocks) - SHOWN_BLOCKS} more" if len(blocks) > SHOWN_BLOCKS else ""
        what = "1 block" if len(blocks) == 1 else f"{len(blocks)} blocks"
        slow = [self._skipped[block.key] for block in blocks if block.key in self._skipped]
        why = ""
        if slow:
            worst = max(slow, key=lambda item: item.measured_ms)
            why = f" ({len(slow)} skipped by --latency-max {worst.limit_ms:g}: alone up to {worst.measured_ms:.3g} ms)"
        return MissingBlocksError(
            f"{self._path} lacks {what} at {width}x{height}: {shown}{more}{why}",
            hint=f"add: {command}",
            keys=tuple(block.key for block in blocks),
        )

    @cached_property
    def keys(self) -> frozenset[str]:
        """LUT keys that can be predicted."""
        return frozenset(self._features)

    @property
    def skipped_above_ms(self) -> float:
        """Every network with a block that the table records as skipped is slower than this; infinite without any."""
        return min((item.limit_ms for item in self._skipped.values()), default=math.inf)


def _build_command(network: Network, preferred: Sequence[str], path: object) -> str:
    """Return the command that adds a network's blocks to a table."""
    size = f"{network.width}x{network.height}"
    candidates = dict.fromkeys((*preferred, *registry.names("dfmobile.spaces")))
    for name in candidates:
        if name in registry.names("dfmobile.spaces") and network.architecture in open_space(name):
            return f"dfmobile lut build --space {name} --input {size} -o {quote(str(path))}"
    return f"dfmobile lut build --network {quote(network.architecture.text)} --input {size} -o {quote(str(path))}"
