"""Moment matching in frequency: exact for stationary Gaussian priors, its transforms what they are called."""

import math

import pytest
import torch

import operators
from inverse import Posterior
from inverse.spectral import Frequencies, SpectralMMPS
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
    return Frequencies.of(SHAPE, torch.device("cpu"), torch.float32)


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


def test_transform_is_orthogonal_and_filter_symmetric():
    x, y, spectrum = white(2, *SHAPE), white(2, *SHAPE).flip(2), frequencies().spectrum(white(3, frequencies().knots))
    torch.testing.assert_close(frequencies().inverse(frequencies().forward(x)), x)
    one, other = ((a * frequencies().filtered(b, spectrum)).sum() for a, b in ((x, y), (y, x)))
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_grey_is_the_first_channel_of_the_transform():
    grey = white(1, 1, 10, 10).expand(1, *SHAPE)
    assert frequencies().forward(grey)[:, 1:].abs().max() < 1e-5


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 15, 7), (1, 4, 33), (1, 2, 2)])
def test_gain_of_a_multiple_of_the_identity_is_that_multiple_at_all_knots(shape):
    own = Frequencies.of(shape, torch.device("cpu"), torch.float32)
    probe = own.probe(white(1, *shape))
    torch.testing.assert_close(own.forward(probe).abs(), torch.ones(own.forward(probe).shape))
    torch.testing.assert_close(own.gain(probe, 0.3 * probe), torch.full((shape[0], own.knots), 0.3))


def test_gain_of_a_filter_is_its_own_smoothed_between_knots():
    values = torch.linspace(1, 0.1, frequencies().knots).repeat(3, 1)
    probe = frequencies().probe(white(1, *SHAPE))
    found = frequencies().gain(probe, frequencies().filtered(probe, frequencies().spectrum(values)))
    # The mean about a knot of what is linear between knots 0.18 apart: less than that spacing away.
    assert (found - values).abs().max() < 0.1


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


def test_scouts_are_counted_once_for_each_measurement():
    posterior = problem("inpainting", keep=0.5)
    sampler = SpectralMMPS(steps=6, scout_steps=5)
    assert [sampler.sample(posterior, n).nfe for n in (1, 5, 20)] == [7 + 10, 7 + 2, 7 + 1]


def test_vectors_are_refused(bimodal_problem):
    with pytest.raises(ValueError, match=r"images must be \(C, H, W\) for mmps-spectral, got \(2,\); use mmps"):
        SpectralMMPS(steps=2).sample(bimodal_problem(), 1)
