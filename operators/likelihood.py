"""p(y | x) from the noise model of a physics: negative log-likelihood and its gradient in x.

With z = A(x), every noise model here acts on each entry of z alone, so that a likelihood is two functions of one
entry, log p(y | z) and its derivative in z; the gradient in x is A^T of the latter, or the Jacobian's transpose.
Entries that a masking operator did not measure carry no noise and no information, and count in neither.
"""

from __future__ import annotations

import math

import torch
from deepinv.physics import GaussianNoise, Physics, ZeroNoise
from torch import Tensor

from .linear import is_linear
from .measurement import measured
from .noise import noise_sigma


class Likelihood:
    """p(y | x) for one physics; a subclass writes log_density and slope, both per entry of the measurement."""

    def __init__(self, physics: Physics) -> None:
        self.physics = physics
        self._linear = is_linear(physics)
        self._measured = measured(physics)

    def log_density(self, z: Tensor, y: Tensor) -> Tensor:
        """log p(y | z) of each entry, with its normalising constant. z, y: (B, *measurement_shape)."""
        raise NotImplementedError

    def slope(self, z: Tensor, y: Tensor) -> Tensor:
        """d/dz log p(y | z) of each entry. z, y: (B, *measurement_shape)."""
        raise NotImplementedError

    def information(self, y: Tensor) -> Tensor:
        """Largest Fisher information about one entry of z = A(x), judged at the data, () or (B,).

        |A|^2 times it bounds the curvature of the nll, from which samplers take their step sizes.
        """
        raise NotImplementedError

    def nll(self, x: Tensor, y: Tensor) -> Tensor:
        """-log p(y | x), (B,), differentiable in x. x: (B, *image_shape); y: (B, *measurement_shape)."""
        terms = self.log_density(self.physics.A(x), y)
        return -self._observed(terms).flatten(1).sum(dim=1)

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        """grad_x log p(y | x) = -grad_x nll(x, y), like x; one A and one A^T where A is linear."""
        slope = self._observed(self.slope(self.physics.A(x), y))
        return self.physics.A_adjoint(slope) if self._linear else self.physics.A_vjp(x, slope)

    def _observed(self, terms: Tensor) -> Tensor:
        return terms if self._measured is None else terms * self._measured.to(terms.dtype)


class GaussianLikelihood(Likelihood):
    """y = A(x) + sigma z, z ~ N(0, I). sigma: () or, one per image, (B,)."""

    def __init__(self, physics: Physics) -> None:
        super().__init__(physics)
        self.sigma = _per_image(physics, "sigma", noise_sigma(physics))

    def log_density(self, z: Tensor, y: Tensor) -> Tensor:
        sigma = _broadcast(self.sigma, y)
        return -0.5 * ((y - z) / sigma) ** 2 - torch.log(sigma) - 0.5 * math.log(2 * math.pi)

    def slope(self, z: Tensor, y: Tensor) -> Tensor:
        return (y - z) / _broadcast(self.sigma, y) ** 2

    def information(self, y: Tensor) -> Tensor:
        """1 / sigma^2."""
        return self.sigma**-2


_LIKELIHOODS = {GaussianNoise: GaussianLikelihood}


def likelihood(physics: Physics) -> Likelihood:
    """The likelihood that the noise model of `physics` implies.

    Raises ValueError when there is none: no noise, a noise model without a known density, or a sensor behind it.
    """
    if not isinstance(physics, Physics):
        raise TypeError(f"physics must be a deepinv Physics, got {type(physics).__name__}")
    model = physics.noise_model
    if model is None or type(model) is ZeroNoise:
        raise ValueError(
            "physics must have a noise model, got none: without noise p(y | x) has no density; "
            "give one, for example operators.create(..., noise=0.05)"
        )
    kind = _LIKELIHOODS.get(type(model))
    if kind is None:
        raise ValueError(
            f"physics must have a noise model with a known density ({', '.join(k.__name__ for k in _LIKELIHOODS)}), "
            f"got {type(model).__name__}"
        )
    return kind(physics)


def _per_image(physics: Physics, argument: str, value: Tensor) -> Tensor:
    """value, () or (B,), checked to be positive."""
    if not bool((torch.isfinite(value) & (value > 0)).all()):
        raise ValueError(
            f"{argument} of {type(physics.noise_model).__name__} must be finite and above 0, "
            f"got {value.flatten()[:4].tolist()}"
        )
    return value


def _broadcast(value: Tensor, y: Tensor) -> Tensor:
    """() or (B,) as a tensor that broadcasts over y (B, ...)."""
    return value.to(y.dtype).reshape(-1, *[1] * (y.ndim - 1)) if value.ndim else value.to(y.dtype)
