"""Exact posteriors on a manifold: quadrature over its chart, with any likelihood.

With p the density of the prior with respect to the volume, the posterior is p(m) p(y | m) d vol(m) up to a constant;
with a maximum-entropy prior it is p(y | m) d vol(m) (Li et al. 2025, Theorem 6.1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Protocol

import torch
from deepinv.physics import Physics
from torch import Tensor

import operators
from priors.base import Prior
from priors.charts import draw, lattice_nodes, lattice_weights
from priors.manifold import Manifold
from priors.maximum_entropy import MaximumEntropy
from priors.perturbed import Perturbed

# First lattice, nodes per coordinate, and by how much it grows until the log-evidence stands still: the lattices that
# fit are 12, 18, 27, 41, 62 nodes of four coordinates and 12, 18, 27 of five.
FIRST_NODES = {1: 1024, 2: 64, 3: 24, 4: 12, 5: 12}
GROWTH = {1: 2.0, 2: 2.0, 3: 2.0, 4: 1.5, 5: 1.5}
TOLERANCE = 1e-4
# Log-weights of all measurements together, and pixels of the points that are evaluated at once.
MAX_WEIGHTS = 2**24
MAX_PIXELS = 2**22


class HasLikelihood(Protocol):
    """What is needed of a likelihood."""

    def nll(self, x: Tensor, y: Tensor) -> Tensor:
        """-log p(y | x), (B,)."""


class ManifoldPosterior:
    """The posterior of a point of a manifold, for each measurement, by quadrature.

    prior: `priors.Manifold`, or a `MaximumEntropy` or `Perturbed` around one. MaximumEntropy with alpha > 0 or the
    cancelled score means the uniform density; the error of Perturbed is no part of the target. physics, y (B, ...): the
    measurement. likelihood: has nll(x, y) -> (B,); None takes it from the physics. maximum_entropy: use the uniform
    density whatever the prior says. nodes: of the first lattice, per coordinate.

    The lattice is doubled (on more than three coordinates, made finer by half) until the log-evidence of every
    measurement changes by less than 1e-4, which for the periodic trapezoid rule and for Gauss-Legendre leaves far less.
    Raises TypeError for another prior, ValueError for a manifold without a chart of at most five coordinates and where
    no lattice of 2^24 weights is fine enough: on five coordinates a posterior narrower than about 0.25 in some angle.
    """

    def __init__(
        self,
        prior: Prior,
        physics: Physics,
        y: Tensor,
        likelihood: HasLikelihood | None = None,
        maximum_entropy: bool = False,
        nodes: int | None = None,
    ) -> None:
        prior, uniform = _unwrap(prior)
        manifold = prior.manifold
        if not manifold.axes or manifold.dim not in FIRST_NODES:
            raise ValueError(
                f"prior must be on a manifold with a chart of at most 5 coordinates to be integrated, got {manifold!r}"
            )
        self.prior, self.physics, self.y = prior, physics, y.detach()
        self.maximum_entropy = uniform or maximum_entropy
        self._likelihood = operators.likelihood(physics) if likelihood is None else likelihood
        self._refine(FIRST_NODES[manifold.dim] if nodes is None else nodes)

    @property
    def nodes(self) -> Tensor:
        """Points of the lattice, (K, *image_shape), float64."""
        return torch.cat([self.prior.manifold.point(u) for u in self._parts()])

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """n independent draws for each measurement, (n, B, *image_shape); error of the law below 1e-6.

        Draws are from the continuous posterior, not from the nodes (`priors.charts.draw`).
        """
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        values = self.log_weights - self._log_cells
        generator = torch.Generator().manual_seed(seed)
        u = draw(self.prior.manifold.axes, self.counts, values.cpu(), self._log_density, n, generator)
        return self.prior.manifold.point(u).to(self.y.device, self.y.real.dtype)

    def mean(self) -> Tensor:
        """Posterior mean, (B, *image_shape)."""
        return self._expectation(lambda m: m).to(self.y.real.dtype)

    def std(self) -> Tensor:
        """Posterior standard deviation of every pixel, (B, *image_shape)."""
        center = self._expectation(lambda m: m)
        shift = center.mean(0)  # near every mean, so that the difference of squares does not cancel
        second = self._expectation(lambda m: (m - shift) ** 2)
        return (second - (center - shift) ** 2).clamp_min(0).sqrt().to(self.y.real.dtype)

    def _expectation(self, function: Callable[[Tensor], Tensor]) -> Tensor:
        """sum_k w_k function(m_k), (B, *image_shape), float64."""
        weights = self.log_weights.exp()
        parts = zip(weights.split(self._rows(), dim=1), self._parts(), strict=True)
        sums = [w @ function(self.prior.manifold.point(u)).to(w).flatten(1) for w, u in parts]
        return torch.stack(sums).sum(0).reshape(-1, *self.prior.manifold.image_shape)

    def _refine(self, count: int) -> None:
        previous, tried = None, count
        while count**self.prior.manifold.dim * len(self.y) <= MAX_WEIGHTS:
            self.counts = [count] * self.prior.manifold.dim
            log_values = torch.cat([self._log_values(u) for u in self._parts()], dim=1)
            self._log_cells = lattice_weights(self.prior.manifold.axes, self.counts).log().to(log_values)
            log_mass = log_values + self._log_cells
            evidence = log_mass.logsumexp(1)
            if previous is not None and bool(((evidence - previous).abs() < TOLERANCE).all()):
                self.log_weights = log_mass - evidence[:, None]
                return
            previous, tried, count = evidence, count, math.ceil(GROWTH[self.prior.manifold.dim] * count)
        raise ValueError(
            f"physics must leave a posterior wider than the cells of {MAX_WEIGHTS} weights on {self.prior.manifold!r}, "
            f"got one that {tried} nodes per coordinate do not resolve for {len(self.y)} measurements"
        )

    def _rows(self) -> int:
        """Nodes whose points are formed at once."""
        return max(1, MAX_PIXELS // (len(self.y) * math.prod(self.prior.manifold.image_shape)))

    def _parts(self) -> Iterator[Tensor]:
        """Coordinates of the nodes, so many at a time."""
        total, rows = math.prod(self.counts), self._rows()
        for start in range(0, total, rows):
            index = torch.arange(start, min(start + rows, total))
            yield lattice_nodes(self.prior.manifold.axes, self.counts, index)

    def _log_values(self, u: Tensor) -> Tensor:
        """Log-density with respect to the coordinates of every measurement at u (K, dim), (B, K)."""
        batch = len(self.y)
        item = torch.arange(len(u) * batch) % batch
        return self._log_density(u.repeat_interleave(batch, 0), item).reshape(len(u), batch).T

    def _log_density(self, u: Tensor, item: Tensor) -> Tensor:
        """Log-density of measurement item (N,) at coordinates u (N, dim), up to a constant, (N,), float64."""
        manifold = self.prior.manifold
        points = manifold.point(u)
        physics = operators.per_image(self.physics, item.to(self.y.device))
        likelihood = self._likelihood if physics is self.physics else operators.likelihood(physics)
        with torch.no_grad():
            nll = likelihood.nll(points.to(self.y.device, self.y.real.dtype), self.y[item.to(self.y.device)])
        total = manifold.log_element(u) - nll.to(u)
        return total if self.maximum_entropy else total + self.prior.log_density_on(points)


def _unwrap(prior: Prior) -> tuple[Manifold, bool]:
    """The Manifold inside, and whether its density is to be left out."""
    uniform = False
    while isinstance(prior, MaximumEntropy | Perturbed):
        if isinstance(prior, MaximumEntropy):
            uniform = uniform or prior.method == "cancelled" or prior.alpha > 0
        prior = prior.prior
    if not isinstance(prior, Manifold):
        raise TypeError(f"prior must be a Manifold, or MaximumEntropy or Perturbed of one, got {type(prior).__name__}")
    return prior, uniform
