"""A folder ready for an application: models by precision, labels, preprocessing, latencies, an example."""

from dfmobile.search.bundle.bundle import BundleRequest, write_bundle
from dfmobile.search.bundle.latencies import BundleLatency

__all__ = ["BundleLatency", "BundleRequest", "write_bundle"]
