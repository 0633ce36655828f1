"""Why a log of TensorFlow Lite's benchmark tools has no result: what it complains about, and how it ended.

Untrusted text, as in ``benchmark_model_lines``: complaints are counted and cut.
"""

from __future__ import annotations

from collections import deque

from dfmobile.errors import BackendError
from dfmobile.latency.benchmark_model_delegates import DelegateReader

_MAX_ERRORS = 20
_SHOWN_CHARS = 200
_LAST_LINES = 3
# Printed by the tool or the shell without any severity.
_FAILURES = (
    "Failed to ", "Benchmarking failed", "Segmentation fault", "Aborted", "Bus error", "Illegal instruction", "Killed",
    "Disallowed CPU fallback detected", "Error:",
)  # fmt: skip
_SHELL_FAILURES = (
    ": not executable:",
    ": not found",
    ": Permission denied",
    "CANNOT LINK EXECUTABLE",
    ": can't execute",
)


class Complaints:
    """Collects what the lines of one log complain about.

    Attributes:
        errors: complaints of any kind, at most 20.
        gave_up: the tool says that it did not come to an end.
    """

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.gave_up = False
        self._failures: list[str] = []
        self._last: deque[str] = deque(maxlen=_LAST_LINES)

    def read(self, text: str, severity: str) -> None:
        """Take a line without its prefixes, and its severity as ``Line`` has it."""
        self._last.append(text[:_SHOWN_CHARS])
        failed = text.startswith(_FAILURES) or any(item in text for item in _SHELL_FAILURES)
        self.gave_up |= text.startswith("Benchmarking failed")
        if (failed or severity in ("E", "F")) and len(self.errors) < _MAX_ERRORS:
            self.errors.append(text[:_SHOWN_CHARS])
        if failed and len(self._failures) < _MAX_ERRORS:
            self._failures.append(text[:_SHOWN_CHARS])

    def no_result(self, delegates: DelegateReader, phases: int, unconsumed: str) -> BackendError:
        """Return the error that says why there is no result, as far as the log tells, with its last lines.

        Args:
            delegates: what it says about them.
            phases: how many rounds of runs it began: the first is the warm-up.
            unconsumed: flags that the tool does not know.
        """
        last = " | ".join(self._last) or "nothing"
        unknown = f"; it does not know the flags {unconsumed}" if unconsumed else ""
        return BackendError(
            f"benchmark_model gave no result: {self._reason(delegates, phases)}{unknown}; it ended with: {last}",
            hint="run the same command in a shell of the device to see all that it prints",
        )

    def _reason(self, delegates: DelegateReader, phases: int) -> str:
        failed = [use for use in delegates.uses if use.outcome == "failed"]
        if failed:
            # The first complaint that is a reason and no consequence.
            reasons = [text for text in self.errors if text not in self._failures]
            return f"the delegate {failed[0].name} could not be applied" + (f" ({reasons[0]})" if reasons else "")
        if self._failures:
            return self._failures[0]
        for use in delegates.uses:
            if use.outcome in ("none", "partial") and not phases:
                return use.text
        if delegates.unsupported:
            return f"a delegate cannot do all operations ({delegates.unsupported[0]})"
        if self.errors:
            return self.errors[0]
        if phases:
            return f"the log stops in {'the warm-up' if phases == 1 else 'the timed runs'}"
        return "the log has no line of timings"
