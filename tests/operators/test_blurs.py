from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from deepinv.physics import BlurFFT, NoiseModel, PoissonGaussianNoise, PoissonNoise
from scipy import ndimage

import operators
from operators.blurs import gaussian_kernel, motion_kernel


@pytest.mark.parametrize("size", [(3, 3), (5, 2), (4, 7), (1, 1)])
def test_circular_blur_is_the_textbook_convolution(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    kernel, x = rng.normal(size=size), rng.normal(size=(9, 11))
    y = operators.create("blur", (1, 9, 11), kernel=kernel).A(torch.tensor(x)[None, None])
    # scipy centres a kernel at size // 2 as well, and convolves when the kernel is mirrored.
    expected = sum(
        kernel[i, j] * np.roll(x, (i - size[0] // 2, j - size[1] // 2), (0, 1))
        for i in range(size[0])
        for j in range(size[1])
    )
    assert np.allclose(y[0, 0].numpy(), expected, atol=1e-5)
    if size[0] % 2 and size[1] % 2:
        assert np.allclose(expected, ndimage.convolve(x, kernel, mode="wrap"))


def test_same_values_as_deepinv_and_a_filter_can_be_replaced() -> None:
    rng = torch.Generator().manual_seed(0)
    first, second = torch.rand(1, 1, 3, 5, generator=rng), torch.rand(1, 1, 4, 4, generator=rng)
    x = torch.rand(2, 3, 8, 9, generator=rng)
    mine, theirs = operators.create("blur", (3, 8, 9), kernel=first), BlurFFT((3, 8, 9), filter=first)
    assert torch.allclose(mine.A(x), theirs.A(x), atol=1e-5)
    assert torch.allclose(mine.A(x, filter=second), theirs.A(x, filter=second), atol=1e-5)
    assert torch.allclose(mine.A_adjoint(x), theirs.A_adjoint(x), atol=1e-5)
    assert torch.allclose(mine.A_adjoint_A(x), mine.A_adjoint(mine.A(x)), atol=1e-5)
    assert torch.allclose(mine.A_A_adjoint(x), mine.A(mine.A_adjoint(x)), atol=1e-5)


def test_kernel_with_zeros_in_its_spectrum_has_a_finite_svd() -> None:
    # The mean over 2 pixels removes the highest frequency of an even side exactly.
    physics = operators.create("blur", (1, 4, 4), kernel=torch.full((1, 2), 0.5))
    x = torch.rand(1, 1, 4, 4)
    assert float(physics.mask.min()) < 1e-6
    assert torch.allclose(physics.U(physics.mask * physics.V_adjoint(x)), physics.A(x), atol=1e-6)


def test_one_kernel_per_image() -> None:
    kernels = torch.rand(2, 1, 3, 3, generator=torch.Generator().manual_seed(0))
    x = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    y = operators.create("blur", (3, 8, 8), kernel=kernels).A(x)
    for image in range(2):
        alone = operators.create("blur", (3, 8, 8), kernel=kernels[image]).A(x[image : image + 1])
        assert torch.allclose(y[image : image + 1], alone, atol=1e-6)


@pytest.mark.parametrize("width", [0.7, 1.0, 2.5])
def test_gaussian_kernel_has_its_width(width: float) -> None:
    kernel = gaussian_kernel(width)
    radius = len(kernel) // 2
    assert kernel.sum() == pytest.approx(1) and radius == math.ceil(3 * width)
    assert kernel[radius, radius + 1] / kernel[radius, radius] == pytest.approx(math.exp(-0.5 / width**2), rel=1e-5)
    assert torch.allclose(kernel, kernel.T) and torch.allclose(kernel, kernel.flip(0))


@pytest.mark.parametrize("length, angle", [(7, 0), (7, 90), (5, 45), (6.5, 30), (1, 20)])
def test_motion_kernel_has_its_length_and_direction(length: float, angle: float) -> None:
    kernel = motion_kernel(length, angle).double()
    radius = len(kernel) // 2
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    rows, columns = -offsets[:, None], offsets[None, :]  # rows count upwards, so that angles are counter-clockwise
    along = columns * math.cos(math.radians(angle)) + rows * math.sin(math.radians(angle))
    across = columns * math.sin(math.radians(angle)) - rows * math.cos(math.radians(angle))
    assert kernel.sum() == pytest.approx(1, abs=1e-6)
    # A uniform segment has variance (length - 1)^2 / 12; sharing a point among four pixels adds at most 1/4 per axis.
    assert (length - 1) ** 2 / 12 - 1e-6 <= (kernel * along**2).sum() <= 1.1 * (length - 1) ** 2 / 12 + 0.5
    assert (kernel * across**2).sum() <= 0.5
    assert abs((kernel * along).sum()) < 1e-6


def test_motion_blur_at_angle_zero_stays_in_its_row() -> None:
    kernel = motion_kernel(7, 0)
    assert kernel[3].sum() == pytest.approx(1) and (kernel[3, 1:-1] - kernel[3, 3]).abs().max() < 0.02


@pytest.mark.parametrize("noise", [PoissonNoise(0.1), PoissonGaussianNoise(0.1, 1e-6)], ids=["Poisson", "and Gaussian"])
@pytest.mark.parametrize(
    "name, options",
    [
        ("blur", {}),
        ("gaussian-blur", {"width": 0.7}),
        ("motion-blur", {}),
        ("super-resolution", {"filter": "gaussian"}),
        ("super-resolution", {"filter": "bilinear"}),
    ],
)
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e4])
def test_an_image_that_is_not_negative_can_be_counted(
    name: str, options: dict, noise: NoiseModel, scale: float
) -> None:
    x = torch.zeros(1, 1, 128, 128)  # large enough to go through an FFT
    x[..., 5, 7], x[..., 20, 9] = scale, scale / 2
    physics = operators.create(name, (1, 128, 128), noise=noise, **options)
    assert float(physics.A(x).min()) < 0  # the rounding is there, A being linear to the last bit
    assert bool((physics(x) > -1e-4).all())


@pytest.mark.parametrize("name", ["blur", "super-resolution"])
def test_what_is_negative_beyond_rounding_is_not_counted(name: str) -> None:
    physics = operators.create(name, (1, 16, 16), noise=PoissonNoise(0.1))
    x = torch.ones(1, 1, 16, 16)
    x[..., 3:9, 3:9] = -1e-3
    with pytest.raises(ValueError, match="must be non-negative"):
        physics(x)


def test_gaussian_noise_is_added_to_what_the_blur_gave() -> None:
    physics, x = operators.create("blur", (1, 32, 32), noise=0.1, seed=1), torch.zeros(1, 1, 32, 32)
    x[..., 5, 7] = 1
    other = operators.create("denoising", (1, 32, 32), noise=0.1, seed=1)
    assert torch.equal(physics(x), other(physics.A(x)))


@pytest.mark.parametrize("images", [1, 2])
@pytest.mark.parametrize("channels", [1, 3])
def test_products_by_matrices_are_those_by_ffts(channels: int, images: int) -> None:
    # A column times a row for each channel; a kernel that is none; and one for images too large to gain by matrices.
    rng = torch.Generator().manual_seed(0)
    columns, rows = torch.randn(channels, 4, 1, generator=rng), torch.randn(channels, 1, 5, generator=rng)
    physics = operators.create("blur", (3, 10, 9), kernel=columns * rows)
    x = torch.randn(images, 3, 10, 9, generator=rng)
    assert physics.rows.numel() > 0
    for product in (physics.A, physics.A_adjoint, physics.A_adjoint_A):
        # in the precision of the kernel by matrices, in any other by FFTs
        assert torch.allclose(product(x).double(), product(x.double()), atol=1e-4)
    physics.A(x, filter=torch.rand(1, 1, 3, 3, generator=rng))
    assert physics.rows.numel() == 0
    assert torch.allclose(physics.A_adjoint_A(x), physics.A_adjoint(physics.A(x)), atol=1e-5)
    assert operators.create("gaussian-blur", (1, 97, 97)).rows.numel() == 0
    assert operators.create("motion-blur", (1, 20, 20)).rows.numel() == 0
