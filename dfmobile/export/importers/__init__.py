"""Weights of other tools' files, as weights of our networks: ncnn, Caffe, safetensors, our own .npz."""

from dfmobile.export.importers.base import ImportedWeights, UnusedBlob
from dfmobile.export.importers.detect import import_weights

__all__ = ["ImportedWeights", "UnusedBlob", "import_weights"]
