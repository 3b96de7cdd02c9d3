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
import warnings
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
# Error of log Z up to which more nodes are taken, from which a warning says so, and how many nodes are tried.
RESOLVED, WRONG = 1e-9, 1e-6
MOST = 2**21
# Beyond so many sigma from the manifold, and sizes of it, float64 tells no other point from the nearest one.
FAR_SIGMAS, FAR_SIZES = 1e6, 100.0
# How often kappa of a polar rule is doubled for a density steeper than it.
STEEPER = 7
# Of exponents (B, k) of nodes (k, d) or (B, k, d) about x (B, d).
Reduce = Callable[[Tensor, Tensor, Tensor], Tensor]
Evaluate = Callable[[Reduce, Tensor, Tensor], Tensor]
# On each factor of a product, how to integrate (`PolarRule.choose`).
Choices = Sequence[tuple[int, int, int]]
# Nodes of a table cost so much less than those that are computed for every x.
CHEAPER = 6


class ChartLaw:
    """What every law by quadrature shares: the density on the chart, its normalisation and its draws."""

    def __init__(self, manifold: Submanifold, log_density: LogDensity | None, nodes: int | None) -> None:
        self.manifold, self.log_density = manifold, log_density
        self.size = manifold.image_shape[0]
        self._tabulate(DEFAULT_NODES[manifold.dim] if nodes is None else int(nodes))
        if log_density is not None:
            self._resolve(nodes is None)
        values = self.node_values
        spread = float(values.max() - values[values.isfinite()].min())
        self.cut = CUT + min(spread, 60.0)
        self._tables: dict[tuple[int, ...], tuple[Tensor, Tensor]] = {}

    def _tabulate(self, nodes: int) -> None:
        """The density at so many nodes per coordinate, and its integral."""
        self.nodes, self.counts = nodes, [nodes] * self.manifold.dim
        u, weights = lattice(self.manifold.axes, self.counts)
        with torch.no_grad():
            self.node_values = torch.cat([self.log_values(part) for part in u.split(CACHE)])
        self.log_normaliser = float((self.node_values + weights.log()).logsumexp(0))
        if not math.isfinite(self.log_normaliser):
            raise ValueError(f"log_density must be finite somewhere and never NaN, got a sum of {self.log_normaliser}")

    def _resolve(self, refine: bool) -> None:
        """More nodes, if they may be refined, until they resolve the density; else as many as before, and a warning."""
        first, error = self.nodes, self._error()
        off = error
        while refine and not off <= RESOLVED and (more := math.ceil(1.5 * self.nodes)) ** self.manifold.dim <= MOST:
            self._tabulate(more)
            off = self._error()
        if off <= RESOLVED or (off <= WRONG and not error <= WRONG):
            return
        if self.nodes > first:
            self._tabulate(first)
            self._error()
        if error <= WRONG:
            return
        warnings.warn(
            f"log_density is not resolved by {first} nodes per coordinate, the logarithm of its integral is off by "
            f"{error:.1g}: pass nodes=, or expect errors of that order and larger ones near steps and peaks",
            UserWarning,
            stacklevel=7,
        )

    def _error(self) -> float:
        """By how much log Z differs on a lattice that is moved, not along any diagonal."""
        u, weights = lattice(self.manifold.axes, self.counts)
        step = 2 * math.pi * torch.tensor([0.5, 0.31, 0.18][: self.manifold.dim], dtype=torch.float64) / self.nodes
        with torch.no_grad():
            values = torch.cat([self.log_values(part + step) for part in u.split(CACHE)])
        return abs(float((values + weights.log()).logsumexp(0)) - self.log_normaliser)

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
        coarse = self._table([COARSE] * self.manifold.dim)[0].to(x.device)
        distance = torch.cdist(x, coarse).amin(1) if len(x) else x.sum(1)
        # Not finite counts as far: one node passes it on.
        near = distance <= (FAR_SIGMAS * sigma[:, 0]).clamp_min(FAR_SIZES * sum(self.manifold.speeds))
        rest = near.nonzero()[:, 0]
        groups: list[tuple[Tensor, Evaluate]] = [] if bool(near.all()) else [((~near).nonzero()[:, 0], self._far)]
        if self.bumps is not None:
            fine = rest[self._nodes_at_least(sigma[rest]) > CHEAPER * len(self.bumps.rules[1].xi)]
            bumps = self.bumps.choose(x[fine], sigma[fine])
            for k in bumps.rule.unique().tolist():
                if k >= 0:
                    chosen = bumps.rule == k
                    groups.append((fine[chosen], functools.partial(self._about, self.bumps, bumps.of(chosen), k)))
            left = near.clone()
            left[fine[bumps.rule >= 0]] = False
            rest = left.nonzero()[:, 0]
        present, group = self._counts_wanted(distance[rest], sigma[rest]).unique(dim=0, return_inverse=True)
        for k, counts in enumerate(present.tolist()):
            groups.append((rest[group == k], functools.partial(self._on_lattice, counts)))
        return groups

    def _nodes_at_least(self, sigma: Tensor) -> Tensor:
        """Nodes of the lattice of an x on the manifold, (B,)."""
        return (2 * math.pi * sigma.new_tensor(self.manifold.speeds) / (SPACING * sigma)).clamp_min(COARSE).prod(1)

    def _far(self, reduce: Reduce, x: Tensor, sigma: Tensor) -> Tensor:
        """By the nearest point alone, with the volume of the bump to the accuracy that the exponent leaves."""
        with torch.no_grad():
            u = self.manifold.coordinates(self.manifold.project(x))[:, None]
            points = self.manifold.point(u)
            values = self.log_values(u) - self.manifold.log_element(u)
        squares = (points - x[:, None]).square().sum(-1)
        spread = 2 * math.pi * sigma**2 / (1 + self.manifold.curvature * squares.detach().sqrt())
        return reduce(x, values + self.manifold.dim / 2 * spread.log() - squares / (2 * sigma**2), points)

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

    def _counts_wanted(self, distance: Tensor, sigma: Tensor) -> Tensor:
        """Nodes per coordinate (B, dim): enough for sigma and for the density, of the form (16 | 20 | 24 | 28) 2^a."""
        spacing = SPACING * sigma[:, 0] / (1 + self.manifold.curvature * distance).sqrt()
        wanted = 2 * math.pi * sigma.new_tensor(self.manifold.speeds) / spacing[:, None]
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
        self.density = log_density
        super().__init__(manifold, log_density, nodes)

    def _error(self) -> float:
        """Of log Z by the rules about a point in general position, and of log-integrals over narrow bumps."""
        self.rules = [PolarRule(cast(Sphere, sphere), self.nodes) for sphere in _factors(self.manifold)]
        self._table: tuple[Tensor, Tensor] | None = None
        place = torch.arange(1, self.size + 1, dtype=torch.float64).sin()[None]
        weak = [1e-12] * len(self.rules)
        whole = self._log_integral(place, weak, [rule.wide(0.0) for rule in self.rules])
        error = abs(whole + sum(rule.radius**2 for rule in self.rules) / 2 - self.log_normaliser)
        if not error <= RESOLVED:
            return error
        # Bumps on the way to the least value, where the density rises steeply and far.
        u, _ = lattice(self.manifold.axes, self.counts)
        values = self.node_values - torch.cat([self.manifold.log_element(part) for part in u.split(CACHE)])
        least = self.manifold.point(u[values.where(values.isfinite(), math.inf).argmin()])
        place = 0.7 * self.manifold.project(place) + least
        return max(error, *(self._narrow_error(place, i) for i in range(len(self.rules))))

    def _narrow_error(self, place: Tensor, i: int) -> float:
        """Of the narrow rule on factor i, next to a point of the others; the rule is left for larger k if that helps.

        A density may be steeper, kappa larger, than so many nodes ask for, as are bumps that they resolve.
        """
        rule = self.rules[i]
        kappas, errors = [rule.kappa * 2**j for j in range(STEEPER)], []
        for rule.kappa in kappas:
            strengths = [1e8] * len(self.rules)
            strengths[i] = 1.01 * rule.narrow
            x = self._at(place, strengths)
            parts = zip(self.rules, self._split(x), strict=True)
            choices = [tuple(r.choose(part, x.new_ones(1, 1))[0].tolist()) for r, part in parts]
            wide = [*choices[:i], rule.wide(strengths[i]), *choices[i + 1 :]]
            narrow, whole = (self._log_integral(place, strengths, c) for c in (choices, wide))
            errors.append(abs(narrow - whole))
            if errors[-1] <= RESOLVED:
                break
        rule.kappa = kappas[errors.index(min(errors))]
        return min(errors)

    def _at(self, place: Tensor, strengths: list[float]) -> Tensor:
        """The x (1, d) in the directions of place whose bumps have these k at sigma 1."""
        parts = zip(self.rules, self._split(place), strengths, strict=True)
        return torch.cat([rule.sphere.project(part) * k / rule.radius**2 for rule, part, k in parts], dim=-1)

    def _log_integral(self, place: Tensor, strengths: list[float], choices: Choices) -> float:
        x = self._at(place, strengths)
        with torch.no_grad():
            return float(self._exponents(choices, x, x.new_ones(1, 1))[0].logsumexp(1))

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
            choices = [tuple(choice) for choice in row]
            index = (group == k).nonzero()[:, 0]
            nodes = math.prod(rule.count(choice) for rule, choice in zip(self.rules, choices, strict=True))
            evaluate = functools.partial(self._evaluate, reduce, choices)
            order.append(index)
            values.append(_in_parts(evaluate, x[index], sigma[index], max(1, MEMORY // (self.size * nodes))))
        return torch.cat(values)[torch.cat(order).argsort()]

    def _evaluate(self, reduce: Reduce, choices: Choices, x: Tensor, sigma: Tensor) -> Tensor:
        exponent, points = self._exponents(choices, x, sigma)
        bare = exponent.detach().isneginf().all(1)
        if not bool(bare.any()):
            return reduce(x, exponent, points)
        values = [reduce(x[~bare], exponent[~bare], points[~bare]), self._on_lattice(reduce, x[bare], sigma[bare])]
        return torch.cat(values)[torch.cat([(~bare).nonzero()[:, 0], bare.nonzero()[:, 0]]).argsort()]

    def _exponents(self, choices: Choices, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """Exponents (B, K) and nodes (B, K, d)."""
        points, exponent = x.new_zeros(len(x), 1, 0), x.new_zeros(len(x), 1)
        for rule, part, choice in zip(self.rules, self._split(x), choices, strict=True):
            more, log_weight = rule.about(part, sigma, choice)
            shape = (len(x), points.shape[1], more.shape[1], -1)
            pair = [points[:, :, None].expand(shape), more[:, None].expand(shape)]
            points = torch.cat(pair, dim=-1).flatten(1, 2)
            exponent = (exponent[:, :, None] + log_weight[:, None]).flatten(1)
        return exponent + self.density(points), points

    def _on_lattice(self, reduce: Reduce, x: Tensor, sigma: Tensor) -> Tensor:
        """Where the density is 0 at all nodes about x: by those of the whole chart, right to their spacing."""
        if self._table is None:
            counts = [max(self.nodes, int(CACHE ** (1 / self.manifold.dim)))] * self.manifold.dim
            u, weights = lattice(self.manifold.axes, counts)
            with torch.no_grad():
                values = self.log_values(u) + weights.log()
                held = values.isfinite()
                self._table = self.manifold.point(u[held]), values[held]
        points, values = (t.to(x.device) for t in self._table)

        def evaluate(a: Tensor, s: Tensor) -> Tensor:
            return reduce(a, values - (points - a[:, None]).square().sum(-1) / (2 * s**2), points)

        return _in_parts(evaluate, x, sigma, max(1, MEMORY // points.numel()))

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
