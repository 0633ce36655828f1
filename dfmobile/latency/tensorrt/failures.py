"""Why a run of trtexec gave no result, from how it ended and what it printed."""

from __future__ import annotations

from dfmobile.errors import BackendError
from dfmobile.latency.tensorrt.log import TrtexecLog
from dfmobile.latency.tensorrt.versions import TensorRTVersion


def failure_kind(exit_code: int, log: TrtexecLog, text: str) -> str:
    """Return what went wrong, as one word or two: ``"no driver"``, ``"timeout"``, ``"unknown flag"``, …"""
    raise NotImplementedError


def failure(exit_code: int, log: TrtexecLog, text: str, *, what: str, version: TensorRTVersion | None) -> BackendError:
    """Return the error that says why a run of trtexec gave no result, with a hint.

    Args:
        exit_code: of trtexec, the shell or ssh.
        log: of ``text``.
        text: all that it printed.
        what: what was being done, as the subject of the message, e.g. ``"building block.onnx"``.
        version: of TensorRT, where it is known better than the log tells.
    """
    raise NotImplementedError
