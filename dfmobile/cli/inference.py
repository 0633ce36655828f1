"""Options that commands which run a network on images share, and what they mean together."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dfmobile.cli.common import parse_size, say

if TYPE_CHECKING:
    from dfmobile.accuracy.inference import InferenceModel

WeightsOption = Annotated[Path | None, typer.Option("--weights", metavar="FILE", help="Weights (.npz).")]
ModelOption = Annotated[
    Path | None,
    typer.Option("--model", metavar="FILE", help="Instead of both: a .tflite, .onnx or .param that export wrote."),
]
RuntimeOption = Annotated[str | None, typer.Option("--runtime", help="litert (default), onnxruntime, torch or ncnn.")]
RunnerPrecisionOption = Annotated[
    str | None, typer.Option("--precision", help="fp32 (default), fp16, or int8 (needs --calibration).")
]
CalibrationOption = Annotated[
    Path | None, typer.Option("--calibration", metavar="DIR", help="int8: images or .npy files of typical inputs.")
]
RunnerThreadsOption = Annotated[int, typer.Option("--threads", min=1, max=64, help="Threads for one image.")]
JobsOption = Annotated[
    int | None, typer.Option("--jobs", min=1, max=256, help="Images at once; default: the cores over --threads.")
]


def open_model(
    architecture: str | None,
    weights: Path | None,
    model: Path | None,
    *,
    input: str | None,
    runtime: str | None,
    precision: str | None,
    calibration: Path | None,
) -> InferenceModel:
    """Return the model that is meant: an architecture with weights, or a model file.

    Raises:
        InputError: if the options do not go together.
    """
    from dfmobile.accuracy.inference import model_of_file, model_of_weights
    from dfmobile.architecture import build, resolve, zoo
    from dfmobile.errors import InputError

    if model is not None:
        given = {
            "ARCH": architecture,
            "--weights": weights,
            "--runtime": runtime,
            "--precision": precision,
            "--input": input,
            "--calibration": calibration,
        }
        extra = [name for name, value in given.items() if value is not None]
        if extra:
            raise InputError(
                f"--model and {extra[0]} exclude one another",
                hint="a model file has its own weights, input and precision",
            )
        return note_preprocessing(model_of_file(model))
    if architecture is None or weights is None:
        lacks = "which network?" if architecture is None else f"which weights of {architecture}?"
        raise InputError(lacks, hint="give an ARCH and --weights FILE, or --model FILE")
    resolved = resolve(architecture)
    found = zoo.find(architecture)
    default = (zoo.get(found).width, zoo.get(found).height) if found else zoo.default_input(resolved)
    network = build(resolved, *(parse_size(input) if input else default))
    return note_preprocessing(model_of_weights(network, weights, runtime or "litert", precision or "fp32", calibration))


def note_preprocessing(model: InferenceModel) -> InferenceModel:
    """Say so where the file names no preprocessing."""
    if not model.preprocessing_is_known:
        say("note: the file names no preprocessing: ImageNet's is taken; `weights import --preprocessing` sets one")
    return model
