"""Predict networks from layer-granular (recorded) tables, always with the share that the table covers.

The network's deployed graph is cut into layers the way the log was; their recorded times are added. Nothing is
substituted for a layer that the log does not have: a sum over part of a network is called partial.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from dfmobile.architecture import Network, PlacedBlock
from dfmobile.errors import InputError, MissingBlocksError
from dfmobile.graph.fold import fold_batch_norm
from dfmobile.latency.layers import fusion_of, layers_of
from dfmobile.latency.table import LatencyTable

SHOWN_LAYERS = 3


@dataclass(frozen=True)
class LayerShare:
    """A layer's part of a prediction.

    Attributes:
        key: LUT key.
        kind: ops, e.g. ``conv+relu``.
        name: node names in the network.
        text: kind, shapes, short key.
        macs: multiply-accumulates.
        latency_ms: as recorded (median, where the log has the layer several times); None where it has not.
    """

    key: str
    kind: str
    name: str
    text: str
    macs: int
    latency_ms: float | None


@dataclass(frozen=True)
class LayerPrediction:
    """The sum of a network's recorded layers.

    Attributes:
        covered_ms: sum over the layers that the table has: the network's latency only where ``complete``.
        layers: all, in execution order.
    """

    covered_ms: float
    layers: tuple[LayerShare, ...]

    @property
    def uncovered(self) -> tuple[LayerShare, ...]:
        """Layers that the table does not have."""
        return tuple(layer for layer in self.layers if layer.latency_ms is None)

    @property
    def complete(self) -> bool:
        """Whether the table has every layer."""
        return not self.uncovered

    @property
    def macs_share(self) -> float:
        """Part of the network's MACs that the covered layers make up; 1 for a network without MACs."""
        total = sum(layer.macs for layer in self.layers)
        return 1 - sum(layer.macs for layer in self.uncovered) / total if total else 1.0

    @property
    def coverage_text(self) -> str:
        """For people: how much is covered."""
        covered = len(self.layers) - len(self.uncovered)
        return f"{covered} of {len(self.layers)} layers, {100 * self.macs_share:.1f} % of the MACs"

    def to_dict(self) -> dict[str, Any]:
        """Return the prediction as a JSON document; ``latency_ms`` is null where it is partial."""
        return {
            "latency_ms": self.covered_ms if self.complete else None,
            "interval_ms": None,
            "covered_ms": self.covered_ms,
            "recorded": True,
            "coverage": {
                "layers": len(self.layers) - len(self.uncovered),
                "of_layers": len(self.layers),
                "macs_share": self.macs_share,
            },
            "uncovered": [{"key": item.key, "name": item.name, "text": item.text} for item in self.uncovered],
            "blocks": [
                {"key": item.key, "kind": item.kind, "name": item.name, "latency_ms": item.latency_ms}
                for item in self.layers
            ],
        }


class LayerPredictor:
    """Predicts networks from one layer-granular table.

    Args:
        table: layer-granular.

    Raises:
        InputError: if it is block-granular, or its way of cutting networks into layers is unknown.
        FileFormatError: if it is damaged.
    """

    def __init__(self, table: LatencyTable) -> None:
        if table.header.granularity != "layer":
            raise InputError(f"{table.path} is a table of {table.header.granularity}s, not of layers")
        self._path = table.path
        self._fusion = fusion_of(table.header.flags.get("fusion"))
        self._times = {entry.key: entry.hot_ms for entry in table.entries()}

    def block_ms(self, block: PlacedBlock) -> float | None:
        """Return the sum of a block's recorded layers, ms; None where the table lacks one of them."""
        times = [self._times.get(layer.key) for layer in layers_of(block.graph, self._fusion)]
        known = [item for item in times if item is not None]
        return sum(known) if len(known) == len(times) else None

    def predict(self, network: Network, *, allow_partial: bool = False) -> LayerPrediction:
        """Add up a network's recorded layers.

        Args:
            network: any.
            allow_partial: return the sum over the covered layers where others are missing.

        Raises:
            MissingBlocksError: naming the layers that the table lacks and the share that it covers.
        """
        layers = tuple(
            LayerShare(layer.key, layer.kind, layer.name, layer.text, layer.macs, self._times.get(layer.key))
            for layer in layers_of(fold_batch_norm(network.graph), self._fusion)
        )
        covered_ms = sum(layer.latency_ms for layer in layers if layer.latency_ms is not None)
        prediction = LayerPrediction(covered_ms, layers)
        missing = prediction.uncovered
        if missing and not allow_partial:
            shown = "; ".join(f"{item.name}: {item.text}" for item in missing[:SHOWN_LAYERS])
            more = f"; and {len(missing) - SHOWN_LAYERS} more" if len(missing) > SHOWN_LAYERS else ""
            what = "1 layer" if len(missing) == 1 else f"{len(missing)} layers"
            raise MissingBlocksError(
                f"{self._path} lacks {what} at {network.width}x{network.height} "
                f"(it covers {prediction.coverage_text}): {shown}{more}",
                hint="a recorded table cannot be completed by measuring; --allow-partial adds up what it covers",
                keys=tuple(item.key for item in missing),
            )
        return prediction
