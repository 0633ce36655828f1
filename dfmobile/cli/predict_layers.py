"""``dfmobile predict`` with a recorded, layer-granular table: a sum that always says how much it covers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer

from dfmobile.cli.common import print_json, print_table

if TYPE_CHECKING:
    from dfmobile.architecture import Network
    from dfmobile.latency.table import LatencyTable


def predict_layers(table: LatencyTable, network: Network, *, allow_partial: bool, json: bool) -> None:
    """Print the sum of a network's recorded layers.

    Raises:
        MissingBlocksError: if the table lacks layers, unless ``allow_partial``.
    """
    from rich.table import Table

    from dfmobile.latency.layer_predictor import LayerPredictor

    prediction = LayerPredictor(table).predict(network, allow_partial=allow_partial)
    header, encoding = table.header, network.architecture.text
    if json:
        print_json(
            {
                "encoding": encoding,
                "input": [network.width, network.height],
                **prediction.to_dict(),
                "device": header.device,
                "backend": header.backend,
                "precision": header.precision,
                "threads": header.threads,
            }
        )
        return
    kind = "" if prediction.complete else "PARTIAL, "
    typer.echo(
        f"{encoding} at {network.width}x{network.height}: {kind}{prediction.covered_ms:.4f} ms "
        f"({prediction.coverage_text}), recorded, interval unknown"
    )
    typer.echo(f"{header.runtime} {header.runtime_version}, {header.precision}, {header.device_summary}")
    for layer in prediction.uncovered:
        typer.echo(f"not covered: {layer.name}: {layer.text}")
    shown = Table("layer", "ops")
    shown.add_column("ms", justify="right")
    for layer in prediction.layers:
        shown.add_row(layer.name, layer.kind, "not covered" if layer.latency_ms is None else f"{layer.latency_ms:.4f}")
    print_table(shown)
