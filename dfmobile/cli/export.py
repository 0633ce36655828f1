"""``dfmobile export``: model files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dfmobile.cli.common import InputOption, JsonOption, handled, parse_size, print_json, say


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
    precision: Annotated[
        str,
        typer.Option(
            "--precision", help="fp32; fp16 (.tflite: weights only; .onnx: typed, for TensorRT); .tflite also int8."
        ),
    ] = "fp32",
    calibration: Annotated[
        Path | None, typer.Option("--calibration", metavar="DIR", help="int8: images or .npy files of typical inputs.")
    ] = None,
    opset: Annotated[
        int | None, typer.Option("--opset", help="ONNX opset: 13 for TensorRT before 8.4, else 17 (default).")
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of random weights.")] = 0,
    json: JsonOption = False,
) -> None:
    """Write a network as a model file, checked by running it against the numpy reference."""
    import numpy as np

    from dfmobile.architecture import build, resolve, zoo
    from dfmobile.data.calibration import Normalisation, read_samples
    from dfmobile.errors import GraphError, InputError
    from dfmobile.export.exporter import check_options
    from dfmobile.export.exporter import export as export_graph
    from dfmobile.export.weights import load_weights_file
    from dfmobile.graph import initialise

    check_options(format, opset, precision)
    if calibration is not None and precision != "int8":
        raise InputError(f"precision {precision} takes no calibration data", hint="they are for --precision int8")
    if precision == "int8" and weights is not None and calibration is None:
        raise InputError(
            "int8 of given weights needs data to calibrate its ranges with",
            hint="give --calibration DIR: a folder with about 100 typical images",
        )
    resolved = resolve(architecture)
    found = zoo.find(architecture)
    default = (zoo.get(found).width, zoo.get(found).height) if found else zoo.default_input(resolved)
    network = build(resolved, *(parse_size(input) if input else default))
    about: dict[str, str] = {}
    if weights is None:
        source = f"random (seed {seed})"
        values = initialise(network.graph, seed)
        say(f"note: no --weights given: {output} gets random weights (seed {seed}); right for timing only")
    else:
        source = str(weights)
        values, about = load_weights_file(weights)
        try:
            network.graph.check_weights(values)
        except GraphError as error:
            raise InputError(
                f"{weights} does not fit {resolved.text}: {error}", hint="were they trained for another network?"
            ) from error
    samples: list[list[Any]] = []
    calibrated = None
    if calibration is not None:
        normalisation = Normalisation.of_weights(about)
        samples = read_samples(calibration, network.input_shape, normalisation)
        calibrated = f"{len(samples)} samples of {calibration.name}, normalisation: {normalisation.source}"
    elif precision == "int8":
        samples = [[np.random.default_rng(seed).standard_normal(network.input_shape, np.float32)]]
        calibrated = f"random (seed {seed})"
        say(f"note: no --calibration given: the ranges of {output} are those of noise; right for timing only")
    result = export_graph(
        network.graph,
        values,
        output,
        format=format,
        opset=opset,
        precision=precision,
        calibration=samples,
        metadata={
            "encoding": resolved.text,
            "weights": "random" if weights is None else "given",
            **({"calibration": calibrated} if calibrated else {}),
        },
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
        "calibration": calibrated,
        "opset": result.opset,
        "max_difference": result.verification.max_difference if result.verification else None,
        "relative_difference": result.verification.relative if result.verification else None,
        "rms_difference": result.verification.rms if result.verification else None,
    }
    if json:
        print_json(document)
        return
    size = f"{result.size_bytes / 1e6:.2f} MB"
    typer.echo(f"{output}: {size}, {format}, {precision}, input {network.width}x{network.height}")
    if calibrated:
        typer.echo(f"ranges from {calibrated}")
    if result.verification:
        typer.echo(
            f"checked by running it: differs from the reference by at most {result.verification.relative:.1e} "
            f"of the scores' standard deviation, {result.verification.rms:.1e} in the mean (RMS)"
        )
