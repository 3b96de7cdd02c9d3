"""The shipped prior of digits: what its model card claims, on fifty of the digits that it has not seen."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import priors
from priors import store


def held_out() -> torch.Tensor:
    """(50, 1, 28, 28) in [0, 1]; see digits/SOURCE.md."""
    grid = torch.from_numpy(np.array(Image.open(Path(__file__).parent / "digits" / "held-out.png")))
    tiles = grid.reshape(5, 28, 10, 28).transpose(1, 2).reshape(50, 1, 28, 28)
    return tiles.float() / 255


def test_it_is_there_with_its_card():
    assert "digits-28" in store.learned()
    prior = priors.load("digits-28")
    assert (prior.image_shape, prior.sigma_range) == ((1, 28, 28), (0.002, 80.0))
    about = prior.about
    assert (about["name"], about["licence"], about["seed"]) == ("digits-28", "BSD-3-Clause", "0")
    assert "MNIST" in about["data"] and about["value_range"] == "[0, 1]"
    folder = Path(store.__file__).parent / "weights"
    assert (folder / "digits-28.safetensors").stat().st_size <= 2_000_000
    assert (folder / "digits-28.md").read_text().startswith("# digits-28")


def test_digits_get_the_nearest_name():
    with pytest.raises(ValueError, match="did you mean 'digits-28'"):
        priors.load("digits")


# The error of the exact denoiser of the 4,500 training digits, with the best bandwidth, on all 500 held-out ones, and
# the standard error of that (docs/results/digits28_prior.json).
@pytest.mark.parametrize(("sigma", "exact", "uncertainty"), [(0.1, 7.620e-3, 0.044e-3), (0.5, 28.388e-3, 0.566e-3)])
def test_it_knows_more_than_its_training_set(sigma, exact, uncertainty):
    clean = held_out()
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        errors = (priors.load("digits-28").denoise(clean + sigma * noise, sigma) - clean).square().flatten(1).mean(1)
    # five standard errors of the difference of two means: error probability below 3e-7
    assert exact - errors.mean() > 5 * (errors.var() / len(errors) + uncertainty**2) ** 0.5


def test_it_tells_digits_from_clothes():
    """On digits with much noise a prior of digits is better than one of clothes, on clothes it is worse."""
    folder = Path(priors.__file__).parents[1] / "inverse" / "demo_images"
    clothes = torch.stack([torch.from_numpy(np.array(Image.open(path))) for path in sorted(folder.glob("*.png"))])
    digits = held_out()

    def error(name, clean):
        noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
        return (priors.load(name).denoise(clean + noise, 1.0) - clean).square().mean().item()

    for clean, right, wrong in (
        (digits, "digits-28", "fashion-28"),
        (clothes[:, None].float() / 255, "fashion-28", "digits-28"),
    ):
        assert error(right, clean) < 0.7 * error(wrong, clean)
