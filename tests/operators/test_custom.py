from __future__ import annotations

import pytest
import torch
from deepinv.physics import Blur, Denoising, GaussianNoise, LinearPhysics, Physics, Tomography

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


class _Own(LinearPhysics):
    """A user's class, with a factor that its adjoint has and its A lacks."""

    def __init__(self, factor: float, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.factor = factor

    def A(self, x: torch.Tensor, **kwargs: object) -> torch.Tensor:
        return _difference(x)

    def A_adjoint(self, y: torch.Tensor, **kwargs: object) -> torch.Tensor:
        return self.factor * _difference_adjoint(y)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_adjoint_of_a_class_of_your_own_is_tried(dtype: torch.dtype) -> None:
    assert operators.check_own_adjoint(_Own(1.0), SHAPE, dtype) is None
    for factor in (3.0, -1.0, 1.01):
        with pytest.raises(ValueError, match=r"A_adjoint of _Own must be the transpose of its A, got .* not at most 0"):
            operators.check_own_adjoint(_Own(factor), SHAPE, dtype)


@pytest.mark.parametrize(
    "physics",
    [
        LinearPhysics(A=_difference, A_adjoint=lambda y: 3 * _difference_adjoint(y)),
        LinearPhysics(A=lambda x: x + 1, img_size=SHAPE),
        _Own(3.0) * operators.from_functions(lambda x: 2 * x, image_shape=SHAPE),
        operators.flattened(Denoising(GaussianNoise(0.1)).stack(_Own(3.0, noise_model=GaussianNoise(0.1))), SHAPE),
    ],
)
def test_any_adjoint_of_your_own_is_tried(physics: Physics) -> None:
    with pytest.raises(
        ValueError, match=r"A_adjoint of .* must be the transpose of its A|A of LinearPhysics, .* must be linear"
    ):
        operators.check_own_adjoint(physics, SHAPE)


def test_an_adjoint_that_fails_is_explained() -> None:
    with pytest.raises(
        ValueError, match=r"A_adjoint that maps its measurements to images \(1, 4, 5\), got .*img_size="
    ):
        operators.check_own_adjoint(LinearPhysics(A=_difference), SHAPE)


@pytest.mark.filterwarnings("ignore")
def test_approximate_adjoints_of_deepinv_are_left_to_it() -> None:
    exact = Blur(filter=torch.rand(1, 1, 3, 3), padding="replicate")
    filtered = Tomography(angles=20, img_width=32, adjoint_via_backprop=False)
    assert operators.check_adjoint(exact, (1, 8, 8)) < 1e-6
    assert 1e-3 < operators.check_adjoint(filtered, (1, 32, 32)) < 0.03
    for physics, shape in ((exact, (1, 8, 8)), (filtered, (1, 32, 32))):
        assert operators.check_own_adjoint(physics, shape) is None


def test_operators_that_are_known_are_not_tried_again() -> None:
    tried = []
    count = operators.from_functions(lambda x: tried.append(1) or _difference(x), _difference_adjoint, SHAPE)
    tried.clear()
    operators.check_own_adjoint(count, SHAPE)
    operators.check_own_adjoint(operators.create("saturation", SHAPE), SHAPE)  # not linear
    assert not tried


def test_a_function_that_is_not_linear_is_not_blamed_on_its_adjoint():
    class Square(LinearPhysics):
        def A(self, x, **kwargs):
            return x**2

    physics = operators.with_image_shape(Square(noise_model=GaussianNoise(0.1)), (1, 4, 4))
    with pytest.raises(ValueError, match="A of Square, a LinearPhysics, must be linear"):
        operators.check_own_adjoint(physics, (1, 4, 4))
