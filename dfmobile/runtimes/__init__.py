"""Load a model file, set inputs, run: no timing here."""

from dfmobile.runtimes.base import ModelRunner

__all__ = ["ModelRunner"]
