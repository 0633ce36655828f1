"""Encoded networks: encoding, blocks, search spaces and the zoo."""

from dfmobile.architecture.encoding import Architecture, Decoder, Stage
from dfmobile.architecture.network import Network, PlacedBlock, build
from dfmobile.architecture.resolve import resolve

__all__ = ["Architecture", "Decoder", "Network", "PlacedBlock", "Stage", "build", "resolve"]
