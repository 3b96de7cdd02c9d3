from __future__ import annotations

import pytest
import torch
from deepinv.physics import Physics

import operators

SHAPE = (1, 4, 5)


def _difference(x: torch.Tensor) -> torch.Tensor:
    return x[..., 1:] - x[..., :-1]


def _difference_adjoint(y: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.pad(y, (1, 0)) - torch.nn.functional.pad(y, (0, 1))


@pytest.mark.parametrize("adjoint", [_difference_adjoint, None])
def test_a_pair_of_functions_or_one_alone(adjoint: object) -> None:
    physics = operators.from_functions(_difference, adjoint, image_shape=SHAPE, noise=0.1)
    assert operators.is_linear(physics) and operators.check_adjoint(physics, SHAPE) <= 1e-6
    for batch in (1, 3, 2):  # the traced adjoint follows the batch size
        y = torch.rand(batch, 1, 4, 4)
        assert torch.allclose(physics.A_adjoint(y), _difference_adjoint(y), atol=1e-6)
    assert physics.A_adjoint(y.double()).dtype == torch.float64
    y = physics(torch.rand(2, *SHAPE))
    operators.check_measurement(physics, y, SHAPE)
    assert operators.likelihood(physics).score(torch.rand(2, *SHAPE), y).shape == (2, *SHAPE)


def test_the_traced_adjoint_can_be_differentiated() -> None:
    physics = operators.from_functions(_difference, image_shape=SHAPE)
    y = torch.rand(1, 1, 4, 4, requires_grad=True)
    v = torch.rand(1, *SHAPE)
    gradient = torch.autograd.grad((physics.A_adjoint(y) * v).sum(), y)[0]
    assert torch.allclose(gradient, _difference(v), atol=1e-6)


def test_a_nonlinear_function() -> None:
    physics = operators.from_functions(torch.exp, image_shape=(3,), linear=False, noise=0.1)
    assert isinstance(physics, Physics) and not operators.is_linear(physics)
    x, y = torch.rand(2, 3), torch.rand(2, 3)
    expected = x.exp() * (y - x.exp()) / 0.1**2
    assert torch.allclose(operators.likelihood(physics).score(x, y), expected, rtol=1e-4)


@pytest.mark.parametrize(
    "arguments, error, message",
    [
        ({"A": torch.square}, ValueError, "A must be linear.*linear=False"),
        ({"A": lambda x: x + 1}, ValueError, "A must be linear"),
        ({"A": 3}, TypeError, "A must be a function.*got int"),
        ({"A": _difference, "A_adjoint": 3}, TypeError, "A_adjoint must be a function.*got int"),
        ({"A": _difference, "A_adjoint": lambda y: y}, ValueError, "A_adjoint must give shape"),
        ({"A": lambda x: 2 * x, "A_adjoint": lambda y: y}, ValueError, "A_adjoint must be the transpose of A, .*not"),
        ({"A": _difference, "image_shape": None}, TypeError, "image_shape must be a tuple.*got None"),
        (
            {"A": _difference, "A_adjoint": SHAPE, "image_shape": None},
            TypeError,
            "A_adjoint must be a function.*got tuple",
        ),
        ({"A": lambda x: x.sum()}, ValueError, "A must map a batch"),
        ({"A": lambda x: x.numpy()}, ValueError, "A must map a batch.*got ndarray"),
        ({"A": lambda x: x * 1j}, TypeError, "A must give real measurements.*view_as_real"),
        ({"A": torch.exp, "A_adjoint": torch.exp, "linear": False}, ValueError, "A_adjoint must not be given"),
        ({"A": _difference, "image_shape": (4, 5)}, ValueError, "image_shape must be"),
        ({"A": _difference, "noise": -1.0}, ValueError, "noise must be finite"),
    ],
)
def test_refused(arguments: dict, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        operators.from_functions(**{"image_shape": SHAPE, **arguments})


def test_the_image_shape_may_be_given_by_its_place() -> None:
    physics = operators.from_functions(_difference, _difference_adjoint, SHAPE, noise=0.1)
    assert tuple(physics.img_size) == SHAPE


def test_the_mismatch_of_an_adjoint_is_explained() -> None:
    wrong = r"got \|<Ax, y> - <x, A\^T y>\| / \(\|Ax\| \|y\|\) = 0\.\d+ for random x and y, not at most 0\.001"
    with pytest.raises(ValueError, match=wrong):
        operators.from_functions(lambda x: 2 * x, lambda y: y, SHAPE)
