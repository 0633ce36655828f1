"""The search strategies by name."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np

from dfmobile.architecture.spaces import SearchSpace
from dfmobile.errors import InputError
from dfmobile.search.base import Candidate, Mode, Pruner, SearchState
from dfmobile.search.baselines import EvolutionMode, RandomMode, StratifiedMode
from dfmobile.search.budget_mode import BudgetMode
from dfmobile.search.certified_mode import CertifiedMode
from dfmobile.search.latencies import Latencies, open_pruner
from dfmobile.search.optuna_modes import NSGA2Mode, TPEMode


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


_MODES: dict[str, type[Mode]] = {
    mode.name: mode
    for mode in (
        BudgetMode,
        CertifiedMode,
        PaperMode,
        RandomMode,
        StratifiedMode,
        EvolutionMode,
        NSGA2Mode,
        TPEMode,
    )
}


def mode_names() -> list[str]:
    """Return the names of all modes: those that prune first, then the baselines."""
    return list(_MODES)


def open_mode(name: str, options: Mapping[str, Any] | None = None) -> Mode:
    """Return a search strategy.

    Args:
        name: of the mode.
        options: its keyword options, for example what ``Mode.options`` returned.

    Raises:
        InputError: if this version has none of that name, it has no such option, or an option is out of range.
    """
    if name not in _MODES:
        raise InputError(
            f"search mode {name!r} is not available in this version", hint=f"--mode {' or '.join(sorted(_MODES))}"
        )
    known = inspect.signature(_MODES[name]).parameters
    unknown = sorted(set(options or {}) - set(known))
    if unknown:
        others = [other for other, kind in _MODES.items() if unknown[0] in inspect.signature(kind).parameters]
        has = f"its options: {', '.join(known)}" if known else "it has no options"
        has += f"; {unknown[0]} is one of --mode {' or '.join(others)}" if others else ""
        raise InputError(f"search mode {name!r} has no option {unknown[0]!r}", hint=has)
    return _MODES[name](**(options or {}))
