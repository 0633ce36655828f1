"""Plug points: find backends, transports, evaluators, spaces and executors by name.

Everything is registered as a Python entry point, dfmobile's own included, so that a third party's package
needs no change here. Nothing is imported until it is asked for by name. Floor 1.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from dfmobile.errors import DfmobileError, PluginError, quoted

GROUPS = (
    "dfmobile.backends",
    "dfmobile.transports",
    "dfmobile.evaluators",
    "dfmobile.spaces",
    "dfmobile.executors",
)


def _origin(entry: EntryPoint) -> str:
    package = entry.dist.name if entry.dist is not None else "unknown package"
    return f"{entry.value} (package {package})"


@cache
def _group(group: str) -> dict[str, EntryPoint]:
    if group not in GROUPS:
        raise PluginError(f"unknown plug point {group!r}", hint=f"one of: {', '.join(GROUPS)}")
    found: dict[str, EntryPoint] = {}
    for entry in entry_points(group=group):
        other = found.get(entry.name)
        # The same distribution can be listed twice (editable install over an older one): same value, no clash.
        if other is not None and other.value != entry.value:
            raise PluginError(
                f"two plug-ins of {group} are called {entry.name!r}: {_origin(other)} and {_origin(entry)}",
                hint="uninstall one of the two packages, or ask its author to rename the entry point",
            )
        found[entry.name] = entry
    return found


def names(group: str) -> list[str]:
    """Return the sorted names registered in an entry-point group, without importing any of them.

    Raises:
        PluginError: if two packages registered the same name, or the group is unknown.
    """
    return sorted(_group(group))


def load(group: str, name: str) -> Any:
    """Import and return what is registered under a name.

    Args:
        group: one of ``GROUPS``.
        name: the entry point's name.

    Raises:
        PluginError: if the name is unknown, clashes, or cannot be imported.
    """
    found = _group(group)
    if name not in found:
        kind = group.rpartition(".")[2]
        known = ", ".join(sorted(found)) or "none; is dfmobile installed (pip install -e .)?"
        raise PluginError(f"unknown name {quoted(name)} among the {kind}", hint=f"known: {known}")
    entry = found[name]
    try:
        return entry.load()
    except DfmobileError:
        raise
    except Exception as error:  # importing runs the package's code: whatever it raises is a fault of the plug-in
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise PluginError(
            f"plug-in {name!r} of {group} cannot be imported from {_origin(entry)}: {reason}",
            hint="reinstall that package; it may be built for another version of dfmobile",
        ) from error
