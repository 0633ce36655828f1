"""Predict networks from a latency table. A block that is not there is an error: never skipped, never substituted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from shlex import quote
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from dfmobile import registry
from dfmobile.architecture import Network, PlacedBlock
from dfmobile.architecture.spaces import SearchSpace, open_space
from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.architecture.spaces.stage_tables import StageTables
from dfmobile.errors import FileFormatError, InputError, MissingBlocksError
from dfmobile.graph.exported import EXPORT_VERSION
from dfmobile.latency import model_rules  # noqa: F401  (registers its rules)
from dfmobile.latency.build_command import build_command
from dfmobile.latency.calibration import stored_calibrations
from dfmobile.latency.rules import PredictionRule, open_rule
from dfmobile.latency.table import LatencyTable
from dfmobile.latency.working_set import stored_working_set

SHOWN_BLOCKS = 3
_CHUNK = 20_000  # rows at a time where a row needs a number for each block


def default_rules(table: LatencyTable) -> list[str]:
    """Return the rules that are tried where none is named, best first (see ``Predictor``).

    Raises:
        FileFormatError: if the table is damaged.
    """
    names = ["calibrated"] if stored_calibrations(table) else []
    return [*names, "sum" if stored_working_set(table) is None else "cache-aware"]


def available_rules(table: LatencyTable) -> list[str]:
    """Return the rules that can be used with a table as it is.

    Raises:
        FileFormatError: if the table is damaged.
    """
    return list(dict.fromkeys((*default_rules(table), *(["cache-aware"] if stored_working_set(table) else []), "sum")))


def refuse_replay(table: LatencyTable) -> None:
    """Refuse a table of played logs where measurements are needed.

    Raises:
        InputError: if it is one.
    """
    if table.header.replay:
        raise InputError(
            f"{table.path} is a replay, not a measurement: recorded logs were played instead of a device measured",
            hint="build a table with the device's own trtexec: dfmobile lut build --device … --backend tensorrt",
        )


class BlockPrediction(NamedTuple):
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
        basis: what that rule rests on, one line for people.
    """

    latency_ms: float
    interval_ms: tuple[float, float] | None
    blocks: tuple[BlockPrediction, ...]
    rule: str
    basis: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction as a JSON document."""
        return {
            "latency_ms": self.latency_ms,
            "interval_ms": None if self.interval_ms is None else list(self.interval_ms),
            "rule": self.rule,
            "basis": self.basis,
            "blocks": [
                {"key": block.key, "kind": block.kind, "name": block.name, "latency_ms": block.latency_ms}
                for block in self.blocks
            ],
        }


@dataclass(frozen=True)
class Difference:
    """By how much one network is slower than another, as predicted.

    Attributes:
        latency_ms: latency of the first minus that of the second.
        interval_ms: (low, high), 95 %. Errors of blocks that both have cancel, so it is narrower than the intervals
            of the two would suggest; None where the table does not tell.
        rule: name of the rule that was used.
    """

    latency_ms: float
    interval_ms: tuple[float, float] | None
    rule: str


class _Opened:
    """A rule over some of a table's blocks, as arrays."""

    def __init__(self, rule: PredictionRule) -> None:
        self.rule = rule
        self.basis = rule.basis
        self.position = {entry.key: number for number, entry in enumerate(rule.entries)}
        self.keys = frozenset(self.position)
        self.features = {entry.key: rule.features(entry) for entry in rule.entries}
        size = len(next(iter(self.features.values()), (0.0,)))
        self.table = np.array(list(self.features.values()), np.float64).reshape(-1, size)

    def counts(self, keys: Sequence[str]) -> npt.NDArray[np.float64]:
        """Return how often each block occurs, ``[B]``."""
        numbers = [self.position[key] for key in keys]
        return np.bincount(numbers, minlength=len(self.position)).astype(np.float64)


class Predictor:
    """Predicts networks from one table. Reads the table once; later builds need a new predictor.

    Where no rule is named, each prediction uses the first of these that the table has, and says which: ``calibrated``
    where networks of a space with these very blocks were measured whole, ``cache-aware`` where the working set of the
    device was, ``sum``.

    Args:
        table: block-granular.
        rule: name of a registered rule; None for the default.
        allow_replay: predict from a table of played logs too; whoever does says that it is no measurement.

    Raises:
        InputError: if there is no such rule, the table lacks what it needs, is layer-granular, a replay, or of
            another export version.
        FileFormatError: if the table is damaged.
    """

    def __init__(self, table: LatencyTable, rule: str | None = None, *, allow_replay: bool = False) -> None:
        if not allow_replay:
            refuse_replay(table)
        if table.header.granularity != "block":
            raise InputError(
                f"{table.path} is a table of {table.header.granularity}s; networks are predicted from tables of blocks"
            )
        if table.header.export_version != EXPORT_VERSION:
            raise InputError(
                f"{table.path} holds times of model files of export version {table.header.export_version}; this "
                f"dfmobile writes version {EXPORT_VERSION}, in which networks consist of other ops",
                hint="build a new table with: dfmobile lut build, or use the dfmobile that wrote it",
            )
        self._path, self._header = table.path, table.header
        self._given = rule
        entries = table.entries()
        if len({entry.measure for entry in entries}) > 1:
            raise FileFormatError(
                f"{table.path} mixes costs of blocks alone with costs inside a network", hint="build the table again"
            )
        self._keys = frozenset(entry.key for entry in entries)
        self._skipped = {item.key: item for item in table.skipped() if item.key not in self._keys}
        self._spaces = list(dict.fromkeys(build.space for build in table.builds() if build.space))
        names = [rule] if rule is not None else default_rules(table)
        self._opened = [_Opened(item) for name in names for item in open_rule(name).open_all(table, entries)]

    @property
    def rule(self) -> str:
        """Name of the rule in use; where several may be, of the one that is tried first."""
        return self._given or self._opened[0].rule.name

    def covers(self, networks: Sequence[Network]) -> bool:
        """Tell whether all these networks can be predicted."""
        return all(any(item.keys.issuperset(network.keys) for item in self._opened) for network in networks)

    def rule_for(self, space: SearchSpace, width: int, height: int) -> str:
        """Return the name of the rule that predicts a space's networks at an input size.

        Raises:
            InputError: if the rule that was asked for cannot.
        """
        return self._choose(space.key_index(width, height), partial=True).rule.name

    def predict(self, network: Network) -> Prediction:
        """Predict one network.

        Raises:
            MissingBlocksError: naming the blocks that the table lacks, and the command that adds them.
            InputError: if the rule that was asked for cannot predict this network.
        """
        keys = network.keys
        if not self._keys.issuperset(keys):
            raise self._missing_in(network)
        opened = self._choose(keys)
        found = opened.rule.predict_one([opened.position[key] for key in keys])
        return Prediction(
            latency_ms=found.latency_ms,
            interval_ms=found.interval_ms,
            blocks=tuple(
                BlockPrediction(key, block.kind, block.name, share)
                for key, block, share in zip(keys, network.blocks, found.shares_ms, strict=True)
            ),
            rule=opened.rule.name,
            basis=opened.basis,
        )

    def difference(self, left: Network, right: Network) -> Difference:
        """Predict by how much ``left`` is slower than ``right``.

        Raises:
            MissingBlocksError, InputError: as ``predict``.
        """
        for network in (left, right):
            if not self._keys.issuperset(network.keys):
                raise self._missing_in(network)
        opened = self._choose((*left.keys, *right.keys))
        counts = [opened.counts(network.keys)[None] for network in (left, right)]
        first, second = (float(opened.rule.combine(item @ opened.table)[0]) for item in counts)
        half = float(opened.rule.difference_half_widths_ms(*counts)[0])
        middle = first - second
        return Difference(middle, None if math.isnan(half) else (middle - half, middle + half), opened.rule.name)

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
            rows: ids, int32 ``[R, columns]``.
            width: of the input image, pixels.
            height: of the input image, pixels.
            skipped: what becomes of architectures with a block that the table records as skipped (alone slower than
                the build's ``--latency-max``): an error, or infinity, for callers who only look below that limit.

        Returns:
            ms, float64 ``[R]``.

        Raises:
            MissingBlocksError: naming the blocks of the space that the table lacks, and the command that adds them.
            InputError: if the rule that was asked for cannot predict this space.
        """
        opened, absent = self._for_space(space, width, height, skipped)
        if not absent:
            return opened.rule.combine(space.sums(rows, width, height, opened.features))
        size = opened.table.shape[1]
        # One more feature counts the skipped blocks; what the others hold there is never used.
        features = {key: (*values, 0.0) for key, values in opened.features.items()}
        features.update(dict.fromkeys(absent, (*((0.0,) * size), 1.0)))
        sums = space.sums(rows, width, height, features)
        latency_ms = np.array(opened.rule.combine(sums[:, :size]), np.float64)
        latency_ms[sums[:, size] > 0] = math.inf
        return latency_ms

    def is_additive(self, space: SearchSpace, width: int, height: int) -> bool:
        """Tell whether the rule that predicts a space is a sum over blocks, so that ``stage_latencies`` can be used.

        Raises:
            InputError: if the rule that was asked for cannot predict this space.
        """
        return self._choose(space.key_index(width, height), partial=True).rule.additive

    def stage_latencies(
        self, space: ChainSpace, width: int, height: int, *, skipped: Literal["error", "infinite"] = "error"
    ) -> StageTables:
        """Predict all architectures of a space at once, as tables by stage whose entries add up to each latency.

        Args:
            space: search space.
            width: of the input image, pixels.
            height: of the input image, pixels.
            skipped: as ``predict_rows``.

        Returns:
            ms; as ``predict_rows`` but for rounding, since it adds up in another order.

        Raises:
            MissingBlocksError: as ``predict_rows``.
            InputError: if the rule is not a sum over blocks, or cannot predict this space.
        """
        opened, absent = self._for_space(space, width, height, skipped)
        if not opened.rule.additive:
            raise InputError(
                f"rule {opened.rule.name!r} is not a sum over blocks: it has no latencies by stage", hint="--rule sum"
            )
        features = {key: (values[0], 0.0) for key, values in opened.features.items()}
        features.update(dict.fromkeys(absent, (0.0, 1.0)))
        latency_ms, skips = space.stage_tables(width, height, features)
        return latency_ms.without(skips) if absent else latency_ms

    def interval_rows(
        self,
        space: SearchSpace,
        rows: npt.NDArray[np.int32],
        width: int,
        height: int,
        *,
        skipped: Literal["error", "infinite"] = "error",
    ) -> npt.NDArray[np.float64]:
        """Return the 95 % intervals of many architectures, ms ``[R, 2]``; NaN where the table does not tell.

        Args:
            space: search space.
            rows: ids, int32 ``[R, columns]``.
            width: of the input image, pixels.
            height: of the input image, pixels.
            skipped: as ``predict_rows``.

        Raises:
            MissingBlocksError, InputError: as ``predict_rows``.
        """
        opened, _ = self._for_space(space, width, height, skipped)
        latency_ms = self.predict_rows(space, rows, width, height, skipped=skipped)
        found = np.full((len(rows), 2), np.inf)
        for start in range(0, len(rows), _CHUNK):
            part = np.flatnonzero(np.isfinite(latency_ms[start : start + _CHUNK])) + start
            counts = self._count_rows(opened, space, rows[part], width, height)
            found[part] = opened.rule.intervals_ms(counts, latency_ms[part])
        return found

    def difference_rows(
        self,
        space: SearchSpace,
        left: npt.NDArray[np.int32],
        right: npt.NDArray[np.int32],
        width: int,
        height: int,
    ) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Predict by how much each architecture of ``left`` is slower than that of ``right``.

        Args:
            space: search space.
            left: ids, int32 ``[R, columns]``.
            right: ids, int32 ``[R, columns]``.
            width: of the input image, pixels.
            height: of the input image, pixels.

        Returns:
            Differences and half of their 95 % intervals, ms, ``[R]`` each.

        Raises:
            MissingBlocksError, InputError: as ``predict_rows``.
        """
        opened, _ = self._for_space(space, width, height, "error")
        middle = self.predict_rows(space, left, width, height) - self.predict_rows(space, right, width, height)
        half = np.empty(len(left))
        for start in range(0, len(left), _CHUNK):
            part = slice(start, start + _CHUNK)
            pair = [self._count_rows(opened, space, side[part], width, height) for side in (left, right)]
            half[part] = opened.rule.difference_half_widths_ms(*pair)
        return middle, half

    def _count_rows(
        self, opened: _Opened, space: SearchSpace, rows: npt.NDArray[np.int32], width: int, height: int
    ) -> npt.NDArray[np.float64]:
        """Return how often each of the rule's blocks occurs, ``[R, B]``."""
        unit = np.eye(len(opened.position))
        features: dict[str, Sequence[float]] = {key: unit[number] for key, number in opened.position.items()}
        absent = [key for key in space.key_index(width, height) if key not in features]
        features.update(dict.fromkeys(absent, (0.0,) * len(unit)))  # skipped ones, which these rows do not have
        found: npt.NDArray[np.float64] = space.sums(rows, width, height, features)
        return found

    def _for_space(
        self, space: SearchSpace, width: int, height: int, skipped: Literal["error", "infinite"]
    ) -> tuple[_Opened, list[str]]:
        """Return the rule for a space, and the keys of its skipped blocks.

        Raises:
            MissingBlocksError: if others are missing.
        """
        blocks = space.blocks(width, height)
        allowed = self._skipped if skipped == "infinite" else {}
        missing = [block for block in blocks if block.key not in self._keys and block.key not in allowed]
        if missing:
            own = space.max_depth if space.document is None else space.document["max_depth"]
            if space.name in registry.names("dfmobile.spaces"):
                own = open_space(space.name).max_depth
            depth = None if space.max_depth == own else space.max_depth
            target = f"--space {space.source} --input {width}x{height}"
            command = build_command(self._header, self._path, target, max_depth=depth)
            raise self._missing(missing, width, height, command)
        keys = [block.key for block in blocks]
        return self._choose(keys, partial=True), [key for key in keys if key in allowed]

    def _choose(self, keys: Sequence[str], *, partial: bool = False) -> _Opened:
        """Return the first rule that covers all these blocks; with ``partial``, of them those that the table has."""
        wanted = self._keys.intersection(keys) if partial else keys
        for opened in self._opened:
            if opened.keys.issuperset(wanted):
                return opened
        raise InputError(
            f"{self._path} has no calibration for these blocks",
            hint=f"make one: dfmobile lut calibrate {quote(str(self._path))}, or name another --rule",
        )

    def _missing_in(self, network: Network) -> MissingBlocksError:
        missing = {block.key: block for block in network.blocks if block.key not in self._keys}
        command = build_command(self._header, self._path, _build_target(network, self._spaces))
        return self._missing(list(missing.values()), network.width, network.height, command)

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
        return self._keys

    @property
    def skipped_above_ms(self) -> float:
        """Every network with a block that the table records as skipped is slower than this; infinite without any."""
        return min((item.limit_ms for item in self._skipped.values()), default=math.inf)


def _build_target(network: Network, preferred: Sequence[str]) -> str:
    """Return what to build so that a network's blocks are measured, as options."""
    size = f"{network.width}x{network.height}"
    candidates = dict.fromkeys((*preferred, *registry.names("dfmobile.spaces")))
    for name in candidates:
        if name in registry.names("dfmobile.spaces") and network.architecture in open_space(name):
            return f"--space {name} --input {size}"
    return f"--network {quote(network.architecture.text)} --input {size}"
