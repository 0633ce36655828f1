"""Accuracy of architectures: real trainings and simulated ones. Floor 5; knows nothing of latency."""

from dfmobile.accuracy.base import Evaluation, EvaluationRequest, Evaluator, open_evaluator

__all__ = ["Evaluation", "EvaluationRequest", "Evaluator", "open_evaluator"]
