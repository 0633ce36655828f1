"""The monotone surrogate: what the results so far say of every architecture's accuracy, and how surely.

The model is ``accuracy = b + Σ w_f · feature_f + noise`` with w_f ≥ 0 on features that never fall along the order,
so every prediction is monotone by construction. Its uncertainty is that of a Bayesian linear model with
independent normal priors on the weights, drawn by perturbing and maximising (Papandreou and Yuille, 2011): each
member of an ensemble fits the accuracies plus a draw of the noise, drawn towards a draw of the prior, under
w ≥ 0. Noise and width of the prior are those that explain the results best (marginal likelihood of the model
without the constraint).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

_NOISES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # of the standard deviation of the accuracies
_PRIORS = (0.03, 0.1, 0.3, 1.0)
_STEPS = 200


class MonotoneSurrogate:
    """A fitted ensemble.

    Args:
        features: ``[n, F]`` of the evaluated architectures; none may fall along the order.
        accuracies: ``[n]``, at least two.
        generator: draws the ensemble; the same one gives the same surrogate.
        members: of the ensemble.
        noise: standard deviation of an accuracy where it is known; None: estimated.

    Attributes:
        noise: standard deviation of an accuracy, as given or estimated.
    """

    def __init__(
        self,
        features: Array,
        accuracies: Array,
        generator: np.random.Generator,
        *,
        members: int = 32,
        noise: float | None = None,
    ) -> None:
        self._mean = float(accuracies.mean())
        self._scale = float(accuracies.std()) or 1.0
        target = (accuracies - self._mean) / self._scale
        self._centre = features.mean(axis=0)
        centred = features - self._centre
        gram = centred.T @ centred
        known = None if noise is None else max(noise / self._scale, _NOISES[0])
        prior, sigma = _best_scales(gram, centred.T @ target, target, known)
        self.noise = sigma * self._scale if noise is None else noise
        count, size = features.shape
        perturbed = target[:, None] + sigma * generator.standard_normal((count, members))
        drawn = prior * generator.standard_normal((size, members))
        self._offset = perturbed.mean(axis=0)
        curvature = gram / sigma**2 + np.eye(size) / prior**2
        slope = centred.T @ (perturbed - self._offset) / sigma**2 + drawn / prior**2
        self._weights = _non_negative(curvature, slope)
        # Where the truth is no such sum the residuals are larger than the noise: no prediction is surer than that.
        residual = target - (self._offset + centred @ self._weights).mean(axis=1)
        self._misfit = float(np.sqrt(max(float(np.mean(residual**2)) - sigma**2, 0.0)))

    def predict(self, features: Array) -> tuple[Array, Array]:
        """Return the expected accuracy of architectures and its standard deviation, without noise, ``[R]`` each.

        Args:
            features: ``[R, F]``.
        """
        drawn = self._offset + (features - self._centre) @ self._weights
        deviation = np.sqrt(drawn.var(axis=1) + self._misfit**2)
        return self._mean + self._scale * drawn.mean(axis=1), self._scale * deviation


def _best_scales(gram: Array, moment: Array, target: Array, noise: float | None) -> tuple[float, float]:
    """Return the prior's and the noise's standard deviation of the highest marginal likelihood.

    With ``gram = U diag(λ) Uᵀ`` the likelihood needs only λ and Uᵀ moment, however many results there are.
    """
    values, vectors = np.linalg.eigh(gram)
    values = np.maximum(values, 0.0)
    projected = (vectors.T @ moment) ** 2
    square = float(target @ target)
    best, chosen = -np.inf, (_PRIORS[0], _NOISES[0])
    for prior in _PRIORS:
        for sigma in _NOISES if noise is None else (noise,):
            ratio = prior**2 / sigma**2
            explained = float((projected * ratio / (1.0 + ratio * values)).sum())
            likelihood = -0.5 * (square - explained) / sigma**2 - 0.5 * float(np.log1p(ratio * values).sum())
            likelihood -= len(target) * np.log(sigma)
            likelihood -= 0.5 * np.log(sigma / 0.1) ** 2  # few results: about a tenth of the spread is noise
            if likelihood > best:
                best, chosen = likelihood, (prior, sigma)
    return chosen


def _non_negative(curvature: Array, slope: Array) -> Array:
    """Minimise ½ wᵀ A w − slopeᵀ w over w ≥ 0 for each column of ``slope`` (accelerated projected gradient)."""
    step = 1.0 / float(np.linalg.norm(curvature, 2))
    weights = np.zeros_like(slope)
    ahead, momentum = weights, 1.0
    for _ in range(_STEPS):
        updated = np.maximum(ahead - step * (curvature @ ahead - slope), 0.0)
        following = (1.0 + np.sqrt(1.0 + 4.0 * momentum**2)) / 2.0
        ahead = updated + (momentum - 1.0) / following * (updated - weights)
        weights, momentum = updated, following
    return weights
