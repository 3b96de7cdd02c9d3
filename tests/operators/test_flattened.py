"""Stacked and complex measurements as real vectors: the operator, its adjoint, and above all its noise."""

from __future__ import annotations

import math

import pytest
import torch
from deepinv.physics import (
    Denoising,
    GaussianNoise,
    LaplaceNoise,
    LinearPhysics,
    NoiseModel,
    Physics,
    PoissonNoise,
    ZeroNoise,
)
from deepinv.utils import TensorList

import operators

SHAPE = (1, 5, 6)


class Spectrum(LinearPhysics):
    """The unitary Fourier transform, and its adjoint over the complex numbers."""

    def A(self, x: torch.Tensor, **kwargs: object) -> torch.Tensor:
        return torch.fft.fft2(x, norm="ortho")

    def A_adjoint(self, y: torch.Tensor, **kwargs: object) -> torch.Tensor:
        return torch.fft.ifft2(y, norm="ortho")


def spectrum(noise: float | torch.Tensor) -> LinearPhysics:
    return Spectrum(noise_model=GaussianNoise(noise))


def masked(noise: float | torch.Tensor) -> Physics:
    return operators.create("inpainting", SHAPE, keep=0.5, noise=noise)


def images(batch: int = 2) -> torch.Tensor:
    return torch.rand(batch, *SHAPE, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "physics",
    [
        spectrum(0.1),
        LinearPhysics(A=lambda x: torch.fft.fft2(x), noise_model=GaussianNoise(0.1)),  # differentiated by deepinv
        masked(0.1).stack(masked(0.1)),
        masked(0.2).stack(spectrum(0.1)).stack(operators.create("super-resolution", (1, 5, 6), factor=1, noise=0.3)),
    ],
    ids=["complex", "differentiated", "stacked", "mixed"],
)
def test_the_adjoint_is_that_of_the_real_inner_product(physics: Physics) -> None:
    flat = operators.flattened(physics, SHAPE)
    assert operators.is_linear(flat) and operators.check_adjoint(flat, SHAPE) <= 1e-6
    y = flat.A(images())
    assert y.ndim == 2 and not y.is_complex()
    torch.testing.assert_close(y, flat.measurement(physics.A(images())))


def test_real_tensors_are_left_as_they_are() -> None:
    physics, y = masked(0.1), images()
    assert operators.flattened(physics, SHAPE) is physics
    assert operators.as_real(physics, y, SHAPE) == (physics, y)


def test_complex_numbers_become_pairs_and_parts_follow_each_other() -> None:
    physics = masked(1.0).stack(spectrum(math.sqrt(2)))  # one level for each real number: nothing is scaled
    flat, y = operators.as_real(physics, physics.A(images()), SHAPE)
    first, second = physics.A(images())
    torch.testing.assert_close(y, torch.cat([first.flatten(1), torch.view_as_real(second).flatten(1)], dim=1))
    assert float(operators.noise_sigma(flat)) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("physics", "sigma"),
    [
        (spectrum(0.2), [0.2 / math.sqrt(2)] * 2),
        (spectrum(torch.tensor([0.2, 0.5])), [0.2 / math.sqrt(2), 0.5 / math.sqrt(2)]),
        (masked(0.2).stack(masked(0.2)), [0.2, 0.2]),
        (masked(0.2).stack(masked(0.7)), [1.0, 1.0]),
        (masked(0.2).stack(masked(torch.tensor([0.3, 0.9]))).stack(spectrum(0.5)), [1.0, 1.0]),
    ],
    ids=["complex", "one-per-image", "one-level", "two-levels", "mixed"],
)
def test_the_noise_that_deepinv_adds_is_the_noise_that_is_assumed(physics: Physics, sigma: list[float]) -> None:
    flat = operators.flattened(physics, SHAPE)
    clean = flat.A(images())
    residuals = torch.stack([flat.measurement(physics(images())) - clean for _ in range(400)])
    inside = operators.measured(flat)
    for b, expected in enumerate(sigma):
        seen = residuals[:, b] if inside is None else residuals[:, b, inside[0].expand_as(clean[b]) > 0]
        assert float(operators.noise_sigma(flat).expand(2)[b]) == pytest.approx(expected)
        # the deviation of an entry, from 400 draws, is known to 3.5%, here to six of that
        torch.testing.assert_close(seen.std(0) / expected, torch.ones(seen.shape[1]), rtol=0, atol=6 * 0.0354)
        # that of all, from 6,000 draws or more, to 0.9%
        assert float(seen.square().mean().sqrt()) == pytest.approx(expected, rel=0.05)


def test_flattened_physics_draw_their_noise_as_their_parts_do() -> None:
    flat = operators.flattened(masked(0.2).stack(spectrum(0.5)), SHAPE)
    residual = torch.cat([flat(images()) - flat.A(images()) for _ in range(200)])
    inside = operators.measured(flat).expand_as(residual)
    assert float(residual[inside > 0].std()) == pytest.approx(1.0, rel=0.05)
    assert not residual[inside == 0].any()


def test_chains_use_the_noise_of_their_image() -> None:
    physics = masked(0.2).stack(masked(torch.tensor([0.3, 0.9])))
    flat, y = operators.as_real(physics, physics(images()), SHAPE)
    picked = operators.per_image(flat, torch.tensor([1, 0, 1]))
    torch.testing.assert_close(picked.A(images()[[1, 0, 1]]), flat.A(images())[[1, 0, 1]])
    expected = operators.likelihood(flat).score(images(), y)[[1, 0, 1]]
    torch.testing.assert_close(operators.likelihood(picked).score(images()[[1, 0, 1]], y[[1, 0, 1]]), expected)


def test_the_score_of_parts_is_the_sum_of_their_scores() -> None:
    parts = [masked(0.2), operators.create("saturation", SHAPE, noise=0.1)]  # one of them is not linear
    physics = parts[0].stack(parts[1])
    measured = physics(images())
    flat, y = operators.as_real(physics, measured, SHAPE)
    assert not operators.is_linear(flat)
    x = 0.5 * images() + 0.2
    expected = sum(operators.likelihood(part).score(x, measured[j]) for j, part in enumerate(parts))
    torch.testing.assert_close(operators.likelihood(flat).score(x, y), expected, rtol=1e-4, atol=1e-4)


def test_the_noise_of_one_other_law_is_kept() -> None:
    parts = [operators.create("denoising", SHAPE, noise=PoissonNoise(0.1)) for _ in range(2)]
    physics = parts[0].stack(parts[1])
    measured = physics(images())
    flat, y = operators.as_real(physics, measured, SHAPE)
    expected = sum(operators.likelihood(part).nll(images(), measured[j]) for j, part in enumerate(parts))
    torch.testing.assert_close(operators.likelihood(flat).nll(images(), y), expected)


def test_double_precision_is_kept() -> None:
    part = masked(0.1).double()
    physics = part.stack(spectrum(0.3).double())
    flat, y = operators.as_real(physics, physics.A(images().double()), SHAPE)
    assert y.dtype == flat.A(images().double()).dtype == torch.float64
    assert flat.A_adjoint(y).dtype == torch.float64


def test_neither_the_physics_nor_the_measurement_is_changed() -> None:
    physics = masked(0.1).stack(LinearPhysics(A=lambda x: 2 * x, noise_model=GaussianNoise(0.3)))
    y = physics(images())
    parts, before = list(physics.physics_list), [piece.clone() for piece in y.x]
    operators.as_real(physics, y, SHAPE)
    assert all(part is given for part, given in zip(physics.physics_list, parts, strict=True))
    assert parts[1].img_size is None and type(physics.noise_model) is ZeroNoise
    assert all(torch.equal(piece, given) for piece, given in zip(y.x, before, strict=True))


def test_a_sensor_in_a_part_is_refused_as_elsewhere() -> None:
    rounding = LinearPhysics(A=lambda x: x, noise_model=GaussianNoise(0.1), sensor_model=torch.round)
    with pytest.raises(ValueError, match="physics must have no sensor_model"):
        operators.likelihood(operators.flattened(masked(0.1).stack(rounding), SHAPE))


@pytest.mark.parametrize(
    ("noises", "message"),
    [
        ((GaussianNoise(0.1), PoissonNoise(0.1)), "all parts of physics must have GaussianNoise, or one.*PoissonNoise"),
        ((LaplaceNoise(0.1), LaplaceNoise(0.2)), "all parts of physics must have GaussianNoise, or one and the same"),
        ((GaussianNoise(0.1), ZeroNoise()), r"must have noise, got ZeroNoise in part 1.*set_noise_model\(.*item=1"),
        ((GaussianNoise(0.1), GaussianNoise(-0.1)), "sigma of GaussianNoise must be finite and above 0"),
    ],
)
def test_noise_without_one_law_is_refused(noises: tuple[NoiseModel, NoiseModel], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        operators.flattened(Denoising(noises[0]).stack(Denoising(noises[1])), SHAPE)


def test_complex_measurements_with_other_noise_are_refused() -> None:
    with pytest.raises(ValueError, match="must have GaussianNoise where its measurements are complex, got LaplaceN"):
        operators.flattened(Spectrum(noise_model=LaplaceNoise(0.1)), SHAPE)


def test_a_list_from_a_physics_that_is_no_stack_is_refused() -> None:
    with pytest.raises(ValueError, match=r"physics must give a tensor, or be a deepinv.physics.stack.*got list"):
        operators.flattened(LinearPhysics(A=lambda x: [x, x]), SHAPE)


@pytest.mark.parametrize(
    ("y", "error", "message"),
    [
        (images(), TypeError, "y must be a deepinv TensorList of 2 tensors.*got Tensor.*operators.flattened"),
        (TensorList([images()]), TypeError, "y must be a deepinv TensorList of 2 tensors.*got a TensorList of 1"),
        (TensorList([images(), images()]), TypeError, r"y\[1\] must be complex64 or complex128, got float32"),
        (TensorList([images() + 0j, images() + 0j]), TypeError, r"y\[0\] must be float32 or float64, got.*complex64"),
        (TensorList([images()[..., 1:], images() + 0j]), ValueError, r"y\[0\] must have shape \(B, 1, 5, 6\), got"),
        (TensorList([images(), images(3) + 0j]), ValueError, "parts of y must have one batch size, precision"),
        (TensorList([images().double(), images() + 0j]), ValueError, r"one batch size.*float64.*complex64"),
    ],
)
def test_what_is_no_measurement_is_refused(y: object, error: type[Exception], message: str) -> None:
    physics = Denoising(GaussianNoise(0.1)).stack(spectrum(0.1))
    with pytest.raises(error, match=message):
        operators.check_measurement(physics, y, SHAPE)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_are_refused_in_any_part(value: float) -> None:
    physics = masked(0.1).stack(spectrum(0.1))
    y = physics(images())
    y[1][0, 0, 0, 0] = complex(0, value)
    with pytest.raises(ValueError, match="y must be finite, got 1 NaN or infinite"):
        operators.check_measurement(physics, y, SHAPE)
