"""``dfmobile export``: model files."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dfmobile.cli.common import (
    REPLAY,
    BackendOptionsOption,
    InputOption,
    JsonOption,
    handled,
    parse_backend_options,
    parse_size,
    print_json,
    say,
)

if TYPE_CHECKING:
    from dfmobile.graph import Graph, Weights


def register(parent: typer.Typer) -> None:
    """Add the command."""
    parent.command("export")(export)


@handled
def export(
    architecture: Annotated[str, typer.Argument(metavar="ARCH", help="Zoo name, encoding text or .json file.")],
    format: Annotated[str, typer.Option("--format", help="tflite, onnx, ncnn or tensorrt.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="File to write; of ncnn FILE.param: FILE.bin and FILE.json are written too.",
        ),
    ],
    input: InputOption = None,
    weights: Annotated[Path | None, typer.Option("--weights", metavar="FILE", help="Weights (.npz).")] = None,
    precision: Annotated[
        str,
        typer.Option(
            "--precision",
            help="fp32; fp16 (weights: half the size; .onnx: arithmetic too, for TensorRT); int8 (tflite, onnx).",
        ),
    ] = "fp32",
    calibration: Annotated[
        Path | None, typer.Option("--calibration", metavar="DIR", help="int8: images or .npy files of typical inputs.")
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option("--check", metavar="DIR", help="Compare with the reference on these images, not on noise."),
    ] = None,
    symmetric: Annotated[
        bool, typer.Option("--symmetric", help="int8 .onnx: zero points are 0, as TensorRT needs it.")
    ] = False,
    opset: Annotated[
        int | None, typer.Option("--opset", help="ONNX opset: 13 for TensorRT before 8.4, else 17 (default).")
    ] = None,
    device: Annotated[
        str | None,
        typer.Option("--device", metavar="URI", help="tensorrt: the board that builds the engine it will run."),
    ] = None,
    backend_option: BackendOptionsOption = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of random weights.")] = 0,
    json: JsonOption = False,
) -> None:
    """Write a network as a model file, checked by running it against the numpy reference."""
    import numpy as np

    from dfmobile.architecture import build, resolve, zoo
    from dfmobile.data.calibration import read_samples
    from dfmobile.data.input_preprocessing import Preprocessing
    from dfmobile.errors import InputError
    from dfmobile.export.exporter import check_options
    from dfmobile.export.exporter import export as export_graph
    from dfmobile.export.model_texts import model_texts
    from dfmobile.export.network_weights import network_weights
    from dfmobile.graph import initialise

    engine = format == "tensorrt"
    if engine:
        if device is None:
            raise InputError(
                "format 'tensorrt' needs --device: an engine runs on the GPU that built it, and on no other",
                hint="--device ssh:USER@HOST, or --device local on a machine with a GPU",
            )
        if opset is not None:
            raise InputError("the opset of an engine's network follows from the board", hint="leave --opset out")
        if calibration is not None:
            raise InputError(
                "an engine takes no calibration data here, but TensorRT's own scales",
                hint="--backend-option calibration-cache=FILE",
            )
        if check is not None:
            raise InputError("an engine is not compared here: only the board can run it", hint="leave --check out")
    else:
        if device is not None or backend_option:
            raise InputError(f"format {format!r} is written without a device", hint="leave --device out")
        check_options(format, opset, precision)
    if calibration is not None and precision != "int8":
        raise InputError(f"precision {precision} takes no calibration data", hint="they are for --precision int8")
    if precision == "int8" and weights is not None and calibration is None and not engine:
        raise InputError(
            "int8 of given weights needs data to calibrate its ranges with",
            hint="give --calibration DIR: a folder with about 100 typical images",
        )
    if symmetric and (format, precision) != ("onnx", "int8"):
        raise InputError("--symmetric is for --format onnx --precision int8")
    resolved = resolve(architecture)
    found = zoo.find(architecture)
    default = (zoo.get(found).width, zoo.get(found).height) if found else zoo.default_input(resolved)
    network = build(resolved, *(parse_size(input) if input else default))
    graph, about = network.graph, dict[str, str]()
    if weights is None:
        source = f"random (seed {seed})"
        values = initialise(network.graph, seed)
        say(f"note: no --weights given: {output} gets random weights (seed {seed}); right for timing only")
    else:
        source = str(weights)
        graph, values, about = network_weights(network, weights)
    if engine:
        metadata = {
            "encoding": resolved.text,
            "input": "x".join(map(str, network.input_shape)),
            "weights": "random" if weights is None else "given",
        }
        _export_engine(
            graph,
            values,
            output,
            str(device),
            precision,
            parse_backend_options(backend_option),
            metadata,
            json=json,
        )
        return
    samples: list[list[Any]] = []
    calibrated = None
    if calibration is not None:
        preprocessing = Preprocessing.of_weights(about)
        samples = read_samples(calibration, network.input_shape, preprocessing)
        calibrated = f"{len(samples)} samples of {calibration.name}, preprocessing: {preprocessing.source}"
    elif precision == "int8":
        samples = [[np.random.default_rng(seed).standard_normal(network.input_shape, np.float32)]]
        calibrated = f"random (seed {seed})"
        say(f"note: no --calibration given: the ranges of {output} are those of noise; right for timing only")
    checks = [] if check is None else read_samples(check, network.input_shape, Preprocessing.of_weights(about))
    result = export_graph(
        graph,
        values,
        output,
        format=format,
        opset=opset,
        precision=precision,
        calibration=samples,
        symmetric=symmetric,
        samples=checks,
        metadata=model_texts(network, about, given=weights is not None, precision=precision, calibrated=calibrated),
    )
    number = result.verification.samples if result.verification else 0
    real = check or (calibration if precision == "int8" else None)
    checked_on = "noise" if real is None else f"{number} of {real}"
    document = {
        "file": str(output),
        "companions": [str(path) for path in result.companions],
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
        "argmax_agreement": result.verification.argmax_agreement if result.verification else None,
        "checked_on": checked_on,
    }
    if json:
        print_json(document)
        return
    size = f"{result.size_bytes / 1e6:.2f} MB"
    files = ", ".join(map(str, (output, *result.companions)))
    typer.echo(f"{files}: {size}, {format}, {precision}, input {network.width}x{network.height}")
    if calibrated:
        typer.echo(f"ranges from {calibrated}")
    if result.verification:
        typer.echo(
            f"checked by running it on {checked_on}: differs from the reference by at most "
            f"{result.verification.relative:.1e} of the scores' standard deviation, {result.verification.rms:.1e} in "
            f"the mean (RMS); {'class' if len(network.output_shape) == 2 else 'pixels'} of the highest score equal: "
            f"{100 * result.verification.argmax_agreement:.2f} %"
        )


def _export_engine(
    graph: Graph,
    weights: Weights,
    output: Path,
    device: str,
    precision: str,
    options: dict[str, str],
    metadata: dict[str, str],
    *,
    json: bool,
) -> None:
    """Have a board build an engine, and print what came."""
    from dfmobile.devices.device import open_device
    from dfmobile.latency.backends.tensorrt import TensorRTBackend
    from dfmobile.latency.tensorrt.engine_export import export_engine

    with (
        open_device(device) as opened,
        contextlib.closing(TensorRTBackend(opened, precision=precision, options=options)) as backend,
    ):
        backend.tell = say
        say(f"building an engine with TensorRT {backend.version.text} on {opened.uri}; some minutes on a small board")
        found = export_engine(graph, weights, output, backend, metadata=metadata)
    if json:
        print_json({"file": str(found.path), "format": "tensorrt", **found.provenance})
        return
    if backend.replay:
        typer.echo(REPLAY)
    papers = found.provenance
    typer.echo(f"{output}: {papers['engine_bytes'] / 1e6:.2f} MB, engine of TensorRT {papers['tensorrt']}, {precision}")
    typer.echo(
        f"for {papers['gpu'] or papers['device_name']} of {device} and no other; provenance in {found.provenance_path}"
    )
    if found.onnx.verification:
        typer.echo(
            f"its network (ONNX, opset {papers['onnx_opset']}) was checked by running it: within "
            f"{found.onnx.verification.relative:.1e} of the scores' standard deviation; the engine itself was not run"
        )
