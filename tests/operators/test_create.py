"""Every operator by name: adjoint, singular-value decomposition, randomness, and what is refused."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from deepinv.physics import DecomposablePhysics, GaussianNoise, Physics, PoissonNoise, ZeroNoise

import operators

COLOUR, WIDE, TALL, SQUARE, VECTOR = (3, 12, 12), (1, 10, 17), (2, 14, 9), (1, 12, 12), (11,)
LINEAR = [
    *[("denoising", shape, {}) for shape in (COLOUR, WIDE, VECTOR)],
    *[("gaussian-blur", shape, {}) for shape in (COLOUR, WIDE, TALL)],
    ("gaussian-blur", WIDE, {"width": 0.6, "padding": "reflect"}),
    *[("motion-blur", shape, {}) for shape in (COLOUR, WIDE, TALL)],
    *[("blur", shape, {}) for shape in (COLOUR, WIDE, TALL)],
    ("blur", COLOUR, {"kernel": np.arange(24.0).reshape(1, 4, 6)}),
    ("blur", COLOUR, {"kernel": torch.arange(27.0).reshape(3, 3, 3)}),
    *[("blur", WIDE, {"padding": padding}) for padding in ("reflect", "replicate", "zeros", "valid")],
    *[("inpainting", shape, {}) for shape in (COLOUR, WIDE, VECTOR)],
    ("inpainting", WIDE, {"mask": np.eye(10, 17)}),
    *[("box-inpainting", shape, {}) for shape in (COLOUR, WIDE)],
    ("box-inpainting", WIDE, {"size": (3, 9)}),
    *[("compressed-sensing", shape, {}) for shape in (COLOUR, WIDE, VECTOR, (3, 20, 31))],
    ("compressed-sensing", WIDE, {"ratio": 1.0}),
    *[("super-resolution", shape, {}) for shape in (COLOUR, (1, 10, 18), (2, 14, 9 * 2))],
    ("super-resolution", (1, 18, 15), {"factor": 3, "filter": "bilinear"}),
    ("super-resolution", WIDE, {"factor": 1}),
    *[("fourier", shape, {}) for shape in (COLOUR, WIDE, TALL, SQUARE)],
    ("fourier", WIDE, {"mask": np.triu(np.ones((10, 17)))}),
    *[("tomography", shape, {"angles": 9}) for shape in (COLOUR, SQUARE)],
    ("demosaicing", COLOUR, {}),
    ("demosaicing", (3, 5, 8), {}),
    ("matrix", (1, 3, 5), {"matrix": np.arange(60.0).reshape(4, 15) % 7}),
    ("matrix", VECTOR, {"matrix": torch.arange(220.0).reshape(20, 11).cos()}),
]
NONLINEAR = [("phase-retrieval", WIDE, {}), ("phase-retrieval", COLOUR, {"ratio": 1.3}), ("saturation", VECTOR, {})]
WITHOUT_SVD = {"tomography"}


def _name(case: object) -> str:
    return str(case).replace("\n", "") if isinstance(case, (str, tuple)) else "-".join(case)


def _has_svd(case: tuple) -> bool:
    return isinstance(operators.create(case[0], case[1], **case[2]), DecomposablePhysics)


def _svd_cases() -> list[tuple]:
    return [case for case in LINEAR if _has_svd(case)]


def test_the_cases_cover_every_name() -> None:
    assert {case[0] for case in LINEAR + NONLINEAR} == set(operators.available())


@pytest.mark.parametrize("name, shape, options", LINEAR, ids=_name)
def test_adjoint_is_the_transpose_in_float32(name: str, shape: tuple, options: dict) -> None:
    physics = operators.create(name, shape, **options)
    assert operators.is_linear(physics)
    assert max(operators.check_adjoint(physics, shape, seed=seed) for seed in range(5)) <= 1e-5


@pytest.mark.parametrize("name, shape, options", LINEAR, ids=_name)
def test_adjoint_equals_the_vector_jacobian_product_entry_by_entry(name: str, shape: tuple, options: dict) -> None:
    # Sharper than one random inner product, whose relative error shrinks as the dimension grows.
    physics = operators.create(name, shape, **options)
    x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)).requires_grad_()
    forward = physics.A(x)
    y = torch.randn(forward.shape, generator=torch.Generator().manual_seed(1))
    transposed = torch.autograd.grad(forward, x, y)[0]
    assert (physics.A_adjoint(y) - transposed).norm() <= 1e-5 * transposed.norm()


@pytest.mark.parametrize("name, shape, options", _svd_cases(), ids=_name)
def test_singular_value_decomposition(name: str, shape: tuple, options: dict) -> None:
    physics, n = operators.create(name, shape, **options), math.prod(shape)
    identity = torch.eye(n)
    coefficients = physics.V_adjoint(identity.reshape(n, *shape))
    form = coefficients.shape[1:]
    right = physics.V(identity.reshape(n, *form)).flatten(1).T  # columns: right singular vectors
    left = physics.U(identity.reshape(n, *form)).flatten(1).T
    values = physics.mask.expand(1, *form).flatten()
    matrix = physics.A(identity.reshape(n, *shape)).flatten(1).T
    scale = float(values.max())
    assert bool((values >= 0).all())
    assert torch.allclose(right.T @ right, identity, atol=1e-5)
    assert torch.allclose(coefficients.flatten(1), right, atol=1e-5)  # V_adjoint is the transpose of V
    assert torch.allclose(left * values @ right.T, matrix, atol=1e-5 * scale)
    kept = values > 1e-4 * scale
    assert torch.allclose(left[:, kept].T @ left[:, kept], torch.eye(int(kept.sum())), atol=1e-4)
    measurements = torch.eye(len(matrix)).reshape(len(matrix), *physics.A(torch.zeros(1, *shape)).shape[1:])
    assert torch.allclose(physics.U_adjoint(measurements).flatten(1)[:, kept], left[:, kept], atol=1e-4)


@pytest.mark.parametrize("name, shape, options", _svd_cases(), ids=_name)
def test_prox_of_decomposable_operators_solves_its_normal_equations(name: str, shape: tuple, options: dict) -> None:
    # argmin_z gamma/2 |Az - y|^2 + 1/2 |z - x|^2: gamma A^T(Az - y) + z - x = 0; needs all of V, not its thin part.
    physics, gamma = operators.create(name, shape, **options), 3.0
    rng = torch.Generator().manual_seed(0)
    x, y = torch.rand(2, *shape, generator=rng), physics.A(torch.rand(2, *shape, generator=rng))
    z = physics.prox_l2(x, y, gamma)
    residual = gamma * physics.A_adjoint(physics.A(z) - y) + z - x
    scale = gamma * operators.sqnorm(physics, shape) + 1
    assert residual.abs().max() <= 2e-6 * scale * x.abs().max() * 10


def test_an_svd_is_there_except_where_deepinv_and_algebra_offer_none() -> None:
    # Each padded blur of LINEAR has a kernel that is a column times a row; of the others test_blurs says the same.
    assert {case[0] for case in LINEAR if not _has_svd(case)} == WITHOUT_SVD


@pytest.mark.parametrize("name, shape, options", LINEAR + NONLINEAR, ids=_name)
def test_same_seed_same_operator_and_noise_without_the_global_random_state(
    name: str, shape: tuple, options: dict
) -> None:
    x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    torch_state, numpy_state = torch.random.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    first = operators.create(name, shape, noise=0.1, seed=3, **options)
    second = operators.create(name, shape, noise=0.1, seed=3, **options)
    other = operators.create(name, shape, noise=0.1, seed=4, **options)
    y = first(x)
    assert torch.equal(y, second(x))
    assert not torch.equal(y, other(x))
    assert not torch.equal(y, first(x))  # a second draw is another one
    assert torch.equal(torch.random.get_rng_state(), torch_state)
    assert np.array_equal(np.random.get_state()[1], numpy_state)  # noqa: NPY002


@pytest.mark.parametrize("name", ["inpainting", "compressed-sensing", "fourier", "phase-retrieval"])
def test_random_operators_depend_on_the_seed(name: str) -> None:
    x = torch.rand(1, *WIDE, generator=torch.Generator().manual_seed(0))
    a, b = (operators.create(name, WIDE, seed=seed).A(x) for seed in (0, 1))
    assert not torch.equal(a, b)


@pytest.mark.parametrize("name, shape, options", LINEAR + NONLINEAR, ids=_name)
def test_operators_change_neither_their_inputs_nor_requires_grad(name: str, shape: tuple, options: dict) -> None:
    physics = operators.create(name, shape, noise=0.1, **options)
    x = torch.rand(2, *shape, generator=torch.Generator().manual_seed(0))
    y = physics(x)
    x_before, y_before = x.clone(), y.clone()
    physics.A(x), physics(x), operators.likelihood(physics).score(x, y)
    if operators.is_linear(physics):
        physics.A_adjoint(y)
    assert torch.equal(x, x_before) and torch.equal(y, y_before)
    assert not x.requires_grad and not y.requires_grad


@pytest.mark.parametrize("name, shape, options", LINEAR + NONLINEAR, ids=_name)
def test_operators_act_on_each_image_alone(name: str, shape: tuple, options: dict) -> None:
    physics = operators.create(name, shape, **options)
    x = torch.rand(3, *shape, generator=torch.Generator().manual_seed(0))
    apart = torch.cat([physics.A(image[None]) for image in x])
    assert torch.allclose(physics.A(x), apart, atol=1e-5 * float(apart.abs().max()))


@pytest.mark.parametrize("name, shape, options", LINEAR + NONLINEAR, ids=_name)
def test_the_physics_knows_its_image_shape_and_its_measurements(name: str, shape: tuple, options: dict) -> None:
    physics = operators.create(name, shape, noise=0.1, **options)
    assert isinstance(physics, Physics) and tuple(physics.img_size) == shape
    y = physics(torch.rand(2, *shape, generator=torch.Generator().manual_seed(0)))
    assert operators.check_measurement(physics, y, shape) is None


# deepinv's Downsampling keeps complex spectra, for its prox_l2 alone, of which torch says that it drops half.
@pytest.mark.filterwarnings("ignore:Casting complex values")
@pytest.mark.parametrize("name", ["blur", "motion-blur", "fourier", "super-resolution", "phase-retrieval"])
def test_a_change_of_precision_keeps_the_operator(name: str) -> None:
    # torch casts complex buffers to real ones, dropping the imaginary part, in physics.to(torch.float64).
    x = torch.rand(1, 1, 10, 16, generator=torch.Generator().manual_seed(0))
    physics = operators.create(name, x.shape[1:], **({"kernel": torch.rand(3, 5)} if name == "blur" else {}))
    before = physics.A(x)
    after = physics.to(torch.float64).A(x.double())
    assert after.dtype == torch.float64
    assert torch.allclose(after.float(), before, atol=1e-5 * float(before.abs().max()))


def test_numpy_numbers_are_numbers() -> None:
    physics = operators.create("super-resolution", SQUARE, factor=np.int64(2), noise=np.float32(0.25), seed=np.int64(1))
    assert physics.A(torch.rand(1, *SQUARE)).shape == (1, 1, 6, 6)
    assert operators.noise_sigma(physics) == pytest.approx(0.25)
    assert operators.create("tomography", SQUARE, angles=np.int64(3)).A(torch.rand(1, *SQUARE)).shape[-1] == 3


def test_noise_zero_is_no_noise() -> None:
    physics = operators.create("denoising", SQUARE)
    x = torch.rand(1, *SQUARE)
    assert type(physics.noise_model) is ZeroNoise and torch.equal(physics(x), x)


def test_a_noise_model_is_copied_and_seeded() -> None:
    mine, x = PoissonNoise(gain=0.1), torch.rand(2, *SQUARE, generator=torch.Generator().manual_seed(0))
    first, second = (operators.create("denoising", SQUARE, noise=mine, seed=5) for _ in range(2))
    assert torch.equal(first(x), second(x))
    assert mine.rng is None and "initial_random_state" not in dict(mine.named_buffers())
    generator = torch.Generator().manual_seed(9)
    given = operators.create("denoising", SQUARE, noise=GaussianNoise(0.1, rng=generator))
    assert given.noise_model.rng is generator


REFUSED = [
    ("inpaintin", SQUARE, {}, ValueError, "operator must be one of .*did you mean 'inpainting'"),
    (3, SQUARE, {}, ValueError, "operator .*got 3"),
    ("gaussian-blur", SQUARE, {"widht": 2}, TypeError, "options of gaussian-blur .*did you mean 'width'"),
    ("denoising", SQUARE, {"width": 2}, TypeError, "options of denoising are none, got 'width'"),
    ("denoising", (1, 2), {}, ValueError, r"image_shape must be \(C, H, W\) or \(d,\).*got \(1, 2\)"),
    ("denoising", (1, 0, 2), {}, ValueError, "image_shape .*at least 1"),
    ("denoising", (1, 2.5, 2), {}, TypeError, "image_shape must hold integers"),
    ("denoising", 28, {}, TypeError, "image_shape must be a tuple.*got 28"),
    ("denoising", SQUARE, {"noise": -0.1}, ValueError, "noise must be finite, above 0, got -0.1"),
    ("denoising", SQUARE, {"noise": math.nan}, ValueError, "noise must be finite"),
    ("denoising", SQUARE, {"noise": math.inf}, ValueError, "noise must be finite"),
    ("denoising", SQUARE, {"noise": "0.1"}, TypeError, "noise must be a standard deviation.*got '0.1'"),
    (
        "denoising",
        SQUARE,
        {"noise": "poisson"},
        TypeError,
        r"or a deepinv NoiseModel such as .*PoissonNoise\(0.1\), got 'po",
    ),
    ("denoising", SQUARE, {"noise": [0.1]}, TypeError, "noise must be a standard deviation.*got list"),
    ("denoising", SQUARE, {"noise": torch.tensor([0.1, -0.1])}, ValueError, "noise must hold.*above 0"),
    ("denoising", SQUARE, {"noise": torch.full((2, 2), 0.1)}, ValueError, "noise must hold.*one per image"),
    ("denoising", SQUARE, {"noise": GaussianNoise(-1.0)}, ValueError, "noise must be.*GaussianNoise with sigma"),
    ("denoising", SQUARE, {"noise": PoissonNoise(math.nan)}, ValueError, "noise must be.*PoissonNoise with gain"),
    ("denoising", SQUARE, {"seed": -1}, ValueError, "seed must be from 0"),
    ("denoising", SQUARE, {"seed": 1.5}, TypeError, "seed must be an integer"),
    ("inpainting", SQUARE, {"keep": 0.0}, ValueError, "keep must be finite, above 0 and at most 1, got 0.0"),
    ("inpainting", SQUARE, {"keep": 1.1}, ValueError, "keep must be.*at most 1"),
    ("inpainting", SQUARE, {"keep": "half"}, TypeError, "keep must be a number, got 'half'"),
    ("inpainting", SQUARE, {"keep": True}, TypeError, "keep must be a number, got True"),
    ("inpainting", SQUARE, {"keep": torch.ones(2)}, TypeError, "keep must be a number, got Tensor"),
    ("inpainting", SQUARE, {"mask": torch.full((12, 12), 0.5)}, ValueError, "mask must hold only 0 and 1"),
    ("inpainting", SQUARE, {"mask": torch.zeros(12, 12)}, ValueError, "mask must keep at least one.*all zeros"),
    ("inpainting", SQUARE, {"mask": torch.ones(12, 13)}, ValueError, r"mask must have shape.*got \(12, 13\)"),
    ("inpainting", SQUARE, {"mask": torch.ones(2, 12, 12)}, ValueError, r"mask must have shape.*got \(2, 12, 12\)"),
    ("inpainting", SQUARE, {"mask": torch.full((12, 12), math.nan)}, ValueError, "mask must be finite"),
    ("inpainting", SQUARE, {"mask": "mask.png"}, TypeError, "mask must be a tensor or an array.*got str"),
    ("inpainting", SQUARE, {"mask": torch.ones(12, 12), "keep": 0.5}, TypeError, "keep or mask, got both"),
    ("inpainting", VECTOR, {"mask": torch.ones(12)}, ValueError, r"mask must have shape.*got \(12,\)"),
    ("box-inpainting", SQUARE, {"size": 13}, ValueError, "size must be a box inside the image"),
    ("box-inpainting", SQUARE, {"size": 12}, ValueError, "size must be a box inside the image and smaller"),
    ("box-inpainting", SQUARE, {"size": 0}, ValueError, "size must be at least 1, got 0"),
    ("box-inpainting", SQUARE, {"size": 2.5}, TypeError, "size must be an integer"),
    ("box-inpainting", VECTOR, {}, ValueError, r"image_shape must be \(C, H, W\) for box-inpainting"),
    ("blur", SQUARE, {"kernel": torch.ones(13, 3)}, ValueError, "kernel .*no larger than the image"),
    ("blur", SQUARE, {"kernel": torch.zeros(3, 3)}, ValueError, "kernel must not be zero everywhere"),
    ("blur", SQUARE, {"kernel": torch.full((3, 3), math.inf)}, ValueError, "kernel must be finite"),
    ("blur", SQUARE, {"kernel": torch.ones(3)}, ValueError, "kernel must have shape"),
    ("blur", SQUARE, {"kernel": torch.ones(2, 3, 3)}, ValueError, "kernel must have 1 channels, got 2"),
    ("blur", SQUARE, {"kernel": torch.ones(3, 3) * 1j}, TypeError, "kernel must hold real numbers"),
    ("blur", SQUARE, {"padding": "mirror"}, ValueError, "padding must be one of.*got 'mirror'"),
    ("blur", VECTOR, {}, ValueError, "image_shape must be"),
    ("gaussian-blur", SQUARE, {"width": 0}, ValueError, "width must be finite, above 0"),
    ("gaussian-blur", SQUARE, {"width": 9.0}, ValueError, "width must give a kernel no larger than the image"),
    ("motion-blur", SQUARE, {"length": 40}, ValueError, "length must give a kernel no larger than the image"),
    ("motion-blur", SQUARE, {"length": -1}, ValueError, "length must be finite, above 0"),
    ("motion-blur", SQUARE, {"angle": math.nan}, ValueError, "angle must be finite"),
    ("compressed-sensing", SQUARE, {"ratio": 0.0}, ValueError, "ratio must be finite, above 0 and at most 1"),
    ("compressed-sensing", SQUARE, {"ratio": 1.5}, ValueError, "ratio must be.*at most 1, got 1.5"),
    ("super-resolution", SQUARE, {"factor": 5}, ValueError, "factor must divide both sides"),
    ("super-resolution", SQUARE, {"factor": 0}, ValueError, "factor must be at least 1"),
    ("super-resolution", SQUARE, {"factor": 2.0}, TypeError, "factor must be an integer, got 2.0"),
    ("super-resolution", SQUARE, {"factor": torch.ones(9)}, TypeError, "factor must be an integer, got Tensor"),
    ("super-resolution", SQUARE, {"factor": 12}, ValueError, "factor must give a bicubic filter no larger"),
    ("super-resolution", SQUARE, {"filter": "box"}, ValueError, "filter must be one of"),
    ("fourier", SQUARE, {"ratio": -0.5}, ValueError, "ratio must be finite, above 0"),
    ("fourier", SQUARE, {"mask": torch.zeros(12, 12)}, ValueError, "mask must keep at least one"),
    ("fourier", SQUARE, {"mask": torch.ones(12, 12), "ratio": 0.5}, TypeError, "ratio or mask, got both"),
    ("fourier", VECTOR, {}, ValueError, "image_shape must be"),
    ("tomography", WIDE, {}, ValueError, "image_shape must be .*square"),
    ("tomography", SQUARE, {"angles": 0}, ValueError, "angles must be at least 1"),
    ("tomography", SQUARE, {"angles": torch.ones(2, 2)}, ValueError, "angles must be a number of angles or a list"),
    ("tomography", SQUARE, {"angles": "all"}, TypeError, "angles must be a tensor or an array"),
    ("demosaicing", SQUARE, {}, ValueError, r"image_shape must be \(3, H, W\)"),
    ("matrix", VECTOR, {}, TypeError, "matrix must be given"),
    ("matrix", VECTOR, {"matrix": torch.ones(4, 12)}, ValueError, r"matrix must have shape \(m, 11\).*got \(4, 12\)"),
    ("matrix", VECTOR, {"matrix": torch.ones(11)}, ValueError, "matrix must have shape"),
    ("matrix", VECTOR, {"matrix": torch.zeros(4, 11)}, ValueError, "matrix must not be zero everywhere"),
    ("matrix", VECTOR, {"matrix": torch.full((4, 11), math.nan)}, ValueError, "matrix must be finite"),
    ("phase-retrieval", SQUARE, {"ratio": 0}, ValueError, "ratio must be finite, above 0"),
    ("phase-retrieval", VECTOR, {}, ValueError, "image_shape must be"),
    ("saturation", SQUARE, {"level": -1.0}, ValueError, "level must be finite, above 0"),
]


@pytest.mark.parametrize("name, shape, options, error, message", REFUSED)
def test_bad_input_is_refused_in_one_sentence(
    name: str, shape: tuple, options: dict, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        operators.create(name, shape, **options)
    assert "\n" not in str(caught.value)
