"""What every command shares: errors as two lines, JSON on stdout, progress on stderr, parsed option values.

Imports only the standard library and typer, so that ``dfmobile --help`` stays instant.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec, TypeVar

import typer

from dfmobile.errors import DfmobileError, InputError
from dfmobile.files import storage_error

if TYPE_CHECKING:
    from rich.table import Table

EXIT_FAILED = 1
EXIT_INTERRUPTED = 130
_REPEATED_S = 1.0  # signals that come within it are one
REPLAY = "REPLAY, NOT A MEASUREMENT: recorded logs were played, no device was timed"

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
InputOption = Annotated[
    str | None, typer.Option("--input", metavar="WxH", help="Input size, width x height, for example 640x384.")
]
DeviceOption = Annotated[
    str,
    typer.Option(
        "--device",
        metavar="URI",
        help="local, adb:SERIAL, adb+tcp:HOST:PORT, adb+usb:SERIAL or ssh:USER@HOST[:PORT]; `dfmobile devices` lists "
        "those that it sees.",
    ),
]
BackendOption = Annotated[
    str,
    typer.Option(
        "--backend",
        help="What times the files: litert, onnxruntime, tflite-runtime (this computer), benchmark_model (phones).",
    ),
]
ThreadsOption = Annotated[int, typer.Option("--threads", min=1, max=64, help="Threads of the runtime.")]
PrecisionOption = Annotated[
    str,
    typer.Option("--precision", help="fp32, int8, or fp16-compute (float16 arithmetic, where the processor has it)."),
]

BackendOptionsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--backend-option",
        metavar="KEY=VALUE",
        help="Option of the backend (repeatable); benchmark_model needs binary=FILE. An unknown one lists all.",
    ),
]

_state = {"debug": False}
_CONTROLS = dict.fromkeys((*range(9), *range(11, 32), *range(127, 160)), " ")  # all but tab and line feed

P = ParamSpec("P")
R = TypeVar("R")


def set_debug(enabled: bool) -> None:
    """Show tracebacks instead of one clear line."""
    _state["debug"] = enabled


def one_line(text: str) -> str:
    """Return a text without line breaks or control characters (device output can hold anything)."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def report_error(error: BaseException) -> None:
    """Print an error as one line ``error: …`` and, where there is one, ``hint: …``, on stderr."""
    print(f"error: {one_line(str(error)) or type(error).__name__}", file=sys.stderr)
    hint = getattr(error, "hint", "")
    if hint:
        print(f"hint: {one_line(hint)}", file=sys.stderr)


class Terminated(KeyboardInterrupt):
    """The process was told to end, by a signal other than Ctrl-C; what stops for Ctrl-C stops for this."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


def end_in_order_when_terminated() -> None:
    """Take SIGTERM (kill, timeout, a shutdown) and SIGHUP (a closed terminal) as Ctrl-C; a later one ends at once.

    Later is after a second: ``timeout`` signals the process and then its group, so that it comes twice. What was
    ignored stays ignored (nohup). A child made by fork has the system's own way again: pools end theirs so.
    """
    signals = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is signal.SIG_DFL]

    def restore() -> None:
        for number in signals:
            signal.signal(number, signal.SIG_DFL)

    first: list[float] = []

    def terminate(number: int, frame: object) -> None:
        del frame
        if not first:
            first.append(time.monotonic())
            raise Terminated(number)
        if time.monotonic() - first[0] > _REPEATED_S:
            restore()
            signal.raise_signal(number)

    for number in signals:
        signal.signal(number, terminate)
    os.register_at_fork(after_in_child=restore)


def handled(command: Callable[P, R]) -> Callable[P, R]:
    """Wrap a command: errors become two lines and exit 1; Ctrl-C exits 130, SIGTERM 143, what was finished kept."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except KeyboardInterrupt as interrupt:
            with contextlib.suppress(OSError):  # a closed terminal
                print("interrupted: what was finished is kept; run the same command to continue", file=sys.stderr)
            raise typer.Exit(getattr(interrupt, "exit_code", EXIT_INTERRUPTED)) from None
        except BrokenPipeError:
            # The reader (head, less) went away. Point stdout elsewhere so that the interpreter's flush is quiet.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(EXIT_FAILED) from None
        except DfmobileError as error:
            if _state["debug"]:
                raise
            report_error(error)
            raise typer.Exit(EXIT_FAILED) from None
        except OSError as error:
            if _state["debug"]:
                raise
            report_error(storage_error(error, error.filename or "a file", "use"))
            raise typer.Exit(EXIT_FAILED) from None
        except (typer.Exit, typer.Abort):
            raise
        except Exception as error:
            if _state["debug"] or type(error).__module__.startswith(("typer.", "click.")):
                raise
            report_error(
                DfmobileError(
                    f"unexpected {type(error).__name__}: {error}",
                    hint="this is a bug in dfmobile: please report it with the output of `dfmobile --debug …`",
                )
            )
            raise typer.Exit(EXIT_FAILED) from None

    return run


def print_json(document: Any) -> None:
    """Print exactly one JSON document on stdout."""
    print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def print_table(table: Table) -> None:
    """Print a rich table on stdout; wide, never truncated, where stdout is not a terminal."""
    from rich.console import Console

    # What a device says of itself may look like rich's markup.
    console = Console(width=None if sys.stdout.isatty() else 160, markup=False, emoji=False)
    console.print(table)


def say(text: str) -> None:
    """Print a line for people on stderr, without control characters that a device may have put into it."""
    print(text.translate(_CONTROLS), file=sys.stderr, flush=True)


def parse_size(text: str) -> tuple[int, int]:
    """Return (width, height) of ``WxH``.

    Raises:
        InputError: if it is not two positive numbers joined by x.
    """
    width, times, height = text.lower().partition("x")
    if not times or not (width.isascii() and height.isascii() and width.isdigit() and height.isdigit()):
        raise InputError(f"{text!r} is not an input size", hint="write width x height, for example --input 640x384")
    if len(width) > 6 or len(height) > 6:
        raise InputError(f"input {text} is too large")
    return int(width), int(height)


def parse_latency_range(text: str | None) -> tuple[float | None, float | None]:
    """Return (lowest, highest) milliseconds of ``LO:HI``; a side left empty is open (None).

    Raises:
        InputError: if it is not a range.
    """
    if text is None:
        return None, None
    low, colon, high = text.partition(":")
    try:
        bounds = (float(low) if low else None, float(high) if high else None)
    except ValueError:
        colon = ""
    if not colon:
        raise InputError(f"{text!r} is not a latency range", hint="write LO:HI in ms, for example 2:10 or :10")
    return bounds


def parse_backend_options(pairs: list[str] | None) -> dict[str, str]:
    """Return ``KEY=VALUE`` options of a backend; values stay text, and ``allow_partial`` is ``allow-partial``.

    Raises:
        InputError: if one is not KEY=VALUE or is doubled.
    """
    found: dict[str, str] = {}
    for pair in pairs or []:
        key, equals, value = pair.partition("=")
        name = key.replace("_", "-")
        if not equals or not name or name in found:
            raise InputError(
                f"{pair!r} is not KEY=VALUE, or {key!r} is given twice",
                hint="for example --backend-option binary=benchmark_model",
            )
        found[name] = value
    return found


def parse_options(pairs: list[str]) -> dict[str, Any]:
    """Return ``KEY=VALUE`` options as a dictionary; values are JSON where they parse as JSON, else text.

    Raises:
        InputError: if one is not KEY=VALUE or is doubled.
    """
    found: dict[str, Any] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key.isidentifier() or key in found:
            raise InputError(f"{pair!r} is not KEY=VALUE, or {key!r} is given twice")
        try:
            found[key] = json.loads(value)
        except ValueError:
            found[key] = value
    return found
