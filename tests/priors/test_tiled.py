"""Tiles: the same as the whole image for a denoiser that sees no further than their overlap, derivatives included."""

import pytest
import torch

from priors import Prior, store
from priors.tiled import Tiled

DESIGN = {
    "network": {
        "in_channels": [1, 3],
        "channels": [4, 8],
        "encoder_blocks": [1],
        "decoder_blocks": [1],
        "middle_blocks": 1,
        "features": 8,
        "attention": False,
        "local": True,
    },
    "mean": 0.5,
    "std": 0.25,
    "image_shape": None,
    "sigma_range": [0.002, 80.0],
}


@pytest.fixture
def local() -> Prior:
    """A network whose every weight is drawn: convolutions reach 1 + 2 + 4 + 2 + 1 pixels, and the grid 1 more."""
    prior = store.build(DESIGN).double().requires_grad_(False)
    random = torch.Generator().manual_seed(0)
    for parameter in prior.network.parameters():
        parameter.copy_(0.3 * torch.randn(parameter.shape, generator=random))
    return prior


def image(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(1, 3, 70, 90), (2, 1, 41, 33), (1, 1, 33, 20), (1, 3, 32, 32), (1, 1, 95, 17)])
def test_tiles_say_what_the_whole_image_says(local, shape):
    x, whole = image(*shape), local.denoise(image(*shape), 0.3)
    torch.testing.assert_close(Tiled(local, side=32, overlap=12, step=2).denoise(x, 0.3), whole, rtol=0, atol=1e-12)
    assert whole.std() > 0.01


def test_with_too_little_overlap_they_do_not(local):
    x = image(1, 1, 70, 90)
    assert (Tiled(local, side=32, overlap=2, step=2).denoise(x, 0.3) - local.denoise(x, 0.3)).abs().max() > 1e-4


def test_each_image_has_its_own_noise_level(local):
    x, sigma = image(2, 1, 41, 33), torch.tensor([0.1, 2.0], dtype=torch.float64)
    tiled = Tiled(local, side=32, overlap=12, step=2)
    torch.testing.assert_close(tiled.score(x, sigma), local.score(x, sigma))


def test_derivatives_are_those_of_the_whole_image_as_often_as_one_asks(local):
    x, v = image(1, 1, 50, 40).requires_grad_(), image(1, 1, 50, 40).flip(2)
    expected = torch.autograd.grad(local.denoise(x, 0.3), x, v)[0]
    denoised = Tiled(local, side=32, overlap=12, step=2).denoise(x, 0.3)
    for _ in range(2):
        found = torch.autograd.grad(denoised, x, v, retain_graph=True)[0]
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_it_is_as_large_and_as_stiff_as_its_prior(local):
    tiled = Tiled(local)
    assert tiled.radius((1, 40, 40)) == local.radius((1, 40, 40))
    assert tiled.stiffness(0.1) == local.stiffness(0.1)
    assert tiled.sigma_range == local.sigma_range


def test_a_name_or_a_file_is_loaded(local, tmp_path):
    x = image(1, 3, 40, 48).float()
    close = {"rtol": 1e-3, "atol": 1e-5}  # loaded networks have their channels last
    torch.testing.assert_close(Tiled("photo").denoise(x, 0.2), store.load("photo").denoise(x, 0.2), **close)
    small = local.float()
    store.save(small, tmp_path / "small.safetensors")
    torch.testing.assert_close(Tiled(tmp_path / "small.safetensors").denoise(x, 0.2), small.denoise(x, 0.2), **close)


def test_it_has_the_name_of_its_prior(local):
    local.about = {"name": "near"}
    assert Tiled(local).about == {"name": "near"}


def test_refusals(local):
    with pytest.raises(ValueError, match="got 'foto'; did you mean 'photo'"):
        Tiled("foto")
    with pytest.raises(TypeError, match="prior must be a Prior or a name of priors.available.., got Identity"):
        Tiled(torch.nn.Identity())
    with pytest.raises(ValueError, match=r"prior must be one for images of any size, got one for \(1, 28, 28\)"):
        Tiled(store.load("fashion-28"))
    for side, overlap in ((32, 16), (30, 8), (32, 4), (64, -8)):
        with pytest.raises(ValueError, match=f"multiples of 8, side above twice the overlap, got {side} and {overlap}"):
            Tiled(local, side, overlap)
