"""A prior whose score is wrong by a known field."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor

from .base import Prior, Sigma, sigma_per_item

ErrorField = Callable[[Tensor, Sigma], Tensor]


class Perturbed(Prior):
    """A prior with score s(x, sigma) + e(x, sigma); its denoiser is wrong accordingly, D + sigma^2 e.

    prior: the wrapped prior. error: (x (B, *image_shape), sigma) -> like x, in units of a score (1 / unit of the data).
    To make it geometric wrap it, `MaximumEntropy(Perturbed(prior, error))`: that is the construction that tolerates the
    error; `Perturbed(MaximumEntropy(prior), error)` adds the error to a score that is geometric already.
    """

    def __init__(self, prior: Prior, error: ErrorField) -> None:
        super().__init__()
        if not isinstance(prior, Prior):
            raise TypeError(f"prior must be a Prior, got {type(prior).__name__}")
        if not callable(error):
            raise TypeError(f"error must be callable as error(x, sigma), got {type(error).__name__}")
        self.prior, self.error = prior, error
        self.image_shape, self.sigma_range = prior.image_shape, prior.sigma_range
        self.evaluations, self.draws = prior.evaluations, prior.draws

    def stiffness(self, sigma: float) -> float:
        """That of the wrapped prior."""
        return self.prior.stiffness(sigma)

    def radius(self, image_shape: tuple[int, ...]) -> float:
        """That of the wrapped prior."""
        return self.prior.radius(image_shape)

    def _error(self, x: Tensor, sigma: Sigma) -> Tensor:
        error = self.error(x, sigma)
        if error.shape != x.shape:
            raise ValueError(f"error must return the shape of x, {tuple(x.shape)}, got {tuple(error.shape)}")
        return error

    def denoise(self, x: Tensor, sigma: Sigma) -> Tensor:
        """D(x, sigma) + sigma^2 e(x, sigma)."""
        return self.prior.denoise(x, sigma) + sigma_per_item(sigma, x) ** 2 * self._error(x, sigma)

    def displacement(self, x: Tensor, sigma: Sigma) -> Tensor:
        """D(x, sigma) - x + sigma^2 e(x, sigma)."""
        return self.prior.displacement(x, sigma) + sigma_per_item(sigma, x) ** 2 * self._error(x, sigma)

    def score(self, x: Tensor, sigma: Sigma) -> Tensor:
        """s(x, sigma) + e(x, sigma)."""
        return self.prior.score(x, sigma) + self._error(x, sigma)

    def evaluate(self, x: Tensor, sigma: Sigma, noise: Sequence[Tensor] | None = None) -> tuple[Tensor, Tensor]:
        """Score and denoised image, both with their error. noise: that of the wrapped prior's `evaluate`."""
        score, denoised = self.prior.evaluate(x, sigma, noise)
        error = self._error(x, sigma)
        return score + error, denoised + sigma_per_item(sigma, x) ** 2 * error

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """Draws of the wrapped prior, whose law the error does not change."""
        return self.prior.sample(n, seed)
