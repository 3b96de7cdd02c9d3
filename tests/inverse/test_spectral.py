"""Moment matching in frequency: exact for stationary Gaussian priors, its transforms what they are called."""

import math

import pytest
import torch

import operators
from inverse import Posterior, driver
from inverse.frequencies import Frequencies
from inverse.spectral import SpectralMMPS, response
from priors import GaussianMixture, Prior
from priors.base import sigma_per_item

SHAPE = (3, 10, 10)


class Stationary(Prior):
    """A Gaussian law whose covariance is diagonal in frequency, of variances (C, H, W // 2 + 1)."""

    image_shape = SHAPE

    def __init__(self, spectrum: torch.Tensor) -> None:
        super().__init__()
        self.spectrum, self.frequencies = spectrum, frequencies()

    def denoise(self, x, sigma):
        gain = self.spectrum / (self.spectrum + sigma_per_item(sigma, x) ** 2)
        return 0.5 + self.frequencies.filtered(x - 0.5, gain)

    def sample(self, n, seed=0):
        white = torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(seed))
        return 0.5 + self.frequencies.filtered(white, self.spectrum.sqrt())


def frequencies() -> Frequencies:
    return Frequencies(SHAPE, torch.device("cpu"), torch.float32)


def white(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def stationary() -> Stationary:
    """Variances from 0.09 down to 0.0009 as the frequency rises, colour differences a quarter of that."""
    knots = frequencies().knots
    values = 0.09 * torch.logspace(0, -2, knots)
    return Stationary(frequencies().spectrum(torch.stack([values, values / 4, values / 4])))


def exact(posterior: Posterior) -> GaussianMixture:
    """The posterior of a stationary prior, from its covariance as a matrix."""
    size = math.prod(SHAPE)
    covariance = frequencies().filtered(torch.eye(size).reshape(size, *SHAPE), posterior.prior.spectrum)
    prior = GaussianMixture(torch.full((1, *SHAPE), 0.5), covariance.reshape(1, size, size))
    return Posterior(prior, posterior.physics, posterior.y).exact()


def problem(operator: str, batch: int = 2, **options: object) -> Posterior:
    prior, physics = stationary(), operators.create(operator, SHAPE, noise=0.05, seed=0, **options)
    return Posterior(prior, physics, physics(prior.sample(batch, seed=1)))


@pytest.mark.parametrize(
    ("operator", "options"),
    [("gaussian-blur", {"width": 1.0}), ("inpainting", {"keep": 0.5}), ("super-resolution", {"factor": 2})],
)
def test_posterior_of_a_stationary_gaussian_prior(operator, options):
    posterior = problem(operator, **options)
    law, n = exact(posterior), 60
    x = SpectralMMPS(steps=100).sample(posterior, n, seed=1).x  # 25, the default, leave 13% more variance
    z = (x - law.mean()) / law.std()
    # 600 means of 60 draws have a root mean square of 0.13 by chance alone.
    assert math.sqrt(max(0.0, float(z.mean(0).square().mean()) - 1 / n)) < 0.1
    assert abs(float(z.var(0).mean()) - 1) < 0.1


class Patchy(Stationary):
    """Independent pixels, the left half of the image with a hundred times the variance of the right one."""

    def __init__(self) -> None:
        super().__init__(torch.ones(3, 10, 6))
        self.variance = torch.where(torch.arange(10) < 5, 0.09, 0.0009)

    def denoise(self, x, sigma):
        return 0.5 + (x - 0.5) * self.variance / (self.variance + sigma_per_item(sigma, x) ** 2)

    def sample(self, n, seed=0):
        white = torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(seed))
        return 0.5 + white * self.variance.sqrt()


@pytest.mark.parametrize("operator", ["denoising", "inpainting"])
def test_products_tell_where_an_image_is_uncertain(operator):
    prior, physics = Patchy(), operators.create(operator, SHAPE, noise=0.1, seed=0)
    posterior = Posterior(prior, physics, physics(prior.sample(2, seed=1)))
    seen = physics.A(torch.ones(1, *SHAPE)).expand(2, *SHAPE)
    precision = seen / 0.1**2 + 1 / prior.variance
    mean = 0.5 + seen * (posterior.y - 0.5) / 0.1**2 / precision

    def error(products):
        found = SpectralMMPS(steps=60, products=products, sigma_formed=100.0).sample(posterior, 40, seed=1)
        return (found.mean - mean).square().mul(precision).mean()

    # 40 exact draws would have 1/40; for pixels that are all seen, two directions solve an equation of two eigenvalues.
    assert error(1) < 0.5 * error(0)
    assert error(2) < 2 / 40


def test_response_of_a_circular_blur_is_the_square_of_its_transfer_function():
    spread = torch.zeros(1, 1, 3, 3)
    spread[..., 1, :] = torch.tensor([0.2, 0.7, 0.1])
    blur = operators.create("blur", SHAPE, kernel=spread, noise=0.1)
    turns = 2 * math.pi * torch.fft.rfftfreq(10)
    expected = (0.7 + 0.3 * torch.cos(turns)) ** 2 + (0.1 * torch.sin(turns)) ** 2
    found = response(Posterior(stationary(), blur, torch.zeros(2, *SHAPE)))
    torch.testing.assert_close(found, expected.expand(3, 10, 6), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("operator", ["inpainting", "super-resolution", "compressed-sensing"])
def test_other_physics_have_no_response(operator):
    assert response(problem(operator)) is None


def test_scouts_are_denoised_in_chunks(monkeypatch):
    posterior = problem("inpainting", batch=5)
    sampler = SpectralMMPS(steps=3)
    whole, sizes = sampler.sample(posterior, 2).x, []
    monkeypatch.setattr(driver, "CHUNK_ENTRIES", {"cpu": 2 * math.prod(SHAPE)})
    denoise = posterior.prior.denoise
    monkeypatch.setattr(posterior.prior, "denoise", lambda x, sigma: (sizes.append(len(x)), denoise(x, sigma))[1])
    torch.testing.assert_close(sampler.sample(posterior, 2).x, whole)
    assert max(sizes) == 2


def test_scouts_are_counted_once_for_each_measurement():
    posterior = problem("inpainting", keep=0.5)
    sampler = SpectralMMPS(steps=6, products=0, scout_steps=5)
    assert [sampler.sample(posterior, n).nfe for n in (1, 5, 20)] == [7 + 10, 7 + 2, 7 + 1]


def test_products_are_counted_at_the_levels_where_they_are_taken():
    posterior = problem("inpainting", keep=0.5)
    calls, denoise = [], posterior.prior.denoise
    posterior.prior.denoise = lambda x, sigma: (calls.append(sigma), denoise(x, sigma))[1]
    found = SpectralMMPS(steps=6, sigma_max=3.0, sigma_formed=1.0, products=2, tolerance=1e-9, scout_steps=1)
    found = found.sample(posterior, 1)
    assert len(calls) == found.nfe == 2 + 7 + 2 * sum(sigma < 1 for sigma in calls[2:]) // 3


def test_vectors_are_refused(bimodal_problem):
    with pytest.raises(ValueError, match=r"images must be \(C, H, W\) for mmps-spectral, got \(2,\); use mmps"):
        SpectralMMPS(steps=2).sample(bimodal_problem(), 1)
