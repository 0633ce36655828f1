"""``dfmobile devices``, ``dfmobile devices clean`` and ``dfmobile profile``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dfmobile.cli.common import DeviceOption, JsonOption, handled, one_line, print_json, print_table, say


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    group = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
    group.callback()(devices)
    group.command("clean")(clean)
    parent.add_typer(group, name="devices")
    parent.command("profile")(profile)


@handled
def devices(context: typer.Context, json: JsonOption = False) -> None:
    """List the devices that can be seen, their states, and what to do where one is not ready."""
    if context.invoked_subcommand is not None:
        return
    import dataclasses

    from dfmobile.devices.device import list_devices

    found = list_devices()
    if json:
        print_json([dataclasses.asdict(item) for item in found])
        return
    from rich.table import Table

    table = Table("device", "state", "what it is", "what to do")
    for item in found:
        table.add_row(item.uri, *map(one_line, (item.state, item.description, item.hint or "-")))
    print_table(table)
    say("boards behind ssh cannot be listed: name one as --device ssh:USER@HOST[:PORT]")


@handled
def clean(
    device: DeviceOption,
    run: Annotated[str | None, typer.Option("--run", metavar="ID", help="Remove only this run.")] = None,
    stop: Annotated[bool, typer.Option("--stop", help="Also stop and remove what still runs.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what is there; remove nothing.")] = False,
    json: JsonOption = False,
) -> None:
    """Remove what batch runs left on a device, and say what it was; what still runs is kept.

    The programs stored there go too, without --stop only if no run used them in the last ten minutes.
    """
    import dataclasses

    from dfmobile.devices.batch import clean_device, holds_stored_files
    from dfmobile.devices.batch.remote import duration
    from dfmobile.devices.device import open_device

    with open_device(device) as opened:
        stored = run is None and not json and holds_stored_files(opened.transport)
        cleaned = clean_device(opened.transport, run_id=run, stop=stop, dry_run=dry_run)
        kept = stored and holds_stored_files(opened.transport)
    if json:
        print_json([dataclasses.asdict(item.run) | {"removed": item.removed} for item in cleaned])
        return
    if not cleaned:
        say(f"{opened.uri}: no batch run is there")
    for item in cleaned:
        entry = item.run
        age = "" if entry.age_s is None else f", {duration(entry.age_s)} old"
        what = "removed" if item.removed else "kept (--stop removes it)" if entry.state == "running" else "kept"
        say(f"{entry.run_id}: {entry.state}, {entry.done} of {entry.total} items, by {entry.owner}{age}: {what}")
    if stored:
        recent = "kept (in use, or used in the last ten minutes: --stop removes them)"
        say(f"programs and engines stored there: {('kept' if dry_run else recent) if kept else 'removed'}")


@handled
def profile(
    device: DeviceOption = "local",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE.yaml", help="Write the profile there.")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Describe a device: cores, clocks, caches, heat, battery, runtimes; and match it to a known one."""
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
