"""The search strategies by name."""

from __future__ import annotations

import numpy as np

from dfmobile.architecture.spaces import SearchSpace
from dfmobile.errors import InputError
from dfmobile.search.base import Candidate, Mode, Pruner, SearchState
from dfmobile.search.latencies import Latencies, open_pruner


class PaperMode(Mode):
    """Partial Order Pruning as published: every draw is uniform over what is neither evaluated nor ruled out.

    Source: Li et al., Partial Order Pruning, CVPR 2019.
    """

    name = "paper"

    def pruner(
        self,
        space: SearchSpace,
        latencies: Latencies,
        latency_range: tuple[float | None, float | None],
    ) -> Pruner:
        """Choose the pruner by the size of the space.

        Raises:
            InputError: if no architecture is within the range, or the space is too large.
        """
        return open_pruner(space, latencies, latency_range)

    def choose(self, state: SearchState, generator: np.random.Generator) -> Candidate:
        """Draw uniformly from the alive candidates."""
        return state.pruner.draw(generator)


_MODES: dict[str, type[Mode]] = {mode.name: mode for mode in (PaperMode,)}


def open_mode(name: str) -> Mode:
    """Return a search strategy.

    Raises:
        InputError: if this version has none of that name.
    """
    if name not in _MODES:
        raise InputError(
            f"search mode {name!r} is not available in this version", hint=f"--mode {' or '.join(sorted(_MODES))}"
        )
    return _MODES[name]()
