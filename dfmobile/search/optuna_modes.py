"""Baselines of Optuna, extra ``baselines``: NSGA-II and TPE with two objectives, latency and accuracy.

The parameters are the ids of the columns: a stage's lists of widths in lexicographic order. The first draws are those
of ``stratified``. Each later draw makes a study of the results so far and asks it once, so it depends on these
results and its seed alone. What is proposed need not be an alive candidate: then the nearest one is evaluated (sum
of absolute differences of the coordinates along the order), and stands in the later studies as what it is.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

from dfmobile.architecture.spaces import SearchSpace
from dfmobile.errors import InputError, import_extra
from dfmobile.search.base import Candidate, Pruner, SearchState
from dfmobile.search.baselines import ALL, BaselineMode, stratified_draw
from dfmobile.search.features import column_coordinates
from dfmobile.search.latencies import Latencies


class OptunaMode(BaselineMode):
    """A sampler of Optuna behind the interface of a mode; the first ``FIRST`` draws are stratified."""

    FIRST = 20

    def __init__(self) -> None:
        self._tables: list[npt.NDArray[np.int64]] = []

    @abstractmethod
    def _sampler(self, optuna: Any, seed: int) -> Any:
        """Return the sampler."""

    def _attributes(self, index: int) -> dict[str, Any]:
        """Return the system attributes of the trial of a result."""
        return {}

    def _check(self, sampler: Any, study: Any, results: int) -> None:
        """Check that the sampler sees the results."""

    def pruner(
        self,
        space: SearchSpace,
        latencies: Latencies,
        latency_range: tuple[float | None, float | None],
    ) -> Pruner:
        """See base class.

        Raises:
            MissingExtraError: if Optuna is not installed.
        """
        import_extra("optuna", "baselines", f"search mode {self.name}")
        self._tables = [column_coordinates(space, column).astype(np.int64) for column in range(len(space.columns))]
        return super().pruner(space, latencies, latency_range)

    def _coordinates(self, rows: npt.NDArray[np.int32]) -> npt.NDArray[np.int64]:
        return np.concatenate([table[rows[:, column]] for column, table in enumerate(self._tables)], axis=1)

    def choose(self, state: SearchState, generator: np.random.Generator) -> Candidate:
        """See base class."""
        drawn = len(state.evaluated) + len(state.in_flight)
        if drawn < self.FIRST or not state.evaluated:
            return stratified_draw(state, generator)
        optuna = import_extra("optuna", "baselines", f"search mode {self.name}")
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        sampler = self._sampler(optuna, int(generator.integers(2**31)))
        study = optuna.create_study(directions=["minimize", "maximize"], sampler=sampler)
        distributions = {
            f"column{number}": optuna.distributions.IntDistribution(0, len(table) - 1)
            for number, table in enumerate(self._tables)
        }
        for index, item in enumerate(state.evaluated):
            study.add_trial(
                optuna.trial.create_trial(
                    params=dict(zip(distributions, item.candidate.row, strict=True)),
                    distributions=distributions,
                    values=[float(np.log(item.candidate.predicted_ms)), item.accuracy],
                    system_attrs=self._attributes(index),
                )
            )
        self._check(sampler, study, len(state.evaluated))
        trial = study.ask(distributions)
        wanted = self._coordinates(np.array([[trial.params[name] for name in distributions]], np.int32))
        alive = state.pruner.alive(ALL, generator)
        distance = np.abs(self._coordinates(alive.rows) - wanted).sum(axis=1)
        return alive.candidate(int(generator.choice(np.flatnonzero(distance == distance.min()))))


class NSGA2Mode(OptunaMode):
    """NSGA-II (Deb et al., 2002) of Optuna, generations of ``POPULATION`` results in draw order."""

    name = "nsga2"
    POPULATION = 20

    def _sampler(self, optuna: Any, seed: int) -> Any:
        return optuna.samplers.NSGAIISampler(population_size=self.POPULATION, seed=seed)

    def _attributes(self, index: int) -> dict[str, Any]:
        return {"NSGAIISampler:generation": index // self.POPULATION}

    def _check(self, sampler: Any, study: Any, results: int) -> None:
        seen = getattr(sampler, "get_population", lambda *_: ())(study, 0)
        if len(seen) != min(results, self.POPULATION):
            raise InputError(
                "this version of Optuna keeps the generations of NSGA-II in another way",
                hint="pip install 'dfmobile[baselines]'",
            )


class TPEMode(OptunaMode):
    """Multi-objective tree-structured Parzen estimator (Ozaki et al., 2020) of Optuna, parameters taken together."""

    name = "tpe"
    FIRST = 10

    def _sampler(self, optuna: Any, seed: int) -> Any:
        return optuna.samplers.TPESampler(seed=seed, multivariate=True)
