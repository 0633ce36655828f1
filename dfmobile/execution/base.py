"""What every worker pool is: submit a function by name with a JSON payload, get a future of a JSON object.

Functions travel as ``"package.module:function"`` and data as JSON, so that a worker can be another process,
another machine or a cluster, and nothing is ever unpickled.
"""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from concurrent.futures import Future
from types import TracebackType
from typing import Any, ClassVar

from dfmobile import registry
from dfmobile.errors import InputError

Json = dict[str, Any]


class Executor(ABC):
    """A pool of workers.

    Use it as a context manager. A block that ends well waits for what was submitted; a block that ends by an
    exception (Ctrl-C included) stops the workers at once.
    """

    name: ClassVar[str]
    """The name under which it is registered in ``dfmobile.executors``."""

    @property
    @abstractmethod
    def workers(self) -> int:
        """How many tasks run at the same time."""

    @abstractmethod
    def submit(self, function: str, payload: Json) -> Future[Json]:
        """Queue one call ``function(payload)``.

        Args:
            function: ``"package.module:function"``; takes one JSON object and returns one.
            payload: JSON-able; without NaN and infinities.

        Returns:
            A future. Its ``result()`` raises the ``DfmobileError`` that the function raised (type, message and
            hint), or ``ExecutionError`` if the function failed in another way or its worker died.

        Raises:
            InputError: if the payload is not JSON or the function's name has no ``:``.
            ExecutionError: if the pool is closed.
        """

    @abstractmethod
    def close(self, *, wait: bool = False) -> None:
        """End the workers; a second call does nothing.

        Args:
            wait: finish what was submitted first. Otherwise queued calls are cancelled, and running ones end
                with ``ExecutionError``.
        """

    def __enter__(self) -> Executor:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(wait=kind is None)


def split_function(function: str) -> tuple[str, str]:
    """Split ``"package.module:function"``.

    Raises:
        InputError: if it is not of that form.
    """
    module, _, name = function.partition(":")
    if not all(part.isidentifier() for part in (*module.split("."), *name.split("."))):
        raise InputError(f"{function!r} does not name a function", hint="write package.module:function")
    return module, name


def open_executor(name: str, **options: Any) -> Executor:
    """Make the executor that is registered under a name.

    Args:
        name: an entry point of ``dfmobile.executors``, e.g. ``"local"``.
        options: keyword options of that executor, e.g. ``workers=2``.

    Raises:
        PluginError: if the name is unknown or cannot be imported.
        InputError: if it does not take such options.
    """
    factory = registry.load("dfmobile.executors", name)
    try:
        inspect.signature(factory).bind(**options)
    except TypeError as error:
        known = ", ".join(inspect.signature(factory).parameters)
        raise InputError(f"executor {name!r}: {error}", hint=f"its options: {known}") from error
    executor: Executor = factory(**options)
    return executor
