"""Coordinates of a manifold as a box: quadrature on a lattice of it, and draws from a density known at its nodes."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class Axis(NamedTuple):
    """One coordinate of a chart: an interval, closed into a circle when periodic."""

    low: float
    high: float
    periodic: bool


ANGLE = Axis(0.0, 2 * math.pi, periodic=True)


@functools.lru_cache(maxsize=64)
def axis_rule(axis: Axis, count: int) -> tuple[Tensor, Tensor]:
    """Nodes and weights, (count,) in float64: trapezoid rule on a periodic axis, Gauss-Legendre on an interval."""
    length = axis.high - axis.low
    if axis.periodic:
        nodes = axis.low + torch.arange(count, dtype=torch.float64) * (length / count)
        return nodes, torch.full((count,), length / count, dtype=torch.float64)
    nodes, weights = map(torch.from_numpy, np.polynomial.legendre.leggauss(count))
    return axis.low + (nodes + 1) * (length / 2), weights * (length / 2)


def lattice(axes: Sequence[Axis], counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Product rule: coordinates (K, dim) and weights (K,), last axis fastest, K = the product of counts."""
    return lattice_nodes(axes, counts, torch.arange(math.prod(counts))), lattice_weights(axes, counts)


def lattice_nodes(axes: Sequence[Axis], counts: Sequence[int], index: Tensor) -> Tensor:
    """Coordinates of the nodes of these indices (k,) in a lattice, (k, dim)."""
    places = torch.unravel_index(index, tuple(counts))
    rules = [axis_rule(axis, count) for axis, count in zip(axes, counts, strict=True)]
    return torch.stack([rule[0][place] for rule, place in zip(rules, places, strict=True)], dim=1)


def lattice_weights(axes: Sequence[Axis], counts: Sequence[int]) -> Tensor:
    """Weights of a lattice, (K,)."""
    rules = [axis_rule(axis, count) for axis, count in zip(axes, counts, strict=True)]
    return functools.reduce(lambda a, b: (a[:, None] * b).flatten(), [rule[1] for rule in rules])


class _Interpolant:
    """The density through the node values: linear along periodic axes, constant on a cell along the others.

    The cells of an interval are bounded by the sums of the Gauss weights, between which the nodes lie
    (Chebyshev-Markov-Stieltjes), so that a node's quadrature weight is the volume of its cell.
    """

    def __init__(self, axes: Sequence[Axis], counts: Sequence[int], log_values: Tensor) -> None:
        """log_values: (B, K) logarithm of a density with respect to the coordinates, at the lattice nodes."""
        self.axes, self.counts = axes, counts
        self.peak = log_values.amax(dim=1)
        self.values = (log_values - self.peak[:, None]).exp()
        self.cumulative = (self.values * lattice_weights(axes, counts)).cumsum(dim=1)
        rules = [axis_rule(axis, count) for axis, count in zip(axes, counts, strict=True)]
        self.widths = [rule[1] for rule in rules]
        self.edges = [
            axis.low + torch.cat([rule[1].new_zeros(1), rule[1].cumsum(0)])
            for axis, rule in zip(axes, rules, strict=True)
        ]

    def draw(self, item: Tensor, generator: torch.Generator) -> Tensor:
        """One draw for each entry of item (N,), which says whose values to use. Returns (N, dim)."""
        level = torch.rand(len(item), dtype=torch.float64, generator=generator) * self.cumulative[item, -1]
        batch, size = self.cumulative.shape
        offset = 2.0 * torch.arange(batch, dtype=torch.float64)
        # One sorted search for all items: each item's distribution function lifted by its own offset.
        ladder = (self.cumulative / self.cumulative[:, -1:] + offset[:, None]).reshape(-1)
        index = torch.searchsorted(ladder, level / self.cumulative[item, -1] + offset[item], right=True) - item * size
        index = index.clamp(0, size - 1)
        columns, remainder = [], index
        for axis, count, width, edges in zip(
            self.axes[::-1], self.counts[::-1], self.widths[::-1], self.edges[::-1], strict=True
        ):
            i, remainder = remainder % count, remainder // count
            jitter = torch.rand(2, len(item), dtype=torch.float64, generator=generator)
            if axis.periodic:
                u = axis.low + (i + jitter[0] - jitter[1]) * width[0] - axis.low
                columns.append(axis.low + u.remainder(axis.high - axis.low))
            else:
                columns.append(edges[i] + jitter[0] * width[i])
        return torch.stack(columns[::-1], dim=1)

    def log_density(self, u: Tensor, item: Tensor) -> Tensor:
        """Logarithm of the interpolant at u (N, dim), (N,)."""
        stencils = []
        for k, (axis, count) in enumerate(zip(self.axes, self.counts, strict=True)):
            if axis.periodic:
                position = (u[:, k] - axis.low) / self.widths[k][0]
                left = position.floor()
                share = position - left
                left = left.long() % count
                stencils.append([(left, 1 - share), ((left + 1) % count, share)])
            else:
                cell = torch.searchsorted(self.edges[k], u[:, k].contiguous(), right=True) - 1
                stencils.append([(cell.clamp(0, count - 1), torch.ones_like(u[:, k]))])
        total = torch.zeros(len(u), dtype=torch.float64)
        for corner in product(*stencils):
            index, weight = torch.zeros_like(item), torch.ones_like(total)
            for (i, share), count in zip(corner, self.counts, strict=True):
                index, weight = index * count + i, weight * share
            total += weight * self.values[item, index]
        return total.log() + self.peak[item]


def draw(
    axes: Sequence[Axis],
    counts: Sequence[int],
    log_values: Tensor,
    log_density: Callable[[Tensor, Tensor], Tensor],
    n: int,
    generator: torch.Generator,
    steps: int | None = None,
) -> Tensor:
    """n coordinates for each of B densities, (n, B, dim), float64.

    Draws from the interpolant of the node values, then corrects its error by `steps` independence Metropolis-Hastings
    steps, each of which multiplies what is left by at most 1 - 1/M, M the largest ratio of density to interpolant; M
    is 1.1 on a lattice with two nodes per standard deviation, so that the error ends below 1e-6. steps: None is 6, and
    as many as the largest ratio among the first draws asks for on four coordinates or more, whose lattices are coarse.

    log_values: (B, K) at the nodes of `lattice(axes, counts)`; log_density: (u (N, dim), item (N,)) -> (N,), the same
    function anywhere. Both are with respect to the coordinates, and need no normalisation.
    """
    interpolant = _Interpolant(axes, counts, log_values)
    item = torch.arange(len(log_values)).repeat(n)
    u = interpolant.draw(item, generator)
    excess = log_density(u, item) - interpolant.log_density(u, item)
    if steps is None:
        steps = _steps(excess.reshape(n, -1)) if len(axes) > 3 else 6
    for _ in range(steps):
        candidate = interpolant.draw(item, generator)
        candidate_excess = log_density(candidate, item) - interpolant.log_density(candidate, item)
        uniform = torch.rand(len(item), dtype=torch.float64, generator=generator)
        accept = uniform.log() < candidate_excess - excess
        u = torch.where(accept[:, None], candidate, u)
        excess = torch.where(accept, candidate_excess, excess)
    return u.reshape(n, len(log_values), len(axes))


def _steps(excess: Tensor) -> int:
    """Steps that leave (1 - 1/M)^steps < 1e-6, by log-ratios (n, B) of density to interpolant at the first draws."""
    largest = float((excess.amax(0) - excess.logsumexp(0)).amax().exp()) * len(excess)
    return 6 if largest <= 1.1 else math.ceil(math.log(1e-6) / math.log1p(-1 / largest))
