from __future__ import annotations

import pytest
import torch
from deepinv.physics import Blur, LinearPhysics, Physics

import operators


def test_check_adjoint_finds_a_wrong_adjoint() -> None:
    right = LinearPhysics(A=lambda x: x.roll(1, -1), A_adjoint=lambda y: y.roll(-1, -1))
    wrong = LinearPhysics(A=lambda x: x.roll(1, -1), A_adjoint=lambda y: y.roll(1, -1))
    assert operators.check_adjoint(right, (1, 4, 4)) <= 1e-6
    assert operators.check_adjoint(wrong, (1, 4, 4)) > 1e-2


def test_check_adjoint_counts_the_imaginary_part() -> None:
    right = LinearPhysics(A=lambda x: x * (1 + 2j), A_adjoint=lambda y: y * (1 - 2j))
    wrong = LinearPhysics(A=lambda x: x * (1 + 2j), A_adjoint=lambda y: y * (1 + 2j))
    assert operators.check_adjoint(right, (1, 4, 4)) <= 1e-6
    assert operators.check_adjoint(wrong, (1, 4, 4)) > 1e-2


def test_check_adjoint_refuses_a_nonlinear_operator() -> None:
    with pytest.raises(ValueError, match=r"physics must be a deepinv LinearPhysics.*Saturation"):
        operators.check_adjoint(operators.create("saturation", (4,)), (4,))


def test_is_linear() -> None:
    assert operators.is_linear(Blur(filter=torch.ones(1, 1, 2, 2)))
    assert not operators.is_linear(Physics(A=torch.square))
    assert not operators.is_linear(operators.create("phase-retrieval", (1, 4, 4)))


@pytest.mark.parametrize("padding", ["circular", "zeros", "valid"])
def test_sqnorm_is_the_largest_squared_singular_value(padding: str) -> None:
    shape = (1, 6, 7)
    kernel = torch.rand(3, 3, generator=torch.Generator().manual_seed(0))
    physics = operators.create("blur", shape, kernel=kernel, padding=padding)
    matrix = physics.A(torch.eye(42).reshape(42, *shape)).flatten(1)
    assert operators.sqnorm(physics, shape) == pytest.approx(float(torch.linalg.matrix_norm(matrix, 2)) ** 2, rel=1e-3)


def test_sqnorm_of_a_nonlinear_operator_is_that_of_its_jacobian() -> None:
    # A(x) = x^2 / 2 has the Jacobian diag(x); the largest of 3 x 300 uniform numbers is above 0.99 but with
    # probability 0.99^900 = 1e-4 for an unlucky seed, and the seed is fixed.
    physics = operators.from_functions(lambda x: x**2 / 2, image_shape=(300,), linear=False)
    assert 0.95 < operators.sqnorm(physics, (300,)) <= 1
    assert operators.sqnorm(operators.create("saturation", (5,), level=2.0), (5,)) == pytest.approx(1)


@pytest.mark.parametrize("name", ["inpainting", "box-inpainting", "demosaicing"])
def test_diagonal_of_an_operator_that_only_weighs_entries(name: str) -> None:
    physics = operators.create(name, (3, 6, 6))
    x = torch.rand(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(physics.A(x), operators.diagonal(physics) * x)


def test_no_diagonal_of_other_operators() -> None:
    assert operators.diagonal(operators.create("blur", (1, 6, 6))) is None


def test_a_wrong_adjoint_shows_in_any_dimension() -> None:
    # A shift the wrong way back: <Ax, Ax> = |x|^2, but <x, A^T A x> is the correlation of x at a shift of 2, near 0.
    physics = operators.create("denoising", (1, 64, 64))
    physics.A = lambda x, **_: x.roll(1, -1)
    physics.A_adjoint = lambda y, **_: y.roll(1, -1)
    # the correlation over |x|^2 has standard deviation 1/64: below 0.9 only at 6 of them
    assert operators.check_adjoint(physics, (1, 64, 64)) > 0.9
    physics.A_adjoint = lambda y, **_: y.roll(-1, -1)
    assert operators.check_adjoint(physics, (1, 64, 64)) < 1e-6
