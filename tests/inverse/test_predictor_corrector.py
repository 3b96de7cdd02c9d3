"""The predictor-corrector sampler on laws that are known: Gaussians and densities on the circle."""

import math
from itertools import pairwise

import numpy as np
import pytest
import torch

from inverse import InvalidStateError, PredictorCorrector
from priors import GaussianMixture, Guided, Manifold, Prior
from priors.manifolds import Circle, VonMisesFisher

BINS, N = 24, 1000
P_DATA = Manifold(Circle(), VonMisesFisher([-1.0, 0.0], 4.0))
GIVEN = Manifold(Circle(), VonMisesFisher([0.0, 1.0], 3.0))


def gaussian(std=0.5, d=3):
    return GaussianMixture(torch.full((1, d), 0.25), torch.tensor([std**2]), torch.ones(1))


def shares(x):
    turn = torch.atan2(x[:, 1], x[:, 0]).double().remainder(2 * math.pi) / (2 * math.pi)
    return np.bincount((turn * BINS).long().clamp(max=BINS - 1).numpy(), minlength=BINS) / len(x)


def exact_shares(log_density):
    """Mass of every bin of the density exp(log_density(points)) on the circle, from 64 midpoints in each."""
    turn = 2 * math.pi * (torch.arange(64 * BINS, dtype=torch.float64) + 0.5) / (64 * BINS)
    points = torch.stack([turn.cos(), turn.sin()], 1)
    return log_density(points).softmax(0).reshape(BINS, 64).sum(1).numpy()


def total_variation(x, log_density):
    return np.abs(shares(x) - exact_shares(log_density)).sum() / 2


def bar():
    """Total variation that N exact draws exceed with probability below 1e-6, whatever their law.

    Its expectation is at most sqrt(BINS / N) / 2 (Cauchy-Schwarz), and by McDiarmid's inequality it exceeds that by t
    with probability at most exp(-2 N t^2).
    """
    return math.sqrt(BINS / N) / 2 + math.sqrt(math.log(1e6) / (2 * N))


def uniform(points):
    return torch.zeros(len(points), dtype=torch.float64)


@pytest.mark.parametrize(
    "sampler",
    [
        PredictorCorrector(steps=20, corrector_steps=0, predictor="ddim"),
        PredictorCorrector(steps=40, corrector_steps=0),
        PredictorCorrector(steps=10, corrector_steps=5, alpha=0.0),
        PredictorCorrector(steps=10, corrector_steps=5, alpha=0.0, predictor="ddim", step_size=0.5),
        PredictorCorrector(steps=10, corrector_steps=10, alpha=0.0, snr=0.16),
    ],
)
def test_without_tempering_the_density_is_kept(sampler):
    x = sampler.sample_prior(P_DATA, N, seed=1000, chunk_size=N)
    assert total_variation(x, P_DATA.log_density_on) < bar()
    assert total_variation(x, uniform) > 0.5


@pytest.mark.parametrize("alpha", [1.0, pytest.param(1.5, marks=pytest.mark.slow)])
def test_tempered_it_is_uniform(alpha):
    # A step at level sigma has length tau = sigma^(1 - alpha/2): 30 of them at a few levels around 0.1 mix the circle.
    sampler = PredictorCorrector(
        steps=15, corrector_steps=30, alpha=alpha, sigma_ref=1.0, sigma_max=3.0, sigma_min=0.002
    )
    x = sampler.sample_prior(P_DATA, N, seed=1001, chunk_size=N)
    assert total_variation(x, uniform) < bar() + 0.02
    assert total_variation(x, P_DATA.log_density_on) > 0.4
    assert Circle().distance(x).max() < 0.002


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_of_a_guided_prior_the_unconditional_term_alone_is_tempered(alpha):
    w = 0.7
    sampler = PredictorCorrector(
        steps=15, corrector_steps=20, alpha=alpha, sigma_ref=1.0, sigma_max=3.0, sigma_min=0.002
    )
    x = sampler.sample_prior(Guided(P_DATA, GIVEN, w), N, seed=1002, chunk_size=N)

    def tempered(points):
        return w * (GIVEN.log_density_on(points) - P_DATA.log_density_on(points))

    def whole(points):
        return P_DATA.log_density_on(points) + tempered(points)

    target, other = (tempered, whole) if alpha else (whole, tempered)
    assert total_variation(x, target) < bar() + 0.03
    assert min(total_variation(x, other), total_variation(x, uniform)) > 0.3


def test_predictor_of_a_gaussian_has_its_variance_in_closed_form():
    # D - m = s^2/(s^2 + sigma^2) (x - m): every step multiplies the deviation by a known number, DDPM adds noise.
    s, n = 0.5, 40_000
    for predictor in ("ddim", "ddpm"):
        sampler = PredictorCorrector(steps=6, corrector_steps=0, predictor=predictor, sigma_max=5.0, sigma_min=0.1)
        levels = sampler.levels
        variance = levels[0] ** 2
        mean = -0.25  # of x - m at the first level, and its own factors
        for sigma, following in pairwise(levels):
            ratio = (following / sigma) ** (1 if predictor == "ddim" else 2)
            factor = ratio + (1 - ratio) * s**2 / (s**2 + sigma**2)
            noise = following**2 * (1 - (following / sigma) ** 2) if predictor == "ddpm" else 0.0
            variance, mean = factor**2 * variance + noise, factor * mean
        last = s**2 / (s**2 + levels[-1] ** 2)
        x = sampler.sample_prior(gaussian(s), n, seed=3, chunk_size=n).double()
        # 3 n normal numbers: five standard errors of mean and variance, wrong once in a million.
        assert float(x.mean()) == pytest.approx(0.25 + last * mean, abs=5 * last * math.sqrt(variance / (3 * n)))
        assert float(x.var()) == pytest.approx(last**2 * variance, rel=5 * math.sqrt(2 / (3 * n)))


def test_step_of_the_corrector_is_that_of_the_paper():
    class Constant(Prior):
        image_shape, guidance = (2,), 3.0

        def terms(self, x, sigma):
            return x + 0.1, x + 0.3

    sampler = PredictorCorrector(alpha=1.0, sigma_ref=0.5, step_size=0.8)
    x, z, last = torch.randn(3, 4, 2, generator=torch.Generator().manual_seed(0)).unbind()
    after, kept = sampler.correct(lambda x, sigma: (x * 0 + 0.1, x * 0 + 3 * 0.2), x, 0.2, z, last)
    factor = 0.2 / 0.5
    h = 0.8 * 0.2**2 / factor
    score = (factor * 0.1 + 3 * 0.2) / 0.2**2
    torch.testing.assert_close(after, x + h * score + math.sqrt(h / 2) * (z + last))
    assert kept is z
    # Anything with `terms` and `guidance` will do.
    ending = PredictorCorrector(steps=1, corrector_steps=0, predictor="ddim", sigma_max=2.0, sigma_min=1.0)

    class Unconditional(Constant):
        def terms(self, x, sigma):
            return x, x

    guided = Constant()
    guided.unconditional = Unconditional()
    first = ending.sample_prior(guided, 2, seed=5)
    guided.guidance = 0.0
    torch.testing.assert_close(first - ending.sample_prior(guided, 2, seed=5), torch.full((2, 2), 0.5 * 3 * 0.2))


def test_denoiser_calls_are_what_it_says():
    class Counting(Prior):
        image_shape, calls = (3,), 0

        def denoise(self, x, sigma):
            self.calls += 1
            return 0.9 * x

    for sampler, calls in (
        (PredictorCorrector(steps=4, corrector_steps=3), 4 * 4 + 3),
        (PredictorCorrector(steps=4, corrector_steps=3, alpha=0.0), 4 * 4 + 1),
        (PredictorCorrector(steps=5, corrector_steps=0), 5 + 1),
        (PredictorCorrector(steps=5, projection_steps=7), 5 * 11 + 7),
    ):
        prior = Counting()
        sampler.sample_prior(prior, 2)
        assert prior.calls == calls == sampler.evaluations(prior)
        guided = Guided(prior, Counting())
        prior.calls = 0
        sampler.sample_prior(guided, 2)
        assert prior.calls + guided.conditional.calls == sampler.evaluations(guided)


def test_draws_follow_from_the_seed_whatever_the_chunks():
    sampler, prior = PredictorCorrector(steps=3, corrector_steps=2), Guided(gaussian(), gaussian(0.3), 2.0)
    state = torch.get_rng_state()
    whole = sampler.sample_prior(prior, 10, seed=1, chunk_size=10)
    torch.testing.assert_close(sampler.sample_prior(prior, 10, seed=1, chunk_size=3), whole)
    assert not torch.allclose(sampler.sample_prior(prior, 10, seed=2), whole)
    assert torch.equal(torch.get_rng_state(), state)


def test_unmatched_projection_stays_at_the_last_level():
    class Asked(Prior):
        image_shape = (3,)

        def __init__(self):
            super().__init__()
            self.levels = []

        def displacement(self, x, sigma):
            self.levels.append(sigma)
            return 0 * x

    options = {"steps": 2, "corrector_steps": 2, "sigma_max": 1.0, "sigma_min": 0.01, "sigma_ref": 1.0}
    prior = Asked()
    PredictorCorrector(matched=False, **options).sample_prior(prior, 1)
    middle = prior.levels[1]
    assert prior.levels == pytest.approx([1.0, middle, middle, middle, 0.01, 0.01, 0.01, 0.01])
    # The cloud's thickness is sigma^(1 - 1/2).
    prior = Asked()
    PredictorCorrector(**options).sample_prior(prior, 1)
    assert prior.levels == pytest.approx([1.0, middle, middle, middle**0.5, 0.01, 0.01, 0.1, 0.01])


def test_numbers_that_are_not_finite_are_reported():
    class Broken(Prior):
        image_shape = (3,)

        def displacement(self, x, sigma):
            return x * (math.nan if sigma < 1 else 0.0)

    with pytest.raises(InvalidStateError, match=r"left the finite numbers by step .* in 2 of 2 draws: lower step_size"):
        PredictorCorrector(steps=4, corrector_steps=1).sample_prior(Broken(), 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, "steps must be a whole number of at least 1, got 0"),
        ({"corrector_steps": -1}, "corrector_steps must be a whole number of at least 0, got -1"),
        ({"projection_steps": 1.5}, "projection_steps must be a whole number of at least 1, got 1.5"),
        ({"alpha": 2.0}, r"alpha must lie in \[0, 2\), got 2.0"),
        ({"step_size": 2.0}, r"step_size must lie in \(0, 2\), got 2.0"),
        ({"predictor": "heun"}, "predictor must be one of ddim, ddpm, got 'heun'"),
        ({"snr": 0.16}, "snr needs alpha = 0, as it is unstable with a tempered score; got alpha = 1.0"),
        ({"sigma_ref": 0.0}, "sigma_ref must be a finite number above 0, got 0.0"),
        ({"sigma_max": 0.1, "sigma_min": 0.2}, r"sigma_min must be below sigma_max \(0.1\), got 0.2"),
    ],
)
def test_values_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        PredictorCorrector(**options)


def test_wrong_calls():
    class AnyShape(Prior):
        def denoise(self, x, sigma):
            return 0 * x

    sampler = PredictorCorrector(steps=2, corrector_steps=1)
    with pytest.raises(ValueError, match="n must be a whole number of at least 1, got 0"):
        sampler.sample_prior(gaussian(), 0)
    with pytest.raises(ValueError, match="chunk_size must be a whole number of at least 1, got 0"):
        sampler.sample_prior(gaussian(), 1, chunk_size=0)
    with pytest.raises(ValueError, match="image_shape is needed"):
        sampler.sample_prior(AnyShape(), 1)
    assert sampler.sample_prior(AnyShape(), 2, image_shape=(1, 4, 4)).shape == (2, 1, 4, 4)
