from __future__ import annotations

import math

import deepinv
import numpy as np
import pytest
import torch
from deepinv.physics import Downsampling
from torch import Tensor

import operators
from operators.matrices import DecomposedMatrix
from operators.superresolution import SuperResolution

SHAPES = {1: (1, 9, 10), 2: (1, 18, 22), 3: (1, 27, 33)}  # small images with odd sides
FILTERS = [(2, "bicubic"), (3, "bilinear"), (2, "gaussian"), (2, "sinc"), (1, "bicubic")]


@pytest.mark.parametrize("factor, filter", FILTERS)
def test_same_values_as_deepinv(factor: int, filter: str) -> None:
    shape = (3, 24, 30)
    mine = operators.create("super-resolution", shape, factor=factor, filter=filter)
    theirs = Downsampling(shape, filter=filter, factor=factor, padding="circular")
    x = torch.rand(2, *shape)
    y = theirs.A(x)
    assert torch.allclose(mine.A(x), y, atol=1e-5)
    assert torch.allclose(mine.A_adjoint(y), theirs.A_adjoint(y), atol=1e-5)


def _dense(physics: SuperResolution) -> Tensor:
    """A in float64, (m, n), by deepinv's convolution instead of the stored spectrum."""
    n, exact = math.prod(physics.img_size), physics.filter.double()
    theirs = Downsampling(physics.img_size, filter=exact, factor=physics.factor, padding="circular")
    return theirs.A(torch.eye(n, dtype=torch.float64).reshape(n, *physics.img_size)).flatten(1).T


@pytest.mark.parametrize("filter", ["bicubic", "bilinear", "gaussian", "sinc"])
@pytest.mark.parametrize("factor", [1, 2, 3])
def test_singular_value_decomposition(factor: int, filter: str) -> None:
    physics = operators.create("super-resolution", SHAPES[factor], factor=factor, filter=filter)
    assert isinstance(physics, Downsampling)
    n, matrix = math.prod(SHAPES[factor]), _dense(physics)
    basis = torch.eye(n).reshape(n, *SHAPES[factor])
    left, right = physics.U(basis).flatten(1).T, physics.V(basis).flatten(1).T  # columns: singular vectors
    carried = (torch.arange(n).reshape(SHAPES[factor])[:, ::factor, ::factor]).flatten()
    assert torch.allclose(right.T @ right, torch.eye(n), atol=1e-5)
    assert torch.allclose(left[:, carried].T @ left[:, carried], torch.eye(len(matrix)), atol=1e-5)
    assert torch.allclose(physics.V_adjoint(basis).flatten(1), right, atol=1e-6)
    small = torch.eye(len(matrix)).reshape(len(matrix), *physics.A(basis[:1]).shape[1:])
    assert torch.allclose(physics.U_adjoint(small).flatten(1), left, atol=1e-6)
    values = np.linalg.svd(matrix.numpy(), compute_uv=False)
    sorted_mask = physics.mask.flatten().sort(descending=True).values
    assert torch.allclose(sorted_mask[: len(values)].double(), torch.from_numpy(values), atol=1e-6 * values[0])
    assert not bool(sorted_mask[len(values) :].any())
    assert torch.allclose((left * physics.mask.flatten() @ right.T).double(), matrix, atol=1e-6)
    assert operators.sqnorm(physics, SHAPES[factor]) == pytest.approx(values[0] ** 2, rel=1e-6)


@pytest.mark.parametrize("filter", ["bicubic", "bilinear"])
def test_frequencies_that_the_filter_removes(filter: str) -> None:
    # Symmetric kernels of even length are zero at the highest row and column frequencies: here 30 + 42 - 1 of them.
    physics = operators.create("super-resolution", (1, 30, 42), factor=1, filter=filter)
    x = torch.randn(2, 1, 30, 42, generator=torch.Generator().manual_seed(0))
    assert int((physics.mask == 0).sum()) == 71
    assert torch.allclose(physics.U(physics.U_adjoint(x)), x, atol=1e-5)
    assert torch.allclose(physics.V(physics.V_adjoint(x)), x, atol=1e-5)


@pytest.mark.parametrize("factor, filter", FILTERS)
def test_pseudo_inverse(factor: int, filter: str) -> None:
    physics = operators.create("super-resolution", SHAPES[factor], factor=factor, filter=filter)
    matrix = _dense(physics)
    inverse = torch.linalg.pinv(matrix, atol=1e-5, rtol=0.0)  # deepinv, too, drops singular values up to 1e-5
    y = torch.randn(
        2, *physics.A(torch.zeros(1, *SHAPES[factor])).shape[1:], generator=torch.Generator().manual_seed(0)
    )
    expected = y.double().flatten(1) @ inverse.T
    error = (physics.A_dagger(y).double().flatten(1) - expected).norm() / expected.norm()
    condition = float(torch.linalg.matrix_norm(inverse, 2) * torch.linalg.matrix_norm(matrix, 2))
    assert error <= 1e-6 * max(condition, 10)  # rounding of 1e-7 times the condition number


# After the change of precision deepinv's spectra have no imaginary parts.
@pytest.mark.filterwarnings("ignore:Casting complex values")
@pytest.mark.parametrize("factor, filter", FILTERS)
def test_prox_is_a_dense_solve(factor: int, filter: str) -> None:
    shape, gamma = SHAPES[factor], 5.0
    physics = operators.create("super-resolution", shape, factor=factor, filter=filter)
    matrix, rng = _dense(physics), torch.Generator().manual_seed(0)
    z = torch.randn(2, *shape, generator=rng)
    y = torch.randn(2, *physics.A(z).shape[1:], generator=rng)
    normal = gamma * matrix.T @ matrix + torch.eye(matrix.shape[1], dtype=torch.float64)
    right = gamma * y.double().flatten(1) @ matrix + z.double().flatten(1)
    expected = torch.linalg.solve(normal, right.T).T.reshape(z.shape)
    assert torch.allclose(physics.prox_l2(z, y, gamma).double(), expected, atol=1e-5)
    assert torch.equal(physics.prox_l2(z, y, gamma), Downsampling.prox_l2(physics, z, y, gamma))
    physics.to(torch.float64)
    assert torch.allclose(physics.prox_l2(z.double(), y.double(), gamma), expected, atol=1e-5)


def test_products_with_the_adjoint() -> None:
    physics, rng = operators.create("super-resolution", (2, 18, 15), factor=3), torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 2, 18, 15, generator=rng), torch.randn(2, 2, 6, 5, generator=rng)
    assert torch.equal(physics.A_adjoint_A(x), physics.A_adjoint(physics.A(x)))
    assert torch.allclose(physics.A_A_adjoint(y), physics.A(physics.A_adjoint(y)), atol=1e-6)


def test_the_decomposition_follows_a_new_filter() -> None:
    physics, new = (operators.create("super-resolution", (1, 18, 22), filter=name) for name in ("bicubic", "bilinear"))
    x = torch.rand(2, 1, 18, 22, generator=torch.Generator().manual_seed(0))
    assert not torch.allclose(physics.A(x), new.A(x), atol=1e-4)
    physics.update(filter=new.filter)
    assert torch.equal(physics.A(x), new.A(x)) and torch.equal(physics.V(x), new.V(x))
    assert torch.equal(physics.mask, new.mask)
    assert torch.equal(physics.prox_l2(x, x[..., :9, :11], 1.0), new.prox_l2(x, x[..., :9, :11], 1.0))


def test_filters_per_image_are_picked_with_their_decomposition() -> None:
    names = ("bilinear", "sinc")
    single = [operators.create("super-resolution", (1, 18, 22), filter=name) for name in names]
    filters = torch.cat([torch.nn.functional.pad(p.filter, [(8 - p.filter.shape[-1]) // 2] * 4) for p in single])
    both = SuperResolution((1, 18, 22), filter=filters, factor=2)
    picked = operators.per_image(both, torch.tensor([1, 0, 0]))
    x = torch.rand(3, 1, 18, 22, generator=torch.Generator().manual_seed(0))
    for i, which in enumerate([1, 0, 0]):
        assert torch.allclose(picked.A(x)[i], single[which].A(x)[i], atol=1e-6)
        assert torch.allclose(picked.V_adjoint(x)[i], single[which].V_adjoint(x)[i], atol=1e-5)
        assert torch.allclose(picked.U(x)[i], single[which].U(x)[i], atol=1e-5)
    assert torch.equal(picked.mask, both.mask[[1, 0, 0]])


def test_deepinvs_ddrm_draws_what_it_draws_with_a_dense_decomposition(monkeypatch: pytest.MonkeyPatch) -> None:
    # DDRM draws its noise as coefficients; the same noise of images makes its draws independent of the basis.
    shape, noise = (1, 12, 14), deepinv.physics.GaussianNoise(0.3)
    fast = operators.create("super-resolution", shape, filter="bilinear", noise=noise)
    dense = DecomposedMatrix(_dense(fast).float(), shape, noise_model=noise)
    assert 0 < int((fast.mask > 0.3).sum()) < int((fast.mask > 0.1).sum())  # some modes are above the noise, some below
    y = torch.rand(2, 1, 6, 7, generator=torch.Generator().manual_seed(0))
    ddrm = deepinv.sampling.DDRM(lambda x, sigma: x.tanh() / (1 + sigma), sigmas=np.linspace(1, 0, 20))
    draws = []
    for physics, measurement in ((fast, y.clone()), (dense, y.flatten(1))):
        images = iter(torch.randn(20, 2, *shape, generator=torch.Generator().manual_seed(1)))
        monkeypatch.setattr(torch, "randn_like", lambda _, images=images, v=physics.V_adjoint: v(next(images)))
        draws.append(ddrm(measurement, physics))
    assert torch.allclose(draws[0], draws[1], atol=1e-4)
    assert draws[0].std() > 0.1


def test_a_constant_image_keeps_its_value() -> None:
    physics = operators.create("super-resolution", (1, 16, 16), factor=4, filter="bilinear")
    y = physics.A(torch.full((1, 1, 16, 16), 0.7))
    assert torch.allclose(y, torch.full((1, 1, 4, 4), 0.7), atol=1e-6)
