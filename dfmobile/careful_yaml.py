"""YAML files that may come from anyone, read with suspicion.

Bounded size and depth, no aliases (the "billion laughs" of YAML), no tags, no duplicate keys. Floor 1.
"""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml
from pydantic import ValidationError

from dfmobile.errors import FileFormatError

MAX_FILE_BYTES = 2**20
_MAX_DEPTH = 20


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


def parse_yaml(data: bytes, origin: str, what: str, hint: str) -> dict[Any, Any]:
    """Read the mapping that a YAML file holds.

    Args:
        data: the file's content, UTF-8.
        origin: what to call it in messages, normally its path.
        what: it should be, e.g. ``a device profile``.
        hint: of the errors.

    Raises:
        FileFormatError: if it is not YAML, or no mapping; the message names the line.
    """
    if len(data) > MAX_FILE_BYTES:
        raise FileFormatError(f"{origin} is larger than {MAX_FILE_BYTES} bytes", hint="is it the right file?")
    try:
        document = yaml.load(data.decode("utf-8"), Loader=_CarefulLoader)  # noqa: S506 - a SafeLoader, only stricter
    except yaml.MarkedYAMLError as error:
        where = f", line {error.problem_mark.line + 1}" if error.problem_mark is not None else ""
        problem = " ".join(part for part in (error.context, error.problem) if part) or str(error)
        raise FileFormatError(f"{origin}{where}: {one_line(problem)}", hint=hint) from error
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        raise FileFormatError(f"{origin} is not YAML: {one_line(str(error))}", hint=hint) from error
    if not isinstance(document, dict):
        raise FileFormatError(f"{origin} is not {what}: no fields", hint=hint)
    return document


def first_problem(error: ValidationError) -> str:
    """Return the first field of a document that does not fit its schema, and why."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    first = problems[0]
    path = ".".join(str(part)[:60] for part in first["loc"] if part != "function-wrap")
    message = one_line(first["msg"].removeprefix("Value error, "))
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{path}: {message}{more}" if path else f"{message}{more}"


def one_line(text: str) -> str:
    """Return a text in one bounded line."""
    return re.sub(r"\s+", " ", text).strip()[:300]
