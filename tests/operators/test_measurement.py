from __future__ import annotations

import math

import pytest
import torch
from deepinv.physics import MRI, Blur, BlurFFT, Inpainting, LinearPhysics, MultiCoilMRI, Physics, PoissonNoise

import operators

SHAPE = (3, 8, 10)


@pytest.fixture
def physics() -> Physics:
    return operators.create("super-resolution", SHAPE, noise=0.1)  # measurements are (3, 4, 5)


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_measurements_are_accepted(physics: Physics, batch: int, dtype: torch.dtype) -> None:
    assert operators.check_measurement(physics, torch.rand(batch, 3, 4, 5, dtype=dtype), SHAPE) is None


@pytest.mark.parametrize(
    "y, error, message",
    [
        (torch.rand(2, 3, 4, 6), ValueError, r"y must have shape \(B, 3, 4, 5\).*got \(2, 3, 4, 6\)"),
        (torch.rand(2, 1, 4, 5), ValueError, r"y must have shape \(B, 3, 4, 5\).*got \(2, 1, 4, 5\)"),
        (torch.rand(3, 4, 5), ValueError, r"y must have a batch axis, shape \(B, 3, 4, 5\), got \(3, 4, 5\)"),
        (torch.rand(0, 3, 4, 5), ValueError, r"y must have shape.*got \(0, 3, 4, 5\)"),
        (torch.tensor(1.0), ValueError, r"y must have shape.*got \(\)"),
        (torch.ones(2, 3, 4, 5, dtype=torch.uint8), TypeError, "y must be float32 or float64, got torch.uint8"),
        (torch.ones(2, 3, 4, 5).half(), TypeError, "y must be float32 or float64, got torch.float16"),
        (torch.ones(2, 3, 4, 5) * 1j, TypeError, "y must be float32 or float64, got torch.complex64"),
        (torch.rand(2, 3, 4, 5, device="meta"), ValueError, "y must be on the device of the physics, cpu, got meta"),
        (torch.full((2, 3, 4, 5), math.nan), ValueError, "y must be finite, got 120 NaN or infinite"),
        (torch.full((1, 3, 4, 5), -math.inf), ValueError, "y must be finite, got 60"),
        ([[1.0]], TypeError, "y must be a torch tensor.*got list"),
    ],
)
def test_what_is_no_measurement_is_refused(physics: Physics, y: object, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        operators.check_measurement(physics, y, SHAPE)


def test_one_channel_is_not_broadcast_where_the_operator_would() -> None:
    physics = operators.create("inpainting", SHAPE, noise=0.1)
    with pytest.raises(ValueError, match=r"y must have shape \(B, 3, 8, 10\).*got \(2, 1, 8, 10\)"):
        operators.check_measurement(physics, torch.rand(2, 1, 8, 10), SHAPE)


def test_an_image_shape_that_the_physics_cannot_take_is_refused() -> None:
    physics = operators.create("compressed-sensing", (1, 6, 6), noise=0.1)
    with pytest.raises(ValueError, match=r"physics must accept images of shape \(1, 7, 6\)"):
        operators.check_measurement(physics, torch.rand(1, 9), (1, 7, 6))


def test_parameters_per_image_want_as_many_measurements() -> None:
    physics = operators.create("denoising", (4,), noise=torch.tensor([0.1, 0.2]))
    assert operators.check_measurement(physics, torch.rand(2, 4), (4,)) is None
    with pytest.raises(ValueError, match=r"y must hold 2 measurements.*got 3"):
        operators.check_measurement(physics, torch.rand(3, 4), (4,))


def test_negative_counts_are_refused_under_poisson_noise() -> None:
    physics = operators.create("denoising", (2,), noise=PoissonNoise(0.1))
    with pytest.raises(ValueError, match="y must not be negative under Poisson noise, got values down to -1"):
        operators.check_measurement(physics, torch.tensor([[-1.0, 2.0]]), (2,))


def test_a_real_measurement_of_a_complex_physics_is_refused_with_the_way_out() -> None:
    physics = operators.create("phase-retrieval", (1, 4, 4)).B
    assert operators.check_measurement(physics, physics.A(torch.rand(1, 1, 4, 4) + 0j), (1, 4, 4)) is None
    with pytest.raises(ValueError, match=r"y must be complex64 as the physics gives it, got torch.float32.*as_complex"):
        operators.check_measurement(physics, torch.rand(1, 64), (1, 4, 4))


def test_a_list_of_measurements_is_refused_where_the_physics_is_no_stack() -> None:
    physics = LinearPhysics(A=lambda x: [x, x])
    with pytest.raises(ValueError, match=r"physics must give a tensor, or be a deepinv.physics.stack.*got list"):
        operators.check_measurement(physics, torch.rand(1, 1, 4, 4), (1, 4, 4))


def test_measured_tells_which_entries_carry_information() -> None:
    mask = torch.eye(4)
    assert operators.measured(operators.create("blur", (1, 8, 8))) is None
    assert torch.equal(operators.measured(operators.create("inpainting", (1, 4, 4), mask=mask))[0, 0], mask)
    assert torch.equal(operators.measured(operators.create("fourier", (1, 4, 4), mask=mask))[0, 0], mask)
    assert torch.equal(operators.measured(MRI(mask=mask, img_size=(2, 4, 4))), mask.expand(1, 2, 4, 4))
    assert operators.measured(MultiCoilMRI(mask=mask, img_size=(4, 4))).shape == (1, 2, 1, 4, 4)
    with pytest.raises(ValueError, match="mask of Inpainting must hold only 0 and 1"):
        operators.measured(Inpainting((1, 4, 4), mask=torch.full((1, 4, 4), 0.5)))


@pytest.mark.parametrize(
    ("physics", "message"),
    [
        (Inpainting((1, 8, 8), mask=torch.zeros(1, 8, 8)), "mask of Inpainting must keep at least one entry, got only"),
        (Inpainting((1, 8, 8), mask=torch.full((1, 8, 8), 0.5)), "must hold only 0 and 1.*got values from 0.5 to 0.5"),
        (
            BlurFFT((1, 8, 8), filter=torch.ones(1, 1, 9, 3)),
            r"kernel of BlurFFT must not be larger.*\(8, 8\).*\(9, 3\)",
        ),
        (Blur(filter=torch.ones(1, 1, 3, 9), padding="valid"), r"kernel of Blur must not be larger.*got \(3, 9\)"),
    ],
)
def test_deepinv_physics_are_refused_as_our_own(physics: Physics, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        operators.check_measurement(physics, torch.zeros(1, 1, 8, 8), (1, 8, 8))
