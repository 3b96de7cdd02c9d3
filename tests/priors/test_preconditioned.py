import math

import pytest
import torch
from torch import Tensor, nn

from priors.gaussian_mixture import GaussianMixture
from priors.preconditioned import Preconditioned
from priors.unet import UNet

MEAN, STD, SHAPE = 0.3, 0.35, (1, 4, 4)
LEVELS = [0.002, 0.05, 0.5, 3.0, 80.0]


class Nothing(nn.Module):
    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return torch.zeros_like(x)


class ExactForGaussian(nn.Module):
    """What a perfect network would say for data N(MEAN, variance), whose denoiser shrinks by v / (v + sigma^2)."""

    def __init__(self, variance: float):
        super().__init__()
        self.variance = variance

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        sigma = torch.exp(4 * noise).reshape(-1, 1, 1, 1)
        # (v / (v + sigma^2) - s^2 / r^2) / c_out, times x - m = r times the input, without the cancellation.
        shrink = sigma * (self.variance - STD**2) / ((self.variance + sigma**2) * STD)
        return shrink * x


def draws(n: int, seed: int = 0) -> Tensor:
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("sigma", LEVELS)
def test_silent_network_is_the_denoiser_of_a_gaussian(sigma):
    exact = GaussianMixture(torch.full((1, *SHAPE), MEAN).double(), torch.tensor([STD**2]).double())
    x = MEAN + math.hypot(sigma, STD) * draws(5)
    torch.testing.assert_close(Preconditioned(Nothing(), MEAN, STD, SHAPE).denoise(x, sigma), exact.denoise(x, sigma))


@pytest.mark.parametrize("sigma", LEVELS)
def test_perfect_network_gives_the_exact_displacement_in_single_precision(sigma):
    variance = 0.04
    prior = Preconditioned(ExactForGaussian(variance), MEAN, STD, SHAPE)
    x = (MEAN + math.hypot(sigma, 0.2) * draws(5)).float()
    exact = -(sigma**2) / (variance + sigma**2) * (x.double() - MEAN)
    # The network's sigma went through log and exp in single precision: a few units in the sixth digit.
    torch.testing.assert_close(prior.displacement(x, sigma).double(), exact, rtol=3e-5, atol=1e-7 * sigma**2)
    torch.testing.assert_close(prior.score(x, sigma).double(), exact / sigma**2, rtol=3e-5, atol=1e-6)


def test_denoise_is_x_plus_displacement_and_forward_is_denoise():
    prior, x = Preconditioned(ExactForGaussian(0.1), MEAN, STD, SHAPE), draws(3)
    assert torch.equal(prior.denoise(x, 0.2), x + prior.displacement(x, 0.2))
    assert torch.equal(prior(x, 0.2), prior.denoise(x, 0.2))


def test_one_noise_level_per_item():
    prior, x = Preconditioned(ExactForGaussian(0.1), MEAN, STD, SHAPE), draws(3)
    levels = torch.tensor([0.05, 0.5, 5.0]).double()
    alone = torch.cat([prior.denoise(x[i : i + 1], float(levels[i])) for i in range(3)])
    torch.testing.assert_close(prior.denoise(x, levels), alone)
    torch.testing.assert_close(prior.denoise(x, levels.reshape(3, 1, 1, 1)), alone)


@pytest.mark.parametrize("sigma", LEVELS)
def test_error_against_the_target_is_the_weighted_denoising_error(sigma):
    prior = Preconditioned(ExactForGaussian(0.1), MEAN, STD, SHAPE)
    clean, noise = MEAN + STD * draws(4), draws(4, seed=1)
    level = torch.full((4, 1, 1, 1), sigma).double()
    input, target = prior.target(clean, noise, level)
    loss = (prior.network(input, level.log().flatten() / 4) - target).square().mean()
    error = (prior.denoise(clean + sigma * noise, sigma) - clean).square().mean()
    # The denoising error is a difference of numbers of size sigma and more, of which few digits are left at 80.
    torch.testing.assert_close(loss, (sigma**2 + STD**2) / (sigma * STD) ** 2 * error, rtol=1e-8, atol=0.0)


@pytest.mark.parametrize("sigma", LEVELS)
def test_input_and_target_have_unit_variance(sigma):
    n = 20_000
    clean, noise = MEAN + STD * draws(n), draws(n, seed=1)
    for values in Preconditioned(Nothing(), MEAN, STD, SHAPE).target(clean, noise, torch.full((n, 1, 1, 1), sigma)):
        # A sample variance of N(0, 1) has standard error sqrt(2 / N); five of them: wrong once in 1.7 million.
        assert abs(values.var().item() - 1) < 5 * math.sqrt(2 / values.numel())
        assert abs(values.mean().item()) < 5 / math.sqrt(values.numel())


def test_gradient_flows_to_the_image():
    prior, x = Preconditioned(ExactForGaussian(0.1), MEAN, STD, SHAPE), draws(2).requires_grad_()
    (gradient,) = torch.autograd.grad(prior.denoise(x, 0.5).sum(), x)
    torch.testing.assert_close(gradient, torch.full_like(x, 0.1 / (0.1 + 0.25)))


def test_refuses_another_shape_and_noise_level():
    prior = Preconditioned(Nothing(), MEAN, STD, SHAPE)
    with pytest.raises(ValueError, match=r"x must have shape \(B, 1, 4, 4\) for this prior, got \(2, 3, 4, 4\)"):
        prior.denoise(torch.zeros(2, 3, 4, 4), 0.1)
    for sigma in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match="sigma must be finite and above 0"):
            prior.denoise(torch.zeros(2, *SHAPE), sigma)


def test_any_size_means_any_size_but_not_any_channels():
    prior = Preconditioned(UNet([1, 3], (4, 4), (0,), 1, (0,), attention=False, features=8), MEAN, STD, None)
    for shape in ((1, 1, 5, 6), (2, 3, 9, 4)):
        assert prior.denoise(torch.zeros(shape), 0.1).shape == shape
    for shape in ((1, 2, 5, 6), (3, 5, 6)):
        with pytest.raises(ValueError, match=r"x must have shape \(B, C, H, W\) with C 1 or 3"):
            prior.denoise(torch.zeros(shape), 0.1)
