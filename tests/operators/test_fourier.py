from __future__ import annotations

import pytest
import torch
from deepinv.physics import MRI

import operators
from operators.fourier import RealFourier
from operators.transforms import hartley, hartley2


def test_hartley_transforms_are_orthonormal_and_involutive() -> None:
    for n in (1, 2, 5, 8):
        matrix = hartley(torch.eye(n))
        assert torch.allclose(matrix @ matrix.T, torch.eye(n), atol=1e-6) and torch.allclose(matrix, matrix.T)
    x = torch.rand(2, 3, 5, 8)
    assert torch.allclose(hartley2(hartley2(x)), x, atol=1e-6)
    assert hartley2(x).norm() == pytest.approx(float(x.norm()), rel=1e-5)


@pytest.mark.parametrize("plane", [(8, 9), (7, 6)])
def test_a_real_image_is_measured_as_deepinv_measures_its_complex_version(plane: tuple[int, int]) -> None:
    x = torch.rand(2, 1, *plane)
    physics = operators.create("fourier", (1, *plane), ratio=0.4)
    assert isinstance(physics, RealFourier)
    theirs = MRI(mask=physics.sampling, img_size=(2, *plane))
    assert torch.allclose(physics.A(x), theirs.A(torch.cat([x, torch.zeros_like(x)], dim=1)), atol=1e-6)


def test_two_channels_are_a_complex_image() -> None:
    physics, x = operators.create("fourier", (2, 6, 8), ratio=0.5), torch.rand(1, 2, 6, 8)
    assert isinstance(physics, MRI)
    expected = torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(torch.complex(x[:, 0], x[:, 1])), norm="ortho"))
    # fftshift without axes would shift the batch too; with one image it does not.
    y = physics.A(x)
    assert torch.allclose(torch.complex(y[:, 0], y[:, 1]), expected * physics.mask[:, 0], atol=1e-6)


@pytest.mark.parametrize("ratio", [0.1, 0.25, 1.0])
def test_ratio_counts_whole_lines_with_the_centre(ratio: float) -> None:
    sampling = operators.create("fourier", (3, 12, 20), ratio=ratio).sampling[0, 0]
    assert torch.equal(sampling, sampling[:1].expand_as(sampling))
    assert sampling[0].sum() == round(ratio * 20) and sampling[0, 10] == 1


def test_all_of_k_space_is_an_isometry() -> None:
    physics, x = operators.create("fourier", (3, 5, 6), ratio=1.0), torch.rand(2, 3, 5, 6)
    assert torch.allclose(physics.A_adjoint(physics.A(x)), x, atol=1e-5)


def test_noise_falls_on_sampled_frequencies_alone() -> None:
    physics = operators.create("fourier", (1, 8, 8), ratio=0.5, noise=0.1)
    y = physics(torch.rand(1, 1, 8, 8))
    assert torch.equal(y != 0, physics.sampling.expand_as(y) == 1)
