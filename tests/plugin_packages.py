"""Puts a package where Python finds it as installed: modules and metadata in one folder, without pip or network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install(site: Path, name: str, entry_points: Mapping[str, Mapping[str, str]], modules: Mapping[str, str]) -> None:
    """Lay a distribution into a folder the way an installer does.

    Args:
        site: folder that is or will be on ``sys.path``.
        name: of the distribution.
        entry_points: by group, the value of each name.
        modules: source text by file name.
    """
    metadata = site / f"{name.replace('-', '_')}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = []
    for group, entries in entry_points.items():
        lines += [f"[{group}]", *(f"{entry} = {value}" for entry, value in entries.items()), ""]
    (metadata / "entry_points.txt").write_text("\n".join(lines))
    for file, source in modules.items():
        (site / file).write_text(source)
