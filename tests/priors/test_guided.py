"""Classifier-free guidance: its denoiser on laws where every term is known, and what it refuses."""

import math

import pytest
import torch

from priors import GaussianMixture, Guided, Prior

MEANS = torch.tensor([[-1.0, 0.0, 0.5], [2.0, 1.0, -0.5]], dtype=torch.float64)
VARIANCES = torch.tensor([0.3, 0.1], dtype=torch.float64)


def mixture(components=(0, 1)):
    chosen = list(components)
    return GaussianMixture(MEANS[chosen], VARIANCES[chosen], torch.full((len(chosen),), 1 / len(chosen)).double())


def points(n=5):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_density_is_that_of_the_prior_times_a_power_of_the_classifier():
    # grad log [p(x) (p(x|c) / p(x))^w], by automatic differentiation of the closed form of the densities.
    w, sigma = 2.5, 0.7
    x = points().requires_grad_()

    def log_normal(k):
        variance = VARIANCES[k] + sigma**2
        return -(x - MEANS[k]).square().sum(1) / (2 * variance) - 1.5 * torch.log(2 * math.pi * variance)

    given, log_p = log_normal(1), torch.logsumexp(torch.stack([log_normal(0), log_normal(1)]), 0) - math.log(2)
    (expected,) = torch.autograd.grad((log_p + w * (given - log_p)).sum(), x)
    guided = Guided(mixture(), mixture([1]), w)
    torch.testing.assert_close(guided.score(x.detach(), sigma), expected)
    torch.testing.assert_close(guided.denoise(x.detach(), sigma), x.detach() + sigma**2 * expected)


@pytest.mark.parametrize("sigma", [0.3, torch.tensor([0.1, 0.2, 0.5, 1.0, 3.0], dtype=torch.float64)])
def test_no_guidance_and_full_guidance(sigma):
    x, whole, part = points(), mixture(), mixture([0])
    torch.testing.assert_close(Guided(whole, part, 0.0).denoise(x, sigma), whole.denoise(x, sigma))
    torch.testing.assert_close(Guided(whole, part, 1.0).denoise(x, sigma), part.denoise(x, sigma))
    without, under = Guided(whole, part, 3.0).terms(x, sigma)
    torch.testing.assert_close(without, whole.denoise(x, sigma))
    torch.testing.assert_close(under, part.denoise(x, sigma))


def test_conditions_are_asked_of_the_prior():
    class Conditional(GaussianMixture):
        def given(self, component):
            return mixture([component])

    prior = Conditional(MEANS, VARIANCES, torch.full((2,), 0.5).double())
    x = points()
    torch.testing.assert_close(Guided(prior, 1, 1.0).denoise(x, 0.5), mixture([1]).denoise(x, 0.5))
    assert Guided(prior, 1).guidance == 7.5
    assert Guided(prior, 1).evaluations == 2
    assert Guided(prior, 1).radius((3,)) == prior.radius((3,))


def test_wrong_input():
    class OtherShape(Prior):
        image_shape = (1, 2, 2)

    with pytest.raises(TypeError, match="prior must be a Prior, got Linear"):
        Guided(torch.nn.Linear(1, 1), mixture())
    with pytest.raises(TypeError, match="condition must be a Prior, as GaussianMixture has no `given`; got 3"):
        Guided(mixture(), 3)
    for guidance in (math.nan, math.inf, True):
        with pytest.raises(ValueError, match="guidance must be a finite number, got"):
            Guided(mixture(), mixture([0]), guidance)
    with pytest.raises(ValueError, match=r"condition must be for images \(3,\), got \(1, 2, 2\)"):
        Guided(mixture(), OtherShape())
