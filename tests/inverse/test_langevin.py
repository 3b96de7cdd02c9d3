"""Langevin dynamics: what its drift is with the likelihood taken at another point, and the law that it then has."""

import math

import pytest
import torch

import operators
from inverse import Langevin, Posterior
from inverse.driver import State
from priors import GaussianMixture, Manifold, MaximumEntropy
from priors.manifolds import Circle, VonMisesFisher

PRIOR = Manifold(Circle(), VonMisesFisher([1.0, 0.0], 2.0))


@pytest.mark.parametrize("method", ["generic", "tempered", "cancelled"])
def test_with_the_jacobian_the_drift_is_the_gradient_of_the_likelihood_of_the_denoised_point(method):
    prior = PRIOR if method == "generic" else MaximumEntropy(PRIOR, method=method)
    physics = operators.create("matrix", (2,), matrix=torch.tensor([[1.0, 2.0]]), noise=0.5).double()
    posterior = Posterior(prior, physics, torch.full((5, 1), 0.3, dtype=torch.float64))
    sampler = Langevin(sigma=0.4, steps=2, anneal_steps=1, likelihood_at="denoised-jacobian").resolve(posterior)
    x = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        after = sampler.step(posterior, State(x, torch.zeros_like(x)), 1, [torch.zeros_like(x), z])
        score, _ = prior.evaluate(x, 0.4, [z] * prior.draws)
    assert not after.x.requires_grad
    at = x.clone().requires_grad_()
    value = posterior.log_likelihood(PRIOR.denoise(at, 0.4)).sum()
    expected = score + torch.autograd.grad(value, at)[0]
    assert torch.allclose((after.x - x) / sampler.step_length(posterior), expected, rtol=1e-6, atol=1e-8)


def test_with_the_jacobian_a_gaussian_prior_is_sampled_with_the_likelihood_of_its_denoised_point():
    # D(x) = c x with c = 1/(1 + sigma^2), so that x has the precision c + (c/s)^2 and the returned D(x) c^2 over it
    sigma, s, n = 1.0, 0.5, 4000
    c = 1 / (1 + sigma**2)
    posterior = Posterior(
        GaussianMixture(torch.zeros(1, 1), torch.ones(1)),
        operators.create("denoising", (1,), noise=s),
        torch.ones(1, 1),
    )
    run = Langevin(sigma=sigma, steps=300, anneal_steps=50, step_size=0.5, likelihood_at="denoised-jacobian")
    x = run.sample(posterior, n, seed=0).x.flatten()
    precision = c + (c / s) ** 2
    mean, variance = c * (c / s**2) / precision, c**2 / precision
    # five standard errors, error probability below 1e-6 each
    assert abs(float(x.mean()) - mean) < 5 * math.sqrt(variance / n)
    assert abs(float(x.var()) / variance - 1) < 5 * math.sqrt(2 / n)


def test_the_first_level_lies_above_the_one_level():
    with pytest.raises(ValueError, match=r"sigma_max must be above sigma \(0.1\), got 0.1"):
        Langevin(sigma=0.1, sigma_max=0.1)
