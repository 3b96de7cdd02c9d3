"""Mixtures of Gaussians, whose smoothed law, score and denoiser are known in closed form.

With component k of weight w_k, mean m_k and covariance C_k, the smoothed law p_sigma is the mixture of
N(m_k, C_k + sigma^2 I), and with r_k(x) the posterior weight of component k given x

    D(x, sigma) - x = sigma^2 sum_k r_k(x) (C_k + sigma^2 I)^-1 (m_k - x).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .base import Prior, Sigma, sigma_per_item

# Items are denoised in blocks whose table of distances to all components has at most this many entries.
BLOCK_ENTRIES = 2**24


class GaussianMixture(Prior):
    """p(x) = sum_k w_k N(x; m_k, C_k), with everything in closed form.

    means: (K, *image_shape). covariances: (K,) isotropic variances, (K, d) diagonals or (K, d, d) matrices, in
    squared units of the data, d = prod(image_shape). weights: (K,), non-negative, normalised here; None: equal.
    Raises ValueError on shapes that do not fit, non-finite numbers, negative variances or weights.
    """

    def __init__(self, means: Tensor, covariances: Tensor, weights: Tensor | None = None) -> None:
        super().__init__()
        if means.ndim < 2:
            raise ValueError(f"means must have shape (K, *image_shape), got {tuple(means.shape)}")
        self.image_shape = tuple(means.shape[1:])
        count, d = len(means), math.prod(self.image_shape)
        covariances = torch.as_tensor(covariances, dtype=means.dtype, device=means.device)
        variances, rotations = _spectrum(covariances, count, d)
        center = means.reshape(count, d).mean(0)
        offsets = means.reshape(count, d) - center
        self.register_buffer("center", center)
        self.register_buffer("offsets", offsets)
        self.register_buffer("squared_norms", offsets.square().sum(1))
        self.register_buffer("variances", variances)
        self.register_buffer("rotations", rotations)
        self.register_buffer("log_weights", _log_weights(weights, means))
        self._largest_norm, self._smallest_variance = float(self.squared_norms.max()), float(variances.min())
        if not math.isfinite(self._largest_norm):
            raise ValueError("means must be finite, got NaN or infinite entries")

    @property
    def means(self) -> Tensor:
        """Component means, (K, *image_shape)."""
        return (self.offsets + self.center).reshape(-1, *self.image_shape)

    @property
    def weights(self) -> Tensor:
        """Component weights, (K,), of sum 1."""
        return self.log_weights.exp()

    @property
    def isotropic(self) -> bool:
        """Whether every covariance is a multiple of the identity."""
        return self.variances.shape[1] == 1

    def stiffness(self, sigma: float) -> float:
        """1 / (smallest variance + sigma^2), the pull towards a single component."""
        return 1 / (self._smallest_variance + sigma**2)

    def radius(self, image_shape: tuple[int, ...]) -> float:
        """sqrt(E |X - E X|^2) in closed form, in units of the data."""
        mean = self.weights @ self.offsets
        spread = self.variances.sum(1) * (self.offsets.shape[1] / self.variances.shape[1])
        return math.sqrt(float(self.weights @ (self.squared_norms + spread) - mean.square().sum()))

    def displacement(self, x: Tensor, sigma: Sigma) -> Tensor:
        """D(x, sigma) - x in closed form. x: (B, *image_shape); sigma: float, (B,) or (B, 1, ..., 1)."""
        return torch.cat([self._displacement(*block) for block in self._blocks(x, sigma)]).reshape(x.shape)

    def denoise(self, x: Tensor, sigma: Sigma) -> Tensor:
        """E[X | X + sigma Z = x] in closed form. x: (B, *image_shape)."""
        return x + self.displacement(x, sigma)

    def log_prob(self, x: Tensor, sigma: Sigma) -> Tensor:
        """log p_sigma(x), (B,), natural logarithm, normalised. x: (B, *image_shape)."""
        return torch.cat([self._log_joint(*block)[0].logsumexp(1) for block in self._blocks(x, sigma)])

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """n exact draws of the mixture itself, (n, *image_shape)."""
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        generator = torch.Generator(self.offsets.device).manual_seed(seed)
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        z = torch.randn(
            self.offsets[k].shape, generator=generator, dtype=self.offsets.dtype, device=self.offsets.device
        )
        return (self.center + self.offsets[k] + self.colour(z, k)).reshape(n, *self.image_shape)

    def colour(self, z: Tensor, k: Tensor) -> Tensor:
        """C_k^(1/2) z for flat white noise z (n, d) and component indices k (n,)."""
        z = self.variances[k].sqrt() * z
        return z if self.rotations is None else torch.einsum("nij,nj->ni", self.rotations[k], z)

    def _blocks(self, x: Tensor, sigma: Sigma) -> list[tuple[Tensor, Tensor]]:
        """Flat, centred blocks of items with their noise levels () or (b, 1)."""
        self.check_shape(x)
        sigma = sigma_per_item(sigma, x)
        flat = x.flatten(1) - self.center.to(x.dtype)
        entries = len(self.offsets) * (1 if self.isotropic else flat.shape[1])
        size = max(1, BLOCK_ENTRIES // entries)
        if len(x) <= size:
            return [(flat, sigma.reshape(-1, 1) if sigma.ndim else sigma)]
        levels = sigma.expand(len(x), *[1] * (x.ndim - 1)).reshape(-1, 1)
        return list(zip(flat.split(size), levels.split(size), strict=True))

    def _log_joint(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """log(w_k N(x; m_k, C_k + sigma^2 I)), (b, K), and what the displacement needs besides."""
        d = x.shape[1]
        if self.isotropic:
            total = self.variances[:, 0].to(x.dtype) + sigma**2
            distances = self._squared_distances(x, total)
            log_joint = self.log_weights - 0.5 * (distances / total + d * torch.log(2 * math.pi * total))
            return log_joint.to(x.dtype), total
        total = self.variances.to(x.dtype) + (sigma**2)[..., None]
        difference = self._rotate(x[:, None] - self.offsets.to(x.dtype))
        exponent = (difference**2 / total).sum(2) + torch.log(2 * math.pi * total).sum(-1)
        return self.log_weights.to(x.dtype) - 0.5 * exponent, difference / total

    def _displacement(self, x: Tensor, sigma: Tensor) -> Tensor:
        log_joint, extra = self._log_joint(x, sigma)
        responsibilities = log_joint.softmax(1)
        if self.isotropic:
            pull = responsibilities * (sigma**2 / extra)
            return pull @ self.offsets.to(x.dtype) - pull.sum(1, keepdim=True) * x
        pull = extra * responsibilities[..., None]
        if self.rotations is not None:
            return -(sigma**2) * torch.einsum("kij,bkj->bi", self.rotations.to(x.dtype), pull)
        return -(sigma**2) * pull.sum(1)

    def _rotate(self, difference: Tensor) -> Tensor:
        """Coordinates of (b, K, d) differences in each component's own axes."""
        if self.rotations is None:
            return difference
        return torch.einsum("kij,bki->bkj", self.rotations.to(difference.dtype), difference)

    def _squared_distances(self, x: Tensor, total: Tensor) -> Tensor:
        """|x - m_k|^2 by one matrix product, in float64 where cancellation would show in the exponent."""
        error = torch.finfo(x.dtype).eps * (self._largest_norm / total.detach().min() + x.shape[1])
        dtype = torch.float64 if error > 1e-2 else x.dtype
        x, offsets = x.to(dtype), self.offsets.to(dtype)
        norms = x.square().sum(1, keepdim=True)
        return (norms + offsets.square().sum(1) - 2 * x @ offsets.T).clamp_min(0)


def _spectrum(covariances: Tensor, count: int, d: int) -> tuple[Tensor, Tensor | None]:
    """Eigenvalues (K, 1 or d) and, for full matrices, eigenvectors (K, d, d)."""
    if covariances.shape == (count,):
        variances, rotations = covariances[:, None], None
    elif covariances.shape == (count, d):
        variances, rotations = covariances, None
    elif covariances.shape == (count, d, d):
        if not torch.allclose(covariances, covariances.mT, rtol=1e-4, atol=1e-7):
            raise ValueError("covariances must be symmetric matrices, got some that are not")
        variances, rotations = torch.linalg.eigh(covariances)
        tolerance = 10 * d * torch.finfo(variances.dtype).eps * variances.abs().amax(1, keepdim=True)
        variances = torch.where(variances.abs() <= tolerance, variances.clamp_min(0), variances)
    else:
        raise ValueError(
            f"covariances must have shape ({count},), ({count}, {d}) or ({count}, {d}, {d}), "
            f"got {tuple(covariances.shape)}"
        )
    if not bool((torch.isfinite(variances) & (variances >= 0)).all()):
        raise ValueError("covariances must be finite with no negative variance, got some that are not")
    return variances, rotations


def _log_weights(weights: Tensor | None, means: Tensor) -> Tensor:
    if weights is None:
        return torch.full((len(means),), -math.log(len(means)), dtype=means.dtype, device=means.device)
    weights = torch.as_tensor(weights, dtype=means.dtype, device=means.device)
    if weights.shape != (len(means),):
        raise ValueError(f"weights must have shape ({len(means)},), got {tuple(weights.shape)}")
    if not bool((torch.isfinite(weights) & (weights >= 0)).all()) or not weights.sum() > 0:
        raise ValueError("weights must be finite, non-negative and not all zero")
    return torch.log(weights / weights.sum())
