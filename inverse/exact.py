"""Posteriors that are known exactly: the reference that every sampler is judged by.

With prior sum_k w_k N(m_k, C_k) and y = A x + s e, the posterior is the mixture of (Woodbury)

    N(m_k + G_k (y - A m_k), C_k - G_k A C_k),   G_k = C_k A^T S_k^-1,   S_k = A C_k A^T + s^2 I,

with weights proportional to w_k N(y; A m_k, S_k). All of it is computed in float64, weights in the log domain.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from deepinv.physics import Physics
from torch import Tensor

import operators
from operators.batch import each_image_has_its_own
from priors import GaussianMixture

from .checks import whole

# Above this number of pixels a dense matrix of the physics would no longer fit an ordinary machine.
MAX_PIXELS = 8192
# Residuals of all components are formed for blocks of components of at most this many entries.
BLOCK_ENTRIES = 2**24


class ExactPosterior(Protocol):
    """A posterior known without sampling error, for each of B measurements."""

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """n independent exact draws, (n, B, *image_shape)."""

    def mean(self) -> Tensor:
        """Posterior mean, (B, *image_shape)."""

    def std(self) -> Tensor:
        """Posterior standard deviation of each pixel, (B, *image_shape)."""


def mixture_posterior(prior: GaussianMixture, physics: Physics, y: Tensor) -> ExactPosterior:
    """The exact posterior of a Gaussian mixture under a linear physics with Gaussian noise, also one for each image."""
    if not each_image_has_its_own(physics):
        return MixturePosterior(prior, physics, y)
    index = torch.arange(len(y), device=y.device)
    return EachItsOwn([MixturePosterior(prior, operators.per_image(physics, b), y[b]) for b in index.split(1)])


class EachItsOwn:
    """Exact posteriors of B measurements, each by an operator of its own."""

    def __init__(self, parts: Sequence[MixturePosterior]) -> None:
        self.parts = parts

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """n independent exact draws for each measurement, (n, B, *image_shape)."""
        seeds = torch.randint(2**62, (len(self.parts),), generator=torch.Generator().manual_seed(seed))
        return torch.cat([part.sample(n, int(s)) for part, s in zip(self.parts, seeds, strict=True)], dim=1)

    def mean(self) -> Tensor:
        """Posterior mean, (B, *image_shape)."""
        return torch.cat([part.mean() for part in self.parts])

    def std(self) -> Tensor:
        """Posterior standard deviation of each pixel, (B, *image_shape)."""
        return torch.cat([part.std() for part in self.parts])

    @property
    def weights(self) -> Tensor:
        """Posterior weight of each component for each measurement, (B, K)."""
        return torch.cat([part.weights for part in self.parts])


class MixturePosterior:
    """The exact posterior of a Gaussian mixture under a linear physics with Gaussian noise.

    prior: GaussianMixture or Empirical. physics: linear, with Gaussian noise (one level, or one per image).
    y: (B, ...). Raises ValueError for a non-linear physics, other noise, or more than 8,192 pixels.
    """

    def __init__(self, prior: GaussianMixture, physics: Physics, y: Tensor) -> None:
        if not operators.is_linear(physics):
            raise ValueError(f"physics must be linear for an exact mixture posterior, got {type(physics).__name__}")
        sigma = operators.noise_sigma(physics)
        if sigma is None:
            noise = type(getattr(physics, "noise_model", None)).__name__
            raise ValueError(f"physics must have Gaussian noise above 0 for an exact mixture posterior, got {noise}")
        self.image_shape, self.dtype = prior.image_shape, y.dtype
        self._prior = prior
        self._noise = torch.as_tensor(sigma, dtype=torch.float64, device=y.device).expand(len(y))
        self._matrix = _dense(physics, self.image_shape, y.device)
        self._y = y.flatten(1).double()
        self._gains = _Gains(prior, self._matrix)
        self._posterior_moments()

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """n independent exact draws for each measurement, (n, B, *image_shape).

        A draw of component k is x + G_k (y - A x - s e) with x from N(m_k, C_k) and e white (Matheron's rule).
        """
        n = whole("n", n)
        generator = torch.Generator(self._y.device).manual_seed(seed)
        images = torch.multinomial(self._weights, n, replacement=True, generator=generator)
        draws = [self._draw(b, k, generator) for b, k in enumerate(images)]
        return torch.stack(draws, 1).reshape(n, len(self._y), *self.image_shape).to(self.dtype)

    def mean(self) -> Tensor:
        """sum_k W_k mean_k, (B, *image_shape)."""
        return self._mean.reshape(-1, *self.image_shape).to(self.dtype)

    def std(self) -> Tensor:
        """sqrt(sum_k W_k (var_k + mean_k^2) - mean^2) for each pixel, (B, *image_shape)."""
        return self._variance.clamp_min(0).sqrt().reshape(-1, *self.image_shape).to(self.dtype)

    @property
    def weights(self) -> Tensor:
        """Posterior weight of each component for each measurement, (B, K)."""
        return self._weights.to(self.dtype)

    def _posterior_moments(self) -> None:
        prior, gains = self._prior, self._gains
        center = prior.center.double()
        blocks = torch.arange(len(prior.offsets)).split(max(1, BLOCK_ENTRIES // max(self._matrix.shape)))
        predicted = [(center + prior.offsets[block].double()) @ self._matrix.T for block in blocks]
        log_weights, means, variances = [], [], []
        for y, noise in zip(self._y, self._noise, strict=True):
            evidence = [
                gains.log_density(y - part, block, noise) for part, block in zip(predicted, blocks, strict=True)
            ]
            log_weights.append(prior.log_weights.double() + torch.cat(evidence))
            weights = log_weights[-1].softmax(0)
            # components of no weight cannot matter, and there may be 60,000 of them
            alive = (weights > 1e-18).nonzero()[:, 0]
            weight = weights[alive, None]
            prior_means = center + prior.offsets[alive].double()
            centres = prior_means + gains.gain(y - prior_means @ self._matrix.T, alive, noise)
            mean = (weight * centres).sum(0)
            means.append(mean)
            variances.append((weight * (gains.variance(alive, noise) + (centres - mean) ** 2)).sum(0))
        self._weights = torch.stack(log_weights).softmax(1)
        self._mean, self._variance = torch.stack(means), torch.stack(variances)

    def _draw(self, b: int, k: Tensor, generator: torch.Generator) -> Tensor:
        prior, noise = self._prior, self._noise[b]
        z = self._white((len(k), len(prior.center)), generator)
        x = prior.center.double() + prior.offsets[k].double() + self._gains.colour(z, k)
        e = self._white((len(k), len(self._matrix)), generator)
        return x + self._gains.gain(self._y[b] - x @ self._matrix.T - noise * e, k, noise)

    def _white(self, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64, device=self._y.device)


class _Gains:
    """Kalman gains of every component: through one SVD of A where all covariances are isotropic, else by Cholesky."""

    def __init__(self, prior: GaussianMixture, matrix: Tensor) -> None:
        self.prior, self.matrix = prior, matrix
        self.variances = prior.variances.double()
        self.rotations = None if prior.rotations is None else prior.rotations.double()
        self.isotropic = prior.isotropic
        if self.isotropic:
            self.u, self.s, self.vt = torch.linalg.svd(matrix, full_matrices=False)

    def colour(self, z: Tensor, k: Tensor) -> Tensor:
        z = self.variances[k].sqrt() * z
        return z if self.rotations is None else torch.einsum("nij,nj->ni", self.rotations[k], z)

    def log_density(self, residual: Tensor, k: Tensor, noise: Tensor) -> Tensor:
        """log N(residual_k; 0, S_k) of components k (n,). residual: (n, m) -> (n,)."""
        if self.isotropic:
            return self._log_density_isotropic(residual, k, noise)
        return torch.stack(
            [self._log_density_full(r, component, noise) for r, component in zip(residual, k, strict=True)]
        )

    def _log_density_isotropic(self, residual: Tensor, k: Tensor, noise: Tensor) -> Tensor:
        eigenvalues = self.variances[k] * self.s**2 + noise**2
        inside = residual @ self.u
        outside = (residual.square().sum(1) - inside.square().sum(1)).clamp_min(0)
        rest = residual.shape[1] - len(self.s)
        exponent = (inside**2 / eigenvalues).sum(1) + outside / noise**2
        log_det = eigenvalues.log().sum(1) + 2 * rest * noise.log()
        return -0.5 * (exponent + log_det + residual.shape[1] * math.log(2 * math.pi))

    def _log_density_full(self, residual: Tensor, k: Tensor, noise: Tensor) -> Tensor:
        factor = self._cholesky(k, noise)
        white = torch.linalg.solve_triangular(factor, residual[:, None], upper=False)
        log_det = 2 * factor.diagonal().log().sum()
        return -0.5 * (white.square().sum() + log_det + len(residual) * math.log(2 * math.pi))

    def gain(self, residual: Tensor, k: Tensor, noise: Tensor) -> Tensor:
        """G_k residual for residuals (n, m) of components k (n,)."""
        if self.isotropic:
            variance = self.variances[k]
            return ((residual @ self.u) * (variance * self.s / (variance * self.s**2 + noise**2))) @ self.vt
        out = residual.new_empty(len(k), self.matrix.shape[1])
        for component in k.unique():
            chosen = k == component
            solved = torch.cholesky_solve(residual[chosen].T, self._cholesky(component, noise))
            out[chosen] = (self._half(component).T @ (self._half(component) @ (self.matrix.T @ solved))).T
        return out

    def variance(self, k: Tensor, noise: Tensor) -> Tensor:
        """Diagonal of C_k - G_k A C_k of components k (n,), as (n, d)."""
        if self.isotropic:
            variance = self.variances[k]
            shrink = variance**2 * self.s**2 / (variance * self.s**2 + noise**2)
            return variance - shrink @ self.vt**2
        rows = []
        for component in k:
            half = self._half(component)
            seen = torch.linalg.solve_triangular(
                self._cholesky(component, noise), self.matrix @ half.T @ half, upper=False
            )
            rows.append(half.square().sum(0) - seen.square().sum(0))
        return torch.stack(rows)

    def _half(self, k: Tensor) -> Tensor:
        """H with C_k = H^T H."""
        scale = self.variances[k].sqrt()
        return torch.diag(scale) if self.rotations is None else scale[:, None] * self.rotations[k].T

    def _cholesky(self, k: Tensor, noise: Tensor) -> Tensor:
        seen = self.matrix @ self._half(k).T
        return torch.linalg.cholesky(
            seen @ seen.T + noise**2 * torch.eye(len(seen), dtype=seen.dtype, device=seen.device)
        )


def _dense(physics: Physics, image_shape: tuple[int, ...], device: torch.device) -> Tensor:
    """The matrix of a linear physics, (m, d), in float64."""
    d = math.prod(image_shape)
    if d > MAX_PIXELS:
        raise ValueError(f"physics must have at most {MAX_PIXELS} pixels for an exact mixture posterior, got {d}")
    columns = []
    for block in torch.eye(d, device=device).split(512):
        columns.append(physics.A(block.reshape(-1, *image_shape)).flatten(1).double())
    return torch.cat(columns).T.contiguous()
