"""The geometric scores: what they keep of a prior's score, and what they cancel."""

import math

import pytest
import torch

from priors import Manifold, MaximumEntropy, Perturbed
from priors.manifolds import Circle, VonMisesFisher

DOUBLE = torch.float64
CIRCLE = Manifold(Circle(), VonMisesFisher([-1.0, 0.0], 4.0))


def tangent(x: torch.Tensor) -> torch.Tensor:
    return torch.stack([-x[:, 1], x[:, 0]], dim=1) / x.norm(dim=1, keepdim=True)


def along(score: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return (score * tangent(x)).sum(1)


def swirl(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """A smooth tangential error of size 3."""
    angle = torch.atan2(x[:, 1], x[:, 0])
    return 3 * (2 * angle + 1).cos()[:, None] * tangent(x)


def white(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=DOUBLE)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0, 1.9])
@pytest.mark.parametrize("sigma_ref", [1.0, 0.2])
def test_tempering_multiplies_the_score(alpha, sigma_ref):
    x, sigma = white(6, 2), torch.tensor([0.01, 0.1, 0.2, 0.5, 1.0, 3.0], dtype=DOUBLE)
    factor = torch.minimum(sigma / sigma_ref, torch.ones_like(sigma)) ** alpha
    found = MaximumEntropy(CIRCLE, alpha, sigma_ref=sigma_ref).score(x, sigma)
    torch.testing.assert_close(found, factor[:, None] * CIRCLE.score(x, sigma))


@pytest.mark.parametrize("method", ["tempered", "cancelled"])
def test_denoiser_is_the_wrapped_one(method):
    x, prior = white(5, 2), MaximumEntropy(CIRCLE, method=method)
    torch.testing.assert_close(prior.denoise(x, 0.1), CIRCLE.denoise(x, 0.1))
    torch.testing.assert_close(prior.displacement(x, 0.1), CIRCLE.displacement(x, 0.1))
    score, denoised = prior.evaluate(x, 0.1, white(prior.draws, 5, 2, seed=1))
    torch.testing.assert_close(denoised, CIRCLE.denoise(x, 0.1))
    torch.testing.assert_close(score, prior.score(x, 0.1, white(prior.draws, 5, 2, seed=1)))


def test_cancelled_score_is_its_formula():
    x, z, sigma = white(5, 2), white(2, 5, 2, seed=1), 0.3
    p = CIRCLE.denoise(x, sigma)
    means = [(CIRCLE.denoise(p + sigma * e, sigma) + CIRCLE.denoise(p - sigma * e, sigma)) / 2 - p for e in z]
    expected = (p - x) / sigma**2 - torch.stack(means).mean(0) / sigma**2
    found = MaximumEntropy(CIRCLE, method="cancelled", pairs=2).score(x, sigma, z)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("error", [False, True])
def test_cancelled_score_loses_density_and_smooth_error_at_rate_sigma_squared(error):
    """Tangential part on M: order 1 for the prior, order sigma^2 once cancelled."""
    prior = Perturbed(CIRCLE, swirl) if error else CIRCLE
    angle = torch.linspace(0, 2 * math.pi, 9, dtype=DOUBLE)[:-1]
    x = torch.stack([angle.cos(), angle.sin()], dim=1)
    # Four antithetic pairs of length sqrt(2) have the covariance of white noise, without its sampling error.
    turns = torch.arange(4, dtype=DOUBLE) * math.pi / 4
    noise = math.sqrt(2) * torch.stack([turns.cos(), turns.sin()], dim=1)[:, None].expand(4, 8, 2)
    cancelled, sizes = MaximumEntropy(prior, method="cancelled", pairs=4), []
    for sigma in (0.04, 0.02):
        sizes.append(float(along(cancelled.score(x, sigma, noise), x).norm()))
    assert float(along(prior.score(x, 0.04), x).norm()) > 5
    assert sizes[1] < 0.2
    assert sizes[0] / sizes[1] == pytest.approx(4, rel=0.25)


def test_cancelled_score_still_pulls_back_to_the_manifold():
    sigma, radius = 0.01, torch.tensor([0.98, 1.01, 1.03], dtype=DOUBLE)
    x = torch.stack([torch.zeros(3, dtype=DOUBLE), radius], dim=1)
    score = MaximumEntropy(CIRCLE, method="cancelled").score(x, sigma, white(1, 3, 2))
    torch.testing.assert_close(score[:, 1], (1 - radius) / sigma**2, rtol=0, atol=5.0)


def test_noise_of_its_own_is_a_function_of_seed_and_call():
    x, one, two = white(5, 2), *(MaximumEntropy(CIRCLE, method="cancelled", seed=7) for _ in range(2))
    first, second = one.score(x, 0.3), one.score(x, 0.3)
    assert not torch.equal(first, second)
    assert torch.equal(two.score(x, 0.3), first)
    assert torch.equal(two.score(x, 0.3), second)
    state = torch.get_rng_state()
    one.score(x, 0.3)
    assert torch.equal(torch.get_rng_state(), state)


def test_given_noise_makes_chunks_irrelevant():
    x, z, prior = white(6, 2), white(1, 6, 2, seed=1), MaximumEntropy(CIRCLE, method="cancelled")
    parts = torch.cat([prior.score(x[i : i + 2], 0.2, z[:, i : i + 2]) for i in (0, 2, 4)])
    torch.testing.assert_close(parts, prior.score(x, 0.2, z), rtol=1e-13, atol=1e-13)


def test_denoiser_calls_are_those_announced():
    calls = []

    class Counting(Manifold):
        def displacement(self, x, sigma):
            calls.append(len(x))
            return super().displacement(x, sigma)

    counted = Counting(Circle())
    for prior in (MaximumEntropy(counted), *(MaximumEntropy(counted, method="cancelled", pairs=k) for k in (1, 3))):
        calls.clear()
        prior.evaluate(white(4, 2), 0.1, white(prior.draws, 4, 2))
        assert len(calls) == prior.evaluations


def test_stiffness_is_tempered_as_the_score():
    assert MaximumEntropy(CIRCLE, 1.0).stiffness(0.01) == pytest.approx(1 / 0.01)
    assert MaximumEntropy(CIRCLE, 0.5, sigma_ref=0.04).stiffness(0.01) == pytest.approx(0.5 / 0.01**2)
    assert MaximumEntropy(CIRCLE, method="cancelled").stiffness(0.01) == pytest.approx(1 / 0.01**2)


def test_it_has_no_density():
    with pytest.raises(NotImplementedError, match="MaximumEntropy knows its score but not its density"):
        MaximumEntropy(CIRCLE).log_prob(white(2, 2), 0.1)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: MaximumEntropy("circle"), TypeError, "prior must be a Prior, got str"),
        (lambda: MaximumEntropy(MaximumEntropy(CIRCLE)), TypeError, "prior must have a density to lose"),
        (lambda: MaximumEntropy(CIRCLE, 2.0), ValueError, r"alpha must lie in \[0, 2\), got 2"),
        (lambda: MaximumEntropy(CIRCLE, math.nan), ValueError, r"alpha must lie in \[0, 2\), got nan"),
        (lambda: MaximumEntropy(CIRCLE, method="uniform"), ValueError, "method must be one of tempered, cancelled"),
        (lambda: MaximumEntropy(CIRCLE, sigma_ref=0), ValueError, "sigma_ref must be finite and above 0, got 0"),
        (lambda: MaximumEntropy(CIRCLE, pairs=0), ValueError, "pairs must be an integer of at least 1, got 0"),
        (
            lambda: MaximumEntropy(CIRCLE, method="cancelled").score(white(5, 2), 0.1, white(1, 4, 2)),
            ValueError,
            r"noise must have 1 fields of shape \(5, 2\), got \(4, 2\)",
        ),
    ],
)
def test_refusals_name_the_argument(make, error, message):
    with pytest.raises(error, match=message):
        make()
