"""Any density on a torus of phases, smoothed by Gaussian noise: quadrature about the peaks of a matched filter.

All points t(u) of a `PhaseTorus` have one norm, so that given x the coordinates have the density

    p(u | x)  proportional to  f(u) exp(g(u) / sigma^2),    g(u) = <x, t(u)> = Re sum_k c_k exp(i <k, u>),

and D(x, sigma) = E[t(u) | x] is had from E exp(i <k, u>). Both sums over a lattice in u factor into one axis after the
other. With n nodes along an axis the trapezoid rule is off by a relative 2 exp(phi(s) / sigma^2 - n s) at most, for
every s > 0, phi(s) = sum_k |c_k| (cosh(k s) - 1): the integrand moved by i s into the complex plane, Trefethen and
Weideman 2014, Theorem 3.2. The least n that makes this small is taken for every x; nodes whose weight cannot matter are
left out, box by box, by a bound on g. What enters is the integral of exp(Re g(u + i s) / sigma^2) over that of
exp(g(u) / sigma^2), which exp(phi) bounds by absolute values. Where sigma is large the ratio itself is summed up.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from .chart_laws import ChartLaw, checked
from .charts import lattice
from .manifolds import InCoordinates, LogDensity
from .phase_torus import PhaseTorus

# Logarithm of the relative error of the trapezoid rule, and of the largest weight left out.
RULE = 24.0
CUT = 24.0
# A bound on g may be this share of CUT sigma^2 above what it bounds.
SLACK = 0.1
# Where the bound by absolute values asks for so many times the nodes that the density does, and sigma is so large, over
# the largest speed of the chart, that the lattice is right to MARGIN in the logarithm, the integrals are summed up.
FEW, SHARP, MARGIN, FAR = 2, 0.14, 1.0, 2.5
CELLS = 16
# Small lattices have numbers of nodes divisible by STEP; of those up to WHOLE nodes all are evaluated, needed or not.
STEP, WHOLE = 8, 2**13
# Nodes along the sides of a box that is evaluated at once, and nodes of all such boxes together, to stay in the cache.
SIDE = 128
PART = 2**17
ITEMS = 1024


class _Boxes(NamedTuple):
    """Parts of the chart: item (P,), low and high (P, 2) in turns; a box holds its low sides and not its high ones."""

    item: Tensor
    low: Tensor
    high: Tensor

    def of(self, which: Tensor) -> _Boxes:
        return _Boxes(*(t[which] for t in self))

    def halved(self, axis: int, which: Tensor) -> _Boxes:
        """With the boxes `which` (P,) cut in two across an axis."""
        if not bool(which.any()):
            return self
        lower, upper = self.high.clone(), self.low.clone()
        middle = (self.low[:, axis] + self.high[:, axis]) / 2
        lower[:, axis] = middle.where(which, self.high[:, axis])
        upper[:, axis] = middle
        first, second = _Boxes(self.item, self.low, lower), _Boxes(self.item, upper, self.high).of(which)
        return _Boxes(*(torch.cat(pair) for pair in zip(first, second, strict=True)))


class MatchedFilterLaw(ChartLaw):
    """Smoothed law on a torus of phases; x is (B, d) and sigma (B, 1), both float64.

    A density that is `InCoordinates` of this very torus is evaluated there, any other one at the points of the nodes.
    """

    manifold: PhaseTorus

    def __init__(self, manifold: PhaseTorus, log_density: LogDensity | None, nodes: int | None) -> None:
        super().__init__(manifold, log_density, nodes)
        self._small, self._starts = self.node_values.new_empty(0), dict[int, int]()
        self.highest = float(self.node_values.max())
        # Shifts into the complex plane that are tried, and what they cost a wave of each frequency.
        self.shifts = torch.logspace(-5, 0.7, 64, dtype=torch.float64)
        waves = torch.arange(manifold.cutoff + 1, dtype=torch.float64)
        self.growth = 2 * (waves[:, None] * self.shifts / 2).sinh() ** 2
        # Adds up the coefficients of one |k_i|, for both i.
        self.same = torch.nn.functional.one_hot(manifold.frequencies.abs(), manifold.cutoff + 1).double()

    def log_values(self, u: Tensor) -> Tensor:
        density = self.log_density
        if not (isinstance(density, InCoordinates) and density.manifold is self.manifold):
            return super().log_values(u)
        return checked(density.log_density(u), u.shape[:-1], "coordinates (..., 2)")

    def displacement(self, x: Tensor, sigma: Tensor) -> Tensor:
        return torch.cat([self._displacement(a, s) for a, s in zip(x.split(ITEMS), sigma.split(ITEMS), strict=True)])

    def log_prob(self, x: Tensor, sigma: Tensor) -> Tensor:
        parts = zip(x.split(ITEMS), sigma.split(ITEMS), strict=True)
        total = torch.cat([self._masses(a, s)[2] for a, s in parts])
        return total - self.log_normaliser - self.size / 2 * (2 * math.pi * sigma[:, 0] ** 2).log()

    def _displacement(self, x: Tensor, sigma: Tensor) -> Tensor:
        item, masses, total, means = self._masses(x, sigma)
        weighted = (masses - total[item]).exp()[:, None] * means
        return torch.zeros_like(x).index_add(0, item, weighted) - x

    def _masses(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Items (P,), log-integrals (P,) and means of t(u) (P, d) of their boxes, and the log-integrals of x (B,)."""
        with torch.no_grad():
            counts, boxes = self._plan(x.detach(), sigma.detach())
            item, first, number = self._nodes(boxes, counts)
        rows = max(1, PART // int(number.amax(0).prod()))
        results = [
            self._integrate(x[i], sigma[i], counts[i], f, n)
            for i, f, n in zip(item.split(rows), first.split(rows), number.split(rows), strict=True)
        ]
        masses, means = (torch.cat(parts) for parts in zip(*results, strict=True))
        top = torch.full_like(x[:, 0], -math.inf).scatter_reduce(0, item, masses.detach(), "amax")
        share = (masses - top[item]).exp()
        return item, masses, top + torch.zeros_like(top).index_add(0, item, share).log(), means

    @staticmethod
    def _nodes(boxes: _Boxes, counts: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Items (P,), first nodes (P, 2) and numbers of nodes (P, 2) of the boxes that hold any.

        Boxes of one size stand together, since those evaluated at once are filled up to the largest of them.
        """
        first = (boxes.low * counts[boxes.item]).ceil().long()
        number = (boxes.high * counts[boxes.item]).ceil().long() - first
        size = number.prod(1)
        order = size.argsort()[int((size == 0).sum()) :]
        return boxes.item[order], first[order], number[order]

    def _integrate(
        self, x: Tensor, sigma: Tensor, counts: Tensor, first: Tensor, number: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log-integral of f(u) exp(-|x - t(u)|^2 / (2 sigma^2)) over a box for each x (P, d), (P,), and mean of t(u).

        The box has the nodes first, ..., first + number - 1 of a lattice of counts, all (P, 2). The correlation is
        formed as its difference from that at the middle node, which leaves 1e-16 of a few sigma and not of |x|.
        """
        middle = first + number // 2
        base = self.manifold.point(2 * math.pi * (middle / counts))
        index = first[:, :, None] + torch.arange(int(number.max()), device=x.device)
        inside = index - first[:, :, None] < number[:, :, None]
        sides = [slice(int(n)) for n in number.amax(0)]
        turns = [(index - middle[:, :, None])[:, i, side] / counts[:, i, None] for i, side in enumerate(sides)]
        k = self._waves(x)
        one, two = _wave_less_one(turns[0], k[self.manifold.cutoff :]), _wave_less_one(turns[1], k)

        # c_k / sigma^2 of the shifted origin: conj(x) z exp(i <k, u_middle>), the last two being the point there.
        coefficients = self.manifold.table(_conjugate_product(x, base) / sigma**2)
        differences = coefficients @ two
        inner = differences + coefficients.sum(-1, keepdim=True)
        kept = [torch.where(inside[:, i, side], 0.0, -math.inf).double() for i, side in enumerate(sides)]
        along = differences.sum(1).real + kept[1]
        with torch.no_grad():
            values = self._log_masses(index, counts, sides) + kept[0][:, :, None]
        exponent = _real_product(one.real, one.imag, inner) + along[:, None] + values
        # A density that is 0 on all of a box leaves it the smallest numbers instead of -inf, whose differences are NaN.
        top = exponent.detach().amax((1, 2)).clamp_min(-1e300)
        weights = (exponent - top[:, None, None]).exp()
        total = weights.sum((1, 2)).clamp_min(torch.finfo(x.dtype).tiny)
        across = ((x - base) ** 2).sum(1) / (2 * sigma[:, 0] ** 2)
        return top + total.log() - across, self._mean(weights, one + 1, two + 1, base) / total[:, None]

    def _mean(self, weights: Tensor, one: Tensor, two: Tensor, base: Tensor) -> Tensor:
        """sum_j w_j t(u_j) (P, d), from weights (P, n1, n2), waves (P, k, n1) and (P, k, n2) about the base point."""
        halfway = torch.complex(one.real @ weights, one.imag @ weights)
        moments = (halfway @ two.mT).flatten(1)[:, self.manifold.cutoff + 1 :]
        points = torch.complex(*base.chunk(2, dim=1)) * moments
        return torch.cat([points.real, points.imag], dim=1)

    def _log_masses(self, index: Tensor, counts: Tensor, sides: list[slice]) -> Tensor:
        """log(f J h) at nodes of lattices, (P, n1, n2), or (P, 1, 1) where it is the same at all of them."""
        one, two = (index[:, i, side].remainder(counts[:, i, None]) for i, side in enumerate(sides))
        cell = (2 * math.pi / counts).log().sum(1)[:, None, None]
        if self.log_density is None:
            return self.node_values[0].to(index.device) + cell
        if bool((counts <= SIDE).all()):
            table, start = self._table_of(counts)
            rows = start[:, None] + one.long() * counts[:, 1:].long()
            return table[rows[:, :, None] + two.long()[:, None]] + cell
        first, second = (2 * math.pi * v / counts[:, i, None] for i, v in enumerate((one, two)))
        shape = (*one.shape, two.shape[1])
        # One coordinate after the other in memory, which densities go through faster than pair by pair.
        u = torch.stack([first[:, :, None].expand(shape), second[:, None].expand(shape)]).movedim(0, -1)
        return self.log_values(u) + cell

    def _table_of(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """log(f J) on small lattices, one after the other, and where those of counts (P, 2) start, (P,)."""
        keys, which = (counts[:, 0] * 2 * SIDE + counts[:, 1]).long().unique(return_inverse=True)
        for key in set(keys.tolist()) - self._starts.keys():
            u, _ = lattice(self.manifold.axes, divmod(key, 2 * SIDE))
            self._starts[key] = len(self._small)
            self._small = torch.cat([self._small, self.log_values(u).detach()])
        return self._small.to(counts.device), counts.new_tensor([self._starts[k] for k in keys.tolist()]).long()[which]

    def _plan(self, x: Tensor, sigma: Tensor) -> tuple[Tensor, _Boxes]:
        """Nodes per period (B, 2) for each x, and the boxes outside of which none of them matters."""
        coefficients = self.manifold.correlation(x)
        counts = self._counts(coefficients, sigma)
        boxes = self._relevant(coefficients, sigma, counts)
        for axis in (0, 1):
            while bool((wide := ((boxes.high - boxes.low) * counts[boxes.item])[:, axis] > SIDE).any()):
                boxes = boxes.halved(axis, wide)
        return counts, boxes

    def _counts(self, coefficients: Tensor, sigma: Tensor) -> Tensor:
        """Least nodes per period (B, 2) for the error of the rule, and for the density."""
        sizes = torch.stack([coefficients.abs() @ self.same[:, i].to(sigma) for i in (0, 1)], dim=1)
        growth, shifts = self.growth.to(sigma), self.shifts.to(sigma)
        needed = ((sizes @ growth / sigma[:, :, None] ** 2 + RULE) / shifts).amin(-1)
        many = (needed.prod(1) > FEW * self.nodes**2) & (sigma[:, 0] > SHARP / max(self.manifold.speeds))
        if bool(many.any()):
            needed[many] = needed[many].minimum(self._counts_by_integrals(coefficients[many], sigma[many]))
        needed = (needed + self.manifold.cutoff).ceil().clamp_min(self.nodes)
        # Few different small lattices, on which the density is evaluated once.
        return ((needed / STEP).ceil() * STEP).where((needed <= SIDE - STEP).all(1, keepdim=True), needed)

    def _counts_by_integrals(self, coefficients: Tensor, sigma: Tensor) -> Tensor:
        """Nodes per period (B, 2), by the integrals on the lattice of `fineness`.

        s is the best one for a point of the torus, and no more than noise in the highest waves allows.
        """
        counts = []
        own = (self.manifold.correlation_on_lattice(coefficients).flatten(1) / sigma**2).logsumexp(1, keepdim=True)
        for axis in (0, 1):
            speed = float(self.manifold.metric[axis, axis]) ** 0.5
            shift = (math.sqrt(2 * RULE) / speed * sigma).clamp_max(FAR / self.manifold.cutoff)
            moved = (self.manifold.frequencies[:, axis].to(sigma) * shift).cosh() * coefficients
            values = self.manifold.correlation_on_lattice(moved).flatten(1) / sigma**2
            counts.append((values.logsumexp(1, keepdim=True) - own + RULE + MARGIN) / shift)
        return torch.cat(counts, dim=1)

    def _relevant(self, coefficients: Tensor, sigma: Tensor, counts: Tensor) -> _Boxes:
        """Boxes that hold all u with g(u) above its maximum less a cut of order sigma^2; small ones, in few rounds."""
        if bool((counts.prod(1) <= WHOLE).all()):
            item = torch.arange(len(sigma), device=sigma.device)
            return _Boxes(item, sigma.new_full((len(sigma), 2), -0.5), sigma.new_full((len(sigma), 2), 0.5))
        rise = self.manifold.rise(coefficients)
        n = self.manifold.fineness
        values = self.manifold.correlation_on_lattice(coefficients)
        best, at = values.flatten(1).max(1)
        at = torch.stack([at // n, at % n], dim=1)
        # The density may be higher elsewhere than at the peak, by so much that what lies lower on g counts too.
        higher = (self.highest - self.log_values(at.double() * (2 * math.pi / n))).clamp(0, 60)
        allowed = (CUT + higher) * sigma[:, 0] ** 2
        cell = torch.full_like(rise, 1 / n)
        high = self._high(values, best - allowed, rise, cell)
        high = high | high.roll(-1, 1)
        kept = high | high.roll(-1, 2)
        spans = [_span(kept.any(2 - i), at[:, i] - n // 2) for i in (0, 1)]
        low, high = (torch.stack([span[i] for span in spans], dim=1) / n for i in (0, 1))
        boxes, rough = (
            _Boxes(torch.arange(len(sigma), device=sigma.device), low, high),
            self._rough(rise, cell, allowed),
        )
        while bool(rough.any()):
            boxes, best, rough = self._shrunk(boxes, coefficients, best, allowed, rise)
        return boxes

    def _shrunk(
        self, boxes: _Boxes, coefficients: Tensor, best: Tensor, allowed: Tensor, rise: Tensor
    ) -> tuple[_Boxes, Tensor, Tensor]:
        """Boxes shrunk to their cells that matter, the best g so far, and which cells were too large to tell well.

        Of those, the boxes that hardly shrank are cut in two, so that the cells of the next round are smaller.
        """
        item, low, high = boxes
        values = self._on_boxes(boxes, coefficients)
        best = best.scatter_reduce(0, item, values.amax((1, 2)), "amax")
        cell = (high - low) / CELLS
        high = self._high(values, (best - allowed)[item], rise[item], cell)
        high = high[:, 1:] | high[:, :-1]
        kept = high[:, :, 1:] | high[:, :, :-1]
        held = kept.flatten(1).any(1)
        spans = [_span(kept.any(2 - i), torch.zeros_like(item)) for i in (0, 1)]
        first, last = (torch.stack([span[i] for span in spans], dim=1) for i in (0, 1))
        rough = self._rough(rise[item], cell, allowed[item])[held]
        wide = rough[:, None] & (last - first > CELLS // 2)[held]
        boxes = _Boxes(item, low + first * cell, low + last * cell).of(held).halved(0, wide[:, 0])
        # What was cut in two stands twice now, the second halves at the end.
        return boxes.halved(1, torch.cat([wide[:, 1], wide[wide[:, 0], 1]])), best, rough

    def _rough(self, rise: Tensor, cell: Tensor, allowed: Tensor) -> Tensor:
        """Whether cells of these sides (P, 2) are too large to tell well what is allowed from what is not, (P,)."""
        return self._above(rise, cell) > SLACK * allowed

    def _on_boxes(self, boxes: _Boxes, coefficients: Tensor) -> Tensor:
        """g at the corners of the cells of the boxes, (P, CELLS + 1, CELLS + 1)."""
        steps = torch.arange(CELLS + 1, dtype=torch.float64, device=boxes.low.device) / CELLS
        turns = boxes.low[:, :, None] + steps * (boxes.high - boxes.low)[:, :, None]
        k = self._waves(steps)
        one = _wave_less_one(turns[:, 0], k[self.manifold.cutoff :]) + 1
        inner = self.manifold.table(coefficients[boxes.item]) @ (_wave_less_one(turns[:, 1], k) + 1)
        return _real_product(one.real, one.imag, inner)

    def _waves(self, like: Tensor) -> Tensor:
        """Frequencies -cutoff, ..., cutoff along one axis."""
        return torch.arange(-self.manifold.cutoff, self.manifold.cutoff + 1).to(like)

    @staticmethod
    def _above(rise: Tensor, cell: Tensor) -> Tensor:
        """How far g can rise on a cell of these sides (P, 2) in turns above its highest corner, (P,)."""
        return (rise * (2 * math.pi * cell) ** 2).sum(1) / 8

    def _high(self, values: Tensor, threshold: Tensor, rise: Tensor, cell: Tensor) -> Tensor:
        """Corners (P, n, n) of cells of these sides (P, 2) in which g can exceed the threshold (P,)."""
        return values >= (threshold - self._above(rise, cell))[:, None, None]


def _span(kept: Tensor, origin: Tensor) -> tuple[Tensor, Tensor]:
    """First and one past the last of the kept ones, counted from the origin (P,) round the circle of kept (P, n)."""
    n = kept.shape[1]
    place = (torch.arange(n, device=kept.device) - origin[:, None]) % n
    return place.where(kept, n).amin(1) + origin, place.where(kept, -1).amax(1) + 1 + origin


def _wave_less_one(turns: Tensor, k: Tensor) -> Tensor:
    """exp(2 pi i k turns) - 1, (P, k, n), from turns (P, n), also where it is next to 0."""
    half = math.pi * k[:, None] * turns[:, None]
    sin = half.sin()
    return torch.complex(-2 * sin * sin, 2 * sin * half.cos())


def _real_product(cos: Tensor, sin: Tensor, inner: Tensor) -> Tensor:
    """Re sum_k (cos + i sin)_k,m inner_k,n, (P, m, n), as one product of real matrices."""
    return torch.cat([cos, -sin], dim=1).mT @ torch.cat([inner.real, inner.imag], dim=1)


def _conjugate_product(x: Tensor, y: Tensor) -> Tensor:
    """conj(x) y of vectors (P, 2K) that hold real parts before imaginary ones, complex (P, K)."""
    (a, b), (p, q) = x.chunk(2, dim=-1), y.chunk(2, dim=-1)
    return torch.complex(a * p + b * q, a * q - b * p)
