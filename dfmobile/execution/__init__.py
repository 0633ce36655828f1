"""Worker pools: run functions elsewhere, JSON in and JSON out. Floor 2; knows nothing of what it runs."""

from dfmobile.execution.base import Executor, open_executor

__all__ = ["Executor", "open_executor"]
