"""How engines that were timed one after the other make a pass."""

from __future__ import annotations

import pytest

from dfmobile.latency.marginal import marginal_samples
from dfmobile.latency.measurement import Protocol
from dfmobile.latency.tensorrt.timed import Role, TimedEngine, pass_of


def engine(*compute_ms: float, rails_mj: dict[str, float] | None = None) -> TimedEngine:
    energy = None if rails_mj is None else {"rails_mj": rails_mj}
    return TimedEngine(list(compute_ms), 3, None, None, energy=energy)


def three(
    isolated: TimedEngine | None = None, context: TimedEngine | None = None, prefix: TimedEngine | None = None
) -> dict[Role, TimedEngine]:
    return {
        "isolated": isolated or engine(5.0, 5.5),
        "context": context or engine(4.0, 4.2),
        "prefix": prefix or engine(3.0, 3.2),
    }


@pytest.mark.parametrize(
    ("limit_ms", "marginal", "stopped"),
    [(0.8, True, True), (1.0, True, False), (4.9, False, True), (5.1, False, False), (4.9, True, False)],
)
def test_the_limit_is_for_the_cost_that_the_table_holds(limit_ms: float, marginal: bool, stopped: bool) -> None:
    found = pass_of(three(), Protocol(stop_above_ms=limit_ms), "0", marginal=marginal)
    assert found.stopped is stopped
    assert bool(found.hot_ms) is not stopped
    if stopped:  # what it proves: above the limit
        assert found.warm_up_ms == [pytest.approx(0.9 if marginal else 5.0)]


def test_a_block_without_prefix_is_stopped_by_its_own_time() -> None:
    found = pass_of({"isolated": engine(5.0)}, Protocol(stop_above_ms=4.0), "0", marginal=True)
    assert found.stopped
    assert found.warm_up_ms == [5.0]


def test_energy_is_the_difference_of_rails_that_both_engines_tell() -> None:
    context = engine(4.0, rails_mj={"VDD_IN": 10.0, "VDD_SOC": 3.0})
    found = pass_of(
        three(context=context, prefix=engine(3.0, rails_mj={"VDD_IN": 6.0})), Protocol(), "0", marginal=True
    )
    assert found.extra["marginal_energy_mj"] == {"VDD_IN": 4.0}
    unknown = pass_of(three(context=context), Protocol(), "0", marginal=True)
    assert "marginal_energy_mj" not in unknown.extra


def test_samples_of_all_three_are_kept() -> None:
    samples = marginal_samples(pass_of(three(), Protocol(), "0", marginal=True))
    assert samples is not None
    assert (samples.context_ms, samples.prefix_ms) == ([4.0, 4.2], [3.0, 3.2])
