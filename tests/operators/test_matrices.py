from __future__ import annotations

import math

import pytest
import torch
from deepinv.physics import DecomposablePhysics

import operators
from operators.matrices import DecomposedMatrix, Matrix, SubsampledHartley


def _sum_of_squares_bound(x: torch.Tensor, m: int) -> float:
    """Five standard errors of |Ax|^2 / |x|^2 for Gaussian A with m rows: a chi-square with m degrees over m."""
    return 5 * math.sqrt(2 / m)


def test_matrix_multiplies_the_flattened_image() -> None:
    rng = torch.Generator().manual_seed(0)
    matrix, x = torch.randn(5, 12, generator=rng), torch.rand(2, 3, 2, 2, generator=rng)
    physics = operators.create("matrix", (3, 2, 2), matrix=matrix)
    assert torch.allclose(physics.A(x), torch.stack([matrix @ image.flatten() for image in x]), atol=1e-5)
    assert physics.A(x).shape == (2, 5)
    assert operators.sqnorm(physics, (3, 2, 2)) == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)) ** 2)


def test_rank_deficient_matrix_has_its_svd() -> None:
    matrix = torch.outer(torch.arange(1.0, 5.0), torch.arange(1.0, 7.0))
    physics = operators.create("matrix", (6,), matrix=matrix)
    assert (physics.mask > 1e-4).sum() == 1
    assert physics.mask.max() == pytest.approx(float(matrix.norm()), rel=1e-6)
    y = matrix @ torch.arange(6.0)
    assert torch.allclose(physics.A(physics.A_dagger(y[None])), y[None], atol=1e-3)


def test_a_large_matrix_comes_without_its_square_basis() -> None:
    physics = operators.create("matrix", (3000,), matrix=torch.ones(2, 3000))
    assert isinstance(physics, Matrix) and not isinstance(physics, DecomposablePhysics)
    assert operators.sqnorm(physics, (3000,)) == pytest.approx(6000, rel=1e-4)
    assert operators.check_adjoint(physics, (3000,)) <= 1e-5


@pytest.mark.parametrize("shape, kind", [((1, 28, 28), DecomposedMatrix), ((3, 64, 64), SubsampledHartley)])
@pytest.mark.parametrize("ratio", [0.1, 0.5])
def test_compressed_sensing_keeps_lengths_on_average(shape: tuple, kind: type, ratio: float) -> None:
    physics = operators.create("compressed-sensing", shape, ratio=ratio)
    x = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0))
    y = physics.A(x)
    assert type(physics) is kind and y.shape == (1, round(ratio * math.prod(shape)))
    # Both ensembles give |Ax|^2 / |x|^2 with mean 1 and variance at most 2 / m; wrong with probability 6e-7.
    assert abs(float(y.square().sum() / x.square().sum()) - 1) < _sum_of_squares_bound(x, y.shape[1])


def test_gaussian_rows_are_standard_normal() -> None:
    matrix = operators.create("compressed-sensing", (784,), ratio=0.5).matrix * math.sqrt(392)
    count = matrix.numel()
    assert abs(float(matrix.mean())) < 5 / math.sqrt(count)
    assert abs(float(matrix.var()) - 1) < 5 * math.sqrt(2 / count)


def test_large_compressed_sensing_has_orthogonal_rows_in_little_memory() -> None:
    shape = (1, 256, 256)
    physics = operators.create("compressed-sensing", shape, ratio=0.3)
    n, m = 256 * 256, round(0.3 * 256 * 256)
    assert sum(buffer.numel() * buffer.element_size() for buffer in physics.buffers()) < 2**20
    y = torch.randn(2, m, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(physics.A(physics.A_adjoint(y)), y * n / m, atol=1e-4)
    assert operators.sqnorm(physics, shape) == pytest.approx(n / m)
    assert operators.check_adjoint(physics, shape) <= 1e-5
