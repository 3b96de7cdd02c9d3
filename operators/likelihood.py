"""p(y | x) from the noise model of a physics: negative log-likelihood and its gradient in x.

With z = A(x), every noise model here acts on each entry of z alone, so that a likelihood is two functions of one
entry, log p(y | z) and its derivative in z; the gradient in x is A^T of the latter, or the Jacobian's transpose.
Entries that a masking operator did not measure carry no noise and no information, and count in neither.
"""

from __future__ import annotations

import math

import torch
from deepinv.physics import GaussianNoise, LaplaceNoise, Physics, PoissonGaussianNoise, PoissonNoise, ZeroNoise
from torch import Tensor

from .flattened import Flattened
from .linear import is_linear
from .measurement import measured
from .noise import noise_parameter


class Likelihood:
    """p(y | x) for one physics; a subclass writes log_density, slope and information, all per entry of y.

    Shapes throughout: x (B, *image_shape); y and z = A(x) (B, *measurement_shape). Parameters of the noise model are
    () or, one per image, (B,). Raises ValueError when a parameter is not finite and positive.
    """

    def __init__(self, physics: Physics) -> None:
        self.physics = physics
        self._linear = is_linear(physics)
        self._measured = measured(physics)

    def log_density(self, z: Tensor, y: Tensor) -> Tensor:
        """log p(y | z) of each entry, with its normalising constant, in float64 where counts may be large."""
        raise NotImplementedError

    def slope(self, z: Tensor, y: Tensor) -> Tensor:
        """d/dz log p(y | z) of each entry."""
        raise NotImplementedError

    def information(self, y: Tensor) -> Tensor:
        """Largest Fisher information about one entry of z, judged at the data y, () or (B,).

        Times |A|^2 it measures the curvature of the nll, from which samplers take their step sizes.
        """
        raise NotImplementedError

    def nll(self, x: Tensor, y: Tensor) -> Tensor:
        """-log p(y | x), (B,), differentiable in x."""
        terms = self._observed(self.log_density(self.physics.A(x), y))
        return -terms.flatten(1).sum(dim=1).to(x.dtype)

    def score(self, x: Tensor, y: Tensor) -> Tensor:
        """grad_x log p(y | x) = -grad_x nll(x, y), like x; one A and one A^T where A is linear."""
        slope = self.slope(self.physics.A(x), y)  # A^T drops what was not measured
        return self.physics.A_adjoint(slope) if self._linear else self.physics.A_vjp(x, slope)

    def _observed(self, terms: Tensor) -> Tensor:
        return terms if self._measured is None else terms * self._measured.to(terms.dtype)

    def _smallest(self, counts: Tensor) -> Tensor:
        """Smallest measured entry of each image, (B,)."""
        if self._measured is not None:
            counts = torch.where(self._measured.to(torch.bool), counts, math.inf)
        return counts.flatten(1).amin(dim=1)


class GaussianLikelihood(Likelihood):
    """y = z + sigma n, n ~ N(0, I). sigma: standard deviation."""

    def __init__(self, physics: Physics) -> None:
        super().__init__(physics)
        self.sigma = noise_parameter(physics, "sigma")

    def log_density(self, z: Tensor, y: Tensor) -> Tensor:
        sigma = _over(self.sigma, y)
        return -0.5 * ((y - z) / sigma) ** 2 - torch.log(sigma) - 0.5 * math.log(2 * math.pi)

    def slope(self, z: Tensor, y: Tensor) -> Tensor:
        return (y - z) / _over(self.sigma, y) ** 2

    def information(self, y: Tensor) -> Tensor:
        """1 / sigma^2."""
        return self.sigma**-2


class LaplaceLikelihood(Likelihood):
    """y = z + n with density exp(-|n| / b) / (2b). b: scale."""

    def __init__(self, physics: Physics) -> None:
        super().__init__(physics)
        self.b = noise_parameter(physics, "b")

    def log_density(self, z: Tensor, y: Tensor) -> Tensor:
        b = _over(self.b, y)
        return -(y - z).abs() / b - torch.log(2 * b)

    def slope(self, z: Tensor, y: Tensor) -> Tensor:
        return (y - z).sign() / _over(self.b, y)

    def information(self, y: Tensor) -> Tensor:
        """1 / b^2."""
        return self.b**-2


class PoissonLikelihood(Likelihood):
    """y = gain * k, or y = k for a noise model with normalize=False, with k ~ Poisson(z / gain).

    The probability of the count k = y / gain, not a density over y; k that is no integer is given the value of the
    formula with the Gamma function. Where the rate z / gain is below SMALL_RATE or negative, which has no Poisson law,
    see `_log_rate`: finite, and drawing z back up where something was counted.
    """

    def __init__(self, physics: Physics) -> None:
        super().__init__(physics)
        self.gain = noise_parameter(physics, "gain")
        self._normalised = bool(physics.noise_model.normalize)

    def log_density(self, z: Tensor, y: Tensor) -> Tensor:
        counts, rate = self._counts(y.double()), z.double() / _over(self.gain, z).double()
        return counts * _log_rate(rate) - rate.clamp_min(0) - torch.lgamma(counts + 1)

    def slope(self, z: Tensor, y: Tensor) -> Tensor:
        gain = _over(self.gain, z)
        rate = z / gain
        return (self._counts(y) / rate.clamp_min(SMALL_RATE) - (rate > 0).to(z.dtype)) / gain

    def information(self, y: Tensor) -> Tensor:
        """1 / (gain^2 k) at the smallest count k of the image, at least 1."""
        return 1 / (self.gain**2 * self._smallest(self._counts(y)).clamp_min(1))

    def _counts(self, y: Tensor) -> Tensor:
        return y / _over(self.gain, y) if self._normalised else y


class PoissonGaussianLikelihood(Likelihood):
    """y = gain * k + sigma n, k ~ Poisson(z / gain), n ~ N(0, I): the sum over k of both densities' products.

    The summand is log-concave in k. Its mode solves a scalar equation; the sum runs over 129 counts around it, every
    one where they are few, and evenly spaced ones where the summand is so wide (at least three spacings per standard
    deviation) that the trapezoidal rule is exact to float64. Negative and tiny rates: as in PoissonLikelihood.
    """

    def __init__(self, physics: Physics) -> None:
        super().__init__(physics)
        self.gain = noise_parameter(physics, "gain")
        self.sigma = noise_parameter(physics, "sigma")

    def log_density(self, z: Tensor, y: Tensor) -> Tensor:
        return self._terms(z, y)[0].logsumexp(dim=0)

    def slope(self, z: Tensor, y: Tensor) -> Tensor:
        terms, counts = self._terms(z, y)
        mean = (terms.softmax(dim=0) * counts).sum(dim=0)
        gain = _over(self.gain, z).double()
        rate = z.double() / gain
        return ((mean / rate.clamp_min(SMALL_RATE) - (rate > 0).double()) / gain).to(z.dtype)

    def information(self, y: Tensor) -> Tensor:
        """1 / (gain y + sigma^2) at the smallest y of the image, at least one count."""
        smallest = self._smallest(y)
        return 1 / (self.gain * torch.maximum(smallest, self.gain.to(smallest)) + self.sigma**2)

    def _terms(self, z: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """log of the summands and their counts, both (129, *y.shape), float64."""
        z, y = z.double(), y.double()
        gain, sigma = _over(self.gain, y).double(), _over(self.sigma, y).double()
        rate = z / gain
        log_rate = _log_rate(rate)
        with torch.no_grad():
            mode = _mode(log_rate, y, gain, sigma)
            width = torch.minimum((mode + 1).sqrt(), sigma / gain)
            spacing = (width / 3).floor().clamp_min(1)
            steps = torch.arange(-64, 65, dtype=y.dtype, device=y.device).reshape(-1, *[1] * y.ndim)
            counts = (mode.floor() + steps * spacing).expand(-1, *torch.broadcast_shapes(y.shape, z.shape))
            weights = torch.where(counts >= 0, torch.log(spacing), -math.inf)
            counts = counts.clamp_min(0)
        poisson = counts * log_rate - rate.clamp_min(0) - torch.lgamma(counts + 1)
        gaussian = -0.5 * ((y - gain * counts) / sigma) ** 2 - torch.log(sigma) - 0.5 * math.log(2 * math.pi)
        return poisson + gaussian + weights, counts


SMALL_RATE = 1e-3
"""Expected count below which log(rate) is continued by its tangent: no more than one count in a thousand pixels."""


def _log_rate(rate: Tensor) -> Tensor:
    """log(rate), continued below SMALL_RATE by its tangent there, so that negative rates are unlikely but finite."""
    floored = rate.clamp_min(SMALL_RATE)
    return torch.log(floored) + (rate - floored) / SMALL_RATE


def _mode(log_rate: Tensor, y: Tensor, gain: Tensor, sigma: Tensor) -> Tensor:
    """The k > 0 where the summand is largest: log_rate - log k - gain (gain k - y) / sigma^2 = 0.

    In t = log k this is t + c e^t = a, whose left side is convex: Newton's method from any point lands right of the
    root and then falls to it.
    """
    c = (gain / sigma) ** 2
    a = log_rate + gain * y / sigma**2
    t = torch.minimum(a, torch.log(a.clamp_min(1) / c))
    for _ in range(30):
        e = c * t.exp()
        t = t - (t + e - a) / (1 + e)
    return t.exp()


_LIKELIHOODS: dict[type, type[Likelihood]] = {
    GaussianNoise: GaussianLikelihood,
    LaplaceNoise: LaplaceLikelihood,
    PoissonNoise: PoissonLikelihood,
    PoissonGaussianNoise: PoissonGaussianLikelihood,
}


def likelihood(physics: Physics) -> Likelihood:
    """The likelihood that the noise model of `physics` implies: Gaussian, Laplace, Poisson or Poisson-Gaussian.

    Raises ValueError where there is no density: no noise, another noise model, or a sensor that alters noisy values.
    """
    if not isinstance(physics, Physics):
        raise TypeError(f"physics must be a deepinv Physics, got {type(physics).__name__}")
    model = physics.noise_model
    if model is None or type(model) is ZeroNoise:
        came = "a noise model, got none" if model is None else "noise above 0, got ZeroNoise (noise=0)"
        raise ValueError(
            f"physics must have {came}, so that p(y | x) has no density; give it some by "
            "operators.create(..., noise=0.05) or physics.noise_model = deepinv.physics.GaussianNoise(0.05)"
        )
    kind = _LIKELIHOODS.get(type(model))
    if kind is None:
        known = ", ".join(noise.__name__ for noise in _LIKELIHOODS)
        raise ValueError(
            f"physics must have a noise model whose density is known ({known}), got {type(model).__name__}"
        )
    if not _plain_sensor(physics):
        raise ValueError("physics must have no sensor_model after its noise, got one whose density is unknown")
    return kind(physics)


def _plain_sensor(physics: Physics) -> bool:
    if isinstance(physics, Flattened):
        return all(_plain_sensor(part) for part in physics.parts)
    probe = torch.linspace(-10, 10, 41)
    try:
        return torch.equal(physics.sensor(probe.clone()), probe)
    except (RuntimeError, ValueError, IndexError, TypeError):
        return False


def _over(value: Tensor, y: Tensor) -> Tensor:
    """() or (B,) as a tensor that broadcasts over y (B, ...), with its dtype and device."""
    return value.to(y).reshape(-1, *[1] * (y.ndim - 1)) if value.ndim else value.to(y)
