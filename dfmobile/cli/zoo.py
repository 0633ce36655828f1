"""``dfmobile zoo``: the published networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dfmobile.cli.common import InputOption, JsonOption, handled, parse_size, print_json, print_table

if TYPE_CHECKING:
    from dfmobile.architecture import Network

app = typer.Typer(no_args_is_help=True, help="The published networks, with what their authors published.")


def register(parent: typer.Typer) -> None:
    """Add the sub-commands."""
    parent.add_typer(app, name="zoo")


@app.command("list")
@handled
def list_networks(json: JsonOption = False) -> None:
    """List the networks with their cost at their default input."""
    from dfmobile.architecture import build, zoo

    entries = [zoo.get(name) for name in zoo.names()]
    networks = [build(entry.architecture, entry.width, entry.height) for entry in entries]
    if json:
        print_json(
            [
                {
                    "name": entry.name,
                    "encoding": entry.architecture.text,
                    "input": list(network.input_shape),
                    "params": network.cost.params,
                    "macs": network.cost.macs,
                }
                for entry, network in zip(entries, networks, strict=True)
            ]
        )
        return
    from rich.table import Table

    table = Table("network", "input (W x H)", title="Zoo (MACs at the default input)", title_justify="left")
    table.add_column("params", justify="right")
    table.add_column("MACs", justify="right")
    table.add_column("encoding", overflow="fold")
    for entry, network in zip(entries, networks, strict=True):
        cost = network.cost
        size = f"{entry.width}x{entry.height}"
        table.add_row(entry.name, size, f"{cost.params:,}", f"{cost.macs / 1e6:,.1f} M", entry.architecture.text)
    print_table(table)


def network_document(name: str, network: Network, published: list[dict[str, Any]], note: str) -> dict[str, Any]:
    """Return what ``zoo show --json`` prints."""
    cost = network.cost
    return {
        "name": name,
        "encoding": network.architecture.text,
        "input": list(network.input_shape),
        "output": list(network.output_shape),
        "params": cost.params,
        "params_deployed": cost.params_deployed,
        "macs": cost.macs,
        "weight_bytes": cost.weight_bytes,
        "peak_activation_bytes": cost.peak_activation_bytes,
        "blocks": [
            {
                "name": block.name,
                "kind": block.kind,
                "key": block.key,
                "digest": block.digest,
                "output": list(block.output_shape),
                "macs": block.macs,
                "params": block.params,
            }
            for block in network.blocks
        ],
        "published": published,
        "note": note,
    }


@app.command("show")
@handled
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Zoo name, encoding text or .json file.")],
    input: InputOption = None,
    batch: Annotated[int, typer.Option("--batch", min=1, max=1024, help="Images at once.")] = 1,
    json: JsonOption = False,
) -> None:
    """Show a network: cost, blocks, and what its authors published."""
    import dataclasses

    from dfmobile.architecture import build, resolve, zoo

    architecture = resolve(name)
    found = zoo.find(name)
    entry = zoo.get(found) if found else None
    default = (entry.width, entry.height) if entry else zoo.default_input(architecture)
    network = build(architecture, *(parse_size(input) if input else default), batch=batch)
    published = [dataclasses.asdict(item) for item in entry.published] if entry else []
    document = network_document(entry.name if entry else name, network, published, entry.note if entry else "")
    if json:
        print_json(document)
        return
    from rich.table import Table

    typer.echo(f"{document['name']}  {document['encoding']}")
    typer.echo(f"input {network.width}x{network.height}, batch {network.batch}; output {document['output']}")
    typer.echo(f"params {document['params']:,} ({document['params_deployed']:,} with batch norm folded)")
    typer.echo(f"MACs {document['macs']:,}")
    typer.echo(
        f"weights {document['weight_bytes'] / 1e6:,.1f} MB, peak activations "
        f"{document['peak_activation_bytes'] / 1e6:,.1f} MB (float32, batch {network.batch})"
    )
    table = Table("block", "kind", "output (C x H x W)", title_justify="left")
    table.add_column("MACs", justify="right")
    table.add_column("params", justify="right")
    table.add_column("key")
    for block in document["blocks"]:
        output = "x".join(str(extent) for extent in block["output"][1:])
        table.add_row(
            block["name"], block["kind"], output, f"{block['macs']:,}", f"{block['params']:,}", block["digest"]
        )
    print_table(table)
    if published:
        table = Table(
            "metric", "value", "platform", "input (W x H)", "batch", title="As published", title_justify="left"
        )
        for item in published:
            value = f"{item['value']:g} {item['unit']}"
            table.add_row(item["metric"], value, item["platform"] or "-", item["input"], str(item["batch"]))
        print_table(table)
        typer.echo("Compare two rows only where platform, input and batch are the same.")
    if document["note"]:
        typer.echo(f"Note: {document['note']}")
