"""``dfmobile space``: search spaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dfmobile.cli.common import JsonOption, handled, print_json, print_table

if TYPE_CHECKING:
    from dfmobile.architecture.spaces import SearchSpace

app = typer.Typer(no_args_is_help=True, help="Search spaces: counts, widths, formula.")

MaxDepthOption = Annotated[
    int | None, typer.Option("--max-depth", metavar="K", help="Most blocks a stage; default: the space's own.")
]


def register(parent: typer.Typer) -> None:
    """Add the sub-commands."""
    parent.add_typer(app, name="space")


def space_document(space: SearchSpace) -> dict[str, Any]:
    """Return what ``space show --json`` prints."""
    width, height = space.default_input
    return {
        "name": space.name,
        "count": space.count(),
        "stages": list(space.stages),
        "widths": list(space.widths),
        "max_depth": space.max_depth,
        "options": {name: list(values) for name, values in space.options.items()},
        "keys": len(space.blocks(width, height)),
        "default_input": [width, height],
        "total_stride": space.total_stride,
        "formula": space.formula,
    }


@app.command("list")
@handled
def list_spaces(json: JsonOption = False) -> None:
    """List the spaces."""
    from dfmobile import registry
    from dfmobile.architecture.spaces import open_space

    documents = [space_document(open_space(name)) for name in registry.names("dfmobile.spaces")]
    if json:
        print_json(documents)
        return
    from rich.table import Table

    table = Table("space", "widths", "default input (W x H)")
    for title in ("blocks a stage", "architectures", "block keys"):
        table.add_column(title, justify="right")
    for item in documents:
        widths = ", ".join(str(width) for width in item["widths"])
        size = "x".join(str(extent) for extent in item["default_input"])
        table.add_row(item["name"], widths, size, f"1 to {item['max_depth']}", f"{item['count']:,}", str(item["keys"]))
    print_table(table)


@app.command("show")
@handled
def show(
    space: Annotated[str, typer.Argument(metavar="SPACE", help="Name of a space (see space list), or a FILE.yaml.")],
    max_depth: MaxDepthOption = None,
    json: JsonOption = False,
) -> None:
    """Show a space: exact count, widths, number of block keys."""
    from dfmobile.architecture.spaces import open_space

    document = space_document(open_space(space, max_depth))
    if json:
        print_json(document)
        return
    typer.echo(f"{document['name']}: {document['count']:,} architectures")
    typer.echo(
        f"stages {', '.join(str(stage) for stage in document['stages'])}; 1 to {document['max_depth']} blocks each"
    )
    typer.echo(f"widths {', '.join(str(width) for width in document['widths'])}, never decreasing")
    for name, values in document["options"].items():
        typer.echo(f"{name.replace('_', ' ')}: {', '.join(str(value) for value in values)}")
    typer.echo(f"count = {document['formula']}")
    size = "x".join(str(extent) for extent in document["default_input"])
    typer.echo(f"{document['keys']} block keys at any input; default {size}, multiples of {document['total_stride']}")
