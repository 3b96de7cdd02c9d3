"""Quadrature over one bump: exp(-|x - m(u)|^2 / (2 sigma^2)) f(u) on a chart, about the point nearest to x.

With H the second derivatives of |x - m(u)|^2 / 2 at the nearest u* and L L^T = sigma^2 H^-1, the bump is
exp(-|xi|^2 / 2) in u = u* + L xi to leading order. On these coordinates stands either the trapezoid rule on a disc (see
`priors.chart_laws` for its error) or, where sigma is so small that little but the leading order is left, a product of
Gauss-Hermite rules.

That no other part of the manifold counts is shown for every x, from the reach r of the manifold and the distance d to
it: the points of M within a ball about x of radius below r are connected (Federer 1959, Theorem 4.8), so that if
q(u) = (|x - m(u)|^2 - d^2) / (2 sigma^2) is above a level everywhere on a closed curve about u*, and
d^2 + 2 sigma^2 level < r^2, then it is so outside the curve as well.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from .submanifold import Submanifold

SPACING = 0.85
# Nodes of weight below exp(-TAIL) of the largest are left out. Radii of the discs that are tried, sqrt(2 TAIL) = 7.5
# being that of a Gaussian bump, and directions in which they are checked.
TAIL = 28.0
RADII = (7.8, 8.8, 10.5)
DIRECTIONS = 24
# Gauss-Hermite nodes per coordinate, and up to which sigma times curvature they are right to a relative 1e-9: the
# bump's cubic term c, at most half of that, enters as c^6; a wave k of the density, |k L| <= 1/2, as |k L|^16 / 1e13.
HERMITE, FLAT = 8, 0.01
DIFFERENCE = 1e-3


class Rule(NamedTuple):
    """Nodes xi (k, dim) and the logarithms of their weights (k,), for integrals over xi."""

    xi: Tensor
    log_weights: Tensor


class Bumps(NamedTuple):
    """rule (B,): index of the rule that is enough, -1 where none is. u (B, dim) nearest point, root L (B, dim, dim)."""

    rule: Tensor
    u: Tensor
    root: Tensor

    def of(self, which: Tensor) -> Bumps:
        return Bumps(*(t[which] for t in self))


def disc(dim: int, radius: float) -> Rule:
    """Trapezoid rule on the nodes within a radius."""
    count = math.floor(radius / SPACING)
    side = SPACING * torch.arange(-count, count + 1, dtype=torch.float64)
    xi = torch.cartesian_prod(*[side] * dim).reshape(-1, dim)
    xi = xi[torch.linalg.vector_norm(xi, dim=1) <= radius]
    return Rule(xi, torch.full_like(xi[:, 0], dim * math.log(SPACING)))


def gauss_hermite(dim: int) -> Rule:
    """Rule for exp(-|xi|^2 / 2) times a polynomial, with that factor in the integrand."""
    nodes, weights = map(torch.from_numpy, np.polynomial.hermite_e.hermegauss(HERMITE))
    log_weights = weights.log() + nodes**2 / 2
    xi = torch.cartesian_prod(*[nodes] * dim).reshape(-1, dim)
    return Rule(xi, torch.cartesian_prod(*[log_weights] * dim).reshape(-1, dim).sum(1))


class BumpRules:
    """The rules for a manifold of one or two coordinates; x is (B, d) and sigma (B, 1), both float64.

    slope: bound on the slope of the integrand's logarithm without the Gaussian factor, per unit of length. nodes:
    resolution of that factor, nodes per coordinate.
    """

    def __init__(self, manifold: Submanifold, slope: float, nodes: int) -> None:
        self.manifold, self.slope, self.nodes = manifold, slope, nodes
        self.rules = [gauss_hermite(manifold.dim), *(disc(manifold.dim, radius) for radius in RADII)]
        angle = 2 * math.pi * torch.arange(DIRECTIONS, dtype=torch.float64) / DIRECTIONS
        plane = torch.stack([angle.cos(), angle.sin()], dim=1)
        self.directions = plane if manifold.dim == 2 else torch.tensor([[1.0], [-1.0]], dtype=torch.float64)

    def choose(self, x: Tensor, sigma: Tensor) -> Bumps:
        """For each x the cheapest rule that can be shown to be enough."""
        u = self.manifold.coordinates(self.manifold.project(x))
        nearest = self.manifold.point(u)
        squared = (x - nearest).square().sum(1)
        share = squared.sqrt() / self.manifold.reach
        root, convex = self._root(x, u, sigma)
        rule = torch.full_like(u[:, 0], -1, dtype=torch.long)
        for k in range(len(RADII), 0, -1):
            points = self.manifold.point(u[:, None] + RADII[k - 1] * self.directions.to(x) @ root.mT)
            rise = (points - x[:, None]).square().sum(-1) - squared[:, None]
            away = torch.linalg.vector_norm(points - nearest[:, None], dim=-1)
            level = TAIL + self.slope * away
            reached = squared + 2 * (sigma[:, 0] ** 2) * level.amax(1) < self.manifold.reach**2
            rule[(rise >= 2 * sigma**2 * level).all(1) & reached & convex] = k
        flat = sigma[:, 0] * self.manifold.curvature <= FLAT * (1 - share)
        smooth = torch.linalg.matrix_norm(root) * self.nodes <= 1
        rule[(rule > 0) & flat & smooth] = 0
        return Bumps(rule, u, root)

    def _root(self, x: Tensor, u: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """L (B, dim, dim) by second differences, and where they are positive definite, (B,)."""
        dim = u.shape[1]

        def height(*steps: tuple[int, int]) -> Tensor:
            v = u.clone()
            for axis, step in steps:
                v[:, axis] += step * DIFFERENCE
            return (self.manifold.point(v) - x).square().sum(1) / (2 * DIFFERENCE**2)

        middle = height()
        sides = [height((i, 1)) + height((i, -1)) - 2 * middle for i in range(dim)]
        bend = torch.diag_embed(torch.stack(sides, dim=1))
        if dim == 2:
            both = height((0, 1), (1, 1)) + height((0, -1), (1, -1)) - 2 * middle
            bend[:, 0, 1] = bend[:, 1, 0] = (both - sides[0] - sides[1]) / 2
        lower, info = torch.linalg.cholesky_ex(bend)
        convex = (info == 0) & (lower.diagonal(dim1=1, dim2=2) > 0).all(1)
        eye = torch.eye(dim, dtype=u.dtype, device=u.device)
        lower = lower.where(convex[:, None, None], eye)
        inverse = torch.linalg.solve_triangular(lower, eye.expand_as(lower), upper=False)
        return sigma[:, :, None] * inverse.mT, convex

    def nodes_of(self, bumps: Bumps, k: int) -> tuple[Tensor, Tensor]:
        """Coordinates (B, k, dim) of the nodes of rule k and the logarithms of their weights (B, k), for du."""
        rule = self.rules[k]
        volume = bumps.root.diagonal(dim1=1, dim2=2).log().sum(1, keepdim=True)
        return bumps.u[:, None] + rule.xi.to(bumps.u) @ bumps.root.mT, rule.log_weights.to(bumps.u) + volume
