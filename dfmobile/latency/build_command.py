"""The command that adds blocks to a table, with the options that the table's header tells. Text only."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from shlex import quote

from dfmobile import registry
from dfmobile.errors import DfmobileError
from dfmobile.latency.backends.base import GROUP, Backend
from dfmobile.latency.header import TableHeader


def build_command(header: TableHeader, path: object, target: str, *, max_depth: int | None = None) -> str:
    """Return a ``dfmobile lut build`` whose measurements belong into a table, quoted for a shell.

    Options that have their default are left out. What a backend must be told and no table knows, such as a file of
    this machine, is there as ``NAME=…``.

    Args:
        header: of the table.
        path: of the table.
        target: what to build and its input size, quoted: ``--space df --input 224x224``.
        max_depth: of the space; None: its own.
    """
    words = ["dfmobile lut build", target]
    for option, value, default in (
        ("--device", header.device, "local"),
        ("--backend", header.backend, "litert"),
        ("--threads", str(header.threads), "1"),
        ("--precision", header.precision, "fp32"),
        ("--max-depth", "" if max_depth is None else str(max_depth), ""),
    ):
        if value != default:
            words.append(f"{option} {quote(value)}")
    words += [f"--backend-option {quote(f'{name}={value}')}" for name, value in _backend_options(header)]
    return " ".join([*words, f"-o {quote(str(path))}"])


def _backend_options(header: TableHeader) -> Iterator[tuple[str, str]]:
    """Return the options of the backend that a header tells, and those that are needed."""
    loaded: object = None
    if header.backend in registry.names(GROUP):
        with contextlib.suppress(DfmobileError):  # a hint says what it can
            loaded = registry.load(GROUP, header.backend)
    if not (isinstance(loaded, type) and issubclass(loaded, Backend)):
        return
    for name in loaded.options:
        key = name.replace("-", "_")
        if name in loaded.required_options:
            yield name, "…"
        elif name == "cluster":
            yield name, _cluster(header)
        elif key in header.flags:
            value = header.flags[key]
            yield name, "none" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _cluster(header: TableHeader) -> str:
    """Return the name of the cores that were pinned to; their mask where the profile does not name them."""
    if header.affinity is None:
        return "none"
    clusters = header.device_profile.get("clusters")
    for cluster in clusters if isinstance(clusters, list) else []:
        if isinstance(cluster, dict) and cluster.get("affinity_mask") == header.affinity:
            return str(cluster.get("name"))
    return header.affinity
