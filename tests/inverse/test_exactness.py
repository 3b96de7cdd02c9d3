"""Every sampler against posteriors that are known exactly, with its default hyper-parameters."""

import math

import pytest
import torch
from deepinv.physics import LaplaceNoise, PoissonNoise

import inverse
import operators
from inverse import Langevin, Posterior, sampler
from priors import GaussianMixture

OPERATORS = {
    "inpainting": {"keep": 0.5},
    "gaussian-blur": {"width": 1.0},
    "compressed-sensing": {"ratio": 0.25},
    "super-resolution": {"factor": 2, "filter": "bilinear"},
}
# Largest error of the posterior mean in posterior standard deviations (root mean square), and of the variance ratio.
BARS = {
    "mmps": (0.10, 0.07),
    # Its covariance is periodic, that of the prior is not, and 8 pixels are all edge.
    "mmps-spectral": (0.20, 0.16),
    "annealed-langevin": (0.15, 0.10),
    "langevin": (0.10, 0.07),
    "dps": (0.60, 0.50),
}


@pytest.mark.parametrize("operator", OPERATORS)
@pytest.mark.parametrize("name", inverse.samplers())
def test_gaussian_posterior_mean_and_variance(name, operator, gaussian_problem):
    posterior = gaussian_problem(operator, batch=8, **OPERATORS[operator])
    exact = posterior.exact()
    n = 200
    x = sampler(name).sample(posterior, n, seed=1).x
    z = (x - exact.mean()) / exact.std()
    bias, variance = BARS[name]
    # 512 means of 200 draws have a root mean square of 1/sqrt(200) = 0.07 by chance alone
    mean_error = math.sqrt(max(0.0, float(z.mean(0).square().mean()) - 1 / n))
    assert mean_error < bias
    # the variance ratio over 8 problems of about 10 free directions and 200 draws has a standard error below 0.012
    assert abs(float(z.var(0).mean()) - 1) < variance


def test_antithetic_samples_of_a_gaussian_posterior_have_its_mean_and_variance(gaussian_problem):
    posterior = gaussian_problem("inpainting", batch=8, keep=0.5)
    exact, samples = posterior.exact(), sampler("mmps").sample(posterior, 40, seed=1, antithetic=True)
    assert (((samples.mean - exact.mean()) / exact.std()).square().mean() < 0.07**2).all()
    # 8 problems of some 10 free directions and 20 pairs have a standard error of the variance ratio of 0.04.
    assert abs(float((samples.std / exact.std()).square().mean()) - 1) < 0.12


@pytest.mark.parametrize(("name", "bar"), [("mmps", 0.05), ("langevin", 0.1), ("annealed-langevin", 0.1), ("dps", 0.2)])
def test_weights_of_two_modes(name, bar, bimodal_problem):
    posterior = bimodal_problem()
    exact = posterior.exact()
    n = 4000
    x = sampler(name).sample(posterior, n, seed=0).x[:, 0]
    share = (x.sum(1) > 0).float().mean()
    expected = exact.weights[0, 1]
    # five standard errors of the share above the bar: error probability below 6e-7
    assert abs(share - expected) < bar + 5 * math.sqrt(expected * (1 - expected) / n)
    within = x[x.sum(1) > 0].var(0)
    assert (within < 0.08).all() and (within > 0.03).all()


@pytest.mark.parametrize("likelihood_at", ["x", "denoised"])
def test_cloud_of_langevin_widens_the_posterior_only_where_the_likelihood_is_taken_at_x(likelihood_at):
    # prior N(0, 1) in the plane of the first coordinate, no extent in the second: a line; y sees their sum
    prior = GaussianMixture(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]))
    noise, sigma = 0.3, 0.3
    physics = operators.create("matrix", (2,), matrix=torch.tensor([[1.0, 1.0]]), noise=noise)
    posterior = Posterior(prior, physics, torch.tensor([[0.5]]))
    options = {"sigma": sigma, "steps": 600, "step_size": 0.2, "likelihood_at": likelihood_at}
    x = Langevin(**options).sample(posterior, 4000, seed=1).x[:, 0, 0]
    wider = (0.3**2 + sigma**2) if likelihood_at == "x" else 0.3**2
    # on the line, of the smoothed variance 1 + sigma^2, the posterior precision is that of the prior plus 1/wider
    expected = 1 / (1 / (1 + sigma**2) + 1 / wider)
    shrink = 1 / (1 + sigma**2)
    assert abs(x.var() / (expected * shrink**2) - 1) < 0.15


@pytest.mark.parametrize("noise", [LaplaceNoise(0.2), PoissonNoise(0.1, clip_positive=True)])
@pytest.mark.parametrize("name", ["langevin", "annealed-langevin", "dps"])
def test_other_noise_against_quadrature(name, noise):
    prior = GaussianMixture(torch.full((1, 1), 1.0), torch.tensor([0.04]))
    physics = operators.create("denoising", (1,), noise=noise)
    posterior = Posterior(prior, physics, torch.tensor([[1.3]]))
    grid = torch.linspace(0.05, 2, 4001)[:, None]
    log_density = -posterior.likelihood.nll(grid, posterior.y.expand(len(grid), 1)) - (grid[:, 0] - 1) ** 2 / 0.08
    weights = log_density.softmax(0)
    mean = float(weights @ grid[:, 0])
    std = math.sqrt(float(weights @ (grid[:, 0] - mean) ** 2))
    x = sampler(name).sample(posterior, 2000, seed=0).x.flatten()
    tolerance = 0.4 if name == "dps" else 0.15
    assert abs(float(x.mean()) - mean) < tolerance * std
    assert abs(float(x.std()) / std - 1) < tolerance
