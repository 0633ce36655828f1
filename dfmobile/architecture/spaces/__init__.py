"""Search spaces: finite sets of architectures with a partial order, counts, samplers and block keys."""

from dfmobile.architecture.spaces.base import SearchSpace, open_space
from dfmobile.architecture.spaces.sampling import stratified_rows

__all__ = ["SearchSpace", "open_space", "stratified_rows"]
