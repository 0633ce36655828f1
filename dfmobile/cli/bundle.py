"""``dfmobile bundle``: a folder ready for an application."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dfmobile.cli.common import (
    BackendOptionsOption,
    InputOption,
    JsonOption,
    ThreadsOption,
    handled,
    parse_backend_options,
    parse_size,
    print_json,
    say,
)

if TYPE_CHECKING:
    from dfmobile.devices.profile import DeviceProfile


def register(parent: typer.Typer) -> None:
    """Add the command."""
    parent.command("bundle")(bundle)


def named_profile(text: str) -> DeviceProfile:
    """Return a packaged profile by its name, or one of a YAML file.

    Raises:
        InputError: if there is none of that name.
        FileFormatError, StorageError: if the file cannot be read.
    """
    from dfmobile.devices.profile import known_profiles, load_profile
    from dfmobile.errors import InputError, quoted

    known = known_profiles()
    if text in known:
        return known[text]
    path = Path(text)
    if path.suffix in (".yaml", ".yml") or path.is_file():
        return load_profile(path)
    raise InputError(
        f"unknown device profile {quoted(text)}",
        hint=f"packaged: {', '.join(known)}; or a .yaml file of `dfmobile profile`, or a device URI (local, adb:…)",
    )


@handled
def bundle(
    architecture: Annotated[str, typer.Argument(metavar="ARCH", help="Zoo name, encoding text or .json file.")],
    weights: Annotated[Path, typer.Option("--weights", metavar="FILE", help="Weights (.npz).")],
    device: Annotated[
        str,
        typer.Option(
            "--device", metavar="PROFILE", help="Profile's name or .yaml file; or a device's URI, to measure there."
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="Folder to write: new or empty.")],
    lut: Annotated[
        list[Path] | None, typer.Option("--lut", metavar="TABLE", help="Predict latencies from it (repeatable).")
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option("--calibration", metavar="DIR", help="Images for int8; without: no int8 model.")
    ] = None,
    check: Annotated[
        Path | None, typer.Option("--check", metavar="DIR", help="Images to compare with the reference on.")
    ] = None,
    format: Annotated[
        list[str] | None,
        typer.Option("--format", help="tflite, onnx or ncnn (repeatable); default: tflite, onnx for a Jetson."),
    ] = None,
    input: InputOption = None,
    backend: Annotated[
        str | None, typer.Option("--backend", help="What measures; default: litert, on phones benchmark_model.")
    ] = None,
    backend_option: BackendOptionsOption = None,
    threads: ThreadsOption = 1,
    json: JsonOption = False,
) -> None:
    """Write models by precision, labels, preprocessing, palette, latencies and a README; whole or not at all."""
    from dfmobile.architecture import build, resolve, zoo
    from dfmobile.devices.device import open_device
    from dfmobile.search.bundle import BundleRequest, write_bundle

    resolved = resolve(architecture)
    found = zoo.find(architecture)
    default = (zoo.get(found).width, zoo.get(found).height) if found else zoo.default_input(resolved)
    network = build(resolved, *(parse_size(input) if input else default))
    is_uri = device == "local" or ":" in device
    with contextlib.ExitStack() as stack:
        opened = stack.enter_context(open_device(device)) if is_uri else None
        profile = opened.profile if opened is not None else named_profile(device)
        manifest = write_bundle(
            BundleRequest(
                name=found or (Path(architecture).stem if architecture.endswith(".json") else resolved.text),
                network=network,
                weights=weights,
                profile=profile,
                device=opened,
                formats=tuple(dict.fromkeys(format or (["onnx"] if profile.kind == "jetson" else ["tflite"]))),
                calibration=calibration,
                check=check,
                tables=tuple(lut or ()),
                backend=backend or ("litert" if device == "local" else "benchmark_model"),
                backend_options=parse_backend_options(backend_option),
                threads=threads,
            ),
            output,
            say,
        )
    if json:
        print_json(manifest)
        return
    typer.echo(f"{output}: {manifest['name']} for {manifest['device']}")
    for item in manifest["models"]:
        typer.echo(
            f"{item['path']}: {item['bytes'] / 1e6:.2f} MB, {100 * item['argmax_agreement']:.2f} % as the reference "
            f"({item['checked_on']})"
        )
    for latency in manifest["latencies"]:
        typer.echo(f"{latency['model']}: {latency['latency_ms']:.3f} ms, {latency['kind']}, {latency['runtime']}")
    for text in manifest["absent"]:
        typer.echo(f"not there: {text}")
