"""Every error a user can cause or meet, each with one line that says what to do about it.

Floor 1: imports nothing of dfmobile. The command line prints ``error: …`` and ``hint: …`` and exits 1 for
each of these; anything else that escapes is a bug in dfmobile.
"""

from __future__ import annotations

import importlib
from types import ModuleType


class DfmobileError(Exception):
    """Base of all errors that dfmobile raises on purpose.

    Attributes:
        hint: what the user can do, one line; empty where there is nothing to add.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class InputError(DfmobileError):
    """The user gave something that cannot be used: a name, an encoding, a size, an option."""


class EncodingError(InputError):
    """A text or JSON document is not an architecture."""


class GraphError(DfmobileError):
    """An op graph is inconsistent: shapes do not fit, a value is missing, a weight has the wrong shape."""


class FileFormatError(DfmobileError):
    """A file is truncated, damaged, of another version, or not what its name says."""


class StorageError(DfmobileError):
    """The file system refused: read-only, full, missing, not permitted."""


class LockedError(DfmobileError):
    """Another process holds the file.

    Attributes:
        holder_pid: its process id, None where it could not be read.
    """

    def __init__(self, message: str, hint: str = "", holder_pid: int | None = None) -> None:
        super().__init__(message, hint)
        self.holder_pid = holder_pid


class MissingExtraError(DfmobileError):
    """An optional dependency is not installed."""


class PluginError(DfmobileError):
    """An entry point clashes with another, is unknown, or cannot be loaded."""


class DeviceError(DfmobileError):
    """A device cannot be reached or did not do what was asked."""


class BackendError(DfmobileError):
    """A runtime could not load, accelerate, or run a model."""


class ExportError(DfmobileError):
    """A model file could not be written, or what was written does not compute what it should."""


class MissingBlocksError(DfmobileError):
    """A latency table lacks blocks that a prediction needs.

    Attributes:
        keys: canonical keys of the missing blocks.
    """

    def __init__(self, message: str, hint: str = "", keys: tuple[str, ...] = ()) -> None:
        super().__init__(message, hint)
        self.keys = keys


class EvaluationError(DfmobileError):
    """The accuracy of an architecture could not be determined."""


class CertificateError(DfmobileError):
    """A search's certificate does not hold."""


class ExecutionError(DfmobileError):
    """A task did not run to its end: its worker died, was stopped, or its function failed unexpectedly."""


def quoted(text: str, limit: int = 120) -> str:
    """Return a user's text in quotes for an error's message: one line, shortened, control characters escaped.

    Args:
        text: whatever the user gave.
        limit: characters of it to show.
    """
    if len(text) <= limit:
        return repr(text)
    return f"{text[:limit]!r}… ({len(text)} characters)"


def import_extra(module: str, extra: str, purpose: str) -> ModuleType:
    """Import an optional dependency, or say which extra installs it.

    Args:
        module: dotted module name, e.g. ``"torch"``.
        extra: dfmobile's extra that brings it, e.g. ``"train"``.
        purpose: what needs it, as the subject of the message, e.g. ``"training"``.

    Raises:
        MissingExtraError: if the module, or something that it imports, is not installed or does not load.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        # Present but broken (a library of another version, a name that is gone) is not the same as absent.
        absent = isinstance(error, ModuleNotFoundError) and error.name
        reason = f"{error.name} is not installed" if absent else " ".join(str(error).split())
        raise MissingExtraError(
            f"{purpose} needs {module}, which cannot be imported: {reason}",
            hint=f"python -m pip install 'dfmobile[{extra}]'",
        ) from error
