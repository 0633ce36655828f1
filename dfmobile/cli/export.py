"""``dfmobile export``: model files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dfmobile.cli.common import InputOption, JsonOption, PrecisionOption, handled, parse_size, print_json, say


def register(parent: typer.Typer) -> None:
    """Add the command."""
    parent.command("export")(export)


@handled
def export(
    architecture: Annotated[str, typer.Argument(metavar="ARCH", help="Zoo name, encoding text or .json file.")],
    format: Annotated[str, typer.Option("--format", help="tflite or onnx.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="FILE", help="File to write.")],
    input: InputOption = None,
    weights: Annotated[Path | None, typer.Option("--weights", metavar="FILE", help="Weights (.npz).")] = None,
    precision: PrecisionOption = "fp32",
    opset: Annotated[
        int | None, typer.Option("--opset", help="ONNX opset: 13 for TensorRT before 8.4, else 17 (default).")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of random weights.")] = 0,
    json: JsonOption = False,
) -> None:
    """Write a network as a model file, checked by running it against the numpy reference."""
    from dfmobile.architecture import build, resolve, zoo
    from dfmobile.errors import GraphError, InputError
    from dfmobile.export.exporter import export as export_graph
    from dfmobile.export.weights import load_weights_file
    from dfmobile.graph import initialise

    if precision != "fp32":
        raise InputError(f"precision {precision!r} is not available in this version", hint="fp32 is")
    resolved = resolve(architecture)
    found = zoo.find(architecture)
    default = (zoo.get(found).width, zoo.get(found).height) if found else zoo.default_input(resolved)
    network = build(resolved, *(parse_size(input) if input else default))
    if weights is None:
        source = f"random (seed {seed})"
        values = initialise(network.graph, seed)
        say(f"note: no --weights given: {output} gets random weights (seed {seed}); right for timing only")
    else:
        source = str(weights)
        values, _ = load_weights_file(weights)
        try:
            network.graph.check_weights(values)
        except GraphError as error:
            raise InputError(
                f"{weights} does not fit {resolved.text}: {error}", hint="were they trained for another network?"
            ) from error
    result = export_graph(
        network.graph,
        values,
        output,
        format=format,
        opset=opset,
        metadata={"encoding": resolved.text, "weights": "random" if weights is None else "given"},
    )
    document = {
        "file": str(output),
        "format": format,
        "bytes": result.size_bytes,
        "sha256": result.sha256,
        "encoding": resolved.text,
        "input": list(network.input_shape),
        "output": list(network.output_shape),
        "weights": source,
        "precision": precision,
        "opset": result.opset,
        "max_difference": result.verification.max_difference if result.verification else None,
        "relative_difference": result.verification.relative if result.verification else None,
    }
    if json:
        print_json(document)
        return
    typer.echo(f"{output}: {result.size_bytes / 1e6:.2f} MB, {format}, input {network.width}x{network.height}")
    if result.verification:
        typer.echo(
            f"checked by running it: differs from the reference by at most {result.verification.relative:.1e} "
            "of the scores' standard deviation"
        )
