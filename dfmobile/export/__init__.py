"""Write op graphs as files and torch modules, and check what was written by running it."""

from dfmobile.export.exporter import ExportResult, export
from dfmobile.export.verify import Verification
from dfmobile.export.weights import load_weights_file, save_weights

__all__ = ["ExportResult", "Verification", "export", "load_weights_file", "save_weights"]
