"""Labelled images as arrays: folders of images, MNIST-5k, splits and normalisation. Floor 2."""

from dfmobile.data.dataset import ImageDataset, TrainingData
from dfmobile.data.source import open_data

__all__ = ["ImageDataset", "TrainingData", "open_data"]
