"""``dfmobile weights``: weights from other tools' files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dfmobile.cli.common import JsonOption, handled, print_json, say

if TYPE_CHECKING:
    from dfmobile.data.input_preprocessing import Preprocessing

app = typer.Typer(help="Weights of the authors' files, or of other tools'.", no_args_is_help=True)


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="weights")


@app.command("import")
@handled
def import_(
    architecture: Annotated[str, typer.Argument(metavar="ARCH", help="Zoo name, encoding text or .json file.")],
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILE…", help="ncnn's param and bin, a .caffemodel, a .safetensors or a .npz file."),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="OUT.npz", help="Weights file to write.")],
    preprocessing: Annotated[
        str | None,
        typer.Option(
            "--preprocessing",
            metavar="NAME",
            help="How pixels become inputs: pl1a, caffe-imagenet, caffe-cityscapes, imagenet, or ORDER:means:scales.",
        ),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Read a network's weights from other tools' files; every name and shape is checked, nothing partial is written."""
    from dfmobile.architecture import resolve, zoo
    from dfmobile.data.known_preprocessing import parse_preprocessing
    from dfmobile.export.importers import import_weights
    from dfmobile.export.importers.about import about_weights
    from dfmobile.export.weights import save_weights
    from dfmobile.files import sha256_hex

    given = None if preprocessing is None else parse_preprocessing(preprocessing)
    resolved = resolve(architecture)
    found = import_weights(resolved, zoo.default_input(resolved), files)
    metadata, used = about_weights(resolved, found, [path.name for path in files], given)
    save_weights(output, found.weights, metadata)
    elements = sum(values.size for values in found.weights.values())
    document = {
        "file": str(output),
        "bytes": output.stat().st_size,
        "sha256": sha256_hex(output),
        "encoding": resolved.text,
        "format": found.format,
        "form": found.form,
        "tensors": len(found.weights),
        "elements": elements,
        "fixed": list(found.fixed),
        "unused": [{"layer": item.name, "elements": item.elements, "reason": item.reason} for item in found.unused],
        "preprocessing": used.metadata()["preprocessing"] if used else None,
    }
    if json:
        print_json(document)
        return
    form = "with batch norms" if found.form == "training" else "batch norms folded"
    typer.echo(f"{output}: {len(found.weights)} tensors, {elements:,} numbers, of {found.format}, {form}")
    if found.fixed:
        typer.echo(f"fixed bilinear kernels, found to be exactly that: {', '.join(found.fixed)}")
    for item in found.unused:
        typer.echo(f"unused: {item.name}, {item.elements:,} numbers: {item.reason}")
    typer.echo(f"preprocessing: {_text(used)}")
    if used is None:
        say("note: the file says nothing of its preprocessing: what uses it will take ImageNet's; see --preprocessing")


def _text(used: Preprocessing | None) -> str:
    if used is None:
        return "not known"
    means, scales = (",".join(f"{value:g}" for value in values) for values in (used.mean, used.scale))
    return f"{used.channels}, (pixel - [{means}]) x [{scales}] ({used.source})"
