"""The search strategies by name."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.spaces import SearchSpace
from dfmobile.errors import InputError
from dfmobile.search.base import Candidate, Mode, SearchState
from dfmobile.search.pruning import EnumeratedPruner


class PaperMode(Mode):
    """Partial Order Pruning as published: every draw is uniform over what is neither evaluated nor ruled out.

    Source: Li et al., Partial Order Pruning, CVPR 2019.
    """

    name = "paper"

    def pruner(
        self,
        space: SearchSpace,
        predicted_ms: npt.NDArray[np.float64],
        latency_range: tuple[float | None, float | None],
    ) -> EnumeratedPruner:
        """Enumerate the space.

        Raises:
            InputError: if no architecture is within the range, or the space is too large to enumerate.
        """
        return EnumeratedPruner(space, space.rows(), predicted_ms, latency_range)

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
