"""A known error added to a prior's score."""

import pytest
import torch

from priors import Manifold, MaximumEntropy, Perturbed
from priors.manifolds import Circle, VonMisesFisher

PRIOR = Manifold(Circle(), VonMisesFisher([1.0, 0.0], 4.0))


def field(x: torch.Tensor, sigma) -> torch.Tensor:
    return x.sin() + 2


def points() -> torch.Tensor:
    return torch.randn(5, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize("sigma", [0.3, torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5], dtype=torch.float64)])
def test_error_enters_score_and_denoiser_consistently(sigma):
    x, prior = points(), Perturbed(PRIOR, field)
    variance = torch.as_tensor(sigma, dtype=torch.float64).reshape(-1, 1) ** 2
    torch.testing.assert_close(prior.score(x, sigma), PRIOR.score(x, sigma) + field(x, sigma))
    torch.testing.assert_close(prior.denoise(x, sigma), PRIOR.denoise(x, sigma) + variance * field(x, sigma))
    torch.testing.assert_close(prior.displacement(x, sigma) / variance, prior.score(x, sigma))
    score, denoised = prior.evaluate(x, sigma)
    torch.testing.assert_close(score, prior.score(x, sigma))
    torch.testing.assert_close(denoised, prior.denoise(x, sigma))


def test_order_of_wrapping():
    x, sigma = points(), 0.1
    inside = MaximumEntropy(Perturbed(PRIOR, field)).score(x, sigma)
    outside = Perturbed(MaximumEntropy(PRIOR), field).score(x, sigma)
    torch.testing.assert_close(inside, sigma * (PRIOR.score(x, sigma) + field(x, sigma)))
    torch.testing.assert_close(outside, sigma * PRIOR.score(x, sigma) + field(x, sigma))


def test_what_a_sampler_asks_is_passed_on():
    cancelled = MaximumEntropy(PRIOR, method="cancelled", pairs=2)
    prior = Perturbed(cancelled, field)
    assert (prior.evaluations, prior.draws) == (5, 2)
    assert prior.stiffness(0.1) == cancelled.stiffness(0.1)
    assert prior.radius((2,)) == PRIOR.radius((2,))
    assert prior.image_shape == (2,)
    x, noise = points(), torch.ones(2, 5, 2, dtype=torch.float64)
    score, _ = prior.evaluate(x, 0.1, noise)
    torch.testing.assert_close(score, cancelled.score(x, 0.1, noise) + field(x, 0.1))
    assert torch.equal(Perturbed(PRIOR, field).sample(4, 1), PRIOR.sample(4, 1))


def test_refusals_name_the_argument():
    with pytest.raises(TypeError, match="prior must be a Prior, got int"):
        Perturbed(3, field)
    with pytest.raises(TypeError, match=r"error must be callable as error\(x, sigma\), got float"):
        Perturbed(PRIOR, 0.1)
    with pytest.raises(ValueError, match=r"error must return the shape of x, \(5, 2\), got \(5,\)"):
        Perturbed(PRIOR, lambda x, sigma: x[:, 0]).score(points(), 0.1)
