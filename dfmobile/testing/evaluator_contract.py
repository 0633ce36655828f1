"""What every evaluator must do; inherit it in your own tests.

Example:
    >>> class TestMyEvaluator(EvaluatorContract):
    ...     name = "mine"
    ...     options = {"points": 3}
    ...     encoding = "df,stem=8s1,classes=10,channels=1/8/8/8"
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import pytest

from dfmobile import registry
from dfmobile.accuracy import Evaluation, EvaluationRequest, Evaluator, job, open_evaluator
from dfmobile.architecture import Architecture, build
from dfmobile.errors import EncodingError, InputError
from dfmobile.execution import open_executor


def without_times(evaluation: Evaluation) -> dict[str, Any]:
    """Return what must be equal in two evaluations of the same request: all but durations and places."""
    document = evaluation.to_json()
    del document["seconds"], document["weights"]
    document["curve"] = [
        {name: value for name, value in point.items() if name != "seconds"} for point in document["curve"]
    ]
    return document


class EvaluatorContract:
    """Inherit, and set the three class attributes.

    Attributes:
        name: the evaluator's registered name.
        options: its options; choose quick ones.
        encoding: an architecture that it can evaluate.
    """

    name: ClassVar[str]
    options: ClassVar[dict[str, Any]]
    encoding: ClassVar[str]

    @pytest.fixture
    def evaluator(self) -> Evaluator:
        """The evaluator, opened by its registered name."""
        return open_evaluator(self.name, **self.options)

    @pytest.fixture
    def request_(self, tmp_path: Path) -> EvaluationRequest:
        """A request with a folder that does not exist yet."""
        return EvaluationRequest(self.encoding, 1, tmp_path / "evaluation")

    def test_it_is_registered_under_its_name(self, evaluator: Evaluator) -> None:
        """So that campaigns can open it in any process."""
        assert evaluator.name == self.name
        assert self.name in registry.names("dfmobile.evaluators")

    def test_its_description_is_json_and_repeatable(self, evaluator: Evaluator) -> None:
        """And says what the accuracy is."""
        description = evaluator.describe()
        assert description["name"] == self.name
        assert description["label"]
        assert json.loads(json.dumps(description)) == open_evaluator(self.name, **self.options).describe()

    def test_its_options_are_json(self) -> None:
        """They travel to workers as JSON."""
        options = json.loads(json.dumps(self.options))
        assert open_evaluator(self.name, **options).describe() == open_evaluator(self.name, **self.options).describe()

    def test_an_unknown_option_is_refused(self) -> None:
        """Naming it."""
        with pytest.raises(InputError, match="no_such_option"):
            open_evaluator(self.name, **self.options, no_such_option=1)

    def test_a_malformed_encoding_is_refused(self, evaluator: Evaluator, tmp_path: Path) -> None:
        """Before anything is written."""
        with pytest.raises(EncodingError):
            evaluator.evaluate(EvaluationRequest("df/not/an/encoding", 0, tmp_path / "none"))
        assert not (tmp_path / "none").exists()

    def test_the_result_is_complete_and_json(self, evaluator: Evaluator, request_: EvaluationRequest) -> None:
        """Accuracy in [0, 1], details, curve; trained weights fit the trained network."""
        evaluation = evaluator.evaluate(request_)
        assert 0.0 <= evaluation.accuracy <= 1.0
        assert evaluation.seconds >= 0.0
        assert Evaluation.from_json(json.loads(json.dumps(evaluation.to_json()))) == evaluation
        if evaluation.weights is not None:
            from dfmobile.export.weights import load_weights_file

            assert request_.folder in evaluation.weights.parents
            weights, _ = load_weights_file(evaluation.weights)
            trained = Architecture.parse(evaluation.details["trained_encoding"])
            build(trained, trained.total_stride * 4, trained.total_stride * 4).graph.check_weights(weights)

    def test_it_can_evaluate_what_it_lists(self, evaluator: Evaluator) -> None:
        """Canonical texts, where it lists any."""
        known = evaluator.encodings()
        if known is not None:
            assert Architecture.parse(self.encoding).text in known
            assert all(Architecture.parse(text).text == text for text in sorted(known)[:100])
            assert job.encodings({"evaluator": self.name, "options": self.options}) == {"encodings": sorted(known)}

    def test_the_same_request_gives_the_same_result(
        self, evaluator: Evaluator, request_: EvaluationRequest, tmp_path: Path
    ) -> None:
        """In the same folder and in another one."""
        first = evaluator.evaluate(request_)
        assert evaluator.evaluate(request_) == first
        other = EvaluationRequest(request_.encoding, request_.seed, tmp_path / "other")
        assert without_times(evaluator.evaluate(other)) == without_times(first)

    def test_a_worker_gives_the_same_result(
        self, evaluator: Evaluator, request_: EvaluationRequest, tmp_path: Path
    ) -> None:
        """Through an executor, as a campaign does it."""
        there = EvaluationRequest(request_.encoding, request_.seed, tmp_path / "there")
        with open_executor("local", workers=1) as executor:
            remote = job.result(job.submit(executor, self.name, self.options, there))
        assert without_times(remote) == without_times(evaluator.evaluate(request_))
