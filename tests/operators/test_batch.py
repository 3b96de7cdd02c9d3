from __future__ import annotations

import pytest
import torch
from deepinv.physics import Blur, LaplaceNoise, PoissonGaussianNoise, PoissonNoise, compose

import operators

INDEX = torch.tensor([0, 1, 2, 0, 1, 2])  # two chains for each of three images, sample axis first


def test_without_parameters_per_image_the_physics_is_returned() -> None:
    for name in ("inpainting", "blur", "compressed-sensing", "tomography", "fourier"):
        physics = operators.create(name, (1, 12, 12), noise=0.1)
        assert operators.per_image(physics, INDEX) is physics


@pytest.mark.parametrize(
    "name, options",
    [
        ("inpainting", {"mask": torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.5}),
        ("fourier", {"mask": torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0)) < 0.5}),
        ("blur", {"kernel": torch.rand(3, 1, 3, 3, generator=torch.Generator().manual_seed(0))}),
        ("compressed-sensing", {"noise": torch.tensor([0.1, 0.2, 0.4])}),
        ("tomography", {"noise": torch.tensor([0.1, 0.2, 0.4])}),
        ("blur", {"noise": PoissonNoise(gain=torch.tensor([0.1, 0.2, 0.4]))}),
        ("denoising", {"noise": PoissonGaussianNoise(torch.tensor([0.1, 0.2, 0.4]), torch.tensor([0.3, 0.2, 0.1]))}),
        ("denoising", {"noise": LaplaceNoise(torch.tensor([0.1, 0.2, 0.4]).reshape(3, 1, 1, 1))}),
    ],
)
def test_each_chain_has_the_parameters_of_its_image(name: str, options: dict) -> None:
    shape = (1, 8, 8)
    physics = operators.create(name, shape, **{"noise": 0.1, **options})
    rng = torch.Generator().manual_seed(1)
    x, y = torch.rand(6, *shape, generator=rng), physics(torch.rand(3, *shape, generator=rng))
    before = {key: value.clone() for key, value in physics.named_buffers()}
    chains = operators.per_image(physics, INDEX)
    nll, score = operators.likelihood(chains).nll(x, y[INDEX]), operators.likelihood(chains).score(x, y[INDEX])
    for half in (slice(0, 3), slice(3, 6)):
        assert torch.allclose(nll[half], operators.likelihood(physics).nll(x[half], y), rtol=1e-5)
        assert torch.allclose(score[half], operators.likelihood(physics).score(x[half], y), rtol=1e-4, atol=1e-4)
    assert chains(x).shape == (6, *y.shape[1:])
    assert all(torch.equal(value, before[key]) for key, value in physics.named_buffers())


def test_parameters_inside_a_composition() -> None:
    inner = operators.create("inpainting", (1, 8, 8), mask=torch.rand(3, 1, 8, 8) < 0.5)
    with pytest.warns(UserWarning):
        physics = compose(inner, Blur(filter=torch.ones(1, 1, 3, 3)))
    x = torch.rand(6, 1, 8, 8)
    expected = torch.cat([physics.A(x[:3]), physics.A(x[3:])])
    assert torch.allclose(operators.per_image(physics, INDEX).A(x), expected)


def test_parameters_for_different_numbers_of_images_are_refused() -> None:
    physics = operators.create("inpainting", (4,), mask=torch.ones(2, 4), noise=torch.tensor([0.1, 0.2, 0.3]))
    with pytest.raises(ValueError, match=r"physics must have parameters for one number of images, got \[2, 3\]"):
        operators.per_image(physics, INDEX)
