"""The shipped prior of photographs, on test images of scikit-image."""

import math

import pytest
import skimage.data
import torch

import priors


@pytest.fixture(scope="module")
def photo() -> priors.Preconditioned:
    return priors.load("photo")


def camera(rows: slice = slice(None), columns: slice = slice(None)) -> torch.Tensor:
    return torch.from_numpy(skimage.data.camera()[rows, columns])[None, None] / 255


def noisy(x: torch.Tensor, sigma: float) -> torch.Tensor:
    return x + sigma * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


def test_it_is_at_most_40_megabytes_for_grey_and_colour_of_any_size(photo):
    assert 4 * sum(weight.numel() for weight in photo.parameters()) <= 40_000_000
    assert photo.image_shape is None and photo.sigma_range[0] <= 0.002 and photo.sigma_range[1] >= 1
    for shape in ((1, 3, 33, 47), (2, 1, 16, 9)):
        assert photo.denoise(torch.rand(shape), 0.1).shape == shape


# FFDNet falls to 15.9 and 9.8 dB there. 262,144 pixels: the PSNR of one noise draw is that of any to 0.05 dB.
@pytest.mark.parametrize(("level", "least"), [(150, 20.0), (255, 18.0)])
def test_it_denoises_where_denoisers_fall_apart(photo, level, least):
    x = camera()
    error = (photo.denoise(noisy(x, level / 255), level / 255).clamp(0, 1) - x).square().mean()
    assert -10 * math.log10(error) >= least


@pytest.mark.parametrize("sigma", [0.05, 1.0, 10.0])
def test_it_sees_a_neighbourhood_alone(photo, sigma):
    x = noisy(camera(slice(100, 420), slice(80, 400)), sigma)
    whole = photo.denoise(x, sigma)
    for overlap, tolerance in ((104, 1e-6 * max(sigma, 1)), (96, 1e-4 if sigma <= 1 else 1e-3)):
        tiled = priors.Tiled(photo, side=256, overlap=overlap).denoise(x, sigma)
        torch.testing.assert_close(tiled, whole, rtol=0, atol=tolerance)


def test_its_score_is_that_of_its_denoiser(photo):
    check = priors.check_score(photo, noisy(camera(slice(0, 32), slice(0, 32)), 0.1).double().float(), 0.1)
    assert check < 1e-3
