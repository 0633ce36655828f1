"""Predict a space from a recorded, layer-granular table: only members whose every layer somebody recorded.

A block's latency is the sum of its layers. A network's layers are those of its blocks, so such sums are those of
``layer_predictor``. What the table does not cover is left out, never estimated: such members are infinitely slow.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
import numpy.typing as npt

from dfmobile.architecture import Network, PlacedBlock
from dfmobile.architecture.spaces import SearchSpace
from dfmobile.architecture.spaces.chains import ChainSpace
from dfmobile.architecture.spaces.stage_tables import StageTables
from dfmobile.errors import InputError, MissingBlocksError
from dfmobile.latency.layer_predictor import LayerPredictor
from dfmobile.latency.predictor import BlockPrediction, Prediction, Predictor
from dfmobile.latency.table import LatencyTable

RULE = "recorded-layers"
_BASIS = "sum of recorded layers; spread unknown"


class RecordedPredictor:
    """Predicts from one layer-granular table.

    Args:
        table: layer-granular.
        covered_only: the user knows that members which the table does not cover are no candidates.

    Raises:
        InputError: if the table is block-granular.
        FileFormatError: if it is damaged.
    """

    rule = RULE

    def __init__(self, table: LatencyTable, *, covered_only: bool = True) -> None:
        self._layers = LayerPredictor(table)
        self._path = table.path
        self._covered_only = covered_only

    @property
    def skipped_above_ms(self) -> float:
        """Infinite: what is not covered may have any latency."""
        return math.inf

    def rule_for(self, space: SearchSpace, width: int, height: int) -> str:
        """Return the name of the one rule that there is."""
        return RULE

    def is_additive(self, space: SearchSpace, width: int, height: int) -> bool:
        """Tell that latencies are sums over blocks."""
        return True

    def predict(self, network: Network) -> Prediction:
        """Predict one network; there is no interval.

        Raises:
            MissingBlocksError: with the keys of the blocks whose layers the table lacks.
        """
        times = {block.key: self._layers.block_ms(block) for block in network.blocks}
        missing = tuple(key for key, found in times.items() if found is None)
        if missing:
            raise MissingBlocksError(
                f"{self._path} lacks layers of {len(missing)} blocks of {network.architecture.text}",
                hint="a recorded table cannot be completed by measuring",
                keys=missing,
            )
        shares = tuple(
            BlockPrediction(block.key, block.kind, block.name, times[block.key] or 0.0) for block in network.blocks
        )
        return Prediction(sum(item.latency_ms for item in shares), None, shares, RULE, _BASIS)

    def coverage(self, space: SearchSpace, width: int, height: int) -> tuple[int, int]:
        """Return of how many blocks of a space the table has every layer, and how many there are."""
        blocks = space.blocks(width, height)
        return sum(self._layers.block_ms(block) is not None for block in blocks), len(blocks)

    def predict_rows(
        self,
        space: SearchSpace,
        rows: npt.NDArray[np.int32],
        width: int,
        height: int,
        *,
        skipped: Literal["error", "infinite"] = "error",
    ) -> npt.NDArray[np.float64]:
        """Predict many architectures, ms ``[R]``; infinite where the table does not cover one.

        Args:
            space: search space.
            rows: ids, int32 ``[R, columns]``.
            width: of the input image, pixels.
            height: of the input image, pixels.
            skipped: of no effect: what is not covered is infinite.

        Raises:
            MissingBlocksError: if not all is covered, unless the user said ``covered_only``.
        """
        sums = space.sums(rows, width, height, self._features(space, width, height))
        found: npt.NDArray[np.float64] = np.where(sums[:, 1] > 0, np.inf, sums[:, 0])
        return found

    def stage_latencies(
        self, space: ChainSpace, width: int, height: int, *, skipped: Literal["error", "infinite"] = "error"
    ) -> StageTables:
        """Predict all architectures as tables by stage; arguments and errors are those of ``predict_rows``."""
        latency_ms, uncovered = space.stage_tables(width, height, self._features(space, width, height))
        return latency_ms.without(uncovered)

    def _features(self, space: SearchSpace, width: int, height: int) -> dict[str, tuple[float, float]]:
        """Return each block's latency, and 1 where it is unknown."""
        times = {block: self._layers.block_ms(block) for block in space.blocks(width, height)}
        missing = [block for block, found in times.items() if found is None]
        if missing and not self._covered_only:
            raise self._uncovered(space, missing, len(times), width, height)
        return {block.key: (0.0, 1.0) if found is None else (found, 0.0) for block, found in times.items()}

    def _uncovered(
        self, space: SearchSpace, missing: list[PlacedBlock], total: int, width: int, height: int
    ) -> MissingBlocksError:
        return MissingBlocksError(
            f"{self._path} covers {total - len(missing)} of {total} blocks of {space.name} at {width}x{height}; "
            f"it lacks layers of {missing[0].text}, for example",
            hint="a recorded table cannot be completed by measuring; --covered-only leaves out what it does not cover",
            keys=tuple(block.key for block in missing),
        )


def open_predictor(
    table: LatencyTable, rule: str | None = None, *, covered_only: bool = False
) -> Predictor | RecordedPredictor:
    """Return the predictor that fits a table.

    Args:
        table: of blocks, or recorded.
        rule: that predicts, for a table of blocks.
        covered_only: a recorded table that lacks blocks of a space may be used for the rest of it.

    Raises:
        InputError: if the table does not have what the rule needs, or is of blocks and ``covered_only`` is given.
        FileFormatError: if the table is damaged.
    """
    if table.header.granularity == "layer":
        if rule not in (None, RULE):
            raise InputError(
                f"{table.path} is recorded: rule {rule!r} is for tables of blocks", hint="leave out --rule"
            )
        return RecordedPredictor(table, covered_only=covered_only)
    if covered_only:
        raise InputError(
            f"{table.path} is not recorded: what it lacks can be measured",
            hint="leave out --covered-only; dfmobile lut build completes it",
        )
    return Predictor(table, rule)
