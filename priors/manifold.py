"""Laws on a known manifold: exact denoiser, score, density and draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, cast

import torch
from torch import Tensor

from .base import Prior, Sigma, sigma_per_item
from .chart_laws import chart_law
from .manifolds import (
    Embedded,
    Factorised,
    InCoordinates,
    LogDensity,
    PhaseTorus,
    Product,
    Sphere,
    Submanifold,
    VonMisesFisher,
    VonMisesFisherMixture,
)
from .matched_filter import MatchedFilterLaw
from .von_mises_fisher import VonMisesFisherLaw, VonMisesFisherMixtureLaw


class SmoothedLaw(Protocol):
    """A law of vectors smoothed by noise; x is (B, d) and sigma (B, 1), float64."""

    def displacement(self, x: Tensor, sigma: Tensor) -> Tensor: ...

    def log_prob(self, x: Tensor, sigma: Tensor) -> Tensor: ...

    def sample(self, n: int, generator: torch.Generator) -> Tensor: ...


class _ProductLaw:
    """Independent factors: displacements side by side, log-densities added."""

    def __init__(self, manifold: Product, laws: Sequence[SmoothedLaw]) -> None:
        self.manifold, self.laws = manifold, laws

    def displacement(self, x: Tensor, sigma: Tensor) -> Tensor:
        parts = zip(self.laws, self.manifold.split(x), strict=True)
        return torch.cat([law.displacement(part, sigma) for law, part in parts], dim=-1)

    def log_prob(self, x: Tensor, sigma: Tensor) -> Tensor:
        parts = zip(self.laws, self.manifold.split(x), strict=True)
        return torch.stack([law.log_prob(part, sigma) for law, part in parts]).sum(0)

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.cat([law.sample(n, generator) for law in self.laws], dim=-1)


def _law(manifold: Submanifold, log_density: LogDensity | Factorised | None, nodes: int | None) -> SmoothedLaw:
    """Closed form where there is one, factor by factor on products, else quadrature."""
    if isinstance(manifold, Product) and (log_density is None or isinstance(log_density, Factorised)):
        parts = [None] * len(manifold.factors) if log_density is None else log_density.parts
        if len(parts) != len(manifold.factors):
            raise ValueError(f"log_density must have {len(manifold.factors)} parts for {manifold!r}, got {len(parts)}")
        return _ProductLaw(manifold, [_law(m, f, nodes) for m, f in zip(manifold.factors, parts, strict=True)])
    if isinstance(manifold, Sphere) and (log_density is None or isinstance(log_density, VonMisesFisher)):
        return VonMisesFisherLaw(manifold, log_density)
    if isinstance(manifold, Sphere) and isinstance(log_density, VonMisesFisherMixture):
        return VonMisesFisherMixtureLaw(manifold, log_density)
    if isinstance(log_density, Factorised):
        raise ValueError(f"log_density may be Factorised on a Product alone, got it on {manifold!r}")
    if isinstance(manifold, PhaseTorus):
        return MatchedFilterLaw(manifold, log_density, nodes)
    return chart_law(manifold, log_density, nodes)


def _log_density(manifold: Submanifold, log_density: LogDensity | Factorised | None, points: Tensor) -> Tensor:
    if log_density is None:
        return points.new_zeros(points.shape[:-1])
    if isinstance(log_density, Factorised):
        manifold = cast(Product, manifold)  # `_law` refuses it on anything else
        factors = zip(manifold.factors, log_density.parts, manifold.split(points), strict=True)
        return torch.stack([_log_density(m, f, p) for m, f, p in factors]).sum(0)
    return log_density(points)


def _inside(log_density: LogDensity | Factorised | None) -> LogDensity | Factorised | None:
    """The density as one of points inside: the coordinates of an embedded manifold are those of the one inside it."""
    if isinstance(log_density, InCoordinates) and isinstance(log_density.manifold, Embedded):
        return InCoordinates(log_density.manifold.manifold, log_density.log_density)
    return log_density


class Manifold(Prior):
    """The law of a point of a manifold drawn from a density with respect to its volume.

    Uniform and von Mises-Fisher laws on circles and spheres of any dimension, and mixtures of the latter, are in closed
    form (Bessel ratios). Any other density is integrated by quadrature that follows sigma down (`priors.chart_laws`):
    on circle, ellipse, torus and their products (three coordinates together), on spheres of at most five dimensions and
    jointly on products of two spheres or circles (five coordinates together) or three (four); on the shifts of an image
    by a matched filter (`priors.matched_filter`). Products of independent factors and isometric embeddings are reduced
    to their parts exactly. Computed in float64 whatever the dtype of x, and returned in that: the displacement D - x is
    formed without rounding to x, so that scores are right at sigma = 1e-3 and below also in float32.

    manifold: one of `priors.manifolds`. log_density: maps points (..., d) to (...), unnormalised, with respect to the
    volume; None is uniform. On an `Embedded` manifold it is given points of the manifold inside, in its own space;
    `InCoordinates` serves for either.
    nodes: quadrature nodes per coordinate that resolve the density; None is 256, 64, 32, 24 or 18 for one to five, the
    last of which resolves exp(3 cos t) of an angle t to 1e-12, or more if the density asks for them. Time and memory
    grow with nodes^dim at large sigma: on the sphere S^5 a callable takes seconds to build and seconds for 8 points at
    sigma = 1, but little at small sigma.
    Warns (UserWarning) of a log_density that is not resolved by as many nodes as are given, or as fit: two rules that
    differ by more than 1e-6 in the logarithm of its integral.
    """

    def __init__(
        self,
        manifold: Submanifold,
        log_density: LogDensity | Factorised | None = None,
        nodes: int | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(manifold, Submanifold):
            raise TypeError(f"manifold must be one of priors.manifolds, got {type(manifold).__name__}")
        if not (log_density is None or callable(log_density) or isinstance(log_density, Factorised)):
            raise TypeError(f"log_density must be None or callable on points, got {type(log_density).__name__}")
        if nodes is not None and (int(nodes) != nodes or nodes < 1):
            raise ValueError(f"nodes must be a positive integer, got {nodes}")
        self.manifold, self.log_density = manifold, log_density
        self.image_shape = manifold.image_shape
        # Nothing but the part of x in the embedded manifold's own space needs a law.
        self._inside = manifold.manifold if isinstance(manifold, Embedded) else manifold
        self._density = _inside(log_density)
        self._law = _law(self._inside, self._density, nodes)

    def _prepare(self, x: Tensor, sigma: Sigma) -> tuple[Tensor, Tensor]:
        self.check_shape(x)
        if not x.is_floating_point():
            raise TypeError(f"x must be of a real floating-point dtype, got {x.dtype}")
        x = x.double()
        level = sigma.double() if isinstance(sigma, Tensor) else sigma
        return x, sigma_per_item(level, x).reshape(-1, 1).expand(len(x), 1)

    def displacement(self, x: Tensor, sigma: Sigma) -> Tensor:
        """D(x, sigma) - x, like x (B, *image_shape)."""
        y, level = self._prepare(x, sigma)
        if not isinstance(self.manifold, Embedded):
            return self._law.displacement(y, level).to(x.dtype)
        inner = self.manifold.inner(y)
        basis, flat = self.manifold.basis.to(y.device), self.manifold.flatten(y) - self.manifold.center.to(y.device)
        # The part of x across the space inside, x - E E^T x, comes off with the rest: one product with E less.
        denoised = self._law.displacement(inner, level) + inner
        return (denoised @ basis.T - flat).reshape(x.shape).to(x.dtype)

    def denoise(self, x: Tensor, sigma: Sigma) -> Tensor:
        """E[X | X + sigma Z = x], like x (B, *image_shape)."""
        return x + self.displacement(x, sigma)

    def log_prob(self, x: Tensor, sigma: Sigma) -> Tensor:
        """log p_sigma(x), normalised, (B,)."""
        y, level = self._prepare(x, sigma)
        if not isinstance(self.manifold, Embedded):
            return self._law.log_prob(y, level).to(x.dtype)
        inner = self.manifold.inner(y)
        flat = self.manifold.flatten(y) - self.manifold.center.to(y.device)
        normal = flat - inner @ self.manifold.basis.to(y.device).T
        codimension = normal.shape[1] - inner.shape[1]
        variance = level[:, 0] ** 2
        across = -(normal**2).sum(-1) / (2 * variance) - codimension / 2 * (2 * math.pi * variance).log()
        return (self._law.log_prob(inner, level) + across).to(x.dtype)

    def log_density_on(self, points: Tensor) -> Tensor:
        """Log-density with respect to the volume at points of the manifold (..., *image_shape), unnormalised, (...)."""
        inner = self.manifold.inner(points) if isinstance(self.manifold, Embedded) else points
        return _log_density(self._inside, self._density, inner)

    def radius(self, image_shape: tuple[int, ...]) -> float:
        """Root mean square distance of X from its mean, in units of the data, from 4,096 draws (1% of it)."""
        points = self._law.sample(4096, torch.Generator().manual_seed(0))
        return float((points - points.mean(0)).square().sum(1).mean().sqrt())

    def sample(self, n: int, seed: int = 0, dtype: torch.dtype | None = None) -> Tensor:
        """n draws on the manifold, (n, *image_shape), of a dtype; None is torch's default."""
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        points = self._law.sample(n, torch.Generator().manual_seed(seed))
        if isinstance(self.manifold, Embedded):
            points = self.manifold.outer(points)
        return points.to(dtype or torch.get_default_dtype())
