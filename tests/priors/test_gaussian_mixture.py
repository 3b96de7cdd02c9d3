"""Gaussian mixtures against torch.distributions, autograd and the law of large numbers."""

import math

import pytest
import torch
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from priors import GaussianMixture

K, SHAPE, D = 4, (1, 2, 3), 6


def covariances(kind: str) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    if kind == "isotropic":
        return torch.tensor([0.1, 0.5, 1.0, 0.0], dtype=torch.float64)
    if kind == "diagonal":
        return torch.rand(K, D, generator=generator, dtype=torch.float64)
    root = torch.randn(K, D, D, generator=generator, dtype=torch.float64)
    return root @ root.mT / D


def mixture(kind: str) -> GaussianMixture:
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(K, *SHAPE, generator=generator, dtype=torch.float64) + 3
    return GaussianMixture(means, covariances(kind), torch.tensor([1.0, 2.0, 3.0, 0.5], dtype=torch.float64))


def dense(prior: GaussianMixture, kind: str, sigma: float) -> MixtureSameFamily:
    c = covariances(kind)
    full = c if kind == "full" else torch.diag_embed(c if kind == "diagonal" else c[:, None].expand(K, D))
    components = MultivariateNormal(prior.means.flatten(1), full + sigma**2 * torch.eye(D, dtype=torch.float64))
    return MixtureSameFamily(Categorical(prior.weights), components)


@pytest.mark.parametrize("kind", ["isotropic", "diagonal", "full"])
@pytest.mark.parametrize("sigma", [0.05, 0.7])
def test_density_and_score_agree_with_dense_linear_algebra(kind, sigma):
    prior = mixture(kind)
    x = (torch.randn(7, *SHAPE, dtype=torch.float64) + 3).requires_grad_()
    reference = dense(prior, kind, sigma).log_prob(x.flatten(1))
    torch.testing.assert_close(prior.log_prob(x, sigma), reference)
    score = torch.autograd.grad(reference.sum(), x)[0]
    torch.testing.assert_close(prior.score(x, sigma), score)
    torch.testing.assert_close(prior.denoise(x, sigma), x + sigma**2 * score)


@pytest.mark.parametrize("kind", ["isotropic", "diagonal", "full"])
def test_one_sigma_per_item_is_each_item_on_its_own(kind):
    prior, x = mixture(kind), torch.randn(3, *SHAPE, dtype=torch.float64)
    sigmas = torch.tensor([0.1, 1.0, 3.0], dtype=torch.float64)
    alone = torch.cat([prior.denoise(x[i : i + 1], float(s)) for i, s in enumerate(sigmas)])
    torch.testing.assert_close(prior.denoise(x, sigmas), alone)
    torch.testing.assert_close(prior(x, sigmas.reshape(3, 1, 1, 1)), alone)


@pytest.mark.parametrize("kind", ["isotropic", "diagonal", "full"])
def test_draws_have_the_mean_and_covariance_of_the_mixture(kind):
    prior, n = mixture(kind), 40_000
    x = prior.sample(n, seed=3).flatten(1)
    w, m = prior.weights, prior.means.flatten(1)
    c = covariances(kind)
    full = c if kind == "full" else torch.diag_embed(c if kind == "diagonal" else c[:, None].expand(K, D))
    mean = w @ m
    covariance = torch.einsum("k,kij->ij", w, full + torch.einsum("ki,kj->kij", m - mean, m - mean))
    # each of the 6 means within 5 standard errors: error probability below 6 * 6e-7
    assert ((x.mean(0) - mean).abs() < 5 * (covariance.diagonal() / n).sqrt()).all()
    products = torch.einsum("ni,nj->nij", x - mean, x - mean)
    assert ((products.mean(0) - covariance).abs() < 5 * products.std(0) / math.sqrt(n)).all()


def test_radius_is_the_root_mean_square_distance_from_the_mean():
    prior = mixture("full")
    x = prior.sample(20_000, seed=0).flatten(1)
    squared = (x - x.mean(0)).square().sum(1)
    assert abs(prior.radius(SHAPE) ** 2 - squared.mean()) < 5 * squared.std() / math.sqrt(20_000)


def test_float32_stays_right_where_a_naive_distance_cancels():
    generator = torch.Generator().manual_seed(0)
    means = 5 + torch.rand(3, 1, 28, 28, generator=generator)
    x = means[:1].repeat(2, 1, 1, 1) + 1e-3 * torch.randn(2, 1, 28, 28, generator=generator)
    single = GaussianMixture(means, torch.zeros(3))
    double = GaussianMixture(means.double(), torch.zeros(3))
    torch.testing.assert_close(single.denoise(x, 1e-3), double.denoise(x.double(), 1e-3).float(), atol=1e-6, rtol=0)
    relative = (single.log_prob(x, 1e-3) / double.log_prob(x.double(), 1e-3) - 1).abs().max()
    assert relative < 1e-4


@pytest.mark.parametrize(
    ("means", "covs", "weights", "message"),
    [
        (torch.zeros(3), torch.ones(3), None, "means must have shape"),
        (torch.full((2, 3), torch.nan), torch.ones(2), None, "means must be finite"),
        (torch.zeros(2, 3), torch.ones(3), None, "covariances must have shape"),
        (torch.zeros(2, 3), -torch.ones(2), None, "no negative variance"),
        (torch.zeros(1, 2), torch.tensor([[[1.0, 2.0], [0.0, 1.0]]]), None, "symmetric"),
        (torch.zeros(1, 2), torch.tensor([[[1.0, 2.0], [2.0, 1.0]]]), None, "no negative variance"),
        (torch.zeros(2, 3), torch.ones(2), torch.ones(3), "weights must have shape"),
        (torch.zeros(2, 3), torch.ones(2), torch.zeros(2), "not all zero"),
    ],
)
def test_bad_input_is_refused(means, covs, weights, message):
    with pytest.raises(ValueError, match=message):
        GaussianMixture(means, covs, weights)


@pytest.mark.parametrize("sigma", [0.0, -1.0, math.nan, math.inf, torch.zeros(2), torch.ones(5)])
def test_bad_sigma_is_refused(sigma):
    with pytest.raises(ValueError, match="sigma must"):
        mixture("isotropic").denoise(torch.zeros(2, *SHAPE, dtype=torch.float64), sigma)


def test_another_image_shape_is_refused():
    with pytest.raises(ValueError, match=r"x must have shape \(B, 1, 2, 3\)"):
        mixture("full").denoise(torch.zeros(2, 1, 3, 2, dtype=torch.float64), 0.1)


def test_no_draws_are_refused():
    with pytest.raises(ValueError, match="n must be at least 1"):
        mixture("full").sample(0)
