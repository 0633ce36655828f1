"""Search spaces: finite sets of architectures with a partial order, counts, samplers and block keys."""

from dfmobile.architecture.spaces.base import SearchSpace, open_space

__all__ = ["SearchSpace", "open_space"]
