"""``dfmobile devices`` and ``dfmobile profile``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dfmobile.cli.common import DeviceOption, JsonOption, handled, print_json, print_table, say


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.command("devices")(devices)
    parent.command("profile")(profile)


@handled
def devices(json: JsonOption = False) -> None:
    """List the devices that can be reached."""
    import dataclasses

    from dfmobile.devices.device import list_devices

    found = list_devices()
    if json:
        print_json([dataclasses.asdict(item) for item in found])
        return
    from rich.table import Table

    table = Table("device", "state", "what it is", "what to do")
    for item in found:
        table.add_row(item.uri, item.state, item.description, item.hint or "-")
    print_table(table)


@handled
def profile(
    device: DeviceOption = "local",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.yaml", help="Write the profile there.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Describe a device: cores, clocks, caches, heat, runtimes."""
    from dfmobile.devices.device import open_device
    from dfmobile.devices.profile import dump_profile, save_profile

    with open_device(device) as opened:
        found = opened.profile
        fingerprint = opened.fingerprint
    if output is not None:
        save_profile(found, output)
        say(f"{output}: profile of {found.name}, fingerprint {fingerprint[:12]}")
    if json:
        print_json({"fingerprint": fingerprint, **found.model_dump(mode="json")})
    elif output is None:
        typer.echo(dump_profile(found).rstrip())
