"""Device profiles as YAML files: read with suspicion, write whole, and the profiles that are packaged.

A profile file may come from anyone, so: bounded size and depth, no aliases (the "billion laughs" of YAML), no
tags, no duplicate keys, and every value checked against the schema.
"""

from __future__ import annotations

import os
import re
from collections.abc import Hashable
from functools import lru_cache
from importlib import resources
from typing import Any

import yaml
from pydantic import ValidationError

from dfmobile.devices.profile_schema import SCHEMA_VERSION, DeviceProfile
from dfmobile.errors import FileFormatError
from dfmobile.files import atomic_write, read_bytes

MAX_FILE_BYTES = 2**20
_MAX_DEPTH = 20
_HINT = "docs/reference/device-profiles.md explains every field"


class _CarefulLoader(yaml.SafeLoader):
    """Safe YAML without aliases, deep nesting, merge keys and duplicate keys."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self._depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.events.AliasEvent):
            mark = self._mark()
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not allowed", mark)
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            mark = self._mark()
            raise yaml.composer.ComposerError(None, None, f"nested deeper than {_MAX_DEPTH}", mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        return node

    def _mark(self) -> Any:
        return self.peek_event().start_mark  # type: ignore[no-untyped-call]

    def construct_mapping(self, node: yaml.Node, deep: bool = False) -> dict[Hashable, Any]:
        if isinstance(node, yaml.MappingNode):
            seen: set[str] = set()
            for key, _ in node.value:
                if key.tag == "tag:yaml.org,2002:merge" or not isinstance(key, yaml.ScalarNode):
                    raise yaml.constructor.ConstructorError(None, None, "a key must be plain text", key.start_mark)
                if key.value in seen:
                    problem = f"the key {key.value[:60]!r} stands twice"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return super().construct_mapping(node, deep=deep)  # type: ignore[arg-type]


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
    if len(data) > MAX_FILE_BYTES:
        raise FileFormatError(f"{origin} is larger than {MAX_FILE_BYTES} bytes", hint="is it the right file?")
    try:
        document = yaml.load(data.decode("utf-8"), Loader=_CarefulLoader)  # noqa: S506 - a SafeLoader, only stricter
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark is not None else ""
        raise FileFormatError(f"{origin}{where}: {_one_line(_problem(error))}", hint=_HINT) from error
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise FileFormatError(f"{origin} is not YAML: {_one_line(str(error))}", hint=_HINT) from error
    if not isinstance(document, dict):
        raise FileFormatError(f"{origin} is not a device profile: no fields", hint=_HINT)
    version = document.get("schema_version")
    if version != SCHEMA_VERSION or isinstance(version, bool):
        raise FileFormatError(
            f"{origin}: schema_version is {_one_line(str(version))}, this dfmobile reads {SCHEMA_VERSION}",
            hint="probe the device again: dfmobile profile --device URI -o FILE.yaml",
        )
    try:
        return DeviceProfile.model_validate(document)
    except ValidationError as error:
        raise FileFormatError(f"{origin}: {_first_problem(error)}", hint=_HINT) from error


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


def _problem(error: yaml.MarkedYAMLError) -> str:
    return " ".join(part for part in (error.context, error.problem) if part) or str(error)


def _first_problem(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    first = problems[0]
    path = ".".join(str(part)[:60] for part in first["loc"] if part != "function-wrap")
    message = _one_line(first["msg"].removeprefix("Value error, "))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{path}: {message}{more}" if path else f"{message}{more}"


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()[:300]
