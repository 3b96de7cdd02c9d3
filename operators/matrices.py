"""Operators given by a matrix, and random projections: matrix, compressed-sensing."""

from __future__ import annotations

import math

import numpy as np
import torch
from deepinv.physics import DecomposablePhysics, LinearPhysics, NoiseModel
from torch import Tensor

from .checks import check_array, check_number, generator
from .transforms import hartley

GAUSSIAN_LIMIT = 1024  # largest image, in entries, for a dense random matrix: 4 MiB, and its SVD within a second
SVD_LIMIT = 2048  # largest image, in entries, for which the square V of a user's matrix is computed and kept


class Matrix(LinearPhysics):
    """y = matrix @ vec(x). matrix: (m, n); x: (B, *img_size) with n entries each; y: (B, m)."""

    def __init__(self, matrix: Tensor, img_size: tuple[int, ...], **kwargs: object) -> None:
        super().__init__(img_size=img_size, **kwargs)
        self.register_buffer("matrix", matrix)

    def A(self, x: Tensor, **kwargs: object) -> Tensor:
        return x.flatten(1) @ self.matrix.T.to(x.dtype)

    def A_adjoint(self, y: Tensor, **kwargs: object) -> Tensor:
        return (y @ self.matrix.to(y.dtype)).reshape(-1, *self.img_size)


class DecomposedMatrix(DecomposablePhysics):
    """Matrix with its SVD, computed once in float64: matrix = left diag(mask) right^T.

    mask: (1, n) singular values, zero where n > rank; V = right (n, n) is orthonormal; U maps the first min(m, n)
    coefficients through left (m, min(m, n)). Coefficients: (B, n).
    """

    def __init__(self, matrix: Tensor, img_size: tuple[int, ...], **kwargs: object) -> None:
        m, n = matrix.shape
        left, values, right = torch.linalg.svd(matrix.double(), full_matrices=m < n)
        mask = torch.zeros(1, n, dtype=matrix.dtype)
        mask[0, : len(values)] = values
        super().__init__(img_size=img_size, mask=mask, **kwargs)
        self.register_buffer("matrix", matrix)
        self.register_buffer("left", left[:, : len(values)].to(matrix.dtype).contiguous())
        self.register_buffer("right", right.T.to(matrix.dtype).contiguous())

    A = Matrix.A
    A_adjoint = Matrix.A_adjoint

    def V_adjoint(self, x: Tensor) -> Tensor:
        return x.flatten(1) @ self.right.to(x.dtype)

    def V(self, x: Tensor) -> Tensor:
        return (x @ self.right.T.to(x.dtype)).reshape(-1, *self.img_size)

    def U(self, x: Tensor) -> Tensor:
        return x[:, : self.left.shape[1]] @ self.left.T.to(x.dtype)

    def U_adjoint(self, x: Tensor) -> Tensor:
        coefficients = x @ self.left.to(x.dtype)
        return torch.nn.functional.pad(coefficients, (0, self.mask.shape[1] - coefficients.shape[1]))


class SubsampledHartley(DecomposablePhysics):
    """y = sqrt(n / m) R H D vec(x): random signs D, the Hartley transform H of all n entries, m random rows R.

    A stand-in for a Gaussian matrix with O(n log n) time and O(n) memory whose rows are orthogonal: A A^T = (n / m) I.
    SVD: V = D H, mask = sqrt(n / m) on the chosen rows, U = R. y: (B, m); coefficients: (B, n).
    """

    def __init__(self, img_size: tuple[int, ...], m: int, rng: torch.Generator, **kwargs: object) -> None:
        n = math.prod(img_size)
        signs = torch.randint(0, 2, (n,), generator=rng) * 2.0 - 1.0
        rows = torch.randperm(n, generator=rng)[:m]
        self.scale = math.sqrt(n / m)
        mask = torch.zeros(1, n)
        mask[0, rows] = self.scale
        super().__init__(img_size=img_size, mask=mask, **kwargs)
        self.register_buffer("signs", signs)
        self.register_buffer("rows", rows)

    def V_adjoint(self, x: Tensor) -> Tensor:
        return hartley(x.flatten(1) * self.signs)

    def V(self, x: Tensor) -> Tensor:
        return (hartley(x) * self.signs).reshape(-1, *self.img_size)

    def U(self, x: Tensor) -> Tensor:
        return x[:, self.rows]

    def U_adjoint(self, x: Tensor) -> Tensor:
        coefficients = x.new_zeros(len(x), self.mask.shape[1])
        return coefficients.index_copy(1, self.rows, x)

    def A(self, x: Tensor, **kwargs: object) -> Tensor:
        return self.U(self.V_adjoint(x)) * self.scale

    def A_adjoint(self, y: Tensor, **kwargs: object) -> Tensor:
        return self.V(self.U_adjoint(y)) * self.scale


def matrix(
    image_shape: tuple[int, ...], noise: NoiseModel, seed: int, *, matrix: Tensor | np.ndarray | None = None
) -> LinearPhysics:
    """y = matrix @ vec(x), y: (B, m). matrix: (m, n), n = number of entries of an image; it has to be given.

    With its SVD up to 2,048 entries per image; above, V alone would take n^2 numbers, and only A and A^T are given.
    """
    if matrix is None:
        raise TypeError("matrix must be given for the operator matrix: a tensor or array of shape (m, n)")
    matrix = check_array("matrix", matrix)
    n = math.prod(image_shape)
    if matrix.ndim != 2 or matrix.shape[1] != n or len(matrix) == 0:
        raise ValueError(
            f"matrix must have shape (m, {n}), one column per entry of image_shape {image_shape}, "
            f"got {tuple(matrix.shape)}"
        )
    if not bool(matrix.any()):
        raise ValueError("matrix must not be zero everywhere, got a matrix of all zeros")
    return (DecomposedMatrix if n <= SVD_LIMIT else Matrix)(matrix, image_shape, noise_model=noise)


def compressed_sensing(
    image_shape: tuple[int, ...], noise: NoiseModel, seed: int, *, ratio: float = 0.25
) -> LinearPhysics:
    """m = round(ratio * n) random projections of an image of n entries, y: (B, m). ratio: in (0, 1].

    Up to 1,024 entries a dense matrix with independent N(0, 1/m) entries; above, a subsampled randomised Hartley
    transform (SubsampledHartley) with the same E|Ax|^2 = |x|^2, in O(n) memory.
    """
    n = math.prod(image_shape)
    m = max(1, round(check_number("ratio", ratio, 0, 1) * n))
    rng = generator(seed)
    if n > GAUSSIAN_LIMIT:
        return SubsampledHartley(image_shape, m, rng, noise_model=noise)
    return DecomposedMatrix(torch.randn(m, n, generator=rng) / math.sqrt(m), image_shape, noise_model=noise)
