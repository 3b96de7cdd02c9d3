"""Manifolds of vectors placed in a larger space by an isometry."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from .submanifold import Submanifold


class Embedded(Submanifold):
    """A manifold of vectors in a larger space by an isometry, x = center + E m, E with orthonormal columns.

    image_shape: shape of the points, (d,) or (C, H, W), or the number d; at least as many entries as the manifold's
    own space. seed: of a random isometry. center: a number or a tensor of image_shape, added to every point.
    basis: E itself, (d, k), instead of a random one. Raises ValueError for a space that is too small and another basis.
    """

    def __init__(
        self,
        manifold: Submanifold,
        image_shape: int | Sequence[int],
        seed: int = 0,
        center: float | Tensor = 0.0,
        basis: Tensor | None = None,
    ) -> None:
        if len(manifold.image_shape) != 1:
            raise ValueError(f"manifold must be one of vectors, got points of shape {manifold.image_shape}")
        self.manifold = manifold
        self.image_shape = (image_shape,) if isinstance(image_shape, int) else tuple(image_shape)
        inner, outer = manifold.image_shape[0], math.prod(self.image_shape)
        if outer < inner:
            raise ValueError(f"image_shape must hold at least {inner} entries for {manifold!r}, got {self.image_shape}")
        self.basis = _random_basis(outer, inner, seed) if basis is None else _orthonormal(basis, outer, inner)
        self.center = torch.as_tensor(center, dtype=torch.float64).expand(self.image_shape).reshape(-1).clone()
        self.dim, self.volume, self.curvature = manifold.dim, manifold.volume, manifold.curvature
        self.axes, self.speeds, self.reach = manifold.axes, manifold.speeds, manifold.reach

    def flatten(self, x: Tensor) -> Tensor:
        """(..., *image_shape) to (..., d)."""
        return x.reshape(*x.shape[: x.ndim - len(self.image_shape)], -1)

    def inner(self, x: Tensor) -> Tensor:
        """E^T (x - center), (..., k): coordinates of x in the manifold's own space. x: (..., *image_shape)."""
        return (self.flatten(x) - self.center.to(x)) @ self.basis.to(x)

    def outer(self, m: Tensor) -> Tensor:
        """center + E m, (..., *image_shape). m: (..., k)."""
        return (self.center.to(m) + m @ self.basis.to(m).T).reshape(*m.shape[:-1], *self.image_shape)

    def project(self, x: Tensor) -> Tensor:
        return self.outer(self.manifold.project(self.inner(x)))

    def tangential(self, point: Tensor, vector: Tensor) -> Tensor:
        basis = self.basis.to(vector)
        part = self.manifold.tangential(self.inner(point), self.flatten(vector) @ basis)
        return (part @ basis.T).reshape(vector.shape)

    def point(self, u: Tensor) -> Tensor:
        return self.outer(self.manifold.point(u))

    def coordinates(self, point: Tensor) -> Tensor:
        return self.manifold.coordinates(self.inner(point))

    def log_element(self, u: Tensor) -> Tensor:
        return self.manifold.log_element(u)

    def uniform(self, n: int, generator: torch.Generator) -> Tensor:
        return self.outer(self.manifold.uniform(n, generator))

    def __repr__(self) -> str:
        return f"Embedded({self.manifold!r}, image_shape={self.image_shape})"


def _random_basis(outer: int, inner: int, seed: int) -> Tensor:
    """Orthonormal columns (outer, inner) that span a uniformly random subspace, float64."""
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(outer, inner, dtype=torch.float64, generator=generator))[0]


def _orthonormal(basis: Tensor, outer: int, inner: int) -> Tensor:
    """The basis in float64; ValueError unless it is (outer, inner) with orthonormal columns."""
    if tuple(basis.shape) != (outer, inner):
        raise ValueError(f"basis must have shape ({outer}, {inner}), got {tuple(basis.shape)}")
    basis = basis.double()
    error = float((basis.T @ basis - torch.eye(inner, dtype=torch.float64, device=basis.device)).abs().max())
    if not error < 1e-10:
        raise ValueError(f"basis must have orthonormal columns, got products that are off by {error:.1e}")
    return basis
