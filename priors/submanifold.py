"""What a compact manifold in Euclidean space knows: nearest point, tangent space, volume, chart, uniform draws."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .charts import Axis, lattice

LogDensity = Callable[[Tensor], Tensor]


def positive(name: str, value: float) -> float:
    """The value as a float; ValueError, naming it, unless it is finite and above 0."""
    value = float(value)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(f"{name} must be finite and above 0, got {value}")
    return value


class Submanifold:
    """A compact submanifold of R^d without boundary.

    dim: dimension n. image_shape: shape of a point, (d,) or (C, H, W). volume: n-dimensional. curvature: largest
    absolute principal curvature, the reciprocal of a length below which the manifold looks flat. reach: every point
    that is nearer than this has one nearest point on the manifold; 0 where it is not known.
    axes: coordinates of the chart, empty where there is none. speeds: for charts that are periodic in every coordinate,
    numbers c_i such that |point(u) - point(v)|^2 <= sum_i c_i^2 (u_i - v_i)^2.
    """

    dim: int
    image_shape: tuple[int, ...]
    volume: float
    curvature: float
    reach: float = 0.0
    axes: tuple[Axis, ...] = ()
    speeds: tuple[float, ...] = ()

    def project(self, x: Tensor) -> Tensor:
        """Nearest point of the manifold, (..., *image_shape); one of them where there are several."""
        raise NotImplementedError

    def tangential(self, point: Tensor, vector: Tensor) -> Tensor:
        """Orthogonal projection of vectors onto the tangent space at points of the manifold; like vector."""
        raise NotImplementedError

    def point(self, u: Tensor) -> Tensor:
        """Point at coordinates u (..., dim)."""
        raise NotImplementedError(f"{self!r} has no chart")

    def coordinates(self, point: Tensor) -> Tensor:
        """Coordinates (..., dim) of points of the manifold, the inverse of `point`."""
        raise NotImplementedError(f"{self!r} has no chart")

    def log_element(self, u: Tensor) -> Tensor:
        """Logarithm of the volume element d vol / du at coordinates u (..., dim), (...)."""
        raise NotImplementedError(f"{self!r} has no chart")

    def uniform(self, n: int, generator: torch.Generator) -> Tensor:
        """n independent points, uniform with respect to the volume, (n, *image_shape), float64."""
        raise NotImplementedError

    def sample(self, n: int, seed: int = 0) -> Tensor:
        """n independent points, uniform with respect to the volume, (n, *image_shape), float64."""
        if n < 1:
            raise ValueError(f"n must be at least 1, got {n}")
        return self.uniform(n, torch.Generator().manual_seed(seed))

    def distance(self, x: Tensor) -> Tensor:
        """Distance to the manifold, (...)."""
        axes = tuple(range(-len(self.image_shape), 0))
        return torch.linalg.vector_norm(x - self.project(x), dim=axes)

    def quadrature(self, counts: int | Sequence[int]) -> tuple[Tensor, Tensor]:
        """Nodes (K, *image_shape) and weights (K,), float64, for integrals over the volume.

        counts: nodes per coordinate. The rule converges faster than any power of counts for smooth integrands.
        """
        if not self.axes:
            raise ValueError(f"quadrature needs a manifold with a chart, got {self!r}")
        counts = [counts] * self.dim if isinstance(counts, int) else list(counts)
        if len(counts) != self.dim or min(counts) < 1:
            raise ValueError(f"counts must be one positive number or {self.dim} of them, got {counts}")
        u, weights = lattice(self.axes, counts)
        return self.point(u), weights * self.log_element(u).exp()

    def __repr__(self) -> str:
        return f"{type(self).__name__}(dim={self.dim}, image_shape={self.image_shape})"
