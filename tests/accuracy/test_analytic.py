"""The simulated evaluator: monotone, seedable, and labelled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dfmobile.accuracy import EvaluationRequest
from dfmobile.accuracy.analytic import AnalyticEvaluator
from dfmobile.architecture import Architecture
from dfmobile.architecture.order import precedes
from dfmobile.errors import EvaluationError, InputError
from dfmobile.testing.evaluator_contract import EvaluatorContract

NOWHERE = Path("not used")


class TestAnalytic(EvaluatorContract):
    name = "analytic"
    options = {"noise": 0.01, "seed": 5}  # noqa: RUF012
    encoding = "df/64,128/256/512"


def accuracy(encoding: str, seed: int = 0, **options: float) -> float:
    evaluator = AnalyticEvaluator(**options)  # type: ignore[arg-type]
    return evaluator.evaluate(EvaluationRequest(encoding, seed, NOWHERE)).accuracy


@st.composite
def encodings(draw: st.DrawFn) -> str:
    mini = draw(st.booleans())
    choices = [8, 16, 24, 40, 64] if mini else [64, 128, 256, 512, 1024]
    depths = draw(st.tuples(*[st.integers(1, 10)] * 3))
    count = sum(depths)
    widths = sorted(draw(st.lists(st.sampled_from(choices), min_size=count, max_size=count)))
    stages = [widths[: depths[0]], widths[depths[0] : depths[0] + depths[1]], widths[depths[0] + depths[1] :]]
    head = "df,stem=8s1,classes=10,channels=1" if mini else "df"
    return "/".join([head, *(",".join(map(str, stage)) for stage in stages)])


@given(x=encodings(), y=encodings())
def test_it_grows_along_the_order(x: str, y: str) -> None:
    if x != y and precedes(Architecture.parse(x), Architecture.parse(y)):
        assert accuracy(x) < accuracy(y)


@given(encoding=encodings(), data=st.data())
def test_one_more_block_or_a_wider_one_is_always_better(encoding: str, data: st.DataObject) -> None:
    head, *stages = encoding.split("/")
    last = stages[-1].split(",")
    deeper = "/".join([head, *stages[:-1], ",".join([*last, last[-1]])])
    wider = "/".join([head, *stages[:-1], ",".join([*last[:-1], "2000"])])
    assert accuracy(encoding) < accuracy(data.draw(st.sampled_from([deeper, wider])))


def test_the_formula_in_its_docstring() -> None:
    # c = log2(1 + 16/16) + log2(1 + 48/16) + log2(1 + 240/16) = 1 + 2 + 4
    assert accuracy("df/16/48/240") == pytest.approx(0.30 + 0.68 * 7 / 11, abs=1e-12)


def test_noise_is_a_function_of_encoding_and_seeds() -> None:
    x, y = "df/64/64/64", "df/64/64/128"
    assert accuracy(x, noise=0.01) == accuracy(x, noise=0.01)
    assert accuracy(x, noise=0.01) != accuracy(x, noise=0.01, seed=1)
    assert (
        accuracy(x, noise=0.01)
        != AnalyticEvaluator(noise=0.01, seed=1).evaluate(EvaluationRequest(x, 0, NOWHERE)).accuracy
    )
    draws = [accuracy(y, seed=seed, noise=0.01) - accuracy(y) for seed in range(400)]
    assert abs(np.mean(draws)) < 0.002
    assert 0.009 < np.std(draws) < 0.011


def test_every_record_says_that_nothing_was_trained() -> None:
    evaluator = AnalyticEvaluator()
    assert evaluator.describe()["label"] == "analytic (simulated, not trained)"
    result = evaluator.evaluate(EvaluationRequest("df/64/64/64", 0, NOWHERE))
    assert result.details["label"] == "analytic (simulated, not trained)"
    assert (result.curve, result.weights) == ([], None)
    assert not NOWHERE.exists()


@pytest.mark.parametrize("options", [{"noise": -1.0}, {"noise": float("nan")}, {"noise": "x"}, {"seed": 0.5}])
def test_options_out_of_range(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        AnalyticEvaluator(**options)  # type: ignore[arg-type]


def test_requests_and_results_are_checked() -> None:
    from dfmobile.accuracy import Evaluation

    with pytest.raises(InputError, match="seed -1"):
        EvaluationRequest("df/64/64/64", -1, NOWHERE)
    for value in (1.01, -0.1, float("nan")):
        with pytest.raises(EvaluationError, match="not in"):
            Evaluation(value, 0.0)
