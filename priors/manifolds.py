"""Compact manifolds in Euclidean space: nearest point, tangent space, volume, chart, uniform draws.

A manifold knows nothing of probability laws or noise; `priors.Manifold` puts a density on one. Points are tensors of
shape (..., *image_shape). A new manifold states `dim`, `image_shape`, `volume`, `curvature` and the methods below; with
a chart (`axes`, `point`, `log_element`) it can carry any density and be integrated over.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .bessel import log_mean_exp
from .charts import ANGLE, Axis
from .embedded import Embedded
from .image_orbit import ImageOrbit
from .phase_torus import PhaseTorus
from .submanifold import LogDensity, Submanifold, positive

__all__ = [
    "Circle",
    "Ellipse",
    "Embedded",
    "Factorised",
    "ImageOrbit",
    "InCoordinates",
    "LogDensity",
    "PhaseTorus",
    "Product",
    "Sphere",
    "Submanifold",
    "Torus",
    "VonMisesFisher",
    "VonMisesFisherMixture",
    "interpolate",
]


def _norm(x: Tensor) -> Tensor:
    return torch.linalg.vector_norm(x, dim=-1, keepdim=True)


class Sphere(Submanifold):
    """The sphere S^n of a given radius r about the origin of R^{n+1}.

    Chart, with m = ceil(n / 2): for even n the height h in [-1, 1] along the last axis; m - 1 shares s_j in [0, 1]; m
    angles t_j. The other axes hold z_j = (x_{2j-1} + i x_{2j}) / r = |z_j| exp(i t_j), where z_j takes the share s_j of
    what z_1, ..., z_{j-1} leave of 1 - h^2, the sum of all |z_j|^2, and z_m the rest:

        d vol = r^n 2^{1-m} (1 - h^2)^{m-1} prod_j (1 - s_j)^{m-1-j} dh ds dt,   without h for odd n.

    It is the angle for n = 1, height and azimuth for n = 2 and Hopf coordinates for n = 3.
    """

    def __init__(self, n: int, radius: float = 1.0) -> None:
        if int(n) != n or n < 1:
            raise ValueError(f"n must be an integer of at least 1, got {n}")
        self.dim = int(n)
        self.radius = positive("radius", radius)
        self.image_shape = (self.dim + 1,)
        self.volume = 2 * math.exp((n + 1) / 2 * math.log(math.pi) - math.lgamma((n + 1) / 2)) * self.radius**n
        self.curvature, self.reach = 1 / self.radius, self.radius
        pairs = (self.dim + 1) // 2
        self._parts = [1 - self.dim % 2, pairs - 1, pairs]  # how many heights, shares and angles
        height, share = Axis(-1.0, 1.0, periodic=False), Axis(0.0, 1.0, periodic=False)
        self.axes = tuple(
            axis for axis, count in zip((height, share, ANGLE), self._parts, strict=True) for _ in range(count)
        )
        if n == 1:
            self.speeds = (self.radius,)

    def project(self, x: Tensor) -> Tensor:
        norm = _norm(x)
        first = torch.zeros_like(x)
        first[..., 0] = 1
        return self.radius * torch.where(norm > 0, x / norm.where(norm > 0, torch.ones_like(norm)), first)

    def tangential(self, point: Tensor, vector: Tensor) -> Tensor:
        return vector - (vector * point).sum(-1, keepdim=True) * point / self.radius**2

    def point(self, u: Tensor) -> Tensor:
        height, shares, angles = u.split(self._parts, dim=-1)
        one = torch.ones_like(angles[..., :1])
        left = torch.cat([one - height.square().sum(-1, keepdim=True), 1 - shares], dim=-1).clamp_min(0).cumprod(-1)
        level = (left * torch.cat([shares.clamp(0, 1), one], dim=-1)).sqrt()
        pairs = torch.stack([level * angles.cos(), level * angles.sin()], dim=-1).flatten(-2)
        return self.radius * torch.cat([pairs, height], dim=-1)

    def coordinates(self, point: Tensor) -> Tensor:
        _, shares, pairs = self._parts
        height = point[..., 2 * pairs :] / self.radius
        pair = point[..., : 2 * pairs].unflatten(-1, (pairs, 2))
        squares = pair.square().sum(-1)
        left = squares.flip(-1).cumsum(-1).flip(-1)[..., :shares]
        angles = torch.atan2(pair[..., 1], pair[..., 0]).remainder(2 * math.pi)
        return torch.cat([height, squares[..., :shares] / left.clamp_min(torch.finfo(left.dtype).tiny), angles], dim=-1)

    def log_element(self, u: Tensor) -> Tensor:
        height, shares, _ = u.split(self._parts, dim=-1)
        pairs = self._parts[2]
        powers = torch.arange(pairs - 2, -1, -1, dtype=u.dtype, device=u.device)
        along = torch.xlogy(u.new_tensor(pairs - 1.0), (1 - height.square()).clamp_min(0)).sum(-1)
        across = torch.xlogy(powers, (1 - shares).clamp_min(0)).sum(-1)
        return along + across + (self.dim * math.log(self.radius) - (pairs - 1) * math.log(2))

    def uniform(self, n: int, generator: torch.Generator) -> Tensor:
        x = torch.randn(n, self.dim + 1, dtype=torch.float64, generator=generator)
        return self.radius * x / _norm(x)

    def __repr__(self) -> str:
        return f"Sphere(n={self.dim}, radius={self.radius:g})"


class Circle(Sphere):
    """The circle of a given radius about the origin of R^2, with the angle as its coordinate."""

    def __init__(self, radius: float = 1.0) -> None:
        super().__init__(1, radius)

    def __repr__(self) -> str:
        return f"Circle(radius={self.radius:g})"


class Ellipse(Submanifold):
    """The ellipse (a cos t, b sin t) in R^2, with the parameter t as its coordinate; volume is arc length."""

    dim = 1
    image_shape = (2,)
    axes = (ANGLE,)

    def __init__(self, a: float, b: float) -> None:
        from scipy.special import ellipe

        self.a, self.b = positive("a", a), positive("b", b)
        small, large = sorted((self.a, self.b))
        self.volume = 4 * large * float(ellipe(1 - (small / large) ** 2))
        self.curvature = large / small**2
        self.reach = 1 / self.curvature
        self.speeds = (large,)

    def _parameter(self, x: Tensor) -> Tensor:
        """Parameter t of the nearest point, (...), from the stationarity condition in one quadrant."""
        a, b = self.a, self.b
        px, py = x[..., 0].abs(), x[..., 1].abs()

        def slope(t: Tensor) -> Tensor:
            """d/dt of half the squared distance; over sin t cos t it increases from - to + in the first quadrant."""
            return (b * b - a * a) * t.sin() * t.cos() + a * px * t.sin() - b * py * t.cos()

        with torch.no_grad():
            low, high = torch.zeros_like(px), torch.full_like(px, math.pi / 2)
            t = (low + high) / 2
            for _ in range(54):
                sin, cos = t.sin(), t.cos()
                down = (b * b - a * a) * sin * cos + a * px * sin - b * py * cos
                bend = (b * b - a * a) * (cos * cos - sin * sin) + a * px * cos + b * py * sin
                low, high = torch.where(down > 0, low, t), torch.where(down > 0, t, high)
                step = t - down / bend
                # Newton's step where it stays between the bounds, else half-way between them.
                step = torch.where((step >= low) & (step <= high), step, (low + high) / 2)
                done = float((step - t).abs().amax()) < 1e-15 if t.numel() else True
                t = step
                if done:
                    break
            bend = (b * b - a * a) * (2 * t).cos() + a * px * t.cos() + b * py * t.sin()
        if x.requires_grad:
            # One Newton step leaves the value and gives the derivative (implicit function theorem).
            t = t - slope(t) / bend.where(bend.abs() > 1e-12, torch.ones_like(bend))
        right, up = torch.where(x[..., 0] < 0, -1.0, 1.0), torch.where(x[..., 1] < 0, -1.0, 1.0)
        return torch.atan2(up * t.sin(), right * t.cos())

    def project(self, x: Tensor) -> Tensor:
        return self.point(self._parameter(x.double())[..., None]).to(x.dtype)

    def tangential(self, point: Tensor, vector: Tensor) -> Tensor:
        normal = point / point.new_tensor([self.a**2, self.b**2])
        normal = normal / _norm(normal)
        return vector - (vector * normal).sum(-1, keepdim=True) * normal

    def point(self, u: Tensor) -> Tensor:
        return torch.stack([self.a * u[..., 0].cos(), self.b * u[..., 0].sin()], dim=-1)

    def coordinates(self, point: Tensor) -> Tensor:
        return torch.atan2(point[..., 1] / self.b, point[..., 0] / self.a).remainder(2 * math.pi)[..., None]

    def log_element(self, u: Tensor) -> Tensor:
        return 0.5 * ((self.a * u[..., 0].sin()) ** 2 + (self.b * u[..., 0].cos()) ** 2).log()

    def uniform(self, n: int, generator: torch.Generator) -> Tensor:
        """By inversion of the arc length on 2^15 nodes: positions exact to 1e-8 of the size."""
        t = torch.linspace(0, 2 * math.pi, 2**15 + 1, dtype=torch.float64)
        speed = self.log_element(t[:, None]).exp()
        length = torch.cat([t.new_zeros(1), ((speed[1:] + speed[:-1]) / 2).cumsum(0)])
        wanted = torch.rand(n, dtype=torch.float64, generator=generator) * length[-1]
        return self.point(interpolate(wanted, length, t)[:, None])

    def __repr__(self) -> str:
        return f"Ellipse(a={self.a:g}, b={self.b:g})"


class Torus(Submanifold):
    """The torus of revolution in R^3: coordinates (azimuth, angle in the tube), tube of radius minor around a circle of
    radius major > minor. The flat torus is `Product(Circle(), Circle())`."""

    dim = 2
    image_shape = (3,)
    axes = (ANGLE, ANGLE)

    def __init__(self, major: float, minor: float) -> None:
        self.major, self.minor = positive("major", major), positive("minor", minor)
        if self.minor >= self.major:
            raise ValueError(f"minor must be below major ({self.major:g}) for an embedded torus, got {self.minor:g}")
        self.volume = 4 * math.pi**2 * self.major * self.minor
        self.curvature = max(1 / self.minor, 1 / (self.major - self.minor))
        self.reach = 1 / self.curvature
        self.speeds = (self.major + self.minor, self.minor)

    def _from_tube(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Nearest point of the tube's central circle, and its unit direction from the axis."""
        flat = torch.cat([x[..., :2], torch.zeros_like(x[..., 2:])], dim=-1)
        norm = _norm(flat)
        first = torch.zeros_like(x)
        first[..., 0] = 1
        outward = torch.where(norm > 0, flat / norm.where(norm > 0, torch.ones_like(norm)), first)
        return self.major * outward, outward

    def project(self, x: Tensor) -> Tensor:
        center, outward = self._from_tube(x)
        offset = x - center
        norm = _norm(offset)
        unit = torch.where(norm > 0, offset / norm.where(norm > 0, torch.ones_like(norm)), outward)
        return center + self.minor * unit

    def tangential(self, point: Tensor, vector: Tensor) -> Tensor:
        normal = (point - self._from_tube(point)[0]) / self.minor
        return vector - (vector * normal).sum(-1, keepdim=True) * normal

    def point(self, u: Tensor) -> Tensor:
        azimuth, tube = u[..., 0], u[..., 1]
        radius = self.major + self.minor * tube.cos()
        return torch.stack([radius * azimuth.cos(), radius * azimuth.sin(), self.minor * tube.sin()], dim=-1)

    def coordinates(self, point: Tensor) -> Tensor:
        azimuth = torch.atan2(point[..., 1], point[..., 0])
        tube = torch.atan2(point[..., 2], torch.hypot(point[..., 0], point[..., 1]) - self.major)
        return torch.stack([azimuth, tube], dim=-1).remainder(2 * math.pi)

    def log_element(self, u: Tensor) -> Tensor:
        return (self.minor * (self.major + self.minor * u[..., 1].cos())).log()

    def uniform(self, n: int, generator: torch.Generator) -> Tensor:
        """Exact: an angle and its opposite share a uniform mass, split between them in proportion to the element."""
        azimuth, tube, split = torch.rand(3, n, dtype=torch.float64, generator=generator)
        tube = 2 * math.pi * tube
        tube = torch.where(split < (1 + self.minor / self.major * tube.cos()) / 2, tube, tube + math.pi)
        return self.point(torch.stack([2 * math.pi * azimuth, tube], dim=-1))

    def __repr__(self) -> str:
        return f"Torus(major={self.major:g}, minor={self.minor:g})"


class Product(Submanifold):
    """The product of manifolds of vectors, in the product of their spaces: points are concatenated."""

    def __init__(self, *factors: Submanifold) -> None:
        if not factors or any(len(m.image_shape) != 1 for m in factors):
            raise ValueError(f"factors must be one or more manifolds of vectors, got {factors}")
        self.factors = factors
        self.sizes = [m.image_shape[0] for m in factors]
        self.dim = sum(m.dim for m in factors)
        self.image_shape = (sum(self.sizes),)
        self.volume = math.prod(m.volume for m in factors)
        self.curvature = max(m.curvature for m in factors)
        self.reach = min(m.reach for m in factors)
        if all(m.axes for m in factors):
            self.axes = tuple(axis for m in factors for axis in m.axes)
        if all(m.speeds for m in factors):
            self.speeds = tuple(speed for m in factors for speed in m.speeds)

    def split(self, x: Tensor) -> tuple[Tensor, ...]:
        """Parts of vectors (..., d) that belong to the factors."""
        return x.split(self.sizes, dim=-1)

    def _coordinates_of(self, u: Tensor) -> tuple[Tensor, ...]:
        return u.split([m.dim for m in self.factors], dim=-1)

    def project(self, x: Tensor) -> Tensor:
        return torch.cat([m.project(part) for m, part in zip(self.factors, self.split(x), strict=True)], dim=-1)

    def tangential(self, point: Tensor, vector: Tensor) -> Tensor:
        parts = zip(self.factors, self.split(point), self.split(vector), strict=True)
        return torch.cat([m.tangential(p, v) for m, p, v in parts], dim=-1)

    def point(self, u: Tensor) -> Tensor:
        return torch.cat([m.point(v) for m, v in zip(self.factors, self._coordinates_of(u), strict=True)], dim=-1)

    def coordinates(self, point: Tensor) -> Tensor:
        return torch.cat([m.coordinates(p) for m, p in zip(self.factors, self.split(point), strict=True)], dim=-1)

    def log_element(self, u: Tensor) -> Tensor:
        parts = zip(self.factors, self._coordinates_of(u), strict=True)
        return torch.stack([m.log_element(v) for m, v in parts]).sum(0)

    def uniform(self, n: int, generator: torch.Generator) -> Tensor:
        return torch.cat([m.uniform(n, generator) for m in self.factors], dim=-1)

    def __repr__(self) -> str:
        return f"Product({', '.join(map(repr, self.factors))})"


class VonMisesFisher:
    """Log-density kappa <direction, p> / |p| of points p (..., d) of a sphere; `Manifold` knows its closed forms.

    direction: (d,), of any length above 0. kappa: concentration, at least 0; 0 is the uniform law.
    """

    def __init__(self, direction: Tensor | Sequence[float], kappa: float) -> None:
        direction = torch.as_tensor(direction, dtype=torch.float64)
        if direction.ndim != 1 or not bool(direction.isfinite().all()) or float(direction.norm()) == 0:
            raise ValueError(f"direction must be a finite vector that is not zero, got {direction.tolist()}")
        if not (math.isfinite(kappa) and kappa >= 0):
            raise ValueError(f"kappa must be finite and at least 0, got {kappa}")
        self.direction = direction / direction.norm()
        self.kappa = float(kappa)

    def __call__(self, points: Tensor) -> Tensor:
        return self.kappa * (points @ self.direction.to(points)) / _norm(points)[..., 0]


class VonMisesFisherMixture:
    """Log-density log sum_k w_k f_k(p) of points p (..., d) of a sphere, f_k the von Mises-Fisher density of direction
    k and concentration k, normalised; `Manifold` knows its closed forms in any dimension.

    directions: (K, d), of any length above 0. kappas: (K,), at least 0, or one number. weights: (K,), at least 0, of
    any positive sum; None is equal ones. Raises ValueError for others.
    """

    def __init__(
        self,
        directions: Tensor | Sequence[Sequence[float]],
        kappas: Tensor | Sequence[float] | float,
        weights: Tensor | Sequence[float] | None = None,
    ) -> None:
        directions = torch.as_tensor(directions, dtype=torch.float64)
        if directions.ndim != 2 or not len(directions):
            raise ValueError(f"directions must have shape (K, d) with K at least 1, got {tuple(directions.shape)}")
        count = len(directions)
        self.kappas = torch.as_tensor(kappas, dtype=torch.float64)
        self.kappas = self.kappas.repeat(count) if self.kappas.ndim == 0 else self.kappas
        self.weights = torch.ones(count) if weights is None else torch.as_tensor(weights)
        self.weights = self.weights.double()
        for name, values in (("kappas", self.kappas), ("weights", self.weights)):
            if tuple(values.shape) != (count,):
                raise ValueError(f"{name} must hold one number for each of {count} directions, got {values.tolist()}")
        if not bool((self.weights.isfinite() & (self.weights >= 0)).all()) or float(self.weights.sum()) == 0:
            raise ValueError(f"weights must be finite and at least 0, not all 0, got {self.weights.tolist()}")
        self.weights = self.weights / self.weights.sum()
        self.parts = [VonMisesFisher(mu, float(kappa)) for mu, kappa in zip(directions, self.kappas, strict=True)]
        self.directions = torch.stack([part.direction for part in self.parts])

    def __call__(self, points: Tensor) -> Tensor:
        kappas, size = self.kappas.to(points), self.directions.shape[1]
        normaliser = log_mean_exp(kappas.square(), size) + kappas
        cosines = points @ self.directions.to(points).T / _norm(points)
        return (kappas * cosines - normaliser + self.weights.to(points).log()).logsumexp(-1)


class Factorised:
    """Log-density of a `Product` as a sum: one log-density, or None for uniform, for each factor."""

    def __init__(self, *parts: LogDensity | None) -> None:
        self.parts = parts


class InCoordinates:
    """Log-density of points from a log-density of chart coordinates, u (..., dim) -> (...), with respect to du.

    Such is the von Mises law of an ellipse's parameter: `InCoordinates(Ellipse(1, 2), lambda u: u[..., 0].cos())`.
    """

    def __init__(self, manifold: Submanifold, log_density: LogDensity) -> None:
        if not manifold.axes:
            raise ValueError(f"manifold must have a chart, got {manifold!r}")
        self.manifold, self.log_density = manifold, log_density

    def __call__(self, points: Tensor) -> Tensor:
        u = self.manifold.coordinates(points)
        return self.log_density(u) - self.manifold.log_element(u)


def interpolate(wanted: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Piecewise linear y(x) at `wanted`, x increasing; all one-dimensional."""
    i = torch.searchsorted(x, wanted).clamp(1, len(x) - 1)
    return y[i - 1] + (y[i] - y[i - 1]) * (wanted - x[i - 1]) / (x[i] - x[i - 1])
