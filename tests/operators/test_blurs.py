from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from deepinv.physics import Blur, BlurFFT, DecomposablePhysics, NoiseModel, PoissonGaussianNoise, PoissonNoise
from scipy import ndimage
from torch import Tensor

import operators
from operators.blurs import SeparableBlur, gaussian_kernel, motion_kernel

PADDINGS = ["reflect", "replicate", "zeros", "valid"]  # of blurs that are not circular
SHAPE = (2, 9, 11)


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


def _separable(size: tuple[int, int], channels: int = 1, seed: int = 0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randn(channels, size[0], 1, generator=rng) * torch.randn(channels, 1, size[1], generator=rng)


def _dense(filter: Tensor, padding: str) -> Tensor:
    """The matrix of deepinv's blur of images of SHAPE, in float64, (m, n)."""
    n = math.prod(SHAPE)
    images = torch.eye(n, dtype=torch.float64).reshape(n, *SHAPE)
    return Blur(filter=filter.double(), padding=padding).A(images).flatten(1).T


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize(
    "kernel",
    [_separable((3, 5)), _separable((4, 2)), _separable((3, 4), channels=2), _separable((1, 6)), _separable((9, 11))],
    ids=["odd", "even", "per channel", "a row", "as large as the image"],
)
def test_singular_value_decomposition_of_a_separable_blur(kernel: Tensor, padding: str) -> None:
    physics = operators.create("blur", SHAPE, kernel=kernel, padding=padding)
    assert isinstance(physics, Blur) and isinstance(physics, DecomposablePhysics)
    n, matrix = math.prod(SHAPE), _dense(physics.filter, padding)
    basis, scale = torch.eye(n).reshape(n, *SHAPE), float(torch.linalg.matrix_norm(matrix, 2))
    left, right, values = physics.U(basis).flatten(1).T, physics.V(basis).flatten(1).T, physics.mask.flatten()
    kept = torch.zeros(SHAPE, dtype=torch.bool)
    kept[:, : physics.A(basis).shape[-2], : physics.A(basis).shape[-1]] = True
    kept = kept.flatten()
    assert torch.allclose((left * values @ right.T).double(), matrix, atol=1e-6 * scale)
    assert torch.allclose(right.T @ right, torch.eye(n), atol=1e-5)
    assert torch.allclose(left[:, kept].T @ left[:, kept], torch.eye(len(matrix)), atol=1e-5)
    assert not bool(left[:, ~kept].any()) and not bool(values[~kept].any())
    assert torch.allclose(physics.V_adjoint(basis).flatten(1), right, atol=1e-6)
    small = torch.eye(len(matrix)).reshape(len(matrix), *physics.A(basis).shape[1:])
    assert torch.allclose(physics.U_adjoint(small).flatten(1), left, atol=1e-6)
    expected = torch.from_numpy(np.linalg.svd(matrix.numpy(), compute_uv=False))
    ordered = values.sort(descending=True).values[: len(expected)].double()
    assert torch.allclose(ordered, expected, atol=1e-6 * scale)
    assert operators.sqnorm(physics, SHAPE) == pytest.approx(scale**2, rel=1e-6)


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("size", [(3, 5), (4, 2)])
def test_products_by_matrices_are_deepinvs_convolutions(size: tuple[int, int], padding: str) -> None:
    physics = operators.create("blur", SHAPE, kernel=_separable(size), padding=padding)
    theirs, x = Blur(filter=physics.filter, padding=padding), torch.randn(3, *SHAPE)
    y = theirs.A(x)
    assert physics._by_matrices(x, -1) and physics._by_matrices(y, -2)
    assert torch.allclose(physics.A(x), y, atol=1e-5)
    assert torch.allclose(physics.A_adjoint(y), theirs.A_adjoint(y), atol=1e-5)
    assert torch.allclose(physics.A_adjoint_A(x), theirs.A_adjoint_A(x), atol=1e-4)
    assert torch.allclose(physics.A_A_adjoint(y), theirs.A_A_adjoint(y), atol=1e-4)
    larger = torch.randn(1, 2, 14, 12)  # of a shape without matrices
    assert torch.equal(physics.A(larger), theirs.A(larger))
    large = operators.create("blur", (1, 70, 65), kernel=_separable(size), padding=padding)
    x = torch.randn(1, 1, 70, 65)
    assert not large._by_matrices(x, -1)
    assert torch.equal(large.A(x), theirs.A(x))
    assert torch.allclose(large.U(large.mask * large.V_adjoint(x)), theirs.A(x), atol=1e-4)
    assert operators.check_adjoint(large, (1, 70, 65)) <= 1e-6


@pytest.mark.parametrize("padding", PADDINGS)
def test_pseudo_inverse_and_prox_of_a_separable_blur(padding: str) -> None:
    physics, gamma = operators.create("gaussian-blur", SHAPE, width=0.5, padding=padding), 5.0
    matrix, rng = _dense(physics.filter, padding), torch.Generator().manual_seed(0)
    z = torch.randn(2, *SHAPE, generator=rng)
    y = torch.randn(2, *physics.A(z).shape[1:], generator=rng)
    flat = y.double().flatten(1)
    inverse = flat @ torch.linalg.pinv(matrix).T  # condition numbers of 20 at most
    assert torch.allclose(physics.A_dagger(y).double().flatten(1), inverse, atol=1e-4)
    normal = gamma * matrix.T @ matrix + torch.eye(matrix.shape[1], dtype=torch.float64)
    prox = torch.linalg.solve(normal, (gamma * flat @ matrix + z.double().flatten(1)).T).T
    assert torch.allclose(physics.prox_l2(z, y, gamma).double().flatten(1), prox, atol=1e-5)


def test_blurs_without_a_cheap_svd_are_deepinvs() -> None:
    kernel = torch.rand(3, 3, generator=torch.Generator().manual_seed(0))
    assert type(operators.create("blur", SHAPE, kernel=kernel, padding="zeros")) is Blur  # no column times a row
    assert type(operators.create("motion-blur", SHAPE, padding="reflect")) is Blur
    assert type(operators.create("gaussian-blur", (1, 513, 8), padding="valid", width=0.6)) is Blur
    assert type(operators.create("gaussian-blur", (1, 512, 8), padding="valid", width=0.6)) is SeparableBlur


@pytest.mark.parametrize("padding", PADDINGS)
def test_a_separable_blur_follows_a_new_filter_or_refuses_it(padding: str) -> None:
    first, second = _separable((3, 5)), _separable((4, 4), seed=1)
    physics, new = (operators.create("blur", SHAPE, kernel=kernel, padding=padding) for kernel in (first, second))
    x = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(0))
    assert torch.equal(physics.A(x, filter=second[None]), new.A(x))
    assert torch.equal(physics.mask, new.mask) and torch.equal(physics.V(x), new.V(x))
    physics.update(filter=first[None])
    assert torch.equal(physics.A(x), operators.create("blur", SHAPE, kernel=first, padding=padding).A(x))
    before = physics.A(x)
    for kernel, shape in ((torch.eye(3)[None, None], "3, 3"), (torch.ones(1, 1, 3, 12), "3, 12")):
        with pytest.raises(ValueError, match=rf"filter must be a column times a row.*\(9, 11\).*\(1, 1, {shape}\)"):
            physics.update(filter=kernel)
    assert torch.equal(physics.A(x), before)


def test_derivative_of_a_separable_blur_by_its_filter() -> None:
    physics, x = operators.create("blur", SHAPE, kernel=_separable((3, 3)), padding="reflect"), torch.rand(1, *SHAPE)
    filter = physics.filter.clone().requires_grad_()
    derivative = torch.autograd.grad(physics.A(x, filter=filter).sum(), filter)[0]
    # sum_p A(x)_p is linear in the filter: its value is the inner product with the derivative.
    assert torch.allclose((derivative * filter).sum(), physics.A(x).sum(), rtol=1e-4)


def test_separable_kernels_per_image_are_picked_with_their_decomposition() -> None:
    kernels = [_separable((3, 4), channels=2, seed=seed)[None] for seed in range(3)]
    both = operators.create("blur", SHAPE, kernel=torch.cat(kernels), padding="reflect")
    index = [1, 0, 2, 1]
    picked, x = operators.per_image(both, torch.tensor(index)), torch.rand(4, *SHAPE)
    for i, image in enumerate(index):
        alone = operators.create("blur", SHAPE, kernel=kernels[image], padding="reflect")
        for of in ("A", "A_adjoint", "U", "U_adjoint", "A_dagger"):
            one, all_of_them = getattr(alone, of)(x[i : i + 1])[0], getattr(picked, of)(x)[i]
            assert torch.allclose(all_of_them, one, atol=1e-5 * float(one.abs().max())), of
    assert torch.equal(picked.mask, both.mask[index])


def test_a_separable_blur_keeps_its_state_and_takes_another_precision() -> None:
    physics, other = (
        operators.create("blur", SHAPE, kernel=_separable((3, 3), seed=s), padding="valid") for s in (0, 1)
    )
    x = torch.rand(1, *SHAPE)
    other.load_state_dict(physics.state_dict())
    assert torch.equal(other.A(x), physics.A(x)) and torch.equal(other.V(x), physics.V(x))
    double = other.to(torch.float64)
    assert torch.allclose(double.U(double.mask * double.V_adjoint(x.double())), physics.A(x).double(), atol=1e-5)
    assert torch.allclose(double.A(x.double()), physics.A(x).double(), atol=1e-5)


def test_a_separable_blur_of_counts() -> None:
    # The factors of a kernel with zeros may be -1e-17 there: nothing that Poisson noise should refuse.
    smallest = 0.0
    for seed in range(100):
        rng = torch.Generator().manual_seed(seed)
        kernel = (torch.rand(7, 1, generator=rng) - 0.5).relu() * (torch.rand(1, 6, generator=rng) - 0.5).relu()
        kernel[3, 3] += not kernel.any()
        physics = operators.create("blur", (1, 20, 20), kernel=kernel, padding="zeros", noise=PoissonNoise(0.1))
        x = 1e4 * (torch.rand(1, 1, 20, 20, generator=rng) - 0.9).relu()
        smallest = min(smallest, float(physics.A(x).min()))
        assert bool((physics(x) >= 0).all())
    assert smallest < 0
