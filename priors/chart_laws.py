"""Any density on a manifold with a chart, smoothed by Gaussian noise, by quadrature.

With m the points of M, f the density and J the volume element of the chart,

    D(x, sigma) - x = sum_j w_j (m_j - x),    w_j proportional to f(m_j) J_j h exp(-|x - m_j|^2 / (2 sigma^2)),
    log p_sigma(x)  = log sum_j f(m_j) J_j h exp(-|x - m_j|^2 / (2 sigma^2)) - log Z - d/2 log(2 pi sigma^2).

On a periodic chart the trapezoid rule is used, whose error for a Gaussian bump of deviation s is of order
exp(-2 pi^2 s^2 / h^2): a spacing of 0.85 s leaves 1e-12. Away from the manifold on its convex side the bump narrows to
sigma / sqrt(1 + curvature * distance), and the spacing with it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import TypeGuard, cast

import torch
from torch import Tensor

from .bumps import SPACING, BumpRules, Bumps
from .charts import draw, lattice
from .manifolds import Circle, InCoordinates, LogDensity, Product, Sphere, Submanifold
from .polar import PolarRule

COARSE = 16
# Nodes whose weight is below exp(-CUT) of the largest are left out; densities of a wide range get a larger cut.
CUT = 34.0
DIRECT = 2**14
MEMORY = 2**22
CACHE = 2**18
DEFAULT_NODES = {1: 256, 2: 64, 3: 32, 4: 24, 5: 18}
# Of exponents (B, k) of nodes (k, d) or (B, k, d) about x (B, d).
Reduce = Callable[[Tensor, Tensor, Tensor], Tensor]
Evaluate = Callable[[Reduce, Tensor, Tensor], Tensor]
# Nodes of a table cost so much less than those that are computed for every x.
CHEAPER = 6


class ChartLaw:
    """What every law by quadrature shares: the density on the chart, its normalisation and its draws."""

    def __init__(self, manifold: Submanifold, log_density: LogDensity | None, nodes: int | None) -> None:
        self.manifold, self.log_density = manifold, log_density
        self.size = manifold.image_shape[0]
        self.nodes = DEFAULT_NODES[manifold.dim] if nodes is None else nodes
        self.counts = [self.nodes] * manifold.dim
        u, weights = lattice(manifold.axes, self.counts)
        values = torch.cat([self.log_values(part) for part in u.split(CACHE)])
        self.node_values = values
        self.log_normaliser = float((values + weights.log()).logsumexp(0))
        if not math.isfinite(self.log_normaliser):
            raise ValueError(f"log_density must be finite somewhere and never NaN, got a sum of {self.log_normaliser}")
        spread = float(values.max() - values[values.isfinite()].min())
        self.cut = CUT + min(spread, 60.0)
        self._tables: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}

    def displacement(self, x: Tensor, sigma: Tensor) -> Tensor:
        raise NotImplementedError

    def log_prob(self, x: Tensor, sigma: Tensor) -> Tensor:
        raise NotImplementedError

    def log_values(self, u: Tensor) -> Tensor:
        """Logarithm of density times volume element at coordinates u (..., dim), (...)."""
        values = self.manifold.log_element(u)
        if self.log_density is None:
            return values
        return values + checked(self.log_density(self.manifold.point(u)), u.shape[:-1], f"points (..., {self.size})")

    def sample(self, n: int, generator: torch.Generator) -> Tensor:
        """(n, d), float64; the error of the law is below 1e-6 (`priors.charts.draw`)."""
        if self.log_density is None:
            return self.manifold.uniform(n, generator)
        u = draw(
            self.manifold.axes,
            self.counts,
            self.node_values[None],
            lambda u, _item: self.log_values(u),
            n,
            generator,
        )
        return self.manifold.point(u[:, 0])


def checked(values: object, shape: torch.Size, domain: str) -> Tensor:
    """The values of a log_density; ValueError unless they are a tensor of this shape."""
    if not isinstance(values, Tensor) or values.shape != shape:
        came = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(f"log_density must map {domain} to a tensor (...), got {came}")
    return values


def _in_parts(function: Callable[[Tensor, Tensor], Tensor], x: Tensor, sigma: Tensor, rows: int) -> Tensor:
    """function(x, sigma) evaluated on `rows` items at a time, to bound the memory."""
    if len(x) <= rows:
        return function(x, sigma)
    return torch.cat([function(a, s) for a, s in zip(x.split(rows), sigma.split(rows), strict=True)])


class LatticeLaw(ChartLaw):
    """Smoothed law on a manifold whose chart is periodic in every coordinate (circle, ellipse, torus, their products).

    One lattice covers the chart, as fine as sigma asks for. Where it is large, it is replaced by a rule about the
    nearest point if that can be shown to be enough (`priors.bumps`). Else its nodes near x are found by halving cells
    and dropping those that are too far away to matter, which is exact also where several parts of the manifold are
    equally near. x is (B, d) and sigma (B, 1), both float64.
    """

    def __init__(self, manifold: Submanifold, log_density: LogDensity | None, nodes: int | None) -> None:
        super().__init__(manifold, log_density, nodes)
        self.bumps = BumpRules(manifold, self._slope(), self.nodes) if manifold.dim <= 2 and manifold.reach else None

    def _slope(self) -> float:
        """Largest slope of log(f J) from node to node, per unit of length; infinite where f is 0."""
        values = self.node_values.reshape(self.counts)
        points = self._table(self.counts)[0].reshape(*self.counts, -1)
        axes = range(self.manifold.dim)
        lengths = [torch.linalg.vector_norm(points - points.roll(1, i), dim=-1) for i in axes]
        slopes = torch.stack([(values - values.roll(1, i)).abs() / lengths[i] for i in axes])
        return float(slopes.square().sum(0).sqrt().nan_to_num(math.inf, math.inf).max())

    def log_values(self, u: Tensor) -> Tensor:
        density = self.log_density
        if isinstance(density, InCoordinates) and density.manifold is self.manifold:
            # A density of coordinates needs neither the point nor the volume element.
            return checked(density.log_density(u), u.shape[:-1], "coordinates (..., dim)")
        return super().log_values(u)

    def displacement(self, x: Tensor, sigma: Tensor) -> Tensor:
        def reduce(a: Tensor, exponent: Tensor, points: Tensor) -> Tensor:
            weights = exponent.softmax(1)
            # The weights sum to one, so that the shared x comes off once; float64 leaves 1e-16 of the manifold's size.
            return (weights @ points if points.ndim == 2 else (weights[:, None] @ points)[:, 0]) - a

        return self._by_fineness(reduce, x, sigma)

    def log_prob(self, x: Tensor, sigma: Tensor) -> Tensor:
        total = self._by_fineness(lambda _a, exponent, _points: exponent.logsumexp(1), x, sigma)
        return total - self.log_normaliser - self.size / 2 * (2 * math.pi * sigma[:, 0] ** 2).log()

    def _by_fineness(self, reduce: Reduce, x: Tensor, sigma: Tensor) -> Tensor:
        """reduce(x, exponents, points) on groups of items that need the same nodes: no item depends on the others."""
        with torch.no_grad():
            groups = self._groups(x.detach(), sigma.detach())
        if len(groups) == 1:
            return groups[0][1](reduce, x, sigma)
        values = [evaluate(reduce, x[i], sigma[i]) for i, evaluate in groups]
        return torch.cat(values)[torch.cat([i for i, _ in groups]).argsort()]

    def _groups(self, x: Tensor, sigma: Tensor) -> list[tuple[Tensor, Evaluate]]:
        """Indices of items, and how to evaluate them."""
        rest = torch.arange(len(x), device=x.device)
        groups: list[tuple[Tensor, Evaluate]] = []
        if self.bumps is not None:
            fine = rest[self._nodes_at_least(sigma) > CHEAPER * len(self.bumps.rules[1].xi)]
            bumps = self.bumps.choose(x[fine], sigma[fine])
            for k in bumps.rule.unique().tolist():
                if k >= 0:
                    chosen = bumps.rule == k
                    groups.append((fine[chosen], functools.partial(self._about, self.bumps, bumps.of(chosen), k)))
            left = torch.ones_like(rest, dtype=torch.bool)
            left[fine[bumps.rule >= 0]] = False
            rest = rest[left]
        present, group = self._counts_wanted(x[rest], sigma[rest]).unique(dim=0, return_inverse=True)
        for k, counts in enumerate(present.tolist()):
            groups.append((rest[group == k], functools.partial(self._on_lattice, counts)))
        return groups

    def _nodes_at_least(self, sigma: Tensor) -> Tensor:
        """Nodes of the lattice of an x on the manifold, (B,)."""
        return (2 * math.pi * sigma.new_tensor(self.manifold.speeds) / (SPACING * sigma)).clamp_min(COARSE).prod(1)

    def _about(self, rules: BumpRules, bumps: Bumps, k: int, reduce: Reduce, x: Tensor, sigma: Tensor) -> Tensor:
        """By rule k about the nearest points."""

        def evaluate(a: Tensor, index: Tensor) -> Tensor:
            with torch.no_grad():
                u, log_weights = rules.nodes_of(bumps.of(index), k)
                points, values = self.manifold.point(u), self.log_values(u) + log_weights
            offset = points - a[:, None]
            # A product with ones is a sum over a short axis, several times as fast.
            squares = (offset * offset) @ torch.ones_like(a[0])
            return reduce(a, values - squares / (2 * sigma[index] ** 2), points)

        rows = max(1, CACHE // (self.size * len(rules.rules[k].xi)))
        return _in_parts(evaluate, x, torch.arange(len(x), device=x.device), rows)

    def _counts_wanted(self, x: Tensor, sigma: Tensor) -> Tensor:
        """Nodes per coordinate (B, dim): enough for sigma and for the density, of the form (16 | 20 | 24 | 28) 2^a."""
        coarse = [COARSE] * self.manifold.dim
        nearest = torch.cdist(x, self._table(coarse)[0].to(x.device)).amin(1)
        spacing = SPACING * sigma[:, 0] / (1 + self.manifold.curvature * nearest).sqrt()
        wanted = 2 * math.pi * x.new_tensor(self.manifold.speeds) / spacing[:, None]
        wanted = wanted.clamp_min(max(COARSE, self.nodes))
        power = 2 ** (wanted / COARSE).log2().floor()
        return (4 * (wanted / (4 * power)).ceil() * power).long()

    def _on_lattice(self, counts: list[int], reduce: Reduce, x: Tensor, sigma: Tensor) -> Tensor:
        if math.prod(counts) <= DIRECT:
            points, values = (t.to(x.device) for t in self._table(counts))

            def evaluate(a: Tensor, s: Tensor) -> Tensor:
                squares = (a * a).sum(1, keepdim=True) - 2 * a @ points.T + (points * points).sum(1)
                return reduce(a, values - squares / (2 * s**2), points)

            return _in_parts(evaluate, x, sigma, max(1, MEMORY // math.prod(counts)))

        def search(a: Tensor, s: Tensor) -> Tensor:
            with torch.no_grad():
                u, kept = self._search(a.detach(), s.detach(), counts)
                points = self.manifold.point(u)
                values = self._log_masses(u, counts).where(kept, -math.inf)
            offset = points - a[:, None]
            return reduce(a, values - (offset * offset).sum(-1) / (2 * s**2), points)

        return _in_parts(search, x, sigma, max(1, MEMORY // (self.size * DIRECT)))

    def _log_masses(self, u: Tensor, counts: Sequence[int]) -> Tensor:
        """log(f J h) at lattice coordinates u."""
        return self.log_values(u) + sum(math.log(2 * math.pi / count) for count in counts)

    def _table(self, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
        """All points (K, d) and log(f J h) (K,) of a lattice, kept for the next call."""
        key = tuple(counts)
        if key not in self._tables:
            if len(self._tables) >= 16:
                self._tables.pop(next(iter(self._tables)))
            u, _ = lattice(self.manifold.axes, counts)
            with torch.no_grad():
                self._tables[key] = self.manifold.point(u), self._log_masses(u, counts)
        return self._tables[key]

    def _search(self, x: Tensor, sigma: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Coordinates (B, k, dim) of the lattice nodes that matter, and which of the k entries are one, (B, k)."""
        dim = self.manifold.dim
        speeds, count = x.new_tensor(self.manifold.speeds), torch.tensor(counts, device=x.device)
        halvings = [int(math.log2(c // COARSE)) for c in counts]
        axes = [torch.arange(c >> a, device=x.device) for c, a in zip(counts, halvings, strict=True)]
        index = torch.cartesian_prod(*axes).reshape(1, -1, dim).expand(len(x), -1, -1)
        valid = torch.ones(index.shape[:2], dtype=torch.bool, device=x.device)
        for left in range(max(halvings), -1, -1):
            # Cells of 2^left nodes along the longest axes; shorter axes start to be halved later.
            size = 2 ** torch.tensor([min(a, left) for a in halvings], device=x.device)
            u = 2 * math.pi * (index * size + (size - 1).double() / 2) / count
            reach = (speeds * math.pi * (size - 1) / count).norm()
            distance = torch.linalg.vector_norm(self.manifold.point(u) - x[:, None], dim=-1).where(valid, math.inf)
            excess = (distance - reach).clamp_min(0) ** 2 - distance.amin(1, keepdim=True) ** 2
            index, valid = _pack(index, excess <= 2 * self.cut * sigma**2)
            if left:
                split = [torch.tensor([0, 1] if a >= left else [0], device=x.device) for a in halvings]
                factor = torch.tensor([len(s) for s in split], device=x.device)
                children = torch.cartesian_prod(*split).reshape(-1, dim)
                index = (index[:, :, None] * factor + children).flatten(1, 2)
                valid = valid.repeat_interleave(len(children), dim=1)
        return 2 * math.pi * index.double() / count, valid


def _pack(index: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
    """The kept entries of index (B, k, dim) moved to the front, cut to the longest row; and which entries are kept."""
    number = kept.sum(1)
    longest = int(number.max())
    slot = (kept.cumsum(1) - 1).where(kept, longest)
    packed = index.new_zeros(len(kept), longest + 1, index.shape[2])
    packed.scatter_(1, slot[..., None].expand_as(index), index)
    return packed[:, :longest], torch.arange(longest, device=index.device) < number[:, None]


class PolarLaw(ChartLaw):
    """Smoothed law with any density on a sphere, or jointly on the factors of a product of spheres and circles.

    On each factor polar coordinates about the direction of its part of x (`priors.polar`), on a product all pairs of
    their nodes. Derivatives with respect to x pass through log_density. x is (B, d) and sigma (B, 1), both float64.
    """

    def __init__(self, manifold: Sphere | Product, log_density: LogDensity, nodes: int | None) -> None:
        super().__init__(manifold, log_density, nodes)
        self.density = log_density
        self.rules = [PolarRule(cast(Sphere, sphere), self.nodes) for sphere in _factors(manifold)]

    def displacement(self, x: Tensor, sigma: Tensor) -> Tensor:
        def reduce(a: Tensor, exponent: Tensor, points: Tensor) -> Tensor:
            return (exponent.softmax(1)[:, None] @ (points - a[:, None]))[:, 0]

        return self._by_choice(reduce, x, sigma)

    def log_prob(self, x: Tensor, sigma: Tensor) -> Tensor:
        total = self._by_choice(lambda _a, exponent, _points: exponent.logsumexp(1), x, sigma)
        return total - self.log_normaliser - self.size / 2 * (2 * math.pi * sigma[:, 0] ** 2).log()

    def _by_choice(self, reduce: Reduce, x: Tensor, sigma: Tensor) -> Tensor:
        """reduce(x, exponents, points) on groups of items that need rules of the same size."""
        with torch.no_grad():
            parts = zip(self.rules, self._split(x), strict=True)
            chosen = torch.cat([rule.choose(part, sigma) for rule, part in parts], dim=1)
        present, group = chosen.unique(dim=0, return_inverse=True)
        order, values = [], []
        for k, row in enumerate(present.reshape(len(present), -1, 3).tolist()):
            choices = [(narrow, count, degree) for narrow, count, degree in row]
            index = (group == k).nonzero()[:, 0]
            nodes = math.prod(rule.count(choice) for rule, choice in zip(self.rules, choices, strict=True))
            evaluate = functools.partial(self._evaluate, reduce, choices)
            order.append(index)
            values.append(_in_parts(evaluate, x[index], sigma[index], max(1, MEMORY // (self.size * nodes))))
        return torch.cat(values)[torch.cat(order).argsort()]

    def _evaluate(self, reduce: Reduce, choices: list[tuple[int, int, int]], x: Tensor, sigma: Tensor) -> Tensor:
        points, exponent = x.new_zeros(len(x), 1, 0), x.new_zeros(len(x), 1)
        for rule, part, choice in zip(self.rules, self._split(x), choices, strict=True):
            more, log_weight = rule.about(part, sigma, choice)
            shape = (len(x), points.shape[1], more.shape[1], -1)
            pair = [points[:, :, None].expand(shape), more[:, None].expand(shape)]
            points = torch.cat(pair, dim=-1).flatten(1, 2)
            exponent = (exponent[:, :, None] + log_weight[:, None]).flatten(1)
        return reduce(x, exponent + self.density(points), points)

    def _split(self, x: Tensor) -> tuple[Tensor, ...]:
        return self.manifold.split(x) if isinstance(self.manifold, Product) else (x,)


def _factors(manifold: Submanifold) -> Sequence[Submanifold]:
    return manifold.factors if isinstance(manifold, Product) else (manifold,)


def _polar(manifold: Submanifold) -> TypeGuard[Sphere | Product]:
    """Whether `PolarLaw` has few enough nodes on a manifold: two million at large sigma."""
    factors = _factors(manifold)
    return all(isinstance(m, Sphere) for m in factors) and manifold.dim <= 5 and manifold.dim + len(factors) <= 7


def chart_law(manifold: Submanifold, log_density: LogDensity | None, nodes: int | None) -> ChartLaw:
    """The quadrature that fits a manifold of vectors, or ValueError where there is none."""
    if type(manifold) is Sphere and manifold.dim == 1:
        manifold = Circle(manifold.radius)
    if manifold.axes and all(axis.periodic for axis in manifold.axes) and manifold.dim <= 3:
        return LatticeLaw(manifold, log_density, nodes)
    if log_density is not None and _polar(manifold):
        return PolarLaw(manifold, log_density, nodes)
    raise ValueError(
        f"log_density on {manifold!r} must be None, VonMisesFisher, VonMisesFisherMixture or, on a product, Factorised "
        "into such: other densities are integrated on at most three periodic coordinates, on spheres of at most 5 "
        "dimensions, and on products of two spheres or circles of at most 5 or of three of at most 4"
    )
