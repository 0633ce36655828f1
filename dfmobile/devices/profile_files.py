"""Device profiles as YAML files: read with suspicion, write whole, and the profiles that are packaged.

A profile file may come from anyone: ``careful_yaml`` reads it, and every value is checked against the schema.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml
from pydantic import ValidationError

from dfmobile.careful_yaml import MAX_FILE_BYTES, first_problem, one_line, parse_yaml
from dfmobile.devices.profile_schema import SCHEMA_VERSION, DeviceProfile
from dfmobile.errors import FileFormatError
from dfmobile.files import atomic_write, read_bytes

_HINT = "docs/reference/device-profiles.md explains every field"


class _PlainDumper(yaml.SafeDumper):
    """Safe YAML that never writes anchors, indents lists, and keeps short lists on one line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def _represent_list(dumper: _PlainDumper, data: list[Any]) -> yaml.Node:
    plain = all(isinstance(item, (int, str)) for item in data)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=plain)


_PlainDumper.add_representer(list, _represent_list)


def load_profile(path: str | os.PathLike[str]) -> DeviceProfile:
    """Read a device profile.

    Raises:
        StorageError: if the file cannot be read.
        FileFormatError: if it is not a device profile; the message names the line or the field.
    """
    return parse_profile(read_bytes(path, MAX_FILE_BYTES), os.fspath(path))


def parse_profile(data: bytes, origin: str) -> DeviceProfile:
    """Read a device profile from the bytes of its YAML file.

    Args:
        data: the file's content, UTF-8.
        origin: what to call it in messages, normally its path.

    Raises:
        FileFormatError: if it is not a device profile; the message names the line or the field.
    """
    document = parse_yaml(data, origin, "a device profile", _HINT)
    version = document.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise FileFormatError(
            f"{origin}: schema_version is {one_line(str(version))}, this dfmobile reads {SCHEMA_VERSION}",
            hint="probe the device again: dfmobile profile --device URI -o FILE.yaml",
        )
    try:
        return DeviceProfile.model_validate(document)
    except ValidationError as error:
        raise FileFormatError(f"{origin}: {first_problem(error)}", hint=_HINT) from error


def dump_profile(profile: DeviceProfile) -> str:
    """Return a profile as YAML text; ``parse_profile`` gives an equal profile back."""
    document = profile.model_dump(mode="python")
    # Not allow_unicode: PyYAML would write some line separators as they are, and read them back as spaces.
    return yaml.dump(document, Dumper=_PlainDumper, sort_keys=False, width=100)


def save_profile(profile: DeviceProfile, path: str | os.PathLike[str]) -> None:
    """Write a profile as YAML, whole or not at all.

    Raises:
        StorageError: if the file cannot be written.
    """
    atomic_write(path, dump_profile(profile))


@lru_cache(maxsize=1)
def _packaged() -> tuple[DeviceProfile, ...]:
    folder = resources.files("dfmobile").joinpath("device_profiles")
    found = sorted((item for item in folder.iterdir() if item.name.endswith(".yaml")), key=lambda item: item.name)
    return tuple(parse_profile(item.read_bytes(), f"packaged profile {item.name}") for item in found)


def known_profiles() -> dict[str, DeviceProfile]:
    """Return the packaged profiles by name."""
    return {profile.name: profile for profile in _packaged()}


def match_profile(profile: DeviceProfile) -> DeviceProfile | None:
    """Find the packaged profile of the hardware that a probed profile describes.

    By the names of the SoC first; where none fits, the generic profile of the same ABI (``generic-…``).

    Returns:
        None where nothing packaged fits: no device is ever taken for another.
    """
    known = known_profiles().values()
    stated = [profile.soc, *profile.soc_names, *([profile.model] if profile.kind == "jetson" else [])]
    names = {text.casefold() for text in stated if text}
    for candidate in known:
        if candidate.kind == profile.kind and names & {text.casefold() for text in candidate.soc_names}:
            return candidate
    for candidate in known:
        same = candidate.kind == profile.kind and candidate.abi == profile.abi
        if same and profile.abi is not None and candidate.name.startswith("generic-"):
            return candidate
    return None
